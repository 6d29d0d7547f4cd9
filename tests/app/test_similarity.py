import math

import numpy as np
import pytest
from PIL import Image

from hasten.app.metrics.similarity import psnr, ssim


def noisy_pair(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    reference = random.integers(0, 256, (48, 40, 3), dtype=np.uint8)
    noise = random.integers(-20, 21, reference.shape)
    return np.clip(reference + noise, 0, 255).astype(np.uint8), reference


def gaussian_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al. 2004, eq. 13: 11-pixel Gaussian window of σ = 1.5, written out per channel on valid positions."""
    offsets = np.arange(11) - 5
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    c1, c2 = 0.01**2, 0.03**2
    values = []
    for channel in range(3):
        x = np.lib.stride_tricks.sliding_window_view(a[..., channel] / 255, (11, 11))
        y = np.lib.stride_tricks.sliding_window_view(b[..., channel] / 255, (11, 11))
        mean_x, mean_y = (x * window).sum((2, 3)), (y * window).sum((2, 3))
        var_x = (x**2 * window).sum((2, 3)) - mean_x**2
        var_y = (y**2 * window).sum((2, 3)) - mean_y**2
        covariance = (x * y * window).sum((2, 3)) - mean_x * mean_y
        top = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
        values.append(top / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)))
    return float(np.mean(values))


@pytest.mark.parametrize("seed", [0, 1])
def test_psnr_is_ten_log_ten_of_peak_over_mean_squared_error(seed: int) -> None:
    picture, reference = noisy_pair(seed)
    mean_squared_error = np.mean((picture.astype(float) - reference.astype(float)) ** 2)
    expected = 10 * np.log10(255**2 / mean_squared_error)
    assert psnr(Image.fromarray(picture), Image.fromarray(reference)) == pytest.approx(expected, abs=1e-4)


def test_ssim_agrees_with_its_definition() -> None:
    picture, reference = noisy_pair()
    measured = ssim(Image.fromarray(picture), Image.fromarray(reference))
    assert measured == pytest.approx(gaussian_ssim(picture, reference), abs=1e-9)


def test_identical_pictures_have_infinite_psnr_and_full_ssim() -> None:
    picture = Image.fromarray(noisy_pair()[1])
    assert math.isinf(psnr(picture, picture))
    assert ssim(picture, picture) == pytest.approx(1)


def test_a_flat_picture_is_like_itself() -> None:
    flat = np.full((48, 40, 3), 201, dtype=np.uint8)
    flat[20:28, 16:24] = (40, 90, 250)
    picture = Image.fromarray(flat)
    assert ssim(picture, picture) == pytest.approx(1, abs=1e-9)


def test_more_noise_scores_lower() -> None:
    mild, reference = noisy_pair()
    strong = np.clip(reference.astype(int) + 4 * (mild.astype(int) - reference), 0, 255).astype(np.uint8)
    pictures = [Image.fromarray(array) for array in (mild, strong, reference)]
    assert psnr(pictures[0], pictures[2]) > psnr(pictures[1], pictures[2])
    assert ssim(pictures[0], pictures[2]) > ssim(pictures[1], pictures[2])
