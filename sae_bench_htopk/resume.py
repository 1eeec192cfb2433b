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

from sae_bench_htopk import shortage, snapshot
from sae_bench_htopk.contract import Statistics
from sae_bench_htopk.keys import digest
from sae_bench_htopk.progress import note
from sae_bench_htopk.snapshot import Snapshot, SnapshotError
from sae_bench_htopk.stream import Place, Stream, Units
from sae_bench_htopk.trainer import Learner
from sae_bench_htopk.windows import Open, Position

STREAM = "stream"  # the name of the part that is no learner


class Snapshots:
    """Those of one pass: the last one is there once there is one, and the one before it until the next is begun."""

    def __init__(self, weights: Path, keys: Sequence[str], minutes: float, made: Mapping[str, Any], last: Snapshot | None) -> None:
        """`weights` is the folder of those, `keys` name all that the pass trains, `made` says with what, `last` is what it goes on from."""
        self.weights, self.folder, self.keys, self.minutes, self.made = weights, folder(weights), sorted(keys), minutes, made
        self.last = None if last is None else last.folder
        self.earlier = [] if last is None else [*last.facts["earlier"], {"step": last.facts["step"], **last.facts["made"]}]  # runs that led to here
        self.clock = time.monotonic()

    def keep(self, step: int, stream: Stream, learners: Mapping[str, Learner], due: Mapping[str, str], to_come: int) -> None:
        """Saves one if it is time. What cannot be written is said, and training goes on.

        `due` are the trainings that are still to be kept, each with its learner, and `to_come` the bytes of their weights.
        """
        if time.monotonic() - self.clock < 60 * self.minutes:
            return
        facts = {"step": step, "keys": self.keys, "due": dict(due), "made": self.made, "earlier": self.earlier}
        try:
            self.remove(but=self.last)
            if self.has_room(learners, to_come):
                parts = ((STREAM, state_of(stream)), *((key, learner.state()) for key, learner in learners.items()))
                self.last = snapshot.save(self.folder / f"{step:010}-{digest(self.keys)}", facts, parts).folder
        except (OSError, SafetensorError, RuntimeError, MemoryError) as error:
            if not isinstance(error, OSError | SafetensorError) and not shortage.is_shortage(error):
                raise
            self.remove(but=self.last)  # what was begun, which may be all that fills the disk
            note(f"no snapshot could be kept in {self.folder} ({error}); training goes on")
        self.clock = time.monotonic()

    def has_room(self, learners: Mapping[str, Learner], to_come: int) -> bool:
        """Whether a snapshot leaves room on the disk for the weights that are to come, without which it would be worth nothing; says it if not."""
        wanted = to_come + sum(tensor.nbytes for learner in learners.values() for tensor in learner.state()[1].values())
        if (free := shutil.disk_usage(self.weights).free) < wanted:
            note(f"no snapshot is kept in {self.folder}: {free / 2**20:,.0f} MiB are free, wanted with the weights to come {wanted / 2**20:,.0f}")
            return False
        return True

    def remove(self, but: Path | None = None) -> None:
        """Deletes every snapshot but one that nobody goes on from any more: all that it holds is in the pass, or has its weights; and what was not finished."""
        others = [path for path in self.folder.glob("*") if path != but]
        delete(self.folder, [path for path in others if path.suffix == snapshot.UNFINISHED or self.is_over(path)])

    def is_over(self, path: Path) -> bool:
        """Whether a snapshot is of this pass alone, damaged or not, or of trainings that have ended, and of at least one of the pass."""
        if path.name.endswith(digest(self.keys)):
            return True
        facts = facts_of(path)
        waiting = [key for key, learner in facts.get("due", {}).items() if learner not in self.keys]
        return bool(set(facts.get("keys", ())) & set(self.keys)) and all((self.weights / f"{key}.safetensors").is_file() for key in waiting)


def folder(weights: Path) -> Path:
    """Where snapshots are kept: beside the weights that they are to become."""
    return weights / "snapshots"


def delete(folder: Path, some: Sequence[Path]) -> None:
    """Deletes some of a folder's snapshots, and the folder if none is left."""
    snapshot.delete(some)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def find(folder: Path, keys: Sequence[str], model: str) -> Snapshot | None:
    """The whole snapshot that holds most of some trainings, the newest of those; damaged ones, and those on activations of another model, are named."""
    found, damaged = list[Snapshot](), False
    for path in folder.glob("*"):
        try:
            if path.suffix != snapshot.UNFINISHED:
                found.append(snapshot.read(path))
        except SnapshotError as error:
            damaged = True
            note(f"a snapshot is not used: {error}")
    found = [one for one in found if set(keys) & set(one.facts["keys"])]
    for one in [one for one in found if one.facts["made"]["model"] != model]:
        note(f"a snapshot is not used: {one.folder} is of a language model with other weights, as where a revision has moved")
        found.remove(one)
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


def differences(found: Snapshot, now: Mapping[str, Any]) -> list[str]:
    """A sentence if training goes on with something else than it began with, which records say too."""
    made = found.facts["made"]
    pairs = {name: (made[name], now[name]) for name in ("device", "threads", "commit", "dirty")} | {
        "torch": (made["versions"]["torch"], now["versions"]["torch"])
    }
    other = [f"{name} {one} before, {two} now" for name, (one, two) in pairs.items() if one != two]
    return [f"not the same as before, so that the last bits of weights may be others: {'; '.join(other)}"] if other else []


def facts_of(path: Path) -> Mapping[str, Any]:
    """What a snapshot says of itself; nothing if it cannot be read."""
    try:
        return snapshot.read(path).facts
    except SnapshotError:
        return {}


def keys_of(path: Path) -> set[str]:
    """The learners that a snapshot holds; none if it cannot be read."""
    return set(facts_of(path).get("keys", ()))


def sweep(folder: Path, todo: Sequence[str], known: Sequence[str]) -> None:
    """Deletes what a killed run has not finished writing, and snapshots of known trainings that are all done; only for who knows that no other run writes."""
    there = {path: keys_of(path) for path in folder.glob("*")}
    idle = [path for path, held in there.items() if held & set(known) and not held & set(todo)]
    delete(folder, [*idle, *(path for path in there if path.suffix == snapshot.UNFINISHED)])


def strangers(folder: Path, known: Sequence[str]) -> list[Path]:
    """Whole snapshots of none of the known trainings, as of settings that a suite no longer has."""
    return [path for path in sorted(folder.glob("*")) if (held := keys_of(path)) and not held & set(known)]


def state_of(stream: Stream) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """All that the stream's further batches depend on."""
    units, place, position = stream.units, stream.begun, stream.begun.text
    facts = {
        "units": {"scale": units.scale, "massive_limit": units.massive_limit},
        "place": {"block": place.block, "taken": place.taken, "rows": place.rows, "massive": place.massive},
        "text": {"documents": position.documents, "given": position.given, "turn": position.turn},
        "open": [[one.document, one.start, len(one.ids)] for one in position.open],
    }
    ids = np.concatenate([np.zeros(0, dtype=np.int64), *(one.ids for one in position.open)])  # training asks for no spans
    tensors = {"mean": units.statistics.mean, "covariance": units.statistics.covariance, "ids": torch.from_numpy(ids)}
    return facts, tensors


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
    """Takes learners to where they were; returns the steps that were taken."""
    for key, learner in learners.items():
        learner.restore(found.parts[key], found.tensors(key))
    return int(found.facts["step"])
