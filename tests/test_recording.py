"""What is measured again when a metric, or code, has come, gone or changed; and what of a record stays as it was."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sae_bench_htopk import leaderboard, measuring_pass, plan, plugins, records, run
from sae_bench_htopk.__main__ import main
from sae_bench_htopk.lm import SubjectModel
from sae_bench_htopk.measuring_pass import MeasuringPass
from sae_bench_htopk.records import Record
from sae_bench_htopk.suite import load
from tests.test_passes import no_measuring
from tests.test_run import material, refuse, refuse_training
from tests.test_run import suite as write

__all__ = ["material"]  # a fixture
METRICS = ["explained_variance", "sparsity"]
CHANGES = {
    "seeds": [0, 1], "read": {"k": [4, 8]}, "saes": [{"variant": "topk", "k": 8}], "controls": ["untrained"], "metrics": METRICS,
    "train": {"tokens": 4096, "batch": 256, "latents": 64, "dead_after": 1024, "rate": 0.003, "block": 2048},
}  # fmt: skip
LATER = "2099-01-01T00:00:00+00:00"
PARTS = ("values", "missing", "intervals", "details", "draws", "drawn", "keys", "measured")
Rows = dict[str, Record]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures, no training, and later than the first run."""
    monkeypatch.setattr(leaderboard, "build", lambda root, name: root / name)


@pytest.fixture(scope="module")
def finished(few_draws: None, material: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(leaderboard, "build", lambda root, name: root / name)
        assert main(arguments(material, folder)) == 0
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may spoil; from here on nothing is trained, and what is measured is dated later."""
    shutil.copytree(finished, tmp_path / "copy")
    refuse_training(monkeypatch)
    monkeypatch.setattr(measuring_pass, "provenance", lambda _: {"commit": "b" * 40, "dirty": True, "when": LATER})
    return tmp_path / "copy"


@pytest.fixture
def change(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the code of some files another one, as keys see it; of none: as it was."""
    original = plugins.code_of

    def changed(*names: str) -> None:
        monkeypatch.setattr(plugins, "code_of", lambda path: original(path) + "changed" * (path.stem in names))

    return changed


def arguments(material: Path, folder: Path, command: str = "run", **changes: object) -> list[str]:
    """Of the command line."""
    return [command, str(write(material, folder, **CHANGES | changes)), "--output", str(folder), "--device", "cpu"]


def todo(material: Path, folder: Path, **changes: object) -> list[plan.Item]:
    """What is to be done."""
    return run.Runner(load(str(write(material, folder, **CHANGES | changes))), folder, "cpu").items


def lacking(items: list[plan.Item]) -> set[tuple[str, ...]]:
    """The metrics that are missing, at any reading."""
    return {names for item in items for _, readings in item.missing for names in readings.values()}


def rows(folder: Path) -> Rows:
    """Every row, by its SAE and reading."""
    found = records.read_all(folder / "leaderboard" / "small")
    return {record["train_key"] + json.dumps(row["reading"], sort_keys=True): row for record in found for row in record["rows"]}


def part(row: Record, *names: str) -> Record:
    """What a row holds of some metrics."""
    return {name: {key: value for key, value in row[name].items() if key.split(".")[0] in names} for name in PARTS if name in row}


def test_a_metric_that_is_added_is_measured_alone(material: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """No other is even updated; every other number, its interval, draws and the run that measured it stay, bit for bit."""
    before = rows(copy)
    more = {"metrics": [*METRICS, {"metric": "sparsity_curve", "only": {"k": [8]}}]}
    assert main(arguments(material, copy, "plan", **more)) == 0
    shown = capsys.readouterr().out
    assert shown.count("weights are there, 2 readings lack sparsity_curve") == 2 and shown.count("weights are there, 1 reading lacks sparsity_curve") == 1
    for name in METRICS:
        monkeypatch.setattr(plugins.metric(name), "update", no_measuring)
    assert main(arguments(material, copy, **more)) == 0
    after = rows(copy)
    assert set(after) == set(before) and len(after) == 2 * 4 + 2
    for key, row in after.items():
        assert part(row, *METRICS) == part(before[key], *METRICS)
        new = part(row, "sparsity_curve")
        if row["reading"]["k"] == 8:
            assert new["measured"] == {"sparsity_curve": LATER} and new["values"]["sparsity_curve.ev_mean"] is not None and new["intervals"]
        else:
            assert not new["values"] and set(new["missing"].values()) == {"not asked for at this reading"} and not new["measured"]
    for record in records.read_all(copy / "leaderboard" / "small"):
        first = {when for row in record["rows"] for when in part(row, *METRICS)["measured"].values()}
        assert set(record["measured"]) == {*first, LATER} and len(first) == 1
    assert {item.todo for item in todo(material, copy, **more)} == {"done"}


@pytest.mark.parametrize(
    ("module", "wanted"),
    [
        ("sparsity", {("sparsity",)}), ("variance", {("explained_variance",)}), ("probing", set()),
        ("evaluate", {tuple(METRICS)}), ("prefix_loss", {tuple(METRICS)}), ("topk", {tuple(METRICS)}),
    ],
)  # fmt: skip
def test_code_that_changes_is_missed_by_the_metrics_that_stand_on_it(
    material: Path, copy: Path, change: Callable[..., None], module: str, wanted: set[tuple[str, ...]]
) -> None:
    """A metric's own, a module's that it imports, that behind every number; the variant's own makes new weights."""
    change(module)
    items = todo(material, copy)
    topk = [item for item in items if not item.training.control]
    assert lacking(items) == wanted and {item.todo for item in topk} == {"train" if module == "topk" else "evaluate" if wanted else "done"}
    assert all((len(names) == 2) == item.why.endswith("4 readings are not") for item in topk for names in wanted if item.todo == "evaluate")


def test_a_metric_whose_code_changes_is_measured_again_alone(material: Path, copy: Path, change: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its numbers are those of the code that is there now; the others stay."""
    before = rows(copy)
    change("sparsity")
    monkeypatch.setattr(plugins.metric("explained_variance"), "update", no_measuring)
    original = plugins.metric("sparsity").results
    monkeypatch.setattr(plugins.metric("sparsity"), "results", lambda self, draws: [{**one, "l0": 7.0} for one in original(self, draws)])
    assert main(arguments(material, copy)) == 0
    for key, row in rows(copy).items():
        assert part(row, "explained_variance") == part(before[key], "explained_variance")
        assert row["values"]["sparsity.l0"] == 7.0 != before[key]["values"]["sparsity.l0"] and row["measured"]["sparsity"] == LATER


def test_a_metric_of_ones_own_is_measured_again_when_a_file_beside_it_changes(
    material: Path, copy: Path, change: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """sparsity under another name, which takes a number from a file of its own."""
    package, own = plugins.package("metrics"), copy / "own"
    monkeypatch.setattr(package, "__path__", [*package.__path__])
    own.mkdir()
    text = plugins.source_file("metrics", "sparsity").read_text(encoding="utf-8")
    (own / "_number.py").write_text('"""One."""\n\nNUMBER = 1\n', encoding="utf-8")
    (own / "mine.py").write_text(f"{text}\n\nfrom sae_bench_htopk.metrics._number import NUMBER  # noqa\n", encoding="utf-8")
    plugins.add_folder("metrics", own)
    assert lacking(todo(material, copy, metrics=[*METRICS, "mine"])) == {("mine",)}
    assert main([*arguments(material, copy, metrics=[*METRICS, "mine"]), "--metrics", str(own)]) == 0
    assert all(row["values"]["mine.l0"] == row["values"]["sparsity.l0"] for row in rows(copy).values())
    change("_number")
    assert lacking(todo(material, copy, metrics=[*METRICS, "mine"])) == {("mine",)}


def test_numbers_of_earlier_weights_never_stand_beside_new_ones(material: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are gone, a metric is new, and the run is broken off between training and measuring: the next one measures everything."""
    wanted = [*METRICS, "sparsity_curve"]
    monkeypatch.undo()  # training is no mistake here
    monkeypatch.setattr(leaderboard, "build", lambda root, name: root / name)
    for path in (copy / "runs" / "small").glob("*.safetensors"):
        path.unlink()
    monkeypatch.setattr(MeasuringPass, "evaluate", lambda self, *_: (_ for _ in ()).throw(KeyboardInterrupt))
    main(arguments(material, copy, metrics=wanted))
    items = todo(material, copy, metrics=wanted)
    assert {(item.todo, item.why) for item in items if item.training.seed == 0} == {("evaluate", "weights are there, no record is")}
    assert all(len(names) == 3 for item in items for _, readings in item.missing for names in readings.values())


def test_a_metric_or_reading_that_is_dropped_leaves_and_nothing_is_measured(
    material: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even the model is loaded; where a metric is only limited, its column stays, empty, elsewhere. A copy with the numbers is kept."""
    before = rows(copy)
    monkeypatch.setattr(SubjectModel, "load", refuse)
    assert main(arguments(material, copy, metrics=["explained_variance", {"metric": "sparsity", "only": {"k": [8]}}])) == 0
    for key, row in rows(copy).items():
        assert row["values"].get("sparsity.l0") == (before[key]["values"]["sparsity.l0"] if row["reading"]["k"] == 8 else None)
        assert part(row, "explained_variance") == part(before[key], "explained_variance")
    assert "holds numbers that small asks for no more" in capsys.readouterr().err
    assert main(arguments(material, copy, metrics=["explained_variance"])) == 0
    assert all({**row, **part(before[key], "explained_variance")} == row for key, row in rows(copy).items())
    assert not any("sparsity" in json.dumps([row[name] for name in PARTS if name in row]) for row in rows(copy).values())
    assert main(arguments(material, copy, metrics=["explained_variance"], read={"k": [8]})) == 0
    assert set(rows(copy)) == {key for key, row in before.items() if row["reading"]["k"] == 8}


@pytest.mark.parametrize("module", ["power_law", "stability", "seeds"])
def test_what_is_known_of_latents_is_made_again_when_its_code_changes(
    material: Path, copy: Path, change: Callable[..., None], monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    """Power laws and pairs alone, from the weights: no reading is measured; without weights, they are trained again."""
    folder = copy / "leaderboard" / "small"
    before = records.read_all(folder)
    topk = [record for record in before if not record["sae"]["control"]]
    assert all(set(record["power_law"]) == {"spectrum", "importance", "frequency"} for record in topk)
    for record in topk:
        spoilt = [{**pair, "live": -1} for pair in record["stability"]]
        records.write(folder, record | {"power_law": {}, "stability": spoilt})
    assert {item.todo for item in todo(material, copy)} == {"done"}
    change(module)
    found = {(item.training.control, item.todo, item.latents, item.why) for item in todo(material, copy)}
    assert found == {
        (False, "compare", True, "every reading is in its record, but its latents were measured by other code"),
        (True, "done", False, "every reading is in its record"),
    }
    monkeypatch.setattr(measuring_pass, "measure", no_measuring)
    assert main(arguments(material, copy)) == 0
    after = records.read_all(folder)
    assert [{**record, "latents_key": 0} for record in after] == [{**record, "latents_key": 0} for record in before]
    assert {item.todo for item in todo(material, copy)} == {"done"}
    change()
    for path in (copy / "runs" / "small").glob("*.safetensors"):
        path.unlink()
    assert {(item.todo, item.why) for item in todo(material, copy) if not item.training.control} == {
        ("train", "its weights are gone and its latents were measured by other code")
    }


def test_rows_of_the_form_before_are_readable_and_measured_again(material: Path, copy: Path) -> None:
    """They name one key and one run for all metrics."""
    folder, before = copy / "leaderboard" / "small", rows(copy)
    for record in records.read_all(folder):
        old = [{name: value for name, value in row.items() if name != "keys"} | {"read_key": "ab", "drawn": "d"} for row in record["rows"]]
        for row in old:
            (row["measured"],) = set(row["measured"].values())
        records.write(folder, {name: value for name, value in record.items() if name != "latents_key"} | {"rows": old})
    items = todo(material, copy)
    assert {(item.todo, item.why) for item in items} == {("evaluate", f"weights are there, {count} readings are not") for count in (2, 4)}
    assert lacking(items) == {tuple(METRICS)}
    assert main(arguments(material, copy)) == 0
    for key, row in rows(copy).items():
        assert row["values"] == pytest.approx(before[key]["values"], rel=1e-6) and row["keys"] == before[key]["keys"] and "read_key" not in row
        assert row["measured"] == dict.fromkeys(METRICS, LATER)


def test_latents_kept_in_another_order_keep_their_draws_too(few_draws: None, material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random order is what order by importance is held against, document by document; another selector than the native one is compared with nothing."""
    read = {"k": [4], "latents": ["all", 32], "rank": ["importance", "random"], "select": ["row", "threshold"]}
    assert main(arguments(material, tmp_path, read=read, seeds=[0])) == 0
    (record,) = (made for made in records.read_all(tmp_path / "leaderboard" / "small") if not made["sae"]["control"])
    drawn = {(row["reading"]["latents"], row["reading"]["rank"], row["reading"]["select"]) for row in record["rows"] if row.get("draws")}
    assert drawn == {(None, "importance", "row"), (32, "importance", "row"), (32, "random", "row")}
