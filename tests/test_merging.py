"""Records of two machines in one folder: what is added, what is disputed, and what may not stand beside each other."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from sae_bench_htopk import disputes, leaderboard, merging, records, saes
from sae_bench_htopk.__main__ import main
from sae_bench_htopk.errors import InputError
from tests.test_leaderboard import cells, make, page_of, put, section, suite

Made = dict[str, Any]
PROBING = "sparse_probing.auc_1"


def measured(record: Made, when: str = "2026-11-20T01:00:00+00:00", machine: str = "a machine") -> Made:
    """The record with keys by metric, draws, and the run that measured it, as runs write them."""
    made = copy.deepcopy(record)
    for row in made["rows"]:
        metrics = {column.partition(".")[0] for column in row["values"]}
        row |= {"keys": {name: f"key of {name}" for name in metrics}, "measured": dict.fromkeys(metrics, when), "drawn": dict.fromkeys(metrics, "aa")}
        row["draws"] = {column: [value, value] for column, value in row["values"].items() if value is not None}
    return made | {"measured": {when: {"when": when, "machine": machine}}}


def without(record: Made, metric: str) -> Made:
    """The record as it was before a metric was measured."""
    made = copy.deepcopy(record)
    for row in made["rows"]:
        for part in ("values", "missing", "intervals", "details", "keys", "measured", "drawn", "draws"):
            row[part] = {key: value for key, value in row[part].items() if key.partition(".")[0] != metric}
        row["missing"][metric] = "not asked for at this reading"
    return made


def changed(record: Made, by: float, column: str = saes.EV) -> Made:
    """The record with one number of its first row that has it off by so much, and its draws with it."""
    made = copy.deepcopy(record)
    row = next(row for row in made["rows"] if row["values"][column] is not None)
    row["values"][column] += by
    row["draws"][column] = [value + by for value in row["draws"][column]]
    return made


def apart(record: Made) -> Made:
    """The record as another training of the same settings leaves it: another machine, another loss in the last digits."""
    curve = [{**point, "loss": point["loss"] * (1 + 1e-7)} for point in record["curve"]]
    return record | {"curve": curve, "provenance": {**record["provenance"], "machine": "another machine"}}


def test_new_records_come_as_they_are(tmp_path: Path) -> None:
    """Of two machines that trained different seeds: one folder, a board of two seeds; a second merge finds nothing to do."""
    here, there = put(tmp_path / "here", [make(seed=0)]), put(tmp_path / "there", [make(seed=1)])
    done, doubts = merging.merge(there, here)
    assert (len(done), doubts) == (1, [])
    (path,) = there.glob("*/*.json")
    assert (here / "small" / path.name).read_bytes() == path.read_bytes()
    assert "each trained with 2 seeds" in page_of(here)
    assert merging.merge(there, here) == ([], [])


def test_a_metric_that_is_not_here_comes_with_all_that_is_its() -> None:
    """Its numbers with their own draws, keys and run; the rest of each row stays what it was."""
    whole = measured(make())
    mine, theirs = without(whole, "sparse_probing"), measured(make(), "2026-12-01T00:00:00+00:00", "their machine")
    merged = merging.join(mine, theirs)
    assert merged.disputes == merged.said == () and merged.gained == sum(row["values"][PROBING] is not None for row in theirs["rows"])
    rows = {disputes.place(row): row for row in merged.record["rows"]}
    for other in theirs["rows"]:
        row = rows[disputes.place(other)]
        for part in ("values", "missing", "details", "keys", "drawn", "draws"):
            assert row[part] == other[part], part
        assert row["measured"] == {**dict.fromkeys(other["measured"], "2026-11-20T01:00:00+00:00"), "sparse_probing": "2026-12-01T00:00:00+00:00"}
    assert merged.record["measured"].keys() == {"2026-11-20T01:00:00+00:00", "2026-12-01T00:00:00+00:00"}
    records.validate(merged.record, "merged")


def test_a_reading_that_is_not_here_is_added_and_two_runs_of_one_second_stay_two() -> None:
    """The run of the other machine gets a name of its own."""
    mine, theirs = measured(make()), measured(make(), machine="their machine")
    taken = mine["rows"].pop(0)
    merged = merging.join(mine, theirs)
    row = next(row for row in merged.record["rows"] if disputes.place(row) == disputes.place(taken))
    assert row["values"] == taken["values"] and row["draws"] == taken["draws"]
    (run,) = set(row["measured"].values())
    assert merged.record["measured"][run]["machine"] == "their machine"
    assert merged.record["measured"]["2026-11-20T01:00:00+00:00"]["machine"] == "a machine"


def test_the_same_number_twice_is_reported_and_never_averaged(tmp_path: Path) -> None:
    """The record keeps its own with its own draws; both stand on the page, and a second merge reports it again and keeps it once."""
    mine = measured(make())
    theirs = changed(measured(make(), "2026-12-01T00:00:00+00:00", "their machine"), 0.01)
    merged = merging.join(mine, theirs)
    assert merged.record["rows"] == sorted(mine["rows"], key=lambda row: (row["variant"], str(sorted(row["reading"].items(), key=str))))
    (one,) = merged.disputes
    assert (one["column"], one["there"] - one["here"]) == (saes.EV, pytest.approx(0.01))
    assert "their machine" in one["measured_there"]
    again = merging.join(merged.record, theirs)
    assert again.disputes == (one,) and again.noted == 0 and again.record["disputes"] == [one]
    said = section(page_of(put(tmp_path, [merged.record])), "Disputed numbers")
    line = cells(said, "topk k=32")
    assert f"{one['here']:.4g}" in line[4] and f"{one['there']:.4g}" in line[5] and "their machine" in line[7]


@pytest.mark.parametrize(("by", "count"), [(1e-8, 0), (1e-5, 1)])
def test_what_arithmetic_alone_makes_of_a_number_is_no_dispute(by: float, count: int) -> None:
    """Relative to it, 1e-6."""
    assert len(merging.join(measured(make()), changed(measured(make()), by)).disputes) == count


def test_a_dispute_is_settled_once_the_number_was_measured_again(tmp_path: Path) -> None:
    """What the record holds now is neither of the two, so the page says nothing of them."""
    made = merging.join(measured(make()), changed(measured(make()), 0.01)).record
    assert "## Disputed numbers" in page_of(put(tmp_path / "before", [made]))
    again = copy.deepcopy(made)
    for row in again["rows"]:
        row["values"][saes.EV] += 0.5
    assert disputes.standing(again) == [] and "## Disputed numbers" not in page_of(put(tmp_path / "after", [again]))


def test_numbers_of_other_code_are_another_measurement() -> None:
    """No dispute, and nothing taken: it is said."""
    theirs = changed(measured(make()), 0.1)
    for row in theirs["rows"]:
        row["keys"]["explained_variance"] = "of later code"
    merged = merging.join(measured(make()), theirs)
    assert merged.gained == 0 and merged.disputes == ()
    assert merged.said == ("explained_variance was measured by other code than here, which makes it another measurement; the numbers here stay",)


def test_numbers_of_weights_that_were_trained_apart_are_compared_and_not_taken_over() -> None:
    """A metric of their weights does not stand beside a metric of ours."""
    mine, theirs = without(measured(make()), "sparse_probing"), changed(apart(measured(make())), 0.01)
    merged = merging.join(mine, theirs)
    assert merged.gained == 0 and len(merged.disputes) == 1 and "trained apart" in merged.said[0]
    assert not any(PROBING in row["values"] for row in merged.record["rows"])


@pytest.mark.parametrize("part", ["held_out", "fingerprint"])
def test_records_of_another_text_or_model_are_not_joined(part: str) -> None:
    """Whatever they hold; the record here stays as it is."""
    mine, theirs = measured(make()), changed(measured(make()), 0.1)
    theirs["text" if part == "held_out" else "model"][part] = "another"
    merged = merging.join(mine, theirs)
    assert merged.record == mine and merged.disputes == () and part in merged.said[0]


@pytest.mark.parametrize(("part", "key"), [("text", "train"), ("text", "held_out"), ("model", "fingerprint"), ("model", "hook")])
def test_records_of_another_text_or_model_never_share_a_table(part: str, key: str, tmp_path: Path) -> None:
    """Of as many of each, the latest one's stand; that others are left out is said at the top."""
    later = make("topk", 8)
    later["provenance"] = {**later["provenance"], "when": "2026-12-24"}
    other = make("topk", 32)
    other[part] = {**other[part], key: "another"}
    page = page_of(put(tmp_path, [later, other]))
    assert "**1 record of this suite's folder is in no table here**" in page.partition("## In short")[0]
    assert f"another {part} {key} than {later['train_key']}.json" in section(page, "Where the numbers come from")
    assert "topk k=32" not in page


def test_unsound_records_give_empty_cells(tmp_path: Path) -> None:
    """Without a curve and costs a record's own cells are empty; those of others are what they were."""
    sound = make("topk", 8)
    whole = section(page_of(put(tmp_path / "sound", [sound, make("batchtopk", 8)])), "Training")
    unsound = make("batchtopk", 8) | {"curve": [], "cost": {}}
    page = page_of(put(tmp_path / "unsound", [sound, unsound]))
    assert cells(section(page, "Training"), "topk k=8") == cells(whole, "topk k=8")
    assert cells(whole, "batchtopk k=8") != cells(section(page, "Training"), "batchtopk k=8")
    assert "0.905" in page or "0.92" in page  # its numbers are sound


def test_the_command_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 after a merge, 1 with disputes, 2 for a folder without records; a damaged record there changes nothing here."""
    output, there = tmp_path / "here", put(tmp_path / "there", [measured(make())])
    assert main(["merge", str(there), "--output", str(output)]) == 0 and "numbers from" in capsys.readouterr().out
    put(tmp_path / "other", [changed(measured(make()), 0.1)])
    assert main(["merge", str(tmp_path / "other"), "--output", str(output)]) == 1
    assert "explained_variance.ev" in capsys.readouterr().err
    assert main(["merge", str(tmp_path / "nothing"), "--output", str(output)]) == 2
    (path,) = (output / "leaderboard").glob("*/*.json")
    before = path.read_bytes()
    (spoilt := next(there.glob("*/*.json"))).write_text(json.dumps({"schema": 2}))
    with pytest.raises(records.RecordError, match=spoilt.name):
        merging.merge(there, output / "leaderboard")
    assert path.read_bytes() == before
    with pytest.raises(InputError, match="holds no records"):
        merging.merge(tmp_path / "nothing", output)


def test_a_record_with_malformed_disputes_names_the_place(tmp_path: Path) -> None:
    """As with every part that pages look into."""
    with pytest.raises(records.RecordError, match=r"disputes\[0\]: has no 'config'"):
        records.write(tmp_path, make() | {"disputes": [{}]})
    assert leaderboard.suites(tmp_path) == []


def scaled(record: Made, by: float) -> Made:
    """The record with all its numbers off by so much, relative."""
    made = copy.deepcopy(record)
    for row in made["rows"]:
        row["values"] = {column: None if value is None else value * (1 + by) for column, value in row["values"].items()}
    return made


def test_two_machines_of_one_suite_leave_a_page_that_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Trained apart, every number differs: a summary in each record, a short folded table, a line a record; a second merge says the same."""
    made = [measured(record) for record in suite(2) if record["curve"]]
    here = put(tmp_path / "here" / "leaderboard", made)
    there = put(tmp_path / "there", [scaled(apart(record), 1e-3) for record in made])
    before = page_of(here)
    command = ["merge", str(there), "--output", str(tmp_path / "here")]
    assert main(command) == 1
    told = capsys.readouterr()
    assert len(told.err.splitlines()) == len(made) and " 0 numbers" not in told.out
    for path in here.glob("*/*.json"):
        (one,) = records.read(path)["disputes"]
        assert one["trained_apart"]["differ"] > 1 and one["trained_apart"]["largest"] == pytest.approx(1e-3, rel=0.01)
    page = page_of(here)
    assert len(page) - len(before) < 1000 + 400 * len(made)
    assert "<details>" in section(page, "Disputed numbers")
    assert main(command) == 1
    assert capsys.readouterr().err == told.err


def test_a_page_lists_the_largest_disputes_and_counts_the_rest(tmp_path: Path) -> None:
    """All stay in the record."""
    mine = measured(make())
    made = merging.join(mine, changed(scaled(mine, 1e-4), 0.5)).record
    assert len(made["disputes"]) > disputes.LISTED
    said = section(page_of(put(tmp_path, [made])), "Disputed numbers")
    lines = [line for line in said.splitlines() if line.startswith("| topk")]
    assert len(lines) == disputes.LISTED and f"the other {len(made['disputes']) - disputes.LISTED} stand in the records" in said
    assert saes.EV in lines[0]


def test_nearly_zero_is_zero() -> None:
    """A relative difference alone would make a dispute of rounding."""
    assert not disputes.differs(0.0, 1e-17) and disputes.differs(0.0, 1e-9) and not disputes.differs(0.0, 0.0)


@pytest.mark.parametrize("part", [("text", "held_out"), ("model", "fingerprint")])
def test_one_record_of_another_text_does_not_replace_the_board(part: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """However late: the others stay on the page, merge says so and exits with 1."""
    here = put(tmp_path / "here" / "leaderboard", [make("topk", 8), make("topk", 32)])
    late = make("batchtopk", 8) | {"train_key": "f00d", "provenance": {**make()["provenance"], "when": "2026-12-24"}}
    late[part[0]] = {**late[part[0]], part[1]: "another"}
    assert main(["merge", str(put(tmp_path / "there", [late])), "--output", str(tmp_path / "here")]) == 1
    assert f"another {' '.join(part)}" in capsys.readouterr().err
    page = page_of(here)
    assert "2 SAEs of up to" in page and "batchtopk k=8" not in page
    assert "2 of the 3 records have its text and model" in section(page, "Where the numbers come from")


def test_a_longer_training_of_few_says_where_the_many_are(tmp_path: Path) -> None:
    """The longest trainings are the page's, also of one SAE; the top says that more stand below."""
    longer = make("batchtopk", 8) | {"train_key": "f00d", "settings": {"tokens": 400000}}
    page = page_of(put(tmp_path / "few", [make("topk", 8), make("topk", 32), longer]))
    assert "More SAEs, 2 and not 1, were trained on fewer tokens, 200,000" in page.partition("## In short")[0] and "## On fewer tokens" in page
    assert "More SAEs" not in page_of(put(tmp_path / "as_many", [make("topk", 8), longer]))


def test_a_record_of_the_earlier_form_keeps_who_measured_it() -> None:
    """It names one run for a whole row: that stays the run of what was there, and only what is added has the other."""
    first, later = "2026-11-20T01:00:00+00:00", "2026-12-01T00:00:00+00:00"
    mine = without(measured(make()), "sparse_probing")
    for row in mine["rows"]:
        row["measured"] = first
    mine["measured"] = {"when": first, "machine": "a machine"}
    merged = merging.join(mine, measured(make(), later, "their machine"))
    assert merged.gained
    for row in merged.record["rows"]:
        named = {metric: first for metric in merging.metrics_of(row)}
        assert row["measured"] == named | ({"sparse_probing": later} if "sparse_probing" in named else {})
    assert {when: run["machine"] for when, run in merged.record["measured"].items()} == {first: "a machine", later: "their machine"}
    records.validate(merged.record, "merged")


def test_what_has_no_training_is_the_same_if_its_numbers_are() -> None:
    """A control of another machine: nothing to say where all agrees, further numbers come; if not, they do not."""
    mine, theirs = measured(make("pca", control=True)), apart(measured(make("pca", control=True)))
    assert merging.join(mine, theirs)[1:] == (0, (), (), 0)
    assert merging.join(without(mine, "sparse_probing"), theirs).gained > 0
    other = merging.join(without(mine, "sparse_probing"), changed(theirs, 0.01))
    assert other.gained == 0 and len(other.disputes) == 1 and "trained apart" in other.said[0]


def test_trained_apart_with_nothing_withheld_is_no_doubt() -> None:
    """Numbers that all agree need no word."""
    assert merging.join(measured(make()), apart(measured(make())))[1:] == (0, (), (), 0)
