"""From a file of weights to a network that is ready to run, or to an error that says what is wrong with the file."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..amt.network import AMT, Config
from ..printable import printable
from .architectures import expected_shapes, other_architecture, recognise
from .catalogue import BUNDLED, BUNDLED_FOLDER, CATALOGUE, Record, by_digest, by_name
from .digests import sha256
from .errors import (
    CheckpointError,
    CheckpointNotFoundError,
    DamagedCheckpointError,
    NonFiniteWeightsError,
    NotACheckpointError,
    WrongArchitectureError,
    WrongDigestError,
    WrongTensorsError,
)
from .opening import open_stored
from .stored import Stored, StoredTensor
from .torch_files import WRAPPERS

logger = logging.getLogger(__name__)

PREFIXES = re.compile(r"(?:module\.|_orig_mod\.|model\.)*")
"""What data parallelism, torch.compile and training frameworks put before every name."""
MADE_BY = "amt-frame-interpolation"
"""What the metadata of a file by this project's training has under `made_by`."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint and what is known of it."""

    network: AMT
    """float32, on the CPU, for inference; its `config` and `any_time` tell what it is."""
    path: Path
    sha256: str
    record: Record | None
    """Of the catalogue; None for a file that it does not know."""
    remark: str
    """What the user should know, also logged as a warning; empty where there is nothing."""
    carried: bool
    """Whether the motion of the middle is to be carried to other times, as the evaluation of this project's weights
    does; other networks for the middle alone reach them by halving."""


def load_checkpoint(path: Path, records: Iterable[Record] = CATALOGUE) -> Checkpoint:
    """Loads a checkpoint of AMT-S, -L or -G.

    Which of them is read from the tensors. Whether it was trained for every time cannot be: the catalogue knows it by
    the file's digest, or for a file whose digest nobody published by its name; and a file by this project's training
    says it in its metadata. Other files count as trained for the middle alone.

    Raises:
        CheckpointError: each kind in `errors` has its own class.
    """
    records = tuple(records)
    # ComfyUI runs nodes in inference mode; parameters made in it could not be used outside of it.
    with torch.inference_mode(False), _reasons(path, records):
        with open_stored(path) as stored:
            config, weights = _read_weights(stored)
        digest = sha256(path)
        record, any_time, remark = _identify(path, digest, config, stored.metadata, records)
        network = _build(config, weights, any_time=any_time)
    if remark:
        logger.warning(remark)
    ours = stored.metadata.get("made_by") == MADE_BY
    carried = record is BUNDLED or (ours and stored.metadata.get("times") == "carried")
    return Checkpoint(network, path, digest, record, remark, carried)


@contextmanager
def _reasons(path: Path, records: Sequence[Record]) -> Iterator[None]:
    """Puts the file before what is wrong with it, and what to do after it."""
    try:
        yield
    except FileNotFoundError:
        raise CheckpointNotFoundError(
            f"{path} is not there any more. Put it back, or choose another model and refresh the list (R)."
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error}. Check the file's permissions and the disk.") from None
    except WrongDigestError:
        raise
    except CheckpointError as error:
        remedy = ""
        if isinstance(error, (NotACheckpointError, DamagedCheckpointError, NonFiniteWeightsError)):
            remedy = " " + _get_it_again(path, records)
        raise type(error)(f"{path}: {error}.{remedy}") from None


def _get_it_again(path: Path, records: Sequence[Record]) -> str:
    record = by_name(path.name, records)
    if record is None or record.url is None:
        return "Put a whole copy in its place, from where it came from."
    size = f"{record.bytes} bytes" if record.bytes else "about 12 MB"
    return (
        f"The published {record.name} has {size}, this file {path.stat().st_size}. Delete it, and the pack downloads "
        f"it anew when the workflow runs; or get it by hand from {record.url}"
    )


# Reading


def _read_weights(stored: Stored) -> tuple[Config, dict[str, Tensor]]:
    prefix = _prefix(stored.tensors)
    tensors = {name[len(prefix) :]: tensor for name, tensor in stored.tensors.items()}
    config = recognise({name: tensor.shape for name, tensor in tensors.items()})
    if config is None:
        raise WrongArchitectureError(_describe(tensors, stored.names))
    # Before anything is read: shapes bound the memory that reading takes, whatever the file claims.
    _compare(config, tensors)
    weights = {name: tensors[name].read().to(torch.float32, copy=True).contiguous() for name in expected_shapes(config)}
    broken = [name for name, weight in weights.items() if not bool(torch.isfinite(weight).all())]
    if broken:
        raise NonFiniteWeightsError(
            f"{len(broken)} of its {len(weights)} tensors hold NaN or infinity ({_handful(broken)}): "
            "training went wrong, or a conversion to half precision overflowed"
        )
    return config, weights


def _prefix(names: Iterable[str]) -> str:
    """What all the names begin with and no parameter's own name does."""
    match = PREFIXES.match(os.path.commonprefix(list(names)))  # noqa: RUF071  (they are no paths)
    return match.group() if match else ""


def _describe(names: Collection[str], all_names: Collection[str]) -> str:
    if not names:
        return (
            "it holds no tensors under the names of a network. Expected a state dict of AMT-S, -L or -G, bare or as "
            f"one of {', '.join(WRAPPERS)}; there is {_handful(all_names) or 'nothing'}. If a whole model was saved "
            "(torch.save(model)), save model.state_dict() instead"
        )
    kind, remedy = other_architecture(names) or ("something else", "Choose an AMT model.")
    return f"it is no AMT network but {kind} (tensors: {_handful(names)}). {remedy.removesuffix('.')}"


def _compare(config: Config, tensors: Mapping[str, StoredTensor]) -> None:
    expected = expected_shapes(config)
    missing = [name for name in expected if name not in tensors]
    extra = [name for name in tensors if name not in expected]
    misshapen = [
        f"{name} {list(tensors[name].shape)} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in tensors and tensors[name].shape != shape
    ]
    mistyped = [name for name in expected if name in tensors and not tensors[name].floating]
    kinds = (("missing", missing), ("left over", extra), ("of another shape", misshapen), ("not of floats", mistyped))
    faults = [f"{len(names)} {kind} ({_handful(names)})" for kind, names in kinds if names]
    if faults:
        raise WrongTensorsError(
            f"it is nearly {config.name}, but of its tensors there are {'; '.join(faults)}. "
            f"Expected exactly the {len(expected)} tensors of {config.name}, this file has {len(tensors)}. "
            "Choose a file that holds the whole network and nothing else"
        )


def _handful(names: Iterable[str], most: int = 4) -> str:
    names = list(names)
    shown = ", ".join(printable(name, 100) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


# Identity


def _identify(
    path: Path, digest: str, config: Config, metadata: Mapping[str, str], records: Sequence[Record]
) -> tuple[Record | None, bool, str]:
    """The catalogue's record of this file, whether it was trained for every time, and what there is to say about it."""
    if record := by_digest(digest, records):
        return record, record.any_time, ""
    record = by_name(path.name, records)
    name = printable(path.name)
    if record is None or (record.repo is None and path.parent != BUNDLED_FOLDER):
        times = metadata.get("times") if metadata.get("made_by") == MADE_BY else None
        if times in ("any", "carried", "0.5"):
            return None, times == "any", ""
        return (
            None,
            False,
            (
                f"{name} is not in the catalogue and does not say for which times it was trained. It is taken for "
                f"{config.name} trained for the middle between two frames (time 0.5) alone; other times are reached by "
                f"repeated halving. SHA-256 {digest}."
            ),
        )
    if record.config != config:
        raise WrongArchitectureError(
            f"it holds {config.name}, but the published {record.name} is {record.config.name}. "
            "If it is a checkpoint of your own, give it a name of its own"
        )
    if record.sha256 is None:
        if record.repo is None:
            return record, record.any_time, ""
        times = "every time between two frames" if record.any_time else "the middle between two frames alone"
        return (
            record,
            record.any_time,
            (
                f"{name} is taken by its name for the published file, trained for {times}: no digest of it is known. "
                f"This file's SHA-256 is {digest}."
            ),
        )
    difference = (
        f"{printable(path, 4096)} is not the {record.name} that the catalogue knows: "
        f"SHA-256 {digest} ({path.stat().st_size} bytes), expected {record.sha256} ({record.bytes} bytes)."
    )
    if record.pinned:
        remedy = (
            "Otherwise delete it, and the pack downloads it anew when the workflow runs; "
            f"or get it by hand from {record.url}"
            if record.url
            else "Otherwise install the pack anew."
        )
        raise WrongDigestError(f"{difference} If it is a checkpoint of your own, give it a name of its own. {remedy}")
    return (
        None,
        False,
        (
            f"{difference} The expected digest has a single source, so it may be the one that is wrong. The file is a "
            f"whole {config.name} and is used, for the middle between two frames (time 0.5) alone."
        ),
    )


# Building


def _build(config: Config, weights: Mapping[str, Tensor], *, any_time: bool) -> AMT:
    with torch.device("meta"):
        network = AMT(config, any_time=any_time)
    network.load_state_dict(weights, assign=True)
    return network.requires_grad_(False).eval()
