import pytest
import torch
from amt_frame_interpolation.amt.network.padding import Padding
from hypothesis import given
from hypothesis import strategies as st

paddings = st.builds(
    Padding,
    multiple_of=st.sampled_from([1, 8, 16, 64]),
    minimum=st.sampled_from([1, 128]),
    centred=st.booleans(),
    mode=st.sampled_from(["replicate", "reflect"]),
)


@given(paddings, st.integers(1, 200), st.integers(1, 200))
def test_cropping_undoes_padding_and_sizes_are_right(padding: Padding, height: int, width: int) -> None:
    frames = torch.rand(1, 3, height, width)
    padded = padding.pad(frames)
    for side, given_side in zip(padded.shape[2:], (height, width), strict=True):
        assert side % padding.multiple_of == 0
        assert side >= max(padding.minimum, given_side)
        assert side < max(padding.minimum, given_side) + padding.multiple_of
    assert tuple(padded.shape[2:]) == padding.padded((height, width))
    assert torch.equal(padding.crop(padded, (height, width)), frames)


@pytest.mark.parametrize(("width", "left", "right"), [(131, 6, 7), (129, 7, 8), (130, 7, 7), (127, 0, 1)])
def test_the_smaller_half_is_left(width: int, left: int, right: int) -> None:
    frames = torch.arange(width).float().expand(1, 1, 128, width)
    row = Padding(multiple_of=16, minimum=128).pad(frames)[0, 0, 0]
    assert (row == 0).sum() == left + 1
    assert (row == width - 1).sum() == right + 1
