"""What commands tell of the cache of a rollout."""

import pytest
import torch
from tiny_rollout import save_tiny_rollout

import hasten
from hasten.app.errors import UserError
from hasten.app.loading import LoadedModel, load_model
from hasten.app.measure import run
from hasten.app.methods import accelerated, explain_call
from hasten.app.rollouts import cache_facts, memory_sentence
from hasten.app.workload import Request, Workload
from hasten.kernels import PagePool

RECIPE = hasten.Recipe(kv_cache=hasten.KVCacheConfig("rtn_int4"))
ARGUMENTS = {"num_frames": 9, "num_inference_steps": 1}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(str(save_tiny_rollout(tmp_path_factory.mktemp("model") / "tiny")), device="cpu", videos=True)


@pytest.mark.parametrize(("guidance", "contexts"), [(1.0, 1), (3.0, 2)])
def test_bytes_are_those_of_all_contexts(model: LoadedModel, guidance: float, contexts: int) -> None:
    arguments = {**ARGUMENTS, "guidance_scale": guidance}
    call = run(model, accelerated("", RECIPE), Request("a cat", 0), Workload((), arguments))
    facts = cache_facts(model, RECIPE, arguments, call)
    assert facts is not None
    values = 2 * (2 * 6) * (2 * 16 * 16)  # keys and values of 6 frames in 2 layers, 2 heads, 16 tokens, 16 channels
    assert facts["exact_bytes"] == contexts * (2 * values + 2 * 6 * 4)
    assert facts["bytes"] == contexts * (values // 2 + 2 * values // 16 + 2 * 6 * 4)
    assert facts["ratio"] == facts["exact_bytes"] / facts["bytes"] == pytest.approx(16 / 5, rel=0.02)


@pytest.mark.parametrize(("guidance", "contexts"), [(1.0, 1), (3.0, 2)])
def test_a_lack_of_memory_is_told_in_the_bytes_of_all_contexts(
    model: LoadedModel, guidance: float, contexts: int
) -> None:
    arguments = {**ARGUMENTS, "guidance_scale": guidance}
    plan = explain_call(model, RECIPE, arguments).kv_cache
    assert plan is not None
    assert plan.smaller is not None
    with pytest.raises(UserError) as caught, memory_sentence(model, RECIPE, arguments):
        raise torch.OutOfMemoryError("CUDA out of memory.")
    assert f"'rtn_int4' takes {contexts * plan.nbytes:,} bytes" in str(caught.value)
    assert f"'{plan.smaller.method}', takes {contexts * plan.smaller.nbytes:,}." in str(caught.value)


def test_a_cache_that_finds_no_memory_says_the_same(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = {**ARGUMENTS, "guidance_scale": 3.0}

    def no_memory(*_args: object, **_rest: object) -> PagePool:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(UserError) as late, memory_sentence(model, RECIPE, arguments):
        raise torch.OutOfMemoryError("CUDA out of memory.")
    monkeypatch.setattr(PagePool, "allocate", no_memory)
    with pytest.raises(UserError) as early, memory_sentence(model, hasten.Recipe(), arguments):
        run(model, accelerated("", RECIPE), Request("a cat", 0), Workload((), arguments))
    assert str(early.value) == str(late.value)
