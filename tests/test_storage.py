"""Files are whole or not there, whatever the disk does; the kernel itself refuses where a limit on file sizes stands in for a full disk."""

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from sae_bench_htopk import plugins, storage, weights
from sae_bench_htopk.storage import StorageError
from tests.synthetic import D, units


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes: the system refuses in the middle of one, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_text_that_does_not_fit_leaves_the_old_one(tmp_path: Path) -> None:
    """And no half of a new one, under whatever name."""
    path = storage.write(tmp_path / "new" / "page.md", "old\n")
    with largest_file(1000), pytest.raises(StorageError, match=r"page\.md: could not be written \(File too large\)"):
        storage.write(path, "new\n" * 1000)
    assert path.read_bytes() == b"old\n" and list(path.parent.iterdir()) == [path]


def test_weights_that_do_not_fit_leave_the_old_ones(tmp_path: Path) -> None:
    """Safetensors says what the system told it."""
    kind = plugins.variant("topk")
    first, second = (kind(kind.Config(k=4), D, 64, seed) for seed in (0, 1))
    weights.save(path := tmp_path / "0.safetensors", first, units(), {})
    with largest_file(5000), pytest.raises(StorageError, match=r"0\.safetensors: could not be written .*os error"):
        weights.save(path, second, units(), {})
    assert list(tmp_path.iterdir()) == [path] and weights.whole(path)
    weights.load(path, second)
    assert torch.equal(first.W_dec, second.W_dec)


@pytest.mark.parametrize("place", ["fsync", "replace"])
def test_a_disk_that_is_full_only_when_it_matters(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may say it as late as when the file is to be on disk."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(storage.os, place, full)
    with pytest.raises(StorageError, match="No space left on device"):
        storage.write(tmp_path / "page.md", "new\n")
    assert list(tmp_path.iterdir()) == []


def test_other_errors_are_not_the_disks(tmp_path: Path) -> None:
    """They stay what they are, and leave nothing either."""
    with pytest.raises(ZeroDivisionError), storage.whole(tmp_path / "x") as unfinished:
        unfinished.write_text("half")
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    """By its name."""
    left = storage.UNFINISHED.format("0.safetensors", 123)
    for name in (left, "0.safetensors", storage.UNFINISHED.format("page.md", 123)):
        (tmp_path / name).write_text("")
    storage.sweep(tmp_path, "*.safetensors")
    assert {path.name for path in tmp_path.iterdir()} == {"0.safetensors", ".page.md.123.tmp"}
    storage.sweep(tmp_path / "nowhere", "*")


def test_weights_for_which_there_is_no_room_are_refused_before_any_work(tmp_path: Path) -> None:
    """Asked of the disk that the folder will be on."""
    storage.require(tmp_path / "not" / "there", 1)
    with pytest.raises(StorageError, match=r"are to be written there, and [\d,]+ MiB are free"):
        storage.require(tmp_path / "not" / "there", 2**60)
