"""What is measured of frames: [h, w, 3] or [n, h, w, 3], float, 0..1."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from torch import Tensor

PERIODS = (2, 4, 8, 16)
"""Pixels between the lines of the grids that strided and transposed convolutions are prone to."""


def psnr(image: np.ndarray | Tensor, truth: np.ndarray | Tensor) -> float:
    """Peak signal-to-noise ratio over all pixels and colours, dB; 100 for equal images."""
    return -10 * math.log10(max(float(((image - truth) ** 2).mean()), 1e-10))


def ssim(image: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity with the Gaussian window of Wang et al. 2004, the mean over the three colours."""
    # Not at the top: training needs the PSNR alone, and no scikit-image.
    from skimage.metrics import structural_similarity

    value: Any = structural_similarity(
        image, truth, channel_axis=-1, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    return float(value)


def gmsd(image: np.ndarray, truth: np.ndarray) -> float:
    """Gradient magnitude similarity deviation of two images [h, w, 3]; 0 for equal images, larger is worse.

    Xue, Zhang, Mou and Bovik: "Gradient Magnitude Similarity Deviation: A Highly Efficient Perceptual Image Quality
    Index", IEEE Transactions on Image Processing 23(2), 2014: how unevenly edges are lost or made over the picture.
    """
    gradients = []
    for picture in (image, truth):
        grey = picture.astype(np.float64) @ (0.299, 0.587, 0.114) * 255
        height, width = (side // 2 * 2 for side in grey.shape)
        half = grey[:height, :width].reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
        across = (half[:, 2:] - half[:, :-2]) / 3
        down = (half[2:] - half[:-2]) / 3
        # Prewitt's filters: a difference one way, the sum of three the other.
        gradients.append(np.hypot(across[:-2] + across[1:-1] + across[2:], down[:, :-2] + down[:, 1:-1] + down[:, 2:]))
    a, b = gradients
    return float(((2 * a * b + 170) / (a**2 + b**2 + 170)).std())


def detail(image: np.ndarray) -> float:
    """How much fine detail there is: the mean difference of pixels from the mean of the 3 x 3 around them.

    Where made frames have less of it than the given ones beside them, a clip gets softer and sharper in turn.
    """
    return float(np.abs(image - cv2.blur(image, (3, 3)))[2:-2, 2:-2].mean())


def change_psnr(frames: np.ndarray, truth: np.ndarray) -> float:
    """PSNR of the changes from each frame to the next, dB; [n, h, w, 3] with the given frames at both ends.

    The temporal measure. What viewers see as flicker or judder is a wrong change: an error that stays where it is
    for several frames cancels here, one that comes and goes counts twice. It needs no motion estimation, whose own
    errors would judge along.
    """
    return psnr(np.diff(frames, axis=0), np.diff(truth, axis=0))


def grid_prominence(image: np.ndarray) -> dict[int, float]:
    """How far the spectrum stands out at the frequency of each of PERIODS over the frequencies around it, dB.

    The spectrum is the mean logarithm over lines of 64 pixels, rows and columns, so that a faint grid in a smooth
    area counts as much as one in a busy area. Natural images give about 0; what matters is the difference to the truth.
    """
    grey = image.mean(axis=-1) * 255
    window = np.hanning(65)[:64]
    noise = (window**2).sum() / 12  # of rounding to whole levels, which is under what can be seen
    spectra = []
    for lines in (grey, grey.T):
        lines = lines[:, : lines.shape[1] // 64 * 64].reshape(-1, 64)
        power = np.abs(np.fft.rfft((lines - lines.mean(axis=1, keepdims=True)) * window)) ** 2
        spectra.append(np.log10(power + noise).mean(axis=0))
    spectrum = 10 * np.mean(spectra, axis=0)
    prominence = {}
    for period in PERIODS:
        frequency = 64 // period
        # The window spreads a line over its neighbours, so "around" begins two further.
        around = [f for f in (frequency - 3, frequency - 2, frequency + 2, frequency + 3) if 0 < f < len(spectrum)]
        prominence[period] = float(spectrum[frequency] - spectrum[around].mean())
    return prominence


def confidence(differences: Mapping[str, Sequence[float]], *, draws: int = 10_000) -> tuple[float, float, float]:
    """Mean of paired differences, by clip, and its 95 % interval from a bootstrap over the clips.

    Over clips, not frames: frames of one clip are alike.
    """
    sums = np.array([sum(values) for values in differences.values()])
    counts = np.array([len(values) for values in differences.values()])
    drawn = np.random.default_rng(0).integers(len(sums), size=(draws, len(sums)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), (0.025, 0.975))
    return float(sums.sum() / counts.sum()), float(low), float(high)
