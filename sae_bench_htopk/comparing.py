"""Measures the latents of SAEs themselves, for their records: how they fall off by rank, and whether other seeds have them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from sae_bench_htopk import plan, records
from sae_bench_htopk.calibrate import calibrate
from sae_bench_htopk.contract import Missing, Variant
from sae_bench_htopk.keys import Training, as_far
from sae_bench_htopk.markdown import words
from sae_bench_htopk.power_law import laws
from sae_bench_htopk.progress import note
from sae_bench_htopk.recording import Read
from sae_bench_htopk.seeds import Kin, merged, twins
from sae_bench_htopk.stored import Stored


@dataclass(frozen=True)
class Comparing:
    """What measuring latents wants: where SAEs are, and all of the suite's."""

    stored: Stored
    trainings: Sequence[Training]

    def latents(self, reads: Sequence[Read], x: Float[Tensor, "rows d"]) -> dict[str, dict[str, Any]]:
        """By train key, what is measured of the latents themselves: how they fall off by rank, and whether other seeds have them."""
        calibrated = {read.training.key: read.job.variant for read in reversed(reads) if read.job.variant.calibration.use}  # of several readers the first
        kin, found = Kin(x, self.stored.find, calibrated), dict[str, dict[str, Any]]()
        for training in {read.training.key: read.training for read in reads if not read.training.control}.values():
            found[training.key] = {"stability": kin.agreements(training, list(twins(training, as_far(training, self.trainings))))}
            if variant := calibrated.get(training.key):
                found[training.key] |= measured_laws(training, variant, len(x))
        return found

    def compare(self, items: Sequence[plan.Item], x: Float[Tensor, "rows d"]) -> None:
        """Completes the pairs of what is measured already with twins whose weights have come since; no reading is measured again.

        Where code has changed that measures latents, power laws and all pairs are made anew. `x` are the calibration rows.
        """
        kin = Kin(x, self.stored.find, {})
        for item in items:
            doing = ["measuring its latents"] * item.latents + [f"comparing with seed {words(other.seed for other in item.twins)}"] * bool(item.twins)
            note(f"{item.training.label()}: {', '.join(doing)}")
            record = plan.known_record(self.stored.root, self.stored.suite.name, item.training.key)
            assert record is not None
            own = self.laws_of(item.training, kin) if item.latents else {}
            found, before = kin.agreements(item.training, item.twins), record.get("stability", [])
            others = [] if item.latents else [pair for pair in before if pair["train_key"] not in {pair["train_key"] for pair in found}]
            records.write(self.stored.records, record | of_latents(record, own | {"stability": [*others, *found]}))

    def laws_of(self, training: Training, kin: Kin) -> dict[str, Any]:
        """How the latents of an SAE fall off, from its file; nothing if that cannot be read. Its twins are then compared with the same weights."""
        if isinstance(variant := self.stored.find(training), Missing):
            return {}
        kind = training.kind()
        calibrate(variant, [], kin.x, kind.native(training.config), kind.budget(training.config))
        kin.measured[training.key] = variant
        return measured_laws(training, variant, len(kin.x))


def measured_laws(training: Training, variant: Variant, rows: int) -> dict[str, Any]:
    """How the latents of a calibrated SAE fall off, and the key that says by what code that was measured."""
    return {"power_law": laws(variant.W_dec, variant.calibration.use, rows), "latents_key": training.latents_key}


def of_latents(before: records.Record, own: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says of latents: what was measured now, and what was known before of what could not be."""
    found = {name: before[name] for name in ("power_law", "stability", "latents_key") if name in before} | dict(own)
    return found | ({"stability": merged(before.get("stability", ()), own["stability"])} if "stability" in own else {})
