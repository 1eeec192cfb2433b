"""The main job: what is missing of a suite is trained and evaluated, seed after seed, and the page is written."""

import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sae_bench_htopk import leaderboard, plan, records, weights
from sae_bench_htopk.calibrate import calibrate
from sae_bench_htopk.contract import Variant
from sae_bench_htopk.corpus import Corpus
from sae_bench_htopk.evaluate import Job, empty, measure, summary
from sae_bench_htopk.keys import Facts, Training, facts_of, metric_classes, resolve
from sae_bench_htopk.lm import SubjectModel
from sae_bench_htopk.plugins import variant as variant_class
from sae_bench_htopk.progress import Progress, note
from sae_bench_htopk.stream import WINDOWS_AT_ONCE, Stream, Units, harvest
from sae_bench_htopk.suite import Suite
from sae_bench_htopk.trainer import Learner, train
from sae_bench_htopk.windows import batches

TEXT_SLACK = 1.05  # of the tokens asked for: what massive norms and unfinished batches may cost


class Runner:
    """One run of one suite: the text and the language model are loaded once, and only if something is to be done."""

    def __init__(self, suite: Suite, root: Path, device: str) -> None:
        """Reads the text; raises TextError if it cannot give the suite's parts."""
        self.suite, self.root, self.device = suite, root, device
        self.corpus = Corpus(suite.text.source)
        self.facts: Facts = facts_of(suite, self.corpus)
        self.trainings = resolve(suite, self.facts)
        self.items = plan.items(suite, self.trainings, root)

    def run(self) -> Path:
        """Does what is to be done and returns the page. An interruption keeps every finished seed."""
        self.set_aside_strangers()
        todo = [item for item in self.items if item.todo != "done"]
        if todo:
            self.load_model()
        for seed in self.suite.seeds:
            mine = [item for item in todo if item.training.seed == seed]
            if fresh := [item.training for item in mine if item.todo == "train"]:
                self.train(fresh, seed)
            if mine:
                self.evaluate(mine, seed)
        return leaderboard.build(self.root / "leaderboard", self.suite.name)

    def set_aside_strangers(self) -> None:
        """Moves records that are no part of the suite any more out of the page's way, and says so."""
        known = {training.key for training in self.trainings}
        aside = self.root / "runs" / self.suite.name / "set_aside"
        for path in plan.record_folder(self.root, self.suite.name).glob("*.json"):
            if path.stem not in known:
                aside.mkdir(parents=True, exist_ok=True)
                os.replace(path, aside / path.name)
                note(f"{path.name} is no part of {self.suite.name} as it is now; moved to {aside}")

    def load_model(self) -> None:
        """Loads the language model and checks that the text is long enough for the training."""
        chosen = self.suite.model
        self.model = SubjectModel.load(chosen.path, chosen.revision, chosen.hook, self.device, getattr(torch, chosen.dtype))
        self.model.verify_shape(chosen.shape.d, chosen.shape.layers, chosen.shape.vocab, chosen.context)
        if any(item.todo == "train" for item in self.items):
            self.corpus.require("train", self.ids, round(TEXT_SLACK * self.suite.train.tokens))

    def ids(self, text: str) -> tuple[np.ndarray, None]:
        """Token ids alone, which is all that training wants."""
        coded = self.model.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)
        return np.array(coded["input_ids"], dtype=np.int64), None

    def train(self, trainings: Sequence[Training], seed: int) -> None:
        """Trains all of one seed in one pass over the text, and saves their weights."""
        suite, recipe = self.suite, self.suite.train
        windows = self.corpus.windows("train", self.ids, suite.model.context)
        stream = Stream(self.model, windows, suite.model.context, self.model.bos, recipe.block, recipe.stream_seed, recipe.tokens)
        learners = {training.key: Learner(self.build(training.kind(), training), recipe, stream.units.statistics) for training in trainings}
        active = [learner for learner in learners.values() if learner.variant.trained]
        with Progress(f"seed {seed}: training {len(active)} SAEs", recipe.steps() * recipe.batch) as progress:
            for tokens in train(active, stream.batches(recipe.batch)):
                progress.reach(tokens)
        facts = {"scale": stream.units.scale, "massive_limit": stream.units.massive_limit, "massive": stream.massive, "rows": stream.rows}
        facts["total_variance"] = stream.units.statistics.total_variance
        for training in trainings:
            learner = learners[training.key]
            story = {"curve": learner.curve, "seconds": learner.seconds, "tokens": learner.tokens, "stream": facts, "provenance": self.provenance()}
            weights.save(plan.weights_path(self.root, suite.name, training.key), learner.variant, stream.units, story)

    def build(self, kind: type[Variant], training: Training, config: Any = None) -> Variant:
        """A variant of the training's size and seed, on the device."""
        settings = training.config if config is None else config
        return kind(settings, self.suite.model.shape.d, training.latents, training.seed).to(self.device)

    def evaluate(self, items: Sequence[plan.Item], seed: int) -> None:
        """Calibrates and measures what is missing of one seed, and writes its records."""
        suite, clock = self.suite, time.monotonic()
        held_out, texts = self.corpus.sample("held_out", self.model.encode, suite.model.context, suite.text.held_out.tokens, suite.text.held_out.documents)
        asked, jobs, homes, units = metric_classes(suite), [], [], None
        stories: dict[str, dict[str, Any]] = {}
        for item in items:
            path = plan.weights_path(self.root, suite.name, item.training.key)
            for cell, readings in item.missing:
                kind = item.training.kind() if item.training.control else variant_class(cell.variant)
                variant = self.build(kind, item.training, cell.config)
                units, stories[item.training.key] = weights.load(path, variant)
                jobs.append(Job(variant, {reading: {name: asked[name] for name in cell.metrics[reading]} for reading in readings}))
                homes.append((item.training, cell, readings))
        assert units is not None
        x = self.calibration_rows(units)
        for job, (training, cell, readings) in zip(jobs, homes, strict=True):
            calibrate(job.variant, readings, x, cell.native, type(job.variant).budget(cell.config), training.seed)
        held = empty(self.model, jobs, len(texts))
        total, done = sum(len(window.ids) for window in held_out), 0
        with Progress(f"seed {seed}: measuring {sum(len(job.readings) for job in jobs)} readings", total) as progress:
            for windows in batches(held_out, WINDOWS_AT_ONCE, suite.model.context, self.model.bos):
                measure(self.model, windows, units, texts, jobs, held)
                done += int(windows.real.sum())
                progress.reach(done)
        note(f"seed {seed}: intervals over {len(texts)} documents")
        rows: dict[str, list[dict[str, Any]]] = {}
        for index, (training, cell, readings) in enumerate(homes):
            for reading in readings:
                row = {"variant": cell.variant, "config": asdict(cell.config), "native": reading.select == cell.native, "read_key": cell.keys[reading]}
                row |= {"reading": asdict(reading)} | summary(held[index, reading], asked, len(texts))
                rows.setdefault(training.key, []).append(row)
        spent = (time.monotonic() - clock) / max(1, len(jobs))
        for item in items:
            record = self.record(item.training, stories[item.training.key], rows[item.training.key], spent, total, len(texts))
            records.write(plan.record_folder(self.root, suite.name), record)

    def calibration_rows(self, units: Units) -> Float[Tensor, "rows d"]:
        """Scaled activations of the calibration text, massive rows out."""
        suite = self.suite
        windows, _ = self.corpus.sample("calibration", self.ids, suite.model.context, suite.text.calibration.tokens, None)
        raw = torch.cat([harvest(self.model, part) for part in batches(windows, WINDOWS_AT_ONCE, suite.model.context, self.model.bos)])
        return raw[~units.is_massive(raw)] * units.scale

    def record(self, training: Training, story: dict[str, Any], rows: list[dict[str, Any]], spent: float, tokens: int, documents: int) -> records.Record:
        """The record of one training: rows that were there and still hold, and the new ones."""
        suite = self.suite
        path = plan.record_folder(self.root, suite.name) / f"{training.key}.json"
        wanted = {key for cell in training.cells for key in cell.keys.values()}
        kept = [row for row in records.read(path)["rows"] if row["read_key"] in wanted] if path.is_file() else []
        new = {row["read_key"] for row in rows}
        merged = [row for row in kept if row["read_key"] not in new] + rows
        return {
            "schema": records.SCHEMA,
            "suite": suite.name,
            "page": {"title": suite.title, "demonstration": suite.demonstration},
            "train_key": training.key,
            "sae": {
                "variant": training.variant, "config": asdict(training.config), "latents": training.latents, "seed": training.seed,
                "control": training.control, "trained": training.kind().trained,
            },
            "rows": sorted(merged, key=lambda row: (row["variant"], str(sorted(row["reading"].items(), key=str)))),
            "curve": story["curve"],
            "cost": {
                "train_seconds": story["seconds"], "train_tokens": story["tokens"], "evaluate_seconds": spent,
                "flops": story["tokens"] * plan.step_flops(suite, training),
            },
            "stream": story["stream"],
            "text": {
                **self.facts.text, "held_out_tokens": tokens, "held_out_documents": documents,
                "source": suite.text.source.identity(), "notes": suite.text.source.notes(),
            },
            "model": {
                "path": model_name(suite.model.path), "revision": suite.model.revision, "fingerprint": self.model.fingerprint,
                "hook": asdict(suite.model.hook),
            },
            "settings": asdict(suite.train) | {"rate": suite.train.learning_rate(training.latents), "context": suite.model.context, "dtype": suite.model.dtype},
            "provenance": story["provenance"],
        }  # fmt: skip

    def provenance(self) -> dict[str, Any]:
        """Who made the weights, with what, when: enough to make them again."""
        packages = ("sae_bench_htopk", "torch", "transformers", "tokenizers", "numpy", "scikit-learn", "scipy")
        device = torch.cuda.get_device_name() if self.device == "cuda" else "cpu"
        return {
            **commit(), "versions": {name: version(name) for name in packages} | {"python": platform.python_version()}, "device": device,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores", "threads": torch.get_num_threads(), "deterministic": self.device == "cpu",
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
        }  # fmt: skip


def model_name(path: str) -> str:
    """A hub id or an embedded model's name as it is; of a folder its last part alone, since the rest says only where it lay."""
    return Path(path).name if Path(path).is_dir() else path


def version(name: str) -> str | None:
    """The installed version; None in a bare checkout."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> dict[str, Any]:
    """The checkout's commit and whether files differ from it; None where there is no checkout or no git."""
    top = Path(__file__).resolve().parents[1]
    if not (top / ".git").exists():
        return {"commit": None, "dirty": None}
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=top, capture_output=True, text=True, check=True).stdout.strip()
        code = ["sae_bench_htopk", "variants", "metrics", "suites"]
        dirty = subprocess.run(["git", "status", "--porcelain", "--", *code], cwd=top, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}
    return {"commit": head, "dirty": bool(dirty)}
