"""Bottleneck Sampling without weights: identities of noise, resizes, transitions, shifts and costs."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import FlowMatchEulerDiscreteScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hasten.pipelines.bottleneck import (
    LINEAR_MU,
    Container,
    NoiseLevel,
    Stage,
    TransformerFlops,
    carry_noise,
    pack,
    predict_noise,
    predict_x0,
    renoise,
    resize,
    shift_of_mu,
    shifted,
    snr_matched,
    speedup,
    stage_sigmas,
    unpack,
)
from hasten.pipelines.bottleneck.dynamic_shift import stage_mu
from hasten.pipelines.bottleneck.transitions import matched_picture, matched_state

shares = st.floats(0.05, 0.95)
shifts = st.floats(0.1, 20)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(sigma=shares)
@settings(max_examples=20)
def test_x0_and_noise_are_found_in_every_parametrisation(sigma: float) -> None:
    x0, noise = normal(2, 3, 4), normal(2, 3, 4, seed=1)
    alpha = (1 - sigma**2) ** 0.5
    karras = sigma * 10
    in_units = 1 / (1 + karras**2) ** 0.5
    cases = [
        ("flow", (1 - sigma) * x0 + sigma * noise, noise - x0, NoiseLevel(1 - sigma, sigma)),
        ("inverted_flow", sigma * x0 + (1 - sigma) * noise, x0 - noise, NoiseLevel(sigma, 1 - sigma)),
        ("epsilon", alpha * x0 + sigma * noise, noise, NoiseLevel(alpha, sigma)),
        ("v", alpha * x0 + sigma * noise, alpha * noise - sigma * x0, NoiseLevel(alpha, sigma)),
        ("epsilon", x0 + karras * noise, noise, NoiseLevel(1, karras)),
        ("v", x0 + karras * noise, in_units * noise - karras * in_units * x0, NoiseLevel(1, karras)),
        ("sample", alpha * x0 + sigma * noise, x0, NoiseLevel(alpha, sigma)),
    ]
    for kind, state, output, level in cases:
        torch.testing.assert_close(predict_x0(state, output, level, kind), x0)
        torch.testing.assert_close(predict_noise(state, x0, level), noise)
        torch.testing.assert_close(renoise(x0, noise, level), state)


@pytest.mark.parametrize("shape", [(2, 3, 8, 12), (2, 3, 5, 8, 12)])
@pytest.mark.parametrize("interpolation", ["lanczos", "bicubic", "bilinear", "nearest", "area"])
@pytest.mark.parametrize("size", [(4, 6), (6, 9), (8, 12), (16, 24), (7, 30)])
def test_a_resize_keeps_constants_and_touches_neither_frames_nor_channels(
    shape: tuple[int, ...], interpolation: str, size: tuple[int, int]
) -> None:
    levels = normal(*shape[:-2], 1, 1)
    resized = resize(levels.expand(shape), size, interpolation)
    torch.testing.assert_close(resized, levels.expand(*shape[:-2], *size))


@pytest.mark.parametrize(("size", "pillow"), [((9, 5), (5, 9)), ((31, 40), (40, 31))])
def test_lanczos_is_pillows(size: tuple[int, int], pillow: tuple[int, int]) -> None:
    x = normal(20, 14).float()
    expected = Image.fromarray(x.numpy(), mode="F").resize(pillow, Image.Resampling.LANCZOS)
    torch.testing.assert_close(
        resize(x[None, None], size)[0, 0], torch.from_numpy(np.array(expected)), atol=1e-5, rtol=0
    )


@given(full=st.tuples(*[st.integers(1, 20)] * 2), data=st.data())
@settings(max_examples=40)
def test_a_container_gives_back_what_is_in_it(full: tuple[int, int], data: st.DataObject) -> None:
    small = tuple(data.draw(st.integers(1, side)) for side in full)
    x = normal(2, *small)
    container = Container(full, small)  # type: ignore[arg-type]
    torch.testing.assert_close(container.expand(x), F.interpolate(x[None], size=full, mode="nearest")[0])
    assert torch.equal(container.reduce(container.expand(x)), x)


def test_packing_is_that_of_flux() -> None:
    from diffusers import FluxPipeline

    latents = normal(2, 4, 6, 10)
    packed = FluxPipeline._pack_latents(latents, 2, 4, 6, 10)
    assert torch.equal(unpack(packed, (3, 5), 2)[:, 0], latents)
    assert torch.equal(pack(unpack(packed, (3, 5), 2), 2), packed)


def test_packing_is_that_of_ltx() -> None:
    from diffusers import LTXPipeline

    latents = normal(2, 4, 3, 6, 10)
    packed = LTXPipeline._pack_latents(latents)
    assert torch.equal(unpack(packed, (6, 10), 1).transpose(1, 2), latents)
    assert torch.equal(pack(unpack(packed, (6, 10), 1), 1), packed)


SIZES = [((4, 4), (8, 8)), ((4, 6), (8, 18)), ((3, 4), (4, 5)), ((6, 8), (3, 4)), ((5, 8), (4, 6)), ((4, 4), (4, 4))]


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_carried_noise_stays_white(old: tuple[int, int], new: tuple[int, int]) -> None:
    """The map is linear in the old and the fresh noise, so its covariance is M Mᵀ, exactly."""
    olds, news = (height * width for height, width in (old, new))
    from_old = carry_noise(torch.eye(olds, dtype=torch.float64).reshape(olds, *old), torch.zeros(olds, *new).double())
    from_new = carry_noise(torch.zeros(news, *old).double(), torch.eye(news, dtype=torch.float64).reshape(news, *new))
    matrix = torch.cat([from_old, from_new]).flatten(1)
    torch.testing.assert_close(matrix.T @ matrix, torch.eye(news, dtype=torch.float64))


def test_carried_noise_keeps_the_means_of_blocks() -> None:
    noise, fresh = normal(4, 4), normal(8, 8, seed=1)
    carried = carry_noise(noise, fresh)
    torch.testing.assert_close(F.avg_pool2d(carried[None, None], 2)[0, 0] * 2, noise)
    torch.testing.assert_close(carry_noise(carried, torch.zeros(4, 4).double()), noise)


@pytest.mark.parametrize(("old", "new"), SIZES)
@pytest.mark.parametrize("sigma", [0.3, 0.8])
def test_the_matched_transition_is_the_forward_process_of_a_flat_picture(
    old: tuple[int, int], new: tuple[int, int], sigma: float
) -> None:
    olds, news = (height * width for height, width in (old, new))
    none_old, none_new = torch.zeros(olds, *new).double(), torch.zeros(news, *old).double()
    from_old, new_sigma = snr_matched(sigma * torch.eye(olds).double().reshape(olds, *old), sigma, none_old)
    from_new, _ = snr_matched(none_new, sigma, torch.eye(news).double().reshape(news, *new))
    matrix = torch.cat([from_old, from_new]).flatten(1)
    torch.testing.assert_close(matrix.T @ matrix, new_sigma**2 * torch.eye(news).double())
    flat, _ = snr_matched((1 - sigma) * torch.ones(old).double(), sigma, torch.zeros(new).double())
    torch.testing.assert_close(flat, (1 - new_sigma) * torch.ones(new).double())
    ratio = (news / olds) ** 0.5
    assert new_sigma == pytest.approx(shifted(sigma, ratio))


def test_the_matched_transition_has_the_published_levels() -> None:
    for sigma, lower in {0.95: 0.905, 0.9: 0.818, 0.8: 0.667}.items():
        assert snr_matched(normal(4, 4), sigma, normal(2, 2))[1] == pytest.approx(lower, abs=5e-4)
    for sigma, higher in {0.6: 0.75, 0.8: 0.889, 0.9: 0.947}.items():
        assert snr_matched(normal(2, 2), sigma, normal(4, 4))[1] == pytest.approx(higher, abs=5e-4)


@pytest.mark.parametrize(("old", "new"), SIZES)
@pytest.mark.parametrize(("end", "start"), [(0.5, 0.9), (0.5, 0.5), (0.9, 0.2), (0.7, 1.0)])
def test_a_matched_state_has_white_noise_of_the_level_that_is_asked_for(
    old: tuple[int, int], new: tuple[int, int], end: float, start: float
) -> None:
    olds, news = (height * width for height, width in (old, new))
    eye_old, eye_new = torch.eye(olds).double().reshape(olds, *old), torch.eye(news).double().reshape(news, *new)
    none_old, none_new = torch.zeros(news, *old).double(), torch.zeros(news, *new).double()
    from_noise = matched_state(torch.zeros_like(eye_old), eye_old, end, start, torch.zeros(olds, *new).double(), 0)
    from_fresh = matched_state(none_old, none_old, end, start, eye_new, none_new)
    from_more = matched_state(none_old, none_old, end, start, none_new, eye_new)
    matrix = torch.cat([from_noise, from_fresh, from_more]).flatten(1)
    torch.testing.assert_close(matrix.T @ matrix, start**2 * torch.eye(news).double())
    ones, none = torch.ones(1, *old).double(), torch.zeros(1, *new).double()
    flat = matched_state(ones, torch.zeros_like(ones), end, start, none, none)
    torch.testing.assert_close(flat, (1 - start) * torch.ones(1, *new).double())
    ratio = (news / olds) ** 0.5
    reached = ratio * end / (1 - end + ratio * end)  # where the state at the end of the stage would lead
    if reached >= start:
        assert from_more.abs().max() < 1e-7
    else:
        assert from_more.abs().max() > 0.01


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_a_matched_picture_is_what_the_state_holds_beside_its_noise(old: tuple[int, int], new: tuple[int, int]) -> None:
    x0, none = normal(1, *old), torch.zeros(1, *new).double()
    state, sigma = snr_matched(0.4 * x0, 0.6, none)
    torch.testing.assert_close(matched_picture(x0, new), state / (1 - sigma))


@given(time=shares, first=shifts, second=shifts)
def test_shifts_are_a_group(time: float, first: float, second: float) -> None:
    assert shifted(shifted(time, first), second) == pytest.approx(shifted(time, first * second))
    assert shifted(shifted(time, first), 1 / first) == pytest.approx(time)
    odds = time / (1 - time)
    assert shifted(time, first) == pytest.approx(first * odds / (1 + first * odds))


@given(shift=shifts)
def test_a_shift_keeps_the_ends(shift: float) -> None:
    assert shifted(0.0, shift) == 0
    assert shifted(1.0, shift) == pytest.approx(1)


def test_a_dynamic_mu_is_a_shift() -> None:
    assert shift_of_mu(1.15) == pytest.approx(3.158, abs=5e-4)
    assert shift_of_mu(3, "linear") == 3


@given(tokens=st.integers(1, 65536), high=st.sampled_from([1.15, 0.9]))
def test_the_tokens_of_a_mu_on_a_line_are_found(tokens: int, high: float) -> None:
    config = {"max_shift": high}
    mu = LINEAR_MU.mu(config, tokens, 50)
    assert mu == pytest.approx(0.5 + (high - 0.5) * (tokens - 256) / 3840)
    assert LINEAR_MU.tokens(config, mu, 50) == pytest.approx(tokens)


def test_a_mu_that_is_the_same_for_all_sizes_is_that_of_every_stage() -> None:
    config = {"base_shift": 1.1, "max_shift": 1.1}
    assert stage_mu(LINEAR_MU, config, 1.1, Stage(3, 0.5), 6) == 1.1


def test_the_published_flux_stages_have_the_published_levels() -> None:
    stages = [(6, 1, 9), (20, 0.8, 6), (8, 0.6, 9)]
    first, second, third = (stage_sigmas(Stage(n, start=t, shift=s), 3.0)[:-1] for n, t, s in stages)
    assert first == pytest.approx([1, 0.978, 0.947, 0.900, 0.818, 0.643], abs=5e-4)
    assert (len(second), len(third)) == (20, 8)
    assert (second[0], third[0], third[-1]) == pytest.approx((0.960, 0.931, 0.422), abs=5e-4)


def test_the_published_hunyuan_video_stages_have_the_published_levels() -> None:
    stages = [(4, 1, 7), (24, 0.8, 9), (16, 0.7, 9)]
    first, second, third = (stage_sigmas(Stage(n, start=t, shift=s), 7.0)[:-1] for n, t, s in stages)
    assert first == pytest.approx([1, 0.955, 0.875, 0.70], abs=5e-4)
    assert (second[0], third[0]) == pytest.approx((0.973, 0.955), abs=6e-4)


def test_a_stage_follows_the_law_of_its_pipeline() -> None:
    law = np.array([1, 0.9, 0.7, 0.4])
    assert stage_sigmas(Stage(4), 1.0, law) == pytest.approx([*law, 0])
    assert stage_sigmas(Stage(2), 1.0, law) == pytest.approx([*law[::2], 0])
    assert stage_sigmas(Stage(2, start=0.7), 1.0, law) == pytest.approx([0.7, 0.4, 0])
    assert stage_sigmas(Stage(2, start=0.9, end=0.4), 1.0) == pytest.approx([0.9, 0.65, 0.4])


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_stage_is_a_part_of_a_run_that_is_stretched_to_its_last_level(shift: float) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift, shift_terminal=0.1)
    scheduler.set_timesteps(sigmas=[1, 0.75, 0.5, 0.25])
    whole = scheduler.sigmas.numpy()
    assert whole[-2] == pytest.approx(0.1)
    assert stage_sigmas(Stage(4), shift, terminal=0.1) == pytest.approx(whole, abs=1e-6)
    assert stage_sigmas(Stage(3, start=0.75), shift, terminal=0.1) == pytest.approx(whole[1:], abs=1e-6)
    assert stage_sigmas(Stage(2, start=0.75, end=0.25), shift, terminal=0.1) == pytest.approx(whole[1:4], abs=1e-6)


def test_a_single_step_from_pure_noise_is_not_stretched() -> None:
    assert stage_sigmas(Stage(1), 3.0, terminal=0.1) == pytest.approx([1, 0])


def test_flops_are_those_of_the_paper() -> None:
    """The paper counts 3,719.50 TFLOPs for 50 steps of FLUX.1-dev at 1024²."""
    width, text, image = 3072, 512, 4096
    double, single = 19, 38
    flux = TransformerFlops(12 * width**2 * (double + single), width * (double + single))
    assert flux.forward(text + image) / 1e12 == pytest.approx(3719.50 / 50, rel=0.01)
    low = flux.forward(text + image // 4) / flux.forward(text + image)
    assert low == pytest.approx(0.289, abs=0.003)
    assert speedup(50, [(6, 1), (20, low), (8, 1)]) == pytest.approx(2.53, abs=0.02)
    assert flux.forward(100, density=0) == 2 * flux.token_parameters * 100
