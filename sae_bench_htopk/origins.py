"""The section of a page on where its numbers come from: model, text, and which run made the weights and which the numbers."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sae_bench_htopk import records
from sae_bench_htopk.board import Board
from sae_bench_htopk.markdown import words

FACTS = ("commit", "dirty", "machine", "device", "threads", "deterministic", "versions")  # what tells runs apart on a page
Run = Mapping[str, Any]


class Made(NamedTuple):
    """Runs alike in everything that counts, in words, and the metrics whose numbers they made of a row, if not all."""

    said: str
    runs: Sequence[Run]
    metrics: tuple[str, ...] = ()


def provenance(board: Board) -> str:
    """What was run where, and everything that differs between records."""

    everything = [record for stage in (*board.earlier, board) for record in stage.records]

    def all_of(part: str, key: str) -> str:
        return words(sorted({plainly(record[part].get(key)) for record in everything}))

    notes = sorted({note for record in everything for note in record["text"].get("notes", [])})
    digest = hashlib.sha256("".join(records.digest_of(record) for record in everything).encode()).hexdigest()[:16]
    lines = [
        f"Model: {all_of('model', 'path')}, revision {all_of('model', 'revision')}, fingerprint {all_of('model', 'fingerprint')}",
        f"Text fingerprints: training {all_of('text', 'train')}, calibration {all_of('text', 'calibration')}, held out {all_of('text', 'held_out')}",
        *(f"Text: {note}" for note in notes),
        *alike("Weights", "SAE", (Made(sentence(record["provenance"]), [record["provenance"]]) for record in everything)),
        *alike("Numbers", "row", (made for record in everything for row in record["rows"] for made in measuring(record, row))),
        f"Records: {len(everything)} in [{board.suite}/]({board.suite}/), digest {digest}",
        *(f"Left out: {sentence}" for sentence in board.left_out),
    ]
    return "\n".join(f"- {line}" for line in lines)


def measuring(record: records.Record, row: Mapping[str, Any]) -> Iterator[Made]:
    """The runs that measured a row, with the metrics whose numbers are of each, if those are not all; nothing of a row that names no run, as earlier ones."""
    measured = row.get("measured", {})
    by_metric = measured if isinstance(measured, Mapping) else {"": measured}  # rows of earlier records name one run for all
    runs = {metric: run_of(record, when) for metric, when in by_metric.items()} or {"": {}}
    words_of = {id(run): sentence(run) for run in {id(run): run for run in runs.values()}.values()}  # one run made most of a row
    said = {metric: words_of[id(run)] for metric, run in runs.items()}
    for one in dict.fromkeys(said.values()):
        metrics = [metric for metric in sorted(said) if said[metric] == one]
        yield Made(one, [runs[metric] for metric in metrics], () if len(metrics) == len(said) else tuple(metrics))


def run_of(record: records.Record, when: str) -> Run:
    """One run of a record, by the time that a row names."""
    found = record.get("measured", {}).get(when, {})
    return found if isinstance(found, Mapping) else {}


def alike(title: str, thing: str, made: Iterable[Made]) -> list[str]:
    """A line for all that was made by runs alike in everything that counts, with their dates and, if not all, what they made of it; the most first."""
    counts: Counter[tuple[str, tuple[str, ...]]] = Counter()
    dates: dict[tuple[str, tuple[str, ...]], set[str]] = {}
    for said, runs, metrics in made:
        counts[line := (said, metrics)] += 1
        dates.setdefault(line, set()).update(str(run.get("when", "date not known")).partition("T")[0] for run in runs)
    return [
        f"{title}: {said}; {words(sorted(dates[said, metrics]))} ({f'{words(metrics)} of ' if metrics else ''}{count:,} {thing}{'s' * (count != 1)})"
        for (said, metrics), count in counts.most_common()
    ]


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
