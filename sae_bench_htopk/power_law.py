"""Whether the latents of a dictionary fall off by rank as a power law, and whether another law does better (arXiv:2505.00190).

Of values sorted from the largest, value ~ rank ** -exponent over a window of ranks is the same as a density of values that falls
as value ** -(1 + 1 / exponent) between the window's ends. That density is fitted by likelihood, not a line to a log-log plot: the
points of such a plot are sums of one another, and a line through them looks good for laws that are no power law
(Clauset, Shalizi and Newman 2009, arXiv:0706.1062, whose two tests against other laws are used).

Over t, the log of a value mapped so that the window is -1..1, all three laws are densities exp(settings . features(t) + fixed(t)): the
log-likelihood of each is concave, so that its most likely settings are one point and are found.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from scipy import optimize, special, stats
from torch import Tensor

from sae_bench_htopk.contract import Missing, Rank

Values: TypeAlias = npt.NDArray[np.float64]
FIRST_RANK = 10  # where a window begins: the few largest are often of another kind (a constant feature, BOS)
LEAST_COUNT = 30  # firings, below which a latent's numbers say little: windows end at the rank of the number of latents that fired as often
PLOTTED = 60  # ranks of a curve that are kept for a plot, evenly spaced in log rank
LEAST = 50  # values in a window, below which no fit is made
CHI2_95 = float(stats.chi2.ppf(0.95, 1))
STEEPEST = 150.0  # fall of log density over half a window, beyond which all but a few values lie at one end
NODES, WEIGHTS = np.polynomial.legendre.leggauss(400)  # where densities are integrated over t


@dataclass(frozen=True)
class PowerLaw:
    """A power law fitted over ranks first..last: value ~ rank ** -exponent, and how other laws fare on the same values."""

    first: int
    last: int
    exponent: float | None  # None here and below: they fall faster with rank than by any power
    low: float | None  # 95% interval of the exponent, by profile likelihood, as if values were drawn independently
    high: float | None
    lognormal: "Nested"
    exponential: "Vuong"


@dataclass(frozen=True)
class Nested:
    """Wilks' test against a law that holds the power law as its limit, and so can only be more likely."""

    gain: float  # twice what it adds to the log-likelihood
    p: float  # how often it adds as much to values that do follow a power law


@dataclass(frozen=True)
class Vuong:
    """Vuong's test against a law that is of another kind; z above 0 speaks for the power law."""

    z: float
    p: float  # two-sided: how often chance alone gives a |z| as large


class Law(NamedTuple):
    """A family of densities over t in -1..1; `half` is half the window's width in log value."""

    features: Callable[[Values, float], Values]  # (t, half) -> [values, settings]
    fixed: Callable[[Values, float], Values]
    start: float = 0.0  # of each setting, in units of one over its feature's mean


POWER = Law(lambda t, half: t[:, None], lambda t, half: np.zeros_like(t))
LOGNORMAL = Law(lambda t, half: np.stack([t, t * t], 1), lambda t, half: np.zeros_like(t))  # the second setting is -1 / (2 variance)
EXPONENTIAL = Law(lambda t, half: np.exp(half * (t - 1))[:, None], lambda t, half: half * t, -1.0)  # half * t: from a density of values to one of t


def log_densities(law: Law, t: Values, half: float, settings: Values) -> Values:
    """Of each value, between the ends of the window."""
    mass = special.logsumexp(law.features(NODES, half) @ settings + law.fixed(NODES, half), b=WEIGHTS)
    return np.asarray(law.features(t, half) @ settings + law.fixed(t, half) - mass)


def fit(law: Law, t: Values, half: float) -> Values:
    """The most likely settings, by Newton's method within a trusted region: the mean of the features is to be that of the data."""
    unit = np.abs(law.features(t, half)).mean(0)
    wanted, fixed = law.features(t, half).mean(0) / unit, law.fixed(NODES, half)
    nodes = law.features(NODES, half) / unit

    def moments(settings: Values) -> tuple[float, Values, Values]:
        raised = nodes @ settings + fixed
        mass = float(special.logsumexp(raised, b=WEIGHTS))
        share = np.exp(raised - mass) * WEIGHTS
        mean = share @ nodes
        return mass - float(wanted @ settings), mean - wanted, (nodes - mean).T @ ((nodes - mean) * share[:, None])

    options = {"gtol": 1e-9, "max_trust_radius": 1e6, "maxiter": 500}
    start = np.full(nodes.shape[1], law.start)
    found = optimize.minimize(lambda s: moments(s)[:2], start, jac=True, hess=lambda s: moments(s)[2], method="trust-exact", options=options)
    return np.asarray(found.x / unit)


def power_law(values: Values, first: int = FIRST_RANK, last: int | None = None) -> PowerLaw | Missing:
    """Fits descending positive `values` over ranks first..last (1 is the largest; None: all). Missing if the window is too small or flat."""
    last = len(values) if last is None else min(last, len(values))
    u = np.log(np.asarray(values[first - 1 : last], dtype=np.float64))
    if len(u) < LEAST:
        return Missing(f"{max(len(u), 0)} values in ranks {first} to {last}, wanted {LEAST} at least")
    half = float(u.max() - u.min()) / 2
    if not half > 1e-9:
        return Missing(f"all values in ranks {first} to {last} are equal")
    t = np.clip((u[1:-1] - u.min()) / half - 1, -1.0, 1.0)  # given the first and the last value, those between are draws of the law cut off there
    best = fit(POWER, t, half)
    if abs(best[0]) > STEEPEST:
        return Missing(f"nearly all values in ranks {first} to {last} lie at one end of their range: {window_of(u)}")
    shallow, steep = profile(t, half, best)
    exponent, low, high = (exponent_of(float(setting), half) for setting in (best[0], shallow, steep))
    return PowerLaw(first, last, exponent, low, high, nested(t, half, best), vuong(t, half, best))


def window_of(u: Values) -> str:
    """Both ends of a window of log values, and its median."""
    return f"{math.exp(u.max()):.3g} to {math.exp(u.min()):.3g}, median {math.exp(float(np.median(u))):.3g}"


def exponent_of(setting: float, half: float) -> float | None:
    """A density of t as exp(setting t) is one of values as value ** (setting / half - 1), so that value ~ rank ** (half / setting)."""
    return -half / setting if setting < 0 else None


def profile(t: Values, half: float, best: Values) -> tuple[float, float]:
    """Where twice the log-likelihood of the power law has fallen by the 95% point of chi square, on both sides of its best."""
    top = float(log_densities(POWER, t, half, best).sum())

    def drop(setting: float) -> float:
        return 2 * (top - float(log_densities(POWER, t, half, np.array([setting])).sum())) - CHI2_95

    edges = []
    for sign in (-1.0, 1.0):
        far = max(abs(best[0]), 1.0)
        while drop(best[0] + sign * far) < 0:
            far *= 2
        edges.append(float(optimize.brentq(drop, best[0], best[0] + sign * far)))
    return edges[0], edges[1]


def nested(t: Values, half: float, best: Values) -> Nested:
    """Against the lognormal, whose limit of infinite variance is the power law; at that edge half of all gains are 0."""
    settings = fit(LOGNORMAL, t, half)
    if settings[1] >= 0:  # the values fall off more slowly than by any power: the likeliest lognormal is the power law itself
        return Nested(0.0, 1.0)
    gain = 2 * float((log_densities(LOGNORMAL, t, half, settings) - log_densities(POWER, t, half, best)).sum())
    return Nested(gain, float(stats.chi2.sf(gain, 1) / 2))


def vuong(t: Values, half: float, best: Values) -> Vuong:
    """Against the exponential: the summed log-likelihood ratio in units of its standard deviation."""
    difference = log_densities(POWER, t, half, best) - log_densities(EXPONENTIAL, t, half, fit(EXPONENTIAL, t, half))
    deviation = float(difference.std()) * math.sqrt(len(difference))
    z = float(difference.sum()) / deviation if deviation > 1e-9 * len(difference) else 0.0
    return Vuong(z, float(2 * stats.norm.sf(abs(z))))


def quantities(W_dec: Float[Tensor, "latents d"], use: Mapping[Rank, Float[Tensor, " latents"]]) -> dict[str, Values | Missing]:
    """The three quantities of the paper, each from the largest, zeros left out; Missing where one is no number.

    `spectrum`: eigenvalues of the covariance of decoder rows. `importance`: mean squared activation times decoder norm. `frequency`: the
    share of vectors on which a latent fires.
    """
    W = W_dec.detach().double().T
    finite = bool(torch.isfinite(W).all())
    found: dict[str, Values | Missing] = {
        "spectrum": descending(torch.linalg.eigvalsh(torch.atleast_2d(W.cov()))) if finite else Missing("the decoder's weights are not all finite")
    }
    for name, values in use.items():
        found[name] = descending(values.double()) if bool(torch.isfinite(values).all()) else Missing(f"{name} is not finite for all latents")
    return found


def descending(values: Float[Tensor, " values"]) -> Values:
    """From the largest, without those that are 0 up to rounding."""
    array: Values = values.cpu().numpy()
    return np.sort(array[array > array.max(initial=0.0) * 1e-12])[::-1]


def laws(W_dec: Float[Tensor, "latents d"], use: Mapping[Rank, Float[Tensor, " latents"]], rows: int) -> dict[str, Any]:
    """What a record says of the three quantities, as JSON: each one's fit or the reason why there is none, and its curve for a plot.

    `rows` is the number of vectors that `use` was found on.
    """
    found: dict[str, Any] = {}
    often = int((use["frequency"] * rows >= LEAST_COUNT).sum()) if "frequency" in use else None
    for name, values in quantities(W_dec, use).items():
        if isinstance(values, Missing):
            found[name] = {"missing": values.reason, "curve": []}
            continue
        law = power_law(values, last=None if name == "spectrum" else often)
        ranks = np.unique(np.geomspace(1, max(len(values), 1), PLOTTED).round().astype(int)) if len(values) else ()
        found[name] = {"missing": law.reason} if isinstance(law, Missing) else asdict(law)
        found[name]["curve"] = [[int(rank), float(f"{values[rank - 1]:.6g}")] for rank in ranks]
    return found
