import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest

from hasten.app.errors import UserError
from hasten.app.loading import LoadedModel
from hasten.app.measure import run
from hasten.app.methods import PLAIN, explain_call
from hasten.app.web.comparing import compare
from hasten.app.web.engine import Job
from hasten.app.web.limits import Limits
from hasten.app.web.needs import check_memory, needed_bytes
from hasten.app.web.runs import RunStore
from hasten.app.web.settings import Settings
from hasten.app.web.shelf import Loaded
from hasten.app.workload import Request, Workload

SETTINGS = Settings("emoji-image", "a ball")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"prompt": "x" * 2001}, "2,001 characters; give 2,000 at most"),
        ({"negative_prompt": "x" * 2001}, "negative prompt"),
        ({"height": 16385}, "16,385 was given for height"),
        ({"num_frames": 258}, "num frames"),
        ({"steps": 201}, "201 was given for steps"),
    ],
)
def test_what_is_beyond_a_limit_is_refused_by_name(given: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Limits().check(dataclasses.replace(SETTINGS, **given))  # type: ignore[arg-type]


def test_a_size_beyond_memory_is_refused_with_the_bytes(emoji_image: LoadedModel) -> None:
    arguments = emoji_image.arguments(height=16384, width=16384)
    with pytest.raises(UserError, match=r"needs about [\d,]{12,} bytes of memory and [\d,]+ are free"):
        check_memory(emoji_image, arguments, Limits().memory_share)
    check_memory(emoji_image, emoji_image.arguments(height=64, width=64), Limits().memory_share)


def test_what_acceleration_keeps_counts_as_well(
    emoji_image: LoadedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arguments = emoji_image.arguments(height=64, width=64, num_inference_steps=8)
    state = explain_call(emoji_image, SETTINGS.recipe, arguments).state_bytes
    assert state > 0
    enough_for_plain = int((needed_bytes(emoji_image, arguments) + state / 2) / Limits().memory_share)
    monkeypatch.setattr("hasten.app.web.needs.free_bytes", lambda _device: enough_for_plain)
    shelf = SimpleNamespace(get=lambda _name: Loaded(emoji_image, None))
    asked = dataclasses.replace(SETTINGS, height=64, width=64, steps=8)
    with pytest.raises(UserError, match=r"bytes of memory and [\d,]+ are free"):
        compare(asked, shelf, Limits(), RunStore(tmp_path), Job("a", lambda _job: None))  # type: ignore[arg-type]


def test_the_estimate_grows_as_the_memory_that_runs_take(emoji_image: LoadedModel) -> None:
    """Two measured peaks: their difference, which holds no weights, is met within a factor of three."""
    sizes = (64, 512)
    peaks, estimates = [], []
    for side in sizes:
        arguments = emoji_image.arguments(height=side, width=side, num_inference_steps=1)
        estimates.append(needed_bytes(emoji_image, arguments))
        request = Request("a ball", 0)
        peaks.append(run(emoji_image, PLAIN, request, Workload((request,), arguments)).peak_bytes)
    if None in peaks:
        pytest.skip("this system does not tell the resident peak of a process")
    ratio = (estimates[1] - estimates[0]) / (peaks[1] - peaks[0])  # type: ignore[operator]
    assert 1 / 3 < ratio < 3
