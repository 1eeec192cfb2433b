"""One whole training step of ours and of the peers' own code, on the same data, in one process, in turn. Run by hand:

pip install -c constraints.txt -e . && pip install tabulate dictionary-learning==0.1.0 eai-sparsify==1.3.3 sae-lens==6.54.12
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8000000000 MALLOC_TOP_PAD_=268435456   # glibc keeps what a step frees: faster for all
python -m tests.bench.step

A step is forward, backward, dropping the gradient along decoder rows, clip, Adam, unit rows and the count of silent latents, as each
library does it by default. Prints Markdown tables: medians over rounds, ratios to dictionary_learning's TopK of the same run, and
the most memory that a step held beyond what was held before it. Every round takes the methods in another order.
"""

import random
import statistics
import time
from collections.abc import Callable

import torch
from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
from dictionary_learning.trainers.top_k import TopKTrainer
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.training.sae_trainer import SAETrainer
from sparsify import SparseCoder, SparseCoderConfig
from tabulate import tabulate
from torch import Tensor

from sae_bench_htopk import plugins
from sae_bench_htopk.contract import Statistics
from sae_bench_htopk.trainer import Learner, Recipe
from tests.bench.machine import extra_memory, machine
from tests.bench.mixtures import data

SHAPES = [(256, 8192, 32, 2048), (768, 16384, 64, 2048)]  # d, latents, k, batch
ROUNDS, WARM_UP, RATE = 9, 2, 1e-4
GROUPS = (1 / 32, 3 / 32, 7 / 32, 15 / 32, 1.0)
WANTED = [  # of the larger shape: (a slower step, a faster one, how many times the faster it is to be)
    ("dictionary_learning TopK", "ours topk", 8.0),
    ("dictionary_learning TopK, bf16 autocast", "ours topk", 3.0),
    ("sparsify", "ours topk", 2.5),
    ("sparsify, bf16 autocast", "ours topk", 1.5),
    ("SAELens TopK", "ours topk", 10.0),
    ("dictionary_learning BatchTopK", "ours batchtopk", 6.0),
    ("dictionary_learning Matryoshka", "ours matryoshka", 6.0),
]
AT_MOST = [("ours hierarchical_topk", "ours topk", 1.6), ("ours topk, 10% dead", "ours topk", 1.3)]
Step = Callable[[Tensor], object]


def ours(name: str, d: int, latents: int, k: int, batch: int, dead: float = 0.0, **config: object) -> Step:
    """A learner of ours; `dead` is the share of latents that AuxK is to work on."""
    kind = plugins.variant(name)
    recipe = Recipe(tokens=10_000 * batch, batch=batch, latents=latents, rate=RATE, warm_up=0.0, decay=0.0, dead_after=10**12 if dead else 10**9)
    learner = Learner(kind(kind.Config(k=k, **config), d, latents, 0), recipe, Statistics(torch.zeros(d), torch.eye(d) / d))
    if dead:
        bury(learner.variant.W_enc, learner.silent_for, dead)
    return learner.take


def bury(W_enc: Tensor, ages: Tensor, share: float) -> None:
    """Makes that share of the latents dead: too weak to be among the k, yet about half of them positive for a vector, so that AuxK has all it may use."""
    every = round(1 / share)
    with torch.no_grad():
        W_enc[::every] *= 0.25
    ages[::every] = 2 * 10**12


def dictionary_learning(kind: type, d: int, latents: int, k: int, batch: int, autocast: bool = False, dead: float = 0.0) -> Step:
    """Their trainer's `update`."""
    shares = {"group_fractions": [b - a for a, b in zip((0.0, *GROUPS), GROUPS, strict=False)]} if kind is MatryoshkaBatchTopKTrainer else {}
    trainer = kind(steps=10**6, activation_dim=d, dict_size=latents, k=k, layer=0, lm_name="none", lr=RATE, warmup_steps=0, device="cpu", **shares)
    if dead:
        trainer.dead_feature_threshold = 10**12
        bury(trainer.ae.encoder.weight.data, trainer.num_tokens_since_fired, dead)

    def step(x: Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            trainer.update(1, x)

    return step


def sparsify(d: int, latents: int, k: int, autocast: bool = False) -> Step:
    """What sparsify's trainer does to one SparseCoder, with Adam."""
    coder = SparseCoder(d, SparseCoderConfig(num_latents=latents, k=k))
    optimizer = torch.optim.Adam(coder.parameters(), lr=RATE)
    ages = torch.zeros(latents, dtype=torch.long)

    def step(x: Tensor) -> None:
        coder.set_decoder_norm_to_unit_norm()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = coder(x, dead_mask=ages > 10**9)
        (out.fvu + out.auxk_loss / 32).backward()
        fired = torch.zeros(latents, dtype=torch.bool)
        fired[out.latent_indices.flatten()] = True
        coder.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        optimizer.zero_grad()
        ages.add_(len(x))
        ages[fired] = 0

    return step


def saelens(d: int, latents: int, k: int, batch: int, autocast: bool = False) -> Step:
    """SAELens' trainer's `step`."""
    sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=d, d_sae=latents, k=k))
    settings = SAETrainerConfig(total_training_samples=10**6 * batch, train_batch_size_samples=batch, lr=RATE, lr_end=RATE / 10, autocast=autocast)
    trainer = SAETrainer(settings, sae, iter(()))
    return trainer.step


def methods(d: int, latents: int, k: int, batch: int) -> dict[str, Step]:
    """Everything that is compared at one shape."""
    shape = (d, latents, k, batch)
    return {
        "dictionary_learning TopK": dictionary_learning(TopKTrainer, *shape),
        "dictionary_learning TopK, bf16 autocast": dictionary_learning(TopKTrainer, *shape, autocast=True),
        "dictionary_learning TopK, 10% dead": dictionary_learning(TopKTrainer, *shape, dead=0.1),
        "dictionary_learning BatchTopK": dictionary_learning(BatchTopKTrainer, *shape),
        "dictionary_learning BatchTopK, bf16 autocast": dictionary_learning(BatchTopKTrainer, *shape, autocast=True),
        "dictionary_learning Matryoshka": dictionary_learning(MatryoshkaBatchTopKTrainer, *shape),
        "dictionary_learning Matryoshka, bf16 autocast": dictionary_learning(MatryoshkaBatchTopKTrainer, *shape, autocast=True),
        "sparsify": sparsify(d, latents, k),
        "sparsify, bf16 autocast": sparsify(d, latents, k, autocast=True),
        "SAELens TopK": saelens(*shape),
        "SAELens TopK, bf16 autocast": saelens(*shape, autocast=True),
        "ours topk": ours("topk", *shape),
        "ours topk, 10% dead": ours("topk", *shape, dead=0.1),
        "ours batchtopk": ours("batchtopk", *shape),
        "ours matryoshka": ours("matryoshka", *shape, groups=GROUPS),
        "ours hierarchical_topk": ours("hierarchical_topk", *shape),
        "ours, 10 topk in turn": ten(*shape),
    }


def ten(*shape: int) -> Step:
    """Ten learners of one group on one batch."""
    learners = [ours("topk", *shape) for _ in range(10)]
    return lambda x: [learner(x) for learner in learners]


def measure(d: int, latents: int, k: int, batch: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """(seconds of every round, MB beyond what was held) of each method, in turn."""
    steps, x = methods(d, latents, k, batch), data(d, batch, WARM_UP + ROUNDS)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for index, part in enumerate(x):
        for name in random.Random(index).sample(sorted(steps), len(steps)):
            clock = time.perf_counter()
            steps[name](part)
            if index >= WARM_UP:
                seconds[name].append(time.perf_counter() - clock)
    return seconds, {name: extra_memory(lambda step=step: step(x[0])) for name, step in steps.items()}  # type: ignore[misc]


def table(batch: int, seconds: dict[str, list[float]], extra: dict[str, float]) -> str:
    """Medians of one shape in ms, their range, and how many times dictionary_learning's TopK they are as fast."""
    base = statistics.median(seconds["dictionary_learning TopK"])
    rows = []
    for name, values in seconds.items():
        median = statistics.median(values)
        rows.append((name, 1000 * median, 1000 * min(values), 1000 * max(values), batch / median, base / median, extra[name]))
    heads = ["step", "median ms", "least", "most", "vectors/s", "x", "extra MB"]
    return tabulate(rows, heads, "github", floatfmt=("", ".0f", ".0f", ".0f", ",.0f", ".2f", ".0f"))


def ratios(seconds: dict[str, list[float]]) -> str:
    """What was wanted of the larger shape, and what came out: medians, with the range of rounds; bold where it is missed."""
    rows = []
    for pairs, sign in ((WANTED, 1), (AT_MOST, -1)):
        for slow, fast, limit in pairs:
            found = statistics.median(seconds[slow]) / statistics.median(seconds[fast])
            rounds = sorted(one / other for one, other in zip(seconds[slow], seconds[fast], strict=True))
            said = f"{found:.2f}" if sign * found >= sign * limit else f"**{found:.2f}**"
            rows.append((f"{slow} / {fast}", f"at {'least' if sign > 0 else 'most'} {limit:g}", said, f"{rounds[0]:.2f} to {rounds[-1]:.2f}"))
    return tabulate(rows, ["time over time", "wanted", "of medians", "of single rounds"], "github")


if __name__ == "__main__":
    print(machine() + "\n")
    for shape in SHAPES:
        seconds, extra = measure(*shape)
        print("d = {}, {:,} latents, k = {}, batch = {}".format(*shape) + f", {ROUNDS} rounds\n\n{table(shape[-1], seconds, extra)}\n", flush=True)
    print(ratios(seconds))
