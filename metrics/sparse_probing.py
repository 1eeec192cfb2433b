"""Interpretability without a judge: how well single latents tell the exact syntax of the token that they stand on."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from sae_bench_htopk.contract import Batch, Column, Metric, Missing, Setting
from sae_bench_htopk.labels import Labels
from sae_bench_htopk.probing import Probe, Told, detectors, probes
from sae_bench_htopk.questions import Questions, questions_of
from sae_bench_htopk.sample import Sample, SampledCodes, sampled

ROWS = 12_000


@lru_cache(maxsize=2)
def channels(sample: Sample, questions: Questions) -> list[Probe]:
    """One channel of x for each label, chosen and fitted as a latent is: what needs no SAE, and is the same for all."""
    return probes(sample.rows.x.numpy()[questions.rows], questions, questions.tellable, 1)


class SparseProbing(Metric):
    """Sparse probing: how well one latent, or five, tell exact syntax (string, comment, called name, ...) in documents not fitted on."""

    columns = (
        Column("auc_1", "higher", "how well a probe on one latent tells a label of Python's syntax; chance is 0.5",
               formula="area under the ROC curve, mean over labels", source="sparse probing: Gurnee et al. 2023 (arXiv:2305.01610); labels: ours",
               pitfall="many labels are told by the token alone", paired=True),
        Column("auc_5", "higher", "the same with five latents", formula="as auc_1", source="as auc_1"),
        Column("balanced_1", "higher", "the probe's accuracy with both answers alike; chance is 0.5", formula="mean of both recalls, mean over labels",
               source="as auc_1"),
        Column("f1", "higher", "one latent's firing as the label, no fitting", formula="F1, mean over labels", source="ours",
               pitfall="what a random latent reaches grows with the label's frequency"),
        Column("baseline_channel", "neither", "auc_1 with one raw channel of x in place of a latent: what needs no SAE", formula="as auc_1",
               source="SAEBench (arXiv:2503.09532)"),
    )  # fmt: skip

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.codes, self.texts = SampledCodes.empty(ROWS), tuple[str, ...]()
        self.labels: Labels | None = None
        self.fitted: dict[str, Told] | Missing | None = None

    @classmethod
    def kept_bytes(cls, setting: Setting) -> tuple[int, int]:
        """The codes of the sample, of which up to twice as many rows are held until it is cut."""
        return 2 * ROWS * 8 * (setting.k or 0), 0

    def update(self, batch: Batch) -> None:
        """Keeps the codes of the rows that enter the sample; massive rows never do."""
        self.codes = sampled(self.codes, batch.text, batch.codes)
        self.texts, self.labels, self.fitted = tuple(batch.text.texts), batch.text.labels, None

    def told(self) -> dict[str, Told] | Missing:
        """The probes of each label, fitted once whatever weights are asked for, or the reason why there are none."""
        if self.fitted is None:
            self.fitted = self.fit()
        return self.fitted

    def fit(self) -> dict[str, Told] | Missing:
        """Chooses latents and fits probes for every label that has enough rows."""
        questions = questions_of(self.codes.sample, self.texts, self.labels)
        if isinstance(questions, Missing):
            return questions
        labels, codes = questions.tellable, self.codes.matrix(self.setting.latents)[questions.rows]
        one, five, channel = probes(codes, questions, labels, 1), probes(codes, questions, labels, 5), channels(self.codes.sample, questions)
        told = map(Told, one, five, channel, detectors(codes, questions, labels))
        return dict(zip((questions.labels[label].name for label in labels), told, strict=True))

    def result(self, weights: Float[Tensor, " documents"] | None) -> Mapping[str, float | Missing]:
        """Means over the labels that have rows of any weight on both sides; weights count scored rows and leave the fits as they are."""
        told = self.told()
        if isinstance(told, Missing):
            return {column.name: told for column in self.columns}
        counts = np.ones(self.setting.documents) if weights is None else weights.cpu().double().numpy()
        scores = [found for label in told.values() if (found := label.scores(counts))]
        if not scores:
            return {column.name: Missing("no label has rows of any weight on both sides") for column in self.columns}
        return {column.name: float(np.mean([found[column.name] for found in scores])) for column in self.columns}

    def details(self) -> Mapping[str, Any]:
        """Every label's numbers and the latents that tell it; and the labels that had too few rows."""
        told = self.told()
        if isinstance(told, Missing):
            return {}
        once = np.ones(self.setting.documents)
        source = questions_of(self.codes.sample, self.texts, self.labels)
        assert not isinstance(source, Missing)
        rows = {
            label.name: {**(found.scores(once) or {}), "latents": found.five.features, "firing_latent": found.firing.latent, "meaning": label.meaning}
            for label in source.labels
            if (found := told.get(label.name))
        }
        return {"labels": rows, "too_few_rows": [label.name for label in source.labels if label.name not in told]}
