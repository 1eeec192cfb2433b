"""What a plan says, also of a GPU that is not here and without a hub."""

from pathlib import Path

import pytest

from sae_bench_htopk import memory, plan_text, rates, suite
from sae_bench_htopk.__main__ import main
from sae_bench_htopk.estimate import Work
from sae_bench_htopk.rates import Rate


def test_a_plan_for_a_gpu_that_is_not_here_is_at_its_measured_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """10 TFLOP/s and 9e16 operations are 2.5 hours at least; at a quarter of it for SAEs and half for the model, as counted by hand."""
    monkeypatch.setattr(rates, "MEASURED", {"X1": Rate(10e12, 2**36, "Maker X1", "a product")})
    lines = plan_text.times(Work(6e16, 3e16, 6e14, 0.0), "X1")
    assert lines[0].startswith("time:     at least 2.5 hours of training, 1.0 min of evaluation on one Maker X1, at 10 TFLOP/s")
    assert "about 8.3 hours and 4.0 min if steps reach 25%" in lines[2] and "neither has been measured" in lines[2]
    assert memory.free("X1") == 2**36


def test_every_rate_says_where_it_is_from() -> None:
    """A device, what was measured, when; below what the maker says its tensor cores reach at most, 989 TFLOP/s dense in bf16 for both."""
    for rate in rates.MEASURED.values():
        assert "NVIDIA" in rate.device and "8192" in rate.what and "2026-" in rate.what and 0.7 * 989e12 < rate.product < 989e12


def test_gemma_is_planned_offline_for_a_named_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations, passes, memory on both sides, disk and hours; nothing is written, and no network is asked."""

    def refuse(*_: object) -> None:
        raise AssertionError("asked the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    assert main(["plan", "gemma2_2b", "--device", "H200", "--output", str(tmp_path / "new")]) == 0
    text = capsys.readouterr().out
    lines = {line.partition(":")[0]: line for line in text.splitlines() if ":" in line}
    assert "9 SAEs on 1,000,000,000 tokens each, one pass over the text per seed (1)" in lines["training"]
    assert "1.66e+09 operations" in lines["work"]  # 13 layers of 24 d^2
    assert "GiB on the H200 and " in lines["memory"] and "GiB on the cpu" in lines["memory"] and "4.18 GiB of the language model" in lines["memory"]
    assert "11,560 MiB of weights" in lines["disk"] and "62,208 MiB of snapshots" in lines["disk"]  # 9 x 2 x 3 of 1,152 MiB
    assert "NVIDIA H200, at 788 TFLOP/s" in lines["time"] and not (tmp_path / "new").exists()
    assert main(["plan", "gemma2_2b", "--device", "H200", "--at-once", "4", "--output", str(tmp_path / "new")]) == 0
    text = capsys.readouterr().out
    assert "3 passes over the text (of 4, 4, 1 SAEs)" in text and "--at-once 4; weights do not depend on it" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--device", "H200"], "--device H200: a GPU that plan knows from a table"),
        (["plan", "--device", "H20"], "did you mean H200?"),
        (["run", "--device", "cuda:1"], "known: H100, H200, auto, cpu, cuda"),
        (["run", "--at-once", "0"], "--at-once 0: wanted a whole number of at least 1"),
    ],
)
def test_a_device_that_cannot_be_had_is_one_sentence(arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and nothing is written."""
    assert main([arguments[0], "quickstart", *arguments[1:], "--output", str(tmp_path / "new")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and said in line and not (tmp_path / "new").exists()


def test_a_plan_that_wants_several_passes_says_why(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """And how many SAEs are in each."""
    monkeypatch.setattr(memory, "free", lambda _: 1)
    assert main(["plan", "quickstart", "--device", "cpu", "--output", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert (
        "8 passes over the text (of 1, 1, 1, 1, 1, 1, 1, 1 SAEs)" in text
        and "passes:   more than one for a seed, since all of its SAEs together want about" in text
    )
    assert suite.load("quickstart").seeds == (0,)
