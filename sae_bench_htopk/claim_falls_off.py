"""A test of papers' claims: a quantity of an SAE's latents falls off by rank as a power law, and neither exponentially nor as a lognormal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from scipy import special  # scipy.stats is slow to import

from sae_bench_htopk.board import Board
from sae_bench_htopk.evidence import Comparison, Match
from sae_bench_htopk.saes import Sae

DRAWN = "latents are taken as independent draws"


@dataclass(frozen=True)
class FallsOff:
    """Which SAE, and which quantity of its latents."""

    one: Match
    quantity: Literal["importance", "frequency", "spectrum"]

    def wanted(self) -> str:
        """The SAE and the fits."""
        return f"{self.one.words()} with fits of the {self.quantity} of its latents"

    def evidence(self, board: Board) -> list[Comparison]:
        """Two lines for each SAE whose records hold fits."""
        return [line for one in self.one.saes(board) for line in self.of(board.label(one), one)]

    def of(self, on: str, one: Sae) -> list[Comparison]:
        """Of several seeds the least favourable counts, on either side; those without a fit leave it untested."""
        found = [fit for record in one.records if (fit := record.get("power_law", {}).get(self.quantity))]
        if not found:
            return []
        without = [str(fit.get("missing", "no fit")) for fit in found if "exponential" not in fit or "lognormal" not in fit]
        reason = without[0] if without else "one seed alone" if len(found) < 2 else ""
        whats = f"{self.quantity}: power law over exponential", f"{self.quantity}: no lognormal over power law"
        if reason:
            return [Comparison(on, what, "", untested=reason) for what in whats]
        return [exponential(on, whats[0], found), lognormal(on, whats[1], found)]


def exponential(on: str, what: str, found: Sequence[Mapping[str, Any]]) -> Comparison:
    """Vuong's test: z above 0 speaks for the power law, below for the exponential."""
    z = sorted(float(fit["exponential"]["z"]) for fit in found)
    return Comparison(on, what, f"z {z[0]:+.1f} to {z[-1]:+.1f}", float(special.ndtr(-z[0])), float(special.ndtr(z[-1])), note=DRAWN)


def lognormal(on: str, what: str, found: Sequence[Mapping[str, Any]]) -> Comparison:
    """Wilks' test: the lognormal holds the power law as its limit, so that a gain can only speak against the claim."""
    gains = sorted(float(fit["lognormal"]["gain"]) for fit in found)
    against = max(float(fit["lognormal"]["p"]) for fit in found)
    note = f"can speak against the claim alone; {DRAWN}"
    return Comparison(on, what, f"gain {gains[0]:.1f} to {gains[-1]:.1f}", None, against, note=note)
