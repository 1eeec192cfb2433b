"""Rows to compare that need no random numbers, so that another library's answers to them can be kept in a file."""

import numpy as np

CASES = {"small": (12, 5, 0.3), "wide": (40, 90, 0.8), "shifted": (60, 7, 0.5), "codes": (50, 64, 0.6)}  # rows, features, noise


def waves(rows: int, features: int, speed: float) -> np.ndarray:
    """Sines of unrelated phases, in float64."""
    return np.sin(speed * np.arange(1, rows * features + 1) ** 1.5).reshape(rows, features)


def two(case: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows of x and of what is compared with it; those of `shifted` lie far from 0, those of `codes` are mostly 0."""
    rows, features, noise = CASES[case]
    x = waves(rows, features, 1.1) * np.arange(1, features + 1) ** -0.5 + 5 * (case == "shifted")
    other = x + noise * waves(rows, features, 0.7)
    return (x, np.maximum(other - 0.6, 0)) if case == "codes" else (x, other)
