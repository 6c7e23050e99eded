"""What saved workflows rely on: every node's inputs and outputs, in a form that fits one line an input.

`tests/data/contract.json` holds it for the code as it stands, `tests/data/contract-0.1.0.json` for version 0.1.0.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"

# What an input shows, and what no saved workflow has: it may change without asking.
_PRESENTATION = {"tooltip", "advanced", "display", "display_name", "multiline", "placeholder", "labels"}
# The lists of checkpoints depend on what lies in the folders.
_FOUND_WHEN_IT_RUNS = {"model_name"}


def contract_of(nodes: Iterable[Any]) -> dict[str, Any]:
    """The contract of node classes (ComfyUI's V3 nodes), as plain JSON."""
    return {info["name"]: _node(info) for info in (_info(node) for node in nodes)}


def _info(node: Any) -> dict[str, Any]:
    """What ComfyUI answers at /object_info, less what it adds for people alone."""
    node.GET_SCHEMA()
    return json.loads(json.dumps(node.GET_NODE_INFO_V1()))


def _node(info: Mapping[str, Any]) -> dict[str, Any]:
    outputs = zip(info["output_name"], info["output"], info["output_is_list"], strict=True)
    return {
        "output_node": info["output_node"],
        "inputs": [_input(info, group, name) for group in ("required", "optional") for name in _order(info, group)],
        "outputs": [{"name": name, "type": kind} | ({"list": True} if many else {}) for name, kind, many in outputs],
    }


def _order(info: Mapping[str, Any], group: str) -> list[str]:
    return info["input_order"].get(group, [])


def _input(info: Mapping[str, Any], group: str, name: str) -> dict[str, Any]:
    kind, *details = info["input"][group][name]
    kept = _without_presentation(details[0] if details else {})
    if isinstance(names := kept.get("template", {}).get("names"), list):  # sockets that appear one after another
        kept["template"]["names"] = f"{names[0]} to {names[-1]}, {len(names)} in all"
    if name in _FOUND_WHEN_IT_RUNS:
        kept["options"] = "found when it runs"
    return {"name": name, "type": kind} | ({"optional": True} if group == "optional" else {}) | kept


def _without_presentation(value: Any) -> Any:
    if isinstance(value, Mapping):
        kept = {key: _without_presentation(item) for key, item in value.items() if key not in _PRESENTATION}
        return {key: item for key, item in kept.items() if (key, item) != ("multiselect", False)}
    return [_without_presentation(item) for item in value] if isinstance(value, list) else value


def as_text(contract: Mapping[str, Any]) -> str:
    """JSON with one line for each input and each output."""
    lines = ["{"]
    for node, content in contract.items():
        lines += [f'  "{node}": {{', f'    "output_node": {json.dumps(content["output_node"])},']
        for part in ("inputs", "outputs"):
            lines.append(f'    "{part}": [')
            lines += [f"      {json.dumps(slot, ensure_ascii=False)}," for slot in content[part]]
            lines[-1] = lines[-1].removesuffix(",")
            lines.append("    ]," if part == "inputs" else "    ]")
        lines.append("  },")
    lines[-1] = lines[-1].removesuffix(",")
    return "\n".join([*lines, "}", ""])


def read(name: str) -> dict[str, Any]:
    return json.loads((DATA / name).read_text("utf-8"))


def broken_promises(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """How a workflow saved with the old nodes could fail with the new ones; an empty list where it can not.

    Inputs are kept by name in requests to the queue, and by place in workflows of the editor. So old inputs stay in
    their order, and new ones are optional and come after all of them.
    """
    broken: list[str] = []
    for node, before in old.items():
        if node not in new:
            broken.append(f"{node} is gone")
            continue
        after = new[node]
        if before["output_node"] and not after["output_node"]:
            broken.append(f"{node} does not run by itself any more")
        for part in ("inputs", "outputs"):
            slots = [(slot["name"], slot["type"]) for slot in after[part]]
            expected = [(slot["name"], slot["type"]) for slot in before[part]]
            if slots[: len(expected)] != expected:
                broken.append(f"{node}: expected the {part} to begin with {expected}, got {slots}")
        named = {slot["name"]: slot for slot in after["inputs"]}
        for slot in before["inputs"]:
            broken += [f"{node}.{slot['name']}: {fault}" for fault in _refused_now(slot, named.get(slot["name"], slot))]
        added = after["inputs"][len(before["inputs"]) :]
        broken += [f"{node}.{slot['name']} is new and has to be optional" for slot in added if not slot.get("optional")]
    return broken


def _refused_now(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What the old input took, or did without, and the new one does not."""
    faults: list[str] = []
    if old.get("optional") and not new.get("optional"):
        faults.append("was optional")
    if new.get("min", float("-inf")) > old.get("min", float("-inf")):
        faults.append(f"took values from {old.get('min')}")
    if new.get("max", float("inf")) < old.get("max", float("inf")):
        faults.append(f"took values up to {old.get('max')}")
    options = old.get("options")
    if isinstance(options, list):
        gone = [option for option in options if option not in new.get("options", [])]
        faults += [f"had the option {option}" for option in gone]
    return faults
