"""What the whole curve of explained variance against L0 costs, beside its last point alone and beside every budget read for itself. Run by hand:

python -m tests.bench.curve

Each way is what an evaluation does of one SAE on one batch whose activations are there: it encodes, decodes, updates its metrics, and then
finishes them: their numbers for all draws of documents, and their details. A real evaluation finishes once after many batches, so here the
finish counts for more than there; it has a column of its own. The last point is explained variance at K; the curve is that and
`sparsity_curve`; the third way decodes and measures every prefix, and finishes the last alone. The variance of x, which all SAEs share, is
computed once. Prints a Markdown table of medians, and the range over rounds in turn, of processor time on one thread, which other work on
the machine moves least; the curve must end at the last point.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from tabulate import tabulate

from sae_bench_htopk import plugins, resampling
from sae_bench_htopk.calibrate import calibrate
from sae_bench_htopk.contract import Batch, Codes, Continuation, Metric, Missing, Reading, Selector, Setting, Text, Variant
from sae_bench_htopk.evaluate import prefixes
from tests.bench.machine import machine

SHAPES = [(192, 2048, 128), (768, 16384, 128), (768, 16384, 512)]  # d, latents, K
ONE_BY_ONE = 128  # the largest K of which every prefix is decoded for itself: that takes time like K squared
ROWS, DOCUMENTS, ROUNDS = 4096, 100, 5
HEAD = ["d", "latents", "K", "read by", "what", "median ms", "least", "most", "of it the finish", "x"]


class Nothing(Continuation):
    """Neither metric asks for the language model."""


def batch_of(variant: Variant, text: Text, reading: Reading, codes: Codes) -> Batch:
    """As `evaluate.measure` makes it."""
    return Batch(text, variant.decode(codes), codes, partial(prefixes, variant, reading, codes, text.x))


@torch.no_grad()
def measured(names: list[str], variant: Variant, text: Text, reading: Reading) -> list[Metric]:
    """The metrics of one reading, after one batch."""
    batch = batch_of(variant, text, reading, variant.encode(text.x, reading))
    return [fed(name, variant, batch, reading) for name in names]


@torch.no_grad()
def one_by_one(variant: Variant, text: Text, reading: Reading) -> list[Metric]:
    """Explained variance of every prefix of the codes at K, decoded for itself; the last is K's."""
    codes = variant.encode(text.x, reading)
    return [fed("explained_variance", variant, batch_of(variant, text, reading, codes.prefix(k)), reading) for k in range(1, reading.k + 1)][-1:]


def fed(name: str, variant: Variant, batch: Batch, reading: Reading) -> Metric:
    """A new metric that has seen one batch."""
    latents, d = variant.W_dec.shape
    metric = plugins.metric(name)(Setting(d, latents, latents, DOCUMENTS, reading.k))
    metric.update(batch)
    return metric


def timed(way: Callable[[], list[Metric]]) -> tuple[float, float]:
    """(seconds of everything, of them the finish)."""
    clock = time.process_time()
    metrics = way()
    fed_at = time.process_time()
    answers = [(metric.results(resampling.draws(DOCUMENTS)), metric.details()) for metric in metrics]
    end = time.process_time()
    check(answers)
    return end - clock, end - fed_at


def compare(d: int, latents: int, K: int, select: Selector) -> list[tuple[object, ...]]:
    """A row for each way at one shape."""
    kind, random = plugins.variant("topk"), torch.Generator().manual_seed(0)
    variant, x = kind(kind.Config(k=K), d, latents, 0), torch.nn.functional.normalize(torch.randn(ROWS, d, generator=random), dim=1)
    reading = Reading(K, select=select)
    calibrate(variant, [reading], x, "row", K)
    place = torch.arange(ROWS)
    text = Text(x, place % DOCUMENTS, place, place, torch.zeros(ROWS, 2, dtype=torch.long), place < 0, [""] * DOCUMENTS, Nothing())
    ways: dict[str, Callable[[], list[Metric]]] = {
        "k = K alone": lambda: measured(["explained_variance"], variant, text, reading),
        "the curve, too": lambda: measured(["explained_variance", "sparsity_curve"], variant, text, reading),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(ROUNDS + 1):
        for name, way in ways.items():
            seconds[name].append(timed(way))
    seconds = {name: values[1:] for name, values in seconds.items()}  # the first round warms up
    if select == "row" and K <= ONE_BY_ONE:
        seconds["every k, one decode each (one round)"] = [timed(lambda: one_by_one(variant, text, reading))]
    alone = statistics.median(whole for whole, _ in seconds["k = K alone"])
    return [(d, latents, K, select, name, *numbers(values, alone)) for name, values in seconds.items()]


def numbers(seconds: list[tuple[float, float]], alone: float) -> tuple[float, ...]:
    """Median, least and most over rounds, and the median of the finish, in ms; the median over that of K alone."""
    whole = [1000 * one for one, _ in seconds]
    return statistics.median(whole), min(whole), max(whole), 1000 * statistics.median(finish for _, finish in seconds), statistics.median(whole) / alone / 1000


def check(answers: list[tuple[Sequence[Mapping[str, float | Missing]], Mapping[str, Any]]]) -> None:
    """The curve ends where explained variance says. Raises ValueError if not."""
    ev = answers[0][0][0]["ev"]
    if len(answers) > 1 and abs(answers[1][1]["ev"][-1] - ev) > 1e-5:
        raise ValueError(f"the curve ends at {answers[1][1]['ev'][-1]}, explained variance is {ev}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"{machine()}\n\n{ROWS} rows, {ROUNDS} rounds\n")
    rows = [row for shape in SHAPES for select in ("row", "threshold") for row in compare(*shape, select)]  # type: ignore[arg-type]
    print(tabulate(rows, HEAD, "github", floatfmt=("", "", "", "", "", ".0f", ".0f", ".0f", ".0f", ".2f")))
