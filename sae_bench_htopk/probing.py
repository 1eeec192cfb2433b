"""Which features of a row tell a label on some documents, and how well they do on others: searches, probes and their scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse

from sae_bench_htopk.logistic import decisions
from sae_bench_htopk.questions import CHOOSE, FIT, SCORE, Questions
from sae_bench_htopk.scoring import RankedScores, Tally, mean_of_known

Features: TypeAlias = sparse.csr_matrix | sparse.csc_matrix | np.ndarray  # [rows, features]


def difference(features: Features, on: Bool[np.ndarray, "rows labels"], off: Bool[np.ndarray, "rows labels"]) -> Float[np.ndarray, "labels features"]:
    """Mean of each feature over a label's rows - its mean over the rows without it."""
    share = on / on.sum(0) - off / off.sum(0)
    return np.asarray((features.T @ share).T)


def contrast(features: Features, on: Bool[np.ndarray, "rows labels"], off: Bool[np.ndarray, "rows labels"]) -> Float[np.ndarray, "labels features"]:
    """|mean of each feature over a label's rows - its mean over the rows without it|."""
    return np.asarray(np.abs(difference(features, on, off)))


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


@dataclass(frozen=True)
class Probe:
    """A fitted probe of one label, and what it did on the documents of SCORE."""

    features: list[int]
    ranked: RankedScores
    tally: Tally


def ranking(scores: Float[np.ndarray, " scored"], questions: Questions, label: int) -> RankedScores:
    """Scores of the rows of SCORE that the label is asked of."""
    rows = questions.rows_of(label, SCORE)
    return RankedScores(scores, questions.carries[rows, label], questions.document[rows], len(questions.parts))


def tally(predicted: Bool[np.ndarray, " scored"], questions: Questions, label: int) -> Tally:
    """Hits and misses on the rows of SCORE that the label is asked of."""
    rows = questions.rows_of(label, SCORE)
    return Tally(predicted, questions.carries[rows, label], questions.document[rows], len(questions.parts))


def probe(rows: Float[np.ndarray, "asked k"], questions: Questions, label: int, features: Sequence[int]) -> Probe:
    """A logistic regression of one label on what these features are in each row: fitted on FIT, scored on SCORE."""
    fit, score = (questions.rows_of(label, part) for part in (FIT, SCORE))
    odds = decisions(rows[fit], questions.carries[fit, label], rows[score])
    return Probe(list(features), ranking(odds, questions, label), tally(odds > 0, questions, label))


def probes(features: Features, questions: Questions, labels: Sequence[int], counts: Sequence[int]) -> list[list[Probe]]:
    """For each label one probe for each count, on that many features of largest contrast on CHOOSE."""
    chosen = strongest(contrast(features[questions.part == CHOOSE], *questions.sides(labels, CHOOSE)), max(counts))
    columns = features if isinstance(features, np.ndarray) else features.tocsc()
    rows = [dense(columns, picked) for picked in chosen]
    return [
        [probe(row[:, :count], questions, label, picked[:count].tolist()) for count in counts] for label, picked, row in zip(labels, chosen, rows, strict=True)
    ]


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
    """How one label is told by one latent, by two and by five, by one where labels are shuffled, time and again, and by the firing of one latent alone."""

    one: Probe
    two: Probe
    five: Probe
    shuffled: tuple[Probe, ...]
    firing: Detector

    def scores(self, draws: Float[np.ndarray, "draws documents"]) -> dict[str, Float[np.ndarray, " draws"]]:
        """One number for each way and draw on the rows of SCORE; NaN where positives or negatives have no weight."""
        both = self.firing.tally.both(draws)
        return {
            "auc_1": self.one.ranked.auc(draws),
            "auc_2": self.two.ranked.auc(draws),
            "auc_5": self.five.ranked.auc(draws),
            "balanced_1": self.one.tally.balanced(draws),
            "f1": np.where(both, self.firing.tally.f1(draws), np.nan),
            "floor_f1": np.where(both, self.firing.tally.always(draws), np.nan),
            "floor_shuffled": mean_of_known(np.stack([probe.ranked.auc(draws) for probe in self.shuffled])),
        }
