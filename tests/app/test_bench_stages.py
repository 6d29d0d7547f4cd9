"""Stages of published architectures, timed: every stage and the whole, on a tiny configuration."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from typer.testing import Result

from hasten import AccelerationError
from hasten.app.bench_stages import run
from hasten.app.published_models import PUBLISHED_MODELS, PublishedModel

CPU = torch.device("cpu")
STAGES = [(6, 128, 64), (20, 64, 16), (8, 128, 64)]  # steps, pixels of a side, tokens


@pytest.fixture
def tiny() -> PublishedModel:
    flux = PUBLISHED_MODELS["flux-1024"]
    return replace(
        flux,
        config=flux.config
        | {"num_attention_heads": 2, "attention_head_dim": 16, "axes_dims_rope": (4, 6, 6), "joint_attention_dim": 16},
        call=flux.call | {"height": 128, "width": 128},
        embeddings={"prompt_embeds": (1, 4, 16), "pooled_prompt_embeds": (1, 768)},
    )


@pytest.mark.parametrize("sampled", [False, True], ids=["whole", "sampled"])
def test_rows_say_what_each_stage_takes(tiny: PublishedModel, sampled: bool) -> None:
    result = run(tiny, device=CPU, dtype=torch.float32, layers=1, only=["flux-published"], sampled=sampled)
    assert {"model", "layers", "steps", "sampled", "device", "versions", "command"} <= set(result)
    assert result["published"] == {"×2": 1.95, "×3": 2.34}
    plain, published = result["rows"]
    assert (plain["name"], published["name"]) == ("plain", "flux-published")
    assert plain["speedup"] == plain["flops_speedup"] == 1
    assert [(stage["steps"], stage["tokens"]) for stage in plain["stages"]] == [(50, 64)]
    assert [(one["steps"], one["height"], one["tokens"]) for one in published["stages"]] == STAGES
    assert published["speedup"] == pytest.approx(plain["seconds"] / published["seconds"])
    assert 50 / 34 < published["flops_speedup"] < 50 / 14
    for row in result["rows"]:
        in_stages = sum(stage["seconds"] for stage in row["stages"])
        assert 0 < in_stages <= row["seconds"]


def test_all_presets_of_the_family_by_default(tiny: PublishedModel) -> None:
    result = run(tiny, device=CPU, dtype=torch.float32, steps=4, layers=1, sampled=True)
    assert [row["name"] for row in result["rows"]] == ["plain", "flux-published", "flux-x1.5", "flux-x2", "flux-x3"]
    with pytest.raises(AccelerationError, match=r"'flux-x4' is not a sampling preset to time .*did you mean 'flux-x"):
        run(tiny, device=CPU, dtype=torch.float32, layers=1, only=["flux-x4"])


@pytest.mark.parametrize("sampled", [False, True], ids=["whole", "sampled"])
def test_a_model_that_is_too_large_is_told(
    tiny: PublishedModel, sampled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a small GPU")
    monkeypatch.setattr("diffusers.models.transformers.transformer_flux.FluxTransformerBlock.forward", forward)
    result = run(tiny, device=CPU, dtype=torch.float32, layers=1, only=["flux-x2"], sampled=sampled)
    why = {"why": "out of memory on a small GPU", "speedup": None}
    assert result["rows"] == [{"name": "plain", **why}, {"name": "flux-x2", **why}]


def test_the_command_shows_stages_beside_what_the_paper_has(
    tiny: PublishedModel, run_hasten: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PUBLISHED_MODELS, "flux-1024", tiny)
    call = ("bench", "stages", "--model", "flux-1024", "--sampling", "flux-x3", "--sampled", "--layers", 1)
    shown = run_hasten(*call, "--steps", 4, "--device", "cpu")
    assert shown.exit_code == 0, shown.output
    assert "the paper has 1.95× (×2), 2.34× (×3)" in shown.stdout
    assert "2 × 64×64" in shown.stdout
    (model,) = json.loads(run_hasten(*call, "--steps", 4, "--device", "cpu", "--json").stdout)["models"]
    assert [row["name"] for row in model["rows"]] == ["plain", "flux-x3"]
