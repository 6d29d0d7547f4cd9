"""What Re-ttention is told: which steps are sparse, what their queries see, and how they make up for the rest."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ..errors import AccelerationError
from ..fields import check_fields
from ..report import StepKind

if TYPE_CHECKING:
    from hasten.kernels import Layout

    from ..families import TokenGrid


@dataclass(frozen=True)
class RettentionConfig:
    r"""
    Configuration of Re-ttention. The defaults are the paper's for PixArt at 20 steps.

    Important arguments are `density`, `window`, `dense_steps` and `refresh_interval`; the others are for tinkering.

    Args:
        density (`float`, defaults to `0.03125`):
            Size of the attention window as a share of the visual tokens. What it measures to, text and clipping
            included, is in the report.
        window (`"band"` or `"tiles"`, defaults to `"band"`):
            Shape of the window: the paper's band of `int(frame_tokens * density) // 2` tokens to each side in raster
            order, the same in all frames, or a near-square of rows and columns around tiles of up to 64 tokens.
        window_frames (`int`, *optional*):
            Latent frames of a video that a window spans; all if left out. Fewer make it larger in each of them, so that
            it has as many tokens as before. Used by "tiles".
        dense_steps (`int`, defaults to `5`):
            Steps at the beginning of a run that stay dense, exactly as without hasten. The paper takes 5 of 20 for
            PixArt, 10 of 50 for HunyuanDiT and 15 of 50 for CogVideoX. "fitted" makes the last of them a refresh.
        refresh_interval (`int`, defaults to `5`):
            After the dense steps, every so many steps compute dense attention and renew the cached statistics. A last
            step that would be a refresh is simply dense.
        refresh_threshold (`float`, *optional*):
            A step also refreshes if, since the last refresh, the windows' part of the attention outputs has changed by
            more than this share, on average over the layers; never if left out. Used by all corrections but "reuse"
            and "none".
        ratio_increment (`float`, defaults to `0.04`):
            λ of the paper: what each further sparse step adds to the window's share of the softmax mass. Used by
            "reshape".
        correction (`"reshape"`, `"fitted"`, `"residual"`, `"reuse"` or `"none"`, defaults to `"reshape"`):
            How a sparse step makes up for the tokens outside the window: the paper's re-normalisation, ours with a
            fitted weight and slope, DiTFastAttn's residual, the last dense output itself without any attention, or
            nothing.
        slope_damping (`float`, defaults to `0.5`):
            Share of the residual's slope between two refreshes that the next sparse steps follow. Used by "fitted".
        state_bits (`16`, `8` or `4`, defaults to `16`):
            Bits a value of what is kept between steps: 16 keeps it in the dtype of the model, 8 and 4 pack it, with 32
            bits more for each token of a head.
        min_tokens (`int`, defaults to `0`):
            Calls with fewer visual tokens than this stay dense.
        start_percent (`float`, defaults to `0.0`):
            Share of the steps before which the run stays dense.
        end_percent (`float`, defaults to `1.0`):
            Share of the steps from which on the run stays dense.
        dense_blocks (`tuple[int, ...]`, defaults to `()`):
            Indices of transformer blocks that stay dense.
        block_densities (`tuple[float, ...]`, defaults to `()`):
            A density for each transformer block, in place of `density`; `hasten.calibrate` finds them.

    Raises:
        AccelerationError: a field has the wrong type or is out of bounds.
    """

    density: float = field(default=0.03125, metadata={"exclusiveMinimum": 0, "maximum": 1})
    window: Literal["band", "tiles"] = "band"
    window_frames: int | None = field(default=None, metadata={"minimum": 1})
    dense_steps: int = field(default=5, metadata={"minimum": 0})
    refresh_interval: int = field(default=5, metadata={"minimum": 1})
    refresh_threshold: float | None = field(default=None, metadata={"exclusiveMinimum": 0})
    ratio_increment: float = field(default=0.04, metadata={"minimum": 0, "maximum": 1})
    correction: Literal["reshape", "fitted", "residual", "reuse", "none"] = "reshape"
    slope_damping: float = field(default=0.5, metadata={"minimum": 0, "maximum": 1})
    state_bits: Literal[16, 8, 4] = 16
    min_tokens: int = field(default=0, metadata={"minimum": 0})
    start_percent: float = field(default=0.0, metadata={"minimum": 0, "maximum": 1})
    end_percent: float = field(default=1.0, metadata={"minimum": 0, "maximum": 1})
    dense_blocks: tuple[int, ...] = ()
    block_densities: tuple[float, ...] = field(
        default=(), metadata={"items": {"type": "number", "exclusiveMinimum": 0, "maximum": 1}}
    )

    def __post_init__(self) -> None:
        check_fields(self)

    def schedule(self, num_inference_steps: int) -> tuple[StepKind, ...]:
        """What each of `num_inference_steps` steps computes; with a `refresh_threshold`, if nothing exceeds it.

        Raises:
            AccelerationError: `dense_steps` are more than there are.
        """
        kinds: list[StepKind] = ["dense"] * num_inference_steps
        span = self.accelerated_steps(num_inference_steps)
        for step in span:
            kinds[step] = "sparse" if (step - span[0]) % self.refresh_interval else "refresh"
        if self.correction == "fitted" and span and span[0] > 0:
            kinds[span[0] - 1] = "refresh"  # a fit needs two refreshes
        if span and kinds[span[-1]] == "refresh":
            kinds[span[-1]] = "dense"  # no sparse step is left to use its statistics
        return tuple(kinds)

    def accelerated_steps(self, num_inference_steps: int) -> range:
        """The steps between those that stay dense by `dense_steps`, `start_percent` and `end_percent`.

        Raises:
            AccelerationError: `dense_steps` are more than there are.
        """
        if self.dense_steps > num_inference_steps:
            raise AccelerationError(
                f"dense_steps={self.dense_steps} are more than the {num_inference_steps} steps of this call; "
                "give fewer dense_steps or more num_inference_steps."
            )
        shares = [step / num_inference_steps for step in range(num_inference_steps)]
        begin = max(self.dense_steps, sum(share < self.start_percent for share in shares))
        return range(begin, sum(share < self.end_percent for share in shares))

    @property
    def refreshes_on_change(self) -> bool:
        """Whether steps refresh as the outputs of windows change; there must be some, and something to renew."""
        return self.refresh_threshold is not None and self.correction not in ("reuse", "none")

    def block_density(self, block: int) -> float:
        """Size of the windows of a transformer block, as a share of the tokens of a frame."""
        return self.block_densities[block] if self.block_densities else self.density

    def layout(
        self, grid: "TokenGrid", text_tokens: int = 0, text_first: bool = True, density: float | None = None
    ) -> "Layout":
        """The attention window on `grid`, with text tokens before or behind the visual ones; `density` is a block's."""
        from hasten.kernels import BandLayout, TileLayout  # they load torch, which a config does not need

        density = self.density if density is None else density
        if self.window == "band":
            return BandLayout.from_density(
                density,
                frame_tokens=grid.frame_tokens,
                frames=grid.frames,
                text_tokens=text_tokens,
                text_first=text_first,
            )
        return TileLayout.from_density(
            density,
            frames=grid.frames,
            height=grid.height,
            width=grid.width,
            window_frames=self.window_frames,
            text_tokens=text_tokens,
            text_first=text_first,
        )

    def sparse_density(self, layout: "Layout") -> float:
        """Share of the query-key pairs that a sparse step computes."""
        return 0.0 if self.correction == "reuse" else layout.density
