"""One snapshot of training on disk: parts with facts and tensors, written whole or not at all, and checked before they are used."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sae_bench_htopk import storage
from sae_bench_htopk.errors import InputError

FORMAT = 1  # rises when a snapshot of an earlier form could not be gone on from
MANIFEST = "snapshot.json"
UNFINISHED = ".tmp"  # ends the name of a folder that is being written


class SnapshotError(InputError):
    """A snapshot that cannot be used; the message names the file and says why."""


@dataclass(frozen=True)
class Snapshot:
    """A folder with one file of tensors for each part, and what its manifest says of them."""

    folder: Path
    facts: Mapping[str, Any]  # of the whole
    parts: Mapping[str, Mapping[str, Any]]  # by name, the facts of each
    sums: Mapping[str, str]  # by name, sha256 of the file

    def verify(self, name: str) -> None:
        """Raises SnapshotError if a part's file is not what was written."""
        path = self.folder / file_of(name)
        try:
            found = checksum(path)
        except OSError as error:
            raise SnapshotError(f"{path} cannot be read ({error.strerror})") from error
        if found != self.sums[name]:
            raise SnapshotError(f"{path} is damaged: its checksum is not the one that was kept")

    def tensors(self, name: str) -> dict[str, Tensor]:
        """A part's tensors, on the host and with memory of their own."""
        try:
            return {key: tensor.clone() for key, tensor in load_file(self.folder / file_of(name)).items()}
        except (SafetensorError, OSError) as error:
            raise SnapshotError(f"{self.folder / file_of(name)} cannot be read ({error})") from error


def save(folder: Path, facts: Mapping[str, Any], parts: Iterable[tuple[str, tuple[Mapping[str, Any], Mapping[str, Tensor]]]]) -> Snapshot:
    """Writes a snapshot beside its place, makes sure that it is on disk, and puts it there; one part at a time is copied to the host."""
    temporary = folder.with_name(folder.name + UNFINISHED)
    shutil.rmtree(temporary, ignore_errors=True)
    storage.make(temporary)
    known: dict[str, Mapping[str, Any]] = {}
    sums: dict[str, str] = {}
    for name, (own, tensors) in parts:
        path = temporary / file_of(name)
        save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, path)
        storage.sync(path)
        known[name], sums[name] = own, checksum(path)
    manifest = {"format": FORMAT, "facts": dict(facts), "parts": known, "sums": sums}
    (temporary / MANIFEST).write_text(json.dumps(manifest | {"sha256": digest(manifest)}, sort_keys=True), encoding="utf-8")
    storage.sync(temporary / MANIFEST)
    storage.sync(temporary)
    os.rename(temporary, folder)
    storage.sync(folder.parent)
    return Snapshot(folder, facts, known, sums)


def read(folder: Path) -> Snapshot:
    """What is said of a snapshot; no tensor is read. Raises SnapshotError if that is not what was written, or of another form."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        kept = manifest.pop("sha256")
    except OSError as error:
        raise SnapshotError(f"{path} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SnapshotError(f"{path} is damaged: it is not what was written") from error
    if kept != digest(manifest):
        raise SnapshotError(f"{path} is damaged: its checksum is not the one that was kept")
    if manifest["format"] != FORMAT:
        raise SnapshotError(f"{path} is of form {manifest['format']}, wanted {FORMAT}")
    return Snapshot(folder, manifest["facts"], manifest["parts"], manifest["sums"])


def delete(folders: Iterable[Path]) -> None:
    """Deletes snapshots, each under the name of what nobody finished: a kill leaves none that looks whole or damaged."""
    for folder in folders:
        gone = folder if folder.suffix == UNFINISHED else folder.with_name(folder.name + UNFINISHED)
        if gone != folder:
            shutil.rmtree(gone, ignore_errors=True)
            with suppress(OSError):
                os.replace(folder, gone)
        shutil.rmtree(gone, ignore_errors=True)


def file_of(name: str) -> str:
    """The file of a part."""
    return f"{name}.safetensors"


def digest(manifest: Mapping[str, Any]) -> str:
    """sha256 of JSON."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def checksum(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
