"""A tiny random self-forcing pipeline, without and with a text encoder, and calls that run it."""

import copy
from functools import cache
from typing import Any

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanTransformer3DModel
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from hasten.pipelines.self_forcing import SelfForcingWanPipeline

CHANNELS = 4
LATENT_MEAN, LATENT_STD = (0.1, -0.2, 0.3, 0.0), (0.9, 1.1, 0.7, 1.3)
LAYERS = 2
TEXT_CHANNELS = 32
HEIGHT, WIDTH = 32, 48
ROWS, COLUMNS = 2, 3  # of tokens in a latent frame
WORDS = ("<pad>", "</s>", "<unk>", "a", "red", "circle", "on", "blue", "background", "cat")
ROPE_FRAMES = 4  # of the stock table: fewer than any rollout has


def tiny_transformer(**overrides: Any) -> WanTransformer3DModel:
    """Random weights under which attention is peaked and matters."""
    transformer = WanTransformer3DModel(
        **{
            "num_layers": LAYERS,
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "in_channels": CHANNELS,
            "out_channels": CHANNELS,
            "text_dim": TEXT_CHANNELS,
            "freq_dim": 32,
            "ffn_dim": 64,
            "rope_max_seq_len": ROPE_FRAMES,
            **overrides,
        }
    )
    with torch.no_grad():
        for block in transformer.blocks:
            for attention in (block.attn1, block.attn2):
                attention.norm_q.weight.mul_(2)
                attention.norm_k.weight.mul_(2)
                attention.to_out[0].weight.mul_(8)
    return transformer.eval()


def tiny_autoencoder(**overrides: Any) -> AutoencoderKLWan:
    statistics = {"latents_mean": list(LATENT_MEAN), "latents_std": list(LATENT_STD)}
    shape = {"base_dim": 4, "z_dim": CHANNELS, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
    return AutoencoderKLWan(**{**shape, **statistics, **overrides}).eval()


@cache
def _pipeline() -> SelfForcingWanPipeline:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        components = tiny_autoencoder(), FlowMatchEulerDiscreteScheduler(shift=3.0), tiny_transformer()
    return SelfForcingWanPipeline(None, None, *components, sample_height=HEIGHT, sample_width=WIDTH)


def make_pipeline(**config: Any) -> SelfForcingWanPipeline:
    """A fresh pipeline; all have the same weights."""
    pipe = copy.deepcopy(_pipeline())
    pipe.register_to_config(**config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def text(seed: int = 0, batch: int = 1) -> Tensor:
    """Random embeddings of a prompt, (batch, 8, channels)."""
    return torch.randn(batch, 8, TEXT_CHANNELS, generator=torch.Generator().manual_seed(seed))


def generate(pipe: SelfForcingWanPipeline, chunks: int = 3, seed: int = 0, **options: Any) -> Tensor:
    """Latents of so many chunks without guidance, or what `options` ask for."""
    defaults = {"prompt_embeds": text(), "num_frames": num_frames(chunks), "output_type": "latent"}
    return pipe(**{**defaults, "generator": torch.Generator().manual_seed(seed), **options}).frames


def num_frames(chunks: int, given: int = 0) -> int:
    """Frames of so many chunks of 3 latent frames after `given` ones."""
    return 4 * (3 * chunks + given - 1) + 1


def fingerprint(module: nn.Module) -> tuple[Any, ...]:
    """Everything that a rollout could change in a transformer, tensors aside: objects, hooks, attributes."""
    return tuple(
        (name, id(child), id(getattr(child, "processor", None)), tuple(sorted(vars(child))), len(child._forward_hooks))
        for name, child in module.named_modules()
    )


def make_pipeline_with_text(**config: Any) -> SelfForcingWanPipeline:
    """As `make_pipeline`, but it reads prompts of a few words."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        size = {"d_model": TEXT_CHANNELS, "d_kv": 8, "d_ff": 37, "num_layers": 1, "num_heads": 4}
        text_encoder = UMT5EncoderModel(UMT5Config(vocab_size=len(WORDS), pad_token_id=0, **size)).eval()
    parts = make_pipeline(**config)
    pipe = SelfForcingWanPipeline(
        _tokenizer(), text_encoder, parts.vae, parts.scheduler, parts.transformer, **_settings(parts)
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _settings(pipe: SelfForcingWanPipeline) -> dict[str, Any]:
    components = set(pipe.components)
    return {name: value for name, value in pipe.config.items() if name not in components and name[0] != "_"}


def _tokenizer() -> PreTrainedTokenizerFast:
    words = {word: index for index, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
