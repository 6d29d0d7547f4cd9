"""The fit of the correction that is ours, on attention outputs whose weight and drift are known."""

import pytest
import torch
from torch import Tensor

from hasten.kernels import RefreshOutput
from hasten.methods.corrections import Fitted


def refresh(output: Tensor, window_output: Tensor) -> RefreshOutput:
    unused = torch.empty(0)
    return RefreshOutput(output, unused, window_output, unused, unused)


def corrected(kept: Fitted, window_output: Tensor, step: int) -> Tensor:
    ratio, residual, drift, factor = kept.reshaping(step)
    return ratio.unsqueeze(-1) * window_output + residual + (0 if drift is None else factor * drift)


@pytest.fixture
def windows() -> Tensor:
    """Windowed attention at steps 2, 5 and 7."""
    return torch.randn(3, 2, 3, 16, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(("true_weight", "fitted_weight"), [(0.4, 0.4), (1.3, 1.3), (2.0, 1.5), (-1.0, 0.0)])
def test_the_weight_is_found_and_kept_in_bounds(true_weight: float, fitted_weight: float, windows: Tensor) -> None:
    outside = torch.ones_like(windows[0])
    earlier = Fitted.keep(refresh(true_weight * windows[0] + outside, windows[0]), 2, None, slope_damping=0)
    kept = Fitted.keep(refresh(true_weight * windows[1] + outside, windows[1]), 5, earlier, slope_damping=0)
    expected = true_weight * windows[1] + outside + fitted_weight * (windows[2] - windows[1])
    torch.testing.assert_close(corrected(kept, windows[2], 7), expected)


def test_each_row_and_head_has_its_own_weight(windows: Tensor) -> None:
    weight = torch.linspace(0.1, 1.4, 6, dtype=torch.float64).reshape(2, 3, 1, 1)
    earlier = Fitted.keep(refresh(weight * windows[0], windows[0]), 2, None, slope_damping=1)
    kept = Fitted.keep(refresh(weight * windows[1], windows[1]), 5, earlier, slope_damping=1)
    torch.testing.assert_close(corrected(kept, windows[2], 7), weight * windows[2])


def test_a_residual_that_drifts_steadily_is_followed(windows: Tensor) -> None:
    drift = torch.zeros_like(windows[0])
    drift[..., 0], windows[..., 0] = 0.5, 0.0  # a channel of its own, so that the fit does not see it

    def output(window: Tensor, step: int) -> Tensor:
        return 0.7 * window + step * drift

    earlier = Fitted.keep(refresh(output(windows[0], 2), windows[0]), 2, None, slope_damping=1)
    kept = Fitted.keep(refresh(output(windows[1], 5), windows[1]), 5, earlier, slope_damping=1)
    torch.testing.assert_close(corrected(kept, windows[2], 7), output(windows[2], 7))


def test_a_window_that_did_not_change_between_refreshes_is_no_obstacle(windows: Tensor) -> None:
    earlier = Fitted.keep(refresh(windows[1], windows[0]), 2, None, slope_damping=0.5)
    kept = Fitted.keep(refresh(windows[2], windows[0]), 5, earlier, slope_damping=0.5)
    assert corrected(kept, windows[0], 6).isfinite().all()
