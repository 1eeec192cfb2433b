"""What a plan takes, before anything runs: operations, memory, disk and time; and the plan as text."""

import time
from collections.abc import Collection, Sequence

import torch
from tabulate import tabulate

from sae_bench_htopk import memory, plugins
from sae_bench_htopk.asked import metric_of, on, texts
from sae_bench_htopk.contract import Reading
from sae_bench_htopk.evaluate import nested
from sae_bench_htopk.keys import Cell, Training
from sae_bench_htopk.plan import Item, copies, passes, reads
from sae_bench_htopk.suite import Suite

SPARSE_SHARE = 0.25  # of a matrix product's speed, reached by a training step as a whole; a rough figure from one profile of the quickstart
READ = 800.0  # operations per token, reading and d that decoding and metrics are worth; likewise
SHARED_RUNS = 3  # of the model after the hook point, for all readings of a pass: untouched, with zeros and with the mean
MODEL_SHARE = 0.5  # the same for the language model's forward pass


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
    return "attr='spliced'" in plugins.code_of(plugins.source_file("metrics", metric_of(metric)))


def encodings(readings: Collection[Reading], latents: int) -> int:
    """Latents whose scores are computed for one row of held-out text: each nested group is encoded once, cuts after the choice from the whole dictionary."""
    widest = (group[-1] for group in nested(readings))
    sources = {Reading(last.k) if last.select == "row" and last.cut == "after" else last for last in widest}
    return sum(min(source.latents or latents, latents) if source.cut == "before" else latents for source in sources)


def calibrations(training: Training, cell: Cell, readings: Collection[Reading]) -> int:
    """The same for one row of calibration text: a histogram of the whole dictionary, one of each part that is read by threshold, and the use of latents."""
    measured = training.kind().budget(training.config) is None
    by_threshold = [reading for reading in readings if reading.select == "threshold"]
    inside = {(reading.latents, reading.rank) for reading in by_threshold if reading.latents is not None and reading.cut == "before"}
    whole = measured or cell.native == "threshold" or any(reading.latents is None or reading.cut == "after" for reading in by_threshold)
    return (1 + whole) * training.latents + sum(min(latents, training.latents) for latents, _ in inside)


def evaluating(suite: Suite, parts: Sequence[Sequence[Item]]) -> tuple[float, float]:
    """Operations of all passes: of SAEs and metrics, and of the language model, whose own part every pass does anew. Comparing seeds is left out."""
    calibration, d = suite.text.calibration.tokens, suite.model.shape.d
    before, after = model_flops(suite)
    own = model = 0.0
    for part in parts:
        if not (asked := reads(part)):
            continue
        own += sum(2.0 * d * calibration * calibrations(training, cell, some) for training, cell, some in asked)
        model += calibration * before
        for text in texts(name for _, _, some in asked for names in some.values() for name in names):
            there, tokens = [(training, on(text, some)) for training, _, some in asked], memory.length_of(suite, text)[1]
            own += sum(2.0 * d * tokens * encodings(some, training.latents) + READ * d * tokens * len(some) for training, some in there)
            spliced = sum(any(map(splices, names)) for _, some in there for names in some.values())
            model += tokens * before + tokens * after * (spliced + SHARED_RUNS if spliced else 0)
    return own, model


def seconds(suite: Suite, todo: list[Item], parts: Sequence[Sequence[Item]], device: str) -> tuple[float, float]:
    """Estimated seconds of training and of evaluation."""
    speed = measured_speed(device)
    before, _ = model_flops(suite)
    trained = [each.training for each in todo if each.todo == "train" and each.training.kind().trained]
    passes = len({training.seed for training in trained})
    learn = sum(step_flops(suite, training) for training in trained) / SPARSE_SHARE
    train = suite.train.tokens * (learn + passes * before / MODEL_SHARE) / speed
    own, model = evaluating(suite, parts)
    return train, (own / SPARSE_SHARE + model / MODEL_SHARE) / speed


def spoken(seconds: float) -> str:
    """Minutes, hours or days, whichever fits."""
    for unit, size in (("days", 86_400), ("hours", 3600)):
        if seconds > 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds / 60:.1f} min"


def learned(suite: Suite, part: Sequence[Item]) -> int:
    """Bytes to train those of a pass that are to be trained."""
    return memory.learning(suite, [each.training for each in part if each.todo == "train"])


def snapshots(suite: Suite, parts: Sequence[Sequence[Item]]) -> str:
    """What the snapshots of a pass take while it trains: two of them, each of weights and Adam's two moments in float32; nothing where nothing is trained."""
    trained = [[each.training for each in part if each.todo == "train" and each.training.kind().trained] for part in parts]
    most = max((sum(2 * training.latents * suite.model.shape.d for training in some) for some in trained), default=0)
    return f", and up to {2 * 3 * 4 * most / 2**20:,.0f} MiB of snapshots while a seed trains for longer than {suite.snapshot.minutes:g} min" if most else ""


def together(suite: Suite, all_items: Sequence[Item], parts: list[list[Item]], device: str) -> list[str]:
    """A line on whether seeds are measured together; none where there are not several, or where training goes seed by seed anyway."""
    todo = [each for each in all_items if each.todo != "done"]
    if len({each.training.seed for each in todo}) < 2 or any(each.todo == "train" for each in todo):
        return []
    asked = [room(place, size) for place, size in memory.wanted(suite, copies(todo), reads(todo), device).items()]
    return [f"passes:   {'one for all seeds' if len(parts) == 1 else 'seed after seed'}, since all together want about {'; and '.join(asked)}"]


def room(device: str, size: int) -> str:
    """What is wanted of a device's memory, and what there is."""
    there = memory.free(device)
    free = "how much is free is not known" if there is None else f"{there / 2**30:.2f} GiB are free, of which they may take {memory.SHARE:.0%}"
    return f"{size / 2**30:.2f} GiB on the {device}; {free}"


def table(suite: Suite, all_items: list[Item], device: str, notes: list[str]) -> str:
    """The plan as text."""
    rows = [(each.training.label(), each.todo, sum(len(readings) for _, readings in each.missing), each.why) for each in all_items]
    lines = [f"{suite.name}: {suite.title}", "", tabulate(rows, headers=["SAE", "to do", "readings", "why"]), ""]
    train = [each.training for each in all_items if each.todo == "train"]
    weights = sum(2 * training.latents * suite.model.shape.d for training in train)
    parts = passes(suite, all_items, device)
    needs = [memory.wanted(suite, copies(part), reads(part), device) for part in parts]
    needs += [{device: learned(suite, part)} for part in parts]
    most = {place: max(need.get(place, 0) for need in needs) for need in needs for place in need}
    held = " and ".join(f"{size / 2**30:.2f} GiB on the {place}" for place, size in most.items()) or "0 GiB"
    trained = sum(training.kind().trained for training in train)
    training_time, evaluation_time = seconds(suite, all_items, parts, device)
    lines += [
        f"training: {trained} SAEs on {suite.train.tokens:,} tokens each, one pass over the text per seed ({len({t.seed for t in train})})",
        f"held out: {suite.text.held_out.tokens:,} tokens; calibration: {suite.text.calibration.tokens:,} tokens",
        *(
            f"labelled: {name}, at most {memory.length_of(suite, name)[1]:,} tokens of {memory.length_of(suite, name)[0]:,} documents"
            for name in suite.labelled
        ),
        *together(suite, all_items, parts, device),
        f"memory:   about {held} for SAEs, Adam, activations and what metrics keep, beside the language model",
        f"disk:     about {4 * weights / 2**20:,.0f} MiB of weights{snapshots(suite, parts)}",
        f"time:     about {spoken(training_time)} of training, {spoken(evaluation_time)} of evaluation on this {device}, beside metrics' own work",
        *(f"note:     {line}" for line in notes),
    ]
    return "\n".join(lines)
