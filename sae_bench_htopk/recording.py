"""Makes the record of one training: what was measured now beside what still holds of the record before."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from sae_bench_htopk import estimate, family, plan, records
from sae_bench_htopk.asked import HELD_OUT, on, texts
from sae_bench_htopk.contract import Metric, Reading, Variant
from sae_bench_htopk.disputes import standing
from sae_bench_htopk.evaluate import Job
from sae_bench_htopk.keys import Cell, Facts, Training, metric_classes, place_of
from sae_bench_htopk.rows import pairable, summary
from sae_bench_htopk.suite import Suite

OF_METRICS = ("values", "missing", "intervals", "details", "draws", "drawn", "keys", "measured")  # parts of a row, by metric or by metric.column
NOT_ASKED = "not asked for at this reading"
Row = dict[str, Any]


class Read(NamedTuple):
    """One SAE that is to be measured: whose weights, by which cell, by which metrics at each reading, and as what job."""

    training: Training
    cell: Cell
    readings: Mapping[Reading, Sequence[str]]
    job: Job


@dataclass(frozen=True)
class Recorder:
    """What the records of one run have in common: the suite, its text and model, and who measures now."""

    suite: Suite
    facts: Facts
    model: str  # the fingerprint of the one that was loaded
    tokens: int  # of held-out text
    documents: int
    now: Mapping[str, Any]  # provenance
    labelled: Mapping[str, int] = field(default_factory=dict)  # documents of each labelled text that something is measured on now

    def row(self, read: Read, reading: Reading, metrics: Mapping[str, Metric], before: Mapping[str, Row]) -> Row:
        """One row: what was read, its numbers or the reasons for having none; of metrics that were not measured now, what the row before has.

        `before` are the rows of the record that was there, by place.
        """
        cell, variant = read.cell, read.job.variant
        budget = type(variant).budget(cell.config)
        keys, new = cell.keys[reading], read.readings[reading]
        made = joined(*(self.measured(read, reading, text, metrics) for text in texts(new)))
        made |= {"keys": {name: keys[name] for name in new}, "measured": dict.fromkeys(new, self.now["when"])}
        row = {"variant": cell.variant, "config": asdict(cell.config), "native": reading.select == cell.native, "reading": asdict(reading)}
        row |= {"budget": variant.calibration.budget or budget or 1, "budget_measured": budget is None}
        held = set(keys) - set(new)
        kept = of_metrics(before[cell.place(reading)], held) if held else {}  # a row of an earlier form holds nothing
        return row | joined(kept, made, unasked(self.suite, keys))

    def measured(self, read: Read, reading: Reading, text: str, metrics: Mapping[str, Metric]) -> Row:
        """What was measured now on one text, or the reasons for having no numbers; only what was measured on held-out text can be paired."""
        kinds = metric_classes(self.suite)
        asked = {name: kinds[name] for name in on(text, {reading: read.readings[reading]})[reading]}
        absent = read.job.absent.get(reading) or read.job.elsewhere.get((text, reading))
        documents = self.documents if text == HELD_OUT else self.labelled[text]
        if absent is not None:
            return summary({}, asked, documents, absent)
        by_any_rank = replace(reading, rank="importance")  # other orders of latents are compared with this one, so they pair too
        return summary(metrics, asked, documents, paired=text == HELD_OUT and pairable(by_any_rank, read.cell.native))

    def record(self, item: plan.Item, before: records.Record, story: Mapping[str, Any], rows: Sequence[Row], spent: float) -> records.Record:
        """The record of one training: the new rows, and of the record `before` the rows that still hold, if weights were there already."""
        suite, training = self.suite, item.training
        shells = story.get("shells") or before.get("sae", {}).get("shells")
        new = {place_of(row) for row in rows}
        rows = [*(row for row in before.get("rows", ()) if place_of(row) not in new), *rows]
        made = {
            "schema": records.SCHEMA,
            "suite": suite.name,
            "page": page_words(suite),
            "train_key": training.key,
            "sae": {
                "variant": training.variant, "config": asdict(training.config), "latents": training.latents, "seed": training.seed,
                "control": training.control, "trained": training.kind().trained, **({"shells": shells} if shells else {}),
                **({"share": training.share} if training.share < 1 else {}),
            },
            "rows": sorted(rows, key=lambda row: (row["variant"], str(sorted(row["reading"].items(), key=str)))),
            "curve": story["curve"],
            "cost": {
                "train_seconds": story["seconds"], "train_tokens": story["tokens"], "flops": story["tokens"] * estimate.step_flops(suite, training),
                "evaluate_seconds": before.get("cost", {}).get("evaluate_seconds", 0.0) + spent,
            },
            "stream": story["stream"],
            "unusable": story["unusable"],  # why it has no numbers at all; empty if it has
            "text": {
                **self.facts.text, "held_out_tokens": self.tokens, "held_out_documents": self.documents,
                "source": suite.text.source.identity(), "notes": suite.text.source.notes(),
                **({"labelled": dict(self.facts.labelled)} if self.facts.labelled else {}),
            },
            "model": {
                "path": model_name(suite.model.path), "revision": suite.model.revision, "fingerprint": self.model, "hook": asdict(suite.model.hook),
            },
            "settings": asdict(training.recipe) | {
                "rate": training.recipe.learning_rate(training.latents), "context": suite.model.context, "dtype": suite.model.dtype,
            },
            "provenance": story["provenance"],  # of the weights
            "measured": {**dated(before), self.now["when"]: self.now},
            **({"disputes": before["disputes"]} if before.get("disputes") else {}),
        }  # fmt: skip
        return as_asked(made, suite, training)


def as_asked(record: records.Record, suite: Suite, training: Training) -> records.Record:
    """A record as the suite asks for it now: without readings and metrics that it names no more, and runs that measured none of the rest.

    What was measured by other code than today's stays until it is measured again; so do rows of an earlier form, which do not say by what they were measured.
    """
    wanted = {cell.place(reading): keys for cell in training.cells for reading, keys in cell.keys.items()}
    rows = []
    for row in record["rows"]:
        if "keys" not in row:
            rows.append(row)
        elif (keys := wanted.get(place_of(row))) is not None:
            rows.append(row | joined(of_metrics(row, keys), unasked(suite, keys)))
    used = {when for row in rows for when in runs_of(row)}
    made = record | {"page": page_words(suite), "rows": rows} | ({"measured": by} if (by := still(record, used)) is not None else {})
    return made | ({"disputes": standing(made)} if "disputes" in made else {})


def measured_numbers(record: records.Record) -> int:
    """How many numbers its rows hold."""
    return sum(value is not None for row in record["rows"] for value in row["values"].values())


def still(record: records.Record, used: Collection[str]) -> dict[str, Any] | None:
    """The runs that measured any row; None where the record is of an earlier form, which is left as it is."""
    runs = record.get("measured")
    return None if runs is None or "when" in runs else {when: run for when, run in runs.items() if when in used}


def runs_of(row: Mapping[str, Any]) -> Iterable[str]:
    """When the numbers of a row were measured; rows of an earlier form name one run, or none."""
    measured = row.get("measured", {})
    return [measured] if isinstance(measured, str) else measured.values()


def of_metrics(row: Mapping[str, Any], names: Collection[str]) -> Row:
    """What a row holds of some metrics."""
    return {part: {key: value for key, value in row[part].items() if key.partition(".")[0] in names} for part in OF_METRICS if part in row}


def joined(*parts: Mapping[str, Mapping[str, Any]]) -> Row:
    """Parts of one row, each of other metrics, as one."""
    return {name: {key: value for part in parts for key, value in part.get(name, {}).items()} for name in OF_METRICS if any(name in part for part in parts)}


def unasked(suite: Suite, keys: Collection[str]) -> Row:
    """What a row says of metrics of the suite that are not asked for at its reading: a reason for each, as one for each column is a third of a record."""
    return {"missing": {name: NOT_ASKED for name in metric_classes(suite) if name not in keys}}


def page_words(suite: Suite) -> dict[str, Any]:
    """What a page says of its suite: of its primary contrasts too, where it declares any."""
    declared = family.as_json(suite)
    return {"title": suite.title, "demonstration": suite.demonstration} | ({"contrasts": declared} if declared else {})


def dated(record: records.Record) -> dict[str, Any]:
    """What measured the rows of a record, by the time that stands in each row; of earlier ones, whose rows name none, nothing is known."""
    return {when: run for when, run in record.get("measured", {}).items() if isinstance(run, dict) and "when" in run}


def shell_ends(variant: Variant) -> list[int]:
    """The sizes of its nested dictionaries, the innermost first and the whole last; the whole alone where nothing is nested."""
    sizes = variant.shells().bincount()
    return [int(size) for size in sizes.cumsum(0)[sizes > 0]]


def model_name(path: str) -> str:
    """A hub id or an embedded model's name as it is; of a folder its last part alone, since the rest says only where it lay."""
    return Path(path).name if Path(path).is_dir() else path
