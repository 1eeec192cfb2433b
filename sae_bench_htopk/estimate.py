"""What a plan takes, before anything runs: operations, memory, disk and time."""

import functools
import math
import time
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import torch

from sae_bench_htopk import memory, rates
from sae_bench_htopk.asked import on, texts
from sae_bench_htopk.contract import Reading
from sae_bench_htopk.evaluate import nested
from sae_bench_htopk.keys import Cell, Training, learners
from sae_bench_htopk.plan import Item, Pass, copies, reads
from sae_bench_htopk.suite import Suite

SPARSE_SHARE = 0.25  # of a matrix product's speed, reached by a training step as a whole; a rough figure from one profile of the quickstart
READ = 800.0  # operations per token, reading and d that decoding and metrics are worth; likewise
RESULTS = 6e10  # operations of a product that take as long as the results of a reading's metrics, intervals with them; from the quickstart's records
SHARED_RUNS = 3  # of the model after the hook point, for all readings of a pass: untouched, with zeros and with the mean
MODEL_SHARE = 0.5  # the same for the language model's forward pass
ADAM = 24  # bytes of a weight that a step cannot but move: the weight and two moments, float32, read and written
SCORES = 8  # and of a score: written by the product, read by the choice
SNAPSHOTS = 2  # of a training that goes on, the last and the one before it


class Pace(NamedTuple):
    """Operations per second that a device reaches, and bytes that it moves beside them; infinitely many where the time is in the operations' rate."""

    sae: float  # in float32
    model: float  # the language model's layers, in its own dtype
    head: float  # from its last hidden states to logits, in float32
    memory: float = math.inf
    host: float = math.inf  # of products in float32 on the host, where metrics work out their results; infinitely many where it is not here


class Work(NamedTuple):
    """Operations of training, by SAEs and by the language model, and bytes that Adam and scores move; and of evaluation, with the head apart."""

    learn: float
    moved: float
    harvest: float
    read: float
    model: float
    head: float
    results: float  # not operations, but what as many take

    def seconds(self, pace: Pace) -> tuple[float, float]:
        """Of training and of evaluation: one thing after the other."""
        train = self.learn / pace.sae + self.moved / pace.memory + self.harvest / pace.model
        return train, self.read / pace.sae + self.model / pace.model + self.head / pace.head + self.results / pace.host

    def training(self) -> float:
        """Operations."""
        return self.learn + self.harvest

    def evaluation(self) -> float:
        """Operations."""
        return self.read + self.model + self.head


def step_flops(suite: Suite, training: Training) -> float:
    """Floating-point operations of one training token: a dense encoder, and sparse work on k codes forward and back, or a dense step."""
    d, budget = suite.model.shape.d, training.kind().budget(training.config)
    return 12.0 * d * training.latents if budget is None else 2.0 * d * training.latents + 14.0 * d * budget


def step_bytes(suite: Suite, training: Training) -> float:
    """Bytes that one step moves through memory at the least; rows of codes are left out, since caches may hold them."""
    return ADAM * 2.0 * suite.model.shape.d * training.latents + SCORES * training.recipe.batch * training.latents


def model_flops(suite: Suite) -> tuple[float, float, float]:
    """Operations per token of the language model's layers up to the hook point, of those after it, and of its head; attention's own products are left out."""
    shape, hook = suite.model.shape, suite.model.hook
    layer = 2.0 * shape.of_layer()
    return layer * (hook.layer + 1), layer * (shape.layers - hook.layer - 1), 2.0 * shape.d * shape.vocab


@functools.cache
def measured_speed(device: str, dtype: str = "float32") -> float:
    """Operations per second of a matrix product on this device, the best of a second; once a process, for whose whole time it has to stand."""
    size = 1024 if device == "cpu" else 4096  # a GPU is busy with starting the smaller one
    a = torch.randn(size, size, device=device).to(getattr(torch, dtype))
    best = 0.0
    deadline = time.perf_counter() + 1.0
    while time.perf_counter() < deadline:
        clock = time.perf_counter()
        (a @ a).sum().item()
        best = max(best, 2 * size**3 / (time.perf_counter() - clock))
    return best


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


def evaluating(suite: Suite, parts: Sequence[Sequence[Item]]) -> tuple[float, float, float]:
    """Operations of all passes: of SAEs and metrics, of the language model, whose own part each pass does anew, of its head. Comparing seeds is left out."""
    calibration, d = suite.text.calibration.tokens, suite.model.shape.d
    before, after, end = model_flops(suite)
    own = model = head = 0.0
    for part in parts:
        if not (asked := reads(part)):
            continue
        own += sum(2.0 * d * calibration * calibrations(training, cell, some) for training, cell, some in asked)
        model += calibration * before
        for text in texts(name for _, _, some in asked for names in some.values() for name in names):
            there, tokens = [(training, on(text, some)) for training, _, some in asked], memory.length_of(suite, text)[1]
            own += sum(2.0 * d * tokens * encodings(some, training.latents) + READ * d * tokens * len(some) for training, some in there)
            spliced = sum(any(map(memory.splices, names)) for _, some in there for names in some.values())
            runs = spliced + SHARED_RUNS if spliced else 0
            model, head = model + tokens * (before + after * runs), head + tokens * end * runs
    return own, model, head


def work(suite: Suite, parts: Sequence[Pass]) -> Work:
    """Operations of some passes: every training pass harvests the language model's activations anew."""
    before = model_flops(suite)[0]
    groups = [trained for part in parts for group in part.trainings if (trained := learners(group))]
    learn = sum(step_flops(suite, training) * tokens_of(training) for group in groups for training in group)
    moved = sum(step_bytes(suite, training) * training.steps for group in groups for training in group)
    seen = sum(max(map(tokens_of, group)) for group in groups)
    readings = sum(len(some) for part in parts for *_, some in reads(part.items))
    return Work(learn, moved, seen * before, *evaluating(suite, [part.items for part in parts]), RESULTS * readings)


def tokens_of(training: Training) -> int:
    """The tokens that a training sees until it is kept."""
    return training.steps * training.recipe.batch


def pace(device: str, dtype: str) -> Pace:
    """A device's pace with a language model in `dtype`: at best, for a GPU that the table names; else shares of what is measured here and now."""
    if known := rates.MEASURED.get(device):
        return Pace(known.float32, known.bfloat16 if dtype == "bfloat16" else known.float32, known.float32, known.copy)
    product = measured_speed(device)
    model = product if dtype == "float32" else measured_speed(device, dtype)
    host = product if device == "cpu" else measured_speed("cpu")
    return Pace(product * SPARSE_SHARE, model * MODEL_SHARE, product * MODEL_SHARE, host=host)


def peaks(suite: Suite, parts: Sequence[Pass], device: str) -> dict[str, int]:
    """By device the most bytes that SAEs, Adam, activations, metrics and predictions take in any pass, beside the language model's weights."""
    needs = [memory.wanted(suite, copies(part.items), reads(part.items), device) for part in parts]
    groups = [group for part in parts for group in part.trainings]
    needs += [{device: memory.learning(suite, group, device)} for group in groups]
    pinned = memory.blocks(suite, device) if suite.blocks.on == "pinned" else 0
    needs += [{"cpu": memory.snapshot(suite, group) + pinned} for group in groups if device != "cpu"]
    return {place: max(need.get(place, 0) for need in needs) for need in needs for place in need}


def disk(suite: Suite, some: Iterable[Training]) -> int:
    """Bytes of the weights of some trainings."""
    return sum(memory.WEIGHTS * 2 * training.latents * suite.model.shape.d for training in some)


def snapshots(suite: Suite, parts: Sequence[Pass]) -> int:
    """The most bytes of snapshots that a training pass keeps on disk: the last two, each with weights and both moments of all that are in training."""
    return max((SNAPSHOTS * 3 * disk(suite, learners(group)) for part in parts for group in part.trainings), default=0)
