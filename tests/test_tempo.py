"""Sound at the speed of the picture: as long as that, within a tenth of a second, in pieces that encoders take."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from amt_frame_interpolation.amt.timeline.curve import speed_curve
from amt_frame_interpolation.video.tempo import at_speed

RATE = 8000


@pytest.mark.parametrize("text", ["0 s: 0.25x", "0 s: 1x, 0.5 s: 0.25x, 1 s: 1x", "0 s: 4x, 1 s: 0.5x", "0 s: 1x"])
@pytest.mark.parametrize("piece", [100, 1024, 16000])
def test_it_lasts_as_long_as_the_picture_and_no_piece_is_empty(text: str, piece: int) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, (2 * RATE, 2)).astype(np.float32)
    curve = speed_curve(text)
    pieces = list(at_speed((samples[i : i + piece] for i in range(0, len(samples), piece)), curve, RATE, "stereo"))
    assert all(len(made) for made in pieces)
    assert sum(map(len, pieces)) / RATE == pytest.approx(curve.output_time(Fraction(2)), abs=0.1)


@pytest.mark.parametrize("text", ["0 s: 0.5x", "0 s: 100x", "0 s: 1x, 0.3 s: 0.5x ease, 0.6 s: 2x"])
@pytest.mark.parametrize("samples", [1, 50, 401, 2401, 5761, 9217])
def test_the_last_piece_may_be_a_single_sample(text: str, samples: int) -> None:
    """So short a piece tells the speed badly: it must not ask the filter for one that the curve does not have."""
    made = at_speed([np.zeros((samples, 1), np.float32)], speed_curve(text), 48000, "mono")
    assert sum(map(len, made)) / 48000 == pytest.approx(
        speed_curve(text).output_time(Fraction(samples, 48000)), abs=0.1
    )
