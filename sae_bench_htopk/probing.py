"""Which features of a row tell a label on some documents, and how well they do on others: searches, probes and their scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sae_bench_htopk.questions import CHOOSE, FIT, SCORE, Questions

Features: TypeAlias = sparse.csr_matrix | sparse.csc_matrix | np.ndarray  # [rows, features]


def contrast(features: Features, on: Bool[np.ndarray, "rows labels"], off: Bool[np.ndarray, "rows labels"]) -> Float[np.ndarray, "labels features"]:
    """|mean of each feature over a label's rows - its mean over the rows without it|."""
    means = ((features.T @ side.astype(np.float64)).T / side.sum(0)[:, None] for side in (on, off))
    difference: np.ndarray = np.abs(next(means) - next(means))
    return difference


def firing_f1(codes: sparse.csr_matrix, on: Bool[np.ndarray, "rows labels"], off: Bool[np.ndarray, "rows labels"]) -> Float[np.ndarray, "labels latents"]:
    """F1 of 'the latent fires' as a prediction of each label."""
    fires = codes > 0
    hits, wrong = ((fires.T @ side.astype(np.float64)).T for side in (on, off))
    f1: np.ndarray = 2 * hits / (hits + wrong + on.sum(0)[:, None])
    return f1


def strongest(scores: Float[np.ndarray, "labels features"], count: int) -> Int[np.ndarray, "labels count"]:
    """The `count` largest of each row, descending; ties go to the first."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]


def dense(features: Features, columns: Int[np.ndarray, " k"]) -> Float[np.ndarray, "rows k"]:
    """A few features of all rows, as float64."""
    chosen = features[:, columns]
    return np.asarray(chosen if isinstance(chosen, np.ndarray) else chosen.toarray(), dtype=np.float64)


def decisions(train: Float[np.ndarray, "rows k"], label: Bool[np.ndarray, " rows"], test: Float[np.ndarray, "scored k"]) -> Float[np.ndarray, " scored"]:
    """Log odds of the label on `test` by a logistic regression fitted on `train`: features standardised, classes of equal weight, C = 1."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000)).fit(train, label)
    return np.asarray(probe.decision_function(test), dtype=np.float64)


class Tally:
    """Hits and misses of a yes-or-no prediction, counted per document."""

    def __init__(self, predicted: Bool[np.ndarray, " rows"], label: Bool[np.ndarray, " rows"], document: Int[np.ndarray, " rows"], documents: int) -> None:
        kind = 2 * label + predicted
        self.counts = np.bincount(document * 4 + kind, minlength=4 * documents).reshape(documents, 4).astype(np.float64)

    def balanced(self, weights: Float[np.ndarray, " documents"]) -> float:
        """Mean of the shares of negatives and of positives that are predicted right; each must have some weight."""
        right_no, wrong_yes, wrong_no, right_yes = weights @ self.counts
        return float((right_no / (right_no + wrong_yes) + right_yes / (right_yes + wrong_no)) / 2)

    def both(self, weights: Float[np.ndarray, " documents"]) -> bool:
        """Whether positives and negatives have any weight."""
        counts = weights @ self.counts
        return bool(counts[:2].sum() > 0 and counts[2:].sum() > 0)

    def f1(self, weights: Float[np.ndarray, " documents"]) -> float:
        """2 hits / (positives + predicted positives); positives must have some weight."""
        _, wrong_yes, wrong_no, right_yes = weights @ self.counts
        return float(2 * right_yes / (2 * right_yes + wrong_yes + wrong_no))


class RankedScores:
    """Area under the ROC curve of one score, sorted once and then quick for any weights of documents."""

    def __init__(self, scores: Float[np.ndarray, " rows"], label: Bool[np.ndarray, " rows"], document: Int[np.ndarray, " rows"]) -> None:
        order = scores.argsort(kind="stable")
        self.starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))  # of runs of equal scores
        self.label, self.document = label[order].astype(np.float64), document[order]

    def auc(self, weights: Float[np.ndarray, " documents"]) -> float:
        """Chance that a positive row scores above a negative one, ties half; both must have some weight."""
        row = weights[self.document]
        on, off = (np.add.reduceat(row * side, self.starts) for side in (self.label, 1 - self.label))
        return float(on @ (off.cumsum() - off / 2) / (on.sum() * off.sum()))


@dataclass(frozen=True)
class Probe:
    """A fitted probe of one label, and what it did on the documents of SCORE."""

    features: list[int]
    ranked: RankedScores
    tally: Tally


def probes(features: Features, questions: Questions, labels: Sequence[int], count: int) -> list[Probe]:
    """For each label a logistic regression on the `count` features of largest contrast: chosen on CHOOSE, fitted on FIT, scored on SCORE."""
    chosen = strongest(contrast(features[questions.part == CHOOSE], *questions.sides(labels, CHOOSE)), count)
    columns = features if isinstance(features, np.ndarray) else features.tocsc()
    found = []
    for label, picked in zip(labels, chosen, strict=True):
        rows, (fit, score) = dense(columns, picked), (questions.rows_of(label, part) for part in (FIT, SCORE))
        odds = decisions(rows[fit], questions.carries[fit, label], rows[score])
        ranked = RankedScores(odds, questions.carries[score, label], questions.document[score])
        found.append(Probe(picked.tolist(), ranked, tally(odds > 0, questions, label)))
    return found


def tally(predicted: Bool[np.ndarray, " scored"], questions: Questions, label: int) -> Tally:
    """Hits and misses on the rows of SCORE that the label is asked of."""
    rows = questions.rows_of(label, SCORE)
    return Tally(predicted, questions.carries[rows, label], questions.document[rows], len(questions.parts))


class Detector(NamedTuple):
    """A latent whose firing stands for a label, and what that did on the documents of SCORE."""

    latent: int
    tally: Tally


def detectors(codes: sparse.csr_matrix, questions: Questions, labels: Sequence[int]) -> list[Detector]:
    """For each label the latent whose firing tells it best by F1 on CHOOSE, and its hits and misses on SCORE."""
    best = strongest(firing_f1(codes[questions.part == CHOOSE], *questions.sides(labels, CHOOSE)), 1)[:, 0]
    columns = codes.tocsc()
    fires = (dense(columns, latent[None])[questions.rows_of(label, SCORE), 0] > 0 for latent, label in zip(best, labels, strict=True))
    return [Detector(int(latent), tally(fired, questions, label)) for latent, label, fired in zip(best, labels, fires, strict=True)]


class Told(NamedTuple):
    """How one label is told by one latent, by five, by one channel of x, and by the firing of one latent alone."""

    one: Probe
    five: Probe
    channel: Probe
    firing: Detector

    def scores(self, weights: Float[np.ndarray, " documents"]) -> dict[str, float] | None:
        """One number for each way on the rows of SCORE; None if positives or negatives have no weight."""
        if not self.firing.tally.both(weights):
            return None
        return {
            "auc_1": self.one.ranked.auc(weights),
            "auc_5": self.five.ranked.auc(weights),
            "balanced_1": self.one.tally.balanced(weights),
            "f1": self.firing.tally.f1(weights),
            "baseline_channel": self.channel.ranked.auc(weights),
        }
