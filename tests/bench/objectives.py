"""What the settings of HierarchicalTopK are worth: which prefixes it is trained on, AuxK, and free decoder rows. Run by hand:

python -m tests.bench.objectives

Trains on pycode's stream, one pass for all of a seed, and measures on calibration text. Appends to objectives.jsonl beside this file,
skips what is there already, and prints a Markdown table: 1 - error over variance at each k read, and the share of dead latents.
"""

import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

from tabulate import tabulate

from tests.bench.bed import Bed, Case, error

TOKENS, SEEDS, KS = 1_000_000, (0, 1, 2), (4, 8, 16, 32)
CASES: dict[str, tuple[str, dict[str, object], dict[str, object]]] = {  # name -> variant, its settings, changes of the recipe
    "topk": ("topk", {"k": 32}, {}),
    "topk, no AuxK": ("topk", {"k": 32}, {"auxk": 0.0}),
    "topk, free rows": ("topk", {"k": 32}, {"unit_rows": False}),
    "J = 1..32": ("hierarchical_topk", {"k": 32}, {}),
    "J = 1..32, no AuxK": ("hierarchical_topk", {"k": 32}, {"auxk": 0.0}),
    "J = 1..32, free rows": ("hierarchical_topk", {"k": 32}, {"unit_rows": False}),
    "J = 1..32, weights 1/j": ("hierarchical_topk", {"k": 32, "weights": "inverse"}, {}),
    "J = 2, 4 .. 32": ("hierarchical_topk", {"k": 32, "prefixes": 2}, {}),
    "J = 4, 8 .. 32": ("hierarchical_topk", {"k": 32, "prefixes": 4}, {}),
    "J = 8, 16, 24, 32": ("hierarchical_topk", {"k": 32, "prefixes": 8}, {}),
    "J = 8, 16, 32": ("hierarchical_topk", {"k": 32, "prefixes": (8, 16, 32)}, {}),
    "Multi-TopK: L(8) + L(32) / 8": ("hierarchical_topk", {"k": 32, "prefixes": (8, 32), "weights": (1.0, 0.125)}, {}),
    # so many latents that some die
    "topk, 8,192 latents": ("topk", {"k": 32}, {"latents": 8192}),
    "topk, 8,192 latents, no AuxK": ("topk", {"k": 32}, {"latents": 8192, "auxk": 0.0}),
    "J = 1..32, 8,192 latents": ("hierarchical_topk", {"k": 32}, {"latents": 8192}),
    "J = 1..32, 8,192 latents, no AuxK": ("hierarchical_topk", {"k": 32}, {"latents": 8192, "auxk": 0.0}),
}
FILE = Path(__file__).with_suffix(".jsonl")


def done() -> dict[tuple[str, int], dict[str, float]]:
    """What is known already: (case, seed) -> its numbers."""
    lines = map(json.loads, FILE.read_text(encoding="utf-8").splitlines()) if FILE.is_file() else ()
    return {(line["case"], line["seed"]): line for line in lines}


def measure() -> None:
    """Trains what is missing, a seed at a time."""
    bed = Bed("pycode", TOKENS)
    for seed in SEEDS:
        missing = [name for name in CASES if (name, seed) not in done()]
        cases = [Case(variant, config, replace(bed.suite.train, **recipe), seed) for variant, config, recipe in map(CASES.__getitem__, missing)]  # type: ignore[arg-type]
        for name, (_, learner, halves) in zip(missing, bed.train(cases) if cases else (), strict=True):
            numbers = {str(k): 1 - error(learner, halves, k) for k in KS} | {"dead": learner.curve[-1]["dead"] / len(learner.variant.W_enc)}
            with FILE.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"case": name, "seed": seed, **numbers}) + "\n")


def table() -> str:
    """One row for each case, a mean and a standard deviation over seeds for each number."""
    known, columns = done(), [*map(str, KS), "dead"]
    rows = []
    for name in CASES:
        found = [known[name, seed] for seed in SEEDS if (name, seed) in known]
        rows.append((name, *(f"{fmean(values):.4f} ±{stdev(values):.4f}" if len(values := [line[c] for line in found]) > 1 else "" for c in columns)))
    return tabulate(rows, ["trained as", *(f"k = {k}" for k in KS), "dead"], "github")


if __name__ == "__main__":
    measure()
    print(table())
