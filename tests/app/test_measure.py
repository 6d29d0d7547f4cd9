import contextlib
from typing import Any

import pytest
import torch
from PIL import Image

from hasten.app.caches import pyramid_attention_broadcast
from hasten.app.loading import LoadedModel
from hasten.app.measure import Call, Method, Series, equal_seconds_steps, run_interleaved, warm_up
from hasten.app.memory import peak_memory
from hasten.app.methods import PLAIN
from hasten.app.workload import Request, Workload

REQUESTS = (Request("a rocket on a blue background", 0), Request("a cat on a red background", 1))


def plain_series(*, steps: int, step_seconds: float, rest: float, calls: int = 3) -> Series:
    """A plain series that took exactly what is said."""
    call = Call(
        image=Image.new("RGB", (16, 16)),
        seconds=rest + steps * step_seconds,
        denoiser_seconds=steps * step_seconds,
        peak_bytes=None,
        flops=1.0,
        self_attention_flops=1.0,
    )
    return Series(PLAIN, Workload(REQUESTS, {"num_inference_steps": steps}), [call] * calls)


@pytest.mark.parametrize(
    ("seconds", "steps"),
    [(0.5 + 13 * 0.4, 13), (0.5 + 13.3 * 0.4, 13), (0.5 + 19 * 0.4, 19), (100.0, 20), (0.6, 1), (0.1, 1)],
)
def test_steps_at_equal_seconds_account_for_what_is_not_denoising(seconds: float, steps: int) -> None:
    assert equal_seconds_steps(plain_series(steps=20, step_seconds=0.4, rest=0.5), seconds) == steps


def test_seconds_are_the_median() -> None:
    series = plain_series(steps=10, step_seconds=0.1, rest=0.0)
    slow = Call(Image.new("RGB", (16, 16)), 50.0, 50.0, None, 1.0, 1.0)
    series.calls = [series.calls[0], slow, series.calls[1]]
    assert series.seconds == pytest.approx(1.0)


def test_density_counts_the_attention_that_a_cache_leaves_out(emoji_image: LoadedModel) -> None:
    """Pyramid Attention Broadcast computes every other step, and every step outside its range of timesteps."""
    cache = Method("cache", lambda model: pyramid_attention_broadcast(model.denoiser, skip_range=2))
    workload = Workload(REQUESTS[:1], emoji_image.arguments(height=64, width=64, num_inference_steps=6))
    plain, cached = run_interleaved(emoji_image, [PLAIN, cache], workload, lambda _line: None)
    (fewer,) = run_interleaved(emoji_image, [PLAIN], workload.with_steps(3), lambda _line: None)
    computed = 6 * cached.figures(plain)["density"]
    assert computed == pytest.approx(round(computed))
    assert 3 <= computed < 6
    assert fewer.figures(plain)["density"] == 1


def test_methods_are_interleaved_and_see_the_same_requests(emoji_image: LoadedModel) -> None:
    entered: list[str] = []

    def noting(name: str) -> Method:
        @contextlib.contextmanager
        def active(_model: LoadedModel) -> Any:
            entered.append(name)
            yield

        return Method(name, active)

    arguments = emoji_image.arguments(height=64, width=64, num_inference_steps=1)
    workload = Workload(REQUESTS, arguments)
    first, second = run_interleaved(emoji_image, [noting("a"), noting("b")], workload, lambda _line: None)
    assert entered == ["a", "b", "a", "b"]
    assert [image.tobytes() for image in first.images] == [image.tobytes() for image in second.images]
    assert first.images[0].tobytes() != first.images[1].tobytes()
    figures = second.figures(first)
    assert figures["steps"] == 1
    assert figures["flops"] > 0
    assert all(0 < call.denoiser_seconds < call.seconds for call in first.calls)


def test_warm_up_takes_all_steps_only_where_later_steps_differ(emoji_image: LoadedModel) -> None:
    calls: list[int] = []

    @contextlib.contextmanager
    def counting(model: LoadedModel) -> Any:
        calls.append(0)
        with model.denoiser.register_forward_hook(lambda *_: calls.__setitem__(-1, calls[-1] + 1)):
            yield

    workload = Workload(REQUESTS, emoji_image.arguments(height=64, width=64, num_inference_steps=5))
    warm_up(emoji_image, [Method("plain", counting, changes_steps=False), Method("changing", counting)], workload)
    assert calls == [2, 5]


def test_peak_memory_sees_what_was_allocated_and_freed() -> None:
    with peak_memory(torch.device("cpu")) as before:
        pass
    if before.bytes is None:
        pytest.skip("this system does not tell the resident peak")
    with peak_memory(torch.device("cpu")) as peak:
        torch.ones(64 * 2**20)
    with peak_memory(torch.device("cpu")) as after:
        pass
    assert peak.bytes is not None
    assert after.bytes is not None
    assert peak.bytes - before.bytes == pytest.approx(256 * 2**20, rel=0.1)
    assert peak.bytes - after.bytes > 200 * 2**20
