"""What a run would do and why, before anything runs: done, to be evaluated or to be trained; tokens, memory, disk and time."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from tabulate import tabulate

from sae_bench_htopk import plugins, records
from sae_bench_htopk.contract import Reading
from sae_bench_htopk.keys import Cell, Training, code_of_variant, digest
from sae_bench_htopk.suite import Suite

SPARSE_SHARE = 0.25  # of a matrix product's speed, reached by a training step as a whole; a rough figure from one profile of the quickstart
READ = 800.0  # operations per token, reading and d that decoding and metrics are worth; likewise
MODEL_SHARE = 0.5  # the same for the language model's forward pass


@dataclass(frozen=True)
class Item:
    """One training of the suite: what there is to do, why, and which rows are missing."""

    training: Training
    todo: Literal["done", "evaluate", "train"]
    why: str
    missing: list[tuple[Cell, list[Reading]]]


def weights_path(root: Path, suite: str, key: str) -> Path:
    """Where the weights of a training are kept."""
    return root / "runs" / suite / f"{key}.safetensors"


def record_folder(root: Path, suite: str) -> Path:
    """Where a suite's records are."""
    return root / "leaderboard" / suite


def set_aside(root: Path, suite: str) -> Path:
    """Where records go that are no part of the suite any more."""
    return root / "runs" / suite / "set_aside"


def items(suite: Suite, trainings: list[Training], root: Path) -> list[Item]:
    """Compares what the suite comes to with the records and weights that are there. Raises RecordError on a damaged record."""
    return [item(suite, training, root) for training in trainings]


def record_path(root: Path, suite: str, key: str) -> Path | None:
    """A training's record: among the suite's, or among those that an earlier form of the suite set aside."""
    folders = (record_folder(root, suite), set_aside(root, suite))
    return next((path for folder in folders if (path := folder / f"{key}.json").is_file()), None)


def known_record(root: Path, suite: str, key: str) -> records.Record | None:
    """A training's record; None if there is none, or one of an earlier schema, which is made again."""
    path = record_path(root, suite, key)
    try:
        return records.read(path) if path else None
    except records.OldRecordError:
        return None


def item(suite: Suite, training: Training, root: Path) -> Item:
    """What there is to do for one training."""
    record = known_record(root, suite.name, training.key)
    have = {row["read_key"] for row in record["rows"]} if record else set()
    every = [(cell, list(cell.keys)) for cell in training.cells]
    missing = [(cell, [reading for reading in readings if cell.keys[reading] not in have]) for cell, readings in every]
    missing = [(cell, readings) for cell, readings in missing if readings]
    count = sum(len(readings) for _, readings in missing)
    if not count:
        return Item(training, "done", "every reading is in its record", [])
    if weights_path(root, suite.name, training.key).is_file():
        return Item(training, "evaluate", f"weights are there, {count} readings are not" if have else "weights are there, no record is", missing)
    known = (known_record(root, suite.name, path.stem) for path in record_folder(root, suite.name).glob("*.json"))
    others = any(other["sae"]["variant"] == training.variant for other in known if other)
    why = "its weights are gone and readings are missing" if have else "its settings, code, model or text differ from every record's" if others else "no record"
    return Item(training, "train", why, every)  # new weights may differ in their last bits, so no old row may stay beside new ones


def changed_variants(root: Path) -> dict[str, str]:
    """A note for each variant whose code is not that of all of its records, which pages do not say: variant -> note."""
    found: dict[str, set[str]] = {}
    for path in sorted((root / "leaderboard").glob("*/*.json")):
        record = known_record(root, path.parent.name, path.stem) or {}
        sae, code = record.get("sae", {}), record.get("provenance", {}).get("variant_code")
        if code and not sae["control"] and sae["variant"] in plugins.names("variants") and code != digest(code_of_variant(sae["variant"], False)):
            found.setdefault(sae["variant"], set()).add(path.parent.name)
    return {variant: f" [changed since its records in {', '.join(sorted(suites))}]" for variant, suites in found.items()}


def step_flops(suite: Suite, training: Training) -> float:
    """Floating-point operations of one training token: a dense encoder, and sparse work on k codes forward and back, or a dense step."""
    d, budget = suite.model.shape.d, training.kind().budget(training.config)
    return 12.0 * d * training.latents if budget is None else 2.0 * d * training.latents + 14.0 * d * budget


def model_flops(suite: Suite) -> tuple[float, float]:
    """Operations per token of the language model up to the hook point, and after it; 12 d^2 weights a layer is the usual shape."""
    shape, hook = suite.model.shape, suite.model.hook
    layer = 24.0 * shape.d**2
    return layer * (hook.layer + 1), layer * (shape.layers - hook.layer - 1) + 2 * shape.d * shape.vocab


def measured_speed(device: str) -> float:
    """Operations per second of a float32 matrix product on this device, in a fifth of a second."""
    a = torch.randn(1024, 1024, device=device)
    best = 0.0
    deadline = time.perf_counter() + 0.2
    while time.perf_counter() < deadline:
        clock = time.perf_counter()
        (a @ a).sum().item()
        best = max(best, 2 * 1024**3 / (time.perf_counter() - clock))
    return best


def splices(metric: str) -> bool:
    """Whether a metric runs the rest of the language model at each reading, as its source says."""
    return "attr='spliced'" in plugins.code_of(plugins.source_file("metrics", metric))


def seconds(suite: Suite, todo: list[Item], device: str) -> tuple[float, float]:
    """Estimated seconds of training and of evaluation."""
    speed = measured_speed(device)
    before, after = model_flops(suite)
    trained = [each.training for each in todo if each.todo == "train" and each.training.kind().trained]
    passes = len({training.seed for training in trained})
    learn = sum(step_flops(suite, training) for training in trained) / SPARSE_SHARE
    train = suite.train.tokens * (learn + passes * before / MODEL_SHARE) / speed
    rows = [(cell, reading) for each in todo for cell, readings in each.missing for reading in readings]
    spliced = sum(any(map(splices, cell.metrics[reading])) for cell, reading in rows)
    encode = sum(2.0 * suite.model.shape.d * each.training.latents * len(each.training.cells) for each in todo if each.missing)
    sparse = encode + READ * suite.model.shape.d * len(rows)
    evaluate = suite.text.held_out.tokens * (sparse / SPARSE_SHARE + (before + spliced * after) / MODEL_SHARE) / speed
    return train, evaluate


def spoken(seconds: float) -> str:
    """Minutes, hours or days, whichever fits."""
    for unit, size in (("days", 86_400), ("hours", 3600)):
        if seconds > 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds / 60:.1f} min"


def table(suite: Suite, all_items: list[Item], device: str, notes: list[str]) -> str:
    """The plan as text."""
    rows = [(each.training.label(), each.todo, sum(len(readings) for _, readings in each.missing), each.why) for each in all_items]
    lines = [f"{suite.name}: {suite.title}", "", tabulate(rows, headers=["SAE", "to do", "readings", "why"]), ""]
    train = [each.training for each in all_items if each.todo == "train"]
    d = suite.model.shape.d
    weights = sum(2 * training.latents * d for training in train)
    largest = {seed: sum(2 * t.latents * d for t in train if t.seed == seed) for seed in suite.seeds}
    learning = 16 * max(largest.values(), default=0) + 4 * d * (2 * suite.train.block + 2**17) + 4 * suite.train.batch * suite.train.latents
    copies = {seed: sum(2 * t.latents * d * len(t.cells) for t in (e.training for e in all_items if e.missing) if t.seed == seed) for seed in suite.seeds}
    measuring = 4 * max(copies.values(), default=0) + 8 * d * suite.text.calibration.tokens  # calibration rows, twice while they are joined
    memory = max(learning, measuring if any(copies.values()) else 0)
    trained = sum(training.kind().trained for training in train)
    training_time, evaluation_time = seconds(suite, all_items, device)
    lines += [
        f"training: {trained} SAEs on {suite.train.tokens:,} tokens each, one pass over the text per seed ({len({t.seed for t in train})})",
        f"held out: {suite.text.held_out.tokens:,} tokens; calibration: {suite.text.calibration.tokens:,} tokens",
        f"memory:   about {memory / 2**30:.2f} GiB for SAEs, Adam and activations, beside the language model and what metrics keep",
        f"disk:     about {4 * weights / 2**20:,.0f} MiB of weights",
        f"time:     about {spoken(training_time)} of training, {spoken(evaluation_time)} of evaluation on this {device}, beside metrics' own work",
        *(f"note:     {line}" for line in notes),
    ]
    return "\n".join(lines)
