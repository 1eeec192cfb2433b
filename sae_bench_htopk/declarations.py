"""The primary contrasts that records declare: of which record a page takes them, and what the others say."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from sae_bench_htopk.board import Board
from sae_bench_htopk.contract import Missing
from sae_bench_htopk.records import Record
from sae_bench_htopk.saes import Sae


class Side(NamedTuple):
    """One SAE as a record declares it, with all of its settings."""

    variant: str
    config: str  # as JSON with sorted keys
    latents: int
    rate: float | None

    def words(self) -> str:
        """Its name where the board has none for it."""
        settings = {key: value for key, value in json.loads(self.config).items() if value is not None}
        return " ".join([self.variant, *(f"{key}={json.dumps(value)}" for key, value in settings.items()), f"({self.latents:,} latents)"])

    def on(self, board: Board) -> Sae | Missing:
        """The SAE of a board that is meant; a learning rate that either does not know tells nothing."""
        alike = [sae for sae in board.everything if not sae.control and (sae.variant, sae.latents) == (self.variant, self.latents)]
        alike = [sae for sae in alike if json.dumps(sae.config, sort_keys=True) == self.config]
        found = [sae for sae in alike if self.rate is None or sae.rate in (None, self.rate)]
        if len(found) == 1:
            return found[0]
        other = ", though at another learning rate it is" if alike else ""
        return Missing(f"{self.words()} is {len(found)} SAEs of this board" if found else f"{self.words()} is not on this board{other}")


class Pair(NamedTuple):
    """One declared contrast; equal ones are the same contrast, whatever board they are tested on."""

    column: str
    k: int
    latents: int | None
    one: Side
    other: Side


class Family(NamedTuple):
    """The contrasts that a page tests, why these, and how many records of its board say something else."""

    why: str
    pairs: tuple[Pair, ...]
    others: int = 0  # records that declare another family
    silent: int = 0  # records that declare none

    def disagreement(self) -> str:
        """A sentence on those records; empty if there are none."""
        said = [f"{self.others} declare another family"] * (self.others > 0) + [f"{self.silent} declare none"] * (self.silent > 0)
        return f"The family is that of the newest record which declares one; of the other records of this board {' and '.join(said)}." if said else ""


def family_of(board: Board) -> Family | None:
    """The family of the newest of a board's own records that declares one; None if none does."""
    declared = {str(record["train_key"]): found for record in board.records if (found := read(record))}
    if not declared:
        return None
    order = sorted((record for record in board.records if record["train_key"] in declared), key=lambda record: (date_of(record), record["train_key"]))
    why, pairs = declared[order[-1]["train_key"]]
    others = sum(found != (why, pairs) for found in declared.values())
    return Family(why, pairs, others, len(board.records) - len(declared))


def date_of(record: Record) -> str:
    """When something of a record was last made, its weights or its numbers; a record of an earlier form names one run."""
    runs = record.get("measured", {})
    return max(str(record["provenance"].get("when", "")), *([str(runs["when"])] if "when" in runs else map(str, runs)), "")


def read(record: Record) -> tuple[str, tuple[Pair, ...]] | None:
    """Why, and the contrasts that a record declares; None if it declares none. Raises ValueError if they are not what a suite declares."""
    held = record.get("page", {}).get("contrasts")
    if held is None:
        return None
    if not isinstance(held, dict) or not isinstance(held.get("why"), str) or not isinstance(held.get("pairs"), list):
        raise ValueError("page.contrasts: wanted an object with why and pairs")
    pairs = tuple(pair_of(pair, f"page.contrasts.pairs[{place}]") for place, pair in enumerate(held["pairs"]))
    return (" ".join(held["why"].split()), pairs) if pairs else None


def pair_of(held: Any, where: str) -> Pair:
    """One contrast. Raises ValueError, which begins with `where`, if it is not one."""
    demand(held, {"column": str, "k": int, "latents": int | None, "one": dict, "other": dict}, where)
    sides = []
    for name in ("one", "other"):
        demand(side := held[name], {"variant": str, "config": dict, "latents": int, "rate": int | float | None}, f"{where}.{name}")
        sides.append(Side(side["variant"], json.dumps(side["config"], sort_keys=True), side["latents"], side["rate"]))
    return Pair(held["column"], held["k"], held["latents"], *sides)


def demand(part: Any, wanted: Mapping[str, Any], where: str) -> None:
    """Raises ValueError unless it is an object that holds every key of `wanted`, each of its type."""
    if not isinstance(part, dict):
        raise ValueError(f"{where} is {part!r}, wanted an object")
    for key, kind in wanted.items():
        if key not in part or not isinstance(part[key], kind) or isinstance(part[key], bool):
            raise ValueError(f"{where}.{key} is {part.get(key)!r}, wanted {getattr(kind, '__name__', kind)}")
