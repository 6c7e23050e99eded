"""AMT Optical Flow: what the network sees between two frames."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import comfy.utils
import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..amt.flow_colours import MotionPictures, motion_pictures
from ..amt.motion_scale import ScaledAMT
from ..amt.network import Motion
from .checks import check_images
from .inputs import InterpModel, choice_input, motion_scale_input
from .interp_model import open_engine

FIELDS = {"mean": "mean", "each": "each"}


class AMTShowMotion(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AMTShowMotion",
            display_name="AMT Optical Flow",
            category="video/AMT",
            description="Shows what an AMT model sees between two frames: optical flow, occlusion mask and residual.",
            search_aliases=["amt", "flow", "motion vectors", "occlusion mask", "debug interpolation"],
            inputs=[
                InterpModel.Input("interp_model", tooltip="An AMT model, from Load AMT Model."),
                io.Image.Input("images", tooltip="At least two frames, in order. Alpha is left out."),
                choice_input(
                    "fields",
                    FIELDS,
                    default="mean",
                    tooltip="AMT finds several motions for each pixel (3 with AMT-S, 5 with AMT-L and AMT-G). "
                    "Mean: one picture for two frames. Each: one picture for each motion.",
                ),
                io.Float.Input(
                    "longest_flow",
                    default=0,
                    min=0,
                    max=10000,
                    step=1,
                    advanced=True,
                    tooltip="Motion of this many pixels is painted in full colour. 0: the node chooses the length "
                    "that 99% of the pixels do not reach.",
                ),
                motion_scale_input(),
            ],
            outputs=[
                io.Image.Output(
                    "flow0",
                    tooltip="Motion from the middle back to the first frame. The colour is its direction (red right, "
                    "yellow down, light blue left, violet up), and the strength of the colour is its length.",
                ),
                io.Image.Output("flow1", tooltip="Motion from the middle on to the second frame."),
                io.Image.Output(
                    "mask", tooltip="White: the middle is taken from the first frame. Black: from the second."
                ),
                io.Image.Output("residual", tooltip="What is added to the colours at the end. Grey: nothing."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        interp_model: Any,
        images: Tensor,
        fields: str = "mean",
        longest_flow: float = 0,
        motion_scale: str = "auto",
    ) -> io.NodeOutput:
        images = check_images(images)[..., :3]
        if len(images) < 2:
            raise ValueError(
                "images: expected at least two frames, got one. Connect a batch of frames, such as those of a video."
            )
        if fields not in FIELDS:
            raise ValueError(f"fields: expected mean or each, got {fields}")
        if not 0 <= longest_flow < float("inf"):
            raise ValueError(f"longest_flow: expected a length in pixels, 0 or more, got {longest_flow}")
        engine = open_engine(interp_model, (images.shape[1], images.shape[2]), motion_scale)
        if not isinstance(engine.network, ScaledAMT):
            raise TypeError(
                f"interp_model: expected an AMT model from Load AMT Model, got {type(interp_model.model).__name__}. "
                "Other models do not tell what motion they see"
            )
        bar = comfy.utils.ProgressBar(len(images) - 1)
        shown: list[MotionPictures] = []
        for frame0, frame1 in pairwise(images):
            engine.before_call()
            motion = _motion(engine.network, frame0, frame1, engine.device)
            if fields == "mean":
                motion = motion.map(lambda field: field.mean(dim=1, keepdim=True))
            shown.append(motion_pictures(motion, longest_flow or None))
            bar.update(1)
        flow0, flow1, mask, residual = (
            torch.cat([getattr(pictures, name) for pictures in shown]).cpu()
            for name in ("flow0", "flow1", "mask", "residual")
        )
        sheet = torch.cat((torch.cat((flow0, flow1), dim=2), torch.cat((mask, residual), dim=2)), dim=1)
        return io.NodeOutput(flow0, flow1, mask, residual, ui=ui.PreviewImage(sheet, cls=cls))


@torch.inference_mode()
def _motion(network: ScaledAMT, frame0: Tensor, frame1: Tensor, device: torch.device) -> Motion:
    """The motion between two frames [h, w, 3], at the middle, without the padding and on the CPU."""
    size = (frame0.shape[0], frame0.shape[1])
    pair = torch.stack((frame0, frame1)).to(device, torch.float32).movedim(-1, 1)
    pair = network.padding.pad(pair)
    motion = network.motion(pair[:1], pair[1:])
    return motion.map(lambda part: network.padding.crop(part, size).cpu())


NODES = [AMTShowMotion]
