"""Bottleneck Sampling as a benchmark: presets, their variants, and each of them with sparse attention."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import hasten
from hasten.app.errors import UserError
from hasten.app.methods import PLAIN, accelerated
from hasten.app.series import Method
from hasten.presets import resolve_recipe

QUALITIES = ("psnr", "ssim", "caption_accuracy")


def sampling_methods(
    family: str,
    attention: tuple[str, hasten.Recipe],
    *,
    only: Sequence[str] = (),
    transitions: Sequence[Any] = (),
    interpolations: Sequence[Any] = (),
    pixels: bool = False,
) -> list[Method]:
    """The sampling presets of a family, each with its variants, and each together with sparse attention.

    Args:
        family: Name of the model's family.
        attention: Name and recipe of the sparse attention.
        only: Names of presets, in place of those of the family.
        transitions, interpolations: Variants of each preset that differ in this alone.
        pixels: Whether there is a variant that resizes pixels.

    Raises:
        UserError: the family has no presets.
        AccelerationError: there is no preset of that name.
    """
    presets = {name: hasten.BottleneckConfig.preset(name) for name in only} or hasten.sampling_presets(family)
    if not presets:
        raise UserError(f"There are no sampling presets for {family}; name some with --sampling.")
    methods = []
    for name, config in presets.items():
        variants = {name: config}
        variants |= {f"{name}, {one}": config.with_transition(one) for one in transitions}
        variants |= {f"{name}, {one}": dataclasses.replace(config, interpolation=one) for one in interpolations}
        variants |= {f"{name}, pixels": dataclasses.replace(config, space="pixels")} if pixels else {}
        methods += [accelerated(label, hasten.Recipe(sampling=variant)) for label, variant in variants.items()]
        together = resolve_recipe(attention[1], sampling=config)
        methods.append(accelerated(f"{attention[0]} + {name}", together))
    return methods


def margin(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> dict[str, float | None] | None:
    """What a method has over the plain pipeline with fewer steps at equal seconds; negative where that one is better.

    Args:
        row: The method's row of `bench_pipeline`.
        rows: All rows.

    Returns:
        `dict`: differences of PSNR in dB, SSIM and caption accuracy; None for the plain pipeline and what did not run.
    """
    steps = row.get("equal_seconds_steps")
    plain = [other for other in rows if other["name"].startswith(PLAIN.name) and other["steps"] == steps]
    if steps is None or not plain:
        return None
    return {
        quality: None if row[quality] is None or plain[0][quality] is None else row[quality] - plain[0][quality]
        for quality in QUALITIES
    }
