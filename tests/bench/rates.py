"""Which learning rate each variant wants, at its smallest and its largest k of the published suite. Run by hand, for an hour:

python -m tests.bench.rates

Trains on pycode's stream, one pass for all rates of a seed, and measures on calibration text. Appends to rates.jsonl beside this file,
skips what is there already, and prints a Markdown table: the mean error over seeds, the best rate in bold.
"""

import json
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import fmean, stdev

from tabulate import tabulate

from tests.bench.bed import Bed, Case, error

TOKENS, SEEDS = 1_000_000, (0, 1, 2)
RATES = tuple(0.0015 * 2**step for step in range(6))
CASES: dict[str, list[dict[str, object]]] = {
    "topk": [{"k": 4}, {"k": 32}, {"k": 128}],
    "batchtopk": [{"k": 8}, {"k": 32}],
    "matryoshka": [{"k": 8, "groups": (0.25, 0.5, 1.0)}, {"k": 32, "groups": (0.25, 0.5, 1.0)}],
    "hierarchical_topk": [{"k": 8}, {"k": 32}],
}
FILE = Path(__file__).with_suffix(".jsonl")


def done() -> dict[tuple[str, str, float, int], float]:
    """The errors that are known already."""
    lines = map(json.loads, FILE.read_text(encoding="utf-8").splitlines()) if FILE.is_file() else ()
    return {(line["variant"], json.dumps(line["config"]), line["rate"], line["seed"]): line["error"] for line in lines}


def sweep() -> None:
    """Trains what is missing, a seed and a variant at a time."""
    bed = Bed("pycode", TOKENS)
    for seed, (variant, configs) in product(SEEDS, CASES.items()):
        cases = [Case(variant, config, replace(bed.suite.train, rate=rate), seed) for config, rate in product(configs, RATES)]
        known = done()
        missing = [case for case in cases if (variant, json.dumps(case.config), case.recipe.rate, seed) not in known]
        for case, learner, halves in bed.train(missing) if missing else ():
            dead = learner.curve[-1]["dead"]
            line = {
                "variant": variant,
                "config": case.config,
                "rate": case.recipe.rate,
                "seed": seed,
                "error": error(learner, halves),
                "dead": dead,
                "tokens": learner.tokens,
            }
            with FILE.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        print(f"seed {seed}, {variant}: done", file=sys.stderr, flush=True)


def table() -> str:
    """One row for each variant and k, one column for each rate."""
    known, rows = done(), []
    for variant, configs in CASES.items():
        for config in configs:
            found = {rate: [known[key] for seed in SEEDS if (key := (variant, json.dumps(config), rate, seed)) in known] for rate in RATES}
            means = {rate: fmean(errors) for rate, errors in found.items() if errors}
            best = min(means, key=means.__getitem__, default=None)
            cells = [cell(found[rate], rate == best) for rate in RATES]
            rows.append((variant, config["k"], *cells))
    return tabulate(rows, ["variant", "k", *(f"{rate:g}" for rate in RATES)], "github")


def cell(errors: list[float], best: bool) -> str:
    """A mean with its standard deviation over seeds."""
    if not errors:
        return ""
    text = f"{fmean(errors):.4f}" + (f" ±{stdev(errors):.4f}" if len(errors) > 1 else "")
    return f"**{text}**" if best else text


if __name__ == "__main__":
    sweep()
    print(table())
