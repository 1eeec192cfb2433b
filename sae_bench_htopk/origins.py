"""The section of a page on where its numbers come from: model, text, and which run made the weights and which the numbers."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from sae_bench_htopk import records
from sae_bench_htopk.board import Board
from sae_bench_htopk.markdown import words

FACTS = ("commit", "dirty", "machine", "device", "threads", "deterministic", "versions")  # what tells runs apart on a page
Run = Mapping[str, Any]


def provenance(board: Board) -> str:
    """What was run where, and everything that differs between records."""

    def all_of(part: str, key: str) -> str:
        return words(sorted({plainly(record[part].get(key)) for record in board.records}))

    notes = sorted({note for record in board.records for note in record["text"].get("notes", [])})
    digest = hashlib.sha256("".join(records.as_text(record) for record in board.records).encode()).hexdigest()[:16]
    lines = [
        f"Model: {all_of('model', 'path')}, revision {all_of('model', 'revision')}, fingerprint {all_of('model', 'fingerprint')}",
        f"Text fingerprints: training {all_of('text', 'train')}, calibration {all_of('text', 'calibration')}, held out {all_of('text', 'held_out')}",
        *(f"Text: {note}" for note in notes),
        *alike("Weights", "SAE", (record["provenance"] for record in board.records)),
        *alike("Numbers", "row", (measuring(record, row) for record in board.records for row in record["rows"])),
        f"Records: {len(board.records)} in [{board.suite}/]({board.suite}/), digest {digest}",
        *(f"Left out: {sentence}" for sentence in board.left_out),
    ]
    return "\n".join(f"- {line}" for line in lines)


def measuring(record: records.Record, row: Mapping[str, Any]) -> Run:
    """The run that measured a row; nothing of a row that names none, as those of earlier records."""
    found = record.get("measured", {}).get(row["measured"], {}) if "measured" in row else {}
    return found if isinstance(found, Mapping) else {}


def alike(title: str, thing: str, runs: Iterable[Run]) -> list[str]:
    """A line for all that was made by runs alike in everything that counts, with their dates; the most first."""
    counts: Counter[str] = Counter()
    dates: dict[str, set[str]] = {}
    for run in runs:
        counts[said := sentence(run)] += 1
        dates.setdefault(said, set()).add(str(run.get("when", "date not known")).partition("T")[0])
    return [f"{title}: {said}; {words(sorted(dates[said]))} ({count:,} {thing}{'s' * (count != 1)})" for said, count in counts.most_common()]


def sentence(run: Run) -> str:
    """One run in words; what is not in the record is not known."""
    if all(run.get(fact) is None for fact in FACTS):
        return "not known by which commit and where"
    commit, dirty, machine, device, threads, deterministic, _ = ("not known" if run.get(fact) is None else plainly(run[fact]) for fact in FACTS)
    return (
        f"commit {commit}, uncommitted changes {dirty}, machine {machine}, device {device}, threads {threads}, "
        f"deterministic algorithms {deterministic}, {versions(run)}"
    )


def plainly(value: Any) -> str:
    """A value of a record as words."""
    return {None: "none", True: "yes", False: "no"}[value] if value is None or isinstance(value, bool) else str(value)


def versions(run: Run) -> str:
    """Each package with its version."""
    return ", ".join(f"{name} {version or 'of a checkout'}" for name, version in sorted(run.get("versions", {}).items())) or "versions not known"
