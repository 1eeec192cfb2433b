"""Where a training pass goes on after a kill: snapshots by minutes, the newest whole one first, and none of another training."""

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from sae_bench_htopk import snapshot
from sae_bench_htopk.contract import Statistics
from sae_bench_htopk.keys import digest
from sae_bench_htopk.progress import note
from sae_bench_htopk.snapshot import Snapshot, SnapshotError
from sae_bench_htopk.stream import Place, Stream, Units
from sae_bench_htopk.trainer import Learner
from sae_bench_htopk.windows import Open, Position

STREAM = "stream"  # the name of the part that is no learner


class Snapshots:
    """Those of one pass: the last one is always there, and the one before it until the next is begun."""

    def __init__(self, folder: Path, keys: Sequence[str], minutes: float, last: Snapshot | None) -> None:
        """`keys` name all that the pass trains, `last` is what it goes on from."""
        self.folder, self.keys, self.minutes = folder, sorted(keys), minutes
        self.last = None if last is None else last.folder
        self.clock = time.monotonic()

    def keep(self, step: int, stream: Stream, learners: Mapping[str, Learner]) -> None:
        """Saves one if it is time. What cannot be written is said, and training goes on."""
        if time.monotonic() - self.clock < 60 * self.minutes:
            return
        try:
            self.remove(but=self.last)
            parts = ((STREAM, state_of(stream)), *((key, learner.state()) for key, learner in learners.items()))
            self.last = snapshot.save(self.folder / f"{step:010}-{digest(self.keys)}", {"step": step, "keys": self.keys}, parts).folder
        except (OSError, SafetensorError) as error:
            self.remove(but=self.last)  # what was begun, which may be all that fills the disk
            note(f"no snapshot could be kept in {self.folder} ({error}); training goes on")
        self.clock = time.monotonic()

    def remove(self, but: Path | None = None) -> None:
        """Deletes every snapshot that holds any of the pass' trainings, but one; and what no run finished writing."""
        others = [path for path in self.folder.glob("*") if path != but]
        own = digest(self.keys)
        delete(self.folder, [path for path in others if path.suffix == snapshot.UNFINISHED or path.name.endswith(own) or holds(path, self.keys)])


def folder(weights: Path) -> Path:
    """Where snapshots are kept: beside the weights that they are to become."""
    return weights / "snapshots"


def delete(folder: Path, some: Sequence[Path]) -> None:
    """Deletes some of a folder's snapshots, and the folder if none is left."""
    for path in some:
        shutil.rmtree(path, ignore_errors=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def find(folder: Path, keys: Sequence[str]) -> Snapshot | None:
    """The whole snapshot that holds most of some trainings, the newest of those; damaged ones are named."""
    found, damaged = list[Snapshot](), False
    for path in folder.glob("*"):
        try:
            if path.suffix != snapshot.UNFINISHED:
                found.append(snapshot.read(path))
        except SnapshotError as error:
            damaged = True
            note(f"a snapshot is not used: {error}")
    found = [one for one in found if set(keys) & set(one.facts["keys"])]
    for one in sorted(found, key=lambda one: (len(set(keys) & set(one.facts["keys"])), one.facts["step"]), reverse=True):
        try:
            for name in [STREAM, *(key for key in keys if key in one.parts)]:
                one.verify(name)
            return one
        except SnapshotError as error:
            damaged = True
            note(f"a snapshot is not used: {error}")
    if damaged:
        note("no snapshot can be used; training starts anew")
    return None


def holds(path: Path, keys: Sequence[str]) -> bool:
    """Whether a snapshot can be read and holds any of some trainings."""
    try:
        return bool(set(keys) & set(snapshot.read(path).facts["keys"]))
    except SnapshotError:
        return False


def sweep(folder: Path, todo: Sequence[str], known: Sequence[str]) -> list[Path]:
    """Deletes snapshots whose trainings are all done, and returns those of trainings that are not known, as of settings that a suite no longer has."""
    idle = [path for path in sorted(folder.glob("*")) if path.suffix != snapshot.UNFINISHED and not holds(path, todo)]
    delete(folder, [path for path in idle if holds(path, known)])
    return [path for path in idle if (path / snapshot.MANIFEST).is_file()]


def state_of(stream: Stream) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """All that the stream's further batches depend on, and the state from which variants may draw random numbers."""
    units, place, position = stream.units, stream.begun, stream.begun.text
    facts = {
        "units": {"scale": units.scale, "massive_limit": units.massive_limit},
        "place": {"block": place.block, "taken": place.taken, "rows": place.rows, "massive": place.massive},
        "text": {"documents": position.documents, "given": position.given, "turn": position.turn},
        "open": [[one.document, one.start, len(one.ids)] for one in position.open],
    }
    ids = np.concatenate([np.zeros(0, dtype=np.int64), *(one.ids for one in position.open)])  # training asks for no spans
    tensors = {"mean": units.statistics.mean, "covariance": units.statistics.covariance, "ids": torch.from_numpy(ids), "random": torch.get_rng_state()}
    return facts, tensors | ({"random_cuda": torch.cuda.get_rng_state()} if units.statistics.mean.is_cuda else {})


def stream_of(found: Snapshot, device: str) -> tuple[Units, Place]:
    """What a stream goes on from."""
    facts, tensors = found.parts[STREAM], found.tensors(STREAM)
    left, start, documents = tensors["ids"].numpy(), 0, list[Open]()
    for document, at, length in facts["open"]:
        documents.append(Open(document, at, left[start : start + length], None))
        start += length
    units = Units(**facts["units"], statistics=Statistics(tensors["mean"].to(device), tensors["covariance"].to(device)))
    return units, Place(**facts["place"], text=Position(**facts["text"], open=tuple(documents)))


def restore(found: Snapshot, learners: Mapping[str, Learner]) -> int:
    """Takes learners, and the source of random numbers, to where they were; returns the steps that were taken."""
    for key, learner in learners.items():
        learner.restore(found.parts[key], found.tensors(key))
    random = found.tensors(STREAM)
    torch.set_rng_state(random["random"])
    if "random_cuda" in random and torch.cuda.is_available():
        torch.cuda.set_rng_state(random["random_cuda"])
    return int(found.facts["step"])
