"""Tiny random Wan pipelines in folders that `--model` takes: one that rolls out, and a stock one of two experts."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from hasten.pipelines.self_forcing import SelfForcingWanPipeline

WORDS = ("<pad>", "</s>", "<unk>", "a", "red", "blue", "circle", "cat")
CHANNELS = 32
CHUNK = 12
"""Frames of a chunk of 3 latent frames behind the first one, which has 9."""


def save_tiny_rollout(folder: Path) -> Path:
    """Write the pipeline: 64 × 64 pixels, 16 tokens a latent frame, two layers, four steps a chunk."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = _transformer()
        sizes = {"window_frames": 9, "sample_height": 64, "sample_width": 64, "max_sequence_length": 8}
        SelfForcingWanPipeline(*_shared_parts(), transformer, **sizes).save_pretrained(folder)
    return folder


def save_tiny_experts(folder: Path) -> Path:
    """Write a stock pipeline as Wan 2.2 is: one transformer for the first half of the timesteps, one for the rest."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        experts = {"transformer": _transformer(), "transformer_2": _transformer()}
        tokenizer, text, autoencoder, scheduler = _shared_parts()
        WanPipeline(tokenizer, text, autoencoder, scheduler, **experts, boundary_ratio=0.5).save_pretrained(folder)
    return folder


def _shared_parts() -> tuple[Any, ...]:
    """Tokenizer, text encoder, VAE and scheduler."""
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    text = UMT5Config(vocab_size=len(WORDS), d_model=CHANNELS, d_kv=8, d_ff=32, num_layers=1, num_heads=4)
    statistics = {"latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}
    autoencoder = AutoencoderKLWan(base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, **statistics)
    return tokenizer, UMT5EncoderModel(text), autoencoder, FlowMatchEulerDiscreteScheduler()


def _transformer() -> WanTransformer3DModel:
    transformer = WanTransformer3DModel(
        num_layers=2,
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        text_dim=CHANNELS,
        freq_dim=32,
        ffn_dim=64,
    )
    for block in transformer.blocks:  # so that attention is peaked and matters
        block.attn1.norm_q.weight.data.mul_(2)
        block.attn1.norm_k.weight.data.mul_(2)
        block.attn1.to_out[0].weight.data.mul_(8)
    return transformer
