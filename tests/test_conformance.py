"""What every variant must hold to, whoever wrote it; a file dropped into a folder of variants is tested like ours."""

import dataclasses

import pytest
import torch
from torch import Tensor

from sae_bench_htopk import plugins
from sae_bench_htopk.calibrate import calibrate
from sae_bench_htopk.contract import Codes, Reading, Variant
from sae_bench_htopk.trainer import Learner, Recipe, train
from tests.synthetic import D, batches, raw_rows, settings, units

LATENTS, K, STEPS, SIZE = 96, 6, 150, 256
NAMES = plugins.names("variants")
ROW, THRESHOLD = Reading(K), Reading(K, select="threshold")
PRUNED = [Reading(K, 32), Reading(K, 32, "threshold"), Reading(K, 32, cut="after"), Reading(K, 32, "threshold", cut="after")]
READINGS = [ROW, THRESHOLD, *PRUNED, *(Reading(K, 48, rank=rank) for rank in ("frequency", "spectrum", "random"))]


def build(name: str, seed: int = 0) -> Variant:
    """A new SAE of that variant, or of the one whose weights it reads."""
    kind = plugins.variant(name)
    config = settings(kind, K)
    base = kind.trained_as(config)
    if base is not None:
        return plugins.variant(base[0])(plugins.variant(base[0]).Config(**base[1]), D, LATENTS, seed)
    return kind(config, D, LATENTS, seed)


def trained(name: str, steps: int = STEPS, seed: int = 0) -> Learner:
    """A learner after some steps on the synthetic stream."""
    recipe = Recipe(tokens=steps * SIZE, batch=SIZE, latents=LATENTS, rate=3e-3, dead_after=20 * SIZE)
    learner = Learner(build(name, seed), recipe, units().statistics)
    for _ in train([learner], batches(steps, SIZE)):
        pass
    return learner


def held_out() -> Tensor:
    """Rows that no training saw."""
    return raw_rows(2048, seed=7) * units().scale


@pytest.fixture(scope="module", params=NAMES)
def ready(request: pytest.FixtureRequest) -> Variant:
    """Each variant, trained, calibrated, and read under its own class."""
    kind, learner = plugins.variant(request.param), trained(request.param)
    config = settings(kind, K)
    variant = kind(config, D, LATENTS, 0)
    variant.load_state_dict(learner.variant.state_dict())
    calibrate(variant, READINGS, raw_rows(4096, seed=5) * units().scale, kind.native(config), kind.budget(config))
    return variant


@torch.no_grad()
def explained(variant: Variant, x: Tensor, reading: Reading) -> float:
    """1 - squared error over squared distance from the mean."""
    error = (x - variant.decode(variant.encode(x, reading))).square().sum()
    return float(1 - error / (x - x.mean(0)).square().sum())


@pytest.mark.parametrize("name", NAMES)
def test_config_is_frozen_and_the_class_has_a_line(name: str) -> None:
    """Settings cannot change after they were hashed, and a page can say what the variant is."""
    kind = plugins.variant(name)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(settings(kind, K), dataclasses.fields(kind.Config)[0].name, 3)
    assert len(plugins.first_line("variants", name)) > 20


def test_it_learns(ready: Variant) -> None:
    """At its own budget a trained SAE explains more of new rows than an untrained one, and most of them."""
    new = type(ready)(ready.config, D, LATENTS, 0)
    new.start(units().statistics)
    own = Reading(ready.calibration.budget)
    assert explained(ready, held_out(), own) > max(0.7, explained(new, held_out(), own) + 0.1)


def test_row_readings_hold_at_most_k(ready: Variant) -> None:
    """No row of a row reading is longer than k, on the whole dictionary or on part of it."""
    for reading in READINGS:
        if reading.select == "row":
            assert int(ready.encode(held_out(), reading).lengths().max()) <= K


def test_threshold_readings_hold_k_on_average(ready: Variant) -> None:
    """Within 2% of k on the calibration text, for the whole dictionary and for the 32 most important latents."""
    x = raw_rows(4096, seed=5) * units().scale
    for reading in (THRESHOLD, Reading(K, 32, "threshold")):
        assert ready.encode(x, reading).lengths().double().mean() == pytest.approx(K, rel=0.02)


def test_pruned_readings_use_only_the_kept_latents(ready: Variant) -> None:
    """All codes lie on the first latents of the rank; cutting after the choice never gives more codes than cutting before."""
    for reading in READINGS:
        if reading.latents:
            kept = set(ready.calibration.order[reading.rank][: reading.latents].tolist())
            assert set(ready.encode(held_out(), reading).latents.tolist()) <= kept
    before, after = (ready.encode(held_out(), Reading(K, 32, cut=cut)).lengths() for cut in ("before", "after"))
    assert bool((after <= before).all())


def test_codes_descend_and_prefixes_are_smaller_readings(ready: Variant) -> None:
    """Every reading is ordered by value * decoder norm; the first 2 codes of a row reading are the row reading at 2."""
    for reading in READINGS:
        codes = ready.encode(held_out(), reading)
        worth = (codes.values * ready.W_dec.norm(dim=1)[codes.latents]).split(codes.lengths().tolist())
        assert all(bool((row.diff() <= 1e-6).all()) for row in worth)
    small, cut = ready.encode(held_out(), Reading(2)), ready.encode(held_out(), ROW).prefix(2)
    assert torch.equal(small.latents, cut.latents) and torch.equal(small.offsets, cut.offsets) and torch.equal(small.values, cut.values)


def test_a_vector_reads_the_same_alone_as_in_a_batch(ready: Variant) -> None:
    """No reading depends on a vector's neighbours."""
    x = held_out()[:40]
    for reading in READINGS:
        whole = ready.encode(x, reading)
        for row in range(0, 40, 13):
            alone = ready.encode(x[row : row + 1], reading)
            part = slice(int(whole.offsets[row]), int(whole.offsets[row + 1]))
            assert torch.equal(alone.latents, whole.latents[part])
            torch.testing.assert_close(alone.values, whole.values[part], rtol=1e-4, atol=1e-5)


def test_reconstruction_is_bias_plus_codes_times_rows(ready: Variant) -> None:
    """decode against a dense product."""
    codes = ready.encode(held_out()[:64], ROW)
    dense = torch.zeros(64, LATENTS)
    for row, (values, latents) in enumerate(zip(*(part.split(codes.lengths().tolist()) for part in codes[:2]), strict=True)):
        dense[row, latents] = values
    torch.testing.assert_close(ready.decode(codes), ready.b_dec + dense @ ready.W_dec, rtol=1e-4, atol=1e-5)


def test_ranks_are_permutations_and_inner_shells_come_first(ready: Variant) -> None:
    """Each rank orders every latent once; all but the random one keep inner shells before outer ones."""
    for rank, order in ready.calibration.order.items():
        assert sorted(order.tolist()) == list(range(LATENTS))
        if rank != "random":
            assert bool((ready.shells()[order].diff() >= 0).all())


def test_uncalibrated_readings_are_refused(ready: Variant) -> None:
    """An SAE that was not calibrated says so instead of guessing a threshold or a rank."""
    new = type(ready)(ready.config, D, LATENTS, 0)
    for reading in (THRESHOLD, Reading(K, 32)):
        with pytest.raises(LookupError, match="calibration has not"):
            new.encode(held_out()[:4], reading)


@pytest.mark.parametrize("name", NAMES)
def test_every_live_parameter_gets_a_gradient(name: str) -> None:
    """Within five steps: both biases whole, and encoder and decoder rows of every latent that fired."""
    variant = build(name)
    variant.start(units().statistics)
    fired = torch.zeros(LATENTS, dtype=torch.bool)
    for x in batches(5, SIZE):
        step = variant.step(x)
        step.loss.backward()
        fired |= step.fired
    assert fired.any() and bool((variant.b_dec.grad != 0).all()) and bool((variant.b_enc.grad[fired] != 0).all())
    for parameter in (variant.W_enc, variant.W_dec):
        assert torch.equal(parameter.grad.abs().sum(1) > 0, fired)


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_bits(name: str) -> None:
    """Two trainings with one seed end in the same weights; another seed's differ."""
    one, two, other = (trained(name, 8, seed).variant.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not torch.equal(one["W_enc"], other["W_enc"])


@pytest.mark.parametrize("name", NAMES)
def test_decoder_rows_stay_unit(name: str) -> None:
    """The trainer keeps every decoder row at norm 1."""
    torch.testing.assert_close(trained(name, 8).variant.W_dec.norm(dim=1), torch.ones(LATENTS))


def test_prefix_of_codes() -> None:
    """Codes.prefix on rows shorter and longer than k."""
    codes = Codes(torch.tensor([3.0, 2.0, 1.0, 9.0]), torch.tensor([4, 5, 6, 7]), torch.tensor([0, 3, 3, 4]))
    short = codes.prefix(2)
    assert short.values.tolist() == [3, 2, 9] and short.latents.tolist() == [4, 5, 7] and short.offsets.tolist() == [0, 2, 2, 3]
