"""One SAE over its seeds: its numbers as they were read, and at an equal measured L0.

"At k" always means at a measured L0 of k: a reading within 2% of its nominal k as it stands, else between readings in log L0.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Literal, NamedTuple, TypeAlias

from sae_bench_htopk import frontier
from sae_bench_htopk.contract import Missing, Rank, Reading, Selector
from sae_bench_htopk.frontier import Better
from sae_bench_htopk.records import Record

Row: TypeAlias = Mapping[str, Any]
EV, L0, DELTA = "explained_variance.ev", "sparsity.l0", "downstream_loss.delta"
SHOWN: Mapping[str, tuple[str, Better]] = {  # the columns that stand beside each other wherever variants are compared
    EV: ("EV", "higher"),
    DELTA: ("ΔCE", "lower"),
    "representational_similarity.rsa": ("RSA", "higher"),
    "representational_similarity.cka": ("CKA", "higher"),
    "interpretability.auc_1": ("probing AUC", "higher"),
}


class Number(NamedTuple):
    """One number of one SAE, a mean over its seeds."""

    mean: float
    seeds: int
    spread: float | None  # standard deviation over seeds; None with one seed
    half: float | None  # half the 95% interval over documents; None where it was not computed
    how: Literal["read", "interpolated", "off"]  # off: as it was read, at an L0 that is not its nominal k
    l0: float | None


def value_of(row: Row | None, column: str) -> float | None:
    """One number of a row, if row and number are there."""
    return None if row is None or row["values"].get(column) is None else float(row["values"][column])


@dataclass(frozen=True, eq=False)
class Sae:
    """One SAE over its seeds, as one variant reads it."""

    variant: str
    owner: str  # the variant that it was trained as: another one where its weights are borrowed
    config: Mapping[str, Any]
    rate: float | None  # the learning rate that it was trained with
    budget: int  # the k that it was trained at, or the L0 that training came to
    measured: bool  # whether its budget is such an L0, a mean over seeds
    latents: int
    control: bool
    native: Selector
    rows: Mapping[int, Mapping[Reading, Row]]  # seed -> reading -> row
    records: tuple[Record, ...]

    def trained_at(self, k: int) -> bool:
        """Whether k is its own budget; an L0 that training came to is nobody's k."""
        return self.budget == k and not self.measured

    def reading(self, k: int, latents: int | None = None, select: Selector | None = None, rank: Rank = "importance") -> Reading:
        """The reading at k by its native selector, unless another is named."""
        return Reading(k, None if latents == self.latents else latents, select or self.native, rank=rank)

    def ks(self, **way: Any) -> list[int]:
        """The budgets that it was read at; `way` is as for `reading`, here and below."""
        return sorted({r.k for rows in self.rows.values() for r in rows if r == self.reading(r.k, **way)})

    def sizes(self) -> list[int]:
        """The numbers of latents below its own that it was read with, by its native selector."""
        return sorted({r.latents for rows in self.rows.values() for r in rows if r.latents and r == self.reading(r.k, r.latents)})

    def ranks(self) -> list[Rank]:
        """The orders of latents, other than by importance, in which it was cut."""
        return sorted({r.rank for rows in self.rows.values() for r in rows if r.latents and r.rank != "importance"})

    def parts(self, seed: int, column: str, k: int, **way: Any) -> list[tuple[float, Row]] | None:
        """The readings of one seed that give its number at a measured L0 of k, and what each counts for; None beyond the readings."""
        own = self.rows[seed][self.reading(k, **way)]
        if frontier.on_budget(value_of(own, L0) or 0.0, k):
            return [(1.0, own)]
        rows = [row for reading, row in self.rows[seed].items() if reading == self.reading(reading.k, **way)]
        pairs = [(l0, row) for row in rows if (l0 := value_of(row, L0)) is not None and value_of(row, column) is not None]
        shares = frontier.shares([l0 for l0, _ in pairs], k)
        return None if shares is None else [(share, row) for share, (_, row) in zip(shares, pairs, strict=True) if share]

    def seeds_with(self, column: str, k: int, **way: Any) -> list[int]:
        """The seeds whose reading at nominal k has the number."""
        return [seed for seed, rows in self.rows.items() if value_of(rows.get(self.reading(k, **way)), column) is not None]

    def mean_curve(self, column: str) -> tuple[list[float], list[float]]:
        """(measured L0, number), means over seeds, of its native readings on the whole dictionary."""
        found = [number for k in self.ks() if isinstance(number := self.read(column, k), Number)]
        return [n.l0 for n in found if n.l0 is not None], [n.mean for n in found if n.l0 is not None]

    def read(self, column: str, k: int, **way: Any) -> Number | Missing:
        """The number as it was read at nominal k, whatever the measured L0."""
        reading = self.reading(k, **way)
        rows = [rows[reading] for rows in self.rows.values() if reading in rows]
        values = [value for row in rows if (value := value_of(row, column)) is not None]
        if not values:
            return Missing(next((row["missing"].get(column, "not measured") for row in rows), "not read there"))
        measured = [l0 for row in rows if (l0 := value_of(row, L0)) is not None]
        l0 = fmean(measured) if measured else None
        off = l0 is not None and not all(frontier.on_budget(l0, k) for l0 in measured)
        return Number(fmean(values), len(values), spread(values), half_width(rows, column), "off" if off else "read", l0)

    def shown(self, column: str, k: int, **way: Any) -> Number | Missing:
        """The number at k; where there is none, as it was read, which is marked and wins nothing."""
        return number if isinstance(number := self.at(column, k, **way), Number) else self.read(column, k, **way)

    def at(self, column: str, k: int, **way: Any) -> Number | Missing:
        """The number at a measured L0 of k: as read where that is within 2%, interpolated where not, missing beyond the readings."""
        read = self.read(column, k, **way)
        if isinstance(read, Missing):
            return read
        if read.l0 is None:
            return Missing("its L0 was not measured")
        seeds = [self.parts(seed, column, k, **way) for seed in self.seeds_with(column, k, **way)]
        found = [sum(share * (value_of(row, column) or 0.0) for share, row in parts) for parts in seeds if parts]
        if len(found) < len(seeds):
            return Missing(f"no readings on both sides of a measured L0 of {k}")
        return Number(fmean(found), len(found), spread(found), read.half, *(("read", read.l0) if read.how == "read" else ("interpolated", float(k))))


def spread(values: Sequence[float]) -> float | None:
    """The standard deviation over seeds."""
    return stdev(values) if len(values) > 1 else None


def half_width(rows: Iterable[Row], column: str) -> float | None:
    """Half the widest 95% interval over documents."""
    intervals = [row["intervals"][column] for row in rows if column in row.get("intervals", {})]
    return max(((high - low) / 2 for low, high in intervals), default=None)
