"""The index of boards, the command that writes one or all of them, and figures that are drawn in a second process."""

import os
import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from sae_bench_htopk import board, drawing, index, leaderboard, plugins
from sae_bench_htopk.__main__ import main
from sae_bench_htopk.column_words import columns_of
from sae_bench_htopk.lines import Lines
from sae_bench_htopk.picture import Point
from sae_bench_htopk.records import RecordError
from sae_bench_htopk.svg import svg
from tests.test_leaderboard import borrowed, make, put, suite

PICTURE = Lines("name", "words", "x", "explained_variance.ev", "higher", tuple(Point("", "a", "a", "single", x, x / 9, None, "", True) for x in (1.0, 2.0)))


def test_counts_are_those_of_the_page(tmp_path: Path) -> None:
    """Smaller dictionaries are SAEs too; weights that two variants read were trained once."""
    root = put(tmp_path, [*suite(), borrowed(make("topk", 32, 0))])
    leaderboard.build(root, "small")
    found = re.search(r"\n(\d+) SAEs of up to", (root / "small.md").read_text())
    assert found is not None and found[1] == "9"
    line = next(line for line in (root / "README.md").read_text().splitlines() if "(small.md)" in line)
    assert [cell.strip() for cell in line.strip("|").split("|")][1:4] == ["pycode_gemma2", "9", "2"]


def test_the_headline_is_one_line_of_the_best_at_each_k() -> None:
    """By explained variance: batchtopk is trained at 8 and 32 and best there by invention."""
    said = index.headline(board.assemble(suite()))
    assert re.fullmatch(r"\*\*topk\*\* at k = 4 \(0\.901\) and 16 \(0\.9\d+\); \*\*batchtopk\*\* at k = 8 \(0\.9\d+\) and 32 \(0\.9\d+\)", said)
    assert index.headline(board.assemble([make("pca", 32, control=True)])) == "no SAE can be compared at any k"


def test_the_command_makes_one_suite_or_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With one named, the others' pages stay as they are, and the index has all; --check of one looks at no other."""
    root = put(put(tmp_path / "leaderboard", [make("topk", 8)]), [make("topk", 8)], "other")
    assert main(["leaderboard", "small", "--output", str(tmp_path)]) == 0
    assert capsys.readouterr().out.split() == [str(root / "small.md"), str(root / "README.md")]
    assert not (root / "other.md").exists() and "(other.md)" in (root / "README.md").read_text()
    assert main(["leaderboard", "small", "--check", "--output", str(tmp_path)]) == 0
    assert main(["leaderboard", "--check", "--output", str(tmp_path)]) == 1
    assert "other.md: is missing" in capsys.readouterr().err
    assert main(["leaderboard", "--output", str(tmp_path)]) == 0 and main(["leaderboard", "--check", "--output", str(tmp_path)]) == 0


def test_the_second_process_draws_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the byte; on a machine of one core there is none."""
    with drawing.aside() as draw:
        assert draw(PICTURE)() == svg(PICTURE)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    with drawing.aside() as draw:
        assert draw is drawing.here


def test_a_second_process_that_is_gone_costs_time_and_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is gone before a figure is begun or while it is drawn."""
    pools = list[ProcessPoolExecutor]()

    class Seen(ProcessPoolExecutor):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            pools.append(self)

    monkeypatch.setattr(drawing, "ProcessPoolExecutor", Seen)
    with drawing.aside() as draw:
        ending = pools[0].submit(os._exit, 1)
        gone = draw(PICTURE)
        with pytest.raises(BrokenProcessPool):
            ending.result()
        assert gone() == draw(PICTURE)() == svg(PICTURE)


def test_without_semaphores_figures_are_drawn_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where there is no /dev/shm."""

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(drawing, "ProcessPoolExecutor", refused)
    with drawing.aside() as draw:
        assert draw is drawing.here


def test_the_first_process_imports_nothing_to_draw_with() -> None:
    """Nor scipy.stats: both are slow to import."""
    asked = "import sys; from sae_bench_htopk import leaderboard; print(*(name for name in ('matplotlib', 'scipy.stats', 'scipy') if name in sys.modules))"
    found = subprocess.run([sys.executable, "-c", asked], check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert found.stdout.split() == ["scipy"]


def test_a_damaged_suite_keeps_no_other_from_its_page(tmp_path: Path) -> None:
    """The others have page and figures; the error still names the file, and the index stays as it was."""
    root = put(put(tmp_path, suite(1)), [make("topk", 8)], "aaa")
    (root / "aaa" / "broken.json").write_text("{")
    with pytest.raises(RecordError, match=r"broken\.json"):
        leaderboard.build_all(root)
    assert (root / "small.md").is_file() and (root / "small" / "frontier.svg").is_file()


def test_figures_that_the_page_has_no_more_go(tmp_path: Path) -> None:
    """With their data, and --check tells of them; what somebody else drew stays."""
    root = put(tmp_path, suite(1))
    leaderboard.build_all(root)
    for record in [path for path in (root / "small").glob("*.json") if '"variant": "topk"' not in path.read_text()]:
        record.unlink()
    own = root / "small" / "own.svg"
    own.write_text("<svg/>")
    left = {path.name for path in (root / "small").glob("*.svg")}
    told = leaderboard.check(root)
    leaderboard.build_all(root)
    there = {path.name for path in (root / "small").glob("*.svg")}
    gone = left - there
    assert gone and "own.svg" in there and not [name for name in gone if (root / "small" / name).with_suffix(".csv").exists()]
    wanted = {root / "small" / name for name in gone} | {(root / "small" / name).with_suffix(".csv") for name in gone}
    assert {line for line in told if "is no figure of the page" in line} == {f"{path}: is no figure of the page" for path in wanted}
    assert leaderboard.check(root) == []


SHAPES = {
    "twice": 'NAMES = ("a",)\nNAMES += ("b",)\nclass M(Metric):\n    columns = tuple(Column(name, "higher", "x") for name in NAMES)',
    "under_if": 'LIMIT = 1\nif True:\n    LIMIT = 2\nclass M(Metric):\n    columns = (Column(f"a{LIMIT}", "higher", "x"),)',
    "later": 'class M(Metric):\n    columns = (Column("a", "higher", "x"),)\n    columns += (Column("b", "higher", "x"),)',
    "outside": 'class M(Metric):\n    columns = (Column("a", "higher", "x"),)\nM.columns = (Column("b", "higher", "x"),)',
    "odd": 'class M(Metric):\n    columns = tuple({"a": Column("a", "higher", "x")}[key] for key in "a")\n    made = columns[0].name.nothing if False else 1',
    "plain": 'UNIT = "nats"\nclass M(Metric):\n    columns = (Column("a", "higher", f"in {UNIT}"),)',
}


@pytest.mark.parametrize("shape", SHAPES)
def test_columns_of_any_shape_are_those_of_the_class(shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However a third party says them."""
    monkeypatch.setattr(plugins.package("metrics"), "__path__", [*plugins.package("metrics").__path__])
    body = f"from sae_bench_htopk.contract import Column, Metric\n{SHAPES[shape]}\n    def update(self, batch): ...\n    def result(self, weights): ..."
    if shape == "outside":
        body = body.replace("M.columns =", "    def update(self, batch): ...\n    def result(self, weights): ...\nM.columns =").rpartition("\n    def update")[
            0
        ]
    (tmp_path / f"shape_{shape}.py").write_text(f'"""A metric."""\n{body}\n')
    plugins.add_folder("metrics", tmp_path)
    assert columns_of(f"shape_{shape}") == plugins.metric(f"shape_{shape}").columns


def test_columns_are_read_as_they_are() -> None:
    """Without importing a metric the same as with it; of a metric that computes its columns too."""
    for name in plugins.names("metrics"):
        assert columns_of(name) == plugins.metric(name).columns
