"""A few of the files that `scripts/fuzz` makes by the hundred, so that its rules hold at every change."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from fuzz import checkpoints, clips
from fuzz.harness import FAULT


@pytest.mark.parametrize("number", [*range(12), 110, 173, 375])  # the last three were faults once
def test_a_video_of_any_kind_is_made_or_refused_with_a_reason(number: int, tmp_path: Path) -> None:
    path = tmp_path / "clip.video"
    clips.make(random.Random(f"0 {number}"), path)
    assert not clips.judge(path, 0, number).startswith(FAULT)


def test_damaged_weights_load_or_are_refused_with_a_reason(tmp_path: Path) -> None:
    files = checkpoints.originals(tmp_path)
    path = tmp_path / "damaged.pth"
    outcomes = set()
    for number in range(40):
        path.write_bytes(checkpoints.damaged(files, random.Random(f"0 {number}")))
        outcomes.add(checkpoints.judge(path, 0, number))
    assert len(outcomes) >= 2  # some load and some do not
