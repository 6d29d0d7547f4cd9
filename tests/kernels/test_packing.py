import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.kernels import pack, packed_bytes, unpack
from hasten.kernels.packing import reference

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
shapes = st.tuples(st.integers(0, 3), st.integers(1, 5), st.integers(1, 4), st.sampled_from([4, 8, 20, 32]))


def random_values(rows: int, columns: int, groups: int, group: int, dtype: torch.dtype, spread: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rows * 100 + columns * 10 + groups)
    values = torch.randn(rows, columns, groups * group, generator=generator)
    return (values * spread + 3 * torch.randn(rows, columns, 1, generator=generator)).to(dtype)


@settings(max_examples=60, deadline=None)
@given(
    shape=shapes,
    bits=st.sampled_from([2, 4, 8]),
    dtype=st.sampled_from(DTYPES),
    spread=st.sampled_from([1e-3, 1.0, 100.0]),
)
def test_values_come_back_to_the_nearest_level(shape: tuple, bits: int, dtype: torch.dtype, spread: float) -> None:
    *_, groups, group = shape
    values = random_values(*shape, dtype, spread)
    back = unpack(pack(values.mT.contiguous().mT, bits, group))
    assert back.dtype == dtype
    assert back.shape == values.shape
    grouped = values.unflatten(-1, (groups, group)).double()
    least, greatest = (getattr(grouped, name)(-1, keepdim=True) for name in ("amin", "amax"))
    # the stored offset is rounded, which widens the range; so is the scale, up; the result is rounded once more
    offset_error = 2**-11 * least.abs() + 2**-25
    level = (greatest - least + offset_error) / (2**bits - 1) * (1 + 2**-10) + 2**-24
    last = torch.finfo(dtype).eps * (grouped.abs() + level)
    error = (back.unflatten(-1, (groups, group)).double() - grouped).abs()
    assert (error <= level / 2 + offset_error + last).all()


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_codes_are_packed_as_described(bits: int) -> None:
    values = random_values(2, 3, 2, 16, torch.float64, 1.0)
    packed = pack(values, bits, 16)
    torch.testing.assert_close(unpack(packed), reference.unpack(packed), rtol=1e-15, atol=0)
    assert packed.group == 16
    assert packed.codes.shape == (2, 3, 32 * bits // 8)
    assert packed.nbytes == packed_bytes(values.numel(), bits, 16)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_levels_themselves_come_back_exactly(bits: int) -> None:
    values = torch.arange(2.0**bits).repeat(3, 1) * 0.5 - 1
    assert torch.equal(unpack(pack(values, bits)), values)


def test_constant_groups_come_back() -> None:
    values = torch.tensor([[0.0] * 8, [1.5] * 8, [-2.0] * 8])
    assert torch.equal(unpack(pack(values, 4)), values)


def test_values_that_are_not_finite_stay_noticeable() -> None:
    values = torch.ones(2, 8)
    values[0, 3] = float("nan")
    back = unpack(pack(values, 4))
    assert not back[0].isfinite().all()
    assert torch.equal(back[1], values[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((3, 8), "bits=3"), ((4, 5), "group=5"), ((2, 2), "group=2"), ((4, 0), "group=0")],
)
def test_what_cannot_be_packed_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pack(torch.ones(2, 16), *arguments)
    with pytest.raises(ValueError, match="int64"):
        pack(torch.ones(2, 16, dtype=torch.int64), 4)
