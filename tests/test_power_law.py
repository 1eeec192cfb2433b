"""Power laws: known exponents come back, other laws are told from them, and the densities are densities."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate

from sae_bench_htopk import power_law as module
from sae_bench_htopk.contract import Missing
from sae_bench_htopk.power_law import PowerLaw, laws, power_law, quantities


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


def test_other_laws_are_told_from_a_power_law() -> None:
    """Draws of each speak against the power law; draws of a power law speak against the exponential, and not for the lognormal."""
    lognormal, exponential, mine = (power_law(drawn(kind, setting=0.7)) for kind in ("lognormal", "exponential", "power"))
    assert isinstance(lognormal, PowerLaw) and isinstance(exponential, PowerLaw) and isinstance(mine, PowerLaw)
    assert lognormal.lognormal.p < 1e-6 and lognormal.lognormal.gain > 30
    assert exponential.exponential.z < -3 and exponential.exponential.p < 0.01
    assert mine.exponential.z > 3 and mine.lognormal.p > 0.01


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_a_lognormal_is_told_by_its_first_thousand_ranks(scale: float) -> None:
    """A window that holds only its upper tail still bends."""
    found = power_law(drawn("lognormal", 20_000, setting=scale), first=10, last=10_000)
    assert isinstance(found, PowerLaw) and found.lognormal.p < 1e-3


def test_the_test_against_the_lognormal_is_right_as_often_as_it_says() -> None:
    """Of 300 draws of a power law 5% have a p below 0.05, and half a gain of 0, within what chance allows."""
    found = [power_law(drawn("power", 400, seed), first=1) for seed in range(300)]
    tests = [law.lognormal for law in found if isinstance(law, PowerLaw)]
    assert 0.01 <= sum(test.p < 0.05 for test in tests) / 300 <= 0.09
    assert 0.35 <= sum(test.gain == 0 for test in tests) / 300 <= 0.7


@pytest.mark.parametrize("kind", ["power", "lognormal", "exponential"])
def test_fits_are_the_likeliest(kind: str) -> None:
    """No other settings near or far are likelier, and the lognormal is at least as likely as the power law that it holds."""
    u = np.log(drawn(kind, 2000))
    half = (u.max() - u.min()) / 2
    t = (u - u.min()) / half - 1
    totals = {}
    for law, settings in ((module.POWER, 1), (module.LOGNORMAL, 2), (module.EXPONENTIAL, 1)):
        best = module.fit(law, t, half)
        totals[settings, law] = total = module.log_densities(law, t, half, best).sum()
        random = np.random.default_rng(0)
        for size in (1e-3, 0.1, 1.0, 30.0):
            other = best + size * random.standard_normal((20, settings))
            assert all(module.log_densities(law, t, half, one).sum() <= total + 1e-6 for one in other)
    assert totals[2, module.LOGNORMAL] >= totals[1, module.POWER] - 1e-9


@pytest.mark.parametrize(
    ("law", "settings"),
    [
        *((module.POWER, [setting]) for setting in (-200.0, -2.0, 0.0, 1e-9, 0.5, 120.0)),
        *((module.EXPONENTIAL, [rate]) for rate in (-900.0, -2.0, 0.0, 3.0, 300.0)),
        *((module.LOGNORMAL, [mean, curve]) for mean in (-100.0, 0.0, 30.0) for curve in (-300.0, -1.0, 0.0, 2.0)),
    ],
)
def test_each_density_has_mass_one_between_the_ends(law: module.Law, settings: list[float]) -> None:
    """By adaptive quadrature, with the peak given, for settings far inside and far outside of the window."""
    at = np.linspace(-1, 1, 4001)
    peak = at[module.log_densities(law, at, 3.0, np.array(settings)).argmax()]
    density = lambda t: math.exp(module.log_densities(law, np.array([t]), 3.0, np.array(settings))[0])  # noqa: E731
    points = [point for point in (peak - 0.01, peak, peak + 0.01) if -1 < point < 1]
    assert integrate.quad(density, -1, 1, points=points, limit=400)[0] == pytest.approx(1.0, rel=1e-6)


def test_what_falls_faster_than_any_power_has_no_exponent() -> None:
    """A fall that steepens with rank, in units of which every power is shallow."""
    found = power_law(1.001 ** -(np.arange(3000.0) ** 1.3))
    assert isinstance(found, PowerLaw) and found.exponent is None and found.high is None


@pytest.mark.parametrize("values", [[100.0] * 9 + [50.0] + [1.0] * 200, [1.0] * 300 + [0.5]])
def test_values_at_one_end(values: list[float]) -> None:
    """All but a few equal: no law is fitted to a spike."""
    found = power_law(np.array(values))
    assert isinstance(found, Missing) and "lie at one end of their range" in found.reason


@pytest.mark.parametrize("outlier", [1e3, 1e6, 1e12])
def test_one_large_value_does_not_decide_against_the_exponential(outlier: float) -> None:
    """Its fit is found however far the window reaches: the power law of such values is likelier, and the more so the farther."""
    body = np.random.default_rng(0).uniform(1, 2, 500)
    found = power_law(np.sort(np.append(body, outlier))[::-1], first=1)
    assert isinstance(found, PowerLaw) and math.isfinite(found.exponential.z)
    u = np.log(np.sort(np.append(body, outlier)))
    half = float(u[-1] - u[0]) / 2
    t = np.clip((u[1:-1] - u[0]) / half - 1, -1, 1)
    rates = np.geomspace(0.1, 10, 2000) * math.exp(2 * half)
    likeliest = max(module.log_densities(module.EXPONENTIAL, t, half, np.array([-rate])).sum() for rate in rates)
    best = module.log_densities(module.EXPONENTIAL, t, half, module.fit(module.EXPONENTIAL, t, half)).sum()
    assert best >= likeliest - 1e-6


def test_latents_that_hardly_fire_are_no_part_of_a_fit() -> None:
    """Importance, too, ends at the rank of the number of latents that fired 30 times."""
    worth = torch.from_numpy(np.concatenate((drawn("power", 500), np.full(1500, 1e-9))).copy())
    fired = torch.cat((torch.full((500,), 0.5), torch.full((1500,), 0.01)))
    said = laws(torch.randn(2000, 8), {"importance": worth, "frequency": fired}, rows=1000)["importance"]
    assert said["last"] == 500 and said["exponent"] == pytest.approx(1.0, abs=0.2)


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
    assert isinstance(found["importance"], np.ndarray) and found["importance"].tolist() == [2.0, 0.5]
    assert isinstance(found["frequency"], np.ndarray) and found["frequency"].tolist() == [1.0, 0.25]


def test_a_record_says_why_there_is_no_fit() -> None:
    """Weights or activations that are no numbers, a width of one, and latents that fired too seldom to be ranked by it."""
    W, worth, fired = torch.randn(400, 60), torch.rand(400), torch.rand(400)
    said = laws(W * math.nan, {"importance": worth / 0, "frequency": fired}, rows=100)
    assert "not all finite" in said["spectrum"]["missing"] and "importance is not finite" in said["importance"]["missing"]
    assert said["frequency"]["last"] == int((fired * 100 >= 30).sum()) < 400 and len(said["frequency"]["curve"]) > 20
    assert "wanted 50" in laws(W[:, :1], {"importance": worth}, rows=100)["spectrum"]["missing"]
    assert "0 values" in laws(W, {"frequency": fired / 1e4}, rows=100)["frequency"]["missing"]
