"""The Triton kernels on a GPU against the definition: small shapes whole, the shapes of models on sampled rows."""

from collections.abc import Callable

import attention_oracle as oracle
import pytest
import torch
from torch import Tensor

from hasten.kernels import (
    BandLayout,
    Layout,
    TileLayout,
    dense_attention,
    implementation,
    refresh_attention,
    reshaped_attention,
    window_attention,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use"),
]

HALVES = [torch.float16, torch.bfloat16]
SAMPLED_ROWS = 24


def band(frame_tokens: int, half_width: int, frames: int = 1, text_tokens: int = 0, text_first: bool = True) -> dict:
    return {
        "frame_tokens": frame_tokens,
        "half_width": half_width,
        "frames": frames,
        "text_tokens": text_tokens,
        "text_first": text_first,
    }


def tiles(grid: tuple, tile: tuple, window: tuple, text_tokens: int = 0, text_first: bool = True) -> dict:
    frames, height, width = grid
    shape = {"frames": frames, "height": height, "width": width, "tile": tile, "window": window}
    return {**shape, "text_tokens": text_tokens, "text_first": text_first}


SMALL = {
    "image band": band(577, 19),
    "video band, text first": band(101, 10, 13, 77),
    "video band, text last": band(93, 40, 5, 19, False),
    "band over everything": band(150, 149, 2, 10),
    "tiles of a picture": tiles((1, 23, 31), (1, 8, 8), (1, 12, 13), 9),
    "large tiles of a video": tiles((5, 13, 15), (3, 8, 8), (5, 11, 9), 33, False),
}
MODELS = {
    "CogVideoX-2b": (band(1350, 21, 13, 226), 30, 64),
    "CogVideoX-2b, tiles": (tiles((13, 30, 45), (13, 3, 3), (13, 6, 7), 226), 30, 64),
    "PixArt 1024": (band(4096, 64), 16, 72),
    "FLUX 1024, tiles": (tiles((1, 64, 64), (1, 8, 16), (1, 16, 16), 512), 24, 128),
}


def layout_of(shape: dict) -> Layout:
    return BandLayout(**shape) if "frame_tokens" in shape else TileLayout(**shape)


def keys_of(shape: dict) -> Callable[[int], list[int]]:
    keys = oracle.keys_in_band if "frame_tokens" in shape else oracle.keys_in_box
    return lambda query: keys(query, **shape)


def on_gpu(tensors: list[Tensor]) -> list[Tensor]:
    """The same on the GPU, with the strides that they have."""
    return [torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="cuda").copy_(x) for x in tensors]


def expected(inputs: list[Tensor], shape: dict, rows: list[int], visible: set[int]) -> tuple[Tensor, ...]:
    """What a refresh returns for one batch row, for some queries, in float64 from the definition."""
    query, key, value = inputs
    seen = keys_of(shape)

    def inside(at: int) -> list[int]:
        return [other for other in seen(rows[at]) if other in visible]

    def outside(at: int) -> list[int]:
        return sorted(visible - {*inside(at)})

    some = query[:, :, rows], key, value
    dense = oracle.attention_over(*some, lambda _: sorted(visible))
    window = oracle.attention_over(*some, inside)
    rest, _ = oracle.attention_over(*some, outside)
    return *dense, *window, (1 - torch.exp(window[1] - dense[1]))[..., None] * rest


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32], ids=str)
@pytest.mark.parametrize("name", SMALL)
def test_small_shapes_follow_the_definition(name: str, dtype: torch.dtype) -> None:
    shape, layout = SMALL[name], layout_of(SMALL[name])
    inputs = oracle.random_inputs(2, 2, layout.tokens, 64, dtype, memory=(0, 2, 1, 3))
    mask = torch.rand(2, layout.text_tokens, generator=torch.Generator().manual_seed(0)) < 0.6
    tensors = on_gpu(inputs)
    assert implementation(*tensors) == "triton"
    refresh = refresh_attention(*tensors, layout, text_mask=mask.cuda())
    window = window_attention(*tensors, layout, text_mask=mask.cuda())
    residual, drift, ratio = oracle.random_inputs(2, 2, layout.tokens, 64, dtype)
    ratio = ratio[..., 0].float()
    reshaped = reshaped_attention(
        *tensors,
        layout,
        ratio.cuda(),
        residual.cuda(),
        drift=drift.cuda(),
        drift_factor=0.5,
        text_mask=mask.cuda(),
    )
    for row in range(2):
        masked = {layout.text.start + at for at, seen in enumerate(mask[row]) if not seen}
        one = [x[row : row + 1] for x in inputs]
        truth = expected(one, shape, list(range(layout.tokens)), {*range(layout.tokens)} - masked)
        for actual, right in zip((*refresh, *window), (*truth, *truth[2:4]), strict=True):
            oracle.assert_close(actual[row : row + 1].cpu(), right, dtype)
        corrected = ratio[row].double()[..., None] * truth[2] + residual[row].double() + 0.5 * drift[row].double()
        torch.testing.assert_close(
            reshaped[row : row + 1].cpu().double(), corrected, rtol=0, atol=3 * oracle.TOLERANCES[dtype]
        )


@pytest.mark.parametrize("head_dim", [16, 33, 72, 80, 96, 128, 256])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_head_dims_follow_the_definition(head_dim: int, dtype: torch.dtype) -> None:
    shape = band(37, 5, 3, 11)
    layout = layout_of(shape)
    inputs = oracle.random_inputs(1, 3, layout.tokens, head_dim, dtype, memory=(0, 2, 1, 3))
    truth = expected(inputs, shape, list(range(layout.tokens)), {*range(layout.tokens)})
    for actual, right in zip(refresh_attention(*on_gpu(inputs), layout), truth, strict=True):
        oracle.assert_close(actual.cpu(), right, dtype)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_shapes_of_models_follow_the_definition_on_sampled_rows(name: str, dtype: torch.dtype) -> None:
    shape, heads, head_dim = MODELS[name]
    layout = layout_of(shape)
    inputs = oracle.random_inputs(1, heads, layout.tokens, head_dim, dtype, memory=(0, 2, 1, 3))
    visual = layout.visual
    rows = [0, layout.tokens - 1, visual.start, visual.start + 1, visual.stop - 1]
    rows += torch.randint(layout.tokens, (SAMPLED_ROWS,), generator=torch.Generator().manual_seed(0)).tolist()
    some_heads = [0, heads - 1]
    truth = expected([x[:, some_heads] for x in inputs], shape, rows, {*range(layout.tokens)})
    tensors = on_gpu(inputs)
    results = *refresh_attention(*tensors, layout), *window_attention(*tensors, layout)
    for actual, right in zip(results, (*truth, *truth[2:4]), strict=True):
        oracle.assert_close(actual.cpu()[:, some_heads][:, :, rows], right, dtype)


def test_views_of_one_projection_need_no_copy() -> None:
    layout = BandLayout(1350, 21, 13, text_tokens=226)
    projected = torch.randn(1, layout.tokens, 3, 8, 64, device="cuda", dtype=torch.bfloat16)
    query, key, value = (x.transpose(1, 2) for x in projected.unbind(2))
    ratio = torch.ones(1, 8, 1, device="cuda")
    separate = window_attention(query.contiguous(), key.contiguous(), value.contiguous(), layout).output
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    output = reshaped_attention(query, key, value, layout, ratio, torch.zeros_like(separate))
    taken = torch.cuda.max_memory_allocated() - before
    torch.testing.assert_close(output, separate, rtol=0, atol=0)
    assert taken <= 2 * output.nbytes + 4096  # the output, and the zeros above
    assert output.transpose(1, 2).is_contiguous()


def test_queries_that_see_everything_have_no_residual() -> None:
    layout = BandLayout(200, 9, 3, text_tokens=40)
    tensors = [torch.randn(1, 2, layout.tokens, 64, device="cuda", dtype=torch.bfloat16) for _ in range(3)]
    refresh = refresh_attention(*tensors, layout)
    assert refresh.residual[:, :, layout.text].count_nonzero() == 0
    assert torch.equal(refresh.window_output[:, :, layout.text], refresh.output[:, :, layout.text])
    assert refresh.residual[:, :, layout.visual].count_nonzero() > 0


def test_gradients_are_served_by_plain_torch_calls() -> None:
    tensors = [torch.randn(1, 1, 60, 16, device="cuda", requires_grad=True) for _ in range(3)]
    assert implementation(*tensors) == "portable"
    window_attention(*tensors, BandLayout(60, 5)).output.sum().backward()
    assert all(x.grad is not None for x in tensors)


@pytest.mark.parametrize("masked", [False, True], ids=["all keys", "masked"])
@pytest.mark.parametrize("dtype", [*HALVES, torch.float32], ids=str)
@pytest.mark.parametrize("head_dim", [60, 64, 128])
def test_dense_attention_follows_the_definition(head_dim: int, dtype: torch.dtype, masked: bool) -> None:
    tokens = 203  # no multiple of what kernels like
    inputs = oracle.random_inputs(2, 2, tokens, head_dim, dtype, memory=(0, 2, 1, 3))
    mask = torch.rand(1, 1, tokens, tokens, generator=torch.Generator().manual_seed(0)) < 0.5
    mask[..., 7, :] = False
    seen = mask[0, 0] if masked else torch.ones(tokens, tokens, dtype=torch.bool)
    output, lse = dense_attention(*on_gpu(inputs), mask=mask.cuda() if masked else None)
    truth = oracle.attention_over(*inputs, lambda row: seen[row].nonzero().flatten().tolist())
    for actual, right in zip((output, lse), truth, strict=True):
        oracle.assert_close(actual.cpu(), right, dtype)
