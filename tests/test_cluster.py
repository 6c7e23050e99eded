"""A video made on a cluster is the video made here; what goes wrong there is said here, and leaves nothing."""

import errno
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from amt_frame_interpolation.amt.fast import FastAMT
from amt_frame_interpolation.amt.motion_scale import ScaledAMT
from amt_frame_interpolation.amt.timeline import Plan
from amt_frame_interpolation.amt.timeline.analysis import SourceAnalysis
from amt_frame_interpolation.amt.timeline.cuts import CutDetector
from amt_frame_interpolation.amt.timeline.segments import WHOLE
from amt_frame_interpolation.cluster import head
from amt_frame_interpolation.cluster.head import (
    ClusterError,
    Progress,
    RayMissingError,
    Result,
    check_ray,
    interpolate_over_ray,
)
from amt_frame_interpolation.cluster.paced import Paced
from amt_frame_interpolation.cluster.request import AMTWeights, Failed, Network, Request
from amt_frame_interpolation.cluster.worker import make_segment
from amt_frame_interpolation.models.catalogue import BUNDLED, BUNDLED_FOLDER
from amt_frame_interpolation.models.loading import load_checkpoint
from amt_frame_interpolation.video.container import Window
from amt_frame_interpolation.video.file import VideoFile
from amt_frame_interpolation.video.task import Task
from amt_frame_interpolation.waiting import wait_until
from test_segments import PLANS, decoded, make, source

ray = pytest.importorskip("ray")
PART = 12


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without cores, and two machines with one core each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    cluster.add_node(num_cpus=1)
    cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


@pytest.fixture
def address(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    return cluster.address


def run(video: VideoFile, path: Path, plan: Plan, network: Network, check: Any = lambda: None) -> Result:
    request = Request(video, Task(plan, SourceAnalysis(plan.end, CutDetector())), network, PART)
    seen: list[Progress] = []
    result = interpolate_over_ray(request, path, check, seen.append)
    assert seen[-1].done == seen[-1].total == sum(seen[-1].by_node.values())
    return result


def leftovers(folder: Path, *known: str) -> set[str]:
    return {path.name for path in folder.iterdir()} - set(known)


@pytest.mark.parametrize(
    ("name", "kind"), [("smooth", "trimmed"), ("target rate", "variable"), ("slow motion", "constant")]
)
def test_the_cluster_makes_what_one_machine_makes(tmp_path: Path, address: str, name: str, kind: str) -> None:
    plan = PLANS[name]
    path = source(tmp_path / "source.mp4", variable=kind == "variable")
    video = VideoFile(str(path), Window(0.6, 1.2) if kind == "trimmed" else Window())
    length = make(video, tmp_path / "whole.mp4", plan, part=PART)
    result = run(video, tmp_path / "joined.mp4", plan, Paced(0))
    assert decoded(tmp_path / "joined.mp4") == decoded(tmp_path / "whole.mp4")
    assert result.length == length
    assert result.workers == 2
    assert not leftovers(tmp_path, "source.mp4", "whole.mp4", "joined.mp4")


def test_without_a_cluster_this_machine_is_one_for_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    path = source(tmp_path / "source.mp4", 24)
    network = FastAMT(load_checkpoint(BUNDLED_FOLDER / BUNDLED.name).network)
    plan = Plan(1, "loop")
    weights = AMTWeights.of(network, carried=True, scale=None)
    make(VideoFile(str(path)), tmp_path / "whole.mp4", plan, part=PART, network=ScaledAMT(network, carried=True))
    # A video that is in memory, as nodes hand it on, travels with the request.
    video = VideoFile(io.BytesIO(path.read_bytes()))
    result = run(video, scratch / "joined.mp4", plan, weights)
    assert decoded(scratch / "joined.mp4") == decoded(tmp_path / "whole.mp4")
    assert result.used == {1: 23}  # 23 gaps and the one that closes the loop, less the cut
    assert not leftovers(scratch, "joined.mp4")
    assert not processes_of("amt_frame_interpolation.cluster.driver")


def processes_of(words: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if words in (line := process.read_bytes().replace(b"\0", b" ").decode(errors="replace")):
                found.append(line)
    return found


class AfterFrames:
    """Waits for progress, and then does something once."""

    def __init__(self, frames: int, act: Callable[[], object]) -> None:
        self._frames, self._act, self.acted = frames, act, False

    def __call__(self, progress: Progress) -> None:
        if progress.done >= self._frames and not self.acted:
            self.acted = True
            self._act()


def interpolate(video: VideoFile, path: Path, network: Network, report: Callable[[Progress], object]) -> Result:
    plan = PLANS["smooth"]
    request = Request(video, Task(plan, SourceAnalysis(plan.end, CutDetector())), network, PART)
    return interpolate_over_ray(request, path, lambda: None, report)


def test_a_machine_that_dies_costs_its_segments_alone(tmp_path: Path, cluster: Any, address: str) -> None:
    path = source(tmp_path / "source.mp4")
    make(VideoFile(str(path)), tmp_path / "whole.mp4", PLANS["smooth"], part=PART)
    dying = [cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)]
    calls = tmp_path / "calls"
    calls.mkdir()
    first = AfterFrames(8, lambda: cluster.remove_node(dying[0], allow_graceful=False))
    second = AfterFrames(24, lambda: cluster.remove_node(dying[1], allow_graceful=False))

    def report(progress: Progress) -> None:
        first(progress)
        second(progress)

    interpolate(VideoFile(str(path)), tmp_path / "joined.mp4", Paced(0.2, str(calls)), report)
    assert first.acted
    assert second.acted
    assert decoded(tmp_path / "joined.mp4") == decoded(tmp_path / "whole.mp4")
    # Made frames: 47 for the video, and at most one lost segment's for each machine that died.
    assert 47 <= len(list(calls.iterdir())) <= 47 + 2 * PART


def test_a_machine_that_leaves_before_it_is_asked_is_left_out(tmp_path: Path, cluster: Any, address: str) -> None:
    from amt_frame_interpolation.cluster import driver

    video = VideoFile(str(source(tmp_path / "source.mp4", 12)))
    request = Request(video, Task(PLANS["smooth"], SourceAnalysis("hold")), Paced(0), PART)
    leaving = cluster.add_node(num_cpus=1)
    ray.init(address, runtime_env={"py_modules": [str(head._ship(tmp_path / "code"))]}, log_to_driver=False)
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        cluster.remove_node(leaving, allow_graceful=False)
        wait_until(lambda seconds: len(driver._alive()) < len(nodes) or time.sleep(seconds), lambda: None)
        gone = [node for node in nodes if node["NodeID"] not in driver._alive()]
        assert driver._with_bytes(request, [], nodes).video is video
        with pytest.raises(driver.ClusterError, match="have gone"):
            driver._with_bytes(request, [], gone)
    finally:
        ray.shutdown()


def test_a_source_that_a_worker_cannot_read(tmp_path: Path, address: str) -> None:
    path = source(tmp_path / "source.mp4")
    video = VideoFile(str(path))
    path.write_bytes(b"no video" * 1000)
    with pytest.raises(ClusterError, match=r"segment \d of \d failed on .* \(\w{6}\): the video cannot be opened"):
        interpolate(video, tmp_path / "joined.mp4", Paced(0), lambda progress: None)
    assert not leftovers(tmp_path, "source.mp4")


def test_a_full_disk_of_a_worker_is_its_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    video = VideoFile(str(source(tmp_path / "source.mp4", 12)))
    made = make_segment(Request(video, Task(PLANS["smooth"], SourceAnalysis()), Paced(0)), WHOLE, 1, lambda: None)
    assert isinstance(made, Failed)
    assert "could not be written" in made.reason
    assert "No space left on device" in made.reason


def test_cancel_ends_everything(tmp_path: Path, address: str) -> None:
    class CancelledError(Exception):
        pass

    def cancel() -> None:
        raise CancelledError

    path = source(tmp_path / "source.mp4")
    with pytest.raises(CancelledError):
        interpolate(VideoFile(str(path)), tmp_path / "joined.mp4", Paced(0.5), AfterFrames(2, cancel))
    assert not leftovers(tmp_path, "source.mp4")
    assert not processes_of("amt_frame_interpolation.cluster.driver")
    wait_until(lambda seconds: not processes_of("ray::make") or time.sleep(seconds), lambda: None)


def test_a_cluster_that_dies_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.cluster_utils import Cluster

    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    path = source(tmp_path / "source.mp4")
    try:
        with pytest.raises(ClusterError, match="Ray"):
            interpolate(VideoFile(str(path)), tmp_path / "joined.mp4", Paced(0.5), AfterFrames(2, cluster.shutdown))
    finally:
        cluster.shutdown()
    assert not leftovers(tmp_path, "source.mp4")


def test_an_address_where_no_cluster_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    path = source(tmp_path / "source.mp4", 12)
    with pytest.raises(ClusterError, match="Ray"):
        interpolate(VideoFile(str(path)), tmp_path / "joined.mp4", Paced(0), lambda progress: None)


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RayMissingError, match="python -m pip install ray"):
        check_ray()
