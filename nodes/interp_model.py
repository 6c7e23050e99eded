"""AMT models as ComfyUI core wants them, and core's models as this pack wants them; both are INTERP_MODEL.

`AMTModel` gives an AMT network the methods that core's "Run Frame Interpolation Model" calls; `open_engine` runs
AMT and core's RIFE and FILM alike in this pack's nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import comfy.model_management as mm
import comfy.model_patcher
import torch
from torch import Tensor, nn

from ..amt.engine import Engine
from ..amt.fast import Compilation, FastAMT
from ..amt.motion_scale import ScaledAMT
from ..amt.network.padding import Padding
from .checks import free_memory
from .inputs import MOTION_SCALES

MOST_PAIRS = 8
"""More pairs at once were never faster."""

_CoreImages = list[tuple[Tensor, Any]]
"""Images [1, 3, h, w] with what core's network calls their features."""


class AMTModel(nn.Module):
    """An AMT network as core's interpolation node wants it. Core's frames are [b, 3, h, w], 0..1."""

    def __init__(
        self,
        network: FastAMT,
        name: str | None = None,
        compilation: Compilation | None = None,
        *,
        carried: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.carried = carried
        """Whether the motion of the middle is carried to other times."""
        self.compilation = compilation
        """Where compiling was asked for."""
        self.name = name
        """The checkpoint's file name, for people."""

    def get_dtype(self) -> torch.dtype:
        return self.network.dtype

    def memory_used_forward(self, shape: Sequence[int], dtype: torch.dtype) -> int:
        """Bytes that one pair of frames needs; shape is that of an IMAGE batch, [frames, h, w, c]."""
        scaled = ScaledAMT(self.network, carried=self.carried)
        return scaled.memory_used((shape[1], shape[2]), mm.get_torch_device())

    def extract_features(self, img: Tensor) -> None:
        """Nothing is worth keeping from pair to pair: both encoders see frames less the mean of their pair."""

    def forward(self, img0: Tensor, img1: Tensor, timestep: Tensor, cache: Any = None) -> Tensor:
        times = timestep.float().mean(dim=(1, 2, 3)).tolist()
        return torch.cat([self._frames(img0[i : i + 1], img1[i : i + 1], [t]) for i, t in enumerate(times)])

    def forward_multi_timestep(self, img0: Tensor, img1: Tensor, timesteps: list[float], cache: Any = None) -> Tensor:
        return self._frames(img0, img1, timesteps)

    def _frames(self, img0: Tensor, img1: Tensor, timesteps: Sequence[float]) -> Tensor:
        padding = self.network.padding
        network = ScaledAMT(self.network, carried=self.carried)
        engine = Engine(network, img0.device, before_call=mm.throw_exception_if_processing_interrupted)
        times = [Fraction(t).limit_denominator(1000) for t in timesteps]
        made = torch.cat(list(engine.between(padding.pad(img0.float()), padding.pad(img1.float()), times)))
        return padding.crop(made, (img0.shape[2], img0.shape[3])).to(img0.dtype)


class _CoreInterpolator:
    """One of core's own networks, as the engine wants it. Core asks them for any time, so this does too."""

    any_time = True

    def __init__(self, model: Any) -> None:
        self._model = model
        self._last: tuple[Tensor | None, list[_CoreImages]] = (None, [])
        """The last frame of the last pair and its images: mostly the next pair begins with it."""
        self.padding = Padding(multiple_of=getattr(model, "pad_align", 1), centred=False, mode="reflect")

    def open_pair(self, frame0: Tensor, frame1: Tensor) -> list[tuple[_CoreImages, _CoreImages]]:
        last, images = self._last
        images0 = images if last is frame0 else self._images(frame0)
        images1 = self._images(frame1)
        self._last = frame1, images1
        return list(zip(images0, images1, strict=True))

    def frame_at(self, pair: list[tuple[_CoreImages, _CoreImages]], timestep: Tensor) -> Tensor:
        colours, *alpha = (
            torch.cat([self._between(*images) for images in zip(images0, images1, timestep.tolist(), strict=True)])
            for images0, images1 in pair
        )
        return torch.cat((colours, *(made.mean(dim=1, keepdim=True) for made in alpha)), dim=1)

    def _images(self, frame: Tensor) -> list[_CoreImages]:
        """The colours, and alpha as colours where there is any: these networks do not give their flows away.

        The images of a batch are apart, because FILM takes no batches.
        """
        parts = [frame[:, :3]]
        if frame.shape[1] > 3:
            parts.append(frame[:, 3:].expand(-1, 3, -1, -1))
        images = [part.to(self._model.get_dtype()).split(1) for part in parts]
        return [[(image, self._model.extract_features(image)) for image in part] for part in images]

    def _between(self, image0: tuple[Tensor, Any], image1: tuple[Tensor, Any], time: float) -> Tensor:
        (img0, features0), (img1, features1) = image0, image1
        plane = torch.full((1, 1, *img0.shape[2:]), time, dtype=img0.dtype, device=img0.device)
        made = self._model(img0, img1, timestep=plane, cache={"img0": features0, "img1": features1})
        return made.float().clamp(0, 1)


def scales_used(engine: Engine) -> Counter[int]:
    """How many pairs had their motion found at which scale; empty with a model that is not AMT."""
    return engine.network.used if isinstance(engine.network, ScaledAMT) else Counter()


def motion_scale_of(choice: str) -> int | None:
    """The scale that a choice of MOTION_SCALES stands for. Raises ValueError."""
    if choice not in MOTION_SCALES:
        raise ValueError(f"motion_scale: expected {', '.join(MOTION_SCALES)}, got {choice}")
    return MOTION_SCALES[choice]


def open_model(patcher: Any) -> AMTModel:
    """The AMT model in it. Raises TypeError where it is another model, or none."""
    model = getattr(patcher, "model", patcher)
    if not isinstance(model, AMTModel):
        raise TypeError(
            f"interp_model: expected a model from Load AMT Model, got {type(model).__name__}. Other models run in "
            "AMT Video Interpolation."
        )
    return model


def describe(patcher: Any) -> str:
    """The model, its device, its precision and what became of compiling it, in a few words."""
    model = patcher.model
    name = (model.name or model.network.config.name) if isinstance(model, AMTModel) else type(model).__name__
    precision = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
    dtype = model.get_dtype()
    words = f"{name} on {patcher.load_device}, {precision.get(dtype, str(dtype))}"
    if isinstance(model, AMTModel) and model.compilation:
        failure = model.compilation.failure
        words += f", not compiled ({failure})" if failure else ", compiled"
    return words


def open_engine(patcher: Any, size: tuple[int, int], motion_scale: str = "auto") -> Engine:
    """Loads the model onto its device, with room for frames of this (height, width), and wraps it in an engine.

    motion_scale: one of MOTION_SCALES; core's networks know "auto" alone.
    Raises TypeError where `patcher` is no frame-interpolation model, and ValueError for another motion scale.
    """
    model: Any = patcher.model if isinstance(patcher, comfy.model_patcher.ModelPatcher) else patcher
    if model is patcher or not hasattr(model, "memory_used_forward"):
        raise TypeError(
            "interp_model: expected a frame-interpolation model from Load AMT Model or Load Frame Interpolation Model, "
            f"got {type(model).__name__}"
        )
    device = patcher.load_device
    ours = isinstance(model, AMTModel)
    if not ours and motion_scale != "auto":
        raise ValueError(f"motion_scale: expected auto with a model that is not AMT, got {motion_scale}")
    scale = motion_scale_of(motion_scale)
    scaled = ScaledAMT(model.network, scale, carried=model.carried) if ours else None
    memory = model.memory_used_forward((1, *size, 3), model.get_dtype())
    # In full: a partial load leaves PReLU weights behind on the CPU.
    mm.load_models_gpu([patcher], memory_required=memory, force_full_load=True)
    if any(parameter.device.type != device.type for parameter in model.parameters()):
        model.to(device)  # --novram loads in part all the same
    batch = 1
    if ours and device.type != "cpu":  # core's networks are given one pair after the other
        batch = max(1, min(MOST_PAIRS, int(0.8 * free_memory(device) / max(memory, 1))))
    engine = Engine(
        scaled or _CoreInterpolator(model),
        device,
        batch=batch,
        before_call=mm.throw_exception_if_processing_interrupted,
        free_memory=mm.soft_empty_cache,
    )
    if scaled:
        engine.begin_part = scaled.begin_part
    return engine
