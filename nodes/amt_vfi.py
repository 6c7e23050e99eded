"""Workflows made with the `AMT VFI` node of ComfyUI-Frame-Interpolation, where that pack is not there.

ComfyUI can replace a missing node by one other node only. Here the same work takes two: a loader, and a node that
interpolates. So this node has the inputs of `AMT VFI`, and becomes those two when it runs.
"""

from __future__ import annotations

from typing import Any

from comfy_api.latest import ComfyAPI, io
from comfy_execution.graph_utils import GraphBuilder

from ..amt.timeline import MOST_PASSES
from ..models.discovery import list_checkpoints
from .model_folders import model_folders

OLD_NODE = "AMT VFI"


class AMTReplacedVFI(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AMTReplacedVFI",
            display_name="AMT VFI (replaced)",
            category="video/AMT",
            description="Takes the place of the AMT VFI node of ComfyUI-Frame-Interpolation in old workflows; in new "
            "ones, use Load AMT Model and AMT Frame Interpolation.",
            inputs=[
                io.Combo.Input(
                    "model_name", options=list_checkpoints(model_folders()), tooltip="As in Load AMT Model."
                ),
                io.Image.Input("images", tooltip="At least two frames, in order."),
                io.Int.Input(
                    "multiplier",
                    default=2,
                    min=2,
                    max=2**MOST_PASSES,
                    tooltip="How many times as many frames: 2, 4, 8, 16, 32, 64, 128 or 256.",
                ),
            ],
            outputs=[io.Image.Output("images", tooltip="(frames - 1) x multiplier + 1 frames.")],
            is_deprecated=True,  # kept out of the search for nodes
            enable_expand=True,
        )

    @classmethod
    def validate_inputs(cls, multiplier: int | None = None) -> bool | str:
        if multiplier is not None:  # a value that comes over a link is not known yet
            try:
                passes_of(multiplier)
            except ValueError as error:
                return str(error)
        return True

    @classmethod
    def execute(cls, model_name: str, images: Any, multiplier: int) -> io.NodeOutput:
        passes = passes_of(multiplier)
        graph = GraphBuilder()
        model = graph.node("AMTModelLoader", model_name=model_name)
        made = graph.node(
            "AMTInterpolate", interp_model=model.out(0), images=images, recursive_interpolation_passes=passes
        )
        return io.NodeOutput(made.out(0), expand=graph.finalize())


def passes_of(multiplier: int) -> int:
    """The number of passes that multiply the frames by `multiplier`. Raises ValueError where there is none."""
    powers = {2**passes: passes for passes in range(1, MOST_PASSES + 1)}
    if multiplier not in powers:
        near = min(powers, key=lambda power: abs(power - multiplier))
        raise ValueError(
            f"multiplier: expected {', '.join(map(str, powers))}, because AMT halves the gaps between frames again and "
            f"again, got {multiplier}. Use {near}. For other multiples of the frame rate, use AMT Frame "
            "Interpolation with target_fps."
        )
    return powers[multiplier]


async def register_replacements() -> None:
    """Tells ComfyUI about the replacement. It then replaces the node in queued prompts, and the editor offers it."""
    await ComfyAPI().node_replacement.register(
        io.NodeReplace(
            new_node_id=AMTReplacedVFI.define_schema().node_id,
            old_node_id=OLD_NODE,
            old_widget_ids=["ckpt_name", "clear_cache_after_n_frames", "multiplier"],
            input_mapping=[
                {"new_id": "model_name", "old_id": "ckpt_name"},
                {"new_id": "images", "old_id": "frames"},
                {"new_id": "multiplier", "old_id": "multiplier"},
            ],
            output_mapping=[{"new_idx": 0, "old_idx": 0}],
        )
    )


NODES = [AMTReplacedVFI]
