"""Looks closely at a few held-out rows: which rows, which latents tell a label on some documents, and how well they do on others."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt64
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from sae_bench_htopk.contract import Codes
from sae_bench_htopk.split import group_near_duplicates
from sae_bench_htopk.text import Document

CHOOSE, FIT, SCORE = 0, 1, 2  # the parts of the documents: no document is in two
Features: TypeAlias = sparse.csr_matrix | sparse.csc_matrix | np.ndarray  # [rows, features]


def shuffled(numbers: UInt64[np.ndarray, " rows"]) -> UInt64[np.ndarray, " rows"]:
    """Each number's place in a fixed shuffle of all 64-bit numbers (splitmix64): no two share one."""
    mixed: np.ndarray = numbers + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def parts(texts: Sequence[str]) -> Int[np.ndarray, " documents"]:
    """CHOOSE, FIT or SCORE for each document: a third of the groups of near-duplicates each, dealt out in shuffled order."""
    groups = group_near_duplicates([Document("", text, "") for text in texts])
    place = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    part = np.empty(len(place), dtype=np.int64)
    part[shuffled(np.arange(len(place), dtype=np.uint64)).argsort()] = np.arange(len(place)) % 3
    return part[[place[group] for group in groups]]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of held-out text and their keys, on the CPU."""

    key: UInt64[np.ndarray, " rows"]
    document: Int[np.ndarray, " rows"]
    span: Int[np.ndarray, "rows 2"]
    x: Float[Tensor, "rows d"]

    def take(self, index: Int[np.ndarray, " chosen"]) -> "Rows":
        """Some of the rows."""
        return Rows(self.key[index], self.document[index], self.span[index], self.x[index])


@dataclass(frozen=True, eq=False)
class Sample:
    """The `limit` rows of smallest key among all rows seen: a random sample of the text that no cut into batches can change.

    It never changes: `grow` makes the next one, once per batch of text, so that all SAEs that see the same text share it.
    """

    limit: int
    pieces: tuple[Rows, ...] = ()
    bound: int = 2**64  # rows from this key on are surely not in it

    @classmethod
    @cache
    def empty(cls, limit: int) -> "Sample":
        """The sample of no text, where every SAE begins."""
        return cls(limit)

    @cached_property
    def seen(self) -> Rows:
        """All rows still held, in the order in which they came: those of the sample and some others."""
        keys, documents, spans = (np.concatenate([getattr(piece, name) for piece in self.pieces]) for name in ("key", "document", "span"))
        return Rows(keys, documents, spans, torch.cat([piece.x for piece in self.pieces]))

    @cached_property
    def order(self) -> Int[np.ndarray, " rows"]:
        """Which of the rows in `seen` are the sample, by ascending key."""
        return self.seen.key.argsort()[: self.limit]

    @cached_property
    def rows(self) -> Rows:
        """The sample, by ascending key."""
        return self.seen.take(self.order)


@lru_cache(maxsize=8)
def grow(
    sample: Sample,
    x: Float[Tensor, "batch d"],
    document: Int[Tensor, " batch"],
    position: Int[Tensor, " batch"],
    span: Int[Tensor, "batch 2"],
    massive: Bool[Tensor, " batch"],
) -> tuple[Sample, Int[np.ndarray, " entering"], Int[np.ndarray, " kept"] | None]:
    """The sample after one more batch, the rows of the batch that enter it, and which of the rows then held it keeps (None: all).

    Tensors are told apart by identity: the same text in the same tensors is looked at once, whatever the number of SAEs.
    """
    place = document.cpu().numpy().astype(np.uint64) << np.uint64(32) | position.cpu().numpy().astype(np.uint64)
    key = shuffled(place)
    entering = np.flatnonzero((key <= np.uint64(sample.bound - 1)) & ~massive.cpu().numpy())
    index = torch.from_numpy(entering).to(x.device)
    new = Rows(key[entering], document[index].cpu().numpy(), span[index].cpu().numpy(), x[index].float().cpu())
    grown = Sample(sample.limit, (*sample.pieces, new), sample.bound)
    if sum(len(piece.key) for piece in grown.pieces) <= 2 * sample.limit:
        return grown, entering, None
    bound = int(grown.rows.key[-1]) + 1
    return Sample(sample.limit, (grown.rows,), bound), entering, grown.order


def code_matrix(codes: Codes, rows: Int[np.ndarray, " chosen"], latents: int) -> sparse.csr_matrix:
    """The codes of some rows as a sparse [chosen, latents] matrix on the CPU."""
    values, indices, offsets = (part.cpu().numpy() for part in (codes.values.detach().float(), codes.latents, codes.offsets))
    return sparse.csr_matrix((values, indices, offsets), shape=(len(offsets) - 1, latents))[rows]


def contrast(features: Features, labels: Bool[np.ndarray, "rows labels"]) -> Float[np.ndarray, "labels features"]:
    """|mean of each feature over a label's rows - its mean over the other rows|."""
    on, rows = labels.sum(0)[:, None], len(labels)
    sums, total = (features.T @ labels.astype(np.float64)).T, np.asarray(features.sum(0, dtype=np.float64)).reshape(1, -1)
    difference: np.ndarray = np.abs(sums / on - (total - sums) / (rows - on))
    return difference


def firing_f1(codes: sparse.csr_matrix, labels: Bool[np.ndarray, "rows labels"]) -> Float[np.ndarray, "labels latents"]:
    """F1 of 'the latent fires' as a prediction of each label."""
    fires = codes > 0
    hits = (fires.T @ labels.astype(np.float64)).T
    f1: np.ndarray = 2 * hits / (np.asarray(fires.sum(0)).reshape(1, -1) + labels.sum(0)[:, None])
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


@dataclass(frozen=True, eq=False)
class Questions:
    """What every SAE is asked: some rows, the labels that each carries, and the part of the documents that it is in."""

    rows: Int[np.ndarray, " asked"]  # their places in the sample
    carries: Bool[np.ndarray, "asked labels"]
    document: Int[np.ndarray, " asked"]
    parts: Int[np.ndarray, " documents"]  # CHOOSE, FIT or SCORE for each document

    @cached_property
    def part(self) -> Int[np.ndarray, " asked"]:
        """CHOOSE, FIT or SCORE for each row."""
        return np.take(self.parts, self.document)

    @cached_property
    def fewest(self) -> Int[np.ndarray, " labels"]:
        """The least number of rows with a label, or without it, in any part."""
        counts = [(self.carries[here].sum(0), (~self.carries[here]).sum(0)) for here in (self.part == which for which in (CHOOSE, FIT, SCORE))]
        return np.asarray(np.min(counts, axis=(0, 1)))

    def tally(self, predicted: Bool[np.ndarray, " scored"], label: int) -> Tally:
        """Hits and misses on the rows of SCORE."""
        here = self.part == SCORE
        return Tally(predicted, self.carries[here, label], self.document[here], len(self.parts))


@dataclass(frozen=True)
class Probe:
    """A fitted probe of one label, and what it did on the documents of SCORE."""

    features: list[int]
    ranked: RankedScores
    tally: Tally


def probes(features: Features, questions: Questions, labels: Sequence[int], count: int) -> list[Probe]:
    """For each label a logistic regression on the `count` features of largest contrast: chosen on CHOOSE, fitted on FIT, scored on SCORE."""
    part, carries = questions.part, questions.carries[:, labels]
    chosen = strongest(contrast(features[part == CHOOSE], carries[part == CHOOSE]), count)
    fit, score = (features[part == which] for which in (FIT, SCORE))
    if sparse.issparse(features):
        fit, score = fit.tocsc(), score.tocsc()  # columns are picked from them
    found = []
    for place, label in enumerate(labels):
        odds = decisions(dense(fit, chosen[place]), carries[part == FIT, place], dense(score, chosen[place]))
        ranked = RankedScores(odds, carries[part == SCORE, place], questions.document[part == SCORE])
        found.append(Probe(chosen[place].tolist(), ranked, questions.tally(odds > 0, label)))
    return found


class Detector(NamedTuple):
    """A latent whose firing stands for a label, and what that did on the documents of SCORE."""

    latent: int
    tally: Tally


def detectors(codes: sparse.csr_matrix, questions: Questions, labels: Sequence[int]) -> list[Detector]:
    """For each label the latent whose firing tells it best by F1 on CHOOSE, and its hits and misses on SCORE."""
    choose = questions.part == CHOOSE
    best = strongest(firing_f1(codes[choose], questions.carries[choose][:, labels]), 1)[:, 0]
    score = codes[questions.part == SCORE].tocsc()
    return [Detector(int(latent), questions.tally(dense(score, latent[None])[:, 0] > 0, label)) for latent, label in zip(best, labels, strict=True)]


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
