"""Compares a trained SAE with its twins of earlier seeds, as far as their weights are here."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from jaxtyping import Float
from torch import Tensor

from sae_bench_htopk.calibrate import calibrate
from sae_bench_htopk.contract import Missing, Variant
from sae_bench_htopk.keys import Training
from sae_bench_htopk.stability import Weights, compare


def twins(training: Training, trainings: Sequence[Training]) -> Iterator[Training]:
    """Those that differ in nothing but their seed and stand before it in the suite: each pair belongs to the later one."""
    same = [training.variant, training.config, training.latents, training.recipe]
    for other in trainings:
        if other.key == training.key:
            return
        if [other.variant, other.config, other.latents, other.recipe] == same and not other.control:
            yield other


def agreements(
    training: Training, variant: Variant, trainings: Sequence[Training], x: Float[Tensor, "rows d"], load: Callable[[Training], Variant | Missing]
) -> list[dict[str, Any]]:
    """For each twin what a record holds of the two: its seed and key, and the numbers, or the reason why there are none.

    `variant` is calibrated; a twin, which `load` gives, or why it cannot, is calibrated on the same rows.
    """
    found: list[dict[str, Any]] = []
    for other in twins(training, trainings):
        pair = {"seed": other.seed, "train_key": other.key}
        if isinstance(twin := load(other), Missing):
            found.append(pair | {"missing": twin.reason})
            continue
        calibrate(twin, [], x, other.kind().native(other.config), other.kind().budget(other.config))
        said = compare(weights_of(variant), weights_of(twin))
        found.append(pair | ({"missing": said.reason} if isinstance(said, Missing) else asdict(said)))
    return found


def weights_of(variant: Variant) -> Weights:
    """What is compared of a calibrated SAE: latents are live that fired on calibration text, as it is read at its own budget."""
    return Weights(variant.W_enc.detach(), variant.W_dec.detach(), variant.calibration.use["frequency"] > 0)
