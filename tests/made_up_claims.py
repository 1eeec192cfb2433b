"""Records in which SAEs differ by what a test of a claim gives them, with a little noise over seeds."""

from collections.abc import Mapping
from typing import Any

from sae_bench_htopk.board import Board, assemble
from sae_bench_htopk.claims import Claim
from sae_bench_htopk.evidence import Trial
from sae_bench_htopk.judging import Judged, judge
from sae_bench_htopk.saes import EV
from tests.test_leaderboard import Made, N, make, row

Numbers = Mapping[tuple[int, int | None], float]  # (k, latents or None for all) -> number
SEEDS, SPREAD = 3, 0.001


def sae(
    variant: str, k: int, numbers: Numbers, column: str = EV, seeds: int = SEEDS, config: Made | None = None, owner: str | None = None, **other: Any
) -> list[Made]:
    """A record of each seed: its numbers at an L0 of exactly k, a thousandth apart from seed to seed; of weights of `owner`, if it is another variant.

    `rank` is the order in which latents are kept, `latents` the size of its dictionary, `native` its selector.
    """
    rank, latents, native = other.get("rank", "importance"), other.get("latents", N), other.get("native", "row")
    made = []
    for seed in range(seeds):
        record = make(owner or variant if (owner or variant) in KNOWN else "topk", k, seed, latents)
        record["sae"] |= {"variant": owner or variant, "config": {"k": k, **(config or {})}}
        record["rows"] = [
            row(
                variant, {"k": k, **(config or {})}, native,
                {"k": at, "latents": size, "select": native, "cut": "before", "rank": rank},
                0.5, float(at), **{column: value + SPREAD * (seed - 1)},
            )
            for (at, size), value in numbers.items()
        ]  # fmt: skip
        made.append({**record, "train_key": f"{owner or variant}-{k}-{latents}-{seed}"})
    return made


KNOWN = ("topk", "batchtopk", "hierarchical_topk", "matryoshka")


def joined(*several: list[Made]) -> list[Made]:
    """Records of one training with the rows of all."""
    made: dict[str, Made] = {}
    for record in (record for records in several for record in records):
        held = made.setdefault(record["train_key"], {**record, "rows": []})
        held["rows"] = held["rows"] + record["rows"]
    return list(made.values())


def with_shells(made: list[Made], *ends: int) -> list[Made]:
    """The records with the sizes of nested dictionaries."""
    return [{**record, "sae": {**record["sae"], "shells": list(ends)}} for record in made]


def board_of(*several: list[Made]) -> Board:
    """The board of some records."""
    return assemble([record for records in several for record in records])


def judged(test: Trial, *several: list[Made], **changes: Any) -> Judged:
    """What becomes of a claim with this test."""
    claim = Claim("one", "2505.00190", "abstract", "paper's own text", "in short", "In a sentence.", test, **changes)
    return judge(claim, board_of(*several))
