"""The one training loop: every SAE of a group takes the same batches, under the same optimizer, schedule and care for dead latents."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_bench_htopk import choose, ops, shortage
from sae_bench_htopk.chance import Chance
from sae_bench_htopk.contract import Codes, Statistics, Step, Variant
from sae_bench_htopk.prefix_loss import prefix_loss
from sae_bench_htopk.stopwatch import Stopwatch
from sae_bench_htopk.text import TextError

CROWD = 6  # dead latents for each one used by AuxK, above which sparse codes are taken for dense products: between 4 and 8 in one trial at d = 768
CHUNK = 512  # rows of a large matrix that are worked on at a time, so that they stay in cache
RECIPE_VERSION = 3  # rises when a change here moves weights; tests/test_trainer.py holds the losses that tell


@dataclass(frozen=True)
class Recipe:
    """What training is the same for all variants, but that an entry may have a rate of its own, and a variant may go without AuxK.

    The source of each default stands beside it. Beside these, for all alike: activations at a mean squared norm of 1 (dictionary_learning),
    measured on 2^17 tokens, without those of ten times the median norm (ours); decoder rows random with the encoder tied to them (Gao et
    al.); b_dec from the stream's mean (sparsify; Gao et al. take the geometric median) and taken from x before encoding (Gao et al.;
    HierarchicalTopK's formula, as far as it is known, does not); Adam's eps of 1e-8 (torch, dictionary_learning; Gao et al. 6e-10);
    running thresholds that keep 0.999 of themselves (dictionary_learning).
    """

    tokens: int
    batch: int
    latents: int
    rate: float | None = None  # None: 2e-4 / sqrt(latents / 2**14), dictionary_learning's rule for these units
    warm_up: float = 0.05  # share of the steps, linear; ours (dictionary_learning: 1,000 steps, too long for small runs)
    decay: float = 0.2  # share of the steps at the end, linear to 0 (SAEBench's protocol, arXiv:2503.09532)
    clip: float = 1.0  # norm of the whole gradient (dictionary_learning)
    betas: tuple[float, float] = (0.9, 0.999)  # Adam (dictionary_learning)
    unit_rows: bool = True  # decoder rows of norm 1, nothing of the gradient along them (Gao et al.); False leaves them free
    auxk: float = 1 / 32  # weight of the loss on dead latents (Gao et al., arXiv:2406.04093); 0 leaves it out
    auxk_latents: int | None = None  # dead latents used per vector; None: d / 2 (dictionary_learning)
    dead_after: int = 10_000_000  # tokens without firing (Gao et al.)
    ema_from: float = 0.5  # share of the steps before running thresholds begin; ours (dictionary_learning: 1,000 steps, too late for small runs)
    block: int = 65_536  # activation vectors that are shuffled together; ours
    stream_seed: int = 0  # ours

    def __post_init__(self) -> None:
        if self.batch > self.block:
            raise ValueError(f"batch: {self.batch}, wanted at most block, {self.block}: batches are cut from blocks")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas: {list(self.betas)}, wanted two numbers of at least 0 and below 1")
        if self.ema_from >= 1:
            raise ValueError(f"ema_from: {self.ema_from}, wanted below 1: running thresholds must begin before training ends")
        if self.warm_up + self.decay > 1:
            raise ValueError(f"warm_up: {self.warm_up}, wanted at most 1 together with decay, {self.decay}")

    def learning_rate(self, latents: int) -> float:
        """The rate of an SAE of that many latents."""
        return self.rate if self.rate is not None else 2e-4 / math.sqrt(latents / 2**14)

    def steps(self) -> int:
        """The number of batches."""
        return self.tokens // self.batch


class Learner:
    """One SAE in training: its optimizer, schedule, the ages of its latents, and its curve."""

    def __init__(self, variant: Variant, recipe: Recipe, statistics: Statistics, seed: int = 0) -> None:
        """Starts the variant from the stream's statistics; what its steps draw from torch's global source they draw by `seed`, whoever trains beside it."""
        self.variant, self.recipe, self.total_variance = variant, recipe, statistics.total_variance
        variant.start(statistics)
        for name, parameter in variant.named_parameters():
            parameter.requires_grad_(name not in variant.frozen)
        self.parameters = [parameter for parameter in variant.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(self.parameters, lr=recipe.learning_rate(len(variant.W_enc)), betas=recipe.betas, fused=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self.factor)
        self.silent_for = torch.zeros(len(variant.W_enc), dtype=torch.long, device=variant.W_enc.device)  # tokens since a latent fired
        self.unit = recipe.unit_rows and "W_dec" not in variant.frozen
        variant.unit_rows = self.unit
        if self.unit:
            unit_rows(variant.W_dec)
        self.curve: list[dict[str, float]] = []
        self.label = type(variant).__name__  # for people
        self.failed = ""  # why it takes no more steps, if its loss was no number
        self.tokens = 0
        self.chance, self.watch = Chance(seed, variant.W_enc.device), Stopwatch(variant.W_enc.device)

    @property
    def seconds(self) -> float:
        """What its steps have taken of the device."""
        return self.watch.read()

    def factor(self, step: int) -> float:
        """Warm-up, plateau, decay to zero."""
        steps = self.recipe.steps()
        rising = (step + 1) / max(1, round(self.recipe.warm_up * steps))
        falling = (steps - step) / max(1, round(self.recipe.decay * steps))
        return min(1.0, rising, max(0.0, falling))

    def take(self, x: Float[Tensor, "batch d"]) -> Step:
        """One optimizer step on one batch. Raises FloatingPointError if the loss is no number."""
        self.variant.following = self.tokens >= self.recipe.ema_from * self.recipe.tokens
        with self.chance.drawn():
            step, loss = self.loss(x)
            if not torch.isfinite(loss):
                raise FloatingPointError(f"{type(self.variant).__name__} {self.variant.config}: loss is {loss.item()} after {self.tokens} tokens")
            loss.backward()
        if self.unit:
            drop_parallel(self.variant.W_dec)
        clip(self.parameters, self.recipe.clip)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        if self.unit:
            unit_rows(self.variant.W_dec)
        self.tokens += len(x)
        return step

    def loss(self, x: Float[Tensor, "batch d"]) -> tuple[Step, Float[Tensor, ""]]:
        """The variant's step, and its loss over the stream's variance with what dead latents add; counts how long each has been silent."""
        step = self.variant.step(x)
        self.silent_for = torch.where(step.fired, 0, self.silent_for + len(x))
        loss = step.loss / self.total_variance
        dead = (self.silent_for >= self.recipe.dead_after).nonzero()[:, 0]
        if self.recipe.auxk and self.variant.auxk and len(dead):
            loss = loss + self.recipe.auxk * auxk_loss(self.variant, x, step.x_hat, dead, self.recipe.auxk_latents or x.shape[1] // 2)
        return step, loss

    def note(self, step: Step, x: Float[Tensor, "batch d"]) -> None:
        """Adds a point to the curve: loss and final error over the stream's variance, the number of dead latents, and what the variant notes.

        What is no number is left out: no record could hold it, and the next step will say why the SAE has failed.
        """
        error = (x - step.x_hat).square().sum(1).mean() / self.total_variance
        dead = int((self.silent_for >= self.recipe.dead_after).sum())
        point = {"tokens": self.tokens, "loss": step.loss.item() / self.total_variance, "error": error.item(), "dead": dead}
        self.curve.append({name: value for name, value in {**point, **self.variant.noted()}.items() if math.isfinite(value)})

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """All that its next step depends on, and what is told of those before: as JSON, and as tensors that its next step changes in place."""
        adam = self.optimizer.state_dict()
        told = {"curve": self.curve, "failed": self.failed, "tokens": self.tokens, "seconds": self.seconds}
        schedule = {name: value for name, value in self.schedule.state_dict().items() if name != "lr_lambdas"}  # our own `factor`
        facts = {"groups": adam["param_groups"], "schedule": schedule, "proposals": asdict(self.variant.proposals)}
        tensors = {f"sae.{name}": value for name, value in self.variant.state_dict().items()}
        tensors |= {f"adam.{index}.{name}": value for index, moments in adam["state"].items() for name, value in moments.items()}
        return facts | told, tensors | {"silent_for": self.silent_for} | self.chance.states

    def restore(self, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Goes back to a state; its next step is then that of the learner which gave it, bit for bit."""
        self.variant.load_state_dict({name.removeprefix("sae."): value for name, value in tensors.items() if name.startswith("sae.")})
        moments: dict[int, dict[str, Tensor]] = {}
        for name in tensors:
            if name.startswith("adam."):
                _, index, moment = name.split(".")
                moments.setdefault(int(index), {})[moment] = tensors[name]
        self.optimizer.load_state_dict({"state": moments, "param_groups": facts["groups"]})
        self.schedule.load_state_dict({**facts["schedule"], "lr_lambdas": [None]})
        self.variant.proposals = choose.Proposals(**facts["proposals"])
        self.silent_for.copy_(tensors["silent_for"])
        self.chance.states |= {name: tensors[name] for name in self.chance.states.keys() & tensors.keys()}
        self.curve, self.failed, self.tokens, self.watch.known = (facts[name] for name in ("curve", "failed", "tokens", "seconds"))


def auxk_loss(variant: Variant, x: Float[Tensor, "batch d"], x_hat: Float[Tensor, "batch d"], dead: Int[Tensor, " dead"], k: int) -> Float[Tensor, ""]:
    """How badly the k strongest dead latents of each vector explain what the SAE left over, over the left-over's variance.

    Gao et al. 2024 (arXiv:2406.04093), appendix A.2. Only the dead latents' columns are ever made.
    """
    left = (x - x_hat).detach()
    plain = type(variant).activations_at is Variant.activations_at
    error = (dense_error if plain and len(dead) <= CROWD * k else sparse_error)(variant, x, left, dead, k)
    return error / (left - left.mean(0)).square().sum(1).mean().clamp_min(1e-12)


def dense_error(variant: Variant, x: Float[Tensor, "batch d"], left: Float[Tensor, "batch d"], dead: Int[Tensor, " dead"], k: int) -> Float[Tensor, ""]:
    """Mean squared error of the k strongest dead latents, densely: the fast way where most of the dead are used."""
    activations = variant.activation(variant.preactivations(x, dead))
    values, strongest = activations.detach().topk(min(k, len(dead)), dim=1, sorted=False)
    activations = activations * torch.zeros_like(activations).scatter_(1, strongest, (values > 0).to(values))
    return (left - activations @ variant.W_dec.index_select(0, dead)).square().sum(1).mean()


def sparse_error(variant: Variant, x: Float[Tensor, "batch d"], left: Float[Tensor, "batch d"], dead: Int[Tensor, " dead"], k: int) -> Float[Tensor, ""]:
    """The same from sparse codes, with gradients at the chosen alone."""
    with torch.no_grad():
        values, latents, offsets = ops.choose_per_row(variant.activation(variant.preactivations(x, dead)), k)
    values = variant.activations_at(x, Codes(values, latents := dead[latents], offsets))
    return prefix_loss(values, latents, offsets, variant.W_dec, torch.zeros_like(variant.b_dec), left, *ops.last_prefix(offsets))[0]


@torch.no_grad()
def unit_rows(W: Float[Tensor, "latents d"]) -> None:
    """Divides each row by its norm, in place."""
    W.div_(W.norm(dim=1, keepdim=True).clamp_min(1e-8))


@torch.no_grad()
def drop_parallel(W: Float[Tensor, "latents d"]) -> None:
    """Takes from the gradient of unit rows the part along each row, which renormalising would undo (Gao et al. 2024)."""
    if W.grad is not None:
        for gradient, rows in zip(W.grad.split(CHUNK), W.split(CHUNK), strict=True):
            gradient.addcmul_(rows, (gradient * rows).sum(1, keepdim=True), value=-1)


@torch.no_grad()
def clip(parameters: Sequence[Tensor], largest: float) -> None:
    """Scales gradients to a joint norm of `largest` where it is above: torch's clip_grad_norm_, which writes them even to multiply by 1."""
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    if norm + 1e-6 > largest:
        torch.nn.utils.clip_grads_with_norm_(parameters, largest, norm)


def train(learners: Sequence[Learner], batches: Iterable[Float[Tensor, "batch d"]], curve_points: int = 40, taken: int = 0) -> Iterator[int]:
    """Trains all learners on the same batches in the same order; yields the tokens seen after each batch.

    `taken` steps were taken before, with batches that are not among these. One whose loss is no number takes no further step, and says
    why in `failed`. Raises TextError if the text ends early, OutOfMemory if there is no memory for a step.
    """
    if not learners:
        return
    recipe = learners[0].recipe
    steps, seen = recipe.steps(), taken * recipe.batch
    marks = {round(steps * (point + 1) / curve_points) - 1 for point in range(curve_points)}
    for index, x in zip(range(taken, steps), batches, strict=False):
        for learner in [learner for learner in learners if not learner.failed]:
            try:
                with learner.watch.timed(), shortage.named(learner.label, shortage.of_step(recipe.batch, len(learner.variant.W_enc), len(learners))):
                    step = learner.take(x)
            except FloatingPointError as error:  # the others go on
                learner.failed = str(error)
                continue
            if index in marks:
                learner.note(step, x)
        yield (seen := (index + 1) * recipe.batch)
    if seen < steps * recipe.batch:
        raise TextError(f"train.tokens: {recipe.tokens:,} asked for, the text gave {seen:,}")
