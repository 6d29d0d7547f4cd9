"""What a cache should hold, as dense float64 pages: quantizers, tiers and masks written out from their definitions."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from math import erf, exp, inf, log, pi, sqrt

import numpy as np

Array = np.ndarray
Quantizer = Callable[[Array, bool], Array]
Zones = Callable[[int, int, int], list[tuple[str, int]]]


def half(x: Array) -> Array:
    return x.astype(np.float16).astype(np.float64)


def half_above(x: Array) -> Array:
    """As float16, but no less, so that the greatest value of a group is within reach of its codes."""
    following = np.nextafter(x.astype(np.float16), np.float16(np.inf)).astype(x.dtype)
    return np.where(half(x) < x, following, half(x))


def group_for(size: int, wanted: int) -> int:
    divisors = [number for number in range(1, size + 1) if size % number == 0]
    sensible = [number for number in divisors if number >= wanted / 2] or [size]
    below = [number for number in sensible if number <= wanted][-1:]
    above = [number for number in sensible if number > wanted][:1]
    return min(below + above, key=lambda number: abs(number - wanted))


def grouped(x: Array, by_channel: bool, wanted: int) -> tuple[Array, int]:
    batch, heads, tokens, channels = x.shape
    if by_channel:
        group = group_for(tokens, wanted)
        return x.reshape(batch, heads, tokens // group, group, channels), 3
    group = group_for(channels, wanted)
    return x.reshape(batch, heads, tokens, channels // group, group), 4


def symmetric(x: Array, bits: int, wanted: int = 16) -> Array:
    groups, axis = grouped(x, True, wanted)
    top = 2 ** (bits - 1) - 1
    scale = half_above(np.abs(groups).max(axis, keepdims=True) / top)
    safe = np.where(scale > 0, scale, 1)
    return (np.clip(np.round(groups / safe), -top, top) * scale).reshape(x.shape)


def affine(x: Array, bits: int, by_channel: bool, wanted: int) -> Array:
    groups, axis = grouped(x, by_channel, wanted)
    least, most, levels = groups.min(axis, keepdims=True), groups.max(axis, keepdims=True), 2**bits - 1
    offset = half(least)
    scale = half_above(np.maximum(most - offset, offset - least) / levels)
    codes = np.clip(np.round((groups - offset) / np.where(scale > 0, scale, 1)), 0, levels)
    return (offset + scale * codes).reshape(x.shape)


@cache
def normal_levels(bits: int) -> Array:
    count = 2 ** (bits - 1)
    levels = np.linspace(0.1, 2.5, count)
    for _ in range(3000):
        edges = [0.0, *((levels[1:] + levels[:-1]) / 2), inf]
        tops = [0.0 if edge == inf else exp(-edge * edge / 2) / sqrt(2 * pi) for edge in edges]
        areas = [0.5 if edge == inf else erf(edge / sqrt(2)) / 2 for edge in edges]
        levels = np.array([(tops[i] - tops[i + 1]) / (areas[i + 1] - areas[i]) for i in range(count)])
    return np.concatenate([-levels[::-1], levels])


def normal(x: Array, bits: int) -> Array:
    scale = half(np.sqrt((x**2).mean(-1, keepdims=True)))
    levels = normal_levels(bits)
    return levels[np.abs(x[..., None] / scale[..., None] - levels).argmin(-1)] * scale


def hadamard(size: int) -> Array:
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.kron(np.array([[1, 1], [1, -1]]), matrix)
    return matrix / sqrt(size)


def rotated(quantizer: Quantizer) -> Quantizer:
    def quantize(x: Array, is_key: bool) -> Array:
        turn = hadamard(x.shape[-1])
        return quantizer(x @ turn, is_key) @ turn

    return quantize


class DealtOut:
    """Channels in blocks of 32 at most, dealt out by their mean magnitude in the first page; affine codes by token."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.orders: dict[bool, list[Array]] = {}

    def __call__(self, x: Array, is_key: bool) -> Array:
        channels = x.shape[-1]
        block = next(size for size in (32, 16, 8, 4, 2, 1) if channels % size == 0)
        blocks = channels // block
        if is_key not in self.orders:
            rankings = [np.argsort(-np.abs(head).mean((0, 1)), kind="stable") for head in x.swapaxes(0, 1)]
            dealt = [[ranking[place::blocks] for place in range(blocks)] for ranking in rankings]
            self.orders[is_key] = [np.concatenate(hands) for hands in dealt]
        turn = np.kron(np.eye(blocks), hadamard(block))
        coded = np.empty_like(x)
        for head, order in enumerate(self.orders[is_key]):
            turned = x[:, [head]][..., order] @ turn
            coded[:, head, :, order] = np.moveaxis((affine(turned, self.bits, False, 32) @ turn)[:, 0], -1, 0)
        return coded


def residual(x: Array, bits: int, residual_bits: int) -> Array:
    base = symmetric(x, bits)
    return base + symmetric(x - base, residual_bits)


def with_outliers(x: Array, share: float, quantize: Callable[[Array], Array]) -> Array:
    rows = []
    for row in x:
        room = int(share * row.size)
        bound = 6.0 * row.std()
        beyond = [place for place in np.argsort(-np.abs(row.ravel()))[:room] if abs(row.ravel()[place]) > bound]
        bulk = row.ravel().copy()
        bulk[beyond] = np.clip(bulk[beyond], -bound, bound)
        coded = quantize(bulk.reshape(1, *row.shape)).ravel()
        coded[beyond] += half(row.ravel()[beyond] - coded[beyond])
        rows.append(coded.reshape(row.shape))
    return np.stack(rows)


def by_role(keys: Callable[[Array], Array], values: Callable[[Array], Array]) -> Quantizer:
    return lambda x, is_key: keys(x) if is_key else values(x)


def rtn(keys: int, values: int | None = None) -> Quantizer:
    return by_role(lambda x: symmetric(x, keys), lambda x: symmetric(x, values or keys))


def kivi(keys: int, values: int | None = None) -> Quantizer:
    return by_role(lambda x: affine(x, keys, True, 16), lambda x: affine(x, values or keys, False, 1 << 16))


def qaq(bits: int) -> Quantizer:
    return lambda x, is_key: with_outliers(x, 0.0016, lambda bulk: kivi(bits)(bulk, is_key))


def prq(bits: int) -> Quantizer:
    return lambda x, is_key: residual(x, bits, 4)


def exact(x: Array, is_key: bool) -> Array:
    return x


def mean(x: Array, is_key: bool) -> Array:
    return x.mean(2, keepdims=True)


TPTQ = by_role(lambda x: with_outliers(x, 0.001, lambda bulk: residual(bulk, 2, 2)), lambda x: residual(x, 2, 2))


def at_least_one(share: float, pages: int) -> int:
    return min(pages, max(1, round(share * pages)))


def uniform(tier: str) -> Zones:
    return lambda pages, layer, layers: [(tier, pages)]


def recent6(pages: int, layer: int, layers: int) -> list[tuple[str, int]]:
    return [("exact", min(6, pages)), ("high", max(pages - 6, 0))]


def aged(share: float, older: str) -> Zones:
    def zones(pages: int, layer: int, layers: int) -> list[tuple[str, int]]:
        newest = at_least_one(share, pages)
        return [("high", newest), (older, pages - newest)]

    return zones


def flowcache(important: float, retained: float | None, kept: str, rest: str) -> Zones:
    def zones(pages: int, layer: int, layers: int) -> list[tuple[str, int]]:
        budget = 0.75 + 0.5 * layer / (layers - 1)
        newest = at_least_one(min(0.25 * budget, 1), pages)
        older = pages - newest
        best = at_least_one(important * budget, older) if important else 0
        left = older - best
        stay = left if retained is None else at_least_one(retained * budget, left)
        return [("high", newest), ("high", best), (kept, stay), (rest, left - stay)]

    return zones


TIERS = ("exact", "high", "low", "summary", "gone")


@dataclass(frozen=True)
class Definition:
    """A method: zones of pages, the first of the newest, and what the codes of each tier are."""

    zones: Zones
    tiers: dict[str, Quantizer]
    ranked_by: str | None = None
    foreground: float | None = None
    background: Quantizer | None = None
    sinks: str = "high"

    def code(self, tier: str) -> Quantizer:
        return {"exact": exact, "summary": mean, **self.tiers}[tier]


def everywhere(quantizer: Quantizer) -> Definition:
    return Definition(uniform("high"), {"high": quantizer})


def flow(zones: Zones, low: Quantizer | None = None, ranked_by: str = "change") -> Definition:
    return Definition(zones, {"high": rtn(4), "low": low or rtn(2)}, ranked_by)


def split(foreground: Quantizer, share: float, background: Quantizer, sinks: str = "high") -> Definition:
    return Definition(uniform("high"), {"high": foreground}, None, share, background, sinks)


EXACT = Definition(uniform("exact"), {}, sinks="exact")
RECENT = {"zones": recent6, "sinks": "exact"}
SOFT_PRUNE = flowcache(0.1, 0.45, "high", "summary")
MIXED = by_role(lambda x: affine(x, 2, True, 64), lambda x: affine(x, 2, False, 1 << 16))

DEFINITIONS: dict[str, Definition] = {
    "bf16": EXACT,
    "rtn_int4": everywhere(rtn(4)),
    "rtn_int2": everywhere(rtn(2)),
    "rtn_k2_v4": everywhere(rtn(2, 4)),
    "rtn_int4_recent2": Definition(tiers={"high": rtn(4)}, **RECENT),
    "rtn_int4_refresh": everywhere(rtn(4)),
    "kivi_int4": everywhere(kivi(4)),
    "kivi_int2": everywhere(kivi(2)),
    "kivi_int4_refresh": everywhere(kivi(4)),
    "kivi_k2_v4": everywhere(kivi(2, 4)),
    "quarot_kv_int4": everywhere(rotated(rtn(4))),
    "quarot_kv_int2": everywhere(rotated(rtn(2))),
    "quarot_kv_int4_recent2": Definition(tiers={"high": rotated(rtn(4))}, **RECENT),
    "quarot_kv_int4_refresh": everywhere(rotated(rtn(4))),
    "prq_int4": everywhere(prq(4)),
    "prq_int2": everywhere(prq(2)),
    "qaq_int4": everywhere(qaq(4)),
    "qaq_int2": everywhere(qaq(2)),
    "tptq_int2": Definition(aged(0.15, "low"), {"high": rtn(4), "low": TPTQ}),
    "age_tier_int4": Definition(aged(0.3, "high"), {"high": rtn(4)}),
    "age_tier_int2": Definition(aged(0.3, "low"), {"high": rtn(4), "low": rtn(2)}),
    "flowcache_hybrid_int2": flow(flowcache(0, None, "low", "gone")),
    "flowcache_adaptive_int2": flow(flowcache(0.2, None, "low", "gone")),
    "flowcache_prune_int4": flow(flowcache(0.1, 0.45, "high", "gone")),
    "flowcache_prune_int2": flow(flowcache(0.1, 0.3, "low", "gone")),
    "flowcache_soft_prune_int4": flow(SOFT_PRUNE),
    "flowcache_soft_prune_int2": flow(flowcache(0.1, 0.45, "low", "summary")),
    "flowcache_native": EXACT,
    "flowcache_native_soft_prune_int4": flow(SOFT_PRUNE),
    "spatial_mixed_fg_rtn_int4_bg_rtn_int2": split(rtn(4), 0.65, rtn(2)),
    "spatial_mixed_fg_rtn_int4_bg_rtn_int4": split(rtn(4), 0.65, rtn(4)),
    "spatial_mixed_fg_kivi_int4_bg_kivi_int2": split(kivi(4), 0.8, kivi(2)),
    "spatial_mixed_fg_quarot_kv_int4_bg_rtn_int2": split(rotated(rtn(4)), 0.8, rtn(2)),
    "rtn_int8": everywhere(rtn(8)),
    "quarot_kv_int8": everywhere(rotated(rtn(8))),
    "turboquant_int4": everywhere(rotated(lambda x, is_key: normal(x, 4))),
    "turboquant_int2": everywhere(rotated(lambda x, is_key: normal(x, 2))),
    "rotate_sink_int4": Definition(uniform("high"), {"high": DealtOut(4)}, sinks="exact"),
    "rotate_sink_int2": Definition(uniform("high"), {"high": DealtOut(2)}, sinks="exact"),
    "mixed_1.5bit": split(MIXED, 0.65, mean, sinks="exact"),
    "attention_soft_prune_int4": flow(SOFT_PRUNE, ranked_by="attention"),
}


@dataclass
class OraclePage:
    number: int
    tier: str = "exact"
    parts: list[tuple[Array, Array, float]] = field(default_factory=list)
    change: float = 1.0
    attention: float = 0.0


@dataclass
class OracleLayer:
    """The cache of a layer. Pages are lists of (keys, values, logit bias), one for each part."""

    method: Definition
    window: int
    sinks: int
    chunk: int
    layer: int
    layers: int
    pages: list[OraclePage] = field(default_factory=list)
    levels: list[Array] = field(default_factory=list)
    magnitudes: list[Array] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.method = copy.deepcopy(self.method)  # a quantizer may keep what it learned of its first page

    def update(self, keys: list[Array], values: list[Array], query: Array) -> None:
        new = []
        for key, value in zip(keys, values, strict=True):
            self.levels.append(np.abs(value).mean((0, 1, 3)))
            self.magnitudes.append(np.abs(key).mean((0, 2, 3)) + np.abs(value).mean((0, 2, 3)))
            page = OraclePage(len(self.levels) - 1, parts=[(key, value, 0.0)])
            if page.number:
                before = self.magnitudes[-2]
                page.change = np.abs(self.magnitudes[-1] - before).mean() / before.mean()
            new.append(page)
        order = np.argsort(-np.var(np.stack(self.levels), axis=0), kind="stable")
        pages = [*self.pages, *new]
        if self.method.ranked_by == "attention":
            self._attend(pages, query)
        sinks = [page for page in pages if page.number < self.sinks]
        others = [page for page in pages if page.number >= self.sinks]
        room = self.window - self.chunk - self.sinks
        others = others[-room:] if room else []
        targets = self._targets(others)
        self.pages = sinks + others
        for page, tier in zip(self.pages, [self.method.sinks] * len(sinks) + targets, strict=True):
            self._settle(page, tier, any(page is one for one in new), order)

    def _attend(self, pages: list[OraclePage], query: Array) -> None:
        sample = query[:, :, :: -(-query.shape[2] // 64)]
        there = [page for page in pages if page.tier != "gone"]
        sums = [np.exp(scores(sample, page.parts)).sum(-1) for page in there]
        for page, mass in zip(there, sums, strict=True):
            page.attention = (mass / sum(sums)).mean()

    def _targets(self, pages: list[OraclePage]) -> list[str]:
        if not pages:
            return []
        (newest, count), *others = self.method.zones(len(pages), self.layer, self.layers)
        targets = [newest] * len(pages)
        left = sorted(range(len(pages) - count), key=lambda place: -self._score(pages, place))
        for tier, wanted in others[:-1]:
            best = [place for place in left if TIERS.index(pages[place].tier) <= TIERS.index(tier)][:wanted]
            for place in best:
                targets[place] = tier
            left = [place for place in left if place not in best]
        for place in left:
            targets[place] = others[-1][0]
        return [max(target, page.tier, key=TIERS.index) for target, page in zip(targets, pages, strict=True)]

    def _score(self, pages: list[OraclePage], place: int) -> float:
        if self.method.ranked_by == "attention":
            return pages[place].attention
        if self.method.ranked_by == "change":
            return 0.7 * pages[place].change + 0.3 * place / (len(pages) - 1)
        return place

    def _settle(self, page: OraclePage, tier: str, is_new: bool, order: Array) -> None:
        if tier == page.tier and not is_new:
            return
        page.tier = tier
        if tier == "gone":
            page.parts = []
            return
        [(key, value, _)] = page.parts
        code = self.method.code(tier)
        share = self.method.foreground
        if share is None or tier != "high":
            page.parts = [part(key, value, code)]
            return
        count = round(share * key.shape[2])
        front, back = np.sort(order[:count]), np.sort(order[count:])
        assert self.method.background is not None
        page.parts = [
            part(key[:, :, front], value[:, :, front], code),
            part(key[:, :, back], value[:, :, back], self.method.background),
        ]

    def content(self) -> tuple[Array, Array, Array] | None:
        """Keys, values and biases in the order in which the cache gives them: by tier, part and age."""
        ordered = sorted(
            (
                (TIERS.index(page.tier), place, page.number, one)
                for page in self.pages
                for place, one in enumerate(page.parts)
            ),
            key=lambda entry: entry[:3],
        )
        if not ordered:
            return None
        keys, values, biases = zip(*(entry[3] for entry in ordered), strict=True)
        bias = np.concatenate([np.full(key.shape[2], one) for key, one in zip(keys, biases, strict=True)])
        return np.concatenate(keys, 2), np.concatenate(values, 2), bias


def part(key: Array, value: Array, code: Quantizer) -> tuple[Array, Array, float]:
    return code(key, True), code(value, False), log(key.shape[2]) if code is mean else 0.0


def scores(query: Array, parts: list[tuple[Array, Array, float]]) -> Array:
    return np.concatenate([query @ key.swapaxes(2, 3) / sqrt(key.shape[-1]) + bias for key, _, bias in parts], -1)
