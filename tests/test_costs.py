"""When seconds of training may be compared, what the costs of a variant are, and what the page says of them."""

from pathlib import Path
from typing import Any

import pytest

from sae_bench_htopk import costs, saes, seconds
from sae_bench_htopk.board import assemble
from tests.test_leaderboard import KS, Made, cells, make, page_of, put, section


def timed(variant: str = "topk", k: int = 8, seed: int = 0, took: float | None = 10.0, **said: Any) -> Made:
    """A record of a training in the pass of its seed; `said` replaces or removes (None) what its provenance says."""
    made = make(variant, k, seed)
    said = {"peak_memory": {"host": 1000 + seed, "device": None}} | said
    provenance = {key: value for key, value in {**made["provenance"], **said}.items() if value is not None}
    cost = {key: value for key, value in {**made["cost"], "train_seconds": took}.items() if value is not None}
    return {**made, "provenance": provenance, "cost": cost}


def test_seconds_of_shared_passes_may_be_compared() -> None:
    """Two SAEs that took turns in the same two passes, one for each seed."""
    assert seconds.comparable([timed(k=k, seed=seed) for k in (8, 32) for seed in (0, 1)]) is None


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"machine": "another"}, "trained on different machines: a machine and another"),
        ({"device": "NVIDIA H100"}, "trained on different devices: NVIDIA H100 and cpu"),
        ({"threads": 4}, "trained with different numbers of threads: 2 and 4"),
        ({"threads": None}, "the threads of a training are not known"),
        ({"peak_memory": None}, seconds.UNKNOWN_PASS),
        ({"peak_memory": {"host": 7}}, seconds.UNKNOWN_PASS),
        ({"took": None}, "a record does not say how many seconds its training took"),
        ({"resumed": [{"machine": "another", "device": "cpu", "threads": 2}]}, "trained on different machines: a machine and another"),
    ],
)
def test_a_difference_or_what_is_not_known_forbids_it(said: dict[str, Any], reason: str) -> None:
    """An SAE of another machine, device, number of threads or pass; also one that began elsewhere before it was interrupted."""
    assert seconds.comparable([timed(k=8), timed(k=32, **said)]) == reason


def test_an_sae_of_one_seed_does_not_share_the_passes_of_two() -> None:
    """Its seconds are those of one pass, the other's a mean over two, which may have had more beside them."""
    assert seconds.comparable([timed(k=8, seed=0), timed(k=8, seed=1), timed(k=32, seed=0)]) == seconds.UNKNOWN_PASS


def test_recorded_numbers_of_saes_side_by_side_are_compared() -> None:
    """Then other passes do not matter."""
    assert seconds.comparable([timed(k=8, side_by_side=17), timed(k=32, seed=1, side_by_side=17)]) is None
    assert "different numbers of SAEs: 1 and 17" in str(seconds.comparable([timed(k=8, side_by_side=17), timed(k=32, side_by_side=1)]))
    assert seconds.comparable([timed(k=8, side_by_side=17), timed(k=32, seed=1)]) == seconds.UNKNOWN_PASS


def test_nothing_has_no_seconds() -> None:
    assert seconds.comparable([]) == "nothing was trained" and seconds.total([], "flops") is None


def test_seeds_are_averaged_and_saes_added_up() -> None:
    """10 and 20 seconds for the seeds of one, 5 for the other."""
    made = [timed(seed=0, took=10.0), timed(seed=1, took=20.0), timed(k=32, took=5.0)]
    assert seconds.total(made, "train_seconds") == 20.0
    assert seconds.total([*made, timed(k=16, took=None)], "train_seconds") is None


def the_suite(**said: Any) -> list[Made]:
    """TopK at 8 and 32 of two seeds, BatchTopK at 32, all in the passes of their seeds; `said` of BatchTopK's provenance."""
    made = [timed("topk", k, seed, float(k)) for k in (8, 32) for seed in (0, 1)] + [timed("batchtopk", 32, seed, 7.0, **said) for seed in (0, 1)]
    return [{**record, "cost": {**record["cost"], "flops": 1e12}} for record in made]


def test_costs_are_of_the_trainings_in_use() -> None:
    """topk is best by its SAE of 8 at 4 and 8, by that of 32 at 16 and 32: 8 + 32 seconds; one of batchtopk serves all."""
    board = assemble(the_suite())
    found = costs.costs(board, saes.EV)
    assert found["topk"][2:] == (40.0, 2e12) and found["batchtopk"][2:] == (7.0, 1e12)
    assert [sae.budget for sae in found["topk"].used] == [8, 32] and found["topk"].covered == KS
    assert found["topk"].trainings(4) == "2" and found["topk"].trainings(5) == "2 for 4 of 5 k"


def test_an_sae_that_is_best_nowhere_is_no_cost() -> None:
    """One more is trained at 16, and so bad that nobody would use it."""
    useless = timed("topk", 16, 0, 1000.0)
    for row in useless["rows"]:
        row["values"][saes.EV] = 0.1
    found = costs.costs(assemble([*the_suite(), useless]), saes.EV)["topk"]
    assert found.seconds == 40.0 and len(found.used) == 2


def test_the_table_has_costs_or_why_not(tmp_path: Path) -> None:
    """Seconds of another machine empty the column of all, FLOPs stay."""
    for folder, said, wanted in (("same", {}, "40"), ("apart", {"machine": "another"}, "<sup>a</sup>")):
        table = section(page_of(put(tmp_path / folder, the_suite(**said))), "Explained variance at each sparsity").split("<details>")[0]
        assert cells(table, "topk")[-3:] == ["2", wanted, "2e+12"]
        assert ("<sup>a</sup> trained on different machines: a machine and another" in table) == (folder == "apart")
