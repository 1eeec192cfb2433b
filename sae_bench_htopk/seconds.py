"""Says whether seconds of training may be set beside each other or added up: only where they were taken on one machine, in the same way."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sae_bench_htopk.markdown import words
from sae_bench_htopk.records import Record, is_number, stage_of

FACTS = {"machine": "on different machines", "device": "on different devices", "threads": "with different numbers of threads"}  # of provenance
BESIDE = "side_by_side"  # of provenance: how many SAEs took turns in the pass that trained this one
UNKNOWN_PASS = "the records do not say how many SAEs were trained side by side"


def comparable(records: Sequence[Record]) -> str | None:
    """Why the seconds of these trainings may not be compared or added up; None if they may."""
    if not records:
        return "nothing was trained"
    if any(not is_number(record["cost"].get("train_seconds")) for record in records):
        return "a record does not say how many seconds its training took"
    runs = [run for record in records for run in runs_of(record)]
    for fact, differing in FACTS.items():
        if any(run.get(fact) is None for run in runs):
            return f"the {fact} of a training {'are' if fact == 'threads' else 'is'} not known"
        if len(found := {str(run[fact]) for run in runs}) > 1:
            return f"trained {differing}: {words(sorted(found))}"
    return beside(records)


def runs_of(record: Record) -> list[Mapping[str, Any]]:
    """The run that ended a training, and those that it went on from after an interruption."""
    last = record["provenance"]
    earlier = last.get("resumed")
    return [last, *(run for run in earlier if isinstance(run, Mapping))] if isinstance(earlier, list) else [last]


def beside(records: Sequence[Record]) -> str | None:
    """Why they were not trained beside equally many; None if they were: by number, or, where that is not recorded, because they share their passes."""
    counts = {record["provenance"].get(BESIDE) for record in records}
    if None not in counts:
        return None if len(counts) == 1 else f"trained side by side with different numbers of SAEs: {words(sorted(map(str, counts)))}"
    passes: dict[str, set[str | None]] = {}
    for record in records:
        passes.setdefault(name_of(record), set()).add(pass_of(record))
    shared = next(iter(passes.values()))
    return None if None not in shared and all(found == shared for found in passes.values()) else UNKNOWN_PASS


def name_of(record: Record) -> str:
    """One SAE, whatever its seed."""
    sae = record["sae"]
    return json.dumps([sae["variant"], sae["config"], sae["latents"], record["settings"].get("rate"), stage_of(record)], sort_keys=True)


def pass_of(record: Record) -> str | None:
    """What tells one pass of training from others: its commit and the bytes that its process held at most, the same for all SAEs of a pass; None if unknown."""
    said, memory = record["provenance"], record["provenance"].get("peak_memory")
    host = memory.get("host") if isinstance(memory, Mapping) else None
    return None if host is None else json.dumps([said.get("commit"), host, record["settings"].get("stream_seed")])


def total(records: Collection[Record], cost: str) -> float | None:
    """What these trainings cost, the mean over the seeds of each SAE, added up; None where a record does not say."""
    found: dict[str, list[float]] = {}
    for record in records:
        value = record["cost"].get(cost)
        if not is_number(value):
            return None
        found.setdefault(name_of(record), []).append(float(value))
    return sum(sum(values) / len(values) for values in found.values()) if found else None


def at_once(record: Record, rival: Record) -> bool:
    """Whether two seeds' trainings, which are no one pass, cannot have followed each other on one machine: each took its seconds before it ended."""
    if record["sae"]["seed"] == rival["sae"]["seed"] or record["provenance"].get("machine") != rival["provenance"].get("machine"):
        return False
    one, other = span(record), span(rival)
    return one is not None and other is not None and one[0] < other[1] and other[0] < one[1]


def overlapping(records: Collection[Record]) -> bool:
    """Whether that is so of any two that were not interrupted; each is looked at once, by when it began."""
    latest: dict[Any, dict[Any, datetime]] = {}  # machine -> seed -> the latest end so far
    whole = [record for record in records if not record["provenance"].get("resumed")]  # of others nobody knows when they ran
    timed = [(found, record) for record in whole if (found := span(record)) is not None]
    for (start, end), record in sorted(timed, key=lambda pair: pair[0]):
        ends, seed = latest.setdefault(record["provenance"].get("machine"), {}), record["sae"]["seed"]
        if any(start < other for rival, other in ends.items() if rival != seed):
            return True
        ends[seed] = max(end, ends.get(seed, end))
    return False


def span(record: Mapping[str, Any]) -> tuple[datetime, datetime] | None:
    """When a training ended, and the latest that it can have begun; None if its record does not say."""
    took = record["cost"].get("train_seconds")
    try:
        end = datetime.fromisoformat(record["provenance"].get("when", ""))
    except ValueError:
        return None
    end = end if end.tzinfo else end.replace(tzinfo=UTC)
    return (end - timedelta(seconds=took), end) if isinstance(took, int | float) and took > 0 else None
