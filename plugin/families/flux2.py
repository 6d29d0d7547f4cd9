"""FLUX.2 (dev and Klein): joint attention over text and image, in double and in single blocks."""

from typing import Any

from hasten.pipelines.bottleneck import MuLaw

from .autoencoder import Autoencoder, by_patches
from .family import Family, packed_cell, packed_grid, packed_positions, sequence_length
from .flux import flux_sigmas

_LAST_OF_FEW = 4300  # tokens, on the line for few of them


def _mu(config: Any, tokens: float, steps: int) -> float:
    """Two lines over the number of tokens, of which only the one for few tokens depends on the steps."""
    # not at the top: the module of a pipeline brings its image processors along, which have their own complaints
    from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu

    return compute_empirical_mu(tokens, steps)


def _tokens(config: Any, mu: float, steps: int) -> float:
    """Where the lines have that `mu`; if it is on both of them, the whole number."""
    few, many = (_where(mu, first, steps) for first in (0, _LAST_OF_FEW + 1))
    on_their_line = [*([few] if round(few) <= _LAST_OF_FEW else []), *([many] if round(many) > _LAST_OF_FEW else [])]
    return min(on_their_line or [few, many], key=lambda tokens: abs(tokens - round(tokens)))


def _where(mu: float, first: int, steps: int) -> float:
    """Number of tokens at which the line that begins at `first` tokens has that `mu`."""
    low, slope = _mu(None, first, steps), _mu(None, first + 1, steps) - _mu(None, first, steps)
    return first + (mu - low) / slope


FLUX2 = Family(
    name="flux2",
    pipelines=("Flux2Pipeline", "Flux2KleinPipeline"),
    attention=r"((?:single_)?transformer_blocks\.\d+)\.attn",
    grid=packed_grid,
    cell=packed_cell,
    image_projections=(
        r"transformer_blocks\.\d+\.(attn\.to_(q|k|v|out)|ff\.)|single_transformer_blocks\.\d+\.attn\.to_"
    ),
    text="first",
    text_tokens=sequence_length,
    resized=packed_positions,
    mu=MuLaw(_mu, _tokens),
    sigmas=flux_sigmas,
    autoencoder=Autoencoder(by_patches, frame_axis=2),
    why=(
        "Re-ttention in all blocks, text dense, calls with reference pictures dense; "
        "Bottleneck Sampling, but not with reference pictures"
    ),
)
