"""Layer calls and time of the language-model loss: ours beside running the whole model anew for each SAE and reading. Run by hand:

python -m tests.bench.splice

On the embedded model at its middle layer, for some numbers of (SAE, reading) pairs, on the same windows and reconstructions:
ours: the layers up to the hook once, the rest once for the clean run, for each of two ablations and for each pair;
kind: the whole model for each pair, the clean run and the ablations once;
SAEBench: the whole model three times for each pair (clean, spliced, zero-ablated), as its evals/core/main.py does.
Prints a Markdown table: calls of layers, counted as they run, seconds, and both over ours.
"""

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from tabulate import tabulate
from torch import Tensor

from sae_bench_htopk.asked import HELD_OUT
from sae_bench_htopk.evaluate import Splice
from sae_bench_htopk.lm import Hook, SubjectModel
from sae_bench_htopk.stream import Units
from sae_bench_htopk.windows import Windows, batches
from tests.bench.bed import Bed
from tests.bench.machine import machine

PAIRS, ROUNDS, WINDOWS = (1, 8, 31), 3, 16


class Calls:
    """Counts layers as they run: a layer that is skipped never reaches its feed-forward part."""

    def __init__(self, model: SubjectModel) -> None:
        """From now on."""
        self.count = 0
        for block in model.blocks:
            block.mlp.register_forward_hook(self.called)

    def called(self, *_: object) -> None:
        """One more."""
        self.count += 1


@torch.no_grad()
def whole(model: SubjectModel, windows: Windows, replacement: Tensor | None) -> Tensor:
    """The loss of the whole model, with another activation at the hook point (None: as it is)."""

    def swap(_: object, __: object, output: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...] | None:
        if replacement is None:
            return None
        return (replacement, *output[1:]) if isinstance(output, tuple) else replacement

    with model.layer.register_forward_hook(swap):
        logits = model.model(input_ids=windows.tokens, use_cache=False).logits
    return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), windows.tokens[:, 1:].flatten())


def ours(model: SubjectModel, windows: Windows, units: Units, made: list[Tensor]) -> None:
    """As `evaluate` does, with the divergences and agreements that it measures beside the losses."""
    captured = model.capture(windows.tokens)
    rest = Splice(model, windows, captured, units, units.is_massive(captured.activation[windows.real].float()))
    _ = rest.clean, rest.zero_ablated, rest.mean_ablated
    for x_hat in made:
        rest.spliced(x_hat[windows.real] * units.scale)


def kind(model: SubjectModel, windows: Windows, units: Units, made: list[Tensor]) -> None:
    """The baselines once, the whole model for each pair; losses alone."""
    for replacement in (None, torch.zeros_like(made[0]), (units.statistics.mean / units.scale).expand_as(made[0]), *made):
        whole(model, windows, replacement)


def saebench(model: SubjectModel, windows: Windows, units: Units, made: list[Tensor]) -> None:
    """Everything anew for each pair; losses alone."""
    for x_hat in made:
        for replacement in (None, x_hat, torch.zeros_like(x_hat)):
            whole(model, windows, replacement)


def compare(model: SubjectModel, windows: Windows, units: Units) -> list[tuple[object, ...]]:
    """A row for each number of pairs and each way."""
    calls, rows = Calls(model), list[tuple[object, ...]]()
    ways: dict[str, Callable[[SubjectModel, Windows, Units, list[Tensor]], None]] = {"ours": ours, "kind": kind, "SAEBench": saebench}
    clean = model.activations(windows.tokens)
    for pairs in PAIRS:
        made = [clean + 0.1 * number * units.scale * torch.randn_like(clean) for number in range(pairs)]
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        counted: dict[str, int] = {}
        for _ in range(ROUNDS):
            for name, way in ways.items():
                before, clock = calls.count, time.perf_counter()
                way(model, windows, units, made)
                seconds[name].append(time.perf_counter() - clock)
                counted[name] = calls.count - before
        median = {name: statistics.median(values) for name, values in seconds.items()}
        rows += [(pairs, name, counted[name], median[name], counted[name] / counted["ours"], median[name] / median["ours"]) for name in ways]
    return rows


if __name__ == "__main__":
    bed = Bed("pycode", 65_536)
    half = Hook(bed.runner.training.model.layers // 2 - 1, "resid_post")
    model = SubjectModel(bed.runner.training.model.model, bed.runner.training.model.tokenizer, half)
    windows = next(iter(batches(bed.runner.measuring.shown[HELD_OUT].windows, WINDOWS, bed.suite.model.context, model.bos)))
    units = bed.units()
    print(f"{machine()}\n\nlayers up to {half.layer} of {model.layers}, {WINDOWS} windows of {bed.suite.model.context} tokens, {ROUNDS} rounds\n")
    heads = ["pairs", "way", "layer calls", "seconds", "calls over ours", "time over ours"]
    print(tabulate(compare(model, windows, units), heads, "github", floatfmt=("", "", "", ".2f", ".2f", ".2f")))
