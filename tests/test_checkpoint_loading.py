"""Files of weights, good, odd, broken and hostile."""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import os
import pathlib
import pickle
import re
import socket
import struct
import subprocess
import sys
import traceback
import typing
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import amt_frame_interpolation.models.pickles as pickles
import numpy as np
import pytest
import torch
import torch._utils
from amt_frame_interpolation.amt.network import AMT, Config, G, L, S
from amt_frame_interpolation.models.catalogue import BUNDLED, Record, by_name
from amt_frame_interpolation.models.digests import sha256
from amt_frame_interpolation.models.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    DamagedCheckpointError,
    NonFiniteWeightsError,
    NotACheckpointError,
    WrongArchitectureError,
    WrongDigestError,
    WrongTensorsError,
)
from amt_frame_interpolation.models.loading import load_checkpoint
from amt_frame_interpolation.models.opening import open_stored
from amt_frame_interpolation.models.pickles import Call as Called
from amt_frame_interpolation.models.pickles import Global, InertUnpickler
from amt_frame_interpolation.models.stored import Stored
from golden import golden_state_dict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def weights() -> Weights:
    return golden_state_dict(AMT(S))


def save_zip(content: object, path: Path) -> None:
    torch.save(content, path)


def save_legacy(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


FORMATS = [save_zip, save_legacy]


def assert_same(network: AMT, weights: Weights) -> None:
    loaded = network.state_dict()
    assert loaded.keys() == weights.keys()
    for name, weight in weights.items():
        assert loaded[name].dtype == torch.float32
        assert torch.equal(loaded[name], weight.float()), name


# What loads


@pytest.mark.parametrize(
    ("config", "save"),
    [(S, save_zip), (S, save_legacy), (S, save_file), (L, save_zip), (L, save_legacy), (G, save_file)],
    ids=lambda part: getattr(part, "name", part.__name__ if callable(part) else None),
)
def test_the_variant_is_read_from_the_tensors(
    tmp_path: Path, config: Config, save: Callable[[Any, Path], None]
) -> None:
    weights = golden_state_dict(AMT(config))
    path = tmp_path / "misnamed.ckpt"
    save(weights, path)
    checkpoint = load_checkpoint(path)
    network = checkpoint.network
    assert network.config is config
    assert_same(network, weights)
    assert not network.training
    assert not network.any_time
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert checkpoint.record is None
    assert checkpoint.sha256 == sha256(path)
    assert "0.5" in checkpoint.remark


def test_a_loaded_network_makes_frames(tmp_path: Path, weights: Weights) -> None:
    torch.save(weights, tmp_path / "a.pth")
    expected = AMT(S).eval()
    expected.load_state_dict(weights)
    frame0, frame1 = torch.rand(2, 1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        network = load_checkpoint(tmp_path / "a.pth").network
        half = torch.tensor([0.5])
        assert torch.equal(network(frame0, frame1, half), expected(frame0, frame1, half))
    # ComfyUI loads in inference mode; what was loaded there must be usable outside.
    assert not any(parameter.is_inference() for parameter in network.parameters())


@pytest.mark.parametrize("save", FORMATS)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: {"state_dict": weights, "epoch": 300},
        lambda weights: {"model": weights, "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}}},
        lambda weights: {"params": weights},
        lambda weights: {"params": {name: value + 1 for name, value in weights.items()}, "params_ema": weights},
        lambda weights: {f"module.{name}": value for name, value in weights.items()},
        lambda weights: {"state_dict": {f"module.{name}": value for name, value in weights.items()}},
        lambda weights: {"state_dict": {f"model._orig_mod.{name}": value for name, value in weights.items()}},
        collections.OrderedDict,
        lambda weights: {name: torch.nn.Parameter(value) for name, value in weights.items()},
    ],
)
def test_wrapped_and_prefixed(
    tmp_path: Path, weights: Weights, wrap: Callable[[Weights], object], save: Callable[[object, Path], None]
) -> None:
    save(wrap(weights), tmp_path / "a.pth")
    assert_same(load_checkpoint(tmp_path / "a.pth").network, weights)


@pytest.mark.parametrize("save", [*FORMATS, save_file])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_every_kind_of_float_becomes_float32(
    tmp_path: Path, weights: Weights, dtype: torch.dtype, save: Callable[[Any, Path], None]
) -> None:
    converted = {name: value.to(dtype) for name, value in weights.items()}
    save(converted, tmp_path / "a.pth")
    assert_same(load_checkpoint(tmp_path / "a.pth").network, converted)


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_every_pickle_protocol(tmp_path: Path, weights: Weights, protocol: int, zipped: bool) -> None:
    content = {"state_dict": weights, "note": "é", "numbers": [1, -1, 2**70, 0.5, None, True], "bytes": b"\0", "s": {1}}
    torch.save(content, tmp_path / "a.pth", pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    if protocol == 1 and not zipped:  # nothing in its first bytes tells it from any other file
        with pytest.raises(NotACheckpointError):
            load_checkpoint(tmp_path / "a.pth")
        return
    assert_same(load_checkpoint(tmp_path / "a.pth").network, weights)


@pytest.mark.parametrize("save", FORMATS)
def test_views_into_shared_memory(tmp_path: Path, weights: Weights, save: Callable[[object, Path], None]) -> None:
    memory = torch.cat([value.flatten() for value in weights.values()])
    views, start = {}, 0
    for name, value in weights.items():
        views[name] = memory[start : start + value.numel()].view(value.shape)
        start += value.numel()
    name = "comb_block.0.weight"
    views[name] = weights[name].permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    assert not views[name].is_contiguous()
    save(views, tmp_path / "a.pth")
    assert_same(load_checkpoint(tmp_path / "a.pth").network, weights)


class TypingOrderedDict:
    """Pickles as a call of typing.OrderedDict, as the published files are reported to do."""

    def __init__(self, items: Weights) -> None:
        self.items = items

    def __reduce__(self) -> Any:
        return typing.OrderedDict, (), None, None, iter(self.items.items())


@pytest.mark.parametrize("save", FORMATS)
def test_what_a_weights_only_load_refuses(
    tmp_path: Path, weights: Weights, save: Callable[[object, Path], None]
) -> None:
    save({"state_dict": TypingOrderedDict(weights), "kind": typing.OrderedDict}, tmp_path / "a.pth")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "a.pth", weights_only=True)
    assert_same(load_checkpoint(tmp_path / "a.pth").network, weights)


@pytest.mark.parametrize("save", FORMATS)
def test_training_state_beside_the_weights(
    tmp_path: Path, weights: Weights, save: Callable[[object, Path], None]
) -> None:
    network = torch.nn.Linear(2, 2)
    optimiser = torch.optim.AdamW(network.parameters())
    network(torch.ones(2)).sum().backward()
    optimiser.step()
    content = {
        "arguments": argparse.Namespace(rate=1e-4, folder=pathlib.PurePosixPath("/data")),
        "counts": collections.defaultdict(int, {"seen": 3}),
        "last": collections.deque([1, 2]),
        "loss": np.float64(0.5),
        "curve": np.arange(5),
        "optimiser": optimiser.state_dict(),
        "schedule": torch.optim.lr_scheduler.StepLR(optimiser, 1),
        "generator": torch.get_rng_state(),
        "shape": torch.Size([1, 2]),
        "dtype": torch.float16,
        "device": torch.device("cpu"),
        "module": network,
        "state_dict": weights,
    }
    save(content, tmp_path / "a.pth")
    assert_same(load_checkpoint(tmp_path / "a.pth").network, weights)


def test_a_changed_file_is_hashed_again(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    first = sha256(path)
    path.write_bytes(b"three")
    assert (first, sha256(path)) == (
        "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed",
        "8b5b9db0c13db24256c829aa364aa90c6d2eba318b9232a4ab9313b954d3555f",
    )


def test_every_length_of_a_safetensors_header(tmp_path: Path) -> None:
    """Its first byte is the file's first, and 0x80 is also the first of a pickle."""
    save_file({"weight": torch.ones(2)}, tmp_path / "a.safetensors")
    content = (tmp_path / "a.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    for padded in range(length, length + 256, 8):
        padding = b" " * (padded - length)
        padded_file = struct.pack("<Q", padded) + content[8 : 8 + length] + padding + content[8 + length :]
        (tmp_path / "b.safetensors").write_bytes(padded_file)
        with open_stored(tmp_path / "b.safetensors") as stored:
            assert [tensor.tolist() for tensor in read_all(stored)] == [[1, 1]]


# Which checkpoint it is


@pytest.mark.parametrize(
    ("metadata", "any_time", "is_said"),
    [
        ({"made_by": "amt-frame-interpolation", "times": "any", "samples": "1", "hours": "1"}, True, False),
        ({"made_by": "amt-frame-interpolation", "times": "0.5"}, False, False),
        ({"made_by": "amt-frame-interpolation", "times": "sometimes"}, False, True),
        ({"made_by": "amt-frame-interpolation"}, False, True),
        ({"made_by": "somebody", "times": "any"}, False, True),
        ({"times": "any"}, False, True),
        (None, False, True),
    ],
)
def test_a_file_by_this_project_says_for_which_times_it_was_trained(
    tmp_path: Path, weights: Weights, metadata: dict[str, str] | None, any_time: bool, is_said: bool
) -> None:
    path = tmp_path / "mine.safetensors"
    save_file(weights, path, metadata)
    checkpoint = load_checkpoint(path)
    assert checkpoint.network.any_time == any_time
    assert ("does not say for which times" in checkpoint.remark) == is_said


def test_bundled_weights_of_an_earlier_version_load_from_the_users_own_folder(tmp_path: Path, weights: Weights) -> None:
    path = tmp_path / BUNDLED.name
    save_file(weights, path, {"made_by": "amt-frame-interpolation"})
    assert not load_checkpoint(path).network.any_time


def record_like(name: str, **changes: Any) -> Record:
    record = by_name(name)
    assert record is not None
    return replace(record, **changes)


def test_the_digest_tells_whether_every_time_was_trained(tmp_path: Path, weights: Weights) -> None:
    path = tmp_path / "renamed.pth"
    torch.save(weights, path)
    record = record_like("gopro_amt-s.pth", sha256=sha256(path))
    checkpoint = load_checkpoint(path, (record,))
    assert checkpoint.record is record
    assert checkpoint.network.any_time
    assert not checkpoint.remark


def test_without_a_known_digest_the_name_tells_it_and_that_is_said(
    tmp_path: Path, weights: Weights, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "gopro_amt-s.pth"
    torch.save(weights, path)
    checkpoint = load_checkpoint(path)
    assert checkpoint.network.any_time
    remark = checkpoint.remark
    assert "by its name" in remark
    assert sha256(path) in remark
    assert remark in caplog.text


def test_another_file_under_a_well_confirmed_name_is_refused(tmp_path: Path, weights: Weights) -> None:
    path = tmp_path / "amt-s.pth"
    torch.save(weights, path)
    with pytest.raises(WrongDigestError) as caught:
        load_checkpoint(path)
    known = record_like("amt-s.pth")
    for part in (str(path), sha256(path), known.sha256, known.url, "a name of its own"):
        assert part
        assert part in str(caught.value)


def test_another_file_under_a_name_with_one_source_is_used_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "amt-l.pth"
    torch.save(golden_state_dict(AMT(L)), path)
    checkpoint = load_checkpoint(path)
    assert checkpoint.network.config is L
    assert not checkpoint.network.any_time
    remark = checkpoint.remark
    for part in (sha256(path), record_like("amt-l.pth").sha256, "single source"):
        assert part
        assert part in remark
        assert part in caplog.text


def test_a_published_name_on_another_variant_is_refused(tmp_path: Path, weights: Weights) -> None:
    path = tmp_path / "amt-g.pth"
    torch.save(weights, path)
    with pytest.raises(WrongArchitectureError, match=r"holds AMT-S.*is AMT-G"):
        load_checkpoint(path)


# What is refused


def refused(path: Path, error: type[CheckpointError], *parts: str) -> str:
    with pytest.raises(error) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    for part in (str(path), *parts):
        assert part in message
    return message


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".ckpt"])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"\xef\xbb\xbf\n <HTML lang=en>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12038359\n", "Git LFS"),
        (b"Entry not found", "Entry not found"),
        (b"\x1f\x8b\x08\x00 gzip", "no file of weights"),
        (pickle.dumps({"state_dict": {}}), "not made by torch.save"),
        (b"PK\x03\x04", "damaged"),
        (b"\x80", "damaged"),
        (struct.pack("<Q", 1 << 60) + b"{", "damaged"),
    ],
)
def test_files_of_other_kinds(tmp_path: Path, content: bytes, what: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises((NotACheckpointError, DamagedCheckpointError), match=what) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)


def test_a_damaged_published_file_says_where_to_get_it(tmp_path: Path) -> None:
    path = tmp_path / "amt-s.pth"
    path.write_bytes(b"PK\x03\x04 and so on")
    known = record_like("amt-s.pth")
    refused(path, DamagedCheckpointError, str(known.url), str(known.bytes), str(path.stat().st_size), "Delete it")


def test_a_zip_archive_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("amt-s.pth", b"0")
    refused(tmp_path / "a.pth", NotACheckpointError, "unpack it")


def test_torchscript(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"film/{name}", pickle.dumps({}))
    refused(tmp_path / "a.pt", NotACheckpointError, "TorchScript")


def test_a_whole_model(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pth")
    refused(tmp_path / "a.pth", WrongArchitectureError, "state_dict()")


@pytest.mark.parametrize("size", [0.01, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("save", [*FORMATS, save_file])
def test_truncated_files(tmp_path: Path, weights: Weights, save: Callable[[Any, Path], None], size: float) -> None:
    path = tmp_path / "a.pth"
    save(weights, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * size)])
    refused(path, DamagedCheckpointError, "cut short")


def test_changed_bytes_in_the_weights(tmp_path: Path, weights: Weights) -> None:
    path = tmp_path / "a.pth"
    torch.save(weights, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    refused(path, DamagedCheckpointError, "CRC")


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    refused(tmp_path / "gone.pth", CheckpointNotFoundError, "not there any more")


def test_what_is_not_a_file(tmp_path: Path) -> None:
    refused(tmp_path, CheckpointError)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.pth")
        refused(tmp_path / "pipe.pth", NotACheckpointError, "pipe")
        refused(Path("/dev/zero"), NotACheckpointError, "device")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "socket.pth"))
            refused(tmp_path / "socket.pth", CheckpointError)


def test_missing_tensors(tmp_path: Path, weights: Weights) -> None:
    names = [name for name in weights if name.startswith("decoder1.")]
    torch.save({name: value for name, value in weights.items() if name not in names}, tmp_path / "a.pth")
    message = refused(tmp_path / "a.pth", WrongTensorsError, "AMT-S", f"{len(names)} missing", names[0])
    assert names[-1] not in message  # a handful, not all


def test_left_over_tensors(tmp_path: Path, weights: Weights) -> None:
    torch.save(weights | {"discriminator.weight": torch.ones(1)}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", WrongTensorsError, "1 left over", "discriminator.weight")


def test_tensors_of_another_shape(tmp_path: Path, weights: Weights) -> None:
    torch.save(weights | {"comb_block.2.bias": torch.ones(4)}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", WrongTensorsError, "comb_block.2.bias", "[4] instead of [3]")


def test_tensors_that_are_not_of_floats(tmp_path: Path, weights: Weights) -> None:
    torch.save(weights | {"comb_block.2.bias": torch.ones(3, dtype=torch.int64)}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", WrongTensorsError, "comb_block.2.bias", "not of floats")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("save", [*FORMATS, save_file])
def test_weights_that_are_no_numbers(
    tmp_path: Path, weights: Weights, value: float, save: Callable[[Any, Path], None]
) -> None:
    broken = weights["comb_block.2.bias"].clone()
    broken[1] = value
    save(weights | {"comb_block.2.bias": broken}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", NonFiniteWeightsError, "comb_block.2.bias")


@pytest.mark.parametrize(
    ("names", "kind", "remedy"),
    [
        (["module.block0.conv0.0.0.weight"], "RIFE", "Load Frame Interpolation Model"),
        (["flownet.block0.conv0.0.0.weight", "encode.0.weight"], "RIFE", "Load Frame Interpolation Model"),
        (["extract.extract_sublevels.convs.0.0.conv.weight"], "FILM", "Load Frame Interpolation Model"),
        (["model.diffusion_model.input_blocks.0.0.weight"], "image or video model", "Load Checkpoint"),
        (["lora_unet_x.lora_up.weight", "lora_unet_x.lora_down.weight"], "LoRA", "Load LoRA"),
        (["encoder.conv_in.weight", "decoder.conv_in.weight"], "VAE", "Load VAE"),
        (["conv_first.weight", "body.0.weight"], "upscaling", "Load Upscale Model"),
        (["encoder.pyramid1.0.0.weight", "decoder4.convblock.0.0.weight"], "something else", "AMT model"),
        (["weight"], "something else", "AMT model"),
    ],
)
def test_other_networks_are_named(tmp_path: Path, names: list[str], kind: str, remedy: str) -> None:
    save_file({name: torch.ones(1) for name in names}, tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", WrongArchitectureError, kind, remedy)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.ones(1)], torch.ones(1), None])
def test_files_without_named_tensors(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", WrongArchitectureError, "no tensors", "state_dict")


# Hostile files


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


def hostile_calls(marker: Path) -> dict[str, Call]:
    write = f"open({str(marker)!r}, 'w')"
    return {
        "os.system": Call(os.system, f"echo > {marker}"),
        "eval": Call(eval, write),
        "exec": Call(exec, write),
        "open": Call(open, str(marker), "w"),
        "Popen": Call(subprocess.Popen, [sys.executable, "-c", write]),
        "import": Call(__import__, "this"),
        "torch.load": Call(torch.load, str(marker)),
        "nested": Call(print, Call(tuple, [Call(eval, write)])),
        "in a name the reader knows": Call(collections.OrderedDict, [[Call(eval, write), 1], ["a", Call(eval, write)]]),
        "in a tensor": Call(
            torch._utils._rebuild_tensor_v2, Call(eval, write), 0, (1,), (1,), False, Call(eval, write)
        ),
    }


@pytest.mark.parametrize("name", hostile_calls(Path()))
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_in_a_pickle_runs(tmp_path: Path, name: str, protocol: int, zipped: bool) -> None:
    marker, path = tmp_path / "it-ran", tmp_path / "a.pth"
    sys.modules.pop("this", None)
    hostile = hostile_calls(marker)[name]
    for content in (hostile, {"state_dict": hostile}, {"state_dict": {"weight": torch.ones(1), "extra": hostile}}):
        torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
        with contextlib.suppress(CheckpointError), open_stored(path) as opened:
            read_all(opened)
        refused(path, CheckpointError)
    assert not marker.exists()
    assert "this" not in sys.modules


@pytest.mark.parametrize("save", FORMATS)
def test_good_weights_beside_hostile_calls_load(
    tmp_path: Path, weights: Weights, save: Callable[[object, Path], None]
) -> None:
    marker = tmp_path / "it-ran"
    calls = {name: call for name, call in hostile_calls(marker).items() if name != "in a tensor"}
    save({"state_dict": weights, **calls}, tmp_path / "a.pth")
    assert_same(load_checkpoint(tmp_path / "a.pth").network, weights)
    assert not marker.exists()


def read_pickle(program: bytes) -> Any:
    return InertUnpickler(io.BytesIO(program)).load()


PROGRAMS = {
    "GLOBAL REDUCE": b"cos\nsystem\n(S'%s'\ntR.",
    "INST": b"(S'%s'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'%s'\no.",
    "NEWOBJ": b"\x80\x02cbuiltins\ntuple\n(cbuiltins\nmap\n(cos\nsystem\n(S'%s'\nlt\x81t\x81.",
    "NEWOBJ_EX": b"\x80\x04cbuiltins\ntuple\n(cbuiltins\nmap\n(cos\nsystem\n(S'%s'\nlt}\x92t}\x92.",
    "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93(S'%s'\ntR.",
    "dotted name": b"\x80\x04\x8c\x02os\x8c\x0epath.os.system\x93(S'%s'\ntR.",
    "getattr chain": b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'system'\ntR(S'%s'\ntR.",
    "BUILD": b"\x80\x02cargparse\nNamespace\n)\x81}S'__setstate__'\ncos\nsystem\nsbS'%s'\nb.",
}


@pytest.mark.skipif(os.name == "nt", reason="the programs use a command of POSIX systems")
@pytest.mark.parametrize("name", PROGRAMS)
def test_no_operation_of_the_machine_calls_anything(tmp_path: Path, name: str) -> None:
    marker = tmp_path / "it-ran"
    program = PROGRAMS[name] % b"touch %s" % os.fsencode(marker)
    with contextlib.suppress(Exception):
        pickle.loads(program)
    assert marker.exists(), "the program is harmless and shows nothing"
    marker.unlink()
    read_pickle(program)
    assert not marker.exists()


def test_what_would_have_been_made_is_told_not_made() -> None:
    root = read_pickle(pickle.dumps({"a": Call(os.system, "x"), "n": [1, (2, "é", None)]}, 0))
    assert root["n"] == [1, (2, "é", None)]
    assert isinstance(root["a"], Called)
    assert root["a"].function == Global(os.system.__module__, "system")
    assert root["a"].args == ("x",)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
)


@given(plain, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_values_are_read_as_the_standard_machine_reads_them(value: object, protocol: int) -> None:
    def without_calls(item: Any) -> Any:
        """Bytes are a call of codecs.encode, and empty ones of bytes, before protocol 3."""
        if isinstance(item, Called):
            return item.args[0].encode("latin-1") if item.args else b""
        if isinstance(item, dict):
            return {key: without_calls(inner) for key, inner in item.items()}
        return type(item)(map(without_calls, item)) if isinstance(item, (list, tuple)) else item

    assert without_calls(read_pickle(pickle.dumps(value, protocol))) == value


DEEP = 300_000


@pytest.mark.parametrize(
    "program",
    [
        b"}(" + b")" + b"\x85" * DEEP + b"Nu.",  # a dictionary key of nested tuples: hashing it overflows the C stack
        b")" + b"\x85" * DEEP + b".",
        b"]" * DEEP + b"a" * (DEEP - 1) + b".",
        b"cos\nsystem\n" + b")R" * DEEP + b".",
        b"(" * DEEP + b"t" * DEEP + b".",
        b"}q\x00X\x01\x00\x00\x00ah\x00s.",  # a dictionary that holds itself
        b"Nr\xff\xff\xff\x7f.",  # a memo index for which the standard machine allocates 16 GB
    ],
)
def test_programs_that_bring_down_a_standard_machine(program: bytes) -> None:
    read_pickle(program)


@pytest.mark.parametrize("operation", [b"\x8d", b"\x8e", b"\x96"])
def test_a_length_beyond_the_file_allocates_nothing(operation: bytes) -> None:
    with pytest.raises(ValueError, match="expected"):
        read_pickle(b"\x80\x05" + operation + struct.pack("<Q", 2**46) + b"rest")


def test_too_long_programs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MAX_OPERATIONS", 1000)
    with pytest.raises(NotACheckpointError, match="1000"):
        read_pickle(b"N0" * 1000 + b"N.")


def rewrite(source: Path, target: Path, change: Callable[[str, bytes], bytes], **options: Any) -> None:
    """Copies a file by torch.save with its records changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", **options) as new:
        for name in old.namelist():
            new.writestr(name, change(name.split("/", 1)[1], old.read(name)))


def pickle_of_tensors(**tensors: dict[str, Any]) -> bytes:
    """The pickle of a dictionary of tensors, each of which makes its claims about itself and its memory."""

    class Storage:
        def __init__(self, kind: str = "Float", key: str = "0", count: Any = 4) -> None:
            self.identifier = ("storage", getattr(torch, f"{kind}Storage"), key, "cpu", count)

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return obj.identifier if isinstance(obj, Storage) else None

    def tensor(offset: Any = 0, shape: Any = (4,), strides: Any = (1,), **storage: Any) -> Call:
        function = torch._utils._rebuild_tensor_v2
        return Call(function, Storage(**storage), offset, shape, strides, False, collections.OrderedDict())

    stream = io.BytesIO()
    Pickler(stream, 2).dump({name: tensor(**claims) for name, claims in tensors.items()})
    return stream.getvalue()


def write_archive(path: Path, pickled: bytes, memory: bytes, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled, zipfile.ZIP_STORED)
        archive.writestr("archive/data/0", memory)


def read_all(stored: Stored) -> list[Tensor]:
    """Reads every tensor that has a sensible size; `loading` compares shapes before it reads."""
    tensors = stored.tensors.values()
    return [tensor.read() for tensor in tensors if torch.Size(tensor.shape).numel() < 1_000_000]


def test_an_honest_archive_made_by_hand(tmp_path: Path) -> None:
    write_archive(tmp_path / "a.pth", pickle_of_tensors(a={}), np.arange(4, dtype=np.float32).tobytes())
    with open_stored(tmp_path / "a.pth") as stored:
        assert stored.tensors["a"].read().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "claims",
    [
        {"shape": (5,)},
        {"offset": 1},
        {"offset": 2**62},
        {"offset": -1},
        {"strides": (2,)},
        {"strides": (2**62,)},
        {"strides": (-1,)},
        {"strides": ()},
        {"shape": (2, 2), "strides": (1,)},
        {"shape": (-4,)},
        {"shape": ("4",)},
        {"shape": 4},
        {"shape": (4.0,)},
        {"kind": "Double"},
        {"count": -1},
        {"count": "4"},
    ],
    ids=str,
)
def test_tensors_that_reach_outside_of_their_memory(tmp_path: Path, claims: dict[str, Any]) -> None:
    write_archive(tmp_path / "a.pth", pickle_of_tensors(a=claims), bytes(16))
    with pytest.raises(DamagedCheckpointError), open_stored(tmp_path / "a.pth") as content:
        read_all(content)


@pytest.mark.parametrize("claims", [{"shape": (1,), "strides": (2**62,)}, {"shape": (0, 7), "strides": (7, 1)}])
def test_strides_that_do_not_matter(tmp_path: Path, claims: dict[str, Any]) -> None:
    write_archive(tmp_path / "a.pth", pickle_of_tensors(a=claims), bytes(16))
    with open_stored(tmp_path / "a.pth") as stored:
        assert stored.tensors["a"].read().shape == claims["shape"]


def test_absurd_shapes_are_refused_before_anything_is_allocated(tmp_path: Path, weights: Weights) -> None:
    huge = torch.zeros(1).expand(2**30, 2**20)  # 4 PB by its shape, 4 bytes in the file
    torch.save(weights | {"comb_block.2.bias": huge}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", WrongTensorsError, "comb_block.2.bias")


def test_zip_bombs_are_refused(tmp_path: Path, weights: Weights) -> None:
    torch.save(weights, tmp_path / "a.pth")
    rewrite(tmp_path / "a.pth", tmp_path / "b.pth", lambda _, data: bytes(len(data)), compression=zipfile.ZIP_DEFLATED)
    refused(tmp_path / "b.pth", DamagedCheckpointError, "compressed")


def test_a_missing_record(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle_of_tensors(a={}))
    with pytest.raises(DamagedCheckpointError, match="data/0"), open_stored(tmp_path / "a.pth") as content:
        read_all(content)


def test_records_that_overlap_do_not_multiply_memory(tmp_path: Path) -> None:
    """Each record may contain the next one, header and all, so that a small file unpacks to a large one."""
    keys = [str(index) for index in range(50)]
    records, blob = [], bytes(4096)
    for key in reversed(keys):
        record = zipfile.ZipInfo(f"archive/data/{key}")
        record.CRC, record.file_size, record.compress_size = zlib.crc32(blob), len(blob), len(blob)
        blob = record.FileHeader() + blob
        records.append((record, len(blob)))
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        claims = {f"tensor{key}": {"key": key, "count": 1024, "shape": (1024,)} for key in keys}
        archive.writestr("archive/data.pkl", pickle_of_tensors(**claims))
        assert archive.fp
        archive.fp.write(blob)
        archive.start_dir = end = archive.fp.tell()
        for record, length in records:
            record.header_offset = end - length
            archive.filelist.append(record)
            archive.NameToInfo[record.filename] = record
    assert (tmp_path / "a.pth").stat().st_size < 30_000
    with open_stored(tmp_path / "a.pth") as content:
        assert len(content.tensors) == 50
        with pytest.raises(DamagedCheckpointError):
            read_all(content)


# Files that would take for ever, or all memory


def nested_tuples_that_share_their_parts(times: int) -> bytes:
    """Its tuple has 2 ** times parts. Leaves it on the stack and under 0."""
    return b")q\x00" + b"0h\x00h\x00\x86q\x00" * times


WORK = {
    "one long OrderedDict named many times": b"\x80\x02]q\x01("
    + b"".join(b"X\x05\x00\x00\x00%05dN\x86" % number for number in range(20_000))
    + b"e0\x8c\x0bcollections\x8c\x0bOrderedDict\x93q\x020}("
    + b"".join(b"X\x05\x00\x00\x00%05dh\x02h\x01\x85R" % number for number in range(20_000))
    + b"u.",
    "one dictionary named many times": b"\x80\x02}q\x01("
    + b"".join(b"X\x05\x00\x00\x00%05dN" % number for number in range(20_000))
    + b"u0}("
    + b"".join(b"X\x05\x00\x00\x00%05dh\x01" % number for number in range(20_000))
    + b"u.",
    "a key of shared tuples": b"\x80\x02" + nested_tuples_that_share_their_parts(60) + b"0}h\x00Ns.",
    "a set of shared tuples": b"\x80\x04" + nested_tuples_that_share_their_parts(60) + b"0\x8f(h\x00\x90.",
    "a call of shared tuples": b"\x80\x02" + nested_tuples_that_share_their_parts(60) + b"h\x00R}b.",
    "the memory of shared tuples": b"\x80\x02" + nested_tuples_that_share_their_parts(60) + b"Q.",
    "a dictionary that is a state many times": b"\x80\x02}q\x01("
    + b"".join(b"X\x05\x00\x00\x00%05dN" % number for number in range(20_000))
    + b"u0cargparse\nNamespace\n)\x81"
    + b"h\x01b" * 200_000
    + b".",
    "a call for much memory": b"\x80\x02cbuiltins\nbytearray\n\x8a\x06\0\0\0\0\0\x01\x85R.",
    "millions of empty dictionaries": b"\x80\x02" + b"}" * 5_000_000 + b".",
    "millions of marks": b"\x80\x02" + b"(" * 5_000_000 + b".",
    "one long shape named many times": b"\x80\x02("
    + b"K\x01" * 50_000
    + b"tq\x010ctorch._utils\n_rebuild_tensor_v2\nq\x020(X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    + b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQq\x030}("
    + b"".join(b"X\x05\x00\x00\x00%05dh\x02(h\x03K\x00h\x01h\x01tR" % number for number in range(20_000))
    + b"u.",
    "a million prefixes": pickle.dumps({"module." * 1_000_000 + "weight": None}, 2),
}


@pytest.mark.parametrize("program", WORK.values(), ids=WORK)
def test_no_pickle_takes_for_ever_or_all_memory(tmp_path: Path, program: bytes) -> None:
    write_archive(tmp_path / "a.pth", program, bytes(16))
    refused(tmp_path / "a.pth", CheckpointError)
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
    (tmp_path / "b.pth").write_bytes(magic + program + pickle.dumps([], 2))
    refused(tmp_path / "b.pth", CheckpointError)


def test_a_million_prefixes_before_every_name(tmp_path: Path) -> None:
    save_file({"module." * 500_000 + name: torch.ones(1) for name in ("a", "b")}, tmp_path / "a.safetensors")
    message = refused(tmp_path / "a.safetensors", CheckpointError)
    assert len(message) < 2000


def test_an_archive_of_very_many_files(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, 2))
        archive.filelist += [archive.filelist[0]] * 100_000
    refused(tmp_path / "a.pth", NotACheckpointError, "more files")


@pytest.mark.parametrize("save", [*FORMATS, save_file])
def test_a_file_that_is_cut_short_while_it_is_read(tmp_path: Path, save: Callable[[Any, Path], None]) -> None:
    """A file that is mapped into memory would take the whole process with it."""
    path = tmp_path / "a.pth"
    save({"weight": torch.ones(900_000)}, path)

    def read_while_it_is_cut_short() -> None:
        with open_stored(path) as stored:
            os.truncate(path, 5000)
            read_all(stored)

    with pytest.raises(DamagedCheckpointError):
        read_while_it_is_cut_short()


# Text that can't be shown


@pytest.mark.parametrize("save", [*FORMATS, save_file])
def test_a_name_that_no_log_can_take_is_shown_all_the_same(
    tmp_path: Path, weights: Weights, save: Callable[[Any, Path], None]
) -> None:
    names = ["\x1b[31mred", "\u202egpj.exe", "x" * 10_000]
    names += ["lone \udcff"] if save is not save_file else []  # safetensors' writer takes none
    for name in names:
        for content in ({name: torch.ones(1)}, weights | {name: torch.ones(1)}):
            save(content, tmp_path / "a.pth")
            shown = refused(tmp_path / "a.pth", CheckpointError)
            assert shown.isprintable()
            assert len(shown) < 2000


def test_a_lone_surrogate_in_a_safetensors_header(tmp_path: Path) -> None:
    header = b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    assert refused(tmp_path / "a.safetensors", CheckpointError).isprintable()


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names of files are always Unicode there")
def test_a_file_whose_name_is_not_utf_8(tmp_path: Path, weights: Weights, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.pth")
    torch.save(weights, path)
    assert_same(load_checkpoint(path).network, weights)
    assert "caf\ufffd.pth is not in the catalogue" in caplog.text
    path.write_bytes(b"")
    with pytest.raises(NotACheckpointError, match=re.escape("caf\ufffd.pth: it is empty")) as caught:
        load_checkpoint(path)
    # ComfyUI logs the traceback, with whatever was the cause.
    "".join(traceback.format_exception(caught.value)).encode()


SMALL = {"a": torch.arange(6.0).view(2, 3).t(), "state_dict": {"b": torch.ones(3, dtype=torch.float16)}}


@pytest.mark.parametrize("save", [*FORMATS, lambda _, path: save_file({"a": torch.ones(4), "b": torch.ones(2)}, path)])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_damaged_bytes_give_a_clear_error_or_load(
    tmp_path: Path, save: Callable[[object, Path], None], data: st.DataObject
) -> None:
    path = tmp_path / "a.pth"
    save(SMALL, path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.sampled_from([0, 0x7F, 0xFF, content[position] ^ 1]) | st.integers(0, 255))
    del content[data.draw(st.just(len(content)) | st.integers(0, len(content))) :]
    path.write_bytes(content)
    with contextlib.suppress(CheckpointError), open_stored(path) as opened:
        read_all(opened)
