"""What is free, as made-up system files say it, and what fits."""

from pathlib import Path

import pytest

from sae_bench_htopk import memory, suite
from sae_bench_htopk.keys import Training
from sae_bench_htopk.trainer import Recipe


def put(folder: Path, files: dict[str, str]) -> Path:
    """A folder with these files."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="ascii")
    return folder


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"memory.max": "1000\n", "memory.current": "700\n", "memory.stat": "anon 500\ninactive_file 150\n"}, 450),
        ({"memory.max": "1000\n", "memory.current": "700\n"}, 300),
        ({"memory.max": "max\n", "memory.current": "700\n"}, None),
        ({"memory/memory.limit_in_bytes": "900", "memory/memory.usage_in_bytes": "400", "memory/memory.stat": "total_inactive_file 9\n"}, 509),
        ({"memory.max": "10", "memory.current": "70"}, 0),
        ({}, None),
    ],
)
def test_a_container_leaves_its_limit_less_what_it_holds(files: dict[str, str], wanted: int | None, tmp_path: Path) -> None:
    """Both ways in which Linux says it; no limit, or no such files, is None."""
    assert memory.container(put(tmp_path, files)) == wanted


def test_the_host_says_what_is_available(tmp_path: Path) -> None:
    """In KiB; not what is merely unused."""
    put(tmp_path, {"meminfo": "MemTotal:  4000 kB\nMemFree:  10 kB\nMemAvailable:   2000 kB\n"})
    assert memory.host(tmp_path / "meminfo") == 2000 * 1024


def test_what_fits_is_half_of_what_is_free_and_nothing_fits_into_what_is_not_known() -> None:
    """To the byte."""
    assert memory.fits(50, 100) and not memory.fits(51, 100) and not memory.fits(1, None)


def test_what_is_held_grows_with_every_copy() -> None:
    """Two matrices of float32 for each; three seeds of nine SAEs at Gemma's size do not fit into 80 GB beside their calibration rows."""
    chosen = suite.load("gemma2_2b")
    recipe = Recipe(tokens=1, batch=1, latents=65_536)
    trainings = [Training(str(seed), "topk", None, 65_536, seed, False, recipe) for seed in range(27)]
    one, all_of_them = memory.measuring(chosen, [(trainings[0], 1)]), memory.measuring(chosen, [(training, 1) for training in trainings])
    assert all_of_them - one == pytest.approx(26 * 2 * 4 * 65_536 * 2304, rel=0.01)
    assert not memory.fits(all_of_them, 80 * 10**9) and memory.fits(one, 80 * 10**9)
    assert memory.measuring(chosen, [(trainings[0], 2)]) > one and memory.measuring(chosen, []) == 0 == memory.learning(chosen, [])
