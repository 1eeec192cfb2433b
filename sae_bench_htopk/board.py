"""From records to a board: which SAEs may be compared, the best of them at each budget, and their numbers by dictionary size."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import Any, NamedTuple

from sae_bench_htopk.contract import Missing, Reading, Selector
from sae_bench_htopk.frontier import Better
from sae_bench_htopk.records import Record, stage_of
from sae_bench_htopk.saes import COMPARED, EV, REBUILT, SHOWN, Number, Row, Sae
from sae_bench_htopk.sharing import newest


class Best(NamedTuple):
    """The best number among some SAEs, and the best among those of other variants."""

    sae: Sae
    number: Number
    next: tuple[Sae, Number] | None


@dataclass(frozen=True, eq=False)
class Board:
    """All SAEs of a suite that were measured on one text and one model."""

    suite: str
    records: tuple[Record, ...]
    everything: tuple[Sae, ...]
    left_out: tuple[str, ...]  # a sentence for each record that is not on the board
    tokens: int = 0  # that trainings were planned for; 0 where records do not say
    share: float = 1.0  # of these tokens, after which the SAEs were kept
    earlier: tuple["Board", ...] = ()  # the same SAEs after fewer tokens, the fewest first: kept on the way, or trained for less

    @cached_property
    def latents(self) -> int:
        """The size of the whole dictionary."""
        return max((sae.latents for sae in self.everything if not sae.control), default=0)

    @cached_property
    def controls(self) -> list[Sae]:
        """The rows that bound what a number means."""
        return [sae for sae in self.everything if sae.control]

    @cached_property
    def borrowed(self) -> list[tuple[Sae, Sae]]:
        """(SAE, the one whose weights it reads), where every number on the whole dictionary is the same for both."""
        pairs = [(a, b) for a in self.everything for b in self.everything if a.owner == b.variant == b.owner != a.variant]
        pairs = [(a, b) for a, b in pairs if {r["train_key"] for r in a.records} == {r["train_key"] for r in b.records}]
        return [(a, b) for a, b in pairs if a.ks() and all(a.read(EV, k) == b.read(EV, k) for k in a.ks())]

    @cached_property
    def saes(self) -> list[Sae]:
        """What is compared on the whole dictionary: no control, no smaller dictionary, nothing twice."""
        twice = [sae for sae, _ in self.borrowed]
        return [sae for sae in self.everything if not sae.control and sae.latents == self.latents and sae not in twice]

    @cached_property
    def sub_dictionaries(self) -> list[Sae]:
        """What is compared on fewer latents: a variant that borrows weights stands there in place of their owner."""
        owners = [owner for sae, owner in self.borrowed if sae.sizes()]
        whole = [sae for sae in self.everything if not sae.control and sae.latents == self.latents]
        return [sae for sae in whole if sae.sizes() and sae not in owners]

    @cached_property
    def variants(self) -> list[str]:
        """The variants that are compared on the whole dictionary."""
        return sorted({sae.variant for sae in self.saes})

    @cached_property
    def ks(self) -> list[int]:
        """The budgets at which whole dictionaries are read."""
        return sorted({k for sae in self.saes or self.everything for k in sae.ks()})

    @cached_property
    def seeds(self) -> int:
        """The most seeds that any SAE has."""
        return max((len(sae.rows) for sae in self.saes), default=0)

    def counted(self) -> str:
        """3 seeds, or 1 to 3 seeds where SAEs do not all have as many."""
        least = min((len(sae.rows) for sae in self.saes), default=0)
        return f"{least} to {self.seeds} seeds" if least < self.seeds else f"{self.seeds} seed{'s' * (self.seeds != 1)}"

    @cached_property
    def columns(self) -> dict[str, tuple[str, Better]]:
        """The compared columns that any record has a number for, or a reason why not."""
        known = {column for record in self.records for row in record["rows"] for column in row["values"]}
        return {column: names for column, names in SHOWN.items() if column in known}

    @cached_property
    def drawn(self) -> frozenset[str]:
        """The columns that any record keeps draws of."""
        return frozenset(column for record in self.records for row in record["rows"] for column in row.get("draws", {}))

    @cached_property
    def labels(self) -> dict[Sae, str]:
        """For each SAE its variant, what differs among its variant's settings, and its size if that is not the whole."""
        return {sae: self.describe(sae) for sae in self.everything}

    def label(self, sae: Sae) -> str:
        """The name of an SAE on the page."""
        return self.labels[sae]

    def describe(self, sae: Sae) -> str:
        """Makes the label."""
        if sae.control:
            return sae.variant
        others = [other for other in self.everything if other.variant == sae.variant and other.latents == sae.latents]
        given = [key for key in sorted(sae.config) if key != "k" and sae.config[key] is not None]
        differing = [key for key in given if any(other.config.get(key) != sae.config[key] for other in others)]
        settings = [f"L0={sae.budget}" if sae.measured else f"k={sae.budget}"] + [f"{key}={json.dumps(sae.config[key])}" for key in differing]
        settings += [f"rate={sae.rate:g}"] if sae.rate and any(other.rate != sae.rate and other.config == sae.config for other in others) else []
        size = [f"({sae.latents:,} latents)"] if sae.latents != self.latents else []
        return " ".join([sae.variant, *settings, *size])

    def best(self, column: str, k: int, among: Iterable[Sae] | None = None) -> Best | None:
        """The best at L0 = k, by the native selector of each; the first by label if they are equal. None if none reaches k."""
        sign = 1.0 if COMPARED[column][1] == "higher" else -1.0
        numbers = [(sae, sae.at(column, k)) for sae in sorted(self.saes if among is None else among, key=self.label)]
        ranked = sorted(((sae, number) for sae, number in numbers if isinstance(number, Number)), key=lambda pair: -sign * pair[1].mean)
        if not ranked:
            return None
        return Best(*ranked[0], next((pair for pair in ranked if pair[0].variant != ranked[0][0].variant), None))

    def passing(self, column: str, k: int, best: Best | None, among: Iterable[Sae] | None = None) -> tuple[Sae, Number] | None:
        """Of what was read at k and has not so many codes to give, the one that rebuilds x best, if it does so better than the best at k.

        Who may spend k codes takes this. Of scores for which codes are not spent, nothing passes the best.
        """
        if column not in REBUILT:
            return None
        sign, l0 = 1.0 if COMPARED[column][1] == "higher" else -1.0, k if best is None or best.number.l0 is None else min(k, best.number.l0)
        short = [(sae, sae.read(column, k)) for sae in (self.saes if among is None else among) if isinstance(sae.at(column, k), Missing)]
        fewer = [(sae, number) for sae, number in short if isinstance(number, Number) and number.l0 is not None and number.l0 < l0]
        better = [(sae, number) for sae, number in fewer if best is None or sign * (number.mean - best.number.mean) > 0]
        return max(better, key=lambda pair: sign * pair[1].mean, default=None)

    def winners(self, column: str) -> dict[int, Best]:
        """The best at each k, where nothing passes it."""
        return {k: best for k in self.ks if (best := self.best(column, k)) and not self.passing(column, k, best)}

    def passed(self, column: str) -> dict[int, tuple[Sae, Number]]:
        """What passes the best at k, at each k where anything does."""
        return {k: found for k in self.ks if (best := self.best(column, k)) and (found := self.passing(column, k, best))}

    def of(self, variant: str) -> list[Sae]:
        """The SAEs of a variant on the whole dictionary."""
        return [sae for sae in self.saes if sae.variant == variant]

    def own_k(self, sae: Sae) -> int | None:
        """The budget nearest to its trained one at which an SAE was read; None if it was not read on its whole dictionary."""
        return min(sae.ks(), key=lambda k: abs(math.log(k / sae.budget)), default=None)

    def envelope(self, variant: str, column: str) -> list[tuple[int, Best]]:
        """The best of a variant's SAEs at each budget that one of them reaches."""
        return [(k, best) for k in self.ks if (best := self.best(column, k, self.of(variant))) is not None]

    @cached_property
    def anchor(self) -> int:
        """The budget at which dictionary sizes are compared: the k that most of the SAEs read on fewer latents were trained at."""
        return max(self.ks, key=lambda k: (sum(sae.budget == k for sae in self.sub_dictionaries or self.saes), k), default=1)


def assemble(records: Sequence[Record]) -> Board:
    """The board of the longest trainings; checkpoints and shorter trainings apart.

    Records of another text or model than most, and those that a later one replaces, are left out.
    """
    kept, left_out = newest(records)
    longest = max(tokens for tokens, _ in map(stage_of, kept))  # which a record that does not say its tokens is taken to have
    stages: dict[tuple[int, float], list[Record]] = {}
    for record in kept:
        tokens, share = stage_of(record)
        stages.setdefault((tokens or longest, share), []).append(record)
    parts = [Board(records[0]["suite"], tuple(own), saes_of(own), (), *stage) for stage, own in sorted(stages.items())]
    before = sorted(parts[:-1], key=lambda part: part.tokens * part.share)
    return replace(parts[-1], left_out=tuple(left_out), earlier=tuple(before))


def saes_of(kept: Sequence[Record]) -> tuple[Sae, ...]:
    """The SAEs of some records, each over its seeds and as each variant reads it, in the order of a page."""
    found: dict[tuple[str, str, str, int, float | None], list[tuple[Record, Row]]] = {}
    for record in kept:
        for row in record["rows"]:
            settings = json.dumps(row["config"], sort_keys=True)
            identity = row["variant"], record["sae"]["variant"], settings, record["sae"]["latents"], record["settings"].get("rate")
            found.setdefault(identity, []).append((record, row))
    saes = (together(variant, owner, json.loads(settings), latents, rate, rows) for (variant, owner, settings, latents, rate), rows in found.items())
    order: Callable[[Sae], Any] = lambda sae: (sae.control, sae.variant, -sae.latents, sae.budget, json.dumps(sae.config, sort_keys=True), sae.rate or 0)  # noqa: E731
    return tuple(sorted(saes, key=order))


def together(variant: str, owner: str, config: Row, latents: int, rate: float | None, pairs: Sequence[tuple[Record, Row]]) -> Sae:
    """One SAE of the rows of all its seeds."""
    rows: dict[int, dict[Reading, Row]] = {}
    for record, row in pairs:
        reading = Reading(**{**row["reading"], "latents": None if row["reading"]["latents"] == latents else row["reading"]["latents"]})
        rows.setdefault(record["sae"]["seed"], {})[reading] = row
    native: Selector = next((row["reading"]["select"] for _, row in pairs if row["native"]), "row")
    held = {record["train_key"]: record for record, _ in pairs}
    read = [(record, row) for record, row in pairs if not record.get("unusable")]  # one without numbers has no measured L0 either
    budgets = {record["train_key"]: row["budget"] for record, row in read or pairs}
    budget, measured = round(fmean(budgets.values())), bool(pairs[0][1].get("budget_measured"))
    control = pairs[0][0]["sae"]["control"]
    return Sae(variant, owner, config, rate, budget, measured, latents, control, native, dict(sorted(rows.items())), tuple(held.values()))
