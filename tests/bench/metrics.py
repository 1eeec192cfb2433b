"""Says how long each metric takes in a whole run: `python -m tests.bench.metrics suites/quickstart.yaml --output DIR`.

What metrics share of a text is counted where it is first made. Trains nothing where weights are in DIR already.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from tabulate import tabulate

from sae_bench_htopk import plugins
from sae_bench_htopk.__main__ import main
from sae_bench_htopk.contract import Metric

METHODS = ("__init__", "update", "results", "details")  # all that a run calls


def timed(kind: type[Metric], name: str, method: str, spent: Counter[tuple[str, str]]) -> None:
    """Makes the method count its seconds."""
    original: Callable[..., Any] = getattr(kind, method)

    def counting(self: Metric, *given: Any) -> Any:
        start = time.perf_counter()
        try:
            return original(self, *given)
        finally:
            spent[name, method] += time.perf_counter() - start  # type: ignore[assignment]

    setattr(kind, method, counting)


if __name__ == "__main__":
    spent: Counter[tuple[str, str]] = Counter()
    for metric in plugins.names("metrics"):
        for part in METHODS:
            timed(plugins.metric(metric), metric, part, spent)
    begun = time.perf_counter()
    code = main(["run", *sys.argv[1:]])
    took = time.perf_counter() - begun
    lines = [[metric, *(spent[metric, part] for part in METHODS[1:]), sum(spent[metric, part] for part in METHODS)] for metric in plugins.names("metrics")]
    lines += [["the whole run", None, None, None, took]]
    print(tabulate(lines, headers=["seconds in", *METHODS[1:], "all"], floatfmt=".1f", tablefmt="github"))
    sys.exit(code)
