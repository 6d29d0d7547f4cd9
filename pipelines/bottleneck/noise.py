"""The clean picture and the noise in a denoiser's prediction, and how to add noise again."""

from typing import Literal, NamedTuple

from torch import Tensor

Prediction = Literal["flow", "inverted_flow", "epsilon", "v", "sample"]
"""What a denoiser predicts: ε - x̂0, x̂0 - ε (Mochi), ε, signal · ε - noise · x̂0 in units of variance one, or x̂0."""


class NoiseLevel(NamedTuple):
    """How much of the clean picture and of the noise is in x = signal · x̂0 + noise · ε.

    Flow matching has (1 - σ, σ), variance-preserving schedules (√ᾱ, √(1 - ᾱ)), Karras' variance-exploding ones (1, σ).
    """

    signal: float
    noise: float

    @property
    def share(self) -> float:
        """Share of noise, noise / (signal + noise): flow matching's σ at the same ratio of signal to noise."""
        return self.noise / (self.signal + self.noise)


def predict_x0(x: Tensor, output: Tensor, level: NoiseLevel, prediction: Prediction) -> Tensor:
    """The clean picture x̂0 that `output`, predicted at `x` (any shape), stands for."""
    signal, noise = level
    if prediction == "sample":
        return output
    if prediction == "flow":
        return (x - noise * output) / (signal + noise)
    if prediction == "inverted_flow":
        return (x + noise * output) / (signal + noise)
    if prediction == "epsilon":
        return (x - noise * output) / signal
    variance = signal**2 + noise**2
    return (signal * x - noise * variance**0.5 * output) / variance


def predict_noise(x: Tensor, x0: Tensor, level: NoiseLevel) -> Tensor:
    """The noise ε that is in `x` if `x0` is its clean picture."""
    return (x - level.signal * x0) / level.noise


def renoise(x0: Tensor, noise: Tensor, level: NoiseLevel) -> Tensor:
    """`x0` with `noise` of unit variance, at `level`."""
    return level.signal * x0 + level.noise * noise
