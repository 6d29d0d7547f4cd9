import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.kernels import PagedTensor, PageFormat, PagePool, nearest_divisors
from hasten.kernels.paged import reference
from hasten.kernels.paged.formats import gaussian_levels

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
HALF_STEP = 2**-11
SHAPE = (2, 3, 12, 16)
FORMATS = {
    "4 bits by channel": PageFormat(4, "channel", 4, symmetric=True),
    "2 bits by channel, offset": PageFormat(2, "channel", 12, symmetric=False),
    "8 bits by token": PageFormat(8, "token", 8, symmetric=True),
    "4 bits by token, offset": PageFormat(4, "token", 16, symmetric=False),
    "2 bits, residual of 4": PageFormat(2, "channel", 6, symmetric=True, residual_bits=4),
    "4 bits with offset, residual of 2": PageFormat(4, "token", 4, symmetric=False, residual_bits=2),
    "gaussian, 4 bits": PageFormat(4, "token", 16, symmetric=True, codebook="gaussian"),
    "gaussian, 2 bits, residual of 2": PageFormat(2, "token", 8, symmetric=True, codebook="gaussian", residual_bits=2),
    "outliers": PageFormat(4, "channel", 4, symmetric=False, outlier_sigma=2.0, outlier_share=0.02),
    "outliers and residual": PageFormat(
        2, "channel", 3, symmetric=True, residual_bits=2, outlier_sigma=1.5, outlier_share=0.1
    ),
}
every_format = pytest.mark.parametrize("page_format", FORMATS.values(), ids=FORMATS)


def random_page(shape: tuple[int, ...] = SHAPE, seed: int = 0, spread: float = 1.0) -> torch.Tensor:
    """Values with an offset and a spread of each channel, as keys have them; float64."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator, dtype=torch.float64)
    of_channel = torch.randn(2, 1, shape[1], 1, shape[3], generator=generator, dtype=torch.float64)
    return spread * (values * (1 + of_channel[0].abs()) + 2 * of_channel[1])


def written(x: torch.Tensor, page_format: PageFormat | None, dtype: torch.dtype = torch.float64) -> PagedTensor:
    pages = PagedTensor.allocate(2, tuple(x.shape), page_format, dtype)
    pages.write(1, x)
    return pages


def in_groups(x: torch.Tensor, page_format: PageFormat) -> torch.Tensor:
    """The values of each group in the last dimension."""
    if page_format.grouping == "channel":
        return x.unflatten(2, (-1, page_format.group)).transpose(-1, -2)
    return x.unflatten(3, (-1, page_format.group))


@settings(max_examples=60, deadline=None)
@given(
    bits=st.sampled_from([2, 4, 8]),
    grouping=st.sampled_from(["channel", "token"]),
    group=st.sampled_from([1, 2, 4, 8]),
    symmetric=st.booleans(),
    dtype=st.sampled_from(DTYPES),
    spread=st.sampled_from([1e-3, 1.0, 100.0]),
    seed=st.integers(0, 9),
)
def test_values_come_back_to_the_nearest_level(
    bits: int, grouping: str, group: int, symmetric: bool, dtype: torch.dtype, spread: float, seed: int
) -> None:
    page_format = PageFormat(bits, grouping, group, symmetric)
    x = random_page((1, 2, 8, 8), seed, spread).to(dtype)
    back = written(x.mT.contiguous().mT, page_format, dtype).read((1,))
    assert back.dtype == dtype
    values = in_groups(x.double(), page_format)
    least, greatest = values.amin(-1, keepdim=True), values.amax(-1, keepdim=True)
    if symmetric:
        offset_error = torch.zeros_like(least)
        level = values.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
    else:
        offset_error = HALF_STEP * least.abs() + 2**-25
        level = (greatest - least + offset_error) / (2**bits - 1)
    level = level * (1 + 2 * HALF_STEP) + 2**-24
    last = torch.finfo(dtype).eps * (values.abs() + level)
    error = (in_groups(back.double(), page_format) - values).abs()
    assert (error <= level / 2 + offset_error + last).all()


@every_format
def test_codes_are_stored_as_described(page_format: PageFormat) -> None:
    pages = written(random_page(), page_format)
    torch.testing.assert_close(pages.read((1,)), reference.read(pages, 1), rtol=0, atol=1e-14)


@every_format
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_values_are_read_in_the_dtype_of_the_model(page_format: PageFormat, dtype: torch.dtype) -> None:
    pages = written(random_page(), page_format, dtype)
    read = pages.read((1,))
    assert read.dtype == dtype
    exact = reference.read(pages, 1)
    torch.testing.assert_close(read.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-6)


@every_format
def test_memory_is_what_the_formula_says(page_format: PageFormat) -> None:
    pages = PagedTensor.allocate(5, SHAPE, page_format, torch.bfloat16)
    assert pages.nbytes == 5 * page_format.page_bytes(*SHAPE)
    assert pages.nbytes == sum(tensor.untyped_storage().nbytes() for tensor in pages.tensors)


@pytest.mark.parametrize(
    ("page_format", "bits"),
    [
        (PageFormat(4, "channel", 16, symmetric=True), 5),
        (PageFormat(2, "channel", 16, symmetric=True), 3),
        (PageFormat(4, "channel", 16, symmetric=False), 6),
        (PageFormat(4, "token", 128, symmetric=False), 4.25),
        (PageFormat(2, "channel", 16, symmetric=True, residual_bits=4), 8),
        (PageFormat(2, "channel", 16, symmetric=True, outlier_sigma=6.0, outlier_share=0.001), 3.048),
    ],
    ids=str,
)
def test_bits_of_a_value_are_those_of_the_definition(page_format: PageFormat, bits: float) -> None:
    shape = (1, 12, 1600, 128)
    assert page_format.page_bytes(*shape) * 8 / torch.Size(shape).numel() == pytest.approx(bits, rel=1e-5)


def test_slots_do_not_touch_each_other() -> None:
    pool = PagePool.allocate(4, SHAPE, *[FORMATS["outliers"]] * 2, torch.float32)
    contents = {slot: (random_page(seed=slot), random_page(seed=10 + slot)) for slot in range(4)}
    for slot, page in contents.items():
        pool.write(slot, *page)
    before = pool.read((0, 1, 3))
    pool.write(2, *contents[0])
    for now, then in zip(pool.read((0, 1, 3)), before, strict=True):
        assert torch.equal(now, then)
    assert torch.equal(pool.read((2,))[0], pool.read((0,))[0])


def test_two_bits_are_ternary() -> None:
    pages = written(random_page(), PageFormat(2, "channel", 12, symmetric=True))
    units = pages.read((1,)) / random_page().abs().amax(2, keepdim=True)
    assert set(units.round(decimals=2).unique().tolist()) == {-1.0, 0.0, 1.0}


@pytest.mark.parametrize("mean", [0.0, 4.0, -8.0])
def test_levels_follow_groups_wherever_they_lie(mean: float) -> None:
    """A zero point that were clamped to its codes would cut groups that do not straddle 0."""
    x = torch.randn(1, 2, 160, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    back = written(x + mean, PageFormat(4, "channel", 16, symmetric=False)).read((1,)) - mean
    assert (back - x).square().mean().sqrt() < 0.08


def test_a_residual_is_coded_in_the_steps_that_the_first_plane_leaves() -> None:
    x = random_page()
    back = written(x, PageFormat(4, "channel", 12, symmetric=True, residual_bits=4)).read((1,))
    step = x.abs().amax(2, keepdim=True) / 7
    assert ((back - x).abs() <= step / 14 / 2 * (1 + 8 * HALF_STEP)).all()


def test_gaussian_levels_are_the_published_ones() -> None:
    """Max, "Quantizing for minimum distortion", 1960, table I."""
    for bits, published in ((2, [0.4528, 1.510]), (4, [0.1284, 0.3881, 0.6568, 0.9424, 1.256, 1.618, 2.069, 2.733])):
        levels = gaussian_levels(bits)
        assert levels[2 ** (bits - 1) :] == pytest.approx(published, abs=5e-4)
        assert levels == tuple(-level for level in reversed(levels))


@pytest.mark.parametrize(("bits", "distortion"), [(2, 0.1175), (4, 0.009497)])
def test_gaussian_codes_reach_the_least_distortion(bits: int, distortion: float) -> None:
    x = torch.randn(1, 4, 256, 128, generator=torch.Generator().manual_seed(0))
    back = written(3 * x, PageFormat(bits, "token", 128, symmetric=True, codebook="gaussian")).read((1,))
    assert (back - 3 * x).square().mean() / 9 == pytest.approx(distortion, rel=0.03)


def test_the_largest_values_are_kept_as_outliers() -> None:
    x = torch.randn(2, 2, 40, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for batch, head, token, channel in [(0, 0, 3, 5), (0, 1, 39, 15), (1, 1, 0, 0)]:
        x[batch, head, token, channel] = 60.0 + token
    plain = PageFormat(4, "channel", 8, symmetric=True)
    kept = PageFormat(4, "channel", 8, symmetric=True, outlier_sigma=6.0, outlier_share=2 / (2 * 40 * 16))
    back, without = written(x, kept).read((1,)), written(x, plain).read((1,))
    large = x.abs() > 50
    torch.testing.assert_close(back[large], x[large], rtol=1e-3, atol=0)
    assert (back - x)[~large].abs().max() < 1.5 < (without - x)[~large].abs().max()


def test_values_within_the_bound_are_no_outliers() -> None:
    x = random_page()
    plain = PageFormat(4, "channel", 4, symmetric=True)
    kept = PageFormat(4, "channel", 4, symmetric=True, outlier_sigma=50.0, outlier_share=0.1)
    assert torch.equal(written(x, kept).read((1,)), written(x, plain).read((1,)))


def test_values_that_are_not_finite_stay_noticeable() -> None:
    x = random_page()
    x[0, 1, 5, 3] = float("nan")
    x[1, 0, 5, 3] = 1e9
    back = written(x, PageFormat(4, "channel", 4, symmetric=True)).read((1,))
    damaged = ~in_groups(back, PageFormat(4, "channel", 4, symmetric=True)).isfinite().all(-1)
    assert damaged.sum() == 2


def test_zeros_come_back_as_zeros() -> None:
    for page_format in FORMATS.values():
        assert not written(torch.zeros(SHAPE), page_format).read((1,)).any()


def test_pages_without_a_format_keep_every_bit() -> None:
    x = random_page().bfloat16()
    pages = written(x, None, torch.bfloat16)
    assert torch.equal(pages.read((1,)), x)
    assert pages.nbytes == 2 * x.nbytes


def test_rotation_spreads_a_strong_channel() -> None:
    key = torch.randn(1, 2, 32, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    key[..., 7] *= 40
    page_format = PageFormat(4, "token", 64, symmetric=True)
    errors = []
    for rotated in (False, True):
        pool = PagePool.allocate(1, tuple(key.shape), page_format, page_format, torch.float64, rotated=rotated)
        pool.write(0, key, key)
        errors.append((pool.read((0,))[0] - key).square().mean().item())
    assert errors[1] < 0.7 * errors[0]


def test_channels_are_dealt_out_to_blocks_by_their_magnitude_in_the_first_page() -> None:
    loudness = torch.tensor([[1.0, 9, 2, 8, 3, 7, 4, 6], [8.0, 7, 6, 5, 4, 3, 2, 1]])
    key = loudness[None, :, None] * torch.randn(1, 2, 400, 8, generator=torch.Generator().manual_seed(0)).sign()
    pool = PagePool.allocate(2, (1, 2, 400, 8), None, None, torch.float64, rotated_channels=4)
    pool.write(0, key, key.flip(-1))
    of_keys, of_values = pool.rotations
    # by magnitude, in turn to the first and to the second block
    assert of_keys.order.tolist() == [[1, 5, 6, 2, 3, 7, 4, 0], [0, 2, 4, 6, 1, 3, 5, 7]]
    assert of_values.order.tolist() == [[6, 2, 1, 5, 4, 0, 3, 7], [7, 5, 3, 1, 6, 4, 2, 0]]
    first = pool.keys.read((0,))
    pool.write(1, key.flip(-1), key)
    assert of_keys.order.tolist()[1] == [0, 2, 4, 6, 1, 3, 5, 7]
    torch.testing.assert_close(pool.read((0, 1))[0], torch.cat([key, key.flip(-1)], 2).double())
    signs = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]).double() / 2
    torch.testing.assert_close(first[0, 0, :, :4], key[0, 0][:, [1, 5, 6, 2]].double() @ signs)


def test_dealing_out_channels_spreads_outliers_better_than_one_rotation() -> None:
    """At equal bits, of pages that the order was not fitted to."""
    loudness = torch.where(torch.rand(1, 4, 1, 128, generator=torch.Generator().manual_seed(0)) < 0.06, 12.0, 1.0)
    pages = loudness * torch.randn(2, 1, 4, 240, 128, generator=torch.Generator().manual_seed(1))
    formats = {
        "blocks": (PageFormat(4, "token", 32, symmetric=False), {"rotated_channels": 32}),
        "whole": (PageFormat(4, "token", 32, symmetric=False), {"rotated": True}),
        "by channel": (PageFormat(4, "channel", 16, symmetric=True), {"rotated": True}),
    }
    errors = {}
    for name, (page_format, rotation) in formats.items():
        pool = PagePool.allocate(2, (1, 4, 240, 128), page_format, page_format, torch.float32, **rotation)
        pool.write(0, pages[0], pages[0])
        pool.write(1, pages[1], pages[1])
        errors[name] = (pool.read((1,))[0] - pages[1]).square().mean().item()
    assert errors["blocks"] < 0.5 * errors["whole"]
    assert errors["blocks"] < 0.5 * errors["by channel"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bits": 3}, "bits=3"),
        ({"residual_bits": 16}, "residual_bits=16"),
        ({"group": 0}, "group=0"),
        ({"grouping": "head"}, "head"),
        ({"codebook": "laplace"}, "laplace"),
        ({"codebook": "gaussian", "symmetric": False}, "symmetric=False"),
        ({"codebook": "gaussian", "bits": 8}, "8 bits"),
        ({"outlier_sigma": 6.0}, "outlier_share=0.0"),
        ({"outlier_share": 0.1}, "outlier_sigma=None"),
    ],
    ids=str,
)
def test_what_is_no_format_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PageFormat(**{"bits": 4, "grouping": "channel", "group": 16, "symmetric": True, **fields})


def test_groups_that_do_not_fit_a_page_are_refused_with_those_that_do() -> None:
    with pytest.raises(ValueError, match="16 does not divide the 1560 tokens of a page; take 15 or 20"):
        PagedTensor.allocate(1, (1, 1, 1560, 128), PageFormat(4, "channel", 16, symmetric=True), torch.float32)
    with pytest.raises(ValueError, match="48 does not divide the 128 channels of a head; take 32 or 64"):
        PageFormat(4, "token", 48, symmetric=True).page_bytes(1, 1, 1560, 128)
    with pytest.raises(ValueError, match="6 channels of 2 bits"):
        PageFormat(2, "token", 6, symmetric=True).check(8, 6)
    with pytest.raises(ValueError, match="96 channels cannot be rotated"):
        PagePool.allocate(1, (1, 1, 8, 96), None, None, torch.float32, rotated=True)
    with pytest.raises(ValueError, match="24 channels cannot be rotated"):
        PagePool.allocate(1, (1, 1, 8, 96), None, None, torch.float32, rotated_channels=24)
    with pytest.raises(ValueError, match="Blocks of 64 channels do not divide the 96 of a head"):
        PagePool.allocate(1, (1, 1, 8, 96), None, None, torch.float32, rotated_channels=64)


@pytest.mark.parametrize(("size", "wanted", "nearest"), [(1560, 16, (15, 20)), (60, 15, (15,)), (7, 9, (7,))])
def test_nearest_divisors(size: int, wanted: int, nearest: tuple[int, ...]) -> None:
    assert nearest_divisors(size, wanted) == nearest


def test_pages_that_do_not_fit_are_refused() -> None:
    pages = PagedTensor.allocate(2, SHAPE, None, torch.float32)
    with pytest.raises(ValueError, match=r"\(2, 3, 12, 15\)"):
        pages.write(0, torch.zeros(2, 3, 12, 15))
    with pytest.raises(ValueError, match="Slot 2 does not exist"):
        pages.write(2, torch.zeros(SHAPE))
