"""diffusers' caches on PixArt, which diffusers itself does not offer them for."""

from typing import Any

import pytest
import torch

from hasten.app.caches import (
    ATTENTION_MODULES,
    BLOCK_MODULES,
    first_block_cache,
    pyramid_attention_broadcast,
    taylorseer,
)
from hasten.app.flops import count_flops
from hasten.app.loading import LoadedModel

STEPS = 8

CACHES = {
    "first block": lambda denoiser: first_block_cache(denoiser, threshold=0.5),
    "taylorseer attention": lambda denoiser: taylorseer(denoiser, ATTENTION_MODULES),
    "taylorseer blocks": lambda denoiser: taylorseer(denoiser, BLOCK_MODULES),
    "pyramid": lambda denoiser: pyramid_attention_broadcast(denoiser, skip_range=2),
}


def generate(model: LoadedModel, caption: str = "a rocket on a blue background") -> tuple[torch.Tensor, float]:
    """Pixels and operations of one call."""
    arguments: dict[str, Any] = model.arguments(height=64, width=64, num_inference_steps=STEPS)
    with count_flops(model.denoiser) as count:
        generator = torch.Generator().manual_seed(0)
        pixels = model.pipe(caption, generator=generator, output_type="pt", **arguments).images
    return pixels, count.total()


@pytest.mark.parametrize("cache", CACHES.values(), ids=CACHES)
def test_a_cache_saves_work_and_is_gone_afterwards(emoji_image: LoadedModel, cache: Any) -> None:
    plain, plain_flops = generate(emoji_image)
    with cache(emoji_image.denoiser):
        cached, cached_flops = generate(emoji_image)
    again, again_flops = generate(emoji_image)
    other, _ = generate(emoji_image, "a cat on a red background")

    assert cached_flops < 0.97 * plain_flops
    assert not torch.equal(cached, plain)
    assert (cached - plain).abs().mean() < 0.6 * (other - plain).abs().mean()
    assert torch.equal(again, plain)
    assert again_flops == plain_flops
    assert not any(hasattr(module, "_diffusers_hook") for module in emoji_image.denoiser.modules())


def test_two_calls_in_a_row_start_afresh(emoji_image: LoadedModel) -> None:
    pictures = []
    for _ in range(2):
        with first_block_cache(emoji_image.denoiser, threshold=0.5):
            pictures.append(generate(emoji_image)[0])
    assert torch.equal(*pictures)


def test_a_cache_is_gone_after_an_error(emoji_image: LoadedModel) -> None:
    def fail() -> None:
        with taylorseer(emoji_image.denoiser, ATTENTION_MODULES):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not any(hasattr(module, "_diffusers_hook") for module in emoji_image.denoiser.modules())
