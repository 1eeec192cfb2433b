"""RSA and CKA as their papers write them, with whole matrices of rows by rows: what ours is held against."""

from collections.abc import Callable

import numpy as np

Hsic = Callable[[np.ndarray, np.ndarray], float]


def dissimilarities(rows: np.ndarray) -> np.ndarray:
    """1 - Pearson correlation of the pairs of rows in the upper triangle."""
    return (1 - np.corrcoef(rows))[np.triu_indices(len(rows), k=1)]


def unbiased_hsic(K: np.ndarray, L: np.ndarray) -> float:
    """Song et al. 2012, equation 5, from Gram matrices."""
    n = len(K)
    K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
    one = np.ones(n)
    return float((np.trace(K @ L) + (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ K @ L @ one)) / (n * (n - 3)))


def biased_hsic(K: np.ndarray, L: np.ndarray) -> float:
    """Gretton et al. 2005: tr(K H L H) / (n - 1)^2."""
    n = len(K)
    H = np.eye(n) - 1 / n
    return float(np.trace(K @ H @ L @ H) / (n - 1) ** 2)


def cka(x: np.ndarray, y: np.ndarray, hsic: Hsic) -> float:
    """Kornblith et al. 2019, equation 2, with linear kernels. Columns are centred first, which changes no HSIC and rounds less."""
    K, L = ((rows - rows.mean(0)) @ (rows - rows.mean(0)).T for rows in (x, y))
    return hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))
