import contextlib
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hasten.app.caches import pyramid_attention_broadcast
from hasten.app.judging import judge_captions, judge_motion
from hasten.app.loading import LoadedModel
from hasten.app.measure import equal_seconds_steps, run_interleaved, warm_up
from hasten.app.memory import peak_memory
from hasten.app.methods import PLAIN
from hasten.app.metrics.similarity import psnr, ssim
from hasten.app.series import Call, Method, Series
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


def video_series(frames: list[np.ndarray]) -> Series:
    """A series of one video with these frames."""
    images = tuple(Image.fromarray(frame) for frame in frames)
    call = Call(images[0], 1.0, 1.0, None, 1.0, 1.0, video=images)
    return Series(PLAIN, Workload(REQUESTS[:1], {"num_inference_steps": 1}), [call])


def test_likeness_of_videos_is_over_all_frames_with_psnr_from_the_mean_squared_error() -> None:
    random = np.random.default_rng(0)
    plain = [random.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(4)]
    other = [plain[0], plain[1] // 2, plain[2], 255 - plain[3]]
    figures = video_series(other).figures(video_series(plain))
    error = np.mean([((a / 255 - b / 255) ** 2).mean() for a, b in zip(plain, other, strict=True)])
    assert figures["psnr"] == pytest.approx(-10 * np.log10(error), abs=1e-4)  # finite, though two frames are identical
    pairs = [(Image.fromarray(a), Image.fromarray(b)) for a, b in zip(other, plain, strict=True)]
    assert figures["ssim"] == pytest.approx(np.mean([ssim(*pair) for pair in pairs]))
    assert video_series(plain).figures(video_series(plain))["psnr"] == float("inf")


def test_one_frame_is_measured_as_a_picture_is() -> None:
    random = np.random.default_rng(1)
    one, other = (Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)) for _ in range(2))
    calls = [Call(image, 1.0, 1.0, None, 1.0, 1.0) for image in (one, other)]
    series = [Series(PLAIN, Workload(REQUESTS[:1], {"num_inference_steps": 1}), [call]) for call in calls]
    assert series[0].calls[0].frames == (one,)
    assert series[0].figures(series[1])["psnr"] == psnr(one, other)
    assert series[0].figures(series[1])["ssim"] == ssim(one, other)


def test_videos_of_held_out_prompts_are_judged_by_what_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def accuracy(name: str, scenes: Any, clips: Any, segments: int) -> list[dict[str, float]]:
        asked.append((name, scenes, [len(clip) for clip in clips], segments))
        return [{"all": 0.25}] * segments

    monkeypatch.setattr("hasten.app.judging.motion_accuracy", accuracy)
    model: Any = SimpleNamespace(name="emoji-video")
    series = video_series([np.zeros((16, 16, 3), np.uint8)] * 12)
    assert judge_captions(model, series) is None
    scene = {"thing": "cat"}
    series.workload = replace(series.workload, requests=(Request("a cat", 0, scene),))
    assert judge_captions(model, series) == 0.25
    assert judge_motion(model, series, 2) == [{"all": 0.25}] * 2
    assert judge_motion(model, series, 3) is None  # four frames show no motion
    assert asked == [("emoji-video", [scene], [12], 1), ("emoji-video", [scene], [12], 2)]


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
