"""What a call of the pipeline asks for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from .schedule import Generators

OUTPUT_TYPES = ("np", "pt", "pil", "latent")

Prompt = str | list[str]
Callback = Callable[[Any, int, Tensor, dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class RolloutOptions:
    """The arguments of `SelfForcingWanPipeline.__call__`, where they are described."""

    prompt: Prompt | None = None
    negative_prompt: Prompt | None = None
    image: Any = None
    video: Any = None
    prompt_switches: Sequence[tuple[int, Prompt | Tensor]] = ()
    height: int | None = None
    width: int | None = None
    num_frames: int | None = None
    num_inference_steps: int | None = None
    denoising_steps: Sequence[float] | None = None
    guidance_scale: float = 1.0
    num_videos_per_prompt: int = 1
    generator: Generators = None
    latents: Tensor | None = None
    prompt_embeds: Tensor | None = None
    negative_prompt_embeds: Tensor | None = None
    output_type: str = "np"
    attention_kwargs: dict[str, Any] | None = None
    callback_on_step_end: Callback | None = None
    callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",)
    max_sequence_length: int | None = None

    @classmethod
    def of_call(cls, arguments: Mapping[str, Any]) -> "RolloutOptions":
        """Those that are among the arguments of a call, by name; there may be others."""
        return cls(**{option.name: arguments[option.name] for option in fields(cls)})

    @property
    def prompts(self) -> int:
        """How many prompts, or rows of embeddings, there are."""
        if self.prompt_embeds is not None:
            return self.prompt_embeds.shape[0]
        return len(self.prompt) if isinstance(self.prompt, list) else 1

    @property
    def videos(self) -> int:
        """How many videos are made."""
        return self.prompts * self.num_videos_per_prompt
