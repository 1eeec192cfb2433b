"""The main job: what is missing of a suite is trained and evaluated, seed after seed, and the page is written."""

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sae_bench_htopk import leaderboard, lock, plan, plugins, records, resume, shortage, storage, weights
from sae_bench_htopk.asked import HELD_OUT, texts
from sae_bench_htopk.calibrate import calibrate
from sae_bench_htopk.contract import Metric, Missing, Reading, Variant
from sae_bench_htopk.corpus import Corpus
from sae_bench_htopk.errors import InputError
from sae_bench_htopk.estimate import disk
from sae_bench_htopk.evaluate import Job, empty, measure
from sae_bench_htopk.keys import Facts, Training, facts_of, metric_classes, place_of, resolve
from sae_bench_htopk.lm import SubjectModel
from sae_bench_htopk.markdown import words
from sae_bench_htopk.outlook import Outlook, outlooks
from sae_bench_htopk.power_law import laws
from sae_bench_htopk.progress import Progress, note
from sae_bench_htopk.provenance import provenance
from sae_bench_htopk.recording import Read, Recorder, as_asked, measured_numbers, shell_ends
from sae_bench_htopk.seeds import Absent, Kin, merged, twins
from sae_bench_htopk.shortage import OutOfMemory
from sae_bench_htopk.showing import Shown, labelled
from sae_bench_htopk.snapshot import Snapshot
from sae_bench_htopk.storage import StorageError
from sae_bench_htopk.stream import Stream, Units, harvest, windows_at_once
from sae_bench_htopk.suite import Suite
from sae_bench_htopk.tokenizing import Tokenizing
from sae_bench_htopk.trainer import Learner, Recipe, train
from sae_bench_htopk.windows import batches, lengths


class Runner:
    """One run of one suite: the text and the language model are loaded once, and only if something is to be done."""

    def __init__(self, suite: Suite, root: Path, device: str, at_once: int | None = None) -> None:
        """Reads the text; raises TextError if it cannot give the suite's parts. No training pass has more than `at_once` SAEs."""
        self.suite, self.root, self.device, self.at_once = suite, root, device, at_once
        self.corpus = Corpus(suite.text.source)
        self.facts: Facts = facts_of(suite, self.corpus)
        self.trainings = resolve(suite, self.facts)
        self.items = plan.items(suite, self.trainings, root)

    def run(self) -> Path:
        """Does what is to be done and returns the page. What ends it early keeps every finished pass, and its page: a seed, or all together.

        Raises LockedError if another run works in the same folder, OutOfMemory and StorageError where there is not enough of either.
        """
        with lock.held(plan.lock_path(self.root, self.suite.name)):
            self.items = plan.items(self.suite, self.trainings, self.root)  # another run may have ended since
            parts = plan.schedule(self.suite, self.items, self.device, self.at_once)
            prospects = outlooks(self.suite, parts, self.device) if parts else []
            if parts:
                self.prepare(parts)
                self.load_model()
            try:
                for part, outlook in zip(parts, prospects, strict=True):
                    self.work(part, outlook)
            except (KeyboardInterrupt, OutOfMemory, StorageError):
                self.keep_page()
                raise
            return self.page()

    def prepare(self, parts: Sequence[plan.Pass]) -> None:
        """Clears away what a killed run left unfinished. Raises StorageError if the disk has no room for the weights that are to come."""
        folder = plan.weights_path(self.root, self.suite.name, "").parent
        storage.sweep(folder, "*.safetensors")
        storage.sweep(plan.record_folder(self.root, self.suite.name), "*.json")
        self.sweep()
        storage.require(folder, disk(self.suite, [training for part in parts for group in part.trainings for training in group]))

    def work(self, part: plan.Pass, outlook: Outlook) -> None:
        """Trains, evaluates and compares the items of one pass."""
        self.outlook, clock = outlook, time.monotonic()
        for fresh in part.trainings:
            with self.tokenizing, shortage.named(f"seed {fresh[0].seed}: reading the text for {len(fresh)} SAEs", self.less_reading()):
                self.train(fresh, fresh[0].seed)
        if part.trainings:
            outlook.trained = time.monotonic() - clock
        if unread := [item for item in part.items if item.missing]:
            with shortage.named(f"measuring {len(unread)} SAEs", "wanted fewer readings or metrics of them, a smaller model.context, or less calibration text"):
                self.evaluate(unread)
        self.compare([item for item in part.items if item.todo == "compare"])

    def less_reading(self) -> str:
        """Which settings take less memory where the language model reads the text."""
        context = self.suite.model.context
        return shortage.of_model(context, windows_at_once(context), self.suite.train.block)

    def keep_page(self) -> None:
        """The page of what is finished, if anything is, and if it can be written."""
        if any(plan.record_folder(self.root, self.suite.name).glob("*.json")):
            try:
                self.page()
            except InputError as error:
                note(f"the page was not written: {error}")

    def load_model(self) -> None:
        """Loads the language model, and checks what would else fail only after training: the length of all texts, and the folders."""
        chosen, recipe = self.suite.model, self.suite.train
        self.model = SubjectModel.load(chosen.path, chosen.revision, chosen.hook, self.device, getattr(torch, chosen.dtype))
        self.model.verify_shape(chosen.shape.d, chosen.shape.layers, chosen.shape.vocab, chosen.context)
        text, context = self.suite.text, chosen.context
        self.tokenizing = Tokenizing(self.model.tokenizer, text.workers)
        held_out = Shown(*self.corpus.sample("held_out", self.model.encode, context, text.held_out.tokens, text.held_out.documents))
        wanted = texts(name for item in self.items for _, some in item.missing for names in some.values() for name in names)
        others = {name: self.suite.labelled[name].text for name in wanted if name != HELD_OUT}
        self.shown = {HELD_OUT: held_out} | labelled(others, self.model.encode, context)
        self.calibration, _ = self.corpus.sample("calibration", self.ids, context, text.calibration.tokens, None)
        if any(item.todo == "train" for item in self.items):
            self.corpus.require("train", self.ids, tokens_wanted(recipe), recipe.tokens)
        for folder in (plan.record_folder(self.root, self.suite.name), plan.weights_path(self.root, self.suite.name, "").parent):
            writable(folder)

    def ids(self, text: str) -> tuple[np.ndarray, None]:
        """Token ids alone, which is all that training wants."""
        return self.tokenizing.ids(text)

    def train(self, trainings: Sequence[Training], seed: int) -> None:
        """Trains all of one seed in one pass over the text; those that a snapshot holds go on from it, in a pass of their own if it holds not all."""
        while trainings:
            found = resume.find(self.snapshots(), [training.key for training in trainings])
            held = [training for training in trainings if found is None or training.key in found.facts["keys"]]
            self.train_together(held, seed, found)
            trainings = [training for training in trainings if training not in held]

    def sweep(self) -> None:
        """Deletes snapshots of what is trained by now, and names those of what the suite does not hold; a kill may leave the one, another setting the other."""
        todo = [item.training.key for item in self.items if item.todo == "train"]
        for path in resume.sweep(self.snapshots(), todo, [training.key for training in self.trainings]):
            note(f"{path} holds the training of nothing in {self.suite.name} as it is now; delete it if it is not wanted")

    def snapshots(self) -> Path:
        """Where the suite's training is kept while it lasts."""
        return plan.weights_path(self.root, self.suite.name, "").parent / "snapshots"

    def train_together(self, trainings: Sequence[Training], seed: int, found: Snapshot | None) -> None:
        """Trains these in one pass, from a snapshot if there is one, and saves their weights; the pass' snapshots are then deleted."""
        recipe = self.suite.train
        stream = self.stream(seed, found)
        learners = {training.key: Learner(self.build(training.kind(), training), training.recipe, stream.units.statistics) for training in trainings}
        for training in trainings:
            learners[training.key].label = training.label()
        active = {key: learner for key, learner in learners.items() if learner.variant.trained}
        taken = resume.restore(found, active) if found else 0
        snapshots = resume.Snapshots(self.snapshots(), list(learners), self.suite.snapshot.minutes, found)
        total = recipe.steps() * recipe.batch
        with Progress(f"seed {seed}: training {len(active)} SAEs", total, taken * recipe.batch) as progress:
            for tokens in train(list(active.values()), stream.batches(recipe.batch), taken=taken):
                progress.reach(tokens)
                if tokens < total:  # after the last step come the weights themselves
                    snapshots.keep(tokens // recipe.batch, stream, active)
        for training in trainings:
            self.save(training, learners[training.key], stream)
        snapshots.remove()

    def stream(self, seed: int, found: Snapshot | None) -> Stream:
        """The activations that are trained on, from their beginning or from where a snapshot left them."""
        chosen, recipe = self.suite.model, self.suite.train
        known = resume.stream_of(found, self.device) if found else None
        if found is None:
            note(f"seed {seed}: measuring scale and mean of the first activations")
        else:
            note(f"seed {seed}: going on after {found.facts['step'] * recipe.batch:,} tokens, from {found.folder}")
        windows = self.corpus.windows("train", self.ids, chosen.context, known[1].text if known else None, self.tokenizing.ahead)
        return Stream(self.model, windows, chosen.context, self.model.bos, recipe.block, recipe.stream_seed, recipe.tokens, known)

    def save(self, training: Training, learner: Learner, stream: Stream) -> None:
        """Keeps what training came to: weights, and the story that records tell of them."""
        facts = {"scale": stream.units.scale, "massive_limit": stream.units.massive_limit, "massive": stream.massive, "rows": stream.rows}
        facts["total_variance"] = stream.units.statistics.total_variance
        if learner.failed:
            note(f"{training.label()}: given up, and the others went on: {learner.failed}")
        story: dict[str, Any] = {"curve": learner.curve, "seconds": learner.seconds, "tokens": learner.tokens, "stream": facts, "failed": learner.failed}
        story["provenance"] = provenance(self.device) | {"variant_code": training.code(), "selection": learner.variant.proposals.story()}
        self.retire(training)
        weights.save(plan.weights_path(self.root, self.suite.name, training.key), learner.variant, stream.units, story)

    def retire(self, training: Training) -> None:
        """Sets aside the record of weights that are gone, under a name that is not brought back: beside new weights its numbers would be another SAE's."""
        path = plan.record_folder(self.root, self.suite.name) / f"{training.key}.json"
        if path.is_file():
            move(path, plan.set_aside(self.root, self.suite.name), f"{training.key}.of-earlier-weights.json")

    def build(self, kind: type[Variant], training: Training, config: Any = None) -> Variant:
        """A variant of the training's size and seed, on the device."""
        settings = training.config if config is None else config
        with shortage.named(training.label(), shortage.of_step(self.suite.train.batch, training.latents, None)):
            return kind(settings, self.suite.model.shape.d, training.latents, training.seed).to(self.device)

    def stored(self, training: Training) -> Variant | Missing:
        """The SAE of a training, if its weights are here and can be used."""
        path = plan.weights_path(self.root, self.suite.name, training.key)
        if not path.is_file():
            return Absent(f"the weights of seed {training.seed} were not here")
        try:
            _, story = weights.load(path, variant := self.build(training.kind(), training))
        except weights.WeightsError as error:
            note(f"{training.label()}: {error}")  # the record does without the path
            return Absent(f"the weights of seed {training.seed} could not be read")
        return Missing(f"seed {training.seed}: {reason}") if (reason := unusable(variant, story)) else variant

    def load(self, items: Sequence[plan.Item]) -> tuple[list[Read], Units, dict[str, dict[str, Any]]]:
        """Every SAE to be measured, the stream's units, and what is known of each training. Raises WeightsError if units differ."""
        asked, reads, stories = metric_classes(self.suite), list[Read](), dict[str, dict[str, Any]]()
        units: Units | None = None
        for item in items:
            path = plan.weights_path(self.root, self.suite.name, item.training.key)
            for cell, readings in item.missing:
                kind = item.training.kind() if item.training.control else plugins.variant(cell.variant)
                variant = self.build(kind, item.training, cell.config)
                own, story = weights.load(path, variant)
                if units is not None and abs(own.scale / units.scale - 1) > 1e-4:
                    raise weights.WeightsError(f"{path}: its scale is {own.scale}, that of others of the suite {units.scale}; delete it to train it again")
                units = own
                wanted = {reading: {name: asked[name] for name in names} for reading, names in readings.items()}
                reason = unusable(variant, story)
                own_kind = {"shells": shell_ends(variant)} if kind is item.training.kind() else {}  # who borrows weights reads them without shells
                stories[item.training.key] = stories.get(item.training.key, {}) | story | {"unusable": reason} | own_kind
                reads.append(Read(item.training, cell, readings, Job(variant, wanted, dict.fromkeys(readings, reason) if reason else {})))
        assert units is not None
        return reads, units, stories

    def evaluate(self, items: Sequence[plan.Item]) -> None:
        """Calibrates and measures what is missing, and writes the records."""
        suite, clock, held_out = self.suite, time.monotonic(), self.shown[HELD_OUT]
        seed = words(sorted({item.training.seed for item in items}))
        reads, units, stories = self.load(items)
        x = self.calibration_rows(units)
        self.calibrate(reads, x, seed)
        held = self.measure(reads, units, seed)
        note(f"seed {seed}: intervals over {len(held_out.texts)} documents")
        now = provenance(self.device)
        documents = {name: len(shown.texts) for name, shown in self.shown.items()}
        recorder = Recorder(suite, self.facts, self.model.fingerprint, held_out.tokens, documents[HELD_OUT], now, documents)
        known = {item.training.key: self.known(item) or {} for item in items}
        rows: dict[str, list[dict[str, Any]]] = {}
        for index, read in enumerate(reads):
            before = {place_of(row): row for row in known[read.training.key].get("rows", ())}
            made = [recorder.row(read, reading, held.pop((index, reading)), before) for reading in read.readings]  # what metrics keep goes with its row
            rows.setdefault(read.training.key, []).extend(made)
        spent = (time.monotonic() - clock) / max(1, len(items))
        latents = self.latents(reads, x)
        taken = time.monotonic() - clock
        for item in items:
            key = item.training.key
            record = recorder.record(item, known[key], stories[key], rows[key], spent)
            record["cost"]["pass"] = self.outlook.taken(taken, self.device, known[key].get("cost", {}))
            records.write(plan.record_folder(self.root, suite.name), record | of_latents(known[key], latents.get(key, {})))

    def compare(self, items: Sequence[plan.Item]) -> None:
        """Completes the pairs of what is measured already with twins whose weights have come since; no reading is measured again.

        Where code has changed that measures latents, power laws and all pairs are made anew.
        """
        if not items:
            return
        folder, units = plan.record_folder(self.root, self.suite.name), self.units_of([item.training for item in items])
        x = torch.zeros(0, self.suite.model.shape.d) if units is None else self.calibration_rows(units)  # without units nothing can be loaded to be compared
        kin = Kin(x, self.stored, {})
        for item in items:
            doing = ["measuring its latents"] * item.latents + [f"comparing with seed {words(other.seed for other in item.twins)}"] * bool(item.twins)
            note(f"{item.training.label()}: {', '.join(doing)}")
            record = plan.known_record(self.root, self.suite.name, item.training.key)
            assert record is not None
            own = self.laws_of(item.training, kin) if item.latents else {}
            found, before = kin.agreements(item.training, item.twins), record.get("stability", [])
            others = [] if item.latents else [pair for pair in before if pair["train_key"] not in {pair["train_key"] for pair in found}]
            records.write(folder, record | of_latents(record, own | {"stability": [*others, *found]}))

    def laws_of(self, training: Training, kin: Kin) -> dict[str, Any]:
        """How the latents of an SAE fall off, from its file; nothing if that cannot be read. Its twins are then compared with the same weights."""
        if isinstance(variant := self.stored(training), Missing):
            return {}
        kind = training.kind()
        calibrate(variant, [], kin.x, kind.native(training.config), kind.budget(training.config))
        kin.measured[training.key] = variant
        return measured_laws(training, variant, len(kin.x))

    def units_of(self, trainings: Sequence[Training]) -> Units | None:
        """The stream's units, from the first of their files that can be read."""
        for training in trainings:
            try:
                return weights.load(plan.weights_path(self.root, self.suite.name, training.key), self.build(training.kind(), training))[0]
            except weights.WeightsError:
                continue  # `stored` says it
        return None

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
        shown, context = self.shown[text], self.suite.model.context
        held = empty(self.model, jobs, len(shown.texts), lengths(shown.windows, len(shown.texts)), units)
        where, done = "" if text == HELD_OUT else f" on {text}", 0
        with Progress(f"seed {seed}: measuring {len(held)} readings{where}", shown.tokens) as progress:
            for windows in batches(shown.windows, windows_at_once(context), context, self.model.bos):
                measure(self.model, windows, units, shown.texts, jobs, held, shown.labels)
                done += int(windows.real.sum())
                progress.reach(done)
        return held

    def latents(self, reads: Sequence[Read], x: Float[Tensor, "rows d"]) -> dict[str, dict[str, Any]]:
        """By train key, what is measured of the latents themselves: how they fall off by rank, and whether other seeds have them."""
        calibrated = {read.training.key: read.job.variant for read in reversed(reads) if read.job.variant.calibration.use}  # of several readers the first
        kin, found = Kin(x, self.stored, calibrated), dict[str, dict[str, Any]]()
        for training in {read.training.key: read.training for read in reads if not read.training.control}.values():
            found[training.key] = {"stability": kin.agreements(training, list(twins(training, self.trainings)))}
            if variant := calibrated.get(training.key):
                found[training.key] |= measured_laws(training, variant, len(x))
        return found

    def calibration_rows(self, units: Units) -> Float[Tensor, "rows d"]:
        """Scaled activations of the calibration text, massive rows out."""
        context = self.suite.model.context
        raw = (harvest(self.model, part) for part in batches(self.calibration, windows_at_once(context), context, self.model.bos))
        return torch.cat([part[~units.is_massive(part)] * units.scale for part in raw])

    def known(self, item: plan.Item) -> records.Record | None:
        """The record that is there of weights that are measured again or further."""
        return plan.known_record(self.root, self.suite.name, item.training.key) if item.todo == "evaluate" else None

    def page(self) -> Path:
        """Sets aside records that are no part of the suite any more, brings back those that are again, and writes the page.

        What the suite no longer asks of an SAE leaves its record.
        """
        folder, aside = plan.record_folder(self.root, self.suite.name), plan.set_aside(self.root, self.suite.name)
        known = {training.key: training for training in self.trainings if any(cell.keys for cell in training.cells)}
        for path in folder.glob("*.json"):
            if path.stem not in known or plan.known_record(self.root, self.suite.name, path.stem) is None:
                move(path, aside)
                note(f"{path.name} is no part of {self.suite.name} as it is now, or of an earlier schema; moved to {aside}")
        for path in aside.glob("*.json"):
            if path.stem in known and not (folder / path.name).is_file() and plan.known_record(self.root, self.suite.name, path.stem):
                move(path, folder)
        for record in records.read_all(folder):
            if (asked := as_asked(record, self.suite, known[record["train_key"]])) != record:
                if measured_numbers(record) > measured_numbers(asked):
                    aside.mkdir(parents=True, exist_ok=True)
                    copy = aside / f"{record['train_key']}.before.json"
                    copy.write_bytes((folder / f"{record['train_key']}.json").read_bytes())
                    note(f"{record['train_key']}.json holds numbers that {self.suite.name} asks for no more; they leave it, and a copy with them is {copy}")
                records.write(folder, asked)
        return leaderboard.build(self.root / "leaderboard", self.suite.name)


def measured_laws(training: Training, variant: Variant, rows: int) -> dict[str, Any]:
    """How the latents of a calibrated SAE fall off, and the key that says by what code that was measured."""
    return {"power_law": laws(variant.W_dec, variant.calibration.use, rows), "latents_key": training.latents_key}


def of_latents(before: records.Record, own: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says of latents: what was measured now, and what was known before of what could not be."""
    found = {name: before[name] for name in ("power_law", "stability", "latents_key") if name in before} | dict(own)
    return found | ({"stability": merged(before.get("stability", ()), own["stability"])} if "stability" in own else {})


def unusable(variant: Variant, story: Mapping[str, Any]) -> str:
    """Why an SAE has no numbers at all; empty if it has."""
    bad = [name for name, parameter in variant.named_parameters() if not bool(parameter.isfinite().all())]
    return story.get("failed") or (f"{' and '.join(bad)} hold numbers that are not finite" if bad else "")


def known(variant: Variant, reading: Reading) -> bool:
    """Whether an SAE can be read so: by a running threshold only if training kept one."""
    return reading.select != "ema" or bool(variant.ema_threshold >= 0)


def move(path: Path, folder: Path, name: str | None = None) -> None:
    """Into another folder, under the same name unless another is given."""
    folder.mkdir(parents=True, exist_ok=True)
    os.replace(path, folder / (name or path.name))


def writable(folder: Path) -> None:
    """Makes the folder and a file in it for a moment. Raises InputError if that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"--output: {folder}: cannot be written to ({error.strerror})") from error


def tokens_wanted(recipe: Recipe) -> int:
    """How much text a training needs: its tokens, what each block may leave over, and a little for massive norms."""
    return round(1.02 * recipe.tokens * recipe.block / (recipe.block - recipe.batch + 1))
