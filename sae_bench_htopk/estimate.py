"""What a plan takes, before anything runs: operations, memory, disk and time."""

import time
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import torch

from sae_bench_htopk import memory, plugins, rates
from sae_bench_htopk.asked import metric_of, on, texts
from sae_bench_htopk.contract import Reading
from sae_bench_htopk.evaluate import nested
from sae_bench_htopk.keys import Cell, Training, learners
from sae_bench_htopk.plan import Item, Pass, copies, reads
from sae_bench_htopk.suite import Suite

SPARSE_SHARE = 0.25  # of a matrix product's speed, reached by a training step as a whole; a rough figure from one profile of the quickstart
READ = 800.0  # operations per token, reading and d that decoding and metrics are worth; likewise
SHARED_RUNS = 3  # of the model after the hook point, for all readings of a pass: untouched, with zeros and with the mean
MODEL_SHARE = 0.5  # the same for the language model's forward pass


SNAPSHOTS = 2  # of a training that goes on, the last and the one before it


class Pace(NamedTuple):
    """How fast a device is: operations per second of a product of matrices, and what share of them a training step and the language model reach."""

    product: float
    step: float
    model: float

    def at_best(self) -> "Pace":
        """If every operation were done as fast as a product."""
        return Pace(self.product, 1.0, 1.0)


class Work(NamedTuple):
    """Operations of training, of SAEs and of the language model, and of evaluation, likewise."""

    learn: float
    harvest: float
    read: float
    model: float

    def seconds(self, pace: Pace) -> tuple[float, float]:
        """Of training and of evaluation."""
        train, evaluate = (own / pace.step + model / pace.model for own, model in ((self.learn, self.harvest), (self.read, self.model)))
        return train / pace.product, evaluate / pace.product


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


def work(suite: Suite, parts: Sequence[Pass]) -> Work:
    """Operations of some passes: every training pass harvests the language model's activations anew."""
    before, _ = model_flops(suite)
    groups = [trained for part in parts for group in part.trainings if (trained := learners(group))]
    learn = sum(step_flops(suite, training) * tokens_of(training) for group in groups for training in group)
    seen = sum(max(map(tokens_of, group)) for group in groups)
    return Work(learn, seen * before, *evaluating(suite, [part.items for part in parts]))


def tokens_of(training: Training) -> int:
    """The tokens that a training sees until it is kept."""
    return training.steps * training.recipe.batch


def pace(device: str) -> Pace:
    """A device's pace: that of the table for a GPU that it names, else measured here and now."""
    known = rates.MEASURED.get(device)
    return Pace(measured_speed(device) if known is None else known.product, SPARSE_SHARE, MODEL_SHARE)


def peaks(suite: Suite, parts: Sequence[Pass], device: str) -> dict[str, int]:
    """By device the most bytes that SAEs, Adam, activations and metrics take in any pass, beside the language model."""
    needs = [memory.wanted(suite, copies(part.items), reads(part.items), device) for part in parts]
    needs += [{device: memory.learning(suite, group)} for part in parts for group in part.trainings]
    return {place: max(need.get(place, 0) for need in needs) for need in needs for place in need}


def disk(suite: Suite, some: Iterable[Training]) -> int:
    """Bytes of the weights of some trainings."""
    return sum(memory.WEIGHTS * 2 * training.latents * suite.model.shape.d for training in some)


def snapshots(suite: Suite, parts: Sequence[Pass]) -> int:
    """The most bytes of snapshots that a training pass keeps on disk: the last two, each with weights and both moments of all that are in training."""
    return max((SNAPSHOTS * 3 * disk(suite, learners(group)) for part in parts for group in part.trainings), default=0)
