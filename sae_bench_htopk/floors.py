"""How well labels are told without any SAE: by a raw channel, by all of them, by the token itself, by random directions."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from sae_bench_htopk.contract import Missing
from sae_bench_htopk.labels import Labels
from sae_bench_htopk.logistic import token_odds
from sae_bench_htopk.probing import difference, probe, probes, ranking
from sae_bench_htopk.questions import CHOOSE, FIT, SCORE, Questions, of_every_token, questions_of
from sae_bench_htopk.sample import Sample
from sae_bench_htopk.scoring import RankedScores
from sae_bench_htopk.transcript import Transcript

CHUNK = 1024  # random directions made at a time


@dataclass(frozen=True, eq=False)
class Plain:
    """Questions, and what is known of the asked rows without any SAE."""

    questions: Questions
    x: Float[np.ndarray, "rows d"]  # of all rows, asked or not
    token: list[RankedScores]  # each label by which token stands there; of a document, by which ones and how often

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
        return fitted(self.asked, self.questions, StandardScaler())


def fitted(features: np.ndarray | sparse.csr_matrix, questions: Questions, scaler: Any) -> list[RankedScores]:
    """scikit-learn's logistic regression for each label on all features of the asked rows: scored on SCORE, fitted on all others, since nothing is chosen."""
    found = []
    for label in questions.probed:
        fit, score = questions.rows_of(label, CHOOSE, FIT), questions.rows_of(label, SCORE)
        model = make_pipeline(scaler, LogisticRegression(class_weight="balanced", max_iter=1000)).fit(features[fit], questions.carries[fit, label])
        found.append(ranking(model.decision_function(features[score]), questions, label))
    return found


def told_by_token(questions: Questions, token: Int[np.ndarray, " asked"], every: Questions, spelled: Int[np.ndarray, " shown"]) -> list[RankedScores]:
    """Each label by the token alone: fitted on `every` token that was shown of documents that are not scored, which are `spelled` so."""
    found, vocabulary = [], 1 + max(token.max(initial=0), spelled.max(initial=0))
    for label in questions.probed:
        asked, carries = every.asked(label), every.carries[:, label]
        odds = token_odds(*(np.bincount(spelled[side], minlength=vocabulary) for side in (asked & carries, asked & ~carries)))
        found.append(ranking(odds[token[questions.rows_of(label, SCORE)]], questions, label))
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


@lru_cache(maxsize=2)
def plain_of(sample: Sample, transcript: Transcript, texts: tuple[str, ...], labels: Labels | None) -> Plain | Missing:
    """The questions of a sample of rows of this text, or why there are none."""
    questions = questions_of(sample, texts, labels)
    if isinstance(questions, Missing):
        return questions
    every = of_every_token(questions, transcript, texts, labels)
    token = told_by_token(questions, sample.rows.token[questions.rows], every, transcript.sorted[1].token[every.rows])
    return Plain(questions, sample.rows.x.numpy(), token)


@lru_cache(maxsize=8)
def floors(plain: Plain, count: int, draws: Float[Tensor, "draws documents"]) -> dict[str, Float[np.ndarray, "labels draws"]]:
    """The AUC of each of these ways for every label and draw of documents; `count` random directions. Draws are told apart by identity."""
    weights = draws.cpu().double().numpy()

    def aucs(ranked: Sequence[RankedScores]) -> Float[np.ndarray, "labels draws"]:
        return np.stack([one.auc(weights) for one in ranked])

    ways = {"baseline_channel": plain.channel, "baseline_full": plain.full, "floor_token": plain.token, "floor_random": of_random(plain, count)}
    return {name: aucs(ranked) for name, ranked in ways.items()}
