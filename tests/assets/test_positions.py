"""Finer positions are the coarse ones some channels further on, and a transformer can be moved along."""

import torch
from diffusers import PixArtTransformer2DModel

from hasten.assets.recipes.emoji_image.model import build_transformer, set_resolution
from hasten.assets.recipes.emoji_image.positions import moved_channels, places_between, refine_positions


def _transformer() -> PixArtTransformer2DModel:
    torch.manual_seed(0)
    transformer = build_transformer(heads=1, layers=2)
    for parameter in transformer.parameters():  # proj_out begins with zeros, which would agree with anything
        torch.nn.init.normal_(parameter, std=0.1)
    return transformer.eval().requires_grad_(False)


def _velocity(transformer: PixArtTransformer2DModel, latents: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return transformer(
        latents,
        encoder_hidden_states=torch.randn(1, 5, 128, generator=generator),
        timestep=torch.tensor([300.0]),
        added_cond_kwargs={"resolution": None, "aspect_ratio": None},
        return_dict=False,
    )[0]


def test_a_refined_transformer_computes_the_same_from_the_same_positions() -> None:
    coarse, latents = _transformer(), torch.randn(1, 8, 16, 16)
    fine = refine_positions(coarse, places=3)
    set_resolution(coarse, 64)
    set_resolution(fine, 64)
    known = coarse.pos_embed.pos_embed.clone()
    fine.pos_embed.pos_embed = known[..., moved_channels(coarse.inner_dim, 3)]
    expected = _velocity(coarse, latents)
    assert expected.std() > 0.1
    assert torch.allclose(_velocity(fine, latents), expected, atol=1e-5)


def test_the_refined_positions_are_the_known_ones_and_higher_frequencies() -> None:
    coarse = _transformer()
    fine = refine_positions(coarse, places=3)
    set_resolution(coarse, 384)
    set_resolution(fine, 384)
    before, after = (model.pos_embed.pos_embed[0].unflatten(1, (4, -1)) for model in (coarse, fine))
    assert torch.allclose(after[..., 3:], before[..., :-3], atol=1e-5)
    neighbours = [(table[1] - table[0]).norm() for table in (before, after)]
    assert neighbours[1] > 2 * neighbours[0]
    scales = coarse.config.interpolation_scale, fine.config.interpolation_scale
    assert places_between(*scales, coarse.inner_dim) == 3
