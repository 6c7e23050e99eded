"""Makes the templates of ComfyUI's template browser out of the API workflows: workflows/NAME.json and NAME.jpg.

  python scripts/documents templates [NAME ...]

Each workflow of workflows/api (or those named) is loaded into the real editor, laid out left to right, given a note and
the properties by which ComfyUI finds missing node packs, and saved as the editor saves it. Then it is run, and its
thumbnail shows frames of the result. Needs what the browser tests need; run it with ComfyUI's Python.

A new workflow needs its API file and an entry in TEMPLATES.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
from PIL import Image, ImageDraw, ImageFont
from setup.editor import Editor, browser, prepare_settings
from setup.install import ROOT, find_or_make
from setup.server import LocalServer, lay_base

WORKFLOWS = ROOT / "workflows"
API = WORKFLOWS / "api"
MEDIA = ROOT / "media"
PACK_FOLDER = "amt-frame-interpolation"

Workflow = dict[str, Any]
"""A workflow as the editor saves it."""


@dataclass(frozen=True)
class Template:
    """What a template shows beyond its workflow."""

    caption: str
    """A few words on the thumbnail."""
    note: str
    """Markdown: what to change. Shown above the nodes."""
    result: str | None = None
    """The workflow whose result the thumbnail shows, where this one cannot run here."""


TEMPLATES = {
    "two_images_to_video": Template(
        "2 images to video",
        "## Two images to video\n\n"
        "Press **Run**: a smooth video from the first image to the second.\n\n"
        "**Change**\n"
        "- the two images, of the same size. More of them: connect them to *Batch Images*, in order\n"
        "- `recursive_interpolation_passes`: 4 makes 15 new frames between two images, 5 makes 31\n"
        "- `output_fps`: frames a second\n\n"
        "AMT follows motion. Two images of one scene, not too far apart, do best.",
    ),
    "image_batch_to_video": Template(
        "images to smooth video",
        "## Image batch to video\n\n"
        "Press **Run**: frames in, 16 times as many out, then *Create Video*.\n\n"
        "**Change**\n"
        "- where the frames come from: a VAE Decode, *Get Video Components* or any other image batch in place of "
        "*Batch Images*\n"
        "- `recursive_interpolation_passes`: 1 makes twice as many frames, 2 makes 4 times as many\n"
        "- `fps` of *Create Video*: the rate of your frames times `multiplier` keeps the speed; less is slow motion\n\n"
        "All frames are in memory here. For long clips use *AMT Images to Video*.",
    ),
    "image_batch_to_vhs_video_combine": Template(
        "images to Video Combine",
        "## Image batch to Video Combine\n\n"
        "Press **Run**: frames in, 16 times as many out, saved by *Video Combine* of VideoHelperSuite.\n\n"
        "**Change**\n"
        "- where the frames come from: *Load Video* or any other image batch in place of *Batch Images*\n"
        "- `recursive_interpolation_passes`: 1 makes twice as many frames, 2 makes 4 times as many\n"
        "- `frame_rate` of *Video Combine*: the rate of your frames times `multiplier` keeps the speed; less is slow "
        "motion\n\n"
        "Needs ComfyUI-VideoHelperSuite.",
    ),
    "core_frame_interpolate": Template(
        "AMT in the core node",
        "## AMT in ComfyUI's own node\n\n"
        "Press **Run**: *Run Frame Interpolation Model* with an AMT model.\n\n"
        "**Change**\n"
        "- the images, of the same size. More of them: connect them to *Batch Images*, in order\n"
        "- `multiplier`: 8 makes 7 new frames between two images. 2, 4, 8 and 16 suit AMT best: other times come from "
        "halving again and again\n"
        "- `fps` of *Create Video*: the rate of your frames times the multiplier keeps the speed\n\n"
        "It works the other way round as well: models of *Load Frame Interpolation Model* (RIFE, FILM) go into "
        "*AMT Frame Interpolation*.",
    ),
    "smooth_video": Template(
        "smooth video, with sound",
        "## Smooth a video\n\n"
        "Press **Run**: twice the frames in the same time, with the sound as it is.\n\n"
        "**Change**\n"
        "- the video: choose or upload yours in *Load Video*\n"
        "- `recursive_interpolation_passes`: 1 makes twice as many frames, 2 makes 4 times as many\n\n"
        "Videos of any length: only a few frames are in memory at once. Across cuts nothing is morphed.",
    ),
    "slow_motion_video": Template(
        "slow motion",
        "## Slow motion\n\n"
        "Press **Run**: four times as long at the same frame rate. The sound is stretched, its pitch is kept.\n\n"
        "**Change**\n"
        "- the video: choose or upload yours in *Load Video*\n"
        "- `recursive_interpolation_passes`: 1 is half the speed, 2 a quarter, 3 an eighth\n"
        "- `slow_motion_sound`: *drop* leaves the sound out",
    ),
    "video_to_60_fps": Template(
        "video to 60 fps",
        "## Video to 60 frames a second\n\n"
        "Press **Run**: the same duration and sound, at exactly 60 frames a second.\n\n"
        "**Change**\n"
        "- the video: choose or upload yours in *Load Video*\n"
        "- `output_fps`: any rate; 23.976, 29.97 and 59.94 are taken as 24000/1001 and so on",
    ),
    "seamless_loop": Template(
        "seamless loop",
        "## Seamless loop\n\n"
        "Press **Run**: the last frame flows into the first, so that the video can play round and round.\n\n"
        "**Change**\n"
        "- the video: choose or upload yours in *Load Video*; its end should be near its beginning\n"
        "- `recursive_interpolation_passes`: how many frames are made between two, and for the way back",
    ),
    "vhs_load_video": Template(
        "with Video Helper Suite",
        "## With Video Helper Suite\n\n"
        "Press **Run**: *Load Video* and *Video Combine* of VideoHelperSuite, twice the frames in between.\n\n"
        "**Change**\n"
        "- the video, in *Load Video*\n"
        "- `recursive_interpolation_passes`, and with it `frame_rate` of *Video Combine*: the video's rate times "
        "2 for each pass\n\n"
        "All frames are in memory here; *AMT Video Interpolation* needs a few only. "
        "Needs ComfyUI-VideoHelperSuite.",
    ),
    "vhs_meta_batch": Template(
        "meta batch, no frame lost",
        "## Meta batch of Video Helper Suite\n\n"
        "Press **Run**: a long video, a few frames at a time. `meta_batch` is connected to *AMT Frame Interpolation* "
        "too, so no frame is lost where two batches meet.\n\n"
        "**Change**\n"
        "- the video, in *Load Video*\n"
        "- `frames_per_batch`: as many as memory allows\n"
        "- `recursive_interpolation_passes`, and with it `frame_rate` of *Video Combine*\n\n"
        "Needs ComfyUI-VideoHelperSuite.",
        result="vhs_load_video",
    ),
    "load_frames_to_video": Template(
        "URLs to video",
        "## Frames by URL to video\n\n"
        "Press **Run**: the two pictures in the text become a smooth video.\n\n"
        "**Change**\n"
        "- the lines of *Load Frames (URL)*: one frame each, a hosted `https://` URL or a data URI "
        "(`data:image/png;base64,...`), all of one size\n"
        "- `recursive_interpolation_passes`: 4 makes 15 new frames between two images\n"
        "- `output_fps`: frames a second\n\n"
        "The same fields as fal.ai's hosted endpoint takes, so a program can queue it in the same way.",
    ),
    "fal_two_images_to_video": Template(
        "on fal.ai, for a fee",
        "## Two images to video, on fal.ai\n\n"
        "**Run** sends the images to fal.ai, a paid service. It needs a key of yours in the environment variable "
        '`FAL_KEY` where ComfyUI is started, and `pip install "fal-client>=1.0.3,<2"`.\n\n'
        "**Change**\n"
        "- the images, of one size; more of them: connect them to *Batch Images*, in order\n"
        "- `recursive_interpolation_passes` and `output_fps`, as at the endpoint\n"
        "- `ask_again`: equal inputs reuse the result and cost nothing; another number pays for a new one\n\n"
        "*AMT Images to Video* does the same here, for nothing.",
        result="two_images_to_video",
    ),
}

NOTE_WIDTH, NOTE_HEIGHT = 760, 240
"""The least width, and the height."""
GAP = (50, 70)
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
            y += node["size"][1] + GAP[1]
            widest = max(widest, node["size"][0])
        x += widest + GAP[0]
        edges.append(x)
    return edges[0], edges[-1] - GAP[0]


def note(text: str, key: int, left: float, right: float) -> dict[str, Any]:
    return {
        "id": key,
        "type": "MarkdownNote",
        "pos": [left, -NOTE_HEIGHT - GAP[1]],
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


def make_workflow(editor: Editor, server: LocalServer, name: str) -> Workflow:
    """The editor's workflow for workflows/api/NAME.json."""
    prompt = json.loads((API / f"{name}.json").read_text("utf-8"))
    if unknown := server.unknown_nodes(prompt):  # the editor would wait for somebody to close a dialog
        sys.exit(f"{name} needs {unknown[0]}, which is not here: set VHS_PATH to VideoHelperSuite's folder.")
    editor.open()
    editor.load_prompt(prompt, name)
    editor.page.wait_for_load_state("networkidle")  # pictures, by which nodes grow
    editor.page.wait_for_timeout(500)
    workflow = editor.workflow()
    for node in workflow["nodes"]:
        node["properties"] = {"Node name for S&R": node["type"], **pack_of(server, node["type"])}
    edges = lay_out(workflow, prompt, above=NOTE_HEIGHT + GAP[1])
    workflow["last_node_id"] += 1
    workflow["nodes"].append(note(TEMPLATES[name].note, workflow["last_node_id"], *edges))
    workflow["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, f"amt-frame-interpolation/{name}"))
    workflow["extra"] = {"frontendVersion": workflow["extra"]["frontendVersion"]}
    return workflow


# ---------------------------------------------------------------------------------------------------------- thumbnails

THUMBNAIL = (512, 512)
CAPTION = 76
FRAMES = 4


def make_thumbnail(video: Path, caption: str) -> Image.Image:
    """Frames of the video, first to last, above a caption that can be read at a third of the size."""
    with av.open(str(video)) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    shown = [frames[round(i * (len(frames) - 1) / (FRAMES - 1))] for i in range(FRAMES)]
    picture = Image.new("RGB", THUMBNAIL, (16, 18, 24))
    width, height = THUMBNAIL[0] // 2 - 2, (THUMBNAIL[1] - CAPTION) // 2 - 2
    for index, frame in enumerate(shown):
        place = (index % 2 * (width + 4), index // 2 * (height + 4))
        picture.paste(fill(frame, (width, height)), place)
    draw = ImageDraw.Draw(picture)
    middle = (THUMBNAIL[0] / 2, THUMBNAIL[1] - CAPTION / 2 + 1)
    draw.text(middle, caption, font=fitting_font(draw, caption), fill=(240, 244, 255), anchor="mm")
    return picture


def fill(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The middle of the picture, scaled to fill `size`."""
    scale = max(size[0] / picture.width, size[1] / picture.height)
    scaled = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)
    left, top = (scaled.width - size[0]) // 2, (scaled.height - size[1]) // 2
    return scaled.crop((left, top, left + size[0], top + size[1]))


def fitting_font(draw: ImageDraw.ImageDraw, text: str) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The largest size of Pillow's own font in which the text fits across the thumbnail."""
    sizes = (ImageFont.load_default(size) for size in range(50, 12, -2))
    return next(font for font in sizes if draw.textlength(text, font=font) <= THUMBNAIL[0] - 24)


def run(server: LocalServer, name: str, folder: Path) -> Path:
    """The video that workflows/api/NAME.json makes."""
    result = server.queue(json.loads((API / f"{name}.json").read_text("utf-8")), timeout=1800)
    videos = [file for file in result.files if file.filename.endswith((".mp4", ".webm", ".mkv"))]
    assert videos, f"{name} made no video: {result.files}"
    return server.download(videos[0], folder)


# --------------------------------------------------------------------------------------------------------------- main


def names_of(asked: Sequence[str]) -> Iterable[str]:
    there = sorted(path.stem for path in API.glob("*.json"))
    for name in asked or there:
        if name not in there:
            sys.exit(f"There is no workflows/api/{name}.json. There are: {', '.join(there)}.")
        if name not in TEMPLATES:
            sys.exit(f"{name} has no entry in TEMPLATES (caption and note).")
        yield name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="workflows of workflows/api; all of them by default")
    parser.add_argument("--no-thumbnails", action="store_true", help="run nothing, and leave the pictures as they are")
    asked = parser.parse_args()
    names = list(names_of(asked.names))
    packs = {PACK_FOLDER: ROOT}
    if os.environ.get("VHS_PATH"):
        packs["ComfyUI-VideoHelperSuite"] = Path(os.environ["VHS_PATH"])
    with tempfile.TemporaryDirectory() as temporary:
        base = lay_base(Path(temporary), packs)
        prepare_settings(base)
        for file in MEDIA.glob("amt_demo_*"):
            shutil.copy(file, base / "input")
        arguments = ["--disable-api-nodes", "--database-url", "sqlite:///:memory:"]
        log = base / "comfyui.log"
        with LocalServer(find_or_make(print), base=base, arguments=arguments, log=log, device="cpu") as server:
            with browser() as chromium:
                page = chromium.new_page(viewport={"width": 1600, "height": 900})
                page.set_default_timeout(120_000)
                editor = Editor(page, server)
                for name in names:
                    workflow = make_workflow(editor, server, name)
                    (WORKFLOWS / f"{name}.json").write_text(json.dumps(workflow, indent=2) + "\n", "utf-8")
                    print(f"workflows/{name}.json")
            for name in () if asked.no_thumbnails else names:
                template = TEMPLATES[name]
                video = run(server, template.result or name, Path(temporary))
                picture = make_thumbnail(video, template.caption)
                picture.save(WORKFLOWS / f"{name}.jpg", quality=85, optimize=True)
                print(f"workflows/{name}.jpg")


if __name__ == "__main__":
    main()
