"""What a pass was expected to take when its run began, beside what it took: for the records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sae_bench_htopk import estimate, memory
from sae_bench_htopk.plan import Pass
from sae_bench_htopk.provenance import peak_memory, resident
from sae_bench_htopk.suite import Suite


@dataclass
class Outlook:
    """One pass: seconds and bytes as expected, and the seconds that training took, if it was trained in this run."""

    saes: int
    train: float
    evaluate: float
    memory: Mapping[str, int]
    trained: float | None = None

    def taken(self, evaluated: float, device: str, before: Mapping[str, Any]) -> dict[str, Any]:
        """What a record's cost says of the pass; of training that was done in an earlier run what the record `before` says."""
        training = before.get("pass", {}).get("train_seconds") if self.trained is None else {"predicted": self.train, "actual": self.trained}
        most = peak_memory(device)
        return {
            "saes": self.saes,
            **({"train_seconds": training} if training else {}),
            "evaluate_seconds": {"predicted": self.evaluate, "actual": evaluated},
            "peak_memory": {"predicted": dict(self.memory), "actual": {place: bytes for place, bytes in most.items() if bytes is not None}},
        }


def outlooks(suite: Suite, parts: Sequence[Pass], device: str) -> list[Outlook]:
    """What each pass is expected to take, as things stand before the language model is loaded."""
    pace, there, found = estimate.pace(device), resident() or 0, list[Outlook]()
    for part in parts:
        train, evaluate = estimate.work(suite, [part]).seconds(pace)
        peaks = {"cpu": 0} | estimate.peaks(suite, [part], device)
        peaks[device] += memory.subject(suite)
        peaks["cpu"] += there
        named = {"host": peaks.pop("cpu"), **({"device": peaks[device]} if device in peaks else {})}  # as `peak_memory` names them
        found.append(Outlook(len(part.items), train, evaluate, named))
    return found
