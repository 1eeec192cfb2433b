"""The difference of two SAEs at one measured L0 with its own verdict, and many of them in few words."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from sae_bench_htopk.leads import lead
from sae_bench_htopk.markdown import rounded, words
from sae_bench_htopk.saes import Sae

LISTED = 4  # values that are still read one by one


class Gap(NamedTuple):
    """By how much one SAE is better than another, at L0 = k exactly, and whether that is clear of the noise of documents, of seeds and of both."""

    value: float
    verdict: Literal["clear", "not clear", "untested"]  # untested: not for all of these, and clear of what it was tested for


def gap(column: str, k: int, one: Sae, other: Sae) -> Gap:
    """Of two that have numbers at k; where the first is worse, it is clear if the other's lead is."""
    found = lead(column, k, one, other)
    ahead = found if found.value >= 0 else lead(column, k, other, one)
    return Gap(found.value, "not clear" if ahead.doubts() else "untested" if ahead.untested() else "clear")


def winning(column: str, k: int, one: Sae, other: Sae) -> Gap:
    """The same of one that is called the best by readings within 2% of k: where at k exactly it is not ahead, its lead is not clear, whatever is."""
    found = gap(column, k, one, other)
    return found if found.value > 0 else found._replace(verdict="not clear")


def surely(gaps: Mapping[object, Gap], where: str = "at") -> str:
    """all clear; none clear; untested; clear at 8 and 32 alone; the keys say where."""
    verdicts = {one.verdict for one in gaps.values()}
    if len(verdicts) == 1:
        (verdict,) = verdicts
        return {"clear": "all clear", "not clear": "none clear"}.get(verdict, verdict) if len(gaps) > 1 else verdict
    clear = [place for place, one in gaps.items() if one.verdict == "clear"]
    return f"clear {where} {words(clear)} alone" if clear else "none clear"


def listed(values: Sequence[float]) -> str:
    """-0.012, +0.0017 and -0.024; the least to the most if they are many."""
    chosen = values if len(values) <= LISTED else [min(values), max(values)]
    texts = [rounded(value, digits=2, sign=True) for value in chosen]
    return words(texts) if len(values) <= LISTED else " to ".join(texts)


def reach(values: Sequence[float]) -> str:
    """0.0017 to 0.016; one alone where they are the same to two digits."""
    least, most = rounded(min(values), digits=2), rounded(max(values), digits=2)
    return least if least == most else f"{least} to {most}"
