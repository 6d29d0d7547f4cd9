"""The Triton kernels, run by Triton's interpreter on the CPU, against the definition.

bfloat16 is left out: the interpreter keeps it as integers and multiplies those (triton 3.7). The kernels treat it as
they treat float16.
"""

from dataclasses import dataclass, field
from typing import Any

import attention_oracle as oracle
import pytest
import torch
from interpreter import run_interpreted
from torch import Tensor

from hasten.kernels import BandLayout, TileLayout

pytest.importorskip("triton", reason="needs triton, which the extra `gpu` installs")

FLOAT16, FLOAT32 = torch.float16, torch.float32


@dataclass
class Call:
    operation: str
    layout: dict
    head_dim: int = 16
    dtype: torch.dtype = FLOAT32
    batch: int = 1
    heads: int = 2
    memory: tuple[int, ...] = (0, 2, 1, 3)  # [B, N, H, D], as in diffusers
    text_mask: list[list[int]] | None = None
    scale: float | None = None
    misaligned: bool = False
    ratio: str = ""
    drift_factor: float | None = None
    arguments: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        is_band = "frame_tokens" in self.layout
        layout = BandLayout(**self.layout) if is_band else TileLayout(**self.layout)
        keys = oracle.keys_in_band if is_band else oracle.keys_in_box
        self.keys_of = lambda query: keys(query, **self.layout)
        sizes = self.batch, self.heads, layout.tokens, self.head_dim
        inputs = oracle.random_inputs(*sizes, self.dtype, self.memory)
        if self.misaligned:  # each tensor begins in the middle of another
            inputs = [torch.cat([x, x], -1)[..., 1 : 1 + self.head_dim] for x in inputs]
        mask = None if self.text_mask is None else torch.tensor(self.text_mask).bool()
        scale = self.head_dim**-0.5 if self.scale is None else self.scale
        self.arguments = {**dict(zip(("query", "key", "value"), inputs, strict=True)), "layout": layout}
        self.arguments |= {"text_mask": mask, "scale": scale}
        if self.operation == "reshaped":
            residual, drift, ratio = oracle.random_inputs(*sizes[:3], self.head_dim + 1, self.dtype)
            self.arguments |= {
                "ratio": ratio[..., 0].float() if self.ratio == "row" else ratio[:, :, :1, 0].float(),
                "residual": residual[..., 1:],
                "drift": None if self.drift_factor is None else drift[..., 1:],
                "drift_factor": self.drift_factor or 0.0,
            }

    def expected(self) -> tuple[Tensor, ...]:
        """What the operation returns, from the definition, in float64."""
        query, key, value = (self.arguments[name] for name in ("query", "key", "value"))
        tokens, text, scale = query.shape[2], self.arguments["layout"].text, self.arguments["scale"]
        parts: list[tuple[Tensor, ...]] = []
        for row in range(self.batch):
            masked: set[int] = set()
            if self.text_mask is not None:
                masked = {text.start + at for at, seen in enumerate(self.text_mask[row]) if not seen}
            one = [x[row : row + 1] for x in (query, key, value)]

            def inside(at: int, masked: set[int] = masked) -> list[int]:
                return [seen for seen in self.keys_of(at) if seen not in masked]

            def everything(at: int, masked: set[int] = masked) -> list[int]:
                return [seen for seen in range(tokens) if seen not in masked]

            window = oracle.attention_over(*one, inside, scale)
            if self.operation == "refresh":
                dense = oracle.attention_over(*one, everything, scale)

                def outside(at: int) -> list[int]:
                    return sorted({*everything(at)} - {*inside(at)})

                rest, _ = oracle.attention_over(*one, outside, scale)
                share = 1 - torch.exp(window[1] - dense[1])
                parts.append((*dense, *window, share[..., None] * rest))
            else:
                parts.append(window)
        whole = tuple(torch.cat(part) for part in zip(*parts, strict=True))
        if self.operation != "reshaped":
            return whole
        output = self.arguments["ratio"].double()[..., None] * whole[0] + self.arguments["residual"].double()
        if self.drift_factor is not None:
            output += self.drift_factor * self.arguments["drift"].double()
        return (output,)


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


MASK = [[1] * 7 + [0] * 4, [0, 1] * 5 + [0]]
PICTURE = tiles((1, 11, 13), tile=(1, 4, 5), window=(1, 7, 8))
VIDEO = tiles((5, 6, 7), tile=(2, 4, 4), window=(3, 5, 4), text_tokens=11, text_first=False)

CALLS = {
    "image band": Call("window", band(150, 9), head_dim=24),
    "image band, float16, padded channels": Call("window", band(150, 9), head_dim=40, dtype=FLOAT16),
    "band that no block of keys divides": Call("window", band(131, 33), head_dim=16, heads=1),
    "video band, masked text first": Call("window", band(37, 5, 3, 11), batch=2, heads=1, text_mask=MASK),
    "video band, text last, float16": Call("window", band(53, 4, 3, 19, False), head_dim=72, dtype=FLOAT16),
    "band over the whole frame": Call("window", band(20, 30, 2, 5), heads=1),
    "one position": Call("window", band(1, 0, 3, 2), heads=1),
    "more text than picture": Call("window", band(9, 1, 2, 140), heads=1),
    "no text seen": Call("window", band(30, 2, 1, 11), heads=1, text_mask=[[0] * 11]),
    "channels far apart": Call("window", band(40, 3, 2, 5), memory=(3, 0, 2, 1)),
    "heads first in memory": Call("window", band(40, 3, 2, 5), batch=2, memory=(1, 0, 2, 3)),
    "tokens at odd addresses": Call("window", band(40, 3, 2, 5), head_dim=33, dtype=FLOAT16, misaligned=True),
    "scale": Call("window", band(40, 3, 2, 5), heads=1, scale=0.7),
    "negative scale": Call("window", band(40, 3, 2, 5), heads=1, scale=-0.4),
    "scale of zero": Call("window", band(40, 3, 2, 5), heads=1, scale=0.0),
    "tiles of a picture": Call("window", PICTURE, head_dim=24, heads=1),
    "tiles of a video, masked text last": Call("window", VIDEO, batch=2, heads=1, text_mask=MASK),
    "tiles of a video, float16": Call("window", VIDEO, head_dim=40, dtype=FLOAT16, heads=1),
    "tiles of some frames, windows of all": Call("window", tiles((5, 4, 9), (3, 2, 4), (5, 3, 6), 3), heads=1),
    "tile larger than a block": Call("window", tiles((2, 9, 17), (2, 8, 8), (2, 9, 10), 3), heads=1),
    "reshape by row": Call("reshaped", band(37, 5, 3, 11), ratio="row"),
    "reshape by head, with drift": Call("reshaped", band(60, 5), head_dim=24, ratio="head", drift_factor=0.37),
    "reshape of tiles, float16": Call("reshaped", VIDEO, dtype=FLOAT16, heads=1, ratio="row", drift_factor=-2.0),
    "refresh of an image": Call("refresh", band(150, 9), head_dim=24, heads=1),
    "refresh of a video, masked text": Call("refresh", band(37, 5, 3, 11), batch=2, heads=1, text_mask=MASK),
    "refresh of a video, float16": Call("refresh", band(53, 4, 3, 19, False), head_dim=40, dtype=FLOAT16, heads=1),
    "refresh of tiles": Call("refresh", PICTURE, heads=1),
    "refresh of tiles, masked text": Call("refresh", VIDEO, batch=2, heads=1, text_mask=MASK),
    "refresh of everything": Call("refresh", band(20, 19, 2, 5), heads=1),
}


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the kernels return for those calls whose tests are run."""
    calls = {name: (call.operation, call.arguments) for name, call in CALLS.items()}
    return run_interpreted(calls, request, tmp_path_factory.mktemp("interpreter"))


@pytest.mark.parametrize("name", CALLS)
def test_kernels_follow_the_definition(name: str, results: dict[str, Any]) -> None:
    call, result = CALLS[name], results[name]
    assert not isinstance(result, str), result
    actual = (result,) if isinstance(result, Tensor) else tuple(result)
    for got, truth in zip(actual, call.expected(), strict=True):
        oracle.assert_close(got, truth, call.dtype)
    outputs = [x for x in actual if x.dim() == 4]
    assert all(x.dtype == call.dtype and x.transpose(1, 2).is_contiguous() for x in outputs)
    assert all(x.dtype == FLOAT32 for x in actual if x.dim() == 3)


@pytest.mark.parametrize("name", ["refresh of a video, masked text", "refresh of everything"])
def test_queries_that_see_everything_have_no_residual(name: str, results: dict[str, Any]) -> None:
    layout, refresh = CALLS[name].arguments["layout"], results[name]
    dense = slice(None) if layout.is_dense else layout.text
    assert torch.equal(refresh.residual[:, :, dense], torch.zeros_like(refresh.residual[:, :, dense]))
    assert torch.equal(refresh.window_output[:, :, dense], refresh.output[:, :, dense])
    assert torch.equal(refresh.window_lse[:, :, dense], refresh.lse[:, :, dense])
