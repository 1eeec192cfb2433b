"""How well labels are told without any SAE: by a raw channel, by all of them, by the token itself, by random directions. The same for every SAE."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from torch import Tensor

from sae_bench_htopk.contract import Missing
from sae_bench_htopk.labels import Labels
from sae_bench_htopk.probing import difference, probe, probes, ranking
from sae_bench_htopk.questions import CHOOSE, FIT, SCORE, Questions, questions_of
from sae_bench_htopk.sample import Sample
from sae_bench_htopk.scoring import RankedScores

CHUNK = 1024  # random directions made at a time


@dataclass(frozen=True, eq=False)
class Plain:
    """Questions, and what is known of the asked rows without any SAE."""

    questions: Questions
    x: Float[np.ndarray, "rows d"]  # of all rows, asked or not
    tokens: sparse.csr_matrix  # how often each token stands in each row

    @property
    def asked(self) -> Float[np.ndarray, "asked d"]:
        """The activations of the asked rows; a copy each time, since it is needed seldom and large."""
        return np.take(self.x, self.questions.rows, axis=0)

    @cached_property
    def channel(self) -> list[RankedScores]:
        """One channel of x, chosen and fitted as a latent is."""
        return [found.ranked for (found,) in probes(self.asked, self.questions, self.questions.probed, (1,))]

    @cached_property
    def full(self) -> list[RankedScores]:
        """All channels of x."""
        return self.fitted(self.asked, StandardScaler())

    @cached_property
    def token(self) -> list[RankedScores]:
        """Which token stands there; of a document, which ones and how often."""
        return self.fitted(self.tokens[self.questions.rows], Normalizer())

    def fitted(self, features: np.ndarray | sparse.csr_matrix, scaler: Any) -> list[RankedScores]:
        """scikit-learn's logistic regression for each label on all features: fitted on FIT, scored on SCORE."""
        found, questions = [], self.questions
        for label in questions.probed:
            fit, score = (questions.rows_of(label, part) for part in (FIT, SCORE))
            model = make_pipeline(scaler, LogisticRegression(class_weight="balanced", max_iter=1000)).fit(features[fit], questions.carries[fit, label])
            found.append(ranking(model.decision_function(features[score]), questions, label))
        return found


@lru_cache(maxsize=8)
def of_random(plain: Plain, count: int) -> list[RankedScores]:
    """The one of `count` random directions of largest contrast, chosen and fitted as a latent is."""
    labels, x = plain.questions.probed, plain.asked
    apart = difference(x[plain.questions.part == CHOOSE], *plain.questions.sides(labels, CHOOSE))
    chosen = directions(apart, count)
    return [probe(x @ row[:, None], plain.questions, label, [0]).ranked for label, row in zip(labels, chosen, strict=True)]


def directions(apart: Float[np.ndarray, "labels d"], count: int) -> Float[np.ndarray, "labels d"]:
    """For each label, of `count` random directions the one along which its rows and the others are, on average, `apart` the farthest.

    What a projection's means differ by is the projection of what the means differ by, so that no row need be projected to search.
    """
    random, best, far = np.random.default_rng(0), np.zeros_like(apart), np.full(len(apart), -1.0)
    for start in range(0, count, CHUNK):
        rows = random.standard_normal((min(CHUNK, count - start), apart.shape[1]))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        reach = np.abs(rows @ apart.T)
        farther = reach.max(0) > far
        best[farther], far = rows[reach.argmax(0)][farther], np.maximum(far, reach.max(0))
    return best


def counted(owner: Int[np.ndarray, " tokens"], token: Int[np.ndarray, " tokens"], rows: int) -> sparse.csr_matrix:
    """How often each row has each token."""
    return sparse.csr_matrix((np.ones(len(token)), (owner, token)), shape=(rows, int(token.max(initial=0)) + 1))


@lru_cache(maxsize=2)
def plain_of(sample: Sample, texts: tuple[str, ...], labels: Labels | None) -> Plain | Missing:
    """The questions of a sample of rows, or why there are none."""
    questions = questions_of(sample, texts, labels)
    if isinstance(questions, Missing):
        return questions
    rows = sample.rows
    return Plain(questions, rows.x.numpy(), counted(np.arange(len(rows.token)), rows.token, len(rows.token)))


@lru_cache(maxsize=8)
def floors(plain: Plain, count: int, draws: Float[Tensor, "draws documents"]) -> dict[str, Float[np.ndarray, "labels draws"]]:
    """The AUC of each of these ways for every label and draw of documents; `count` random directions. Draws are told apart by identity."""
    weights = draws.cpu().double().numpy()

    def aucs(ranked: Sequence[RankedScores]) -> Float[np.ndarray, "labels draws"]:
        return np.stack([one.auc(weights) for one in ranked])

    ways = {"baseline_channel": plain.channel, "baseline_full": plain.full, "floor_token": plain.token, "floor_random": of_random(plain, count)}
    return {name: aucs(ranked) for name, ranked in ways.items()}
