"""What Bottleneck Sampling is told: stages, transitions, and the settings that have a name."""

import difflib
from dataclasses import dataclass, replace
from typing import Literal, get_args

from hasten.pipelines.bottleneck import Interpolation, Stage, Transition

from .. import fields
from ..errors import AccelerationError
from .bottleneck_stage import BottleneckStage

Space = Literal["latents", "pixels"]
Speed = Literal["custom", "x1.5", "x2", "x3"]


@dataclass(frozen=True)
class BottleneckConfig:
    r"""
    Configuration of Bottleneck Sampling. The default is one stage of all steps: the plain sampler, bit for bit.

    Args:
        stages (`tuple[BottleneckStage, ...]`, defaults to one stage):
            The stages in order; the first one starts from pure noise, the last one is at full resolution.
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
        first, last = self.stages[0], self.stages[-1]
        if first.start != 1:
            raise AccelerationError(
                f"The first stage starts at {first.start}, but a call begins with pure noise; leave its start at 1."
            )
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
        stages = _one_way(self.stages) if transition == "snr_matched" else self.stages
        return replace(self, stages=stages, transition=transition)

    def plan(self, num_inference_steps: int, cell: tuple[int, int]) -> tuple[Stage, ...]:
        """The stages of a call with that many steps, `cell` being the height and width of a token in pixels.

        Raises:
            AccelerationError: a stage's height and width are not multiples of `cell`.
        """
        return tuple(stage.resolve(num_inference_steps, cell) for stage in self.stages)


def _one_way(stages: tuple[BottleneckStage, ...]) -> tuple[BottleneckStage, ...]:
    """The stages, each of which ends at the time the next one starts, so that the noise never rises."""
    ends = (*(stage.start for stage in stages[1:]), 0.0)
    return tuple(replace(stage, end=end) for stage, end in zip(stages, ends, strict=True))


def _three_stages(scale: float, *shares: float, one_way: bool = False) -> BottleneckConfig:
    high, low, details = shares
    stages = (
        BottleneckStage(steps=high),
        BottleneckStage(steps=low, scale=scale, start=0.8),
        BottleneckStage(steps=details, start=0.6),
    )
    return BottleneckConfig(_one_way(stages) if one_way else stages)


_PICTURES = ("pixart", "hunyuan_dit", "sd3", "flux", "flux2", "qwen_image", "z_image")
_VIDEOS = ("cogvideox", "wan", "hunyuan_video", "ltx", "mochi")
_TWO_DENOISERS = ("wan",)  # in 2.2, one for much noise and one for little: neither gets what the other one is for
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
        f"{family}-{speed}": _three_stages(0.75, *shares, one_way=family in _TWO_DENOISERS)
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
