"""One thread for every test, since a shared machine is otherwise a hundred times slower; and --variants and --metrics for plug-ins of one's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sae_bench_htopk import plugins, resampling

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """pytest --variants DIR tests/test_conformance.py holds the variants of a folder to the contract; likewise --metrics and test_evaluate.py."""
    for kind in ("variants", "metrics"):
        parser.addoption(f"--{kind}", type=Path, action="append", default=[], help=f"a folder of further {kind} to test")


def pytest_configure(config: pytest.Config) -> None:
    """Adds those folders before tests are collected."""
    for directory in config.getoption("--variants"):
        plugins.add_folder("variants", directory)
    for directory in config.getoption("--metrics"):
        plugins.add_folder("metrics", directory)


@pytest.fixture(scope="module")
def few_draws() -> Iterator[None]:
    """A tenth of the draws behind each interval: half of what a small run takes, where intervals are not what is tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resampling, "RESAMPLES", 10)
        for known in (resampling.draws, resampling.fingerprint):
            known.cache_clear()
        yield
    for known in (resampling.draws, resampling.fingerprint):
        known.cache_clear()
