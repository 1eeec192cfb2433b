"""How well answers agree with labels, for any weights of documents: counted or ranked once, then quick for many draws."""

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse


def divided(above: Float[np.ndarray, "..."], below: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """above / below, and NaN where nothing is to be divided by."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(below > 0, above / below, np.nan))


def mean_of_known(values: Float[np.ndarray, "some draws"]) -> Float[np.ndarray, " draws"]:
    """For each draw the mean of what is not NaN, and NaN where all is."""
    known = ~np.isnan(values)
    return divided(np.where(known, values, 0).sum(0), known.sum(0).astype(np.float64))


class Tally:
    """Hits and misses of a yes-or-no prediction, counted per document. Every number is NaN where no row that it divides by has weight."""

    def __init__(self, predicted: Bool[np.ndarray, " rows"], label: Bool[np.ndarray, " rows"], document: Int[np.ndarray, " rows"], documents: int) -> None:
        kind = 2 * label + predicted
        self.counts = np.bincount(document * 4 + kind, minlength=4 * documents).reshape(documents, 4).astype(np.float64)

    def kinds(self, weights: Float[np.ndarray, "draws documents"]) -> Float[np.ndarray, "4 draws"]:
        """Negatives predicted right and wrong, positives predicted wrong and right."""
        return np.moveaxis(weights @ self.counts, -1, 0)

    def balanced(self, weights: Float[np.ndarray, "draws documents"]) -> Float[np.ndarray, " draws"]:
        """Mean of the shares of negatives and of positives that are predicted right."""
        right_no, wrong_yes, wrong_no, right_yes = self.kinds(weights)
        return np.asarray((divided(right_no, right_no + wrong_yes) + divided(right_yes, right_yes + wrong_no)) / 2)

    def both(self, weights: Float[np.ndarray, "draws documents"]) -> Bool[np.ndarray, " draws"]:
        """Whether positives and negatives have any weight."""
        right_no, wrong_yes, wrong_no, right_yes = self.kinds(weights)
        return np.asarray((right_no + wrong_yes > 0) & (right_yes + wrong_no > 0))

    def f1(self, weights: Float[np.ndarray, "draws documents"]) -> Float[np.ndarray, " draws"]:
        """2 hits / (positives + predicted positives)."""
        _, wrong_yes, wrong_no, right_yes = self.kinds(weights)
        return divided(2 * right_yes, 2 * right_yes + wrong_yes + wrong_no)

    def always(self, weights: Float[np.ndarray, "draws documents"]) -> Float[np.ndarray, " draws"]:
        """The F1 of a prediction that is always yes: 2 positives / (positives + rows)."""
        right_no, wrong_yes, wrong_no, right_yes = self.kinds(weights)
        positives = wrong_no + right_yes
        return divided(2 * positives, 2 * positives + right_no + wrong_yes)

    def precision(self, weights: Float[np.ndarray, "draws documents"]) -> Float[np.ndarray, " draws"]:
        """Hits / predicted positives."""
        _, wrong_yes, _, right_yes = self.kinds(weights)
        return divided(right_yes, right_yes + wrong_yes)

    def recall(self, weights: Float[np.ndarray, "draws documents"]) -> Float[np.ndarray, " draws"]:
        """Hits / positives."""
        _, _, wrong_no, right_yes = self.kinds(weights)
        return divided(right_yes, right_yes + wrong_no)


class RankedScores:
    """Area under the ROC curve of one score, sorted once."""

    def __init__(self, scores: Float[np.ndarray, " rows"], label: Bool[np.ndarray, " rows"], document: Int[np.ndarray, " rows"], documents: int) -> None:
        _, run = np.unique(scores, return_inverse=True)  # rows of equal scores, ascending
        shape = (documents, int(run.max(initial=0)) + 1)
        self.on, self.off = (sparse.csr_matrix((np.ones(int(side.sum())), (document[side], run[side])), shape) for side in (label, ~label))

    def auc(self, weights: Float[np.ndarray, "draws documents"]) -> Float[np.ndarray, " draws"]:
        """Chance that a positive row scores above a negative one, ties half; NaN where one side has no weight."""
        on, off = weights @ self.on, weights @ self.off
        return divided((on * (off.cumsum(-1) - off / 2)).sum(-1), on.sum(-1) * off.sum(-1))
