"""Feature absorption (Chanin et al. 2024, arXiv:2409.14507): a label's own latents fall silent on some of its rows, and another latent speaks for them.

From SAEBench (arXiv:2503.09532), which looks at what latents carry along a probe's direction where the first paper ablated them: when a row counts
as absorbed and by what fraction, and the numbers in that (.025, .4, .1, 3); that shares are of what x itself carries; that only rows that the probe
gets right are asked, of probes whose F1 is above 0.6; 10 main latents at most, each of which must add 0.03 to F1.

Ours: labels within labels where SAEBench has words by their first letter, a row of text for each word, and the least number of such rows (SAEBench
has another least: 20 of the 26 letters must be told); x less b_dec, since codes say nothing of b_dec, and what the codes carry in its place where
that is more; the probe's fit; by what main latents are chosen, and on which rows (`main_latents`, where the first paper and SAEBench fit probes on codes).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.preprocessing import StandardScaler

from sae_bench_htopk.contract import Codes, Missing
from sae_bench_htopk.questions import CHOOSE, FIT, LEAST, LEAST_DOCUMENTS, SCORE, Questions
from sae_bench_htopk.sample import Sample

MOST, JUMP = 10, 0.03  # main latents at most, and the F1 that each one after the first must add
ALIGNED, SHARE = 0.025, 0.4  # cosine and share of a row's total that make the strongest latent an absorber
FEW, NEAR = 3, 0.1  # latents whose shares are summed in the fraction, and the cosine of each
CLEAR, ENOUGH = 0.6, 20  # what a probe's F1 must exceed, and the rows with the inner label that it must get right, on SCORE


@dataclass(frozen=True, eq=False)
class Pair:
    """A label and one within it, and the rows on which x itself shows the outer one."""

    outer: int
    inner: int
    direction: Float[np.ndarray, " d"]  # the outer label's, of length 1, in x's own units
    f1: float  # of the probe on x, on SCORE
    rows: Int[np.ndarray, " scored"]  # of the questions, in SCORE: those with the inner label, and those with none within the outer one
    inside: Bool[np.ndarray, " scored"]  # which carry the inner label
    on_x: Float[np.ndarray, " scored"]  # x . direction


@lru_cache(maxsize=2)
def pairs(sample: Sample, questions: Questions) -> tuple[Pair, ...] | Missing:
    """Every label that x shows and that has another within it, with every such other, each with enough rows: the same for all SAEs."""
    x, tellable = sample.rows.x.double().numpy()[questions.rows], questions.tellable
    within = {outer: [inner for inner, label in enumerate(questions.labels) if label.within == questions.labels[outer].name] for outer in tellable}
    asked = {outer: inner for outer, inner in within.items() if set(inner) & set(tellable)}
    if not asked:
        return Missing(
            f"no label has another within it, both on and off in at least {LEAST} sampled rows, of several documents, of each third of the documents"
        )
    found = tuple(pair for outer, inner in asked.items() for pair in pairs_of(x, questions, outer, inner))
    return found or Missing(
        f"no probe on x tells a label with others within it at an F1 above {CLEAR}, getting {ENOUGH} rows of {LEAST_DOCUMENTS} documents of one of these right"
    )


def pairs_of(x: Float[np.ndarray, "asked d"], questions: Questions, outer: int, within: list[int]) -> list[Pair]:
    """Those of one outer label, by its probe: a logistic regression on x, fitted on FIT; none if x does not show the label, as nothing could be absorbed."""
    fit, score = (questions.rows_of(outer, part) for part in (FIT, SCORE))
    direction, bias = probe(x[fit], questions.carries[fit, outer])
    says, label = x[score] @ direction + bias > 0, questions.carries[score, outer]
    direction, f1, right = direction / (np.linalg.norm(direction) or 1), float(f1_score(label, says)), score[says & label]
    rest = ~questions.carries[right][:, within].any(1)
    found = []
    for inner in sorted(set(within) & set(questions.tellable)):
        inside = questions.carries[right, inner]
        documents = np.unique(questions.groups[questions.document[right[inside]]])
        if f1 > CLEAR and inside.sum() >= ENOUGH and len(documents) >= LEAST_DOCUMENTS:
            rows = right[inside | rest]
            found.append(Pair(outer, inner, direction, f1, rows, inside[inside | rest], x[rows] @ direction))
    return found


def probe(x: Float[np.ndarray, "rows d"], label: Bool[np.ndarray, " rows"]) -> tuple[Float[np.ndarray, " d"], float]:
    """Weights and bias, in x's own units, of a logistic regression: features standardised for the fit, classes of equal weight, C = 1."""
    scaler = StandardScaler().fit(x)
    fitted = LogisticRegression(class_weight="balanced", max_iter=1000, tol=1e-6).fit(scaler.transform(x), label)
    weights = fitted.coef_[0] / scaler.scale_
    return weights, float(fitted.intercept_[0] - weights @ scaler.mean_)


class Main(NamedTuple):
    """The latents that stand for an outer label, and F1 of 'any of them fires', on FIT."""

    latents: list[int]
    f1: float


def main_latents(codes: sparse.csr_matrix, norms: Float[np.ndarray, " latents"], questions: Questions, pair: Pair) -> Main:
    """Those that fire most strongly on the outer label's rows of CHOOSE against rows without it, as long as each adds `JUMP` to F1 on FIT; may be none.

    Rows with the inner label have no say. SAEBench asks all rows: there a word is a small part of those with its first letter, but a docstring
    can be half of all strings, and the latent that absorbs it would be called a main one for that.

    F1 is that of 'any of them fires'. Chanin fits a probe on the latents instead; what is asked afterwards is whether they are silent, so
    firing is what they are chosen by, and there is no fit that could end a little differently elsewhere.
    """
    choose, fit = (rows[~questions.carries[rows, pair.inner]] for rows in (questions.rows_of(pair.outer, part) for part in (CHOOSE, FIT)))
    label, carries = questions.carries[choose, pair.outer], questions.carries[fit, pair.outer]
    on, off = (np.asarray(codes[choose[side]].sum(0)).ravel() / side.sum() for side in (label, ~label))
    contrast = (on - off) * norms
    order = np.argsort(-contrast, kind="stable")[:MOST]
    order = order[contrast[order] > 0]
    if not len(order):
        return Main([], 0.0)
    fires = np.logical_or.accumulate(codes[fit][:, order].toarray() != 0, axis=1)
    f1 = 2 * (fires & carries[:, None]).sum(0) / (fires.sum(0) + carries.sum())
    short = np.flatnonzero(np.diff(f1) < JUMP)
    count = int(short[0]) + 1 if len(short) else len(order)
    return Main(order[:count].tolist(), float(f1[count - 1]))


class Absorbed(NamedTuple):
    """What became of an outer label's direction on each of some rows."""

    silent: Bool[np.ndarray, " rows"]  # no main latent fires
    full: Bool[np.ndarray, " rows"]  # and one other latent carries the direction
    fraction: Float[np.ndarray, " rows"]  # what other latents carry of what they and the main ones carry
    strongest: Int[np.ndarray, " rows"]  # the latent that carries most; -1 where none fires


def absorbed(
    codes: Codes, carries: Float[np.ndarray, " latents"], cosine: Float[np.ndarray, " latents"], main: list[int], on_x: Float[np.ndarray, " rows"]
) -> Absorbed:
    """On rows of `codes`: each code carries its value times what its latent `carries`, w . direction, and x - b_dec carries `on_x`.

    A row's total is `on_x`, or what all codes carry, if that is more: codes that carry next to nothing stand in for nothing, however they share it.
    A row on which x carries nothing has nothing to absorb.
    """
    values, latents, offsets = (part.numpy() for part in codes)
    rows, owner = len(offsets) - 1, np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    part = values.astype(np.float64) * carries[latents]

    def of_rows(chosen: Bool[np.ndarray, " nnz"]) -> Float[np.ndarray, " rows"]:
        return np.bincount(owner[chosen], part[chosen], minlength=rows).astype(np.float64)  # whole numbers where none is chosen

    own = np.isin(latents, main)
    silent = np.bincount(owner[own], minlength=rows) == 0
    total, mine = np.where(on_x > 0, np.maximum(of_rows(np.ones_like(own)), on_x), 0.0), of_rows(own)
    order = np.lexsort((latents, -part, owner))  # each row's codes by what they carry, ties to the first latent
    fires, first = np.diff(offsets) > 0, np.full(rows, -1)
    first[fires] = order[offsets[:-1][fires]]
    full = fires & silent & (total > 0)
    full[full] = (cosine[latents[first[full]]] >= ALIGNED) & (part[first[full]] >= SHARE * total[full])
    strongest = np.full(rows, -1)
    strongest[fires] = latents[first[fires]]
    near = order[(~own & (cosine[latents] >= NEAR) & (part > 0))[order]]
    place = np.arange(len(near)) - np.searchsorted(owner[near], owner[near])
    few = np.zeros_like(own)
    few[near[place < FEW]] = True
    return Absorbed(silent, full, fraction(of_rows(few), mine, total), strongest)


def fraction(others: Float[np.ndarray, " rows"], main: Float[np.ndarray, " rows"], total: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
    """others / (others + main), others counting for no more than main leaves of the total; 0 where they carry less than `SHARE` of it or main carries all."""
    some = (total > 0) & (main < total) & (others >= SHARE * total)
    kept = np.maximum(main, 0)
    others = np.minimum(others, total - kept)
    found: np.ndarray = np.divide(others, others + kept, out=np.zeros(len(total)), where=some)
    return found
