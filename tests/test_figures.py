"""Figures from synthetic records: what is drawn where, how lines are told apart and named, and that every figure has its data."""

import csv
import math
import random
import re
from pathlib import Path

import numpy as np
import pytest

from sae_bench_htopk import captions, draw_lines, figures, frontier, leaderboard, lines, saes, sizes
from sae_bench_htopk.board import assemble
from sae_bench_htopk.picture import Point
from tests.test_areas import of
from tests.test_leaderboard import borrowed, make, put, suite
from tests.test_sizes import both_cuts, of_base


def test_the_best_at_each_l0_is_1_and_the_others_say_how_much_more_they_leave() -> None:
    """0.2 against 0.1 left at 8 is twice as much; at 16 the other is ahead by 0.3 to 0.2."""
    board = assemble([of("topk", 8, {8: 0.9, 16: 0.7}), of("batchtopk", 8, {8: 0.8, 16: 0.8})])
    found = {(point.variant, point.x): point.y for point in figures.relative(board).points}
    assert found == {("topk", 8): 1.0, ("batchtopk", 8): pytest.approx(2.0), ("topk", 16): pytest.approx(1.5), ("batchtopk", 16): 1.0}


@pytest.mark.parametrize("made", [[of("topk", 8, {8: 0.9})], [make("pca", 32, control=True)], [of("topk", 8, {8: 1.0}), of("batchtopk", 8, {8: 1.0})]])
def test_where_nothing_is_to_be_compared_there_is_no_such_figure(made: list[dict[str, object]]) -> None:
    """One variant; controls alone; nothing left unexplained."""
    assert figures.relative(assemble(made)).points == ()


def test_a_bad_control_does_not_squeeze_the_variants() -> None:
    """untrained is at -2: the picture ends a little below the worst variant, and the caption says who is out of it."""
    board = assemble(suite(1))
    picture = figures.sparsity(board, saes.EV)
    low, high = picture.limits()
    thick = [picture.height(point.y) for point in picture.points if point.kind in ("envelope", "single")]
    assert min(thick) - low < 0.2 * (max(thick) - min(thick)) and high >= max(thick)
    assert "untrained" in picture.outside() and re.search("out of the picture: .*untrained", captions.show(board, picture))


def test_a_line_that_leaves_the_picture_is_named_where_it_leaves() -> None:
    """A control whose first two readings are inside ends, for its name, at the second; one that is wholly outside has no name."""
    points = [Point("", "v", "v", "single", x, y, None, "", True) for x, y in ((1.0, 0.5), (2.0, 0.8), (4.0, 0.9))]
    leaving = [Point("", "c", "c", "control", x, y, None, "", False) for x, y in ((1.0, 0.52), (2.0, 0.53), (4.0, -3.0))]
    gone = [Point("", "g", "g", "control", x, -5.0, None, "", False) for x in (1.0, 2.0)]
    picture = lines.Lines("name", "words", "measured L0", saes.EV, "higher", (*points, *leaving, *gone), "linear")
    ends = draw_lines.draw_panel(draw_lines.draw(picture).axes[0], picture, picture.points)
    assert {name: end for name, _, end in ends} == {"v": (4, 0.9), "c": (2, 0.53)}


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_the_envelope_is_of_readings_that_no_other_line_passes(better: frontier.Better) -> None:
    """Of lines of random heights and reaches, against the definition point by point: what ends before a reading does not pass it."""
    source = random.Random(0)
    ks = [[k for k in (1, 2, 4, 8, 16, 32) if source.random() < 0.7] for _ in range(12)]
    every = [[Point("", f"l{n}", "v", "sae", float(k), source.random(), None, "", False, k) for k in of] for n, of in enumerate(ks) if of]

    def passes(other: list[Point], point: Point) -> bool:
        if not other[0].x <= point.x <= other[-1].x:
            return False
        height = np.interp(math.log(point.x), [math.log(p.x) for p in other], [p.y for p in other])
        return bool(height > point.y if better == "higher" else height < point.y)

    wanted = {(p.x, p.y) for line in every for p in line if not any(passes(other, p) for other in every if other is not line)}
    assert {(p.x, p.y) for p in figures.envelope(every, "v", better)} == wanted and 0 < len(wanted) < sum(map(len, every))


def test_lines_of_one_variant_are_dashed_apart_and_named_once() -> None:
    """Pruned over two bases in two panels: two dashes, and each name in the last panel alone."""
    board = assemble([borrowed(make("topk", 32)), of_base(make("batchtopk", 32))])
    picture = sizes.picture(board, saes.EV)
    styles = draw_lines.patterns(picture.points)
    assert len({str(style) for (line, _), style in styles.items() if line.startswith("pruned_vanilla")}) == 2
    left, right = draw_lines.draw(picture).axes
    named = [[text.get_text() for text in axis.texts] for axis in (left, right)]
    assert named[0] == [] and sorted(named[1]) == sorted({point.line for point in picture.points})
    assert "Further dashes" in captions.show(board, picture) and "Further dashes" not in captions.show(board, figures.sparsity(board, saes.EV))


def test_every_measured_column_is_drawn_against_dictionary_size_with_its_data(tmp_path: Path) -> None:
    """Beside its page, lower better where it is; what was measured on the whole dictionary alone has no such figure."""
    made = both_cuts()
    for row in (row for record in made for row in record["rows"] if row["reading"]["latents"]):
        row["values"]["sparse_probing.auc_1"], row["missing"]["sparse_probing.auc_1"] = None, "not asked for"
    made = [record for record in made if record["sae"]["latents"] == 2048]
    drawn = {picture.name: picture for picture in sizes.pictures(assemble(made))}
    assert set(drawn) == {"dictionary", "dictionary_loss", "dictionary_rsa", "dictionary_cka"}
    rows = list(csv.DictReader(drawn["dictionary_loss"].csv().splitlines()))
    at_512 = {row["line"]: float(row[saes.DELTA]) for row in rows if row["panel"].startswith("equal L0") and row["latents in use"] == "512"}
    assert at_512["matryoshka k=32"] == pytest.approx(0.1, abs=0.002) and at_512["pruned_vanilla k=32"] == pytest.approx(0.16, abs=0.002)
    best = {row["line"] for row in rows if row["panel"].startswith("equal L0") and row["latents in use"] == "512" and row["on the frontier"] == "yes"}
    assert best == {"matryoshka k=32"}
    page = leaderboard.render(put(tmp_path, made), "small")[0][tmp_path / "small.md"]
    assert page.split("<summary>ΔCE (lower is better)")[1].split("</details>")[0].count("(small/dictionary_loss.svg)") == 1


def test_the_ce_score_is_drawn_by_what_is_missing_to_1() -> None:
    """Beside the loss; with one score of 1 there is no log of what is missing."""
    made = make("topk", 8)
    for row in made["rows"]:
        row["values"][saes.SCORE] = 0.9 + row["reading"]["k"] / 1000
    picture = figures.sparsity(assemble([made]), saes.SCORE)
    assert (picture.name, picture.scale, picture.better) == ("score_mean", "unexplained", "higher")
    made["rows"][0]["values"][saes.SCORE] = 1.0
    assert figures.sparsity(assemble([made]), saes.SCORE).scale == "linear"


def test_bands_are_in_the_picture() -> None:
    """Two seeds at 0.5 and 0.9: the band of one standard deviation reaches 0.98, above either."""
    made = [of("topk", 8, {4: 0.1, 8: 0.5}), {**of("topk", 8, {4: 0.9, 8: 0.9}), "train_key": "another"}]
    made[1]["sae"] = {**made[1]["sae"], "seed": 1}
    picture = figures.sparsity(assemble(made), saes.EV)
    top = max(point.y + (point.spread or 0.0) for point in picture.points)
    assert top > 0.95 and picture.limits()[1] > picture.height(top)


@pytest.mark.parametrize("alone", [False, True])
def test_a_dead_sae_has_no_place_on_a_log_scale_and_spoils_no_page(alone: bool, tmp_path: Path) -> None:
    """A ReLU SAE whose penalty silenced all: its L0 is 0 at every reading."""
    dead = make("topk", 16)
    for row in dead["rows"]:
        row["values"]["sparsity.l0"] = 0.0
    root = put(tmp_path, [dead] if alone else [dead, *(one for one in suite(1) if one["train_key"] != dead["train_key"])])
    assert leaderboard.build(root, "small").read_text().startswith("<!-- generated")


def test_a_curve_is_of_the_seeds_that_all_its_readings_have() -> None:
    """Two seeds, far apart, of which one was not measured at 8: the curve is that of the other, and rises."""
    made = [of("topk", 8, {4: 0.2, 8: 0.3, 16: 0.4}), {**of("topk", 8, {4: 0.7, 8: None, 16: 0.9}), "train_key": "another"}]
    made[1]["sae"] = {**made[1]["sae"], "seed": 1}
    board = assemble(made)
    (sae,) = board.saes
    assert sae.mean_curve(saes.EV)[1] == pytest.approx([0.2, 0.3, 0.4])
    assert [point.y for point in figures.readings(board, sae, saes.EV, "single")] == pytest.approx([0.2, 0.3, 0.4])
