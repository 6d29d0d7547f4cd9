"""What acceleration would do to a call, told before it runs."""

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from hasten.pipelines.kv_cache import Smaller

from .methods.rettention_config import RettentionConfig
from .recipe import Recipe
from .report import StepKind


class LayerPlan(NamedTuple):
    """One self-attention layer: its tokens, why it stays dense, if it does, and else what a visual token sees."""

    name: str
    tokens: int
    stays_dense: str | None
    window: str | None = None


class StagePlan(NamedTuple):
    """Steps at one resolution: `size` in pixels, visual tokens, cost of a dense step in full ones, noise of each step.

    `sigmas` are shares of noise, noise / (signal + noise), which is flow matching's σ. `notices` are what a user should
    know about the stage; `seconds` those of a dense step, where they were measured.
    """

    size: tuple[int, int]
    tokens: int
    steps: int
    cost: float
    sigmas: tuple[float, ...]
    notices: tuple[str, ...] = ()
    seconds: float | None = None


class CachePlan(NamedTuple):
    """The cache of a chunk-wise video, and its bytes in one context; classifier-free guidance has two.

    `window_frames` are latent frames, the chunk and `sink_frames` among them; `nbytes` is what real tensors take,
    `exact_bytes` what the same window takes in 16 bits, `layer_bytes` the share of each layer, `smaller` the next
    smaller method, if there is one. `notices` are what a user should know of how the method fits the model.
    """

    method: str
    description: str
    window_frames: int
    sink_frames: int
    chunk_frames: int
    chunks: int
    nbytes: int
    exact_bytes: int
    layer_bytes: tuple[int, ...]
    smaller: Smaller | None
    notices: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        """How many times fewer bytes than the same window in 16 bits."""
        return self.exact_bytes / self.nbytes

    def in_contexts(self, count: int) -> "CachePlan":
        """The plan with the bytes of so many contexts: one of a call without classifier-free guidance, two with it."""
        smaller = self.smaller and self.smaller._replace(nbytes=count * self.smaller.nbytes)
        return self._replace(
            nbytes=count * self.nbytes,
            exact_bytes=count * self.exact_bytes,
            layer_bytes=tuple(count * nbytes for nbytes in self.layer_bytes),
            smaller=smaller,
        )


@dataclass(frozen=True)
class Explanation:
    """
    What acceleration would do to one pipeline call.

    Args:
        family (`str`):
            Model family.
        recipe (`Recipe`):
            What would be enabled.
        steps (`tuple[StepKind, ...]`):
            What each step computes. With a `refresh_threshold` that is known only of a run in which nothing exceeds it;
            others refresh more often.
        layers (`tuple[LayerPlan, ...]`):
            The self-attention layers.
        sparse_density (`float`):
            Share of the query-key pairs that an accelerated layer computes in a sparse step.
        density (`float`):
            Mean share over all steps and layers; the report of the call measures the same figure.
        attention_share (`float`):
            g: share of self-attention in the denoiser's FLOPs; what is counted is self-attention and linear layers on
            image tokens.
        kernel_efficiency (`float`):
            η: the assumption of the estimate.
        expected_saving (`float`):
            Estimated share of the denoiser's time that is saved: without stages g · (1 - density) · η, with stages by
            the FLOPs of every step, so that nothing counts twice.
        expected_speedup (`float`):
            The same as a ratio, 1 / (1 - `expected_saving`).
        state_bytes (`int`):
            Bytes of cached tensors, with classifier-free guidance.
        stages (`tuple[StagePlan, ...]`, defaults to `()`):
            The stages of Bottleneck Sampling.
        predicted_seconds (`float`, *optional*):
            Seconds in the denoiser, from a measured dense step at each resolution; what a sparse step saves of it is
            estimated as above.
        plain_seconds (`float`, *optional*):
            Seconds in the denoiser without acceleration, from the same measurement.
        kv_cache (`CachePlan`, *optional*):
            The cache, for pipelines that generate chunk by chunk: steps are those of all chunks, layers have as many
            tokens as a chunk attends to, and no time is expected to be saved.
        left_out (`str`, *optional*):
            Why the stages that the recipe's speed asks for are left out.
    """

    family: str
    recipe: Recipe
    steps: tuple[StepKind, ...]
    layers: tuple[LayerPlan, ...]
    sparse_density: float
    density: float
    attention_share: float
    kernel_efficiency: float
    expected_saving: float
    expected_speedup: float
    state_bytes: int
    stages: tuple[StagePlan, ...] = ()
    predicted_seconds: float | None = None
    plain_seconds: float | None = None
    kv_cache: CachePlan | None = None
    left_out: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The explanation as JSON-able values."""
        layers = [layer._asdict() for layer in self.layers]
        stages = [stage._asdict() for stage in self.stages]
        own = {"recipe": self.recipe.to_dict(), "steps": list(self.steps), "layers": layers, "stages": stages}
        cache = {**self.kv_cache._asdict(), "ratio": self.kv_cache.ratio} if self.kv_cache else None
        return {**asdict(self), **own, "kv_cache": cache}

    def __str__(self) -> str:
        if self.kv_cache:
            return "\n".join(_cache_lines(self, self.kv_cache))
        accelerated = self.layers if self.recipe.attention else ()
        dense = [f"  {layer.name} stays dense: {layer.stays_dense}" for layer in accelerated if layer.stays_dense]
        tokens = " or ".join(f"{count:,}" for count in sorted({layer.tokens for layer in self.layers}))
        windows = dict.fromkeys(layer.window for layer in self.layers if layer.window)
        letters = "".join({"dense": "D", "refresh": "R", "sparse": "."}[kind] for kind in self.steps)
        stages = [line for index, stage in enumerate(self.stages, 1) for line in _stage_lines(index, stage)]
        predicted = []
        if self.predicted_seconds and self.plain_seconds:
            predicted.append(
                f"predicted: {self.predicted_seconds:.2f} s in the denoiser, {self.plain_seconds:.2f} s without "
                f"acceleration, speed-up {self.plain_seconds / self.predicted_seconds:.2f}× (dense steps measured)"
            )
        return "\n".join(
            [
                f"{self.family}: {len(self.layers)} self-attention layers of {tokens} tokens",
                *([self.left_out] if self.left_out else []),
                *stages,
                *dense,
                *(f"window: {window}" for window in windows),
                f"steps: {letters}   (D dense, R refresh, . sparse)",
                *_change_lines(self.recipe.attention),
                f"density: {self.sparse_density:.4f} in a sparse step, {self.density:.4f} over the call",
                f"expected saving: {self.expected_saving:.1%} of the denoiser's time, speed-up "
                f"{self.expected_speedup:.2f}× (self-attention is {self.attention_share:.1%} of it, "
                f"{1 - self.density:.1%} of that is left out, "
                f"kernel efficiency assumed {self.kernel_efficiency:.0%})",
                *predicted,
                f"cached state: {self.state_bytes:,} bytes",
            ]
        )


def _change_lines(attention: RettentionConfig | None) -> list[str]:
    if attention is None or not attention.refreshes_on_change:
        return []
    return [
        f"  steps also refresh where outputs have changed by more than {attention.refresh_threshold}, so that the "
        "schedule is not known ahead; what follows is the least cost"
    ]


def _cache_lines(explanation: Explanation, cache: CachePlan) -> list[str]:
    layers = explanation.layers
    least, most = min(cache.layer_bytes), max(cache.layer_bytes)
    each = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    steps = len(explanation.steps) // cache.chunks
    return [
        f"KV cache {cache.method}: {cache.description}",
        f"window: {cache.window_frames} latent frames, {cache.chunk_frames} of them the chunk and {cache.sink_frames} "
        f"sinks; {layers[0].tokens:,} tokens",
        f"layers: all {len(layers)}, {layers[0].name} to {layers[-1].name}, {each} bytes each",
        f"bytes: {cache.nbytes:,}, {cache.ratio:.2f}× fewer than {cache.exact_bytes:,} in 16 bits; "
        "twice that with classifier-free guidance",
        f"video: {cache.chunks} chunks of {steps} steps; the bytes do not grow with it",
        *(f"note: {notice}" for notice in cache.notices),
        *([f"next smaller: {cache.smaller.method}, {cache.smaller.nbytes:,} bytes"] if cache.smaller else []),
    ]


def _stage_lines(index: int, stage: StagePlan) -> list[str]:
    measured = "" if stage.seconds is None else f" ({stage.seconds:.3f} s)"
    return [
        f"stage {index}: {stage.steps} steps at {stage.size[1]} × {stage.size[0]} pixels, {stage.tokens:,} tokens, "
        f"{stage.cost:.1%} of a full step each{measured}; σ " + " ".join(f"{sigma:.3f}" for sigma in stage.sigmas),
        *(f"  note: {notice}" for notice in stage.notices),
    ]
