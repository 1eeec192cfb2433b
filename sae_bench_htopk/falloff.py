"""The part of a page on how the latents of an SAE fall off by rank: a log-log plot, and the fits of a power law to it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, ClassVar

from sae_bench_htopk.board import Board
from sae_bench_htopk.markdown import Table, rounded
from sae_bench_htopk.picture import Picture, Point
from sae_bench_htopk.saes import Sae

QUANTITIES = {  # name in a record -> title of its panel
    "importance": "mean squared activation times norm",
    "frequency": "share of vectors on which it fires",
    "spectrum": "eigenvalue of the decoder's covariance",
}


@dataclass(frozen=True)
class Falloff(Picture):
    """A panel for each quantity; both axes are logarithmic."""

    module: ClassVar[str] = "draw_falloff"

    def y_title(self) -> str:
        """Its panels are named by their quantities."""
        return self.y


def shown(board: Board) -> list[Sae]:
    """Each variant's SAE of the budget at which dictionary sizes are compared, or the nearest that it has: its records hold fits."""
    fitted = [sae for sae in board.saes if any(record.get("power_law") for record in sae.records)]
    return [min((s for s in fitted if s.variant == name), key=lambda s: abs(s.budget - board.anchor)) for name in sorted({s.variant for s in fitted})]


def picture(board: Board) -> Falloff:
    """The curves of the first seed of each variant."""
    points = [
        Point(title, board.label(sae), sae.variant, "single", float(rank), float(value), None, "", False)
        for name, title in QUANTITIES.items()
        for sae in shown(board)
        for rank, value in first(sae, name)["curve"]
    ]
    return Falloff("falloff", "Three quantities of latents against their rank, both logarithmic", "rank", "value", "higher", tuple(points), "log")


def fits(sae: Sae, quantity: str) -> list[Mapping[str, Any]]:
    """What each seed's record says of one quantity, by seed."""
    return [found[quantity] for record in sorted(sae.records, key=lambda record: record["sae"]["seed"]) if (found := record.get("power_law"))]


def first(sae: Sae, quantity: str) -> Mapping[str, Any]:
    """What the record of its first seed says."""
    return fits(sae, quantity)[0]


def table(board: Board) -> str:
    """The exponent of each quantity with its spread over seeds, and of the first seed the interval and both tests."""
    made = Table("SAE", "quantity", "ranks", "exponent", "95%, first seed", "lognormal: gain, p", "exponential: z")
    for sae in shown(board):
        for quantity in QUANTITIES:
            fit = first(sae, quantity)
            if "missing" in fit:
                made.add(board.label(sae), quantity, fit["missing"], None, None, None, None)
                continue
            tests = f"{fit['lognormal']['gain']:.1f}, {probability(fit['lognormal']['p'])}", f"{fit['exponential']['z']:+.1f}"
            ranks = f"{fit['first']} to {fit['last']:,}"
            made.add(board.label(sae), quantity, ranks, exponents(fits(sae, quantity)), interval(fit), *tests)
    return made.markdown()


def probability(p: float) -> str:
    """Two digits; what is too small to be told from 0 by such a test is not called 0."""
    return f"{p:.2g}" if p > 1e-99 else "<1e-99"


def exponents(found: list[Mapping[str, Any]]) -> str:
    """Their mean over seeds with its standard deviation, if every seed has one."""
    fitted = [fit["exponent"] for fit in found if "exponent" in fit]
    known = [exponent for exponent in fitted if exponent is not None]
    if len(known) < len(found):
        if not known and len(fitted) == len(found):
            return "steeper than any power"
        counts = {"steeper than any power": len(fitted) - len(known), "no fit": len(found) - len(fitted)}
        return ", ".join(f"{what} in {count} of {len(found)} seeds" for what, count in counts.items() if count)
    return f"{rounded(fmean(known), stdev(known))} ±{stdev(known):.2g}" if len(known) > 1 else rounded(known[0])


def interval(fit: Mapping[str, Any]) -> str:
    """low to high; nothing where even its low end is beyond any power."""
    return "" if fit["low"] is None else " to ".join("∞" if end is None else f"{end:.3g}" for end in (fit["low"], fit["high"]))


def sentences(board: Board) -> Iterator[str]:
    """Of how many SAEs each quantity is no pure power law (the lognormal is likelier, p < .05), and of how many an exponential does better."""
    for quantity in QUANTITIES:
        found = [fit for sae in shown(board) if "lognormal" in (fit := first(sae, quantity))]
        if found:
            bent, worse = sum(fit["lognormal"]["p"] < 0.05 for fit in found), sum(fit["exponential"]["z"] <= -2 for fit in found)
            better = sum(fit["exponential"]["z"] >= 2 for fit in found)
            yield (
                f"{quantity.capitalize()}: of {len(found)} SAEs a lognormal is likelier than a power law for {bent}; "
                f"the power law is likelier than an exponential for {better}, less likely for {worse}."
            )
