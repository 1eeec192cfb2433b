"""What a plan says, also of a GPU that is not here and without a hub."""

from pathlib import Path

import pytest

from sae_bench_htopk import memory, plan_text, rates, suite
from sae_bench_htopk.__main__ import main
from sae_bench_htopk.estimate import Work
from sae_bench_htopk.rates import Rate


def test_a_plan_for_a_gpu_that_is_not_here_is_the_least_time_at_a_rate_for_each_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """SAEs and the head in float32, layers in the model's own dtype, and bytes at the copy's rate, one after the other: as counted by hand."""
    monkeypatch.setattr(rates, "MEASURED", {"X1": Rate(10e12, 1e12, 2e12, 2**36, "Maker X1", "a product")})
    work = Work(learn=3.6e15, moved=3.6e15, harvest=3.6e16, read=3e13, model=3e14, head=6e13, results=9e15)
    lines = plan_text.times(work, "X1", "bfloat16")  # 1 hour, half an hour and 1 hour; 30, 30 and 60 seconds
    assert lines[0] == "time:     at least 2.5 hours of training, 2.0 min of evaluation on one Maker X1, beside metrics' own work:"
    assert "the language model at 10 TFLOP/s, memory at 2,000 GB/s (measured: a product)" in lines[1]
    assert "SAEs and predictions, in float32, at 1 TFLOP/s, the maker's peak" in lines[2] and "no step of training was timed on a GPU" in lines[2]
    lines = plan_text.times(work, "X1", "float32")  # the model takes ten times as long
    assert "at least 11.5 hours of training, 6.5 min of evaluation" in lines[0] and "language model at" not in lines[1]
    assert "SAEs and the language model, in float32, at 1 TFLOP/s" in lines[2] and memory.free("X1") == 2**36


def test_every_rate_says_where_it_is_from() -> None:
    """A device, what was measured, when: below what the maker says of both, 989 TFLOP/s dense in bf16; float32 is its peak, which is not measured."""
    boards = {"H100": (81_559, 3.35e12), "H200": (143_771, 4.8e12)}  # MiB as nvidia-smi says, and bytes/s as the maker does
    for name, rate in rates.MEASURED.items():
        assert "NVIDIA" in rate.device and "8192" in rate.what and "copy" in rate.what and "2026-" in rate.what
        assert 0.7 * 989e12 < rate.bfloat16 < 989e12 and rate.float32 == 67e12
        mebibytes, peak = boards[name]
        assert 0.97 * mebibytes < rate.memory / 2**20 < mebibytes - 400 and 0.8 * peak < rate.copy < peak  # CUDA's context takes some hundred MiB


def test_gemma_is_planned_offline_for_a_named_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations, passes, memory on both sides, disk and hours; nothing is written, and no network is asked."""

    def refuse(*_: object) -> None:
        raise AssertionError("asked the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    assert main(["plan", "gemma2_2b", "--device", "H200", "--output", str(tmp_path / "new")]) == 0
    text = capsys.readouterr().out
    lines = {line.partition(":")[0]: line for line in text.splitlines() if ":" in line}
    assert "9 SAEs on 999,997,440 tokens each, one pass over the text per seed (1)" in lines["training"]
    assert "2.02e+09 operations" in lines["work"]  # 2 for each weight of 13 layers
    assert "GiB on the H200 and " in lines["memory"] and "GiB on the cpu" in lines["memory"] and "4.87 GiB of the language model" in lines["memory"]
    assert "29,992 MiB of weights" in lines["disk"]  # 9 trained and an untrained of 1,152 MiB, 40 of pca, and 8 kept twice on the way
    assert "62,208 MiB of snapshots" in lines["disk"]  # 9 x 2 x 3 of 1,152 MiB
    assert "at least 12.9 hours of training" in lines["time"] and "on one NVIDIA H200" in lines["time"] and not (tmp_path / "new").exists()
    assert "the language model at 788 TFLOP/s, memory at 4,300 GB/s (measured" in text and "in float32, at 67 TFLOP/s, the maker's peak" in text
    assert main(["plan", "gemma2_2b", "--device", "H200", "--at-once", "4", "--output", str(tmp_path / "new")]) == 0
    text = capsys.readouterr().out
    assert "3 passes over the text (of 4, 4, 1 SAEs)" in text and "--at-once 4; weights do not depend on it" in text


def test_an_h100_holds_one_sae_less(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """41.16 GiB are more than half of the 78 that are free; without the ninth SAE they are not."""
    assert main(["plan", "gemma2_2b", "--device", "H100", "--output", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "2 passes over the text (of 8, 1 SAEs)" in text and "41.16 GiB on the H100; 78.00 GiB are free" in text


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
