"""One run of a suite at a time in an output folder: a file there says which process holds it.

The file is made with O_CREAT | O_EXCL, of which one of two processes gets it also on most network drives. A lock by flock alone would go
with its process, but says nothing of who holds it, and on some network drives another host does not see it. The price is a file that a
killed run leaves: on the same host it is seen that its process is gone, and the lock is taken over. flock only keeps two from taking over at once.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from sae_bench_htopk.errors import InputError
from sae_bench_htopk.progress import note
from sae_bench_htopk.storage import StorageError

PROCESSES = Path("/proc")  # where Linux says of a process when it began
TRIES, PAUSE = 20, 0.05  # a lock that has been made a moment ago may not say yet who holds it


class LockedError(InputError):
    """Another run holds the output folder; the message says who, since when, and what to do."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock."""

    pid: int
    host: str
    since: str
    began: str | None  # of the process, in the host's own count: another process may get the same number later

    @classmethod
    def here(cls) -> "Holder":
        """This process."""
        return cls(os.getpid(), socket.gethostname(), datetime.now(UTC).isoformat(timespec="seconds"), began(os.getpid()))

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"

    def is_gone(self) -> bool:
        """Whether it is a process of this host that runs no more; where that cannot be told, it is not gone."""
        if self.host != socket.gethostname() or os.name != "posix":  # elsewhere than on POSIX, os.kill would end the process
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # it is another user's
            pass
        return (now := began(self.pid)) is not None and self.began is not None and now != self.began


def began(pid: int) -> str | None:
    """When a process began, as Linux counts; "ended" for one that only waits to be forgotten; None where nothing is said."""
    try:
        parts = (PROCESSES / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return "ended" if parts[0] in "ZX" else parts[19]


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Holds the lock at `path` for as long as the context lasts. Raises LockedError if another run does, StorageError if it cannot be made."""
    folders = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    mine = Holder.here()
    try:
        claim(path, mine)
        yield
    finally:
        release(path, mine)
        for folder in folders:  # a run that came to nothing leaves nothing
            with suppress(OSError):
                folder.rmdir()


def claim(path: Path, mine: Holder) -> None:
    """Makes the lock, or takes over that of a process that is gone."""
    for _ in range(TRIES):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            clear(path)
            continue
        except OSError as error:
            raise StorageError(f"--output: {path.parent}: cannot be written to ({error.strerror})") from error
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(json.dumps(asdict(mine)))
        except OSError as error:
            path.unlink(missing_ok=True)
            raise StorageError(f"{path}: could not be written ({error.strerror})") from error
        return
    raise LockedError(f"{path}: does not say which run holds it; if none is going on there, delete this file")


def clear(path: Path) -> None:
    """Removes the lock of a process that is gone. Raises LockedError if it is held; comes back a little later if it says nothing yet."""
    try:
        with path.open(encoding="utf-8") as file, alone(file):
            if not is_at(path, file):  # somebody was faster
                return
            if (holder := holder_of(file.read())) is None:
                time.sleep(PAUSE)
            elif holder.is_gone():
                note(f"{path}: left by {holder}, which is gone; taken over")
                path.unlink()
            elif holder.host == socket.gethostname():
                raise LockedError(f"{path}: another run holds this output folder: {holder}; wait until it has ended, or give another --output")
            else:
                raise LockedError(f"{path}: a run holds this output folder: {holder}; if it is over, delete this file, since that cannot be seen from here")
    except FileNotFoundError:
        return


@contextmanager
def alone(file: IO[str]) -> Iterator[None]:
    """Of all processes of this host only one at a time is in here with the same file; where there is no flock, they are not kept apart."""
    try:
        import fcntl  # absent on Windows

        fcntl.flock(file, fcntl.LOCK_EX)
    except (ImportError, OSError):
        pass
    yield


def is_at(path: Path, file: IO[str]) -> bool:
    """Whether an open file is still the one at a path. Raises FileNotFoundError."""
    return os.path.samestat(path.stat(), os.fstat(file.fileno()))


def holder_of(text: str) -> Holder | None:
    """What a lock says; None if that is nothing."""
    try:
        said = json.loads(text)
        return Holder(int(said["pid"]), str(said["host"]), str(said["since"]), said["began"] and str(said["began"]))
    except (ValueError, KeyError, TypeError):
        return None


def release(path: Path, mine: Holder) -> None:
    """Removes the lock if it is one's own."""
    with suppress(OSError):
        if holder_of(path.read_text(encoding="utf-8")) == mine:
            path.unlink()
