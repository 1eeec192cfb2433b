"""By how much one SAE beats another at one measured L0, and how far the text and the seeds could move that."""

import math
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from statistics import fmean, variance
from typing import NamedTuple

import numpy as np
from scipy import special  # whose Student's t is that of scipy.stats, which takes a second to import

from sae_bench_htopk import frontier
from sae_bench_htopk.board import Board
from sae_bench_htopk.contract import Missing
from sae_bench_htopk.markdown import words
from sae_bench_htopk.resampling import FEWEST
from sae_bench_htopk.saes import COMPARED, L0, Row, Sae, value_of

LEVEL = 0.95  # of every interval
STEEPER = 2.0  # beyond its readings a curve may be as much steeper than between them
SAME_L0 = 1e-3  # relative: two L0s that are no further apart than this are one
ROUNDING = 1e-9  # a lead that is no larger is one of the arithmetic
NO_DRAWS = "a record holds no draws of documents for it"


class Held(NamedTuple):
    """One number of one SAE at an L0 of k, exactly where its readings allow: what each of its seeds takes it from."""

    sae: Sae
    column: str
    parts: Mapping[int, Sequence[tuple[float, Row]]]  # seed -> rows, and what each counts for

    def values(self) -> list[float]:
        """The number of each seed."""
        return [sum(share * (value_of(row, self.column) or 0.0) for share, row in found) for found in self.parts.values()]

    def l0(self) -> float:
        """Where the number stands, the geometric mean over seeds: at k, but for a seed without readings on both sides of it."""
        return math.exp(fmean(sum(share * math.log(value_of(row, L0) or 1.0) for share, row in found) for found in self.parts.values()))

    def slope(self) -> float:
        """How much the number changes for each unit of log L0, at most, between neighbouring readings of its SAE."""
        x, y = frontier.curve(*self.sae.mean_curve(self.column))
        return float(np.abs(np.diff(y) / np.diff(x)).max()) if len(x) > 1 else math.inf

    def interpolated(self) -> bool:
        """Whether any seed's number is."""
        return any(len(found) > 1 for found in self.parts.values())

    def rows(self) -> list[Row]:
        """Every row that counts."""
        return [row for found in self.parts.values() for _, row in found]

    def texts(self) -> set[tuple[object, ...]]:
        """What names the held-out text of each seed, and the model that read it."""
        pairs = [(record["text"], record["model"]) for record in self.sae.records if record["sae"]["seed"] in self.parts]
        return {
            (text.get("held_out"), text.get("held_out_tokens"), text.get("held_out_documents"), model.get("fingerprint"), str(model.get("hook")))
            for text, model in pairs
        }

    def documents(self) -> int:
        """The number of held-out documents."""
        return min(int(record["text"].get("held_out_documents") or 0) for record in self.sae.records)


class Noise(NamedTuple):
    """How far one source of noise moves a difference: its standard error, and the degrees of freedom that this is known with."""

    error: float
    freedom: float = math.inf

    def half(self) -> float:
        """Half the 95% interval, by Student's t."""
        return quantile(self.freedom) * self.error if self.error else 0.0

    def p(self, value: float) -> float:
        """How likely noise alone is to give a value as large as this or larger."""
        return float(special.stdtr(self.freedom, -value / self.error)) if self.error else 0.0 if value > ROUNDING else 1.0


@lru_cache(2**16)
def quantile(freedom: int | float) -> float:
    """By how many standard errors of either sign Student's t leaves an interval."""
    return float(special.stdtrit(freedom, (1 + LEVEL) / 2))


def together(noises: Collection[Noise]) -> Noise:
    """Independent sources at once, with the degrees of freedom of Welch and Satterthwaite."""
    total = sum(noise.error**2 for noise in noises)
    freedom = total**2 / known if (known := sum(noise.error**4 / noise.freedom for noise in noises)) else math.inf
    return Noise(math.sqrt(total), freedom)


class Lead(NamedTuple):
    """How much better one SAE is than another at one L0, and how far two sources of noise could move that."""

    value: float  # positive where the first is better, whichever way is better
    documents: Noise | Missing
    seeds: Noise | Missing
    l0s: tuple[float, float] | None = None  # where each stands, if they could not be brought to one L0
    by_l0: float = math.inf  # what the two L0s alone could then make of it
    interpolated: bool = False

    def known(self) -> dict[str, Noise]:
        """The noise that is known, by its source."""
        return {name: noise for name, noise in (("documents", self.documents), ("seeds", self.seeds)) if not isinstance(noise, Missing)}

    def tests(self) -> dict[str, Noise]:
        """All that a difference must be larger than: each source of noise, and those that are known together."""
        return self.known() | {"both together": together(self.known().values())}

    def half(self) -> float:
        """Half the 95% interval by the noise that is known: the widest by one source, or by all together."""
        return max(noise.half() for noise in self.tests().values())

    def p(self, least: float = 0.0) -> float:
        """How likely noise alone is to give such a value where the truth is `least`, one-sided: the most by any of `tests`.

        What a difference in L0 could make of it counts against it. Double it for a difference of either sign; 1 if nothing of its noise is known.
        """
        return max(noise.p(self.value - self.allowed() - least) for noise in self.tests().values()) if self.known() else 1.0

    def allowed(self) -> float:
        """What the value may owe to two L0s that differ."""
        return 0.0 if self.l0s is None else self.by_l0

    def doubts(self) -> list[str]:
        """What it was tested for and is not clear of."""
        found = [name for name, noise in self.tests().items() if self.known() and self.value <= max(noise.half(), ROUNDING)]
        found = [name for name in found if name != "both together"] or found
        return found + ["L0"] * (self.l0s is not None and self.value <= self.by_l0)

    def untested(self) -> dict[str, str]:
        """What it was not tested for, and why."""
        return {name: noise.reason for name, noise in (("documents", self.documents), ("seeds", self.seeds)) if isinstance(noise, Missing)}


def held(sae: Sae, column: str, k: int) -> Held:
    """The number of an SAE that has one at k, for a lead."""
    parts = {seed: sae.parts(seed, column, k, exact=True) for seed in sae.seeds_with(column, k)}
    return Held(sae, column, {seed: found for seed, found in parts.items() if found})


def lead(column: str, k: int, one: Sae, other: Sae) -> Lead:
    """How much better the first is; both have a number at k. Found once, and kept with the first."""
    known: dict[tuple[str, int, Sae], Lead] = one.__dict__.setdefault("leads", {})
    if (asked := (column, k, other)) not in known:
        known[asked] = found(column, k, one, other)
    return known[asked]


def found(column: str, k: int, one: Sae, other: Sae) -> Lead:
    """The same, worked out."""
    mine, theirs = held(one, column, k), held(other, column, k)
    l0s = mine.l0(), theirs.l0()
    apart = abs(math.log(l0s[0] / l0s[1])) > SAME_L0
    by_l0 = STEEPER * max(mine.slope(), theirs.slope()) * abs(math.log(l0s[0] / l0s[1])) if apart else 0.0
    return of_held(mine, theirs)._replace(l0s=l0s if apart else None, by_l0=by_l0)


def of_held(mine: Held, theirs: Held) -> Lead:
    """How much better the first number is, at whatever L0 each of them stands: of two readings of one SAE, too."""
    value = sign(mine.column) * (fmean(mine.values()) - fmean(theirs.values()))
    noise = over_documents(mine, theirs), over_seeds(mine.values(), theirs.values())
    return Lead(value, *noise, interpolated=mine.interpolated() or theirs.interpolated())


def over_documents(mine: Held, theirs: Held) -> Noise | Missing:
    """The standard deviation of the difference, paired draw by draw, or why the two do not pair."""
    rows = mine.rows() + theirs.rows()
    if len(mine.texts() | theirs.texts()) > 1:
        return Missing("measured on different text")
    if (documents := mine.documents()) < FEWEST:
        return Missing(f"{documents} documents, too few to draw from")
    if any(mine.column not in row.get("draws", {}) for row in rows):
        return Missing(NO_DRAWS)
    if len({drawn_by(row, mine.column) for row in rows}) > 1:
        return Missing("measured under different draws of documents")
    if len(lengths := {len(row["draws"][mine.column]) for row in rows}) > 1:
        return Missing(f"readings hold {words(sorted(lengths))} draws of documents")
    one, other = (
        np.mean([np.sum([share * np.array(row["draws"][one.column]) for share, row in found], axis=0) for found in one.parts.values()], axis=0)
        for one in (mine, theirs)
    )
    return Noise(float(np.std(one - other, ddof=1)), min(documents, len(one)) - 1)  # known by no more documents than there are, and no more draws


def drawn_by(row: Row, column: str) -> str:
    """The fingerprint of the draws behind a column; rows of earlier records have one for all."""
    found = row.get("drawn")
    return str(found.get(column.partition(".")[0]) if isinstance(found, Mapping) else found)


def over_seeds(mine: Sequence[float], theirs: Sequence[float]) -> Noise | Missing:
    """That of a difference of means over seeds, taken as independent, with Welch's degrees of freedom."""
    if min(len(mine), len(theirs)) < 2:
        return Missing("one seed alone")
    return together([Noise(math.sqrt(variance(values) / len(values)), len(values) - 1) for values in (mine, theirs)])


def sign(column: str) -> float:
    """1 where higher is better."""
    return 1.0 if COMPARED[column][1] == "higher" else -1.0


def drawn(board: Board) -> frozenset[str]:
    """The columns that any record keeps draws of."""
    return board.drawn
