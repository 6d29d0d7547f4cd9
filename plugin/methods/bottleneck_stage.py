"""What a stage of Bottleneck Sampling is told."""

from dataclasses import dataclass, field

from hasten.pipelines.bottleneck import Stage

from .. import fields
from ..errors import AccelerationError


@dataclass(frozen=True)
class BottleneckStage:
    r"""
    A part of the denoising steps, at one resolution.

    Args:
        steps (`float`, *optional*):
            Steps that are really run; below 1, a share of the call's `num_inference_steps`. All of them if left out.
        scale (`float`, defaults to `1.0`):
            Height and width as a share of the full ones, rounded to whole tokens.
        height (`int`, *optional*):
            Height in pixels, in place of `scale`.
        width (`int`, *optional*):
            Width in pixels, in place of `scale`.
        start (`float`, defaults to `1.0`):
            Time at which the stage starts, before the shift; 1 is pure noise. The paper's noise-reintroducing strength.
        end (`float`, defaults to `0.0`):
            Time towards which its steps are spread. Whatever it is, the last step predicts the clean picture, but for
            the transition "snr_matched".
        shift (`float`, *optional*):
            Timestep shift, for flow-matching schedulers; the scheduler's own if left out.

    Raises:
        AccelerationError: a field has the wrong type or is out of bounds.
    """

    steps: float | None = field(default=None, metadata={"exclusiveMinimum": 0})
    scale: float = field(default=1.0, metadata={"exclusiveMinimum": 0, "maximum": 1})
    height: int | None = field(default=None, metadata={"minimum": 1})
    width: int | None = field(default=None, metadata={"minimum": 1})
    start: float = field(default=1.0, metadata={"exclusiveMinimum": 0, "maximum": 1})
    end: float = field(default=0.0, metadata={"minimum": 0, "maximum": 1})
    shift: float | None = field(default=None, metadata={"exclusiveMinimum": 0})

    def __post_init__(self) -> None:
        fields.check_fields(self)
        if self.steps is not None and self.steps >= 1 and self.steps != int(self.steps):
            raise AccelerationError(
                f"A stage was given steps={self.steps}; give a whole number, or a share of the steps below 1."
            )
        if (self.height is None) != (self.width is None):
            raise AccelerationError("A stage was given one of height and width; give both, or a scale.")
        if self.height is not None and self.scale != 1:
            raise AccelerationError("A stage was given a scale and a size; give one of them.")
        if self.end >= self.start:
            raise AccelerationError(f"A stage runs from start={self.start} down to end={self.end}; give a lower end.")

    def count(self, num_inference_steps: int) -> int:
        """Steps that it runs in a call of `num_inference_steps`."""
        if self.steps is None:
            return num_inference_steps
        return int(self.steps) if self.steps >= 1 else max(1, round(self.steps * num_inference_steps))

    def resolve(self, num_inference_steps: int, cell: tuple[int, int]) -> Stage:
        """The stage in a call with that many steps, `cell` being the height and width of a token in pixels.

        Raises:
            AccelerationError: the height and width are not multiples of `cell`.
        """
        steps, size = self.count(num_inference_steps), self._tokens(cell)
        return Stage(steps, self.scale, self.start, self.end, self.shift, size)

    def _tokens(self, cell: tuple[int, int]) -> tuple[int, int] | None:
        """Rows and columns, where it was given a size."""
        if self.height is None or self.width is None:
            return None
        sides = (self.height, self.width)
        height, width = (max(1, round(side / pixels)) for side, pixels in zip(sides, cell, strict=True))
        nearest = (height * cell[0], width * cell[1])
        if sides != nearest:
            raise AccelerationError(
                f"A stage was given height={sides[0]}, width={sides[1]}, which this model's tokens do not fill; "
                f"the nearest size is height={nearest[0]}, width={nearest[1]}."
            )
        return height, width
