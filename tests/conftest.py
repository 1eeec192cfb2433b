"""One thread for every test, since a shared machine is otherwise a hundred times slower; and --variants for variants of one's own."""

from pathlib import Path

import pytest
import torch

from sae_bench_htopk import plugins

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """pytest --variants DIR tests/test_conformance.py holds the variants of a folder to the contract."""
    parser.addoption("--variants", type=Path, action="append", default=[], help="a folder of further variants to test")


def pytest_configure(config: pytest.Config) -> None:
    """Adds those folders before tests are collected."""
    for directory in config.getoption("--variants"):
        plugins.add_folder("variants", directory)
