"""A tiny random stock pipeline, and calls that run it without text encoders."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from diffusers import DiffusionPipeline
from tiny_parts import NEGATIVE_PROMPTS, PROMPTS, Prompts, repeat
from torch import Tensor, nn

IMAGE_SIZES = ((128, 128), (96, 160))  # 8 x 8 and 6 x 10 tokens of 16 pixels
VIDEO_SIZES = ((96, 96), (64, 128))  # 6 x 6 and 4 x 8 tokens of 16 pixels
SELF_ATTENTION = r"transformer_blocks\.\d+\.attn1"
DOUBLE_AND_SINGLE = r"(single_)?transformer_blocks\.\d+\.attn"
TRUE_GUIDANCE = ("true_cfg_scale", 4.0, 1.0)


@dataclass(frozen=True)
class TinyPipeline:
    """
    A tiny random stock pipeline and the arguments of a valid call.

    Args:
        family: The family that the pipeline belongs to, such as `"flux"`.
        name: Unique name, made for the ids of pytest.
        assemble: Makes the pipeline from the global random state; call `build` instead.
        text: Makes the arguments that carry the prompts. For negative prompts their names are preceded by `negative_`.
        attention: Regular expression of the full names of the self-attention modules inside a denoiser.
        sizes: Two valid sizes, (height, width) in pixels: the native one, then one whose height is not its width.
        num_frames: Frames in pixel space, 3 in latent space; `None` for an image pipeline.
        first_frames: For image-to-video pipelines: one image for the whole batch (`"shared"`), or one each (`"own"`).
        options: Other keyword arguments of every call.
        guidance: Name of the argument that turns guidance on, its value when on, and its value when off.
        negative: Whether guidance needs negative prompts.
    """

    family: str
    name: str
    assemble: Callable[[], DiffusionPipeline]
    text: Callable[[Prompts], dict[str, Any]]
    attention: str
    sizes: tuple[tuple[int, int], tuple[int, int]] = IMAGE_SIZES
    num_frames: int | None = None
    first_frames: Literal["shared", "own"] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    guidance: tuple[str, float, float] = ("guidance_scale", 4.0, 1.0)
    negative: bool = True

    @property
    def video(self) -> bool:
        return self.num_frames is not None

    def build(self) -> DiffusionPipeline:
        """The pipeline; every call returns the same weights and leaves the global random state alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            pipeline = self.assemble()
        for component in pipeline.components.values():
            if isinstance(component, nn.Module):
                component.eval()
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def arguments(
        self, batch: int = 1, guidance: bool = True, height: int | None = None, width: int | None = None
    ) -> dict[str, Any]:
        """
        Keyword arguments for the pipeline: all but `num_inference_steps`, `generator` and `output_type`.

        Tensors are on the CPU and in float32; `match` adapts them to another pipeline. The prompts of a batch differ in
        their length, and where the family takes a mask it says so; the first prompt is also that of a batch of one.
        Without guidance there are no negative prompts.
        """
        native_height, native_width = self.sizes[0]
        arguments = {**self.options, "height": height or native_height, "width": width or native_width}
        if self.num_frames is not None:
            arguments["num_frames"] = self.num_frames
        if self.first_frames is not None:
            images = 1 if self.first_frames == "shared" else batch
            shape = (images, 3, arguments["height"], arguments["width"])
            arguments["image"] = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        arguments |= self.text(repeat(PROMPTS, batch))
        if guidance and self.negative:
            negative = self.text(repeat(NEGATIVE_PROMPTS, batch))
            arguments |= {f"negative_{name}": value for name, value in negative.items()}
        name, on, off = self.guidance
        arguments[name] = on if guidance else off
        return arguments


def generate(
    tiny: TinyPipeline,
    pipeline: DiffusionPipeline,
    *,
    batch: int = 1,
    guidance: bool = True,
    height: int | None = None,
    width: int | None = None,
    seed: int = 0,
    **overrides: Any,
) -> Tensor:
    """Runs `pipeline` for 6 steps with fixed noise, or as `overrides` say, and returns the latents as it gives them."""
    arguments = tiny.arguments(batch, guidance, height, width)
    arguments |= {"num_inference_steps": 6, "output_type": "latent", "generator": torch.Generator().manual_seed(seed)}
    output = pipeline(**match(arguments | overrides, pipeline))
    return output.frames if tiny.video else output.images


def match(arguments: Mapping[str, Any], pipeline: DiffusionPipeline) -> dict[str, Any]:
    """The arguments with tensors on the device of `pipeline`, floating-point ones in the dtype of its denoiser."""
    device, dtype = pipeline.transformer.device, pipeline.transformer.dtype

    def convert(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(device, dtype if value.is_floating_point() else None)
        if isinstance(value, list):
            return [convert(item) for item in value]
        return value

    return {name: convert(value) for name, value in arguments.items()}


def sharpen(pipeline: DiffusionPipeline, module_names_regex: str) -> None:
    """
    Makes attention peaked, and its output a large part of what its block adds. Works in place.

    Queries and keys are scaled where their scale counts: in the weights of their norms, or of their projections where
    there are no norms.

    Args:
        pipeline: The pipeline; both denoisers of Wan 2.2 are treated.
        module_names_regex: Regular expression of the full names of attention modules, such as `TinyPipeline.attention`.

    Raises:
        ValueError: no module has such a name.
    """
    modules = list(_attention_modules(pipeline, module_names_regex))
    if not modules:
        raise ValueError(f"No module of {type(pipeline).__name__} is called {module_names_regex!r}.")
    with torch.no_grad():
        for attention, output in modules:
            names = ("norm_q", "norm_k", "norm_added_q", "norm_added_k")
            norms = [norm for name in names if (norm := getattr(attention, name, None)) is not None]
            for norm in norms:
                norm.weight.mul_(2)
            for projection in () if norms else (attention.to_q, attention.to_k):
                projection.weight.mul_(8)
            output.weight[:, : attention.inner_dim].mul_(8)


def _attention_modules(pipeline: DiffusionPipeline, pattern: str) -> Iterator[tuple[Any, nn.Linear]]:
    """The attention modules whose names match, each with the layer that projects its output."""
    for denoiser in (pipeline.transformer, pipeline.components.get("transformer_2")):
        for name, module in denoiser.named_modules() if denoiser is not None else ():
            if re.fullmatch(pattern, name):
                output = getattr(module, "to_out", None)
                if output is None:  # single-stream blocks project attention, then MLP, with one layer of the block
                    output = denoiser.get_submodule(name.rpartition(".")[0]).proj_out
                yield module, output[0] if isinstance(output, nn.ModuleList) else output
