"""What a pass was expected to take when its run began, beside what it took: for the records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sae_bench_htopk import estimate, memory
from sae_bench_htopk.plan import Pass
from sae_bench_htopk.provenance import peak_memory, resident
from sae_bench_htopk.suite import Suite


@dataclass
class Outlook:
    """One pass: seconds and bytes as expected, what it is to train, and of that training the seconds and what was done from its beginning."""

    saes: int
    train: float
    evaluate: float
    memory: Mapping[str, int]
    planned: frozenset[str]  # keys
    trained: float = 0.0
    whole: set[str] = field(default_factory=set)  # keys

    def taken(self, key: str, evaluated: float, device: str, before: Mapping[str, Any]) -> dict[str, Any]:
        """What the cost in the record of one training says of the pass; of training that an earlier run did, what the record `before` says.

        Where any training went on from a snapshot nothing is said: what was expected is of the whole.
        """
        mine = {"predicted": self.train, "actual": self.trained} if self.planned <= self.whole else None
        training = mine if key in self.planned else before.get("pass", {}).get("train_seconds")
        most = peak_memory(device)
        return {
            "saes": self.saes,
            **({"train_seconds": training} if training else {}),
            "evaluate_seconds": {"predicted": self.evaluate, "actual": evaluated},
            "peak_memory": {"predicted": dict(self.memory), "actual": {place: bytes for place, bytes in most.items() if bytes is not None}},
        }


def outlooks(suite: Suite, parts: Sequence[Pass], device: str) -> list[Outlook]:
    """What each pass is expected to take, as things stand before the language model is loaded."""
    pace, there, found = estimate.pace(device, suite.model.dtype), resident() or 0, list[Outlook]()
    for part in parts:
        train, evaluate = estimate.work(suite, [part]).seconds(pace)
        peaks = {"cpu": 0} | estimate.peaks(suite, [part], device)
        peaks[device] += memory.subject(suite)
        peaks["cpu"] += there
        named = {"host": peaks.pop("cpu"), **({"device": peaks[device]} if device in peaks else {})}  # as `peak_memory` names them
        planned = frozenset(training.key for group in part.trainings for training in group)
        found.append(Outlook(len(part.items), train, evaluate, named, planned))
    return found
