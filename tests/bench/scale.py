"""Many SAEs on one stream for a while: how fast, how near to the device's roofline, in how much memory, and whether any of it leaks. Run by hand:

python -m tests.bench.scale                             # 5 SAEs of 65,536 latents on a GPU; where there is none, 10 of 8,192 on the CPU
python -m tests.bench.scale 3 256 8192 32 2048 200      # learners, d, latents, k, batch, steps

TopK, one seed each, on a few made-up batches in turn. The clock starts after the first steps. Memory is that of the GPU's tensors, or of the whole
process; what it is at the end is compared with what it was at step 100 and half way. No latent is silent for long enough to be dead, so AuxK is idle.
Prints what the roofline was made of, and a row of a Markdown table.
"""

import itertools
import sys
from typing import NamedTuple

import torch
from tabulate import tabulate

from sae_bench_htopk import plugins
from sae_bench_htopk.contract import Statistics
from sae_bench_htopk.trainer import Learner, Recipe, train
from tests.bench.machine import finished, forget_peak, held, machine, most_held
from tests.bench.mixtures import data
from tests.bench.roofline import Peaks, Shape, peaks, step_seconds


class Load(NamedTuple):
    """How many SAEs of which shape, for how long."""

    learners: int
    shape: Shape
    steps: int


LOADS = {"cuda": Load(5, Shape(2304, 65_536, 128, 8192), 300), "cpu": Load(10, Shape(256, 8192, 32, 2048), 1000)}
DISTINCT = 16  # batches that the stream repeats
WARM_UP, MARK = 10, 100  # steps before the clock starts, and before memory is first looked at; of short runs a half at most


class Found(NamedTuple):
    """What came of one load."""

    seconds: float  # of one step of all learners
    of_learner: float  # the mean of one learner's
    peak: float  # MB
    at_mark: float
    at_half: float
    at_end: float


def learner(shape: Shape, steps: int, seed: int, device: str) -> Learner:
    """One SAE before its first step; made-up rows are centred and have no direction of their own."""
    kind, d = plugins.variant("topk"), shape.d
    recipe = Recipe(tokens=steps * shape.batch, batch=shape.batch, latents=shape.latents, block=max(shape.batch, 65_536), dead_after=10**12)
    statistics = Statistics(torch.zeros(d, device=device), torch.eye(d, device=device) / d)
    return Learner(kind(kind.Config(k=shape.k), d, shape.latents, seed).to(device), recipe, statistics)


def measure(load: Load, device: str) -> Found:
    """Trains them all, and looks at the clock and at memory."""
    shape, steps = load.shape, load.steps
    forget_peak(device)
    made = [x.to(device) for x in data(shape.d, shape.batch, min(DISTINCT, steps))]
    learners = [learner(shape, steps, seed, device) for seed in range(load.learners)]
    first, mark = min(WARM_UP, steps // 2), min(MARK, steps // 2)
    begun = ended = at_mark = at_half = at_end = looked = 0.0
    spent = [0.0] * load.learners
    for step, _ in enumerate(train(learners, itertools.cycle(made)), 1):
        if step == first:
            begun, spent = finished(device), [one.seconds for one in learners]
        if step in (mark, steps // 2):
            clock = finished(device)
            at_mark, at_half = (held(device) if step == mark else at_mark), held(device)
            looked += finished(device) - clock
        if step == steps:  # inside the loop, as at the mark, while the last batch's tensors are still there
            ended, at_end = finished(device), held(device)
    if failed := [one.failed for one in learners if one.failed]:
        raise FloatingPointError("; ".join(failed))
    counted = steps - first
    each = sum(one.seconds - before for one, before in zip(learners, spent, strict=True)) / load.learners
    return Found((ended - begun - looked) / counted, each / counted, most_held(device), at_mark, at_half, at_end)


def row(load: Load, found: Found, top: Peaks) -> dict[str, object]:
    """A row of the table."""
    shape = load.shape
    return {
        "learners": load.learners, "d": shape.d, "latents": f"{shape.latents:,}", "k": shape.k, "batch": shape.batch, "steps": load.steps,
        "tokens/s, each to all learners": f"{shape.batch / found.seconds:,.0f}", "tokens/s of one learner": f"{shape.batch / found.of_learner:,.0f}",
        "MB at most": f"{found.peak:,.0f}", f"at step {min(MARK, load.steps // 2)}": f"{found.at_mark:,.0f}", "half way": f"{found.at_half:,.0f}",
        "at the end": f"{found.at_end:,.0f}", "end over half": f"{found.at_end / found.at_half - 1:+.2%}",
        "of the roofline": f"{load.learners * step_seconds(shape, top) / found.seconds:.1%}",
    }  # fmt: skip


def asked(words: list[str], device: str) -> Load:
    """What the command line says, or else the device's own load."""
    if not words:
        return LOADS[device]
    if len(words) != 6 or not all(word.isdecimal() and int(word) for word in words) or words[-1] == "1":
        sys.exit(f"error: {' '.join(words)}: wanted six whole numbers above 0, the last above 1: learners, d, latents, k, batch, steps")
    learners, *shape, steps = map(int, words)
    return Load(learners, Shape(*shape), steps)


if __name__ == "__main__":
    device = "cuda" if torch.cuda.is_available() else "cpu"
    load = asked(sys.argv[1:], device)
    top = peaks(device)
    floor = step_seconds(load.shape, top)
    print(f"{machine()}\n\nroofline: {top}: {1000 * floor:.2f} ms a step of one learner, {load.shape.batch / floor:,.0f} tokens/s\n", flush=True)
    print(tabulate([row(load, measure(load, device), top)], "keys", "github", disable_numparse=True))
