"""Power laws: known exponents come back, other laws are told from them, and the densities are densities."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate

from sae_bench_htopk import power_law as module
from sae_bench_htopk.contract import Missing
from sae_bench_htopk.power_law import PowerLaw, power_law, quantities


def drawn(kind: str, count: int = 3000, seed: int = 0, setting: float = 1.0) -> np.ndarray:
    """Values of a known law, from the largest."""
    random = np.random.default_rng(seed)
    made = {
        "power": lambda: random.pareto(1 / setting, count) + 1,
        "lognormal": lambda: random.lognormal(0.0, setting, count),
        "exponential": lambda: random.exponential(setting, count),
    }[kind]()
    return np.sort(made)[::-1]


@pytest.mark.parametrize("exponent", [0.3, 0.7, 1.0, 2.0])
def test_a_known_exponent_comes_back(exponent: float) -> None:
    """Within its interval, which is about two standard errors of Hill's estimator wide."""
    found = power_law(drawn("power", setting=exponent))
    assert isinstance(found, PowerLaw) and found.low and found.high
    assert found.low < exponent < found.high
    assert found.high - found.low < 0.35 * exponent
    assert (found.first, found.last) == (10, 3000)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """95% of 200 draws, within what chance allows."""
    held = 0
    for seed in range(200):
        found = power_law(drawn("power", 500, seed), first=1)
        assert isinstance(found, PowerLaw) and found.low and found.high
        held += found.low < 1.0 < found.high
    assert 0.90 <= held / 200 <= 0.99


def test_the_exponent_is_that_of_a_rank_plot() -> None:
    """Exact rank ** -0.8 over the window gives 0.8, whatever the unit."""
    values = np.arange(1, 4001.0) ** -0.8
    for unit in (1.0, 1e-9, 1e6):
        found = power_law(values * unit, first=20, last=2000)
        assert isinstance(found, PowerLaw) and found.exponent == pytest.approx(0.8, rel=0.02) and found.last == 2000


@pytest.mark.parametrize("kind", ["lognormal", "exponential"])
def test_another_law_is_told_from_a_power_law(kind: str) -> None:
    """Draws of it speak against the power law; draws of a power law do not speak for it."""
    theirs, mine = power_law(drawn(kind, setting=0.7)), power_law(drawn("power"))
    assert isinstance(theirs, PowerLaw) and isinstance(mine, PowerLaw)
    assert theirs.against[kind].z < -3 and theirs.against[kind].p < 0.01
    assert mine.against[kind].z > (3 if kind == "exponential" else -2)


@pytest.mark.parametrize(
    ("law", "settings"),
    [
        *((module.pareto, [mu]) for mu in (-2.0, 0.0, 1e-9, 0.5, 3.0, 40.0)),
        *((module.exponential, [rate]) for rate in (-3.0, 0.0, 1e-9, 2.0, 300.0)),
        *((module.lognormal, [mean, math.log(scale)]) for mean in (-30.0, 0.0, 3.0, 30.0) for scale in (0.3, 5.0)),
    ],
)
def test_each_density_has_mass_one_between_the_ends(law: module.Law, settings: list[float]) -> None:
    """Integrated over log y, for settings far inside and far outside of the window."""
    low, high = 0.02, 9.0
    mass, _ = integrate.quad(
        lambda u: math.exp(u + float(law(np.array([math.exp(u)]), low, high, np.array(settings))[0])), math.log(low), math.log(high), limit=400
    )
    assert mass == pytest.approx(1.0, rel=1e-6)


def test_what_falls_faster_than_any_power_has_no_exponent() -> None:
    """A fall that steepens with rank, in units of which every power is shallow."""
    found = power_law(1.001 ** -(np.arange(3000.0) ** 1.3))
    assert isinstance(found, PowerLaw) and found.exponent is None and found.high is None


def test_windows_that_say_nothing() -> None:
    """Too few values, and equal values."""
    assert isinstance(found := power_law(drawn("power", 40)), Missing) and "31 values in ranks 10 to 40" in found.reason
    assert isinstance(found := power_law(np.ones(500)), Missing) and "equal" in found.reason


def test_quantities_by_hand() -> None:
    """Eigenvalues of the covariance, zeros left out, the largest first."""
    W = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    worth, fired = torch.zeros(40), torch.zeros(40)
    worth[3], worth[7], fired[3], fired[7] = 2.0, 0.5, 0.25, 1.0
    found = quantities(W, {"importance": worth, "frequency": fired})
    centred = (W - W.mean(0)).double().numpy()
    assert found["spectrum"] == pytest.approx(np.sort(np.linalg.eigvalsh(centred.T @ centred / 39))[::-1])
    assert found["importance"].tolist() == [2.0, 0.5] and found["frequency"].tolist() == [1.0, 0.25]
