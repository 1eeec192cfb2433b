"""What the benchmarks of scale call the least time of a step, and what they time, against numbers worked out by hand."""

from types import SimpleNamespace
from typing import Any

import pytest

from tests.bench import throughput
from tests.bench.roofline import Peaks, Shape, step_seconds


def test_the_least_time_of_a_step_is_that_of_the_research() -> None:
    """At an H200's rates and the flagship's shape: 4.83 and 7.84 ms of a TopK step, 5.5 and 9.2 of one with a loss for every prefix."""
    top = Peaks(790e12, 4.3e12, 5.5e12, False)
    for batch, plain, prefixes in ((4096, 4.83, 5.5), (8192, 7.84, 9.2)):
        assert 1000 * step_seconds(Shape(2304, 65_536, 128, batch), top) == pytest.approx(plain, abs=0.01)
        assert 1000 * step_seconds(Shape(2304, 65_536, 128, batch, every_prefix=True), top) == pytest.approx(prefixes, abs=0.03)
    saes = dict(throughput.published().saes())
    assert "hierarchical_topk" in saes and throughput.floor_of(throughput.published(), "hierarchical_topk", 128, 2304, top) > 9.1e-3


def test_the_opening_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two blocks of slow first batches, then two whose harvest and steps take 10 s in all: 2 s for each of five batches, 1 s of it the learner's."""
    clock, source, learner = [0.0], SimpleNamespace(begun=SimpleNamespace(block=0)), SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(throughput, "finished", lambda _: clock[0])

    def steps() -> Any:
        for block, batches, harvest, step in ((0, 3, 500.0, 100.0), (1, 2, 0.0, 100.0), (2, 3, 2.0, 1.0), (3, 2, 3.0, 1.0)):
            source.begun.block = block
            clock[0] += harvest
            for _ in range(batches):
                clock[0], learner.seconds = clock[0] + step, learner.seconds + step
                yield None

    assert throughput.timed(source, steps(), "cpu", [learner]) == (2.0, [1.0])  # type: ignore[arg-type, list-item]


def test_the_text_fills_the_opening_and_the_timed_blocks() -> None:
    """The flagship's blocks: 17 readings of four windows of 1,023 tokens, since 16 fall short of 65,536 by a few."""
    run = throughput.published()
    assert run.windows() == 17 * 4 and len(list(throughput.Text(run, 1))) == 3 * 17 * 4
