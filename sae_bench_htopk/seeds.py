"""Compares a trained SAE with its twins of earlier seeds, as far as their weights are here."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

from jaxtyping import Bool, Float
from torch import Tensor

from sae_bench_htopk.calibrate import calibrate
from sae_bench_htopk.contract import Missing, Variant
from sae_bench_htopk.keys import Training
from sae_bench_htopk.stability import Weights, compare

Pair: TypeAlias = Mapping[str, Any]  # what a record holds of two seeds: the other one's seed and key, and the numbers or why there are none


class Absent(Missing):
    """Why weights are not here now: another time they may be, and then there is something to compare."""


def twins(training: Training, trainings: Sequence[Training]) -> Iterator[Training]:
    """Those that differ in nothing but their seed and stand before it in the suite: each pair belongs to the later one."""
    same = [training.variant, training.config, training.latents, training.recipe]
    for other in trainings:
        if other.key == training.key or training.control:
            return
        if [other.variant, other.config, other.latents, other.recipe] == same and not other.control:
            yield other


def known(pairs: Sequence[Pair]) -> dict[str, Pair]:
    """By train key the pairs that need not be looked at again: those with numbers, and those whose weights can never have any."""
    return {pair["train_key"]: pair for pair in pairs if not pair.get("absent")}


def merged(before: Sequence[Pair], found: Sequence[Pair]) -> list[Pair]:
    """What was found now, by seed; where weights were absent, what was known of the same pair before."""
    earlier = known(before)
    pairs = [earlier.get(pair["train_key"], pair) if pair.get("absent") else pair for pair in found]
    return sorted(pairs, key=lambda pair: (pair["seed"], pair["train_key"]))


class Kin:
    """All trainings of a suite, each with the weights that are compared: of those being measured, or from its file; calibrated once each."""

    def __init__(self, x: Float[Tensor, "rows d"], load: Callable[[Training], Variant | Missing], measured: dict[str, Variant]) -> None:
        """`x` are the calibration rows, `measured` the SAEs that are calibrated on them already, by train key; `load` gives any other."""
        self.x, self.load, self.measured = x, load, measured
        self.live: dict[str, Bool[Tensor, " latents"]] = {}  # of those that were loaded: their weights are not kept

    def weights(self, training: Training) -> Weights | Missing:
        """What is compared of one: latents are live that fired on calibration text, as it is read at its own budget."""
        variant = self.measured[training.key] if training.key in self.measured else self.load(training)
        if isinstance(variant, Missing):
            return variant
        if training.key not in self.live:
            if training.key not in self.measured:
                kind = training.kind()
                calibrate(variant, [], self.x, kind.native(training.config), kind.budget(training.config))
            self.live[training.key] = variant.calibration.use["frequency"] > 0
        return Weights(variant.W_enc.detach(), variant.W_dec.detach(), self.live[training.key])

    def agreements(self, training: Training, others: Sequence[Training]) -> list[Pair]:
        """For each other one what a record holds of the two. A pair that is `absent` may be compared another time."""
        mine = self.weights(training) if others else Missing("")
        return [{"seed": other.seed, "train_key": other.key} | self.pair(mine, other) for other in others]

    def pair(self, mine: Weights | Missing, other: Training) -> dict[str, Any]:
        """The numbers, or the reason why there are none."""
        theirs = self.weights(other) if not isinstance(mine, Missing) else mine
        said = theirs if isinstance(theirs, Missing) else mine if isinstance(mine, Missing) else compare(mine, theirs)
        if isinstance(said, Missing):
            return {"missing": said.reason} | ({"absent": True} if isinstance(said, Absent) else {})
        return asdict(said)
