"""What is compared: ways to find the hidden frames of a window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import av.error
import av.filter
import cv2
import numpy as np
import torch
from amt_frame_interpolation.amt.engine import Engine
from amt_frame_interpolation.amt.interpolator import AnyTimeInterpolator, Interpolator
from amt_frame_interpolation.amt.network.padding import Padding
from torch import Tensor
from training.clips import Clip, Window, grey
from training.optical_flow import dis_flow

CPU = torch.device("cpu")

Method = Callable[[Clip, Window], np.ndarray]
"""Gives the hidden frames of a window, float32 [n - 2, h, w, 3], 0..1."""


@dataclass(frozen=True)
class Pairwise:
    """Whatever makes a frame between two, run as in use; it sees the two given frames alone."""

    interpolator: Interpolator | AnyTimeInterpolator
    device: torch.device = CPU

    def __call__(self, clip: Clip, window: Window) -> np.ndarray:
        return self.at(clip.frames[window.frames[0]], clip.frames[window.frames[-1]], window.times)

    def between(self, frame0: np.ndarray, frame1: np.ndarray, count: int) -> np.ndarray:
        """`count` frames, evenly spaced, between two of uint8 [h, w, 3]."""
        return self.at(frame0, frame1, [Fraction(i, count + 1) for i in range(1, count + 1)])

    def at(self, frame0: np.ndarray, frame1: np.ndarray, times: Sequence[Fraction]) -> np.ndarray:
        """Frames at these times between two of uint8 [h, w, 3]."""
        frames = [torch.from_numpy(frame.astype(np.float32) / 255) for frame in (frame0, frame1)]
        return torch.stack(list(Engine(self.interpolator, self.device).run(frames, times))).numpy()


class _OfFrames:
    """Makes frames at any time from the two frames alone, so that there is nothing to keep of a pair."""

    def open_pair(self, frame0: Tensor, frame1: Tensor) -> tuple[Tensor, Tensor]:
        return frame0, frame1

    def frame_at(self, pair: tuple[Tensor, Tensor], timestep: Tensor) -> Tensor:
        return self(*pair, timestep)

    def __call__(self, frame0: Tensor, frame1: Tensor, timestep: Tensor) -> Tensor:
        raise NotImplementedError


class Blend(_OfFrames):
    """Linear blending of both frames, their mean in the middle."""

    padding = Padding()
    any_time = True

    def __call__(self, frame0: Tensor, frame1: Tensor, timestep: Tensor) -> Tensor:
        return torch.lerp(frame0, frame1, timestep[:, None, None, None])


class FlowWarp(_OfFrames):
    """Optical-flow warping with OpenCV's DIS flow.

    Flow is estimated both ways. Each of the two is projected to the wanted time by solving v(x) = flow(x - t v(x)) with
    a few fixed-point steps, without the holes of a forward projection. Along each, both frames are warped to that time
    (cubic) and blended by how near they are; the two results are mixed by how well the warped frames agree around each
    pixel.

    Preset and mix were chosen for the best PSNR and SSIM on training clips. Finer scales, more refinement, smoothed
    flows, trusting one frame where forward and backward flow disagree, and falling back to blending there were all
    worse or no better; sampling the flow without projection was as good.
    """

    padding = Padding()

    def __init__(self, *, any_time: bool = False) -> None:
        """any_time: whether it is asked for times themselves, or for middles again and again, as networks may be."""
        self.any_time = any_time

    def __call__(self, frame0: Tensor, frame1: Tensor, timestep: Tensor) -> Tensor:
        triples = zip(_images(frame0), _images(frame1), timestep.tolist(), strict=True)
        made = np.stack([self._at(image0, image1, time) for image0, image1, time in triples])
        return torch.from_numpy(made).permute(0, 3, 1, 2).clamp(0, 1).to(frame0.device)

    def _at(self, image0: np.ndarray, image1: np.ndarray, time: float) -> np.ndarray:
        grey0, grey1 = _grey(image0), _grey(image1)
        forward = _project(dis_flow(grey0, grey1), time)
        backward = _project(dis_flow(grey1, grey0), 1 - time)
        mixed = np.zeros_like(image0)
        total = np.zeros((*grey0.shape, 1), np.float32)
        for flow in (forward, -backward):
            warped0 = _sample(image0, -flow * np.float32(time), cv2.INTER_CUBIC)
            warped1 = _sample(image1, flow * np.float32(1 - time), cv2.INTER_CUBIC)
            disagreement = cv2.boxFilter(np.abs(warped0 - warped1).mean(axis=-1), -1, (7, 7))
            # 30 of 255 levels halve the trust; some is left everywhere.
            trust = (0.05 + 1 / (1 + (disagreement * 255 / 30) ** 2))[..., None]
            mixed += trust * ((1 - time) * warped0 + time * warped1)
            total += trust
        return mixed / total


def _images(frames: Tensor) -> np.ndarray:
    return np.ascontiguousarray(frames.permute(0, 2, 3, 1).float().cpu().numpy())


def _grey(image: np.ndarray) -> np.ndarray:
    return grey((image * 255).round().clip(0, 255).astype(np.uint8))


def _sample(image: np.ndarray, offset: np.ndarray, interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
    """`image` at each pixel's place plus `offset` [h, w, 2] (x, y)."""
    y, x = np.indices(offset.shape[:2], dtype=np.float32)
    return cv2.remap(image, x + offset[..., 0], y + offset[..., 1], interpolation, borderMode=cv2.BORDER_REPLICATE)


def _project(flow: np.ndarray, time: float) -> np.ndarray:
    there = flow
    for _ in range(3):
        there = _sample(flow, -there * np.float32(time))
    return there


def displacement(frame0: np.ndarray, frame1: np.ndarray) -> float:
    """How far things move from one frame (uint8 RGB) to another: 90 % of the pixels by less, in pixels."""
    return float(np.quantile(np.linalg.norm(dis_flow(grey(frame0), grey(frame1)), axis=-1), 0.9))


class Minterpolate:
    """ffmpeg's minterpolate filter, through PyAV.

    It looks at frames before and after the two it is between, so it gets what it would get in use: the shot with only
    every so manieth frame left in. Where the shot ends, its last frame is repeated. Outputs are picked by their
    timestamps. The settings are the best of those tried on training clips; detection of cuts is off, as no window
    holds one. Frames pass through 8-bit YUV 4:4:4, the best that the filter takes.
    """

    settings = "mi_mode=mci:mc_mode=aobmc:me_mode=bidir:vsbmc=1:scd=none"
    context = 3
    """Given frames before and after the two."""

    @staticmethod
    def available() -> bool:
        """Whether this build of PyAV has the filter."""
        return "minterpolate" in av.filter.filters_available

    def __call__(self, clip: Clip, window: Window) -> np.ndarray:
        first, last = window.frames[0], window.frames[-1]
        span, factor = last - first, len(window.frames) - 1
        given = [first, last]
        for _ in range(self.context):
            given.insert(0, self._next(clip, given[0], -span))
            given.append(self._next(clip, given[-1], span))
        return self.within([clip.frames[index] for index in given], factor)

    def within(self, given: Sequence[np.ndarray], factor: int) -> np.ndarray:
        """The frames between the two in the middle of these, uint8 [h, w, 3], so that there are `factor` times as many.

        float32 [factor - 1, h, w, 3], 0..1.
        """
        graph = self._graph(given[0].shape[1], given[0].shape[0], factor)
        made: dict[Fraction, np.ndarray] = {}
        for time, image in enumerate(given):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1)
            graph.push(frame)
            made |= self._pull(graph)
        graph.push(None)
        made |= self._pull(graph)
        times = [self.context + Fraction(i, factor) for i in range(1, factor)]
        return np.stack([made[time] for time in times]).astype(np.float32) / 255

    @staticmethod
    def _next(clip: Clip, index: int, step: int) -> int:
        there = index + step
        inside = 0 <= there < len(clip.frames)
        return there if inside and not clip.cut[min(index, there) : max(index, there)].any() else index

    def _graph(self, width: int, height: int, factor: int) -> av.filter.Graph:
        graph = av.filter.Graph()
        chain = [
            graph.add_buffer(width=width, height=height, format=av.VideoFormat("rgb24"), time_base=Fraction(1)),
            graph.add("format", "yuv444p"),
            graph.add("minterpolate", f"fps={factor}:{self.settings}"),
            graph.add("format", "rgb24"),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*chain).configure()
        return graph

    @staticmethod
    def _pull(graph: av.filter.Graph) -> dict[Fraction, np.ndarray]:
        frames = {}
        while True:
            try:
                frame = graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return frames
            assert isinstance(frame, av.VideoFrame)
            assert frame.pts is not None
            assert frame.time_base is not None
            frames[frame.pts * frame.time_base] = frame.to_ndarray()
