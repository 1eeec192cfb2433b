"""How fast a language model of Gemma-2 2B's shape feeds SAEs. Its weights are random: a throughput run, never a record on a board. Run by hand:

python -m tests.bench.throughput           # on a CUDA device: 26 layers, d = 2304, five SAEs of 65,536 latents
python -m tests.bench.throughput --small   # on any device: a thin model and small SAEs, to see that it runs

Nothing is downloaded: the model is built from its configuration in bfloat16, the text is random token ids, and both go the way of a run of
suites/gemma2_2b.yaml: windows, the layers up to the hook, shuffled blocks, and the one training loop. First the stream alone, then with the SAEs.
What is timed is whole blocks: those of the opening are left out, from their harvest to the steps on them, the first of which make Adam's moments.
"""

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from tabulate import tabulate
from transformers import AutoModelForCausalLM, Gemma2Config

from sae_bench_htopk import plugins
from sae_bench_htopk.lm import Hook, SubjectModel
from sae_bench_htopk.stream import OPENING_ROWS, Stream, windows_at_once
from sae_bench_htopk.trainer import Learner, Recipe, train
from sae_bench_htopk.windows import Window
from tests.bench.machine import finished, forget_peak, held, machine, most_held
from tests.bench.roofline import Peaks, Shape, peaks, step_seconds

BOS = 2
OPENING = 2  # blocks that are harvested before the first batch, and not timed


@dataclass(frozen=True)
class Run:
    """What is built and how much of it is timed."""

    config: Gemma2Config
    layer: int
    context: int
    latents: int
    batch: int
    block: int
    alone: int  # timed blocks of the stream alone
    blocks: int  # timed blocks that all SAEs take
    ks: tuple[int, int, int]  # of topk; the largest is hierarchical_topk's, too, and the middle one batchtopk's

    def windows(self) -> int:
        """Of one block, which ends with windows that the model reads together."""
        together = windows_at_once(self.context)
        return together * math.ceil(self.block / (together * (self.context - 1)))

    def saes(self) -> list[tuple[str, int]]:
        """Five of the flagship's entries: variant, k."""
        return [("hierarchical_topk", max(self.ks)), *(("topk", k) for k in self.ks), ("batchtopk", sorted(self.ks)[1])]


def published() -> Run:
    """Gemma-2 2B as it is published, the flagship's hook, context and SAEs."""
    config = Gemma2Config(
        vocab_size=256_000, hidden_size=2304, intermediate_size=9216, num_hidden_layers=26, num_attention_heads=8, num_key_value_heads=4,
        head_dim=256, query_pre_attn_scalar=256, sliding_window=4096, max_position_embeddings=8192,
    )  # fmt: skip
    return Run(config, 12, 1024, 65_536, 8192, 65_536, 8, 6, (32, 64, 128))


def small() -> Run:
    """The same with everything thin."""
    config = Gemma2Config(
        vocab_size=1000, hidden_size=64, intermediate_size=128, num_hidden_layers=6, num_attention_heads=2, num_key_value_heads=1,
        head_dim=32, query_pre_attn_scalar=32, sliding_window=32, max_position_embeddings=128,
    )  # fmt: skip
    return Run(config, 2, 64, 512, 256, 4096, 2, 1, (4, 8, 16))


def subject(run: Run, device: str) -> SubjectModel:
    """The model with random weights, made where it is to run, and no tokenizer."""
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(run.config, dtype=torch.bfloat16, attn_implementation="eager")  # as for any soft-capped model
    return SubjectModel(model, cast(Any, None), Hook(run.layer, "resid_post"))


class Text(Iterator[Window]):
    """Full windows of random token ids, as many as fill the opening and some blocks."""

    def __init__(self, run: Run, blocks: int) -> None:
        """The same ids each time."""
        self.vocabulary, self.length, self.random, self.given = run.config.vocab_size, run.context - 1, np.random.default_rng(0), 0
        self.windows = (OPENING + blocks) * run.windows()

    def __next__(self) -> Window:
        """Another one, of a document of its own."""
        if self.given == self.windows:
            raise StopIteration
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


def stream(run: Run, model: SubjectModel, blocks: int) -> Stream:
    """So many blocks after its opening, which is harvested at once."""
    assert run.block <= OPENING_ROWS / OPENING
    return Stream(model, Text(run, blocks), run.context, BOS, run.block, 0, OPENING * run.block)


def timed(source: Stream, steps: Iterable[object], device: str, learners: Sequence[Learner] = ()) -> tuple[float, list[float]]:
    """Seconds of one batch of all blocks after the opening, and those of each learner's own step."""
    begun, counted, before = finished(device), 0, [one.seconds for one in learners]
    for _ in steps:
        if source.begun.block < OPENING:
            begun, before = finished(device), [one.seconds for one in learners]
        else:
            counted += 1
    spent = finished(device) - begun
    return spent / counted, [(one.seconds - earlier) / counted for one, earlier in zip(learners, before, strict=True)]


def alone(run: Run, model: SubjectModel, device: str, floor: float) -> Found:
    """The stream with nobody to take it."""
    forget_peak(device)
    source = stream(run, model, run.alone)
    seconds, _ = timed(source, source.batches(run.batch), device)
    return Found("stream alone", seconds, most_held(device), held(device), floor)


def together(run: Run, model: SubjectModel, device: str, floor: float) -> tuple[Found, list[float]]:
    """The same with SAEs, and the seconds of each one's own step."""
    forget_peak(device)
    source = stream(run, model, run.blocks)
    batches = (OPENING + run.blocks) * (run.windows() * (run.context - 1) // run.batch)
    recipe = Recipe(tokens=batches * run.batch, batch=run.batch, latents=run.latents, block=run.block)
    learners = [learner(name, k, run, recipe, source, device) for name, k in run.saes()]
    seconds, own = timed(source, train(learners, source.batches(run.batch)), device, learners)
    if failed := [one.failed for one in learners if one.failed]:
        raise FloatingPointError("; ".join(failed))
    return Found(f"with {len(learners)} SAEs", seconds, most_held(device), held(device), floor), own


def learner(name: str, k: int, run: Run, recipe: Recipe, source: Stream, device: str) -> Learner:
    """One SAE before its first step."""
    kind = plugins.variant(name)
    return Learner(kind(kind.Config(k=k), run.config.hidden_size, run.latents, 0).to(device), recipe, source.units.statistics)


def model_seconds(run: Run, model: SubjectModel, top: Peaks) -> float:
    """The least time of a batch through the layers up to the hook: two operations of a product for each weight and token, without attention's own."""
    weights = sum(part.numel() for block in model.blocks[: run.layer + 1] for part in block.parameters() if part.dim() > 1)
    return 2 * weights * run.batch / top.product


def floor_of(run: Run, name: str, k: int, d: int, top: Peaks) -> float:
    """The least seconds of one SAE's step."""
    return step_seconds(Shape(d, run.latents, k, run.batch, every_prefix=name == "hierarchical_topk"), top)


def tables(run: Run, found: list[Found], own: list[float], floors: list[float]) -> str:
    """One of the stream, and one of each SAE's part in it."""
    heads = ["throughput run, random weights", "tokens/s", "MB at most", "at the end", "of the roofline"]
    rows = [(one.what, f"{run.batch / one.seconds:,.0f}", f"{one.peak:,.0f}", f"{one.at_end:,.0f}", f"{one.floor / one.seconds:.1%}") for one in found]
    each = zip(run.saes(), own, floors, strict=True)
    parts = [(name, k, f"{run.batch / seconds:,.0f}", f"{floor / seconds:.1%}") for (name, k), seconds, floor in each]
    second = tabulate(parts, ["SAE", "k", "tokens/s of its own steps", "of the roofline"], "github", disable_numparse=True)
    return f"{tabulate(rows, heads, 'github', disable_numparse=True)}\n\n{second}"


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
    floors = [floor_of(run, name, k, model.d, top) for name, k in run.saes()]
    shape = f"{model.layers} layers, d = {model.d}, {model.vocabulary:,} ids, hook after layer {run.layer}, context {run.context}"
    print(f"{machine()}\n\nGemma-2, random weights in bfloat16: {shape}; SAEs of {run.latents:,} latents, batch {run.batch}\nroofline: {top}\n", flush=True)
    first = alone(run, model, device, of_model)
    second, own = together(run, model, device, of_model + sum(floors))
    print(tables(run, [first, second], own, floors))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
