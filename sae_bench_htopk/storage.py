"""Writes files whole or not at all, and says in one sentence why one could not be written."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from sae_bench_htopk.errors import InputError

NO_FOLDERS = {errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.ENOSYS, errno.EACCES, errno.EPERM, errno.EISDIR}  # what a system says that syncs none
UNFINISHED = ".{}.{}.tmp"  # what a file is called until it is whole: its name, and who writes it


class StorageError(InputError):
    """A file that could not be written; the message names it and says why."""


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Gives the path of an unfinished file beside `path`, which takes its place once it is on disk; nothing is left of it if anything fails.

    Raises StorageError if the disk or the folder is the reason.
    """
    unfinished = path.with_name(UNFINISHED.format(path.name, os.getpid()))
    try:
        make(path.parent)
        yield unfinished
        sync(unfinished)
        os.replace(unfinished, path)
        sync(path.parent)
    except BaseException as error:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        if (reason := refused(error)) is not None:
            raise StorageError(f"{path}: could not be written ({reason}); what is finished is kept, and the same command goes on from there") from error
        raise


def write(path: Path, text: str) -> Path:
    """Writes a text file, and returns its path. Raises StorageError as `whole` does."""
    with whole(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", newline="\n")
    return path


def refused(error: BaseException) -> str | None:
    """What the system says of why it did not write; None where something else is wrong. Safetensors wraps what it is told."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error) if isinstance(error, SafetensorError) and "os error" in str(error) else None


def make(folder: Path) -> None:
    """Makes a folder and those above it, as far as they are missing, so that their names are on disk."""
    missing = [part for part in (folder, *folder.parents) if not part.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for part in missing:
        sync(part.parent)


def sync(path: Path) -> None:
    """Has a file, or the names in a folder, put on disk; where the system does that for no folder (Windows, some network drives), it is not done."""
    if not path.is_dir():
        with path.open("r+b") as written:
            os.fsync(written.fileno())
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in NO_FOLDERS:
            raise


def sweep(folder: Path, names: str) -> None:
    """Deletes what a killed run left unfinished of such names; only for who knows that no other one writes them."""
    for path in folder.glob(UNFINISHED.format(names, "*")):
        with suppress(OSError):
            path.unlink()


def require(folder: Path, wanted: int) -> None:
    """Raises StorageError if so many bytes do not fit onto the disk of a folder, before work is done whose result could not be kept."""
    there = next(part for part in (folder, *folder.absolute().parents) if part.exists())
    if (free := shutil.disk_usage(there).free) < wanted:
        raise StorageError(
            f"{folder}: {wanted / 2**20:,.0f} MiB of weights are to be written there, and {free / 2**20:,.0f} MiB are free; wanted a larger disk"
        )


def move(path: Path, folder: Path, name: str | None = None) -> None:
    """Into another folder, under the same name unless another is given. Raises StorageError if the disk or a folder refuses."""
    try:
        make(folder)
        os.replace(path, folder / (name or path.name))
    except OSError as error:
        raise StorageError(f"{path}: could not be moved to {folder} ({error.strerror}); nothing is lost, and the same command goes on from there") from error


def writable(folder: Path) -> None:
    """Makes the folder and a file in it for a moment. Raises InputError if that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"--output: {folder}: cannot be written to ({error.strerror})") from error
