"""What the metrics of one reading come to, as it stands in a record: values, reasons for missing ones, intervals and details."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from sae_bench_htopk import resampling
from sae_bench_htopk.contract import Metric, Missing, Reading, Selector

# What maths raises on numbers that it cannot take; any other error is one of code, and stops the run.
UNCOMPUTABLE = (ArithmeticError, np.linalg.LinAlgError, torch.linalg.LinAlgError)  # type: ignore[attr-defined]


def pairable(reading: Reading, native: Selector) -> bool:
    """Whether a row keeps its draws: SAEs are compared by their native selectors, on the whole dictionary or its most important latents."""
    return reading == Reading(reading.k, reading.latents, native)


def summary(
    metrics: Mapping[str, Metric],
    asked: Mapping[str, type[Metric]],
    documents: int,
    absent: str = "not asked for at this reading",
    paired: bool = False,
) -> dict[str, Any]:
    """Values, reasons for missing ones (`absent` where there is no metric), intervals and details of one reading, as they stand in a record.

    If it is to be `paired`, what paired columns came to under every draw of documents, and for each metric that has such columns the fingerprint
    of the draws: of one row, some metrics may be measured in another run than others.
    """
    row: dict[str, Any] = {"values": {}, "missing": {}, "intervals": {}, "details": {}}
    row |= {"draws": {}, "drawn": {}} if paired else {}
    for name, kind in asked.items():
        columns = [column.name for column in kind.columns]
        metric = metrics.get(name)
        answers = answered(metric, documents) if metric else [{column: Missing(absent) for column in columns}]
        result = answers[0]
        if set(result) != set(columns):
            raise ValueError(f"metric {name}: result has {', '.join(result)}, its columns are {', '.join(columns)}")
        for column, value in result.items():
            bad = value.reason if isinstance(value, Missing) else "" if np.isfinite(value) else f"the metric gave {value}"
            row["values"][f"{name}.{column}"] = None if bad else float(value)  # type: ignore[arg-type]
            if bad:
                row["missing"][f"{name}.{column}"] = bad
        if metric:
            drawn = resampling.resampled(kind.columns, answers[1:])
            row["intervals"] |= {f"{name}.{column}": resampling.interval(values) for column, values in drawn.items()}
            if paired and (kept := resampling.kept(kind.columns, drawn)):
                row["draws"] |= {f"{name}.{column}": values for column, values in kept.items()}
                row["drawn"][name] = resampling.fingerprint(documents)
            if isinstance(details := told(metric), Missing):
                row["missing"][f"{name}.details"] = details.reason
            elif details:
                row["details"][name] = details
    return row


def answered(metric: Metric, documents: int) -> Sequence[Mapping[str, float | Missing]]:
    """The metric's numbers for all draws; where the maths fails on this SAE's numbers, the reason, so that other SAEs keep theirs."""
    draws = resampling.draws(documents)
    try:
        return metric.results(draws)
    except UNCOMPUTABLE as error:
        return [{column.name: Missing(f"could not be computed: {error}") for column in metric.columns}] * len(draws)


def told(metric: Metric) -> dict[str, Any] | Missing:
    """The metric's details, if they can be computed and are JSON, which has no NaN and no infinity."""
    try:
        details = dict(metric.details())
    except UNCOMPUTABLE as error:
        return Missing(f"could not be computed: {error}")
    try:
        json.dumps(details, allow_nan=False)
    except ValueError:
        return Missing("the details hold numbers that are not finite")
    return details
