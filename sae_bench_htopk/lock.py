"""One run of a suite at a time in an output folder: a file there says which process holds it.

The file is made with O_CREAT | O_EXCL, of which one of two processes gets it also on most network drives. A lock by flock alone would go
with its process, but says nothing of who holds it, and on some network drives another host does not see it. The price is a file that a
killed run leaves: where its process could be seen, it is seen that it is gone, and the lock is taken over; where it could not, as in another container
under the same host name, the message says to delete the file. flock only keeps two from taking over at once.
"""

import json
import os
import socket
import sys
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

PROCESSES = Path("/proc")  # where Linux says of a process when it began, and in which container and since which boot its number counts
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
    namespace: str | None  # within which the number is the process's own: each container has one, and they may share a host name
    boot: str | None  # since when numbers and times count; another one may also be another machine of the same name

    @classmethod
    def here(cls) -> "Holder":
        """This process."""
        return cls(os.getpid(), socket.gethostname(), datetime.now(UTC).isoformat(timespec="seconds"), began(os.getpid()), namespace(), boot())

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"

    def runs(self) -> bool | None:
        """Whether it still runs; None where that cannot be told from here."""
        if not self.is_in_sight():
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:  # it is another user's
            pass
        now = began(self.pid)
        return None if now is None or self.began is None else now == self.began

    def is_in_sight(self) -> bool:
        """Whether its number means the same process here; a lock that was left by an earlier version does not say."""
        if os.name != "posix" or self.host != socket.gethostname():  # elsewhere than on POSIX, os.kill would end the process
            return False
        told = self.namespace, self.boot  # Linux has both, but for containers that hide one; other systems have no such containers
        return told == (namespace(), boot()) and (None not in told or sys.platform != "linux")


def began(pid: int) -> str | None:
    """When a process began, as Linux counts; "ended" for one that only waits to be forgotten; None where nothing is said."""
    try:
        if os.readlink(PROCESSES / "self") != str(os.getpid()):  # it counts the processes of another namespace
            return None
        parts = (PROCESSES / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return "ended" if parts[0] in "ZX" else parts[19]


def namespace() -> str | None:
    """Which processes have numbers of their own beside this one; None where the system does not say."""
    try:
        return os.readlink(PROCESSES / "self" / "ns" / "pid")
    except OSError:
        return None


def boot() -> str | None:
    """Which start of the system this is; None where it does not say."""
    try:
        return (PROCESSES / "sys" / "kernel" / "random" / "boot_id").read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


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
    """Removes the lock of a process that is gone; comes back a little later if it says nothing yet.

    Raises LockedError if it is held, or if that cannot be told, and StorageError if it cannot be read or removed.
    """
    try:
        with path.open(encoding="utf-8", errors="replace") as file, alone(file):
            if not is_at(path, file):  # somebody was faster
                return
            if (holder := holder_of(file.read())) is None:
                time.sleep(PAUSE)
            elif (runs := holder.runs()) is False:
                path.unlink()
                note(f"{path}: left by {holder}, which is gone; taken over")
            else:
                unseen = "" if runs else "; if it is over, delete this file, since that cannot be seen from here"
                raise LockedError(f"{path}: another run holds this output folder: {holder}; wait until it has ended, or give another --output{unseen}")
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(
            f"{path}: a run holds this output folder or has left its lock, which cannot be read and removed ({error.strerror}); "
            "if none is going on there, delete this file, or give another --output"
        ) from error


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
        began, namespace, boot = (said.get(name) and str(said[name]) for name in ("began", "namespace", "boot"))  # earlier locks lack the last two
        return Holder(int(said["pid"]), str(said["host"]), str(said["since"]), began, namespace, boot)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def release(path: Path, mine: Holder) -> None:
    """Removes the lock if it is one's own."""
    with suppress(OSError):
        if holder_of(path.read_text(encoding="utf-8", errors="replace")) == mine:
            path.unlink()
