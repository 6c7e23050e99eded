"""Files of weights, good, odd, broken and hostile."""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import os
import pathlib
import pickle
import struct
import subprocess
import sys
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
from amt_frame_interpolation.models.catalogue import Record, by_name
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
from amt_frame_interpolation.models.pickles import Global, Made, PickleError, read_pickle
from amt_frame_interpolation.models.stored import Content, StoredTensor, open_stored
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
    assert any("0.5" in remark for remark in checkpoint.remarks)


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


# Which checkpoint it is


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
    assert checkpoint.remarks == ()


def test_without_a_known_digest_the_name_tells_it_and_that_is_said(
    tmp_path: Path, weights: Weights, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "gopro_amt-s.pth"
    torch.save(weights, path)
    checkpoint = load_checkpoint(path)
    assert checkpoint.network.any_time
    (remark,) = checkpoint.remarks
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
    (remark,) = checkpoint.remarks
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


def test_a_folder(tmp_path: Path) -> None:
    refused(tmp_path, CheckpointError)


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
    read_pickle(io.BytesIO(program))
    assert not marker.exists()


def test_what_would_have_been_made_is_told_not_made() -> None:
    root = read_pickle(io.BytesIO(pickle.dumps({"a": Call(os.system, "x"), "n": [1, (2, "é", None)]}, 0))).root
    assert root["n"] == [1, (2, "é", None)]
    assert isinstance(root["a"], Made)
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
        if isinstance(item, Made):
            return item.args[0].encode("latin-1") if item.args else b""
        if isinstance(item, dict):
            return {key: without_calls(inner) for key, inner in item.items()}
        return type(item)(map(without_calls, item)) if isinstance(item, (list, tuple)) else item

    assert without_calls(read_pickle(io.BytesIO(pickle.dumps(value, protocol))).root) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_a_pickle_or_an_error(data: bytes) -> None:
    for start in (b"", b"\x80\x02", b"\x80\x04}(", b"(]}"):
        with contextlib.suppress(PickleError):
            read_pickle(io.BytesIO(start + data))


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
    read_pickle(io.BytesIO(program))


@pytest.mark.parametrize("operation", [b"\x8d", b"\x8e", b"\x96"])
def test_a_length_beyond_the_file_allocates_nothing(tmp_path: Path, operation: bytes) -> None:
    (tmp_path / "a").write_bytes(b"\x80\x05" + operation + struct.pack("<Q", 2**46) + b"rest")
    with (tmp_path / "a").open("rb") as stream, pytest.raises(PickleError, match="expected"):
        read_pickle(stream)


def test_too_long_programs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MAX_OPERATIONS", 1000)
    with pytest.raises(PickleError, match="1000"):
        read_pickle(io.BytesIO(b"N0" * 1000 + b"N."))


@pytest.mark.parametrize("data", [b"", b"N", b"t.", b"R.", b"h\x00.", b"]s.", b"Nb.", b".", b"1.", b"N.N"])
def test_programs_that_take_what_is_not_there(data: bytes) -> None:
    if data in (b"N.N",):
        assert read_pickle(io.BytesIO(data)).root is None
    else:
        with pytest.raises(PickleError):
            read_pickle(io.BytesIO(data))


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


def read_all(content: Content) -> None:
    """Reads every tensor that has a sensible size; `loading` compares shapes before it reads."""
    for value in content.values():
        if not isinstance(value, StoredTensor):
            read_all(value)
        elif torch.Size(value.shape).numel() < 1_000_000:
            value.read()


def test_an_honest_archive_made_by_hand(tmp_path: Path) -> None:
    write_archive(tmp_path / "a.pth", pickle_of_tensors(a={}), np.arange(4, dtype=np.float32).tobytes())
    with open_stored(tmp_path / "a.pth") as content:
        tensor = content["a"]
        assert isinstance(tensor, StoredTensor)
        assert tensor.read().tolist() == [0, 1, 2, 3]


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


@pytest.mark.parametrize("claims", [{"shape": (1,), "strides": (2**80,)}, {"shape": (0, 7), "strides": (7, 1)}])
def test_strides_that_do_not_matter(tmp_path: Path, claims: dict[str, Any]) -> None:
    write_archive(tmp_path / "a.pth", pickle_of_tensors(a=claims), bytes(16))
    with open_stored(tmp_path / "a.pth") as content:
        tensor = content["a"]
        assert isinstance(tensor, StoredTensor)
        assert tensor.read().shape == claims["shape"]


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
        assert len(content) == 50
        with pytest.raises(DamagedCheckpointError):
            read_all(content)


def test_a_dictionary_many_times_over_is_looked_at_once(tmp_path: Path) -> None:
    inner: dict[str, Any] = {str(index): index for index in range(20000)}
    torch.save({str(index): inner for index in range(20000)}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", WrongArchitectureError, "no tensors")


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
