"""Compares two SAEs that are cut down to as many latents, which may be too few for k codes or were read at too few budgets, for a claim of a paper."""

import math
from typing import NamedTuple

from sae_bench_htopk import frontier, leads
from sae_bench_htopk.contract import Missing, Rank
from sae_bench_htopk.evidence import Comparison, at_one_l0, beside, of_lead, unwanted
from sae_bench_htopk.leads import Lead
from sae_bench_htopk.markdown import rounded
from sae_bench_htopk.saes import L0, Number, Row, Sae, value_of

BORROWED = "what two L0s make is taken from readings with all latents"


class Cut(NamedTuple):
    """An SAE on so many latents, None for all, kept in an order."""

    sae: Sae
    size: int | None
    rank: Rank


def cut(sae: Sae, size: int | None, rank: Rank) -> Sae:
    """The SAE on so many latents; itself on all of them."""
    return sae if size is None or size == sae.latents else sae.cut_to(size, rank)


def on_fewer(on: str, what: str, column: str, k: int, one: Cut, other: Cut) -> Comparison:
    """The same of two that are cut down: at the L0 that one comes to, if its latents are too few for k codes."""
    mine, theirs = cut(*one), cut(*other)
    if reason := unwanted(column, ((mine, k), (theirs, k))):
        return beside(on, what, reason)
    short = [sae for sae in (mine, theirs) if comes_to_another(sae, column, k)]
    if len(short) == 1 and isinstance((theirs if short[0] is mine else mine).at(column, k), Number):
        return at_what_it_reaches(on, what, column, k, mine, theirs, short[0])
    line = at_one_l0(on, what, column, k, mine, theirs)
    if not isinstance(line.shown, Missing) and math.isinf((found := leads.lead(column, k, mine, theirs)).allowed()):
        return of_lead(on, what, allowing(found, column, k, one.sae, other.sae)).noted(BORROWED)
    return line


def allowing(found: Lead, column: str, k: int, one: Sae, other: Sae) -> Lead:
    """A lead at two L0s of which too few readings say what they make: allowed is what they would make of the same SAEs with all latents."""
    slope = max(leads.held(sae, column, k).slope() for sae in (one, other))
    first, second = found.l0s or (1.0, 1.0)
    return found._replace(by_l0=leads.STEEPER * slope * abs(math.log(first / second)))


def comes_to_another(sae: Sae, column: str, k: int) -> bool:
    """Whether it has a number where it was asked for k codes, but at another L0, with no readings on both sides of k."""
    read = sae.read(column, k)
    return isinstance(read, Number) and read.l0 is not None and isinstance(sae.at(column, k), Missing)


def at_what_it_reaches(on: str, what: str, column: str, k: int, one: Sae, other: Sae, short: Sae) -> Comparison:
    """Both at the L0 that one of them has when it is asked for k codes, to which the other is brought."""
    fixed = leads.Held(short, column, {seed: [(1.0, short.rows[seed][short.reading(k)])] for seed in short.seeds_with(column, k)})
    longer = other if short is one else one
    parts = {seed: found for seed in longer.rows if (found := around(longer, seed, column, fixed.l0()))}
    if not parts:
        return Comparison(on, what, "", untested=f"no readings on both sides of the L0 of {rounded(fixed.l0())} that {k} codes come to")
    brought = leads.Held(longer, column, parts)
    pair = (fixed, brought) if short is one else (brought, fixed)
    return of_lead(on, what, leads.of_held(*pair)).noted(f"at the L0 of {rounded(fixed.l0())} that {k} codes come to")


def around(sae: Sae, seed: int, column: str, l0: float) -> list[tuple[float, Row]]:
    """The readings of one seed that give its number at an L0, and what each counts for; none if it is outside them."""
    rows = [row for reading, row in sae.rows[seed].items() if reading == sae.reading(reading.k)]
    pairs = [(at, row) for row in rows if (at := value_of(row, L0)) and value_of(row, column) is not None]
    shares = frontier.shares([at for at, _ in pairs], l0) if pairs else None
    return [(share, row) for share, (_, row) in zip(shares or [], pairs, strict=bool(shares)) if share]
