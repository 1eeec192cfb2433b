"""The tables of a page."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from statistics import fmean
from typing import Any, get_args

from sae_bench_htopk import areas, costs, dominance, plugins
from sae_bench_htopk.asked import metric_of
from sae_bench_htopk.board import Board
from sae_bench_htopk.column_words import columns_of
from sae_bench_htopk.contract import Missing, Selector
from sae_bench_htopk.markdown import Table, fold, rounded
from sae_bench_htopk.saes import EV, L0, SHOWN, Number, Sae

ELSEWHERE = frozenset({"bands", "shells"})  # details that are groups of latents, no labels, and have tables of their own


def headline(board: Board, column: str) -> str:
    """Each variant's best SAE at each budget, the winner bold if it has a rival; its area, the best first, and what it cost; controls below."""
    heights = areas.areas(board, column)
    ks = [k for k in board.ks if any(isinstance(sae.read(column, k), Number) for sae in (*board.saes, *board.controls))]  # some are wanted at a few alone
    table = Table("variant", "trained at k =", *(f"k = {k}" for k in ks), over(areas.span(board, column)), "trainings in use", "seconds", "FLOPs")
    winners = {k: best.sae.variant for k, best in board.winners(column).items() if best.next}
    spent = costs.costs(board, column)
    for variant in sorted(board.variants, key=lambda variant: rank(heights[variant], column)):
        cells = [chosen(board, variant, column, k).shown(column, k) for k in ks]
        bold = [place + 2 for place, k in enumerate(ks) if winners.get(k) == variant]
        table.add(variant, trained(board.of(variant)), *cells, under(heights[variant]), *costs.cells(spent[variant], len(ks)), bold=bold)
    for sae in board.controls:
        table.add(f"*{board.label(sae)}* (control)", "", *(sae.shown(column, k) for k in ks), *[""] * 4)
    return table.markdown()


def chosen(board: Board, variant: str, column: str, k: int) -> Sae:
    """The best of a variant's SAEs at k, or what passes it with fewer codes; else the one that was trained nearest to k."""
    saes = board.of(variant)
    best = board.best(column, k, saes)
    passing = board.passing(column, k, best, saes)
    return passing[0] if passing else best.sae if best else nearest(saes, k)


def over(span: tuple[float, float] | None) -> str:
    """The head of the column of areas."""
    return f"mean over L0 {' to '.join(rounded(end) for end in span)}" if span else "mean over L0"


def under(area: areas.Area | Missing) -> str | Missing:
    """An area and how many trained SAEs stand behind it."""
    return area if isinstance(area, Missing) else f"{rounded(area.height)} ({len(area.saes)} SAE{'s' * (len(area.saes) > 1)})"


def rank(area: areas.Area | Missing, column: str) -> float:
    """What sorts the best first, and those without an area last."""
    return math.inf if isinstance(area, Missing) else (-area.height if SHOWN[column][1] == "higher" else area.height)


def trained(saes: Sequence[Sae]) -> str:
    """The budgets that a variant's SAEs were trained at, each once; where training sets none, what L0 it came to."""
    return ", ".join(dict.fromkeys(f"L0 {sae.budget}" if sae.measured else str(sae.budget) for sae in saes))


def nearest(saes: Sequence[Sae], k: int) -> Sae:
    """The SAE that was trained at the budget nearest to k."""
    return min(saes, key=lambda sae: abs(math.log(sae.budget / k)))


def every_measure(board: Board) -> str:
    """Each variant's best SAE at each budget with all compared columns, as it was read, and its place against the frontier of explained variance."""
    places = {(place.sae, place.k): dominance.standing(board, place) for place in dominance.places(board, EV)}
    table = Table("read at k", "SAE", "measured L0", *(title for title, _ in board.columns.values()), "95% over documents (EV)", "on the frontier (EV)")
    for k in board.ks:
        for variant in board.variants:
            sae = chosen(board, variant, EV, k)
            if isinstance(number := sae.read(EV, k), Number):
                half = f"±{rounded(number.half, number.half)}" if number.half else ""
                columns = (unmarked(sae.read(column, k)) for column in (L0, *board.columns))
                table.add(str(k), board.label(sae), *columns, half, places.get((sae, k), Missing("its L0 was not measured")))
    return table.markdown()


def unmarked(cell: Number | Missing) -> Number | Missing:
    """A number whose measured L0 stands in its row already."""
    return cell._replace(how="read") if isinstance(cell, Number) else cell


def trained_and_read(board: Board) -> str:
    """Every SAE at every budget by its native selector; bold where it is read at the budget that it was trained at."""
    table = Table("SAE", *(f"read at {k}" for k in board.ks))
    for sae in board.saes:
        table.add(board.label(sae), *(sae.shown(EV, k) for k in board.ks), bold=[place + 1 for place, k in enumerate(board.ks) if sae.trained_at(k)])
    return table.markdown()


def selectors(board: Board) -> str:
    """Every SAE by every selector at equal measured L0."""
    table = Table("SAE", "selector", *(f"k = {k}" for k in board.ks))
    for sae in board.saes:
        for select in get_args(Selector):
            if sae.ks(select=select):
                table.add(board.label(sae), select + (" (native)" if select == sae.native else ""), *(sae.shown(EV, k, select=select) for k in board.ks))
    return table.markdown()


def metric_tables(board: Board) -> list[str]:
    """For each metric all of its columns, of each SAE at the budget that it was trained at, and of the controls."""
    known = sorted({column for record in board.records for row in record["rows"] for column in row["values"]})
    folds = []
    for metric in dict.fromkeys(column.partition(".")[0] for column in known):
        columns = [column for column in order_of(metric) if column in known] or [column for column in known if column.startswith(f"{metric}.")]
        table = Table("SAE", "read at k", "measured L0", *(column.partition(".")[2] for column in columns))
        for sae in [*board.saes, *board.controls]:
            if k := measured_k(sae, columns):
                table.add(board.label(sae), str(k), *(unmarked(sae.read(column, k)) for column in (L0, *columns)))
        folds.append(fold(f"{metric}: every column, each SAE read at the k nearest to its own that has numbers", table.markdown()))
    return folds


def measured_k(sae: Sae, columns: Sequence[str]) -> int | None:
    """The budget nearest to its own at which one of the columns has a number, or the nearest of all if none has one anywhere."""
    having = [k for k in sae.ks() if any(isinstance(sae.read(column, k), Number) for column in columns)]
    return min(having or sae.ks(), key=lambda k: abs(math.log(k / sae.budget)), default=None)


def order_of(metric: str) -> list[str]:
    """A metric's column keys in its own order; none if there is no such metric here."""
    return [f"{metric}.{column.name}" for column in columns_of(metric_of(metric))] if metric_of(metric) in plugins.names("metrics") else []


def details(board: Board) -> list[str]:
    """What metrics add label by label, for each variant's SAE of the largest trained k that has any: one table for each metric and number."""
    having = [
        sae for sae in [*board.saes, *board.controls] if any(rows.get(sae.reading(board.own_k(sae) or 0), {}).get("details") for rows in sae.rows.values())
    ]
    shown_saes = [max(same, key=lambda sae: sae.budget) for _, same in groupby(having, key=lambda sae: sae.variant)]
    found: dict[tuple[str, str], dict[str, dict[str, list[float]]]] = {}  # (metric, number) -> label -> SAE -> seeds
    for sae in shown_saes:
        k = board.own_k(sae) or 0
        for rows in sae.rows.values():
            for metric, labels in rows.get(sae.reading(k), {}).get("details", {}).items():
                for label, name, value in by_label(labels):
                    found.setdefault((metric, name), {}).setdefault(label, {}).setdefault(f"{board.label(sae)}, read at {k}", []).append(value)
    tables: dict[str, list[str]] = {}
    for (metric, name), labels in found.items():
        columns = list(dict.fromkeys(column for values in labels.values() for column in values))
        if len(columns) > 1 and all(len({number for numbers in values.values() for number in numbers}) == 1 for values in labels.values()):
            continue  # what is the same of every SAE needs none
        table = Table("label", *columns)
        for label, values in labels.items():
            table.add(label, *(fmean(values[column]) if column in values else None for column in columns))
        tables.setdefault(metric, []).append(f"`{name}`:\n\n{table.markdown()}")
    return [fold(f"{metric}, label by label", "\n\n".join(parts)) for metric, parts in tables.items()]


def by_label(labels: Any) -> Iterable[tuple[str, str, float]]:
    """(label, name, number) of the first level of details that is {label: {name: number}}."""
    if not isinstance(labels, Mapping):
        return
    for label, values in labels.items():
        if label in ELSEWHERE:
            continue
        numbers = {name: value for name, value in values.items() if isinstance(value, float)} if isinstance(values, Mapping) else {}
        if numbers:
            yield from ((label, name, value) for name, value in numbers.items())
        else:
            yield from by_label(values)


def is_number(value: Any) -> bool:
    """Not a bool, not text."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def controls(board: Board) -> str:
    """The control rows with all compared columns."""
    table = Table("control", "read at k", "measured L0", *(title for title, _ in board.columns.values()))
    for sae in board.controls:
        for k in sae.ks():
            table.add(board.label(sae), str(k), *(unmarked(sae.read(column, k)) for column in (L0, *board.columns)))
    return table.markdown()


def training(board: Board) -> str:
    """What each SAE was trained on and what it cost, means over seeds."""
    table = Table("SAE", "seeds", "tokens", "loss at the end", "dead latents at the end", "seconds", "FLOPs", "rate", "settings")
    borrowers = {sae for sae, _ in board.borrowed}
    for sae in [sae for sae in board.everything if sae not in borrowers]:
        ends = [record["curve"][-1] for record in sae.records if record["curve"]]
        costs = {key: [cost for record in sae.records if is_number(cost := record["cost"].get(key))] for key in ("train_tokens", "train_seconds", "flops")}
        mean = {key: fmean(values) if values else None for key, values in costs.items()}
        loss, dead = (fmean(values) if (values := [end[key] for end in ends if is_number(end.get(key))]) else None for key in ("loss", "dead"))
        whole = [None if number is None else f"{number:,.0f}" for number in (mean["train_tokens"] if ends else None, dead)]
        flops = None if mean["flops"] is None else f"{mean['flops']:.2g}"
        seeds = ", ".join(map(str, sae.rows))
        rate = f"{sae.rate:.3g}" if ends and sae.rate else None
        table.add(board.label(sae), seeds, whole[0], loss, whole[1], mean["train_seconds"], flops, rate, settings_of(sae.config))
    return table.markdown()


def settings_of(config: Mapping[str, Any]) -> str:
    """k=32, weights="uniform"; what is not set is left out."""
    return ", ".join(f"{key}={json.dumps(value)}" for key, value in sorted(config.items()) if value is not None)
