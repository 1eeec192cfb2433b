"""Our training step against dictionary_learning's own code, weight by weight. Run by hand, in an environment that has that package:

pip install -c constraints.txt -e '.[test]' && pip install dictionary-learning==0.1.0
python -m pytest tests/bench/parity.py

Same initial weights, data, learning rate and semantics; six steps in fp32; latents count as dead after two batches, so AuxK runs too.
"""

import warnings
from typing import Any

import pytest
import torch
from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
from dictionary_learning.trainers.top_k import TopKTrainer, geometric_median
from torch import Tensor

from sae_bench_htopk import choose, plugins
from sae_bench_htopk import trainer as trainer_module
from sae_bench_htopk.contract import Statistics, Variant
from sae_bench_htopk.trainer import Learner, Recipe

D, LATENTS, K, BATCH, STEPS = 64, 512, 8, 256, 6
RATE = 1e-4  # Adam's first steps are of this size even where a gradient is nearly all rounding, so differences grow with it
GROUPS = (0.25, 0.5, 1.0)
THEIRS = {"topk": TopKTrainer, "batchtopk": BatchTopKTrainer, "matryoshka": MatryoshkaBatchTopKTrainer}
OURS: dict[str, dict[str, object]] = {
    "topk": {},
    "batchtopk": {},
    "matryoshka": {"groups": GROUPS, "weights": (1 / len(GROUPS) ** 2,) * len(GROUPS)},  # theirs: 1 / groups on each, then their mean
}


def data() -> list[Tensor]:
    """Batches of sparse mixtures of 4 d directions about a mean, of mean squared norm 1."""
    random = torch.Generator().manual_seed(1)
    directions = torch.nn.functional.normalize(torch.randn(4 * D, D, generator=random), dim=1)
    amounts = torch.rand(STEPS * BATCH, 4 * D, generator=random) * (torch.rand(STEPS * BATCH, 4 * D, generator=random) < 12 / (4 * D))
    x = amounts @ directions + 0.02 * torch.randn(STEPS * BATCH, D, generator=random) + 0.1
    return list((x / x.square().sum(1).mean().sqrt()).split(BATCH))


def their_trainer(name: str) -> Any:
    """Their trainer with a constant rate, thresholds from step 0, and latents dead after two batches."""
    shares = {"group_fractions": [b - a for a, b in zip((0.0, *GROUPS), GROUPS, strict=False)]} if name == "matryoshka" else {}
    settings = {"steps": 10_000, "activation_dim": D, "dict_size": LATENTS, "k": K, "layer": 0, "lm_name": "none", "lr": RATE, "warmup_steps": 0}
    trainer = THEIRS[name](**settings, **shares, threshold_start_step=-1, seed=0, device="cpu")
    trainer.dead_feature_threshold = 2 * BATCH
    return trainer


def their_weights(trainer: Any) -> dict[str, Tensor]:
    """Their parameters under our names and in our layout."""
    ae = trainer.ae
    if hasattr(ae, "W_enc"):
        return {"W_enc": ae.W_enc.T, "b_enc": ae.b_enc, "W_dec": ae.W_dec, "b_dec": ae.b_dec}
    return {"W_enc": ae.encoder.weight, "b_enc": ae.encoder.bias, "W_dec": ae.decoder.weight.T, "b_dec": ae.b_dec}


def our_learner(name: str, start: dict[str, Tensor], centre: Tensor) -> Learner:
    """Our learner from the same weights, with the loss in the same units and the same constant rate."""
    kind = plugins.variant(name)
    variant: Variant = kind(kind.Config(k=K, **OURS[name]), D, LATENTS, 0)
    recipe = Recipe(tokens=STEPS * BATCH, batch=BATCH, latents=LATENTS, rate=RATE, warm_up=0.0, decay=0.0, dead_after=2 * BATCH, ema_from=0.0)
    learner = Learner(variant, recipe, Statistics(centre, torch.eye(D) / D))  # a total variance of 1: the loss is the squared error itself
    variant.load_state_dict({key: value.detach().clone() for key, value in start.items()} | {"b_dec": centre, "ema_threshold": torch.tensor(-1.0)})
    return learner


@pytest.mark.parametrize("crowd", [0, 6], ids=["AuxK sparse", "AuxK dense"])
@pytest.mark.parametrize("proposed", [False, True], ids=["float32", "proposed in bfloat16"])
@pytest.mark.parametrize("name", sorted(THEIRS))
def test_six_steps_end_in_the_same_weights(name: str, proposed: bool, crowd: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Weights within 1e-6, the same ages of all latents, the same threshold; and some latents were dead, so AuxK was tried.

    With latents chosen from a product in float32, and from proposals in bfloat16, which at this size would not be worth it.
    """
    monkeypatch.setattr(choose, "worth_it", lambda x, W, k: proposed)
    monkeypatch.setattr(trainer_module, "CROWD", crowd)
    batches, trainer = data(), their_trainer(name)
    with torch.no_grad():  # a quarter of the latents starts too low to fire at once, near enough for AuxK to reach them
        their_weights(trainer)["b_enc"][::4] = -0.2
    ours = our_learner(name, their_weights(trainer), getattr(trainer, "geometric_median", geometric_median)(batches[0]))
    dead = 0
    for step, x in enumerate(batches):
        with warnings.catch_warnings(action="ignore"):  # theirs, of torch
            trainer.update(step, x.clone())
        ours.take(x)
        dead = max(dead, int(trainer.dead_features))
        assert torch.equal(trainer.num_tokens_since_fired, ours.silent_for)
    assert dead > 20 and ours.variant.proposals.rows == proposed * STEPS * BATCH
    furthest = {key: float((value - getattr(ours.variant, key)).detach().abs().max()) for key, value in their_weights(trainer).items()}
    with capsys.disabled():
        print(f"\n{name}{', proposed in bfloat16' * proposed}: {furthest}, up to {dead} dead latents")
    assert max(furthest.values()) < 1e-6
    if ours.variant.has_ema(ours.variant.config):
        assert float(ours.variant.ema_threshold) == pytest.approx(trainer.ae.threshold.item(), abs=1e-6)
