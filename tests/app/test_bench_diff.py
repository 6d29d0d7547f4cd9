"""`hasten bench diff`: what is told as a change, what as noise, and what cannot be compared."""

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from hasten.app.benchmark.noise import T_95, paired_change, unpaired_change
from hasten.assets import ASSETS

Run = Callable[..., Result]
Write = Callable[..., Path]

REQUESTS = [{"prompt": f"prompt {number}", "seed": number} for number in range(6)]
PUBLISHED = ASSETS / "benchmarks"


def calls(seconds: float, psnr: float | None, jitter: float, seed: int, **figures: Any) -> list[dict[str, Any]]:
    """Figures of each request: seconds vary from call to call, likeness from prompt to prompt."""
    chance = random.Random(seed)
    return [
        {
            "seconds": seconds * (1 + number / 10) * math.exp(chance.gauss(0, jitter)),
            "psnr": None if psnr is None else psnr + 5 * math.sin(number),
            "ssim": 1.0 if psnr is None else 0.9 + 0.01 * math.sin(number),
            "density": 1.0,
            "peak_bytes": 10**9,
            **figures,
        }
        for number in range(len(REQUESTS))
    ]


def row(name: str, per_request: list[dict[str, Any]], plain: list[dict[str, Any]]) -> dict[str, Any]:
    """What `bench pipeline` makes of them, as far as it matters here."""
    finite = [call["psnr"] for call in per_request if call["psnr"] is not None]
    return {
        "name": name,
        "speedup": sum(call["seconds"] for call in plain) / sum(call["seconds"] for call in per_request),
        "psnr": sum(finite) / len(finite) if finite else None,
        "ssim": sum(call["ssim"] for call in per_request) / len(per_request),
        "density": per_request[0]["density"],
        "peak_bytes": per_request[0]["peak_bytes"],
        "per_request": per_request,
    }


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a result: a machine of the given slowness, its own jitter, and methods as `calls` takes them."""

    def make(
        name: str, *, slowness: float = 1, jitter: float = 0.03, seed: int = 0, about: Any = (), **methods: Any
    ) -> Path:
        plain = calls(slowness * 10, None, jitter, seed)
        rows = [row("plain", plain, plain)]
        for number, (label, (seconds, psnr, *more)) in enumerate(methods.items(), start=1):
            own = calls(slowness * seconds, psnr, jitter, seed + 100 * number, **(more[0] if more else {}))
            rows.append(row(label, own, plain))
        result = {
            "model": "m",
            "device": "d",
            "versions": {"torch": "1"},
            "arguments": {"num_inference_steps": 20},
            "requests": REQUESTS,
            "rows": [*rows, {"name": "refused", "why": "it cannot"}],
            **dict(about),
        }
        folder = tmp_path / name
        folder.mkdir()
        (folder / "result.json").write_text(json.dumps(result))
        return folder

    return make


def compared(run_hasten: Run, a: Path, b: Path) -> tuple[dict[str, Any], dict[tuple[str, str], dict[str, Any]]]:
    result = run_hasten("bench", "diff", a, b, "--json")
    assert result.exit_code == 0, result.output
    difference = json.loads(result.stdout)
    return difference, {(change["method"], change["figure"]): change for change in difference["changes"]}


def test_a_slower_machine_and_its_noise_are_no_change(run_hasten: Run, write: Write) -> None:
    a = write("a", seed=1, fast=(5, 30), best=(8, 40))
    b = write("b", seed=2, slowness=3, fast=(5, 30), best=(8, 40))
    difference, changes = compared(run_hasten, a, b)
    assert not difference["changed"]
    assert {change["verdict"] for change in changes.values()} == {"same"}
    assert ("plain", "speedup") not in changes
    assert ("plain", "peak_bytes") in changes
    assert difference["notes"] == []


def test_a_method_that_lost_its_speed_is_told(run_hasten: Run, write: Write) -> None:
    a, b = write("a", seed=1, fast=(5, 30), best=(8, 40)), write("b", seed=2, fast=(6.5, 30), best=(8, 40))
    difference, changes = compared(run_hasten, a, b)
    assert difference["changed"]
    assert [key for key, change in changes.items() if change["verdict"] == "changed"] == [("fast", "speedup")]
    slower = changes["fast", "speedup"]
    assert slower["change"] == pytest.approx(5 / 6.5 - 1, abs=0.1)
    assert 0 < slower["noise"] < 0.15
    assert slower["a"] > slower["b"]
    shown = run_hasten("bench", "diff", a, b / "result.json").stdout
    assert "fast" in shown
    assert "changed" in shown
    assert "best" not in shown


def test_quality_is_compared_request_by_request(run_hasten: Run, write: Write) -> None:
    """Prompts differ by ten decibels among themselves; half a decibel on each of them is a change all the same."""
    a, b = write("a", fast=(5, 30)), write("b", fast=(5, 29.5))
    changes = compared(run_hasten, a, b)[1]
    assert changes["fast", "psnr"]["verdict"] == "changed"
    assert changes["fast", "psnr"]["change"] == pytest.approx(-0.5)
    assert changes["fast", "ssim"]["verdict"] == "same"
    others = [{"prompt": f"another {number}", "seed": 0} for number in range(6)]
    difference, changes = compared(run_hasten, a, write("c", fast=(5, 29.5), about={"requests": others}))
    assert changes["fast", "psnr"]["verdict"] == "same"
    assert any("prompts or seeds" in note for note in difference["notes"])


def test_pictures_that_are_no_longer_identical_are_told(run_hasten: Run, write: Write) -> None:
    changes = compared(run_hasten, write("a", fast=(5, None)), write("b", fast=(5, 60)))[1]
    assert changes["fast", "psnr"]["verdict"] == "changed"
    assert changes["fast", "psnr"]["a"] is None


def test_counted_figures_have_no_noise(run_hasten: Run, write: Write) -> None:
    one = {"requests": REQUESTS[:1]}
    a, b = write("a", fast=(5, 30, {"density": 0.3})), write("b", fast=(6, 25, {"density": 0.31}))
    for folder in (a, b):  # of one request each
        result = json.loads((folder / "result.json").read_text()) | one
        for line in result["rows"][:-1]:
            line["per_request"] = line["per_request"][:1]
        (folder / "result.json").write_text(json.dumps(result))
    difference, changes = compared(run_hasten, a, b)
    assert changes["fast", "density"]["verdict"] == "changed"
    assert changes["fast", "speedup"]["verdict"] == changes["fast", "psnr"]["verdict"] == "unknown"
    assert changes["fast", "speedup"]["noise"] is None
    assert any("Only 1 request(s)" in note for note in difference["notes"])
    assert difference["changed"]


def test_what_else_differs_is_said_first(run_hasten: Run, write: Write) -> None:
    about = {"model": "other", "device": "gpu", "versions": {"torch": "2"}, "arguments": {"num_inference_steps": 12}}
    shown = run_hasten(
        "bench", "diff", write("a", fast=(5, 30), old=(9, 9)), write("b", fast=(5, 20), new=(1, 1), about=about)
    )
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    assert lines[:4] == [
        "Another model: m in A, other in B.",
        "Another device: d in A, gpu in B.",
        "Other pipeline arguments: num_inference_steps 20 and 12.",
        "Other versions: torch 1 and 2.",
    ]
    assert lines[-2:] == ["Only in A: old.", "Only in B: new."]


def test_fail_on_change_is_for_ci(run_hasten: Run, write: Write) -> None:
    a, b = write("a", fast=(5, 30)), write("b", fast=(5, 20))
    assert run_hasten("bench", "diff", a, b).exit_code == 0
    assert run_hasten("bench", "diff", a, a, "--fail-on-change").exit_code == 0
    failed = run_hasten("bench", "diff", a, b, "--fail-on-change", "--json")
    assert failed.exit_code == 1
    assert json.loads(failed.stdout)["changed"]


def test_results_of_compare_take_part(run_hasten: Run, write: Write, tmp_path: Path) -> None:
    bench = write("bench", fast=(5, 30))
    rows = {line["name"]: line for line in json.loads((bench / "result.json").read_text())["rows"]}
    result = json.loads((bench / "result.json").read_text())
    del result["rows"]
    result |= {"recipe": {"name": "fast"}, "baseline": rows["plain"], "accelerated": rows["fast"]}
    result["fewer_steps"] = {**rows["fast"], "steps": 9}
    (tmp_path / "compare.json").write_text(json.dumps(result))
    difference, changes = compared(run_hasten, bench, tmp_path / "compare.json")
    assert not difference["changed"]
    assert ("fast", "psnr") in changes
    assert difference["only_in_b"] == ["plain, 9 steps"]


def test_results_of_an_older_hasten_are_shown_without_a_verdict(run_hasten: Run) -> None:
    a, b = PUBLISHED / "pipeline-emoji-image.json", PUBLISHED / "compare-emoji-image.json"
    if "per_request" in json.loads(a.read_text())["rows"][0]:
        pytest.skip("the published results were made anew")
    difference, changes = compared(run_hasten, a, b)
    assert changes["balanced", "speedup"]["verdict"] == "unknown"
    assert any("older hasten" in note for note in difference["notes"])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read"),
        ("{", "it is not JSON"),
        ('{"rows": [{"name": "x"}]}', "is no result"),
        ("[]", "is no result"),
    ],
)
def test_what_is_no_result_is_refused(
    refused: Callable[..., str], write: Write, tmp_path: Path, content: str | None, sentence: str
) -> None:
    file = tmp_path / "x.json"
    if content is not None:
        file.write_text(content)
    assert sentence in refused("bench", "diff", write("a", fast=(5, 30)), file)


def test_results_without_a_common_method_are_refused(refused: Callable[..., str], write: Write, tmp_path: Path) -> None:
    a = write("a", fast=(5, 30))
    result = json.loads((a / "result.json").read_text())
    result["rows"] = [{**result["rows"][1], "name": "slow"}]
    (tmp_path / "b.json").write_text(json.dumps(result))
    assert "have no method in common" in refused("bench", "diff", a, tmp_path / "b.json")


def test_the_quantiles_are_those_of_students_t() -> None:
    """Each leaves 2.5 % of the density beyond it: integrated by Simpson's rule with x = tan(angle)."""
    for freedom, quantile in enumerate(T_95, start=1):
        scale = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
        low, high, pieces = math.atan(quantile), math.pi / 2, 2000
        heights = [
            scale * (1 + math.tan(angle) ** 2 / freedom) ** (-(freedom + 1) / 2) / math.cos(angle) ** 2
            for angle in (low + (high - low) * number / pieces for number in range(pieces))
        ]
        heights.append(scale * freedom if freedom == 1 else 0.0)
        weights = [1, *(4 if number % 2 else 2 for number in range(1, pieces)), 1]
        tail = (high - low) / pieces / 3 * sum(w * h for w, h in zip(weights, heights, strict=True))
        assert tail == pytest.approx(0.025, rel=0.01), freedom


@pytest.mark.parametrize("count", [2, 4, 12])
def test_noise_alone_passes_for_a_change_one_time_in_twenty(count: int) -> None:
    chance = random.Random(3)
    paired, unpaired = 0, 0
    for _ in range(2000):
        hidden = [chance.gauss(0, 5) for _ in range(count)]
        before, after = ([value + chance.gauss(0, 1) for value in hidden] for _ in range(2))
        change, noise = paired_change(before, after)
        paired += abs(change) > (noise or 0)
        change, noise = unpaired_change(before, [chance.gauss(0, 5) for _ in range(count)])
        unpaired += abs(change) > (noise or 0)
    assert paired / 2000 < 0.07
    assert unpaired / 2000 < 0.07
    if count < 12:
        assert paired / 2000 > 0.03
