"""Reads the list of the papers' claims: each one's source, its statement, and the test that it is put to, or why it cannot be tested here."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from sae_bench_htopk.claim_ahead import Ahead
from sae_bench_htopk.claim_as_good import AsGood
from sae_bench_htopk.claim_cost import Cost
from sae_bench_htopk.claim_fades import Fades
from sae_bench_htopk.claim_falls_off import FallsOff
from sae_bench_htopk.claim_fewer_dead import FewerDead
from sae_bench_htopk.claim_frontier import Frontier
from sae_bench_htopk.claim_keeps import Keeps
from sae_bench_htopk.claim_ordering import Ordering
from sae_bench_htopk.evidence import Trial
from sae_bench_htopk.strict_yaml import Value
from sae_bench_htopk.typed import choice, record, required

LIST = Path(__file__).parent / "assets" / "claims.toml"
KINDS: Mapping[str, type[Any]] = {
    "ahead": Ahead,
    "as_good": AsGood,
    "cost": Cost,
    "fades": Fades,
    "falls_off": FallsOff,
    "fewer_dead": FewerDead,
    "frontier": Frontier,
    "keeps": Keeps,
    "ordering": Ordering,
}
WORDINGS = Literal["paper's own text", "two summaries", "one summary", "released code"]


@dataclass(frozen=True)
class Claim:
    """One claim; either it has a test, or `untested` says why not."""

    id: str
    paper: str  # arXiv number
    where: str  # in the paper
    wording: WORDINGS  # what it was read in: no table and no figure of either paper was
    short: str  # for a reader who knows the papers
    statement: str  # in our own words
    test: Trial | None
    needs: Literal["all", "most", "any"] = "all"  # of its comparisons, for it to be supported
    untested: str = ""
    top: bool = False  # whether the first section of a page names it

    def __post_init__(self) -> None:
        """A claim is tested or not."""
        if (self.test is None) == (not self.untested):
            raise ValueError(
                f"kind: claim {self.id} has {'both a kind and' if self.test else 'neither a kind nor'} a reason to be untested, wanted one of them"
            )


@lru_cache(maxsize=1)
def published() -> tuple[Claim, ...]:
    """The list that comes with the package."""
    return read(LIST)


def read(path: Path) -> tuple[Claim, ...]:
    """Every claim of a file. Raises SuiteError, which says where and what is wanted, if it cannot be read."""
    text = path.read_text(encoding="utf-8")
    whole = as_value({}, path.name, 1, "")
    try:
        made = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise whole.error(f"no TOML: {error}") from None
    if set(made) != {"claim"} or not isinstance(made["claim"], list):
        raise whole.error(f"holds {', '.join(made) or 'nothing'}, wanted [[claim]] tables alone")
    lines = [number for number, line in enumerate(text.splitlines(), 1) if line.strip() == "[[claim]]"] or [1] * len(made["claim"])
    claims: dict[str, Claim] = {}
    for index, (entry, line) in enumerate(zip(made["claim"], lines, strict=True)):
        value = as_value(entry, path.name, line, f"claim[{index}]")
        claim = claim_of(value)
        if claim.id in claims:
            raise value.at("id").error(f"{claim.id} is another claim's, too; wanted an id of its own")
        claims[claim.id] = claim
    return tuple(claims.values())


def claim_of(value: Value) -> Claim:
    """One claim; what is not its own belongs to its kind of test."""
    own = [field.name for field in fields(Claim) if field.name != "test"]
    if not isinstance(value.data, dict) or "kind" not in value.data:
        return record(Claim, value, test=None)
    kind = KINDS[required(value, "kind", str) if value.data["kind"].data in KINDS else choice(value.data["kind"], KINDS)]
    made = record(kind, value, beside=(*own, "kind"))
    return record(Claim, value, beside=("kind", *(field.name for field in fields(kind))), test=made)


def as_value(data: Any, file: str, line: int, path: str) -> Value:
    """Data of TOML with the place where it stands, to the line of its claim."""
    inner: Any = data
    if isinstance(data, dict):
        inner = {key: as_value(item, file, line, f"{path}.{key}".lstrip(".")) for key, item in data.items()}
    elif isinstance(data, list):
        inner = [as_value(item, file, line, f"{path}[{index}]") for index, item in enumerate(data)]
    return Value(inner, file, line, path, repr(data))
