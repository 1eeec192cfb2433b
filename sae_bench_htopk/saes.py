"""One SAE over its seeds: its numbers as they were read, and at an equal measured L0.

"At k" always means at a measured L0 of k: a reading within 2% of its nominal k as it stands, else between readings in log L0.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from sae_bench_htopk import frontier
from sae_bench_htopk.contract import Cut, Missing, Rank, Reading, Selector
from sae_bench_htopk.frontier import Better
from sae_bench_htopk.records import Record
from sae_bench_htopk.remembered import remembered

Row: TypeAlias = Mapping[str, Any]
Way: TypeAlias = tuple[int | None, Selector, Cut, Rank]  # of reading an SAE, whatever the k
EV, L0, DELTA, SCORE = "explained_variance.ev", "sparsity.l0", "downstream_loss.delta", "downstream_loss.score_mean"
CKA_SAMPLE = "representational_similarity.cka_sample"
SHOWN: Mapping[str, tuple[str, Better]] = {  # the columns that stand beside each other wherever variants are compared
    EV: ("EV", "higher"),
    DELTA: ("ΔCE", "lower"),
    SCORE: ("CE score", "higher"),  # under mean ablation: under zero ablation even a ruined model has 0.9
    "representational_similarity.rsa": ("RSA", "higher"),
    "representational_similarity.cka": ("CKA", "higher"),
    "sparse_probing.auc_1": ("probing AUC", "higher"),
}
COMPARED: Mapping[str, tuple[str, Better]] = {  # all of which the best SAE may be asked for; leads are tested in those that keep their draws
    **SHOWN,
    CKA_SAMPLE: ("CKA on the rows of RSA", "higher"),
    "downstream_loss.kl": ("KL", "lower"),
    "latent_purity.intruder": ("intruder", "higher"),
    "latent_purity.monosemanticity": ("monosemanticity", "higher"),
    "absorption.absorption": ("absorbed", "lower"),
}

REBUILT = frozenset({EV, DELTA, SCORE, CKA_SAMPLE, "downstream_loss.kl", "representational_similarity.rsa", "representational_similarity.cka"})
# how like x and its loss x_hat is, for which codes are spent: fewer of them are no reason to be better


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


def way_of(reading: Reading) -> Way:
    """All that a reading says but its k."""
    return reading.latents, reading.select, reading.cut, reading.rank


def reason_of(row: Row, column: str) -> str:
    """Why a row has no such number: its own reason, or that of all of its metric."""
    return str(row["missing"].get(column) or row["missing"].get(column.partition(".")[0]) or "not measured")


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

    def is_like(self, other: "Sae") -> bool:
        """Whether both are the same SAE but for its seeds and how far it was trained."""
        return all(getattr(self, name) == getattr(other, name) for name in ("variant", "owner", "config", "rate", "latents", "control"))

    def trained_at(self, k: int) -> bool:
        """Whether k is its own budget; an L0 that training came to is nobody's k."""
        return self.budget == k and not self.measured

    def reading(self, k: int, latents: int | None = None, select: Selector | None = None, cut: Cut = "before", rank: Rank = "importance") -> Reading:
        """The reading at k by its native selector, unless another is named; of the whole dictionary, cut and rank say nothing."""
        whole = latents is None or latents == self.latents
        return Reading(k, None, select or self.native) if whole else Reading(k, latents, select or self.native, cut, rank)

    @remembered
    def ks(self, **way: Any) -> list[int]:
        """The budgets that it was read at; `way` is as for `reading`, here and below."""
        return sorted({k for seed in self.rows for k in self.by_way(seed).get(way_of(self.reading(0, **way)), ())})

    @remembered
    def sizes(self) -> list[int]:
        """The numbers of latents below its own that it was read with, by its native selector and either cut."""
        return sorted({r.latents for rows in self.rows.values() for r in rows if r.latents and r == self.reading(r.k, r.latents, cut=r.cut)})

    @remembered
    def cuts(self) -> list[Cut]:
        """The ways in which it was cut down to those, dropping latents before the choice of codes first."""
        found = {r.cut for rows in self.rows.values() for r in rows if r.latents and r == self.reading(r.k, r.latents, cut=r.cut)}
        return [cut for cut in get_args(Cut) if cut in found]

    @remembered
    def ranks(self) -> list[Rank]:
        """The orders of latents, other than by importance, in which it was cut."""
        return sorted({r.rank for rows in self.rows.values() for r in rows if r.latents and r.rank != "importance"})

    @remembered
    def parts(self, seed: int, column: str, k: int, exact: bool = False, **way: Any) -> list[tuple[float, Row]] | None:
        """The readings of one seed that give its number at a measured L0 of k, and what each counts for; None beyond the readings.

        If `exact`, a reading near k stands as it is only where no others lie on both sides of k.
        """
        own = self.rows[seed][self.reading(k, **way)]
        l0 = value_of(own, L0) or 0.0
        near = frontier.on_budget(l0, k)
        if l0 == k or (near and not exact):
            return [(1.0, own)]
        places, rows = self.measured_at(seed, column, **way)
        shares = self.shares(places, k)
        if shares is None:
            return [(1.0, own)] if near else None
        return [(share, row) for share, row in zip(shares, rows, strict=True) if share]

    @remembered
    def measured_at(self, seed: int, column: str, **way: Any) -> tuple[tuple[float, ...], list[Row]]:
        """(measured L0s, rows) of one seed that have the number, and differ in their k alone."""
        rows = self.by_way(seed).get(way_of(self.reading(0, **way)), {}).values()
        pairs = [(at, row) for row in rows if (at := value_of(row, L0)) is not None and value_of(row, column) is not None]
        return tuple(at for at, _ in pairs), [row for _, row in pairs]

    @remembered
    def shares(self, places: tuple[float, ...], k: int) -> list[float] | None:
        """What readings at these L0s count for at k: the same for all columns that have the same readings."""
        return frontier.shares(list(places), k)

    @remembered
    def by_way(self, seed: int) -> Mapping[Way, Mapping[int, Row]]:
        """The rows of one seed by k, for each way to read."""
        found: dict[Way, dict[int, Row]] = {}
        for reading, row in self.rows[seed].items():
            found.setdefault(way_of(reading), {})[reading.k] = row
        return found

    @remembered
    def seeds_with(self, column: str, k: int, **way: Any) -> list[int]:
        """The seeds whose reading at nominal k has the number."""
        return [seed for seed, rows in self.rows.items() if value_of(rows.get(self.reading(k, **way)), column) is not None]

    @remembered
    def mean_curve(self, column: str, ks: tuple[int, ...] | None = None) -> tuple[list[float], list[float]]:
        """(measured L0, number), of its native readings on the whole dictionary, or of those at some budgets alone; means over the same seeds."""
        wanted = self.ks() if ks is None else [k for k in self.ks() if k in ks]
        even = self.even(column, ks)
        found = [number for k in wanted if isinstance(number := even.read(column, k), Number)]
        return [n.l0 for n in found if n.l0 is not None], [n.mean for n in found if n.l0 is not None]

    @remembered
    def on_seeds(self, seeds: tuple[int, ...]) -> "Sae":
        """The same over some of its seeds."""
        return replace(self, rows={seed: rows for seed, rows in self.rows.items() if seed in seeds})

    @remembered
    def even(self, column: str, ks: tuple[int, ...] | None = None) -> "Sae":
        """The same over the seeds with which a column was measured at every k that it was measured at, or of some k: else seeds would bend its curve."""
        having = [set(seeds) for k in (self.ks() if ks is None else ks) if (seeds := self.seeds_with(column, k))]
        return self.on_seeds(tuple(sorted(common))) if having and (common := set.intersection(*having)) and len(common) < len(self.rows) else self

    @remembered
    def cut_to(self, size: int, rank: Rank = "importance") -> "Sae":
        """The same with the first latents by rank alone, dropped before the choice of codes, as if these were its whole dictionary."""
        rows = {
            seed: {replace(r, latents=None, rank="importance"): row for r, row in of.items() if r == self.reading(r.k, size, rank=rank)}
            for seed, of in self.rows.items()
        }
        return replace(self, latents=size, rows=rows)

    @remembered
    def read(self, column: str, k: int, **way: Any) -> Number | Missing:
        """The number as it was read at nominal k, whatever the measured L0."""
        reading = self.reading(k, **way)
        rows = [rows[reading] for rows in self.rows.values() if reading in rows]
        values = [value for row in rows if (value := value_of(row, column)) is not None]
        if not values:
            return Missing(next((reason_of(row, column) for row in rows), "not read there"))
        measured = [l0 for row in rows if value_of(row, column) is not None and (l0 := value_of(row, L0)) is not None]  # of the seeds that it is a mean of
        l0 = fmean(measured) if measured else None
        off = l0 is not None and not all(frontier.on_budget(l0, k) for l0 in measured)
        return Number(fmean(values), len(values), spread(values), half_width(rows, column), "off" if off else "read", l0)

    def shown(self, column: str, k: int, **way: Any) -> Number | Missing:
        """The number at k; where there is none, as it was read, which is marked and wins nothing."""
        return number if isinstance(number := self.at(column, k, **way), Number) else self.read(column, k, **way)

    @remembered
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
    """The standard deviation over seeds; `statistics` has it in exact fractions, which take ten times as long."""
    if len(values) < 2:
        return None
    mean = fmean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def half_width(rows: Iterable[Row], column: str) -> float | None:
    """Half the widest 95% interval over documents."""
    intervals = [row["intervals"][column] for row in rows if column in row.get("intervals", {})]
    return max(((high - low) / 2 for low, high in intervals), default=None)
