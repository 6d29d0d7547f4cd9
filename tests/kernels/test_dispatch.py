import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from hasten.kernels import PageFormat, PagePool, dispatch, implementation, paged_implementation, why_portable


def test_importing_hasten_and_attending_on_a_cpu_leave_triton_alone() -> None:
    program = """
import sys, torch, hasten
from hasten.kernels import BandLayout, implementation, window_attention
tokens = torch.zeros(1, 1, 20, 16)
window_attention(tokens, tokens, tokens, BandLayout(20, 3))
print(implementation(tokens), [name for name in sys.modules if name.startswith("hasten") and "triton" in name])
"""
    finished = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.split("\n")[0] == "cpu []"


def test_other_devices_are_served_by_plain_torch_calls() -> None:
    tokens = torch.zeros(1, 1, 20, 16, device="meta")
    assert implementation(tokens) == "portable"
    assert why_portable(tokens) == "there are no kernels for meta"
    assert why_portable(torch.zeros(1, 1, 20, 16)) is None


class OnGpu(torch.Tensor):
    """A tensor that says it is on a GPU."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda", 0)


def on_gpu(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.zeros(*shape, dtype=dtype).as_subclass(OnGpu)


@pytest.fixture
def capability(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """What the GPU claims to be."""
    claimed = [(9, 0)]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: claimed[0])
    dispatch._why_not_triton.cache_clear()
    yield claimed
    dispatch._why_not_triton.cache_clear()


def test_a_gpu_runs_triton(capability: list) -> None:
    pytest.importorskip("triton", reason="needs triton, which the extra `gpu` installs")
    assert implementation(on_gpu(1, 1, 20, 16)) == "triton"
    assert implementation(on_gpu(1, 1, 20, 256, dtype=torch.float32)) == "triton"


@pytest.mark.parametrize(
    ("tokens", "why"),
    [
        (on_gpu(1, 1, 20, 257), "its head dim of 257 is beyond 256"),
        (on_gpu(1, 1, 20, 16, dtype=torch.float64), "its dtype is torch.float64"),
        (on_gpu(1, 0, 20, 16), "it is empty"),
    ],
    ids=["head-dim", "float64", "empty"],
)
def test_what_the_kernels_lack_is_served_by_plain_torch_calls(tokens: torch.Tensor, why: str, capability: list) -> None:
    assert implementation(tokens) == "portable"
    assert why_portable(tokens) == why


def test_gradients_are_served_by_plain_torch_calls(capability: list) -> None:
    pytest.importorskip("triton", reason="needs triton, which the extra `gpu` installs")
    tokens, trained = on_gpu(1, 1, 20, 16), on_gpu(1, 1, 20, 16).requires_grad_()
    assert implementation(tokens, trained) == "portable"
    assert why_portable(tokens, trained) == "a gradient is asked for"
    with torch.no_grad():
        assert implementation(tokens, trained) == "triton"
        assert why_portable(tokens, trained) is None


def test_old_gpus_are_served_by_plain_torch_calls(capability: list) -> None:
    capability[0] = (7, 5)
    assert implementation(on_gpu(1, 1, 20, 16)) == "portable"
    assert why_portable(on_gpu(1, 1, 20, 16)) == "the GPU's compute capability is below 8.0"


@pytest.mark.parametrize(("version", "served"), [("3.7.1", "portable"), ("3.8.0", "triton"), ("3.10.0", "triton")])
def test_float32_is_not_left_to_a_compiler_that_rounds_it(
    version: str, served: str, capability: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace(__version__=version))
    exact, half = (on_gpu(1, 1, 20, 16, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    assert implementation(exact) == implementation(half) == "triton"
    for rounding in ((10, 0), (11, 0)):
        capability[0] = rounding
        dispatch._why_not_triton.cache_clear()
        assert (implementation(exact), implementation(half)) == (served, "triton")


def test_a_machine_without_triton_is_served_by_plain_torch_calls(
    capability: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    assert implementation(on_gpu(1, 1, 20, 16)) == "portable"
    assert why_portable(on_gpu(1, 1, 20, 16)) == "triton is not installed"


CODED = PageFormat(4, "channel", 8, symmetric=True)
WITH_OUTLIERS = PageFormat(4, "channel", 8, symmetric=True, outlier_sigma=6.0, outlier_share=0.01)


@pytest.mark.parametrize(
    ("keys", "values", "served"),
    [(CODED, CODED, "triton"), (CODED, WITH_OUTLIERS, "portable"), (CODED, None, "portable"), (None, None, "portable")],
    ids=["coded", "outliers", "coded-keys", "not-coded"],
)
def test_a_gpu_streams_coded_pages(
    keys: PageFormat | None, values: PageFormat | None, served: str, capability: list
) -> None:
    pytest.importorskip("triton", reason="needs triton, which the extra `gpu` installs")
    pool = PagePool.allocate(1, (1, 1, 16, 16), keys, values, torch.bfloat16, "meta")
    assert paged_implementation(on_gpu(1, 1, 20, 16), pool) == served
    assert paged_implementation(torch.zeros(1, 1, 20, 16), pool) == "cpu"
