"""Makes the templates of ComfyUI's template browser out of the API workflows: workflows/NAME.json and NAME.jpg.

  python scripts/documents templates [NAME ...]

Each workflow of workflows/api (or those named) is loaded into the real editor, laid out left to right, given a note and
the properties by which ComfyUI finds missing node packs, and saved as the editor saves it. Then it is run, and its
thumbnail shows what it makes, moving. Needs what the browser tests need; run it with ComfyUI's Python.

A new workflow needs its API file, a caption in CAPTIONS and a note in the folder notes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import av
from PIL import Image, ImageDraw, ImageFont, ImageOps, ImageSequence
from setup.client import Client
from setup.editor import Editor, open_editor
from setup.install import PACK_FOLDER, ROOT
from setup.server import LocalServer

from documents.tiles import BACKGROUND, INK

WORKFLOWS = ROOT / "workflows"
API = WORKFLOWS / "api"
NOTES = ROOT / "scripts" / "documents" / "notes"
"""Markdown for each template: what to change. Shown above the nodes."""
CAPTIONS = {
    "amt_01_frame_interpolation_16_to_32_fps_with_sound": "16 to 32 fps, with sound",
    "amt_02_frame_interpolation_to_60_fps_with_sound": "to 60 fps, with sound",
    "amt_03_frame_interpolation_image_batch_to_video": "image batch to video",
    "amt_04_frame_interpolation_two_images_to_2_seconds": "2 images to 2 seconds",
    "amt_05_frame_interpolation_slow_motion": "slow motion",
    "amt_06_frame_interpolation_speed_curve": "speed curve",
    "amt_07_frame_interpolation_seamless_loop": "seamless loop",
    "amt_08_frame_interpolation_gif_and_animated_webp": "GIF and animated WebP",
    "amt_09_frame_interpolation_in_the_core_node": "AMT in the core node",
    "amt_10_frame_interpolation_vhs_video_combine": "to VHS Video Combine",
    "amt_11_frame_interpolation_vhs_load_video": "from VHS Load Video",
    "amt_12_frame_interpolation_vhs_meta_batch": "VHS meta batch",
    "amt_13_frame_interpolation_frames_by_url": "images by URL",
    "amt_14_frame_interpolation_on_fal_ai": "on fal.ai, for a fee",
    "amt_15_frame_interpolation_on_several_gpus": "on several GPUs",
}
"""A few words on each thumbnail."""
SHOWS = {
    "amt_12_frame_interpolation_vhs_meta_batch": "amt_11_frame_interpolation_vhs_load_video",
    "amt_14_frame_interpolation_on_fal_ai": "amt_04_frame_interpolation_two_images_to_2_seconds",
    "amt_15_frame_interpolation_on_several_gpus": "amt_02_frame_interpolation_to_60_fps_with_sound",
}
"""The workflow whose result the thumbnail shows, where a template's own cannot run here."""

Workflow = dict[str, Any]
"""A workflow as the editor saves it."""

NOTE_WIDTH, NOTE_HEIGHT = 760, 240
"""The least width, and the height."""
ACROSS, DOWN = 50, 70
"""Between columns, and between the nodes of a column: a node's title stands 30 above its place."""
ROOM = {"SaveVideo": (340, 420), "AMTModelLoader": (330, 106)}
"""What the nodes grow to, or what their texts need, where the editor's first size is too small."""
GROWS = ("LoadVideo", "VHS_LoadVideo")
"""As high as the video is: nothing stands below them."""


# ------------------------------------------------------------------------------------------------------------- layout


def columns(prompt: Mapping[str, Any]) -> list[list[int]]:
    """The nodes in columns, left to right: each directly before the first that needs it."""
    needed_by: dict[str, list[str]] = {node: [] for node in prompt}
    for node, content in prompt.items():
        for value in content["inputs"].values():
            if isinstance(value, list) and len(value) == 2 and value[0] in needed_by:
                needed_by[value[0]].append(node)

    def from_right(node: str) -> int:
        return max((1 + from_right(consumer) for consumer in needed_by[node]), default=0)

    places = {node: from_right(node) for node in prompt}
    last = max(places.values())
    in_order = sorted(prompt, key=lambda node: prompt[node]["class_type"] in GROWS)
    return [[int(node) for node in in_order if places[node] == last - column] for column in range(last + 1)]


def lay_out(workflow: Workflow, prompt: Mapping[str, Any], above: float = 0) -> tuple[float, float]:
    """Places the nodes in columns and sizes them. Returns where the second column begins, and where the last one ends.

    above: room that is left for the note above all columns but the first. Tall graphs open too small to be read.
    """
    nodes = {node["id"]: node for node in workflow["nodes"]}
    x, edges = 0.0, []
    for column in columns(prompt):
        y, widest = 0.0 if edges else -above, 0.0
        for node in (nodes[key] for key in column):
            width, height = (max(a, b) for a, b in zip(node["size"], ROOM.get(node["type"], (0, 0)), strict=True))
            node["size"] = [round(width), round(height)]
            node["pos"] = [x, y]
            y += node["size"][1] + DOWN
            widest = max(widest, node["size"][0])
        x += widest + ACROSS
        edges.append(x)
    return edges[0], edges[-1] - ACROSS


def note(text: str, key: int, left: float, right: float) -> dict[str, Any]:
    return {
        "id": key,
        "type": "MarkdownNote",
        "pos": [left, -NOTE_HEIGHT - DOWN],
        "size": [round(max(right - left, NOTE_WIDTH)), NOTE_HEIGHT],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "title": "What to change",
        "properties": {},
        "widgets_values": [text],
        "color": "#222",
        "bgcolor": "#000",
    }


# ---------------------------------------------------------------------------------------------------------- the packs


def pack_of(server: LocalServer, node_type: str) -> dict[str, str]:
    """The properties by which ComfyUI finds the pack of a node that is missing."""
    module = server.object_info(node_type)["python_module"]
    if not module.startswith("custom_nodes."):
        return {"cnr_id": "comfy-core", "ver": server.comfyui.version}
    text = (server.base / "custom_nodes" / module.split(".", 1)[1] / "pyproject.toml").read_text("utf-8")
    name, version = (re.search(rf'^{key}\s*=\s*"([^"]+)"', text, re.MULTILINE) for key in ("name", "version"))
    assert name, f"{module} has no name in its pyproject.toml"
    assert version, f"{module} has no version in its pyproject.toml"
    return {"cnr_id": name[1].lower(), "ver": version[1]}


def read(name: str) -> dict[str, Any]:
    return json.loads((API / f"{name}.json").read_text("utf-8"))


def make_workflow(editor: Editor, server: LocalServer, name: str) -> Workflow:
    """The editor's workflow for workflows/api/NAME.json."""
    prompt = read(name)
    if unknown := server.unknown_nodes(prompt):  # the editor would wait for somebody to close a dialog
        sys.exit(f"{name} needs {unknown[0]}, which is not here: set VHS_PATH to VideoHelperSuite's folder.")
    editor.open()
    editor.load_prompt(prompt, name)
    editor.page.wait_for_load_state("networkidle")  # pictures, by which nodes grow
    editor.page.wait_for_timeout(500)
    workflow = editor.workflow()
    for node in workflow["nodes"]:
        node["properties"] = {"Node name for S&R": node["type"], **pack_of(server, node["type"])}
    edges = lay_out(workflow, prompt, above=NOTE_HEIGHT + DOWN)
    workflow["last_node_id"] += 1
    text = (NOTES / f"{name}.md").read_text("utf-8").strip()
    workflow["nodes"].append(note(text, workflow["last_node_id"], *edges))
    workflow["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{PACK_FOLDER}/{name}"))
    workflow["extra"] = {"frontendVersion": workflow["extra"]["frontendVersion"]}
    return workflow


# ---------------------------------------------------------------------------------------------------------- thumbnails

SIDE, CAPTION = 320, 48
FRAMES, MOST_FPS = 40, 30
"""At most: of a longer result its beginning is shown, and of a loop every so-manieth frame."""


def read_frames(result: Path) -> tuple[list[Image.Image], float]:
    """The frames of a video or an animated picture, and how many there are a second."""
    if result.suffix == ".webp":
        with Image.open(result) as picture:
            frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(picture)]
            return frames, 1000 / picture.info["duration"]
    with av.open(str(result)) as container:
        return [frame.to_image() for frame in container.decode(video=0)], float(
            container.streams.video[0].average_rate or 1
        )


def make_thumbnail(result: Path, caption: str, whole: bool = False) -> tuple[list[Image.Image], float]:
    """What was made, moving, above a caption that can be read at a third of the size; and the seconds of a picture.

    whole: whether its end has to be seen, as that of a loop.
    """
    frames, rate = read_frames(result)
    # Not every frame, so that the file stays small; the speed stays what it is.
    every = max(1, round(rate / MOST_FPS), -(-len(frames) // FRAMES) if whole else 1)
    # the largest size of Pillow's own font in which the text fits
    fonts = (ImageFont.load_default(size) for size in range(34, 10, -2))
    font = next(font for font in fonts if font.getlength(caption) <= SIDE - 16)
    pictures = []
    for frame in frames[: FRAMES * every : every]:
        picture = Image.new("RGB", (SIDE, SIDE), BACKGROUND)
        picture.paste(ImageOps.pad(frame, (SIDE, SIDE - CAPTION), color=BACKGROUND))
        place = (SIDE / 2, SIDE - CAPTION / 2)
        ImageDraw.Draw(picture).text(place, caption, font=font, fill=INK, anchor="mm")
        pictures.append(picture)
    return pictures, every / rate


def save_thumbnail(pictures: Sequence[Image.Image], seconds: float, path: Path) -> None:
    """An animated WebP. The template browser asks for a .jpg; browsers tell the kind of a picture by its content."""
    first, *rest = pictures
    options = {"save_all": True, "append_images": rest, "duration": round(1000 * seconds), "loop": 0}
    with path.open("wb") as file:
        first.save(file, "WEBP", quality=50, method=6, **options)


def run(server: Client, name: str, folder: Path) -> Path:
    """The video or the animated picture that workflows/api/NAME.json makes."""
    files = server.queue(read(name), timeout=1800).files
    return server.download(next(file for file in files if file.filename.endswith((".mp4", ".webp"))), folder)


# --------------------------------------------------------------------------------------------------------------- main


def names_of(asked: Sequence[str]) -> list[str]:
    there = sorted(path.stem for path in API.glob("*.json"))
    if unknown := sorted(set(asked) - set(there)):
        sys.exit(f"There is no workflows/api/{unknown[0]}.json. There are: {', '.join(there)}.")
    if lacking := [name for name in asked or there if name not in CAPTIONS or not (NOTES / f"{name}.md").is_file()]:
        sys.exit(f"{lacking[0]} lacks its caption in CAPTIONS, or its note in {NOTES}.")
    return list(asked) or there


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="workflows of workflows/api; all of them by default")
    parser.add_argument("--no-thumbnails", action="store_true", help="run nothing, and leave the pictures as they are")
    asked = parser.parse_args()
    names = names_of(asked.names)
    packs = {"ComfyUI-VideoHelperSuite": Path(os.environ["VHS_PATH"])} if os.environ.get("VHS_PATH") else {}
    with open_editor(packs) as (editor, server), tempfile.TemporaryDirectory() as temporary:
        for name in names:
            workflow = make_workflow(editor, server, name)
            (WORKFLOWS / f"{name}.json").write_text(json.dumps(workflow, indent=2) + "\n", "utf-8")
            print(f"workflows/{name}.json")
        for name in () if asked.no_thumbnails else names:
            result = run(server, SHOWS.get(name, name), Path(temporary))
            pictures, seconds = make_thumbnail(result, CAPTIONS[name], whole="loop" in name)
            save_thumbnail(pictures, seconds, WORKFLOWS / f"{name}.jpg")
            print(f"workflows/{name}.jpg")
