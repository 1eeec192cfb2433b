"""What benchmarks of training share: the stream of a suite, learners of one seed on it, and their error on calibration text."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple

import torch
from torch import Tensor

from sae_bench_htopk import plugins, suite
from sae_bench_htopk.calibrate import calibrate
from sae_bench_htopk.contract import Reading
from sae_bench_htopk.run import Runner
from sae_bench_htopk.stream import Units
from sae_bench_htopk.trainer import Learner, Recipe, train


class Case(NamedTuple):
    """One SAE to train: a variant with its settings, under a recipe."""

    variant: str
    config: dict[str, object]
    recipe: Recipe
    seed: int


class Halves(NamedTuple):
    """Calibration rows: one half to find thresholds on, the other to measure."""

    first: Tensor
    second: Tensor


class Bed:
    """The text and language model of a suite, its calibration rows, and its training stream, as often as wanted."""

    def __init__(self, name: str, tokens: int) -> None:
        """Loads the model; every stream gives `tokens` training tokens."""
        chosen = suite.load(name)
        self.suite = replace(chosen, train=replace(chosen.train, tokens=tokens))
        self.runner = Runner(self.suite, Path(mkdtemp()), "cpu")
        self.runner.load_model()

    def train(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Learner, Halves]]:
        """Trains all cases in one pass, and yields each with the two halves of the calibration text."""
        recipe, stream = self.suite.train, self.runner.training.stream(0, None)
        learners = [self.learner(case, stream.units) for case in cases]
        for _ in train(learners, stream.batches(recipe.batch)):
            pass
        if failed := [learner.failed for learner in learners if learner.failed]:
            raise FloatingPointError("; ".join(failed))
        halves = Halves(*self.runner.measuring.calibration_rows(stream.units).tensor_split(2))
        yield from ((case, learner, halves) for case, learner in zip(cases, learners, strict=True))

    def units(self) -> Units:
        """Those of the training stream."""
        return self.runner.training.stream(0, None).units

    def learner(self, case: Case, units: Units) -> Learner:
        """One SAE before its first step."""
        kind = plugins.variant(case.variant)
        return Learner(kind(kind.Config(**case.config), self.suite.model.shape.d, case.recipe.latents, case.seed), case.recipe, units.statistics)


@torch.no_grad()
def error(learner: Learner, halves: Halves, k: int | None = None) -> float:
    """Squared error over squared distance from the mean at k (None: the trained one) by the native selector, on the second half.

    Thresholds are found on the first.
    """
    variant = learner.variant
    native, budget = variant.native(variant.config), variant.budget(variant.config)
    calibrate(variant, [], halves.first, native, budget)
    reading = Reading(k or variant.calibration.budget, select=native)
    calibrate(variant, [reading], halves.first, native, budget)
    left = sum(float((part - variant.decode(variant.encode(part, reading))).double().square().sum()) for part in halves.second.split(2048))
    return left / spread(halves.second)


@torch.no_grad()
def objective(learner: Learner, halves: Halves) -> float:
    """What training lowers, over the same variance, on the second half; takes the variant's own step, without moving its weights."""
    return sum(float(learner.variant.step(part).loss) * len(part) for part in halves.second.split(2048)) / spread(halves.second)


def spread(x: Tensor) -> float:
    """The sum of squared distances from the mean."""
    return float((x - x.mean(0)).double().square().sum())
