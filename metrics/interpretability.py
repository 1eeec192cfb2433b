"""Interpretability without a judge: how well single latents tell the exact syntax of the token that they stand on."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import sparse
from torch import Tensor

from sae_bench_htopk.contract import Batch, Column, Metric, Missing, Setting
from sae_bench_htopk.labels import LABELS, MEANINGS, token_labels
from sae_bench_htopk.probing import Probe, Questions, Sample, Told, code_matrix, detectors, grow, parts, probes

ROWS = 12_000
LEAST = 30  # rows with a label, and rows without it, in each part of the documents


@lru_cache(maxsize=2)
def asked(sample: Sample, texts: tuple[str, ...]) -> Questions:
    """The labels of the sampled rows that have any: those in documents that are Python, whose place in the document is known."""
    rows = sample.rows
    carries, known = np.zeros((len(rows.key), len(LABELS)), dtype=bool), np.zeros(len(rows.key), dtype=bool)
    for document in np.unique(rows.document):
        here = np.flatnonzero((rows.document == document) & (rows.span[:, 0] < rows.span[:, 1]))
        found = token_labels(texts[document], rows.span[here])
        if found is not None:
            carries[here], known[here] = found, True
    return Questions(np.flatnonzero(known), carries[known], rows.document[known], parts(texts))


@lru_cache(maxsize=2)
def channels(sample: Sample, questions: Questions) -> list[Probe]:
    """One channel of x for each label, chosen and fitted as a latent is: what needs no SAE, and is the same for all."""
    return probes(sample.rows.x.numpy()[questions.rows], questions, tellable(questions), 1)


def tellable(questions: Questions) -> list[int]:
    """The labels that have enough rows on both sides in each part."""
    return [label for label, rows in enumerate(questions.fewest) if rows >= LEAST]


class Interpretability(Metric):
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
        self.sample = Sample.empty(ROWS)
        self.codes: list[sparse.csr_matrix] = []
        self.texts: Sequence[str] = ()
        self.fitted: dict[str, Told] | Missing | None = None

    @classmethod
    def kept_bytes(cls, setting: Setting) -> tuple[int, int]:
        """The codes of the sample, of which up to twice as many rows are held until it is cut."""
        return 2 * ROWS * 8 * (setting.k or 0), 0

    def update(self, batch: Batch) -> None:
        """Keeps the codes of the rows that enter the sample; massive rows never do."""
        text = batch.text
        self.sample, entering, kept = grow(self.sample, text.x, text.document, text.position, text.span, text.massive)
        self.codes.append(code_matrix(batch.codes, entering, self.setting.latents))
        if kept is not None:
            self.codes = [sparse.vstack(self.codes, format="csr")[kept]]
        self.texts, self.fitted = text.texts, None

    def told(self) -> dict[str, Told] | Missing:
        """The probes of each label, fitted once whatever weights are asked for, or the reason why there are none."""
        if self.fitted is None:
            self.fitted = self.fit()
        return self.fitted

    def fit(self) -> dict[str, Told] | Missing:
        """Chooses latents and fits probes for every label that has enough rows."""
        if not self.codes or not len(self.sample.order):
            return Missing("no held-out text")
        questions = asked(self.sample, tuple(self.texts))
        labels = tellable(questions)
        if not len(questions.rows):
            return Missing("no held-out document is Python source whose tokens have a known place in it")
        if not labels:
            return Missing(f"no label is on and off in at least {LEAST} sampled rows of each third of the {self.setting.documents} documents")
        codes = sparse.vstack(self.codes, format="csr")[self.sample.order][questions.rows]
        one, five, channel = probes(codes, questions, labels, 1), probes(codes, questions, labels, 5), channels(self.sample, questions)
        told = map(Told, one, five, channel, detectors(codes, questions, labels))
        return dict(zip((LABELS[label] for label in labels), told, strict=True))

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
        rows = {
            name: {**(label.scores(once) or {}), "latents": label.five.features, "firing_latent": label.firing.latent, "meaning": MEANINGS[name]}
            for name, label in told.items()
        }
        return {"labels": rows, "too_few_rows": [name for name in LABELS if name not in told]}
