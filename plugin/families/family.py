"""What hasten knows about one family of models: metadata only, no patches."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from diffusers.utils.torch_utils import unwrap_module

from ..errors import AccelerationError


class TokenGrid(NamedTuple):
    """Layout of the tokens that a self-attention layer sees: frame-major, raster order inside a frame."""

    height: int
    width: int
    frames: int = 1
    text_tokens: int = 0
    text_first: bool = True

    @property
    def frame_tokens(self) -> int:
        """Tokens in one frame."""
        return self.height * self.width

    @property
    def tokens(self) -> int:
        """All tokens, text included."""
        return self.text_tokens + self.frames * self.frame_tokens


class AttentionLayer(NamedTuple):
    """One self-attention module of a denoiser."""

    name: str
    block: int
    module: Any


@dataclass(frozen=True)
class Family:
    r"""
    A family of models that share one denoiser architecture.

    Args:
        name (`str`):
            Name of the family, as in `FAMILIES`.
        pipelines (`tuple[str, ...]`):
            Class names of the pipelines; their subclasses belong to the family too.
        attention (`str`):
            Regular expression of the fully qualified names of the self-attention modules; group 1 is the block index.
        token_grid (`Callable[[config, shape], TokenGrid]`):
            Token layout from the denoiser's config and the shape of its `hidden_states`.
        image_projections (`str`):
            Regular expression of the names of the linear layers that run on every image token, for the cost estimate.
        denoiser (`str`, defaults to `"transformer"`):
            Name of the pipeline's component that is called once a step.
        works (`bool`, defaults to `True`):
            Whether hasten accelerates this family.
        why (`str`, defaults to `""`):
            What works, or what is missing.
    """

    name: str
    pipelines: tuple[str, ...]
    attention: str
    token_grid: Callable[[Any, Sequence[int]], TokenGrid]
    image_projections: str
    denoiser: str = "transformer"
    works: bool = True
    why: str = ""

    def denoiser_of(self, pipeline: Any) -> Any:
        """The pipeline's denoiser, without the wrapper that `torch.compile` puts around it."""
        return unwrap_module(getattr(pipeline, self.denoiser))

    def layers(self, denoiser: torch.nn.Module) -> list[AttentionLayer]:
        """The self-attention modules of `denoiser`, in the order of its blocks."""
        return [
            AttentionLayer(name, int(match.group(1)), module)
            for name, module in denoiser.named_modules()
            if (match := re.fullmatch(self.attention, name))
        ]

    def latent_grid(self, pipeline: Any, height: int, width: int) -> TokenGrid:
        """Token layout of a picture of `height` × `width` pixels.

        Raises:
            AccelerationError: the sides are not multiples of what the model's tokens cover.
        """
        config = self.denoiser_of(pipeline).config
        stride = pipeline.vae_scale_factor
        pixels_per_token = stride * config.patch_size
        if height < 1 or width < 1 or height % pixels_per_token or width % pixels_per_token:
            raise AccelerationError(
                f"height={height}, width={width} does not fit this model; "
                f"give positive multiples of {pixels_per_token}."
            )
        return self.token_grid(config, (1, config.in_channels, height // stride, width // stride))
