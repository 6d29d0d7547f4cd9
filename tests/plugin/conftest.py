"""Tiny random stock pipelines, built in memory: nothing is downloaded, nothing is trained."""

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

sys.path.append(str(Path(__file__).parents[1] / "kernels"))  # for its oracle of windows

WORDS = ("<pad>", "</s>", "<unk>", "a", "red", "circle", "on", "blue", "background", "cat")
HEADS = 3
BLOCKS = 2


def _tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=16
    )


def _build(pipeline_class: type) -> Any:
    torch.manual_seed(0)
    text_encoder = T5EncoderModel(
        T5Config(vocab_size=len(WORDS), d_model=32, d_kv=8, d_ff=37, num_layers=1, num_heads=4, pad_token_id=0)
    )
    transformer = PixArtTransformer2DModel(
        sample_size=16,
        num_layers=BLOCKS,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=HEADS,
        caption_channels=32,
        in_channels=4,
        cross_attention_dim=8 * HEADS,
        out_channels=8,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
    )
    pipeline = pipeline_class(
        tokenizer=_tokenizer(),
        text_encoder=text_encoder.eval(),
        vae=vae.eval(),
        transformer=transformer.eval(),
        scheduler=DPMSolverMultistepScheduler(),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="session")
def _originals() -> dict[type, Any]:
    return {cls: _build(cls) for cls in (PixArtSigmaPipeline, PixArtAlphaPipeline)}


@pytest.fixture
def make_pipeline(_originals: dict[type, Any]) -> Callable[..., Any]:
    """Makes a fresh pipeline; all of one class have the same weights."""
    return lambda cls=PixArtSigmaPipeline: copy.deepcopy(_originals[cls])


@pytest.fixture(params=[PixArtSigmaPipeline, PixArtAlphaPipeline], ids=["sigma", "alpha"])
def any_pipeline(request: pytest.FixtureRequest, make_pipeline: Callable[..., Any]) -> Any:
    """A pipeline of each class of the family."""
    return make_pipeline(request.param)


@pytest.fixture
def pipeline(make_pipeline: Callable[..., Any]) -> Any:
    """A PixArt-Sigma pipeline with 2 blocks, 3 heads and 64 image tokens at its native 32 pixels."""
    return make_pipeline()


@pytest.fixture
def generate() -> Callable[..., torch.Tensor]:
    """Runs a pipeline with fixed noise and returns the latents."""

    def run(pipeline: Any, prompt: str | list[str] = "a red circle", seed: int = 0, **arguments: Any) -> torch.Tensor:
        defaults = {
            "num_inference_steps": 8,
            "height": 32,
            "width": 32,
            "clean_caption": False,
            "use_resolution_binning": False,
            "output_type": "latent",
        }
        generator = torch.Generator().manual_seed(seed)
        return pipeline(prompt, generator=generator, **{**defaults, **arguments}).images

    return run
