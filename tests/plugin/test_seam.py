"""The attention core: replaced alone, found by its own layer, put back as it was."""

import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from diffusers.models.transformers.transformer_flux import FluxAttention
from torch import Tensor

from hasten import seam
from hasten.seam import CORES, AttentionCall, attach_core


class Recorder:
    """A core that computes what stock computes, and remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[AttentionCall] = []

    def __call__(self, call: AttentionCall) -> Tensor:
        self.calls.append(call)
        return call.stock()


@pytest.fixture
def legacy() -> Attention:
    """A module whose processor calls scaled_dot_product_attention."""
    torch.manual_seed(0)
    return Attention(query_dim=16, heads=2, dim_head=8).eval()


@pytest.fixture
def dispatching() -> FluxAttention:
    """A module whose processor calls diffusers' dispatch_attention_fn."""
    torch.manual_seed(0)
    return FluxAttention(query_dim=16, heads=2, dim_head=8, out_dim=16, bias=True).eval()


@pytest.fixture
def hidden_states() -> Tensor:
    return torch.randn(2, 12, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", ["legacy", "dispatching"])
@torch.no_grad()
def test_output_is_bit_equal_when_the_core_is_stock(
    kind: str, request: pytest.FixtureRequest, hidden_states: Tensor
) -> None:
    module = request.getfixturevalue(kind)
    plain = module(hidden_states)
    core = Recorder()
    detach = attach_core(module, core)
    assert torch.equal(module(hidden_states), plain)
    assert [call.query.shape for call in core.calls] == [(2, 2, 12, 8)]
    detach()
    assert torch.equal(module(hidden_states), plain)
    assert len(core.calls) == 1


@torch.no_grad()
def test_the_mask_reaches_the_core_and_stock(legacy: Attention, hidden_states: Tensor) -> None:
    mask = torch.zeros(2, 1, 12).index_fill(2, torch.tensor([3, 4]), -10_000.0)
    plain = legacy(hidden_states, attention_mask=mask)
    core = Recorder()
    attach_core(legacy, core)
    assert torch.equal(legacy(hidden_states, attention_mask=mask), plain)
    assert core.calls[0].mask is not None
    assert not torch.equal(legacy(hidden_states), plain)


@torch.no_grad()
def test_stock_keeps_the_chosen_backend(
    dispatching: FluxAttention, hidden_states: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    backends = []
    dispatch = seam.dispatch_attention_fn

    def spy(*args: Any, **kwargs: Any) -> Tensor:
        backends.append(kwargs["backend"])
        return dispatch(*args, **kwargs)

    monkeypatch.setattr(seam, "dispatch_attention_fn", spy)
    attach_core(dispatching, Recorder())
    dispatching.set_attention_backend("_native_math")
    dispatching(hidden_states)
    assert backends == ["_native_math"]


@torch.no_grad()
def test_context_parallel_attention_bypasses_the_core(
    dispatching: FluxAttention, hidden_states: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    parallel_config = object()
    seen = []
    monkeypatch.setattr(
        seam,
        "dispatch_attention_fn",
        lambda query, *args, parallel_config, **kwargs: seen.append(parallel_config) or query,
    )
    core = Recorder()
    attach_core(dispatching, core)
    dispatching.processor._parallel_config = parallel_config
    dispatching(hidden_states)
    assert seen == [parallel_config]
    assert not core.calls


@torch.no_grad()
def test_modules_that_share_a_processor_get_their_own_cores(legacy: Attention, hidden_states: Tensor) -> None:
    other = Attention(query_dim=16, heads=2, dim_head=8).eval()
    other.processor = legacy.processor
    shared = legacy.processor
    cores = Recorder(), Recorder()
    detachers = [attach_core(module, core) for module, core in zip((legacy, other), cores, strict=True)]
    legacy(hidden_states)
    other(hidden_states)
    other(hidden_states)
    assert [len(core.calls) for core in cores] == [1, 2]
    for detach in detachers:
        detach()
    assert legacy.processor is shared
    assert other.processor is shared


def test_the_copy_still_is_a_stock_processor(legacy: Attention) -> None:
    original = legacy.processor
    original.kept = "attribute"
    attach_core(legacy, Recorder())
    assert isinstance(legacy.processor, AttnProcessor2_0)
    assert legacy.processor.kept == "attribute"
    assert type(original) is AttnProcessor2_0


def test_a_processor_that_someone_else_set_stays(legacy: Attention) -> None:
    detach = attach_core(legacy, Recorder())
    theirs = AttnProcessor2_0()
    legacy.processor = theirs
    detach()
    assert legacy.processor is theirs


@torch.no_grad()
def test_a_processor_that_outlives_its_core_computes_stock(legacy: Attention, hidden_states: Tensor) -> None:
    plain = legacy(hidden_states)
    core = Recorder()
    detach = attach_core(legacy, core)
    kept_elsewhere = legacy.processor
    detach()
    legacy.processor = kept_elsewhere
    assert torch.equal(legacy(hidden_states), plain)
    assert not core.calls


def test_no_core_outlives_its_module() -> None:
    gc.collect()
    before = set(CORES)
    module = Attention(query_dim=16, heads=2, dim_head=8)
    attach_core(module, Recorder())
    assert len(set(CORES) - before) == 1
    del module
    gc.collect()
    assert set(CORES) <= before


@torch.no_grad()
def test_threads_do_not_mix_up_layers(legacy: Attention, hidden_states: Tensor) -> None:
    other = Attention(query_dim=16, heads=2, dim_head=8).eval()
    cores = Recorder(), Recorder()
    attach_core(legacy, cores[0])
    attach_core(other, cores[1])

    def run_the_other_meanwhile(*_: Any) -> None:
        thread = threading.Thread(target=torch.no_grad()(other), args=(hidden_states,))
        thread.start()
        thread.join()

    legacy.to_q.register_forward_pre_hook(run_the_other_meanwhile)
    legacy(hidden_states)
    assert [len(core.calls) for core in cores] == [1, 1]


class Block(torch.nn.Module):
    def __init__(self, make: Callable[[], torch.nn.Module]) -> None:
        super().__init__()
        self.attention = make()

    def forward(self, hidden_states: Tensor) -> Tensor:
        return hidden_states + self.attention(hidden_states)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Attention(query_dim=16, heads=2, dim_head=8),
        lambda: FluxAttention(query_dim=16, heads=2, dim_head=8, out_dim=16, bias=True),
    ],
    ids=["legacy", "dispatching"],
)
@torch.no_grad()
def test_compiles_to_one_full_graph_for_all_layers(make: Callable[[], torch.nn.Module], hidden_states: Tensor) -> None:
    blocks = [Block(make).eval() for _ in range(10)]  # more than Dynamo's recompile limit

    def run() -> Tensor:
        output = hidden_states
        for block in blocks:
            output = block(output)
        return output

    plain = run()
    cores = [Recorder() for _ in blocks]
    for block, core in zip(blocks, cores, strict=True):
        attach_core(block.attention, core)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    for block in blocks:
        block.compile(backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(run(), plain)
    assert [len(core.calls) for core in cores] == 10 * [1]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
