"""What VIDEOs of newer versions of ComfyUI (0.35 and later) say of themselves, with stand-ins for their classes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import av
import numbered
import pytest
import torch
from amt_frame_interpolation.amt.timeline import Plan
from amt_frame_interpolation.video.colour import TRANSPARENCY_LEFT_OUT
from test_segments import Blend, make


@pytest.fixture
def kinds(comfy: ModuleType) -> SimpleNamespace:
    from comfy_api.latest import Input, InputImpl, Types

    class Cropped(InputImpl.VideoFromFile):
        """A file whose crop is not in its stream yet."""

        def has_pending_frame_edits(self) -> bool:
            return True

        def save_to(self, path: Any, format: Any = None, codec: Any = None, crf: float | None = None, **_: Any) -> None:
            assert crf is not None
            assert crf <= 18
            source: Any = av.open(self.get_stream_source())
            with source, av.open(str(path), "w") as target:
                stream: Any = target.add_stream("libx264", rate=24, options={"crf": str(crf)})
                stream.width = stream.height = 32
                stream.pix_fmt = "yuv420p"
                for frame in source.decode(video=0):
                    pixels = frame.to_ndarray(format="rgb24")[:32, :32].copy()
                    target.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
                target.mux(stream.encode(None))

    class List(Input.Video):
        """Several videos in a row. What it would hold in memory as a whole is never asked for."""

        def __init__(self, videos: list[Any]) -> None:
            self.videos = videos

        def get_components(self) -> Any:
            raise AssertionError("built in memory")

        def get_stream_source(self) -> Any:
            raise AssertionError("built in memory")

        def save_to(self, path: Any, format: Any = None, codec: Any = None, metadata: Any = None, **_: Any) -> None:
            self.videos[0].save_to(path)

        def as_trimmed(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

    class InColours(InputImpl.VideoFromComponents):
        def __init__(self, components: Any, space: str) -> None:
            super().__init__(components, bit_depth=10)
            self._space = space

        def get_color_space(self) -> str:
            return self._space

    return SimpleNamespace(Cropped=Cropped, List=List, InColours=InColours, InputImpl=InputImpl, Types=Types)


@pytest.fixture
def clip(tmp_path: Path) -> str:
    return str(numbered.write(tmp_path / "clip.mp4", range(12)))


def test_a_crop_that_is_pending_is_made(kinds: SimpleNamespace, clip: str) -> None:
    from amt_frame_interpolation.nodes.video_source import open_video

    source = open_video(kinds.Cropped(clip))
    assert source.size == (32, 32)
    assert [frame.picture.shape for frame in source.frames()] == [(32, 32, 3)] * 12
    assert open_video(kinds.InputImpl.VideoFromFile(clip)).size == (64, 64)


def test_a_list_of_videos_is_not_held_in_memory(
    kinds: SimpleNamespace, clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from amt_frame_interpolation.nodes import video_source

    monkeypatch.setattr(kinds.InputImpl, "VideoFromList", kinds.List, raising=False)
    source = video_source.open_video(kinds.List([kinds.InputImpl.VideoFromFile(clip)]))
    assert source.timing.frames == 12


@pytest.mark.parametrize(
    ("space", "primaries", "transfer"), [("auto", 1, 1), ("sRGB", 1, 1), ("HDR", 9, 18), ("HDR PQ", 9, 16)]
)
def test_the_colour_space_of_images_goes_on(
    kinds: SimpleNamespace, tmp_path: Path, space: str, primaries: int, transfer: int
) -> None:
    from amt_frame_interpolation.nodes.video_source import open_video

    components = kinds.Types.VideoComponents(images=torch.rand(6, 48, 64, 3), frame_rate=Fraction(24))
    source = open_video(kinds.InColours(components, space))
    make(source, tmp_path / "made.mp4", Plan(1, "hold"), network=Blend())
    with av.open(str(tmp_path / "made.mp4")) as made:
        context = made.streams.video[0].codec_context
        assert (int(context.color_primaries), int(context.color_trc)) == (primaries, transfer)
        assert context.pix_fmt == "yuv420p10le"


def test_alpha_that_is_left_out_is_said(kinds: SimpleNamespace) -> None:
    from amt_frame_interpolation.nodes.video_source import open_video

    components = kinds.Types.VideoComponents(images=torch.rand(2, 48, 64, 3), frame_rate=Fraction(24))
    assert open_video(kinds.InputImpl.VideoFromComponents(components)).notes() == []

    class WithAlpha(kinds.InputImpl.VideoFromComponents):
        def get_components(self) -> Any:
            return SimpleNamespace(**vars(super().get_components()) | {"alpha": torch.ones(2, 48, 64)})

    assert open_video(WithAlpha(components)).notes() == [TRANSPARENCY_LEFT_OUT]


def test_a_model_name_over_a_link_has_a_steady_fingerprint(comfy: ModuleType) -> None:
    from amt_frame_interpolation.nodes.load_model import AMTModelLoader

    assert AMTModelLoader.fingerprint_inputs(model_name=None, precision=None, torch_compile=None) is None
    assert AMTModelLoader.fingerprint_inputs() is None
