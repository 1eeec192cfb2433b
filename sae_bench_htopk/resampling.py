"""Documents drawn with replacement: the same draws for every SAE, the intervals that come of them, and what a record keeps to compare two SAEs."""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sae_bench_htopk.contract import Column, Missing

RESAMPLES = 100  # draws of documents behind each interval
FEWEST = 20  # documents: draws from fewer than this say too little of other text
DIGITS = 3  # what is kept of a draw below the leading digit of the draws' range: two SAEs often differ by far less than each of them varies


@lru_cache(maxsize=1)
def draws(documents: int) -> Float[Tensor, "draws documents"]:
    """Every document once, and then documents drawn with replacement; the same for every SAE, so that pairs compare."""
    drawn = np.random.default_rng(0).multinomial(documents, np.full(documents, 1 / documents), size=RESAMPLES)
    return torch.from_numpy(np.concatenate((np.ones((1, documents)), drawn)).astype(np.float32))


@lru_cache(maxsize=1)
def fingerprint(documents: int) -> str:
    """16 hex digits of those draws, which two rows share if their draws pair: numpy does not promise one stream in all of its versions."""
    return hashlib.sha256(draws(documents).numpy().astype("<i8").tobytes()).hexdigest()[:16]


def resampled(columns: Iterable[Column], results: Sequence[Mapping[str, float | Missing]]) -> dict[str, list[float]]:
    """The values under every draw of each column that is resampled and has a number under all of them."""
    found = {}
    for column in (column for column in columns if column.resampled):
        values = [value for result in results if not isinstance(value := result[column.name], Missing) and np.isfinite(value)]
        if len(values) == len(results):
            found[column.name] = values
    return found


def interval(values: Sequence[float]) -> list[float]:
    """The middle 95% of what draws of documents gave."""
    low, high = np.quantile(values, [0.025, 0.975])
    return [float(low), float(high)]


def kept(columns: Iterable[Column], drawn: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """Of what `resampled` found, that which two SAEs are compared by."""
    return {column.name: brief(drawn[column.name]) for column in columns if column.paired and column.name in drawn}


def brief(values: Sequence[float]) -> list[float]:
    """The values to a thousandth of their range or less: records are committed, and nobody needs the rest."""
    extent = max(values) - min(values)
    return [float(value) for value in values] if extent <= 0 else [round(float(value), DIGITS - math.floor(math.log10(extent))) for value in values]
