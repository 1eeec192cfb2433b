"""What a pass was expected to take when its run began, beside what it took: for the records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sae_bench_htopk import estimate, memory
from sae_bench_htopk.plan import Pass
from sae_bench_htopk.provenance import resident
from sae_bench_htopk.suite import Suite


@dataclass
class Trained:
    """The training of a seed: the keys of what is planned and the seconds expected; the seconds taken, and the keys of what was done from its beginning."""

    planned: frozenset[str]
    expected: float
    seconds: float = 0.0
    whole: set[str] = field(default_factory=set)

    def taken(self) -> dict[str, float] | None:
        """What was expected beside what it took; None where any went on from a snapshot, since what was expected is of the whole."""
        return {"predicted": self.expected, "actual": self.seconds} if self.planned <= self.whole else None


@dataclass
class Outlook:
    """One pass: how many SAEs it measures, the seconds and bytes expected, and the training before it, which later passes of its seed share."""

    saes: int
    evaluate: float
    memory: Mapping[str, int]
    training: Trained

    def taken(self, key: str, evaluated: float, most: Mapping[str, int | None], before: Mapping[str, Any]) -> dict[str, Any]:
        """What the cost in the record of one training says of the pass, which took these seconds and at `most` these bytes.

        Of training that an earlier run did, what the record `before` says.
        """
        training = self.training.taken() if key in self.training.planned else before.get("pass", {}).get("train_seconds")
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
        found.append(Outlook(len(part.items), evaluate, named, Trained(planned, train) if planned or not found else found[-1].training))
    return found
