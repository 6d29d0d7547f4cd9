"""What Bottleneck Sampling is told: stages, transitions, and the settings that have a name."""

import difflib
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from hasten.pipelines.bottleneck import Interpolation, Stage, Transition

from .. import fields
from ..errors import AccelerationError

Space = Literal["latents", "pixels"]
Speed = Literal["custom", "x1.5", "x2", "x3"]


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


@dataclass(frozen=True)
class BottleneckConfig:
    r"""
    Configuration of Bottleneck Sampling. The default is one stage of all steps: the plain sampler, bit for bit.

    Args:
        stages (`tuple[BottleneckStage, ...]`, defaults to one stage):
            The stages in order; the last one is at full resolution.
        speed (`"custom"`, `"x1.5"`, `"x2"` or `"x3"`, defaults to `"custom"`):
            About how much faster a call becomes, by stages chosen for the family of the pipeline, in place of `stages`.
        transition (`"fresh"`, `"correlated"` or `"snr_matched"`, defaults to `"fresh"`):
            From one stage to the next: "fresh", as in the paper, resizes the predicted clean picture and adds fresh
            noise. "correlated" adds the noise that the denoiser found at the end of the stage, fresh only in the
            frequencies that are new. "snr_matched" resizes the noisy latents themselves, which leave the stage with the
            noise of its `end`, or less if the next stage starts with less, and adds fresh noise only up to the next
            stage's `start`.
        interpolation (`"lanczos"`, `"bicubic"`, `"bilinear"`, `"nearest"` or `"area"`, defaults to `"lanczos"`):
            How the predicted clean picture is resized; "snr_matched" has its own way.
        space (`"latents"` or `"pixels"`, defaults to `"latents"`):
            Where it is resized. For pixels the VAE decodes it, and encodes it again, at each change of resolution: once
            what the decoding at the end of every call costs in seconds and memory, and the same again for encoding.

    Raises:
        AccelerationError: a field has the wrong type, the stages do not follow each other, or there are stages and a
            speed.
    """

    stages: tuple[BottleneckStage, ...] = (BottleneckStage(),)
    speed: Speed = "custom"
    transition: Transition = "fresh"
    interpolation: Interpolation = "lanczos"
    space: Space = "latents"

    def __post_init__(self) -> None:
        fields.check_fields(self)
        if not self.stages:
            raise AccelerationError("No stage was given; give at least one.")
        last = self.stages[-1]
        if last.scale != 1 or last.height is not None or last.end != 0:
            raise AccelerationError(
                "The last stage does not end in the full picture; give it no size, scale 1 and end 0."
            )
        for before, after in zip(self.stages, self.stages[1:], strict=False):
            if before.steps is None or after.steps is None:
                raise AccelerationError(
                    "A stage among several was given no steps; give each stage its number of steps."
                )
            if after.start < before.end:
                raise AccelerationError(
                    f"A stage starts at {after.start}, below the end of the one before it, {before.end}; "
                    f"give it a start of at least {before.end}."
                )
        if self.speed != "custom" and self.stages != (BottleneckStage(),):
            raise AccelerationError(f"Stages and speed={self.speed!r} were given; give one of them.")
        if self.transition == "snr_matched":
            self._check_matched()

    def _check_matched(self) -> None:
        if self.space == "pixels":
            raise AccelerationError(
                "transition='snr_matched' resizes noisy latents, which have no pixels; leave space at 'latents'."
            )
        if any(stage.end == 0 for stage in self.stages[:-1]):
            raise AccelerationError(
                "transition='snr_matched' keeps the noise with which a stage ends, and one ends with none; give each "
                "stage but the last an end above 0, or use with_transition('snr_matched')."
            )

    @classmethod
    def preset(cls, name: str) -> "BottleneckConfig":
        """The configuration called `name`: `"x2"`, `"flux-x2"` or `"flux-published"`; see `sampling_presets`.

        Raises:
            AccelerationError: there is none of that name.
        """
        if name not in _PRESETS:
            raise AccelerationError(_unknown_preset(name))
        return _PRESETS[name]

    @property
    def changes_resolution(self) -> bool:
        """Whether there is more than one stage."""
        return self.speed != "custom" or len(self.stages) > 1

    def for_family(self, family: str) -> "BottleneckConfig":
        """The same with the stages that `speed` means for pipelines of the `family`."""
        if self.speed == "custom":
            return self
        stages = _PRESETS[f"{family}-{self.speed}"].stages
        return replace(self, speed="custom", transition="fresh", stages=stages).with_transition(self.transition)

    def with_transition(self, transition: Transition) -> "BottleneckConfig":
        """The same stages with another transition; for "snr_matched" each one ends at the time the next one starts."""
        stages = self.stages
        if transition == "snr_matched":
            ends = (*(stage.start for stage in stages[1:]), 0.0)
            stages = tuple(replace(stage, end=end) for stage, end in zip(stages, ends, strict=True))
        return replace(self, stages=stages, transition=transition)

    def plan(self, num_inference_steps: int, cell: tuple[int, int]) -> tuple[Stage, ...]:
        """The stages of a call with that many steps, `cell` being the height and width of a token in pixels.

        Raises:
            AccelerationError: a stage's height and width are not multiples of `cell`.
        """
        return tuple(
            Stage(
                stage.count(num_inference_steps), stage.scale, stage.start, stage.end, stage.shift, _tokens(stage, cell)
            )
            for stage in self.stages
        )


def _tokens(stage: BottleneckStage, cell: tuple[int, int]) -> tuple[int, int] | None:
    if stage.height is None or stage.width is None:
        return None
    sides = (stage.height, stage.width)
    height, width = (max(1, round(side / pixels)) for side, pixels in zip(sides, cell, strict=True))
    nearest = (height * cell[0], width * cell[1])
    if sides != nearest:
        raise AccelerationError(
            f"A stage was given height={sides[0]}, width={sides[1]}, which this model's tokens do not fill; "
            f"the nearest size is height={nearest[0]}, width={nearest[1]}."
        )
    return height, width


def _three_stages(scale: float, *shares: float) -> BottleneckConfig:
    high, low, details = shares
    return BottleneckConfig(
        (
            BottleneckStage(steps=high),
            BottleneckStage(steps=low, scale=scale, start=0.8),
            BottleneckStage(steps=details, start=0.6),
        )
    )


_PICTURES = ("pixart", "hunyuan_dit", "sd3", "flux", "flux2", "qwen_image", "z_image")
_VIDEOS = ("cogvideox", "wan", "hunyuan_video", "ltx", "mochi")
_HALF = {"x1.5": (0.2, 0.4, 0.36), "x2": (0.12, 0.4, 0.28), "x3": (0.08, 0.4, 0.14)}  # at half the sides, r ≈ 0.27
_THREE_QUARTERS = {"x1.5": (0.1, 0.5, 0.38), "x2": (0.08, 0.5, 0.24), "x3": (0.06, 0.4, 0.12)}  # r ≈ 0.36
_PRESETS = {
    "flux-published": BottleneckConfig(
        (
            BottleneckStage(steps=6, shift=9.0),
            BottleneckStage(steps=20, scale=0.5, start=0.8, shift=6.0),
            BottleneckStage(steps=8, start=0.6, shift=9.0),
        )
    ),
    "hunyuan_video-published": BottleneckConfig(
        (
            BottleneckStage(steps=4, shift=7.0),
            BottleneckStage(steps=24, scale=0.75, start=0.8, shift=9.0),
            BottleneckStage(steps=16, start=0.7, shift=9.0),
        )
    ),
    **{speed: BottleneckConfig(speed=speed) for speed in get_args(Speed) if speed != "custom"},
    **{f"{family}-{speed}": _three_stages(0.5, *shares) for family in _PICTURES for speed, shares in _HALF.items()},
    **{
        f"{family}-{speed}": _three_stages(0.75, *shares)
        for family in _VIDEOS
        for speed, shares in _THREE_QUARTERS.items()
    },
}


def sampling_presets(family: str | None = None) -> dict[str, BottleneckConfig]:
    """The sampling configurations that have a name: the published ones, three speeds, and what they mean by family.

    Args:
        family (`str`, *optional*):
            Name of the family, such as `"flux"`, whose presets are wanted; all if left out.
    """
    return {name: config for name, config in _PRESETS.items() if family in (None, name.rpartition("-")[0])}


def _unknown_preset(name: str) -> str:
    nearest = difflib.get_close_matches(name, _PRESETS, n=1) if "-" in name else []
    if not nearest:
        families = ", ".join((*_PICTURES, *_VIDEOS))
        return (
            f"'{name}' is not a sampling preset; give a speed (x1.5, x2, x3), or a family ({families}) and a speed, "
            "such as pixart-x2."
        )
    family = nearest[0].rpartition("-")[0]
    known = ", ".join(sampling_presets(family))
    return f"'{name}' is not a sampling preset (those of {family}: {known}); did you mean '{nearest[0]}'?"
