"""Whether the latents of a dictionary fall off by rank as a power law, and whether another law does as well (arXiv:2505.00190).

Of values sorted from the largest, value ~ rank ** -exponent over a window of ranks is the same as a density of values that falls
as value ** -(1 + 1 / exponent) between the window's ends. That density is fitted by likelihood, not a line to a log-log plot: the
points of such a plot are sums of one another, and a line through them looks good for laws that are no power law
(Clauset, Shalizi and Newman 2009, arXiv:0706.1062, whose test against other laws is used: Vuong's likelihood ratio).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from scipy import optimize, special, stats
from torch import Tensor

from sae_bench_htopk.contract import Missing, Rank

Values: TypeAlias = npt.NDArray[np.float64]
Law: TypeAlias = Callable[[Values, float, float, Values], Values]  # (values, low end, high end, settings) -> log densities
FIRST_RANK = 10  # where a window begins: the few largest are often of another kind (a constant feature, BOS)
PLOTTED = 60  # ranks of a curve that are kept for a plot, evenly spaced in log rank
LEAST = 50  # values in a window, below which no fit is made
CHI2_95 = float(stats.chi2.ppf(0.95, 1))


@dataclass(frozen=True)
class PowerLaw:
    """A power law fitted over ranks first..last: value ~ rank ** -exponent, and how other laws fare on the same values."""

    first: int
    last: int
    exponent: float | None  # None here and below: they fall faster with rank than by any power
    low: float | None  # 95% interval of the exponent, by profile likelihood, as if values were drawn independently
    high: float | None
    against: Mapping[str, "Rival"]


@dataclass(frozen=True)
class Rival:
    """Vuong's test of the power law against another law; z above 0 speaks for the power law."""

    z: float
    p: float  # two-sided: how often chance alone gives a |z| as large


def quantities(W_dec: Float[Tensor, "latents d"], use: Mapping[Rank, Float[Tensor, " latents"]]) -> dict[str, Values]:
    """The three quantities of the paper, each from the largest, zeros left out.

    `spectrum`: eigenvalues of the covariance of decoder rows. `importance`: mean squared activation times decoder norm. `frequency`: the
    share of vectors on which a latent fires.
    """
    spectrum = torch.linalg.eigvalsh(W_dec.detach().double().T.cov())
    found = {"spectrum": spectrum.cpu().numpy()} | {name: values.double().cpu().numpy() for name, values in use.items()}
    return {name: np.sort(values[values > values.max(initial=0.0) * 1e-12])[::-1] for name, values in found.items()}


def power_law(values: Values, first: int = FIRST_RANK, last: int | None = None) -> PowerLaw | Missing:
    """Fits descending positive `values` over ranks first..last (1 is the largest; None: all). Missing if the window is too small or flat."""
    last = len(values) if last is None else min(last, len(values))
    window = np.asarray(values[first - 1 : last], dtype=np.float64)
    if len(window) < LEAST:
        return Missing(f"{max(len(window), 0)} values in ranks {first} to {last}, wanted {LEAST} at least")
    window = window / math.exp(np.log(window).mean())  # the exponent has no unit; this keeps the fits in range
    low, high = float(window.min()), float(window.max())
    if not low < high * (1 - 1e-9):
        return Missing(f"all values in ranks {first} to {last} are equal")
    mine, (mu, *_) = fit(pareto, window, [1.0])
    rivals = {name: vuong(mine, fit(law, window, start(window))[0]) for name, (law, start) in RIVALS.items()}
    steep, shallow = profile(window, float(mu))
    return PowerLaw(first, last, exponent_of(mu), exponent_of(shallow), exponent_of(steep), rivals)


def exponent_of(mu: float) -> float | None:
    """1 / mu, since a density of value ** (-mu - 1) is value ~ rank ** (-1 / mu)."""
    return 1 / float(mu) if mu > 0 else None


def laws(W_dec: Float[Tensor, "latents d"], use: Mapping[Rank, Float[Tensor, " latents"]]) -> dict[str, Any]:
    """What a record says of the three quantities, as JSON: each one's fit or the reason why there is none, and its curve for a plot."""
    found: dict[str, Any] = {}
    for name, values in quantities(W_dec, use).items():
        law = power_law(values)
        found[name] = {"missing": law.reason} if isinstance(law, Missing) else asdict(law)
        ranks = np.unique(np.geomspace(1, max(len(values), 1), PLOTTED).round().astype(int)) if len(values) else ()
        found[name]["curve"] = [[int(rank), float(f"{values[rank - 1]:.6g}")] for rank in ranks]
    return found


def pareto(y: Values, low: float, high: float, settings: Values) -> Values:
    """mu y ** (-mu - 1) between the ends: log-uniform in the limit of mu = 0."""
    mu, span = float(settings[0]), math.log(high / low)
    # the mass between the ends is low ** -mu * (1 - exp(-mu span)) / mu, whose last part is span * (1 - mu span / 2 + ...)
    mass = math.log(span) + log_ratio(mu * span) - mu * math.log(low)
    return -(mu + 1) * np.log(y) - mass


def exponential(y: Values, low: float, high: float, settings: Values) -> Values:
    """exp(-rate y) between the ends."""
    rate, span = float(settings[0]), high - low
    return -rate * (y - low) - math.log(span) - log_ratio(rate * span)


def lognormal(y: Values, low: float, high: float, settings: Values) -> Values:
    """A normal density of log y between the ends."""
    mean, scale = float(settings[0]), math.exp(float(settings[1]))
    a, b = ((math.log(end) - mean) / scale for end in (low, high))
    if a > 0:  # the tail below is the one with digits
        a, b = -b, -a
    mass = special.log_ndtr(b) + math.log(-math.expm1(min(special.log_ndtr(a) - special.log_ndtr(b), -1e-300)))
    return np.asarray(stats.norm.logpdf((np.log(y) - mean) / scale) - math.log(scale) - np.log(y) - mass)


def log_ratio(t: float) -> float:
    """log((1 - exp(-t)) / t), also near 0 and below it."""
    if abs(t) < 1e-6:
        return -t / 2
    return math.log(-math.expm1(-t) / t) if t > -700 else -t - math.log(-t)


RIVALS: dict[str, tuple[Law, Callable[[Values], list[float]]]] = {
    "lognormal": (lognormal, lambda y: [float(np.log(y).mean()), math.log(float(np.log(y).std()))]),
    "exponential": (exponential, lambda y: [1 / float(y.mean())]),
}


def fit(law: Law, window: Values, start: list[float]) -> tuple[Values, Values]:
    """The law's log density of each value at its most likely settings, and those settings."""
    ends = float(window.min()), float(window.max())

    def cost(settings: Values) -> float:
        total = -float(law(window, *ends, settings).mean())
        return total if math.isfinite(total) else 1e10

    found = optimize.minimize(cost, np.array(start), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-11, "maxiter": 4000})
    return law(window, *ends, found.x), found.x


def vuong(mine: Values, theirs: Values) -> Rival:
    """The summed log-likelihood ratio in units of its standard deviation, and its two-sided p."""
    difference = mine - theirs
    deviation = float(difference.std()) * math.sqrt(len(difference))
    z = float(difference.sum()) / deviation if deviation > 1e-9 * len(difference) else 0.0
    return Rival(z, float(2 * stats.norm.sf(abs(z))))


def profile(window: Values, best: float) -> tuple[float, float]:
    """Where twice the log-likelihood has fallen by the 95% point of chi square, on both sides of the best mu."""
    ends = float(window.min()), float(window.max())
    top = float(pareto(window, *ends, np.array([best])).sum())

    def drop(mu: float) -> float:
        return 2 * (top - float(pareto(window, *ends, np.array([mu])).sum())) - CHI2_95

    step = max(abs(best), 1.0)
    edges = []
    for sign in (-1.0, 1.0):
        far = step
        while drop(best + sign * far) < 0:
            far *= 2
        edges.append(float(optimize.brentq(drop, best, best + sign * far)))
    return edges[0], edges[1]
