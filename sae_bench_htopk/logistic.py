"""Logistic regression on a few features, or on which token stands there, as scikit-learn defines it, in a fraction of its time."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import expit

STEPS = 100  # of Newton's method, far more than it takes
NEAR = 1e-9  # the step at which it stops


def decisions(train: Float[np.ndarray, "rows k"], label: Bool[np.ndarray, " rows"], test: Float[np.ndarray, "scored k"]) -> Float[np.ndarray, " scored"]:
    """Log odds of the label on `test` by a logistic regression fitted on `train`: features standardised, classes of equal weight, C = 1."""
    mean, deviation = train.mean(0), train.std(0)
    deviation[deviation == 0] = 1
    *slopes, start = logistic((train - mean) / deviation, label)
    return np.asarray((test - mean) / deviation @ np.array(slopes) + start)


def logistic(features: Float[np.ndarray, "rows k"], label: Bool[np.ndarray, " rows"]) -> Float[np.ndarray, " coefficients"]:
    """The slopes and the intercept that scikit-learn's LogisticRegression(C=1, class_weight="balanced") minimises for, by Newton's method.

    On so few features it is nearly all overhead: this takes an eighth of its time, and does not stop early.
    """
    z = np.concatenate((features.T, np.ones((1, len(label)))))
    weight = np.where(label, 0.5 / label.mean(), 0.5 / (1 - label.mean()))
    ridge = np.append(np.ones(len(z) - 1), 0.0)
    signs = np.where(label, -1.0, 1.0)

    def loss(at: Float[np.ndarray, " coefficients"]) -> float:
        return float(weight @ np.logaddexp(0, signs * (at @ z)) + ridge @ at**2 / 2)

    def step(at: Float[np.ndarray, " coefficients"]) -> Float[np.ndarray, " coefficients"]:
        yes = expit(at @ z)
        return np.linalg.solve((z * (weight * yes * (1 - yes))) @ z.T + np.diag(ridge), z @ (weight * (yes - label)) + ridge * at)

    return least(np.zeros(len(z)), loss, step)


def least(at: Float[np.ndarray, " n"], loss: Callable[[np.ndarray], float], step: Callable[[np.ndarray], np.ndarray]) -> Float[np.ndarray, " n"]:
    """Where a loss is least, by Newton's steps from `at` on. A step that makes the loss larger is halved."""
    low = loss(at)
    for _ in range(STEPS):
        move = step(at)
        while (found := loss(at - move)) > low and np.abs(move).max() > NEAR:
            move = move / 2
        at, low = at - move, found
        if np.abs(move).max() <= NEAR:
            break
    return at


def token_odds(on: Int[np.ndarray, " vocabulary"], off: Int[np.ndarray, " vocabulary"]) -> Float[np.ndarray, " vocabulary"]:
    """Log odds of a label for each token, of which so many rows carry it and so many do not: features are 0 or 1, one for each token, else as `logistic`.

    Rows of one token are one row, and tokens of equal counts have equal slopes; the slopes meet in the intercept alone, so that steps
    need no matrix. A token that is in no row has the intercept.
    """
    (yes, no), place, times = np.unique(np.stack((on, off)), axis=1, return_inverse=True, return_counts=True)
    rows = on.sum() + off.sum()
    yes, both = yes * rows / (2 * on.sum()), yes * rows / (2 * on.sum()) + no * rows / (2 * off.sum())

    def loss(at: Float[np.ndarray, " coefficients"]) -> float:
        odds = at[:-1] + at[-1]
        return float(times @ (both * np.logaddexp(0, odds) - yes * odds + at[:-1] ** 2 / 2))

    def step(at: Float[np.ndarray, " coefficients"]) -> Float[np.ndarray, " coefficients"]:
        chance = expit(at[:-1] + at[-1])
        slope, curve = both * chance - yes, both * chance * (1 - chance)
        share, full = curve / (curve + 1), slope + at[:-1]
        start = times @ (slope - share * full) / (times @ share)
        return np.append((full - curve * start) / (curve + 1), start)

    *slopes, start = least(np.zeros(len(times) + 1), loss, step)
    return np.asarray((np.array(slopes) + start)[place.reshape(-1)])
