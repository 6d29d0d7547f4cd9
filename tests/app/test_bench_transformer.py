"""The published architectures, and how whole runs of them are timed."""

from dataclasses import replace

import pytest
import torch

import hasten
from hasten.app.bench_transformer import run
from hasten.app.errors import UserError
from hasten.app.published_models import PUBLISHED_MODELS, PublishedModel, published_models
from hasten.families import Size, family_of

# Parameters in billions and visual tokens, as their papers and model cards give them.
PUBLISHED = {
    "pixart-sigma-1024": (0.61, 4096),
    "flux-1024": (11.9, 4096),
    "cogvideox-2b-480p": (1.69, 13 * 1350),
    "wan-1.3b-480p": (1.42, 21 * 1560),
    "hunyuan-video-720p": (12.8, 33 * 3600),
}


@pytest.mark.parametrize("model", PUBLISHED_MODELS.values(), ids=lambda model: model.name)
def test_architectures_are_as_large_as_published(model: PublishedModel) -> None:
    parameters, tokens = PUBLISHED[model.name]
    pipeline = model.build(torch.device("meta"), torch.bfloat16)
    assert sum(p.numel() for p in pipeline.transformer.parameters()) / 1e9 == pytest.approx(parameters, rel=0.02)
    assert pipeline.transformer.dtype == torch.bfloat16
    size = Size(model.call["height"], model.call["width"], model.call.get("num_frames"))
    assert family_of(pipeline).pixel_grid(pipeline, size).tokens == tokens


@pytest.fixture
def tiny() -> PublishedModel:
    return replace(
        PUBLISHED_MODELS["pixart-sigma-1024"],
        config=PUBLISHED_MODELS["pixart-sigma-1024"].config
        | {"num_layers": 3, "num_attention_heads": 2, "attention_head_dim": 8, "cross_attention_dim": 16},
        call=PUBLISHED_MODELS["pixart-sigma-1024"].call | {"height": 256, "width": 256},
        steps=8,
        dense_steps=2,
    )


def test_rows_say_what_each_kind_of_step_takes(tiny: PublishedModel) -> None:
    result = run(tiny, device=torch.device("cpu"), dtype=torch.float32, layers=2)
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == ["plain", *(name for name in rows if name != "plain")]
    assert len(rows) == 8
    assert {"model", "layers", "steps", "device", "versions", "command"} <= set(result)
    assert rows["plain"]["speedup"] == 1
    assert rows["plain"]["sparse_step"] is None
    assert rows["plain"]["state_bytes"] == 0
    for name in rows.keys() - {"plain"}:
        assert rows[name]["dense_step"] > 0
        assert rows[name]["sparse_step"] > 0
        assert rows[name]["density"] < 0.7
        assert not rows[name]["fallbacks"]
    assert rows["Re-ttention, state in 4 bits"]["state_bytes"] < rows["Re-ttention, state in 8 bits"]["state_bytes"]
    assert rows["Re-ttention, state in 8 bits"]["state_bytes"] < rows["Re-ttention"]["state_bytes"]
    without_attention = rows["output reuse"]["sparse_step"]
    assert rows["output reuse"]["attention_share"] == pytest.approx(1 - without_attention / rows["plain"]["dense_step"])
    assert rows["output reuse"]["attention_share"] < 1


def test_only_some_methods(tiny: PublishedModel) -> None:
    result = run(tiny, device=torch.device("cpu"), dtype=torch.bfloat16, steps=4, layers=1, only=["fitted"])
    assert [row["name"] for row in result["rows"]] == ["plain", "fitted"]
    assert result["steps"] == 4


def test_an_unknown_method_is_told_the_nearest_before_anything_is_built(tiny: PublishedModel) -> None:
    for only in (["fited"], ["fitted", "fited"]):
        with pytest.raises(hasten.AccelerationError, match=r"'fited' is not a method to time.*did you mean 'fitted'\?"):
            run(replace(tiny, config={}), device=torch.device("cpu"), dtype=torch.float32, only=only)


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(UserError, match="no architecture 'sdxl' here; choose all or one of pixart-sigma-1024"):
        published_models("sdxl")
    assert len(published_models("all")) == 5
