"""The training loop: schedule, dead latents, and the losses that tell when the recipe has changed."""

import math

import pytest
import torch

from sae_bench_htopk import plugins, trainer
from sae_bench_htopk.contract import Variant
from sae_bench_htopk.text import TextError
from sae_bench_htopk.trainer import Learner, Recipe, auxk_loss, train
from tests.synthetic import D, batches, units
from tests.synthetic import settings as settings_of

# The loss of each variant's 20th step on the synthetic stream. If one moves, weights of old records no longer mean the same:
# raise trainer.RECIPE_VERSION together with the number here.
GOLDEN = {"batchtopk": 0.189473, "hierarchical_topk": 0.213076, "matryoshka": 0.270301, "relu": 0.151231, "topk": 0.180744}


def learner(name: str, latents: int = 64, **recipe: float) -> Learner:
    """A new learner of a variant, at k 4 where it has one."""
    kind = plugins.variant(name)
    settings = {"tokens": 100 * 128, "batch": 128, "latents": latents, "rate": 2e-3} | recipe
    return Learner(kind(settings_of(kind, 4), D, latents, 0), Recipe(**settings), units().statistics)  # type: ignore[arg-type]


def test_schedule_rises_holds_and_falls_to_zero() -> None:
    """5% up, 75% at the top, 20% down."""
    factors = [learner("topk").factor(step) for step in range(100)]
    assert factors[0] == pytest.approx(0.2) and factors[4] == 1 and factors[79] == 1
    assert factors[90] == pytest.approx(0.5) and factors[99] == pytest.approx(0.05)


def test_default_rate_is_dictionary_learnings() -> None:
    """2e-4 at 2^14 latents, half of it at four times as many."""
    recipe = Recipe(tokens=1, batch=1, latents=1)
    assert recipe.learning_rate(2**14) == pytest.approx(2e-4) and recipe.learning_rate(2**16) == pytest.approx(1e-4)


@pytest.mark.parametrize("k", [2, 5])
@pytest.mark.parametrize("crowd", [0, 6])
def test_auxk_explains_the_left_over_with_dead_latents_only(crowd: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is the hand-made one, sparse or dense, with its gradient, which touches no row of a living latent."""
    monkeypatch.setattr(trainer, "CROWD", crowd)
    variant = learner("topk").variant
    x = next(batches(1, 32))
    x_hat = 0.5 * x
    dead = torch.tensor([3, 10, 11])
    loss = auxk_loss(variant, x, x_hat, dead, k)
    loss.backward()
    left = x - x_hat
    activations = ((x - variant.b_dec) @ variant.W_enc[dead].T + variant.b_enc[dead]).relu()
    strongest = activations * (activations >= activations.topk(min(k, 3), dim=1).values[:, -1:])
    error = (left - strongest @ variant.W_dec[dead]).square().sum(1).mean() / (left - left.mean(0)).square().sum(1).mean()
    assert loss.item() == pytest.approx(error.item(), rel=1e-5)
    moved = [variant.W_dec, variant.W_enc, variant.b_dec, variant.b_enc]
    for parameter, wanted in zip(moved, torch.autograd.grad(error, moved), strict=True):
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-4, atol=1e-6)
    for parameter in (variant.W_dec, variant.W_enc):
        assert set(parameter.grad.abs().sum(1).nonzero()[:, 0].tolist()) <= set(dead.tolist())


def test_auxk_revives_latents() -> None:
    """With half of the encoder pushed far away, more latents live again with AuxK than without."""
    alive = {}
    for weight in (0.0, 1.0):
        it = learner("topk", auxk=weight, dead_after=512, rate=5e-3)
        with torch.no_grad():
            it.variant.b_enc[8:] = -0.25
        for _ in train([it], batches(100, 128)):
            pass
        alive[weight] = int((it.silent_for < 512).sum())
    assert alive[1.0] > alive[0.0]


def test_a_frozen_parameter_stays() -> None:
    """The random decoder's rows are the ones it began with; its encoder moves."""
    from sae_bench_htopk.controls import Control, RandomDecoder

    variant = RandomDecoder(Control(4), D, 64, 0)
    before = variant.W_dec.clone(), variant.W_enc.clone()
    it = Learner(variant, Recipe(tokens=10 * 128, batch=128, latents=64), units().statistics)
    for _ in train([it], batches(10, 128)):
        pass
    assert torch.equal(variant.W_dec, before[0]) and not torch.equal(variant.W_enc, before[1])


def test_a_loss_that_is_no_number_names_the_sae() -> None:
    """With the tokens it had seen."""
    it = learner("topk")
    with pytest.raises(FloatingPointError, match=r"TopK.*after 0 tokens"):
        it.take(torch.full((128, D), math.inf))


def test_one_whose_loss_is_no_number_stops_alone() -> None:
    """It says why; the other comes to the same bits as without it; a stream of which nobody is left runs to its end."""
    alone, beside, failing = learner("topk"), learner("topk"), learner("batchtopk")
    with torch.no_grad():
        failing.variant.W_dec[3] = math.nan
    list(train([alone], batches(100, 128)))
    assert list(train([failing, beside], batches(100, 128)))[-1] == 12_800
    assert "BatchTopK" in failing.failed and "after 0 tokens" in failing.failed and not beside.failed and failing.tokens == 0
    assert all(torch.equal(a, b) for a, b in zip(alone.variant.state_dict().values(), beside.variant.state_dict().values(), strict=True))
    assert list(train([failing], batches(100, 128)))[-1] == 12_800


def test_a_curve_holds_numbers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a variant notes may be none; the point keeps the rest."""
    it = learner("topk")
    x = next(iter(batches(1, 128)))
    monkeypatch.setattr(it.variant, "noted", lambda: {"sound": 1.0, "share": math.nan, "ratio": math.inf})
    it.note(it.take(x), x)
    assert set(it.curve[0]) == {"tokens", "loss", "error", "dead", "sound"}


def test_a_text_that_ends_early_is_an_error() -> None:
    """Asked for 100 batches, given 3."""
    with pytest.raises(TextError, match="12,800 asked for, the text gave 384"):
        list(train([learner("topk")], batches(3, 128)))


def test_one_learner_does_not_change_another() -> None:
    """Trained together or alone: the same bits."""
    alone, together, other = learner("hierarchical_topk"), learner("hierarchical_topk"), learner("matryoshka")
    list(train([alone], batches(100, 128)))
    list(train([other, together], batches(100, 128)))
    assert all(torch.equal(a, b) for a, b in zip(alone.variant.state_dict().values(), together.variant.state_dict().values(), strict=True))


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_golden_losses(name: str) -> None:
    """Says when RECIPE_VERSION must rise."""
    assert trainer.RECIPE_VERSION == 3
    assert golden(name) == pytest.approx(GOLDEN[name], rel=1e-3)


def golden(name: str) -> float:
    """The loss of step 20."""
    it = learner(name, dead_after=256)
    step = None
    for x in batches(20, 128):
        step = it.take(x)
    assert step is not None and isinstance(it.variant, Variant)
    return step.loss.item()
