"""Measures SAEs that are trained: calibrates them, then reads all of them side by side in one pass over each text, and writes their records."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sae_bench_htopk import plan, plugins, records
from sae_bench_htopk.asked import HELD_OUT, texts
from sae_bench_htopk.calibrate import calibrate
from sae_bench_htopk.comparing import Comparing, of_latents
from sae_bench_htopk.contract import Metric, Reading, Variant
from sae_bench_htopk.evaluate import Job, empty, measure
from sae_bench_htopk.keys import Facts, Training, metric_classes, place_of
from sae_bench_htopk.lm import SubjectModel
from sae_bench_htopk.markdown import words
from sae_bench_htopk.outlook import Outlook
from sae_bench_htopk.progress import Progress, note
from sae_bench_htopk.provenance import peak_memory, provenance
from sae_bench_htopk.recording import Read, Recorder, shell_ends
from sae_bench_htopk.showing import Shown
from sae_bench_htopk.stored import Stored, unusable
from sae_bench_htopk.stream import Units, harvest, windows_at_once
from sae_bench_htopk.weights import WeightsError
from sae_bench_htopk.windows import Window, batches, lengths


@dataclass(frozen=True)
class MeasuringPass:
    """What measuring wants: where SAEs are, all of the suite's, what numbers depend on, the language model, and the texts."""

    stored: Stored
    trainings: Sequence[Training]
    facts: Facts
    model: SubjectModel
    shown: Mapping[str, Shown]  # by name, the texts that metrics see
    calibration: Sequence[Window]

    def evaluate(self, items: Sequence[plan.Item], outlook: Outlook) -> None:
        """Calibrates and measures what is missing, and writes the records."""
        suite, clock, held_out = self.stored.suite, time.monotonic(), self.shown[HELD_OUT]
        seed = words(sorted({item.training.seed for item in items}))
        reads, units, stories = self.load(items)
        x = self.calibration_rows(units)
        self.calibrate(reads, x, seed)
        held = self.measure(reads, units, seed)
        note(f"seed {seed}: intervals over {len(held_out.texts)} documents")
        now = provenance(self.stored.device)
        documents = {name: len(shown.texts) for name, shown in self.shown.items()}
        recorder = Recorder(suite, self.facts, self.model.fingerprint, held_out.tokens, documents[HELD_OUT], now, documents)
        known = {item.training.key: self.known(item) or {} for item in items}
        rows: dict[str, list[dict[str, Any]]] = {}
        for index, read in enumerate(reads):
            before = {place_of(row): row for row in known[read.training.key].get("rows", ())}
            made = [recorder.row(read, reading, held.pop((index, reading)), before) for reading in read.readings]  # what metrics keep goes with its row
            rows.setdefault(read.training.key, []).extend(made)
        spent = (time.monotonic() - clock) / max(1, len(items))
        latents = Comparing(self.stored, self.trainings).latents(reads, x)
        taken, most = time.monotonic() - clock, peak_memory(self.stored.device)  # once: all records of a pass say the same of it
        for item in items:
            key = item.training.key
            record = recorder.record(item, known[key], stories[key], rows[key], spent)
            record["cost"]["pass"] = outlook.taken(key, taken, most, known[key].get("cost", {}))
            records.write(self.stored.records, record | of_latents(known[key], latents.get(key, {})))

    def load(self, items: Sequence[plan.Item]) -> tuple[list[Read], Units, dict[str, dict[str, Any]]]:
        """Every SAE to be measured, the stream's units, and what is known of each training. Raises WeightsError if units differ."""
        asked, reads, stories = metric_classes(self.stored.suite), list[Read](), dict[str, dict[str, Any]]()
        units: Units | None = None
        for item in items:
            for cell, readings in item.missing:
                kind = item.training.kind() if item.training.control else plugins.variant(cell.variant)
                variant, own, story = self.stored.load(kind, item.training, cell.config)
                if units is not None and abs(own.scale / units.scale - 1) > 1e-4:
                    path = self.stored.path(item.training)
                    raise WeightsError(f"{path}: its scale is {own.scale}, that of others of the suite {units.scale}; delete it to train it again")
                units = own
                wanted = {reading: {name: asked[name] for name in names} for reading, names in readings.items()}
                reason = unusable(variant, story)
                own_kind = {"shells": shell_ends(variant)} if kind is item.training.kind() else {}  # who borrows weights reads them without shells
                stories[item.training.key] = stories.get(item.training.key, {}) | story | {"unusable": reason} | own_kind
                reads.append(Read(item.training, cell, readings, Job(variant, wanted, dict.fromkeys(readings, reason) if reason else {})))
        assert units is not None
        return reads, units, stories

    def known(self, item: plan.Item) -> records.Record | None:
        """The record that is there of weights that are measured again or further."""
        return plan.known_record(self.stored.root, self.stored.suite.name, item.training.key) if item.todo == "evaluate" else None

    def calibrate(self, reads: Sequence[Read], x: Float[Tensor, "rows d"], seed: str) -> None:
        """Thresholds and ranks of every SAE that has numbers; what training gave no threshold for is not read by it."""
        with Progress(f"seed {seed}: calibrating {len(reads)} SAEs", len(reads) * len(x)) as progress:
            for number, (training, cell, readings, job) in enumerate(reads, 1):
                for reading in readings:
                    if not known(job.variant, reading):
                        job.absent.setdefault(reading, "training kept no running threshold")
                if set(readings) - set(job.absent):
                    calibrate(job.variant, list(readings), x, cell.native, type(job.variant).budget(cell.config), training.seed)
                progress.reach(number * len(x))

    def measure(self, reads: Sequence[Read], units: Units, seed: str) -> dict[tuple[int, Reading], dict[str, Metric]]:
        """Every metric of every SAE and reading, after all of each text that it is measured on; held-out text first."""
        found: dict[tuple[int, Reading], dict[str, Metric]] = {}
        for text in texts(name for read in reads for names in read.readings.values() for name in names):
            jobs = [read.job.on(text) for read in reads]
            for place, metrics in self.measure_on(text, jobs, units, seed).items():
                found[place] = found.get(place, {}) | metrics
            for read, job in zip(reads, jobs, strict=True):
                new = {reading: reason for reading, reason in job.absent.items() if reading not in read.job.absent}
                if text == HELD_OUT:
                    read.job.absent.update(new)
                else:
                    read.job.elsewhere.update({(text, reading): reason for reading, reason in new.items()})
        return found

    def measure_on(self, text: str, jobs: Sequence[Job], units: Units, seed: str) -> dict[tuple[int, Reading], dict[str, Metric]]:
        """Every metric of every job and reading, after all of one text."""
        shown, context = self.shown[text], self.stored.suite.model.context
        held = empty(self.model, jobs, len(shown.texts), lengths(shown.windows, len(shown.texts)), units)
        where, done = "" if text == HELD_OUT else f" on {text}", 0
        with Progress(f"seed {seed}: measuring {len(held)} readings{where}", shown.tokens) as progress:
            for windows in batches(shown.windows, windows_at_once(context), context, self.model.bos):
                measure(self.model, windows, units, shown.texts, jobs, held, shown.labels)
                done += int(windows.real.sum())
                progress.reach(done)
        return held

    def calibration_rows(self, units: Units) -> Float[Tensor, "rows d"]:
        """Scaled activations of the calibration text, massive rows out."""
        context = self.stored.suite.model.context
        raw = (harvest(self.model, part) for part in batches(self.calibration, windows_at_once(context), context, self.model.bos))
        return torch.cat([part[~units.is_massive(part)] * units.scale for part in raw])


def known(variant: Variant, reading: Reading) -> bool:
    """Whether an SAE can be read so: by a running threshold only if training kept one."""
    return reading.select != "ema" or bool(variant.ema_threshold >= 0)
