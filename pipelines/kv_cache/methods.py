"""The cache methods by name: the 33 of the study, and ours.

The study is github.com/suraj-ranganath/kv-quant-longhorizon, on Self-Forcing (arXiv 2506.08009). Its methods are here
by their definitions, without what its code adds: pages are packed, written once, on the clean pass of their chunk, and
never full length in 16 bits; offsets are not clamped; recent means recent among what is there; variances see written
frames alone; what is pruned gets no attention; rotation turns queries and outputs, not the cache. A spatial mask always
has its target size, as 97 % of the study's masks of variable size had, since a page's memory is fixed ahead. The layer
budgets of FlowCache are the study's profile in models of as many layers, 30; in others, which it does not know, a ramp.
"""

from dataclasses import replace

from hasten.kernels.paged import PageFormat

from .formats import EXACT, Mean, Packed, Part, kivi, prq, qaq, rotatekv, rtn, turboquant
from .method import CacheMethod
from .policies import AgeTiers, FlowCache, RecentFrames, Tier, Uniform
from .step_reuse import StepReuse

_PROFILE = (
    *(1.300, 1.022, 1.016, 0.878, 0.867, 0.889, 1.013, 0.915, 0.820, 1.016),
    *(0.788, 0.889, 0.808, 0.727, 0.710, 0.799, 0.700, 0.757, 0.851, 0.838),
    *(0.856, 0.896, 0.878, 0.875, 0.972, 0.919, 0.862, 1.054, 0.979, 1.112),
)
"""The study's layer budgets on MovieGen prompts, from its log; they belong to the 30 layers of Wan 2.1 1.3B."""
_CADENCE = "; as a page is written once in any case, its cadence of quantizing is that of"


def _uniform(name: str, description: str, *parts: Part | Packed) -> CacheMethod:
    stored = tuple(part if isinstance(part, Part) else Part(part) for part in parts)
    family = name.split("_")[0]
    return CacheMethod(name, family, description, Uniform(Tier.HIGH), {Tier.HIGH: stored})


def _recent2(name: str, base: str, packed: Packed) -> CacheMethod:
    description = f"the newest 6 latent frames in 16 bits, older ones as {base}"
    formats = {Tier.EXACT: EXACT, Tier.HIGH: (Part(packed),)}
    return CacheMethod(name, name.split("_")[0], description, RecentFrames(6), formats)


def _spatial(name: str, description: str, foreground: Packed, background: Packed, share: float) -> CacheMethod:
    method = _uniform(f"spatial_mixed_{name}", description, Part(foreground, share), Part(background, 1 - share))
    return replace(method, family="spatial_mixed")


def _rotate_sink(bits: int) -> CacheMethod:
    return CacheMethod(
        f"rotate_sink_int{bits}",
        "rotate_sink",
        f"{bits} bits with offsets, rotated 32 channels at a time, among which those of great magnitude are dealt out "
        "evenly, and the first frame in 16 bits for good, in the spirit of RotateKV (arXiv 2501.16383)",
        Uniform(Tier.HIGH),
        {Tier.EXACT: EXACT, Tier.HIGH: (Part(rotatekv(bits)),)},
        sink_tier=Tier.EXACT,
        sink_frames=1,
    )


_EXACT = CacheMethod("bf16", "bf16", "the attended window in 16 bits", Uniform(Tier.EXACT), {Tier.EXACT: EXACT})
_INT4 = {Tier.HIGH: (Part(rtn(4)),)}
_INT4_INT2 = {Tier.HIGH: (Part(rtn(4)),), Tier.LOW: (Part(rtn(2)),)}
_PRUNE = FlowCache(important=0.1, retained=0.45, retained_tier=Tier.HIGH, profile=_PROFILE)
_SOFT_PRUNE = replace(_PRUNE, rest=Tier.SUMMARY)
_SOFT_PRUNE_INT4 = CacheMethod(
    "flowcache_soft_prune_int4",
    "flowcache",
    "as flowcache_prune_int4, but pruned pages leave their mean key and value, weighted by their tokens",
    _SOFT_PRUNE,
    _INT4,
)
_TPTQ_KEYS = PageFormat(2, "channel", 16, symmetric=True, residual_bits=2, outlier_sigma=6.0, outlier_share=0.001)

STUDY = (
    _EXACT,
    _uniform("rtn_int4", "4 bits, one scale for 16 tokens of a channel", rtn(4)),
    _uniform("rtn_int2", "2 bits, which are three levels, one scale for 16 tokens of a channel", rtn(2)),
    _uniform("rtn_k2_v4", "keys as rtn_int2, values as rtn_int4", rtn(2, 4)),
    _recent2("rtn_int4_recent2", "rtn_int4", rtn(4)),
    _uniform("rtn_int4_refresh", f"4 bits{_CADENCE} rtn_int4", rtn(4)),
    _uniform("kivi_int4", "4 bits with offsets: keys by channel, values by token", kivi(4)),
    _uniform("kivi_int2", "2 bits with offsets: keys by channel, values by token", kivi(2)),
    _uniform("kivi_int4_refresh", f"4 bits with offsets{_CADENCE} kivi_int4", kivi(4)),
    _uniform("kivi_k2_v4", "keys as kivi_int2, values as kivi_int4", kivi(2, 4)),
    _uniform("quarot_kv_int4", "rtn_int4 of rotated keys and values", rtn(4, rotated=True)),
    _uniform("quarot_kv_int2", "rtn_int2 of rotated keys and values", rtn(2, rotated=True)),
    _recent2("quarot_kv_int4_recent2", "quarot_kv_int4", rtn(4, rotated=True)),
    _uniform("quarot_kv_int4_refresh", f"4 bits, rotated{_CADENCE} quarot_kv_int4", rtn(4, rotated=True)),
    _uniform("prq_int4", "rtn_int4, and 4 bits for what it leaves", prq(4)),
    _uniform("prq_int2", "rtn_int2, and 4 bits for what it leaves", prq(2)),
    _uniform("qaq_int4", "kivi_int4, values beyond 6 σ kept in 16 bits", qaq(4)),
    _uniform("qaq_int2", "kivi_int2, values beyond 6 σ kept in 16 bits", qaq(2)),
    CacheMethod(
        "tptq_int2",
        "tptq",
        "the newest 15 % as rtn_int4, older pages in 2 bits with 2 for what they leave, keys beyond 6 σ in 16 bits",
        AgeTiers(0.15),
        {Tier.HIGH: (Part(rtn(4)),), Tier.LOW: (Part(Packed(_TPTQ_KEYS, prq(2, 2).values)),)},
    ),
    CacheMethod(
        "age_tier_int4", "age_tier", "two zones by age, both as rtn_int4", AgeTiers(0.3, older=Tier.HIGH), _INT4
    ),
    CacheMethod(
        "age_tier_int2", "age_tier", "the newest 30 % as rtn_int4, older pages as rtn_int2", AgeTiers(0.3), _INT4_INT2
    ),
    CacheMethod(
        "flowcache_hybrid_int2",
        "flowcache",
        "a newest share that grows with the layer's budget as rtn_int4, older pages as rtn_int2",
        FlowCache(profile=_PROFILE),
        _INT4_INT2,
    ),
    CacheMethod(
        "flowcache_adaptive_int2",
        "flowcache",
        "as flowcache_hybrid_int2, and the most important fifth of the older pages as rtn_int4 too",
        FlowCache(important=0.2, profile=_PROFILE),
        _INT4_INT2,
    ),
    CacheMethod(
        "flowcache_prune_int4",
        "flowcache",
        "newest, important and 45 % of the other pages as rtn_int4, the rest dropped",
        _PRUNE,
        _INT4,
    ),
    CacheMethod(
        "flowcache_prune_int2",
        "flowcache",
        "newest and important pages as rtn_int4, 30 % of the others as rtn_int2, the rest dropped",
        replace(_PRUNE, retained=0.3, retained_tier=Tier.LOW),
        _INT4_INT2,
    ),
    _SOFT_PRUNE_INT4,
    CacheMethod(
        "flowcache_soft_prune_int2",
        "flowcache",
        "as flowcache_soft_prune_int4, with the retained 45 % as rtn_int2",
        replace(_SOFT_PRUNE, retained_tier=Tier.LOW),
        _INT4_INT2,
    ),
    replace(
        _EXACT,
        name="flowcache_native",
        family="flowcache",
        description="the attended window in 16 bits, and one denoising step of a chunk repeats a residual",
        step_reuse=StepReuse(),
    ),
    replace(
        _SOFT_PRUNE_INT4,
        name="flowcache_native_soft_prune_int4",
        description="flowcache_soft_prune_int4 with the step reuse of flowcache_native",
        step_reuse=StepReuse(),
    ),
    _spatial(
        "fg_rtn_int4_bg_rtn_int2",
        "the 65 % of a frame's tokens that vary most over time as rtn_int4, the others as rtn_int2",
        rtn(4),
        rtn(2),
        0.65,
    ),
    _spatial("fg_rtn_int4_bg_rtn_int4", "65 % and 35 % of a frame's tokens, both as rtn_int4", rtn(4), rtn(4), 0.65),
    _spatial(
        "fg_kivi_int4_bg_kivi_int2",
        "the 80 % of a frame's tokens that vary most over time as kivi_int4, the others as kivi_int2",
        kivi(4),
        kivi(2),
        0.8,
    ),
    _spatial(
        "fg_quarot_kv_int4_bg_rtn_int2",
        "the 80 % of a frame's tokens that vary most over time as quarot_kv_int4, the others as rtn_int2",
        rtn(4, rotated=True),
        rtn(2),
        0.8,
    ),
)
"""The methods of the study."""

OURS = (
    _uniform("rtn_int8", "8 bits, one scale for 16 tokens of a channel", rtn(8)),
    _uniform("quarot_kv_int8", "rtn_int8 of rotated keys and values", rtn(8, rotated=True)),
    _uniform("turboquant_int4", "4 bits, rotated, levels of the normal distribution, a scale a token", turboquant(4)),
    _uniform("turboquant_int2", "2 bits, rotated, levels of the normal distribution, a scale a token", turboquant(2)),
    _rotate_sink(4),
    _rotate_sink(2),
    CacheMethod(
        "mixed_1.5bit",
        "mixed",
        "the 65 % of a frame's tokens that vary most in 2 bits, one mean for the others, in the spirit of VidKV "
        "(arXiv 2503.16257)",
        Uniform(Tier.HIGH),
        {
            Tier.EXACT: EXACT,
            Tier.HIGH: (
                Part(Packed(PageFormat(2, "channel", 64, symmetric=False), kivi(2).values), 0.65),
                Part(Mean(), 0.35),
            ),
        },
        sink_tier=Tier.EXACT,
    ),
    replace(
        _SOFT_PRUNE_INT4,
        name="attention_soft_prune_int4",
        family="attention",
        description="flowcache_soft_prune_int4 with pages ranked by the attention that they get from the newest chunk",
        policy=replace(_SOFT_PRUNE, importance="attention", recency=0.0),
    ),
)
"""Methods beyond the study."""

METHODS = {method.name: method for method in (*STUDY, *OURS)}
"""All of them by name."""
