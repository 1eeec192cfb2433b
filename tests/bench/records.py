"""How long pages take to make from 500 records: the published ones, multiplied with a little noise. Run by hand:

python -m tests.bench.records                # more seeds, more SAEs, more suites
python -m tests.bench.records seeds 3        # one case, three times
python -m tests.bench.records rates 1 DIR    # its records and pages stay in DIR

Each time is that of the whole command in a process of its own, from its start to its end, and all of its processes' CPU seconds.
Prints a Markdown table.
"""

import copy
import hashlib
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tabulate import tabulate

from sae_bench_htopk import records
from sae_bench_htopk.records import Record

PUBLISHED = Path(__file__).parents[2] / "leaderboard" / "pycode"
WANTED = 500  # records, or a few more
NOISE = 1e-3  # of every number, relative, but for those of sparsity, by which readings are told apart


def noisy(record: Record, name: str) -> Record:
    """A copy under another key, whose numbers, intervals and draws are a little off, each column of a row by one factor."""
    key = hashlib.sha256(f"{record['train_key']} {name}".encode()).hexdigest()[:16]
    made, source = {**copy.deepcopy(record), "train_key": key}, random.Random(key)
    for row in made["rows"]:
        for column in (column for column, value in row["values"].items() if value is not None and not column.startswith("sparsity.")):
            factor = 1 + NOISE * source.gauss(0, 1)
            row["values"][column] *= factor
            for part in ("intervals", "draws"):
                if (several := row.get(part, {}).get(column)) is not None:
                    row[part][column] = [None if one is None else one * factor for one in several]
    return made


def more_seeds(published: list[Record]) -> Iterator[Record]:
    """The same SAEs, each of many seeds."""
    first = [record for record in published if record["sae"]["seed"] == 0 and not record["sae"]["control"]]
    for record in first:
        for seed in range(math.ceil(WANTED / len(first))):
            yield (made := noisy(record, f"seed {seed}")) | {"sae": {**made["sae"], "seed": seed}}
    yield from (record for record in published if record["sae"]["control"])


def more_rates(published: list[Record]) -> Iterator[Record]:
    """More SAEs, of as many seeds each: every one at several learning rates."""
    for turn in range(math.ceil(WANTED / len(published))):
        for record in published:
            yield (made := noisy(record, f"rate {turn}")) | {"settings": {**made["settings"], "rate": record["settings"]["rate"] * 2**turn}}


def more_suites(published: list[Record]) -> Iterator[Record]:
    """The same board several times over."""
    for turn in range(math.ceil(WANTED / len(published))):
        for record in published:
            yield noisy(record, f"suite {turn}") | {"suite": f"suite_{turn}"}


CASES: dict[str, Callable[[list[Record]], Iterator[Record]]] = {"seeds": more_seeds, "rates": more_rates, "suites": more_suites}


def make(case: str, output: Path) -> tuple[int, int]:
    """Writes a case's records, without waiting for the disk; (how many, how many bytes)."""
    count = size = 0
    for record in CASES[case](records.read_all(PUBLISHED)):
        (path := output / "leaderboard" / record["suite"] / f"{record['train_key']}.json").parent.mkdir(parents=True, exist_ok=True)
        count, size = count + 1, size + path.write_bytes(records.as_text(record).encode())
    return count, size


def timed(output: Path) -> tuple[float, float]:
    """(seconds by the clock, CPU seconds of all processes) of making the pages."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "sae_bench_htopk", "leaderboard", "--output", str(output)], check=True, stdout=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(arguments: list[str]) -> None:
    """Makes the records of each case, times their pages, and prints the table."""
    cases, times = arguments[:1] or list(CASES), int(arguments[1]) if len(arguments) > 1 else 1
    table = []
    for case in cases:
        with tempfile.TemporaryDirectory() as temporary:
            output = Path(arguments[2] if len(arguments) > 2 else temporary)
            count, size = make(case, output)
            for _ in range(times):
                load = os.getloadavg()[0]  # of whatever else runs on the machine
                table.append((case, count, size / 2**20, *timed(output), load))
    print(tabulate(table, ("case", "records", "MiB", "s", "CPU s", "load before"), tablefmt="github", floatfmt=".1f"))


if __name__ == "__main__":
    main(sys.argv[1:])
