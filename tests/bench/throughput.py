"""How fast a language model of Gemma-2 2B's shape feeds SAEs. Its weights are random: a throughput run, never a record on a board. Run by hand:

python -m tests.bench.throughput           # on a CUDA device: 26 layers, d = 2304, five SAEs of 65,536 latents
python -m tests.bench.throughput --small   # on any device: a thin model and small SAEs, to see that it runs

Nothing is downloaded: the model is built from its configuration in bfloat16, the text is random token ids, and both go the way of a run of
suites/gemma2_2b.yaml: windows, the layers up to the hook, shuffled blocks, and the one training loop. First the stream alone, then with the SAEs.
"""

import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from tabulate import tabulate
from transformers import AutoModelForCausalLM, Gemma2Config

from sae_bench_htopk import plugins
from sae_bench_htopk.lm import Hook, SubjectModel
from sae_bench_htopk.stream import Stream
from sae_bench_htopk.trainer import Learner, Recipe, train
from sae_bench_htopk.windows import Window
from tests.bench.machine import finished, forget_peak, held, machine, most_held
from tests.bench.roofline import Peaks, Shape, peaks, step_seconds

BOS = 2


@dataclass(frozen=True)
class Run:
    """What is built and how much of it is timed."""

    config: Gemma2Config
    layer: int
    context: int
    latents: int
    batch: int
    block: int
    alone: int  # batches of the stream alone
    steps: int  # batches of all SAEs
    ks: tuple[int, int, int]  # of topk; the largest is hierarchical_topk's, too, and the middle one batchtopk's

    def saes(self) -> list[tuple[str, int]]:
        """Five of the flagship's entries: variant, k."""
        return [("hierarchical_topk", max(self.ks)), *(("topk", k) for k in self.ks), ("batchtopk", sorted(self.ks)[1])]


def published() -> Run:
    """Gemma-2 2B as it is published, the flagship's hook, context and SAEs."""
    config = Gemma2Config(
        vocab_size=256_000, hidden_size=2304, intermediate_size=9216, num_hidden_layers=26, num_attention_heads=8, num_key_value_heads=4,
        head_dim=256, query_pre_attn_scalar=256, sliding_window=4096, max_position_embeddings=8192,
    )  # fmt: skip
    return Run(config, 12, 1024, 65_536, 8192, 65_536, 96, 64, (32, 64, 128))


def small() -> Run:
    """The same with everything thin."""
    config = Gemma2Config(
        vocab_size=1000, hidden_size=64, intermediate_size=128, num_hidden_layers=6, num_attention_heads=2, num_key_value_heads=1,
        head_dim=32, query_pre_attn_scalar=32, sliding_window=32, max_position_embeddings=128,
    )  # fmt: skip
    return Run(config, 2, 64, 512, 256, 4096, 40, 20, (4, 8, 16))


def subject(run: Run, device: str) -> SubjectModel:
    """The model with random weights, made where it is to run, and no tokenizer."""
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(run.config, dtype=torch.bfloat16, attn_implementation="eager")  # as for any soft-capped model
    return SubjectModel(model, cast(Any, None), Hook(run.layer, "resid_post"))


class Text(Iterator[Window]):
    """Full windows of random token ids, without end."""

    def __init__(self, run: Run) -> None:
        """The same ids each time."""
        self.vocabulary, self.length, self.random, self.given = run.config.vocab_size, run.context - 1, np.random.default_rng(0), 0

    def __next__(self) -> Window:
        """Another one, of a document of its own."""
        self.given += 1
        return Window(self.given - 1, 0, self.random.integers(BOS + 1, self.vocabulary, self.length), None)

    def position(self) -> None:
        """For a stream that notes where its text stands; nothing goes on from here."""


class Found(NamedTuple):
    """What came of one part of the run."""

    what: str
    seconds: float  # of a batch
    peak: float  # MB
    at_end: float
    floor: float  # seconds of a batch that the roofline allows


def stream(run: Run, model: SubjectModel, batches: int) -> Stream:
    """At least so many batches; its opening is harvested at once."""
    return Stream(model, Text(run), run.context, BOS, run.block, 0, batches * run.batch)


def alone(run: Run, model: SubjectModel, device: str, floor: float) -> Found:
    """The stream with nobody to take it."""
    forget_peak(device)
    begun = finished(device)
    for _ in itertools.islice(stream(run, model, run.alone).batches(run.batch), run.alone):
        pass
    return Found("stream alone", (finished(device) - begun) / run.alone, most_held(device), held(device), floor)


def together(run: Run, model: SubjectModel, device: str, floor: float) -> tuple[Found, list[Learner]]:
    """The same with SAEs; making them is not counted."""
    forget_peak(device)
    begun = finished(device)
    source = stream(run, model, run.steps)
    paused = finished(device)
    recipe = Recipe(tokens=run.steps * run.batch, batch=run.batch, latents=run.latents, block=run.block)
    learners = [learner(name, k, run, recipe, source, device) for name, k in run.saes()]
    resumed = finished(device)
    for _ in train(learners, source.batches(run.batch)):
        pass
    spent = finished(device) - resumed + paused - begun
    if failed := [one.failed for one in learners if one.failed]:
        raise FloatingPointError("; ".join(failed))
    return Found(f"with {len(learners)} SAEs", spent / run.steps, most_held(device), held(device), floor), learners


def learner(name: str, k: int, run: Run, recipe: Recipe, source: Stream, device: str) -> Learner:
    """One SAE before its first step."""
    kind = plugins.variant(name)
    return Learner(kind(kind.Config(k=k), run.config.hidden_size, run.latents, 0).to(device), recipe, source.units.statistics)


def model_seconds(run: Run, model: SubjectModel, top: Peaks) -> float:
    """The least time of a batch through the layers up to the hook: two operations of a product for each weight and token, without attention's own."""
    weights = sum(part.numel() for block in model.blocks[: run.layer + 1] for part in block.parameters() if part.dim() > 1)
    return 2 * weights * run.batch / top.product


def tables(run: Run, found: list[Found], learners: list[Learner]) -> str:
    """One of the stream, and one of each SAE's part in it."""
    heads = ["throughput run, random weights", "tokens/s", "MB at most", "at the end", "of the roofline"]
    rows = [(one.what, f"{run.batch / one.seconds:,.0f}", f"{one.peak:,.0f}", f"{one.at_end:,.0f}", f"{one.floor / one.seconds:.1%}") for one in found]
    parts = [(name, k, f"{one.tokens / one.seconds:,.0f}") for (name, k), one in zip(run.saes(), learners, strict=True)]
    first, second = tabulate(rows, heads, "github", disable_numparse=True), tabulate(parts, ["SAE", "k", "tokens/s of its own steps"], "github")
    return f"{first}\n\n{second}"


def main(words: list[str]) -> int:
    """Measures and prints; 2 if it cannot."""
    if words not in ([], ["--small"]):
        print(f"error: {' '.join(words)}: wanted nothing, or --small", file=sys.stderr)
        return 2
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if not words and device == "cpu":
        print("error: a model of this shape wants a CUDA device, and torch sees none; --small shows on any device that the rest runs", file=sys.stderr)
        return 2
    run, top = small() if words else published(), peaks(device)
    model = subject(run, device)
    model.activations(torch.full((1, run.context), BOS))  # a device's first call is not like the others
    of_model = model_seconds(run, model, top)
    of_saes = sum(step_seconds(Shape(model.d, run.latents, k, run.batch), top) for _, k in run.saes())
    shape = f"{model.layers} layers, d = {model.d}, {model.vocabulary:,} ids, hook after layer {run.layer}, context {run.context}"
    print(f"{machine()}\n\nGemma-2, random weights in bfloat16: {shape}; SAEs of {run.latents:,} latents, batch {run.batch}\nroofline: {top}\n", flush=True)
    first = alone(run, model, device, of_model)
    second, learners = together(run, model, device, of_model + of_saes)
    print(tables(run, [first, second], learners))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
