"""Work in bands gives what the same work in one piece gives."""

from __future__ import annotations

import pytest
import torch
from amt_frame_interpolation.amt.fast import FastAMT, bands
from amt_frame_interpolation.amt.fast.bands import Band, in_bands, largest_band, without_rows
from amt_frame_interpolation.amt.fast.cpu import CPUOperations
from amt_frame_interpolation.amt.network import AMT, Config, G, L, S
from golden import golden_state_dict
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn


@settings(deadline=None, max_examples=50)
@given(rows=st.integers(1, 60), band_bytes=st.integers(1, 40), halo=st.integers(2, 6))
def test_bands_of_convolutions_equal_the_whole(rows: int, band_bytes: int, halo: int):
    layers = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.PReLU(), nn.ConvTranspose2d(3, 1, 4, 2, 1))
    x = torch.randn(1, 2, rows, 5)
    seen = []

    def compute(band: Band) -> tuple[torch.Tensor]:
        seen.append(band.rows.stop - band.rows.start)
        return (without_rows(layers(x[:, :, band.rows]), 2 * band.above, 2 * band.below),)

    with torch.no_grad():
        (found,) = in_bands(compute, rows, row_bytes=1, band_bytes=band_bytes, halo=halo)
        torch.testing.assert_close(found, layers(x))
    assert max(seen) <= largest_band(rows, row_bytes=1, band_bytes=band_bytes, halo=halo)


@pytest.mark.parametrize("config", [S, L, G], ids=lambda config: config.name)
def test_a_network_in_bands_gives_the_same_frame(config: Config, monkeypatch: pytest.MonkeyPatch):
    """The halos are as wide as what the convolutions see: bands hardly larger than those make no difference."""
    network = AMT(config)
    network.load_state_dict(golden_state_dict(network))
    fast = FastAMT(network)
    half = torch.tensor([0.5])
    noise = torch.rand(1, 4, 20, 16, generator=torch.Generator().manual_seed(1))
    texture = nn.functional.interpolate(noise, scale_factor=16, mode="bicubic").clamp(0, 1)
    frame0, frame1 = texture[..., :144, :128], texture[..., 5:149, 3:131]
    whole, motion = fast(frame0, frame1, half), fast.motion(frame0, frame1, half)
    monkeypatch.setattr(bands, "LEAST_HALOS", 1)
    monkeypatch.setattr(CPUOperations, "BAND_BYTES", 1)
    # Another order of sums in a convolution makes this much; a halo too narrow by a row makes 1e-3.
    torch.testing.assert_close(fast(frame0, frame1, half), whole, atol=1e-4, rtol=0)
    torch.testing.assert_close(fast.merge(frame0, frame1, motion), whole, atol=1e-4, rtol=0)
    torch.testing.assert_close(fast.motion(frame0, frame1, half).flow1, motion.flow1, atol=1e-3, rtol=0)
