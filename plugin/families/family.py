"""What hasten knows about one family of models: metadata only, no patches."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from diffusers.utils.torch_utils import unwrap_module

from hasten.pipelines.bottleneck import LINEAR_MU, MuLaw

from ..errors import AccelerationError
from .autoencoder import Autoencoder

Inputs = Mapping[str, Any]
"""Arguments of a denoiser call by the names of its parameters."""


class UnknownTokensError(Exception):
    """The tokens of a denoiser call are not those of one picture or video; the message says what they are."""


class TokenGrid(NamedTuple):
    """The visual tokens that a self-attention layer sees: frame-major, raster order inside a frame."""

    height: int
    width: int
    frames: int = 1

    @property
    def frame_tokens(self) -> int:
        """Tokens in one frame."""
        return self.height * self.width

    @property
    def tokens(self) -> int:
        """Tokens of all frames."""
        return self.frames * self.frame_tokens


class Cell(NamedTuple):
    """What one token covers: rows and columns of pixels; for videos the frames of a latent and latents of a token."""

    height: int
    width: int
    frames: int | None = None
    latents: int = 1


class Size(NamedTuple):
    """Size of a picture, or of a video, in pixels and frames."""

    height: int
    width: int
    num_frames: int | None = None


class AttentionLayer(NamedTuple):
    """One self-attention module of a denoiser; `block` counts the transformer blocks of all kinds in their order."""

    name: str
    block: int
    module: Any


def default_size(pipeline: Any) -> Size:
    """The size that the pipeline makes if the call does not say."""
    defaults = {name: p.default for name, p in inspect.signature(type(pipeline).__call__).parameters.items()}

    def side(name: str) -> int:
        named = defaults[name] or getattr(pipeline, f"default_{name}", None)
        return named or pipeline.default_sample_size * pipeline.vae_scale_factor

    return Size(side("height"), side("width"), defaults.get("num_frames"))


def _no_text(pipeline: Any) -> int:
    return 0


def _one_context(inputs: Inputs) -> str:
    return "default"


def _one_expert(pipeline: Any) -> float | None:
    return None


def _no_sigmas(config: Any, num_inference_steps: int) -> None:
    return None


def _nothing_else(pipeline: Any, inputs: Inputs, full: TokenGrid, small: TokenGrid) -> dict[str, Any]:
    return {}


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
            Regular expression of the fully qualified names of the self-attention modules; group 1 is the name of the
            transformer block.
        grid (`Callable[[config, Inputs], TokenGrid]`):
            Token grid from the denoiser's config and the arguments of its call. Raises UnknownTokensError.
        cell (`Callable[[pipeline], Cell]`):
            What one token covers.
        image_projections (`str`):
            Regular expression of the names of the linear layers that run on every visual token, for the cost estimate.
        text (`"none"`, `"first"` or `"last"`, defaults to `"none"`):
            Where text tokens sit in self-attention. Tokens that pad a picture or its text count as text.
        text_tokens (`Callable[[pipeline], int]`):
            How many there are, at most, by default; the calls themselves may have fewer.
        text_masked (`bool`, defaults to `False`):
            Whether self-attention has a mask, and all it hides is padding of the text.
        without_text (`str`, defaults to `""`):
            Regular expression of the names of self-attention modules that see no text although others do.
        default_size (`Callable[[pipeline], Size]`):
            What the pipeline makes if the call does not say.
        context (`Callable[[Inputs], str]`):
            Name of the cache context of a call outside of diffusers' own contexts: calls that take turns within a step.
        denoisers (`tuple[str, ...]`, defaults to `("transformer",)`):
            Names of the pipeline's components of which one is called in a step; only the first must be there.
        patch (`int`, defaults to `2`):
            Side of the square of latents in a token, where the pipeline packs its latents.
        resized (`Callable[[pipeline, Inputs, TokenGrid, TokenGrid], dict]`):
            Arguments of a denoiser call that change with the token grid, from the full one to a smaller one: all but
            the latents and timesteps of tokens.
        condition_axis (`int`, *optional*):
            Dimension in which some pipelines put the channels of a picture behind those of the latents.
        mu (`MuLaw`, defaults to a line over the number of tokens):
            How the pipelines find the `mu` of a dynamic timestep shift.
        sigmas (`Callable[[config, int], Sequence[float] | None]`):
            Unshifted times that the pipelines give a scheduler of that config for a number of steps; None where the
            scheduler makes its own.
        autoencoder (`Autoencoder`, *optional*):
            How the pipelines call their VAE.
        expert_boundary (`Callable[[pipeline], float | None]`):
            Timestep, as a share of the trained ones, from which on the first of two denoisers serves, and below which
            the second one does; None where there is one denoiser.
        works (`bool`, defaults to `True`):
            Whether hasten accelerates this family.
        why (`str`, defaults to `""`):
            What works, or what is missing.
    """

    name: str
    pipelines: tuple[str, ...]
    attention: str
    grid: Callable[[Any, Inputs], TokenGrid]
    cell: Callable[[Any], Cell]
    image_projections: str
    text: Literal["none", "first", "last"] = "none"
    text_tokens: Callable[[Any], int] = _no_text
    text_masked: bool = False
    without_text: str = ""
    default_size: Callable[[Any], Size] = default_size
    context: Callable[[Inputs], str] = _one_context
    denoisers: tuple[str, ...] = ("transformer",)
    patch: int = 2
    resized: Callable[[Any, Inputs, TokenGrid, TokenGrid], dict[str, Any]] = _nothing_else
    condition_axis: int | None = None
    mu: MuLaw = LINEAR_MU
    sigmas: Callable[[Any, int], Sequence[float] | None] = _no_sigmas
    autoencoder: Autoencoder | None = None
    expert_boundary: Callable[[Any], float | None] = _one_expert
    works: bool = True
    why: str = ""

    def denoiser_of(self, pipeline: Any) -> Any:
        """The pipeline's first denoiser, without the wrapper that `torch.compile` puts around it."""
        return self.denoisers_of(pipeline)[0]

    def denoisers_of(self, pipeline: Any) -> list[Any]:
        """All denoisers that the pipeline has."""
        components = (getattr(pipeline, name, None) for name in self.denoisers)
        return [unwrap_module(component) for component in components if component is not None]

    def layers(self, denoiser: torch.nn.Module) -> list[AttentionLayer]:
        """The self-attention modules of `denoiser`, in the order of its blocks."""
        blocks: dict[str, int] = {}
        return [
            AttentionLayer(name, blocks.setdefault(match.group(1), len(blocks)), module)
            for name, module in denoiser.named_modules()
            if (match := re.fullmatch(self.attention, name))
        ]

    def text_tokens_in(self, layer: AttentionLayer, text_tokens: int) -> int:
        """How many of that many text tokens the self-attention of a layer has."""
        return 0 if re.fullmatch(self.without_text, layer.name) else text_tokens

    def pixel_grid(self, pipeline: Any, size: Size) -> TokenGrid:
        """Token grid of a picture or video.

        Raises:
            AccelerationError: the sides are not multiples of what the model's tokens cover, or a frame count is given
                for pictures.
        """
        cell = self.cell(pipeline)
        height, width, num_frames = size
        if min(height, width) < 1 or height % cell.height or width % cell.width:
            multiples = f"{cell.height}" if cell.height == cell.width else f"{cell.height} and {cell.width}"
            raise AccelerationError(
                f"height={height}, width={width} does not fit this model; give positive multiples of {multiples}."
            )
        if cell.frames is None and num_frames is not None:
            raise AccelerationError(
                f"num_frames={num_frames} was given, but {self.name} makes pictures; leave num_frames out."
            )
        latents = 1 if cell.frames is None else (max(1, num_frames or 1) - 1) // cell.frames + 1
        return TokenGrid(height // cell.height, width // cell.width, -(-latents // cell.latents))


def picture_grid(config: Any, inputs: Inputs) -> TokenGrid:
    """Grid of latents (B, C, H, W) in square patches."""
    *_, height, width = inputs["hidden_states"].shape
    return TokenGrid(height // config.patch_size, width // config.patch_size)


def picture_cell(pipeline: Any) -> Cell:
    """What a token of latents (B, C, H, W) in square patches covers."""
    side = pipeline.vae_scale_factor * pipeline.transformer.config.patch_size
    return Cell(side, side)


def packed_cell(pipeline: Any) -> Cell:
    """What a token of latents that the pipeline packs in patches of 2 × 2 covers."""
    return Cell(2 * pipeline.vae_scale_factor, 2 * pipeline.vae_scale_factor)


def packed_grid(config: Any, inputs: Inputs) -> TokenGrid:
    """Grid of packed latents (B, N, C) from the positions of their tokens, `img_ids` ([B,] N, frame-row-column-...)."""
    positions = inputs["img_ids"]
    if positions.ndim == 3:
        positions = positions[0]
    pictures, height, width = (positions.amax(0) - positions.amin(0))[:3].round().int().add(1).tolist()
    if pictures != 1 or len(positions) != height * width:
        raise UnknownTokensError("it gets other pictures beside the one that it makes")
    return TokenGrid(height, width)


def packed_positions(pipeline: Any, inputs: Inputs, full: TokenGrid, small: TokenGrid) -> dict[str, Any]:
    """`img_ids` of a smaller picture: the rows and columns of its own tokens."""
    positions = inputs["img_ids"]
    first = positions.reshape(-1, positions.shape[-1])[0]
    rows = torch.arange(small.height, device=positions.device, dtype=positions.dtype)
    columns = torch.arange(small.width, device=positions.device, dtype=positions.dtype)
    resized = first.expand(small.height, small.width, -1).clone()
    resized[..., 1] += rows[:, None]
    resized[..., 2] += columns
    return {"img_ids": resized.flatten(0, 1).expand(*positions.shape[:-2], -1, -1)}


def even_sigmas(config: Any, num_inference_steps: int) -> list[float]:
    """1 and so on in even steps, the last one before 0."""
    return np.linspace(1, 1 / num_inference_steps, num_inference_steps).tolist()


def sequence_length(pipeline: Any) -> int:
    """Default of the pipeline's `max_sequence_length`."""
    return inspect.signature(type(pipeline).__call__).parameters["max_sequence_length"].default
