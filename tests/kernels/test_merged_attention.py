import attention_oracle as oracle
import pytest
import torch

from hasten.kernels import AttentionOutput, dense_attention
from hasten.kernels.outputs import merge


@pytest.mark.parametrize("split", [0, 1, 7, 12])
@pytest.mark.parametrize("dtype", oracle.DTYPES, ids=str)
def test_parts_merge_into_attention_over_all_keys(split: int, dtype: torch.dtype) -> None:
    query, key, value = oracle.random_inputs(2, 2, 12, 8, dtype)
    parts = [dense_attention(query, key[:, :, keys], value[:, :, keys]) for keys in (slice(split), slice(split, None))]
    output, lse = merge(*parts)
    expected, expected_lse = oracle.attention_over(query, key, value, lambda _: list(range(12)))
    assert output.dtype == dtype
    oracle.assert_close(output, expected, dtype)
    oracle.assert_close(lse, expected_lse, dtype)


def test_two_empty_parts_merge_into_an_empty_one() -> None:
    empty = AttentionOutput(torch.zeros(1, 1, 2, 4), torch.full((1, 1, 2), -torch.inf))
    output, lse = merge(empty, empty)
    assert torch.equal(output, empty.output)
    assert torch.equal(lse, empty.lse)
