"""Densities of single blocks: what they do to a run, and how they are found."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from rettention_oracle import OracleAttention, OracleProcessor

import hasten
from hasten import AccelerationError, RettentionConfig
from hasten.calibration import Level, share_out

CONFIG = RettentionConfig(density=0.2, dense_steps=2, refresh_interval=3)


def test_each_block_gets_windows_of_its_own_density(make_pipeline: Callable[..., Any], generate: Any) -> None:
    pipeline = make_pipeline().to(torch.float64)
    densities = (0.4, 0.1)
    pipeline.enable_acceleration(
        attention=RettentionConfig(dense_steps=2, refresh_interval=3, ratio_increment=0.3, block_densities=densities)
    )
    accelerated = generate(pipeline)
    pipeline.disable_acceleration()
    for block, density in zip(pipeline.transformer.transformer_blocks, densities, strict=True):
        oracle = OracleAttention("DDRSSRSS", int(64 * density) // 2, "reshape", ratio_increment=0.3, slope_damping=0.0)
        block.attn1.processor = OracleProcessor(oracle)
    torch.testing.assert_close(accelerated, generate(pipeline), rtol=0, atol=1e-9)


def test_the_best_shares_are_found_where_gains_shrink() -> None:
    ladders = {
        block: [Level(d, d, (2 + block) * d ** (0.3 + 0.2 * block)) for d in (0.1, 0.2, 0.3, 0.4)] for block in range(3)
    }
    chosen = share_out(ladders, budget=0.6)
    mass = {(block, level.density): level.mass for block, ladder in ladders.items() for level in ladder}
    possible = [shares for shares in product((0.1, 0.2, 0.3, 0.4), repeat=3) if sum(shares) <= 0.6 + 1e-9]
    best = max(possible, key=lambda shares: sum(mass[block, share] for block, share in enumerate(shares)))
    assert chosen == dict(enumerate(best))
    assert len(set(best)) > 1


def test_a_step_up_that_pays_only_at_its_end_is_taken() -> None:
    ladders = {0: [Level(0.1, 0.1, 0.0), Level(0.2, 0.2, 0.0), Level(0.3, 0.3, 0.9)], 1: [Level(0.1, 0.1, 0.1)]}
    assert share_out(ladders, budget=0.4) == {0: 0.3, 1: 0.1}


def test_calibration_gives_more_to_the_block_that_gains_by_it(
    make_pipeline: Callable[..., Any], generate: Callable[..., Any]
) -> None:
    pipeline = make_pipeline()
    even, peaked = (block.attn1 for block in pipeline.transformer.transformer_blocks)
    torch.nn.init.zeros_(even.to_q.weight)  # every token counts the same, so each further one gains as much
    torch.nn.init.zeros_(even.to_q.bias)
    peaked.to_k.load_state_dict(peaked.to_q.state_dict())  # a token sees itself, so the smallest window has it all
    peaked.to_q.weight.data.mul_(1e4)
    plain = generate(pipeline)
    during = []
    calibrated = hasten.calibrate(pipeline, CONFIG, lambda: during.append(generate(pipeline)))
    assert calibrated.block_densities[0] > CONFIG.density > calibrated.block_densities[1]
    assert calibrated.block_densities[1] <= CONFIG.density / 2
    assert torch.equal(during[0], plain)
    assert torch.equal(generate(pipeline), plain)
    pipeline.enable_acceleration(attention=CONFIG)
    generate(pipeline)
    uniform = pipeline.acceleration_report().density
    pipeline.enable_acceleration(attention=calibrated)
    generate(pipeline)
    assert pipeline.acceleration_report().density <= uniform + 1e-9


def test_calibration_leaves_the_pipeline_as_it_was_after_an_error(
    make_pipeline: Callable[..., Any], generate: Callable[..., Any]
) -> None:
    pipeline = make_pipeline()
    plain = generate(pipeline)

    def fail() -> None:
        generate(pipeline, num_inference_steps=4)
        raise RuntimeError("the prompts ran out")

    with pytest.raises(RuntimeError, match="the prompts ran out"):
        hasten.calibrate(pipeline, CONFIG, fail)
    assert torch.equal(generate(pipeline), plain)


def test_calibration_refuses_what_it_cannot_measure(
    make_pipeline: Callable[..., Any], generate: Callable[..., Any]
) -> None:
    pipeline = make_pipeline()
    with pytest.raises(AccelerationError, match="No step of the calls that were made for calibration is a refresh"):
        hasten.calibrate(pipeline, RettentionConfig(dense_steps=8), lambda: generate(pipeline))
    pipeline.enable_acceleration()
    with pytest.raises(AccelerationError, match=r"accelerated; call disable_acceleration\(\)"):
        hasten.calibrate(pipeline, CONFIG, lambda: generate(pipeline))


def test_densities_that_do_not_fit_the_model_are_refused(make_pipeline: Callable[..., Any]) -> None:
    with pytest.raises(AccelerationError, match=r"block_densities are 3, but this model has 2 blocks"):
        make_pipeline().enable_acceleration(attention=RettentionConfig(block_densities=(0.1, 0.2, 0.3)))


@pytest.mark.parametrize("densities", [(0.1, 0.0), (1.1,), (0.1, "a"), [0.1]], ids=str)
def test_densities_out_of_bounds_are_refused(densities: Any) -> None:
    with pytest.raises(AccelerationError, match=r"give a tuple of which each is a number in \(0, 1\]"):
        RettentionConfig(block_densities=densities)


def test_densities_travel_in_a_recipe(tmp_path: Any) -> None:
    recipe = hasten.Recipe(attention=RettentionConfig(block_densities=(0.1, 0.2)))
    recipe.save(tmp_path / "recipe.json")
    assert hasten.Recipe.load(tmp_path / "recipe.json") == recipe
