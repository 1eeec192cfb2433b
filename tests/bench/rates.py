"""Which learning rate each variant wants, at a small and at a large budget of the published suite. Run by hand, for two hours:

python -m tests.bench.rates

Trains on pycode's stream, one pass for all rates of a seed, and measures on calibration text: the error, and where a penalty stands in the
place of a budget, error and penalty. Appends to rates.jsonl beside this file, skips what is there already, prints a Markdown table (the mean
error over seeds, the best rate in bold, and what the suite's rate costs), and draws rates.svg. A second table has the rates between which it
is close, with one seed and twice the tokens: longer training wants lower rates.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from matplotlib.figure import Figure
from tabulate import tabulate

from sae_bench_htopk import suite
from sae_bench_htopk.axes import finish
from sae_bench_htopk.palette import GREY
from tests.bench.bed import Bed, Case, error, objective

TOKENS, SEEDS = 1_000_000, (0, 1, 2)
LONG = 2_000_000
RATES = tuple(0.0015 * 2**step for step in range(6))
CASES: dict[str, list[dict[str, object]]] = {
    "topk": [{"k": 4}, {"k": 32}, {"k": 128}],
    "batchtopk": [{"k": 8}, {"k": 32}],
    "matryoshka": [{"k": 8, "groups": (0.25, 0.5, 1.0)}, {"k": 32, "groups": (0.25, 0.5, 1.0)}],
    "hierarchical_topk": [{"k": 8}, {"k": 32}],
    "relu": [{"l1": 0.32}, {"l1": 0.04}],
}
CLOSE: list[tuple[str, dict[str, object], tuple[float, ...]]] = [
    ("topk", {"k": 4}, (0.003, 0.006)),
    ("topk", {"k": 16}, (0.006, 0.012)),
    ("topk", {"k": 32}, (0.012, 0.017, 0.024)),
    ("topk", {"k": 128}, (0.012, 0.024)),
    ("batchtopk", {"k": 8}, (0.003, 0.006)),
    ("batchtopk", {"k": 32}, (0.012, 0.024)),
    ("matryoshka", {"k": 32, "groups": (0.25, 0.5, 1.0)}, (0.006, 0.012)),
    ("hierarchical_topk", {"k": 32}, (0.003, 0.006, 0.012)),
]
FILE = Path(__file__).with_suffix(".jsonl")
SHARED = suite.load("pycode").train.rate or 0.0


class Key(NamedTuple):
    """What tells one training of the sweep from another."""

    variant: str
    config: str
    rate: float
    seed: int
    tokens: int  # asked for: whole batches of them were trained on


def key(case: Case) -> Key:
    """That of a case."""
    return Key(case.variant, json.dumps(case.config), case.recipe.learning_rate(case.recipe.latents), case.seed, case.recipe.tokens)


def done() -> dict[Key, float]:
    """The errors that are known already."""
    lines = map(json.loads, FILE.read_text(encoding="utf-8").splitlines()) if FILE.is_file() else ()
    return {Key(line["variant"], json.dumps(line["config"]), line["rate"], line["seed"], line["tokens"]): line["error"] for line in lines}


def measure(bed: Bed, cases: Sequence[Case]) -> None:
    """Trains what is missing of some cases, in one pass, and appends it."""
    known = done()
    missing = [case for case in cases if key(case) not in known]
    for case, learner, halves in bed.train(missing) if missing else ():
        number = error(learner, halves) if learner.variant.budget(learner.variant.config) else objective(learner, halves)
        with FILE.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**key(case)._asdict(), "config": case.config, "error": number, "dead": learner.curve[-1]["dead"]}) + "\n")


def sweep() -> None:
    """All rates at all seeds, a seed and a variant at a time; then those that are close, for longer."""
    bed = Bed("pycode", TOKENS)
    for seed, (variant, configs) in product(SEEDS, CASES.items()):
        measure(bed, [Case(variant, config, replace(bed.suite.train, rate=rate), seed) for config, rate in product(configs, RATES)])
        print(f"seed {seed}, {variant}: done", file=sys.stderr, flush=True)
    bed = Bed("pycode", LONG)
    measure(bed, [Case(variant, config, replace(bed.suite.train, rate=rate), SEEDS[0]) for variant, config, rates in CLOSE for rate in rates])


def errors_of(variant: str, config: dict[str, object]) -> dict[float, list[float]]:
    """What is known of one case: rate -> the error of each seed."""
    known = done()
    found = {rate: [known[one] for seed in SEEDS if (one := Key(variant, json.dumps(config), rate, seed, TOKENS)) in known] for rate in RATES}
    return {rate: errors for rate, errors in found.items() if errors}


def table() -> str:
    """One row for each variant and k, one column for each rate, and what the shared rate costs beside the spread over seeds at the best."""
    rows = []
    for variant, config in ((variant, config) for variant, configs in CASES.items() for config in configs):
        if found := errors_of(variant, config):
            best = min(found, key=lambda rate: fmean(found[rate]))
            cost = f"{fmean(found[SHARED]) - fmean(found[best]):.4f}" if SHARED in found else ""
            rows.append((variant, said(config), *(cell(found.get(rate, []), rate == best) for rate in RATES), cost))
    return tabulate(rows, ["variant", "trained at", *(f"{rate:g}" for rate in RATES), f"cost of {SHARED:g}"], "github")


def long_table() -> str:
    """The rates between which it is close, at twice the length: one row for each that is known."""
    known = done()
    rows = [
        (variant, said(config), rate, known.get(Key(variant, json.dumps(config), rate, SEEDS[0], LONG))) for variant, config, rates in CLOSE for rate in rates
    ]
    return tabulate(rows, ["variant", "trained at", "rate", "error"], "github", floatfmt=("", "", "g", ".4f"))


def plot() -> Figure:
    """Error over the case's least against rate, a panel for each variant; bars are a standard deviation over seeds."""
    shown = {variant: configs for variant, configs in CASES.items() if any(errors_of(variant, config) for config in configs)}
    figure = Figure(figsize=(3.4 * len(shown), 3.4), layout="constrained")
    for axis, (variant, configs) in zip(figure.subplots(1, len(shown), sharey=True), shown.items(), strict=True):
        for config in configs:
            if found := errors_of(variant, config):
                least = min(fmean(errors) for errors in found.values())
                bars = [stdev(errors) / least if len(errors) > 1 else 0.0 for errors in found.values()]
                axis.errorbar(list(found), [fmean(errors) / least for errors in found.values()], bars, marker="o", markersize=4, label=said(config))
        axis.set_xscale("log", base=2)
        axis.set_xticks(RATES, [f"{rate:g}" for rate in RATES], rotation=45)
        axis.set_ylim(0.98, 1.4)
        axis.axvline(SHARED, color=GREY, linestyle=":")
        axis.set_title(variant, color=GREY, fontsize=11, pad=22)
        axis.set_xlabel("rate (log scale)", color=GREY)
        axis.legend(frameon=False, labelcolor=GREY, loc="lower center", bbox_to_anchor=(0.5, 0.98), ncols=3, columnspacing=1, handlelength=1)
        finish(axis)
    figure.axes[0].set_ylabel("error over the least", color=GREY)
    return figure


def said(config: dict[str, object]) -> str:
    """The budget, or the penalty."""
    name, value = next(iter(config.items()))
    return f"{name} = {value}"


def cell(errors: list[float], best: bool) -> str:
    """A mean with its standard deviation over seeds."""
    if not errors:
        return ""
    text = f"{fmean(errors):.4f}" + (f" ±{stdev(errors):.4f}" if len(errors) > 1 else "")
    return f"**{text}**" if best else text


if __name__ == "__main__":
    sweep()
    print(table(), long_table(), sep="\n\n")
    plot().savefig(Path(__file__).with_suffix(".svg"), transparent=True)
