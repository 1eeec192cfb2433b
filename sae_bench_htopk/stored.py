"""The SAEs of a suite as they are on disk: built anew, or filled from their files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae_bench_htopk import plan, shortage, weights
from sae_bench_htopk.contract import Missing, Variant
from sae_bench_htopk.keys import Training
from sae_bench_htopk.progress import note
from sae_bench_htopk.seeds import Absent
from sae_bench_htopk.stream import Units
from sae_bench_htopk.suite import Suite


@dataclass(frozen=True)
class Stored:
    """Where a suite's weights and records lie, and the device that SAEs are built on."""

    suite: Suite
    root: Path
    device: str

    @property
    def folder(self) -> Path:
        """That of the weights."""
        return plan.weights_path(self.root, self.suite.name, "").parent

    @property
    def records(self) -> Path:
        """The folder of the records."""
        return plan.record_folder(self.root, self.suite.name)

    def path(self, training: Training) -> Path:
        """The file of a training's weights."""
        return plan.weights_path(self.root, self.suite.name, training.key)

    def build(self, kind: type[Variant], training: Training, config: Any = None) -> Variant:
        """A variant of the training's size and seed, on the device."""
        settings = training.config if config is None else config
        with shortage.named(training.label(), shortage.of_step(self.suite.train.batch, training.latents, None)):
            return kind(settings, self.suite.model.shape.d, training.latents, training.seed).to(self.device)

    def load(self, kind: type[Variant], training: Training, config: Any = None) -> tuple[Variant, Units, dict[str, Any]]:
        """(an SAE from its file, the stream's units, what is told of its training). Raises WeightsError."""
        variant = self.build(kind, training, config)
        return variant, *weights.load(self.path(training), variant)

    def find(self, training: Training) -> Variant | Missing:
        """The SAE of a training, if its weights are here and can be used."""
        if not self.path(training).is_file():
            return Absent(f"the weights of seed {training.seed} were not here")
        try:
            variant, _, story = self.load(training.kind(), training)
        except weights.WeightsError as error:
            note(f"{training.label()}: {error}")  # the record does without the path
            return Absent(f"the weights of seed {training.seed} could not be read")
        return Missing(f"seed {training.seed}: {reason}") if (reason := unusable(variant, story)) else variant

    def units(self, trainings: Sequence[Training]) -> Units | None:
        """The stream's units, from the first of these files that can be read."""
        for training in trainings:
            try:
                return self.load(training.kind(), training)[1]
            except weights.WeightsError:
                continue  # `find` says it
        return None


def unusable(variant: Variant, story: Mapping[str, Any]) -> str:
    """Why an SAE has no numbers at all; empty if it has."""
    bad = [name for name, parameter in variant.named_parameters() if not bool(parameter.isfinite().all())]
    return story.get("failed") or (f"{' and '.join(bad)} hold numbers that are not finite" if bad else "")
