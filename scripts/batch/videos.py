"""Runs all videos of a folder through a workflow, on a ComfyUI that runs already: here or on another machine.

    python scripts/batch FOLDER
    python scripts/batch FOLDER --workflow amt_05_frame_interpolation_slow_motion --server http://127.0.0.1:8188
    python scripts/batch FOLDER --workflow my_workflow.json --to RESULTS

A workflow is one of workflows/api, or a file that the editor wrote by Export (API), with one node that loads a video.
Each video is uploaded, queued and waited for. Results lie in the server's output folder, under video/NAME-OF-THE-VIDEO;
with --to they are fetched, too. A video that fails does not stop the others. Needs no more than Python.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import _pack
from setup.client import Client, OutputFile, QueueError, ServerError

WORKFLOWS = _pack.ROOT / "workflows" / "api"
DEFAULT = "amt_01_frame_interpolation_16_to_32_fps_with_sound"
VIDEOS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".ts", ".gif")
LOADERS = {"LoadVideo": "file", "VHS_LoadVideo": "video"}
"""The nodes that load a video of the server's input folder, and the input that names it."""
TOO_LARGE = 413


class WorkflowError(ValueError):
    """The workflow cannot be used for a folder of videos. The message says why."""


def read_workflow(name: str) -> dict[str, Any]:
    """One of workflows/api by its name, or any file in API format. Raises WorkflowError."""
    path = WORKFLOWS / f"{name}.json"
    path = path if path.is_file() else Path(name)
    try:
        workflow = json.loads(path.read_text("utf-8"))
        is_api = all("class_type" in node for node in workflow.values())
    except OSError:
        there = ", ".join(sorted(path.stem for path in WORKFLOWS.glob("*.json")))
        raise WorkflowError(f"there is no workflow {name}. Expected a file, or one of: {there}") from None
    except (ValueError, TypeError, AttributeError):
        workflow, is_api = {}, False
    if not is_api:
        raise WorkflowError(f"{path} is no workflow in API format. In the editor, choose File, Export (API)")
    loader(workflow)
    return workflow


def loader(workflow: dict[str, Any]) -> tuple[str, str]:
    """The node that loads the video, and its input for the file. Raises WorkflowError."""
    found = [
        (node_id, LOADERS[node["class_type"]]) for node_id, node in workflow.items() if node["class_type"] in LOADERS
    ]
    if len(found) != 1:
        raise WorkflowError(
            f"expected a workflow with one node that loads a video ({' or '.join(LOADERS)}), got {len(found)}"
        )
    return found[0]


def for_video(workflow: dict[str, Any], uploaded: str, stem: str) -> dict[str, Any]:
    """The workflow with this video in it, and its name in those of the results.

    uploaded: its name on the server.
    """
    prompt = copy.deepcopy(workflow)
    node, name = loader(prompt)
    prompt[node]["inputs"][name] = uploaded
    for other in prompt.values():
        if isinstance(other["inputs"].get("filename_prefix"), str):
            # ComfyUI fills in what stands between percent signs.
            other["inputs"]["filename_prefix"] = f"video/{stem.replace('%', '_')}"
    return prompt


def run_folder(
    client: Client, videos: list[Path], workflow: dict[str, Any], said: Callable[[str], object] = lambda state: None
) -> Iterator[tuple[Path, list[OutputFile] | str]]:
    """Yields each video with its results, or with the reason why there are none. said: called with what goes on.

    Raises ServerError where the server is not there, or has gone.
    """
    for number, video in enumerate(videos, 1):

        def waiting(state: str, seconds: float, what: str = f"{number} of {len(videos)}: {video.name}") -> None:
            said(f"{what} is {state}, {seconds:.0f} s")

        try:
            prompt = for_video(workflow, client.upload(video), video.stem)
            yield video, client.queue(prompt, timeout=float("inf"), waiting=waiting).files
        except QueueError as error:
            yield video, str(error)
        except urllib.error.HTTPError as error:
            reason = f"the server refused the upload: {error}"
            if error.code == TOO_LARGE:
                reason += ". Start ComfyUI with a higher --max-upload-size (megabytes; 100 without it)"
            yield video, reason


def main() -> None:
    parser = argparse.ArgumentParser("batch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the videos are")
    parser.add_argument("--workflow", default=DEFAULT, help=f"by name or file; {DEFAULT} by default")
    parser.add_argument("--server", default="http://127.0.0.1:8188", help="the address of ComfyUI")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="a folder on this machine to fetch the results to")
    arguments = parser.parse_args()
    if not arguments.folder.is_dir():
        sys.exit(f"{arguments.folder} is no folder.")
    videos = sorted(path for path in arguments.folder.iterdir() if path.suffix.lower() in VIDEOS and path.is_file())
    if not videos:
        sys.exit(f"{arguments.folder} has no videos. Expected files that end in {', '.join(VIDEOS)}.")
    failed = 0
    try:
        workflow, client = read_workflow(arguments.workflow), Client(arguments.server)
        if unknown := client.unknown_nodes(workflow):
            sys.exit(f"{client.url} does not know these nodes: {', '.join(unknown)}. Install their packs there.")
        for video, result in run_folder(client, videos, workflow, _said()):
            if isinstance(result, str):
                failed += 1
                _tell(f"{video.name}: failed. {result}")
                continue
            for file in result:
                place = "/".join(filter(None, (f"the server's {file.type} folder", file.subfolder, file.filename)))
                _tell(f"{video.name}: {client.download(file, arguments.to) if arguments.to else place}")
    except (WorkflowError, ServerError) as error:
        sys.exit(f"{error}".rstrip(".") + ".")
    except KeyboardInterrupt:
        sys.exit("Stopped. What is finished stays where it is.")
    if failed:
        sys.exit(f"{failed} of {len(videos)} videos failed.")


def _said() -> Callable[[str], object]:
    """Shows what goes on in one line of a terminal that is written over; nothing where the output goes to a file."""
    if not sys.stdout.isatty():
        return lambda state: None
    return lambda state: print(f"\r\033[K{state}", end="", flush=True)


def _tell(line: str) -> None:
    print(f"\r\033[K{line}" if sys.stdout.isatty() else line, flush=True)
