from collections.abc import Iterator

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hasten.app.flops import count_flops
from hasten.app.loading import LoadedModel


@pytest.fixture
def inputs(emoji_image: LoadedModel) -> Iterator[dict[str, torch.Tensor]]:
    """Two rows of a picture of 64 tokens, as classifier-free guidance makes them."""
    config = emoji_image.denoiser.config
    side = 8 * config.patch_size
    with torch.no_grad():
        yield {
            "hidden_states": torch.randn(2, config.in_channels, side, side),
            "encoder_hidden_states": torch.randn(2, 16, config.caption_channels),
            "timestep": torch.tensor([500, 500]),
        }


def test_count_agrees_with_torchs_own_counter(emoji_image: LoadedModel, inputs: dict[str, torch.Tensor]) -> None:
    with FlopCounterMode(display=False) as oracle, sdpa_kernel(SDPBackend.MATH):
        emoji_image.denoiser(**inputs)
    with count_flops(emoji_image.denoiser) as count:
        emoji_image.denoiser(**inputs)
    assert count.total() == pytest.approx(oracle.get_total_flops(), rel=1e-6)


def test_density_scales_self_attention_alone(emoji_image: LoadedModel, inputs: dict[str, torch.Tensor]) -> None:
    with count_flops(emoji_image.denoiser) as count:
        emoji_image.denoiser(**inputs)
    config = emoji_image.denoiser.config
    rows, tokens, channels = 2, 64, config.num_attention_heads * config.attention_head_dim
    self_attention = config.num_layers * 4 * rows * tokens**2 * channels
    assert count.total(1.0) - count.total(0.25) == pytest.approx(0.75 * self_attention)


def test_counting_leaves_no_hook(emoji_image: LoadedModel, inputs: dict[str, torch.Tensor]) -> None:
    with count_flops(emoji_image.denoiser) as count:
        pass
    emoji_image.denoiser(**inputs)
    assert count.total() == 0
    assert not any(module._forward_hooks for module in emoji_image.denoiser.modules())
