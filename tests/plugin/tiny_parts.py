"""What the tiny pipelines are put together from: their sizes, and random embeddings that stand for texts."""

import inspect
from typing import Any, NamedTuple

import torch
from diffusers import DiffusionPipeline
from torch import Tensor

HEADS = 2
HEAD_DIM = 16
HEAD_SHAPE = {"num_attention_heads": HEADS, "attention_head_dim": HEAD_DIM}
WIDTH = HEADS * HEAD_DIM
LATENT_CHANNELS = 4
MOCHI_CHANNELS = 12  # its pipeline takes no other number
TEXT_CHANNELS = 32
TEXT_TOKENS = 8


class Prompt(NamedTuple):
    """What stands for a text: how many tokens it has, and the seed of its random embedding."""

    tokens: int
    seed: int


PROMPTS = (Prompt(5, seed=1), Prompt(TEXT_TOKENS, seed=2))
NEGATIVE_PROMPTS = (Prompt(3, seed=3), Prompt(6, seed=4))

Prompts = tuple[Prompt, ...]


def stock(pipeline_class: type[DiffusionPipeline], **components: Any) -> DiffusionPipeline:
    """A pipeline with these components; the others that it asks for are `None`."""
    parameters = inspect.signature(pipeline_class).parameters.values()
    missing = {parameter.name: None for parameter in parameters if parameter.default is parameter.empty}
    return pipeline_class(**{**missing, **components})


def repeat(prompts: Prompts, batch: int) -> Prompts:
    return tuple(prompts[row % len(prompts)] for row in range(batch))


def embeddings(prompts: Prompts, tokens: int = TEXT_TOKENS) -> Tensor:
    """Random embeddings [B, tokens, channels]; padding is not zero, as text encoders return it."""
    generators = [torch.Generator().manual_seed(prompt.seed) for prompt in prompts]
    return torch.stack([torch.randn(tokens, TEXT_CHANNELS, generator=generator) for generator in generators])


def mask(prompts: Prompts, tokens: int = TEXT_TOKENS) -> Tensor:
    """Attention mask [B, tokens] as tokenizers give it: 1 for tokens, 0 for padding."""
    lengths = torch.tensor([prompt.tokens for prompt in prompts])
    return (torch.arange(tokens) < lengths[:, None]).long()


def plain_text(prompts: Prompts) -> dict[str, Any]:
    return {"prompt_embeds": embeddings(prompts)}


def pooled_text(prompts: Prompts) -> dict[str, Any]:
    return {"prompt_embeds": embeddings(prompts), "pooled_prompt_embeds": embeddings(prompts, tokens=1)[:, 0]}


def masked_text(prompts: Prompts) -> dict[str, Any]:
    return {"prompt_embeds": embeddings(prompts), "prompt_attention_mask": mask(prompts)}


def bool_masked_text(prompts: Prompts) -> dict[str, Any]:
    return {"prompt_embeds": embeddings(prompts), "prompt_attention_mask": mask(prompts).bool()}
