import attention_oracle as oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.kernels import dense_attention
from hasten.kernels.dense import cpu, portable, reference


@pytest.fixture(params=["flash", "portable"])
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test with torch's operator and, as in a torch that lacks it, with plain calls in small blocks."""
    if request.param == "portable":
        monkeypatch.setattr(cpu, "_flash", None)
        monkeypatch.setattr(portable, "SCORES_PER_BLOCK", 100)
    return request.param


@settings(max_examples=40, deadline=None)
@given(
    sizes=oracle.sizes,
    queries=st.integers(1, 70),
    keys=st.integers(1, 70),
    dtype=oracle.dtypes,
    memory=oracle.memory_orders,
    scale=st.sampled_from([None, 0.3]),
)
def test_output_and_lse_follow_the_definition(
    sizes: tuple, queries: int, keys: int, dtype: torch.dtype, memory: tuple, scale: float | None
) -> None:
    batch, heads, head_dim = sizes
    query, _, _ = oracle.random_inputs(batch, heads, queries, head_dim, dtype, memory)
    key, value, _ = oracle.random_inputs(batch, heads, keys, head_dim, dtype, memory)
    output, lse = dense_attention(query, key, value, scale=scale)
    expected, expected_lse = oracle.attention_over(query, key, value, lambda _: list(range(keys)), scale)
    oracle.assert_close(output, expected, dtype)
    oracle.assert_close(lse, expected_lse, dtype)


@pytest.mark.parametrize("dtype", oracle.DTYPES, ids=str)
def test_output_keeps_the_dtype_and_lse_is_at_least_float32(implementation: str, dtype: torch.dtype) -> None:
    query, key, value = oracle.random_inputs(1, 2, 9, 8, dtype)
    output, lse = dense_attention(query, key, value)
    assert output.dtype == dtype
    assert lse.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    expected, expected_lse = oracle.attention_over(query, key, value, lambda _: list(range(9)))
    oracle.assert_close(output, expected, dtype)
    oracle.assert_close(lse, expected_lse, dtype)


@pytest.mark.parametrize("additive", [False, True], ids=["bool", "additive"])
@pytest.mark.parametrize("shape", [(6, 11), (2, 6, 11), (3, 1, 6, 11), (3, 1, 1, 11), (11,)], ids=str)
def test_mask_broadcasts_and_rows_that_see_nothing_are_empty(
    implementation: str, shape: tuple[int, ...], additive: bool
) -> None:
    query = torch.randn(3, 2, 6, 8)
    key, value = torch.randn(2, 3, 2, 11, 8)
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.5
    if len(shape) > 1:
        mask[..., 0, :] = False
    seen = mask.broadcast_to(3, 2, 6, 11)
    given_mask = torch.zeros(shape).masked_fill(~mask, -torch.inf) if additive else mask
    output, lse = dense_attention(query, key, value, mask=given_mask)
    for batch in range(3):
        for head in range(2):
            one = (slice(batch, batch + 1), slice(head, head + 1))
            rows = seen[batch, head]
            expected, expected_lse = oracle.attention_over(
                query[one], key[one], value[one], lambda row, rows=rows: rows[row].nonzero()[:, 0].tolist()
            )
            oracle.assert_close(output[one], expected, torch.float32)
            oracle.assert_close(lse[one], expected_lse, torch.float32)


def test_finite_mask_is_added_to_the_scaled_scores(implementation: str) -> None:
    query, key, value = oracle.random_inputs(1, 1, 5, 8, torch.float32)
    bias = torch.tensor([0.0, 1.0, -2.0, 0.5, 3.0])
    _, lse = dense_attention(query, key, value, mask=bias)
    scores = query.double() @ key.double().mT * 8**-0.5 + bias.double()
    oracle.assert_close(lse, scores.exp().sum(-1).log(), torch.float32)


def test_no_keys_at_all_give_an_empty_result() -> None:
    query, key = torch.randn(1, 2, 3, 8), torch.randn(1, 2, 0, 8)
    output, lse = dense_attention(query, key, key)
    assert torch.equal(output, torch.zeros_like(query))
    assert torch.equal(lse, torch.full((1, 2, 3), -torch.inf))


def test_large_scores_do_not_overflow(implementation: str) -> None:
    query, key, value = oracle.random_inputs(1, 1, 12, 8, torch.float32)
    output, lse = dense_attention(100 * query, key, value)
    expected, expected_lse = oracle.attention_over(100 * query, key, value, lambda _: list(range(12)))
    assert expected_lse.max() > 100  # exp of it is infinite in float32
    torch.testing.assert_close(output.double(), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(lse.double(), expected_lse, rtol=1e-6, atol=0)


@pytest.mark.parametrize("masked", [False, True])
def test_reference_follows_the_definition(masked: bool) -> None:
    query, key, value = oracle.random_inputs(2, 2, 9, 8, torch.float64)
    mask = torch.eye(9, dtype=torch.bool).roll(1, 0)
    mask[4] = False
    output, lse = reference.dense_attention(query, key, value, mask=mask if masked else None)
    rows = mask if masked else torch.ones_like(mask)
    expected = oracle.attention_over(query, key, value, lambda row: rows[row].nonzero()[:, 0].tolist())
    oracle.assert_close(output, expected[0], torch.float64)
    oracle.assert_close(lse, expected[1], torch.float64)


GOOD = torch.zeros(2, 3, 5, 8)


@pytest.mark.parametrize(
    ("query", "key", "value", "mask", "message"),
    [
        (GOOD[0], GOOD, GOOD, None, "batch, heads, tokens, head_dim"),
        (GOOD, GOOD, GOOD[:, :, :4], None, "tokens of key and value"),
        (GOOD, GOOD[:, :2], GOOD[:, :2], None, "must agree"),
        (GOOD, GOOD.half(), GOOD, None, "dtypes"),
        (GOOD.int(), GOOD.int(), GOOD.int(), None, "pass one of float16"),
        (GOOD, GOOD.to("meta"), GOOD, None, "one device"),
        (GOOD, GOOD, GOOD, torch.ones(4, 5, dtype=torch.bool), "broadcasts"),
        (GOOD, GOOD, GOOD, torch.ones(1, 1, 1, 1, 5), "broadcasts"),
        (GOOD, GOOD, GOOD, torch.ones(5, 5, dtype=torch.int), "pass bool"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_in_one_sentence(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        dense_attention(query, key, value, mask=mask)
