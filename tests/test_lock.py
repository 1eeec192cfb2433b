"""Who holds an output folder: one of many at once, until it ends or is gone."""

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from sae_bench_htopk import lock
from sae_bench_htopk.lock import LockedError, held
from sae_bench_htopk.storage import StorageError

HOLD = (
    "import sys, time; from pathlib import Path; from sae_bench_htopk.lock import held\nwith held(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
)
RACE = """
import sys, time
from pathlib import Path
from sae_bench_htopk.lock import LockedError, held
while time.time() < float(sys.argv[2]): pass
try:
    with held(Path(sys.argv[1])):
        print("held", flush=True)
        time.sleep(3)
except LockedError:
    print("refused", flush=True)
"""
GONE = 2**22 + 1  # beyond the largest number that Linux gives a process
UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")  # what it runs has the numbers of its processes to itself, as in a container


def another(code: str, *arguments: object, within: Sequence[str] = ()) -> subprocess.Popen[str]:
    """A process of its own."""
    return subprocess.Popen([*within, sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def holder(**changes: object) -> str:
    """What a lock of this very process would say, but for the changes."""
    seen = {"namespace": lock.namespace(), "boot": lock.boot()}
    return json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": "2026-11-22T03:00:00+00:00", "began": None, **seen, **changes})


@pytest.fixture
def container() -> Sequence[str]:
    """The beginning of a command that runs another in a namespace of its own, under the same host name."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare here, which makes a namespace of processes")
    for command in (UNSHARE, (*UNSHARE, "--user", "--map-root-user")):
        if subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            return command
    pytest.skip("no namespace of processes may be made here")


def test_a_lock_is_there_while_it_is_held_and_nothing_is_left_after(tmp_path: Path) -> None:
    """Not even the folders that were made for it; those that were there stay."""
    path = tmp_path / "runs" / "small" / "run.lock"
    with held(path):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []
    path.parent.mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt), held(path):
        raise KeyboardInterrupt
    assert path.parent.is_dir() and not path.exists()


def test_a_second_process_is_told_who_holds_it_and_a_killed_ones_lock_is_taken_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Process, host and since when; SIGKILL leaves the file, also while the dead process has not been waited for."""
    path = tmp_path / "run.lock"
    other = another(HOLD, path)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    with pytest.raises(LockedError, match=rf"process {other.pid} on {socket.gethostname()}, since 20.*another --output"), held(path):
        pass
    assert path.exists()
    other.send_signal(signal.SIGKILL)
    while lock.began(other.pid) != "ended":
        time.sleep(0.01)
    with held(path):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    other.wait()
    other.stdout.close()
    assert f"left by process {other.pid}" in capsys.readouterr().err and not path.exists()


def test_a_number_that_another_process_has_now_is_not_the_holder(tmp_path: Path) -> None:
    """This process has the number, but began at another time; without a time it counts as the holder, and how to go on if it is not is said."""
    path = tmp_path / "run.lock"
    path.write_text(holder(began="1"))
    with held(path):
        assert path.exists()
    path.write_text(holder())
    with pytest.raises(LockedError, match=r"another run holds.*if it is over, delete this file"), held(path):
        pass


def test_what_runs_in_a_container_of_the_same_host_name_keeps_its_lock(tmp_path: Path, container: Sequence[str]) -> None:
    """It is process 1 there, which here is another one that began at another time; a number of here is none there."""
    path = tmp_path / "run.lock"
    other = another(HOLD, path, within=container)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    said = json.loads(path.read_text())
    assert said["pid"] == 1 and said["host"] == socket.gethostname()
    with pytest.raises(LockedError, match=r"process 1 on .*if it is over, delete this file"), held(path):
        pass
    assert json.loads(path.read_text()) == said
    other.kill()
    other.communicate()
    path.unlink()
    with held(path):
        inside = another(RACE, path, 0, within=container)
        assert inside.communicate()[0] == "refused\n" and json.loads(path.read_text())["pid"] == os.getpid()


def stand_in(folder: Path, namespace: str | None, boot: str | None) -> Path:
    """What Linux says of itself and of this process, in another folder; of None nothing."""
    own = folder / str(os.getpid())
    (own / "ns").mkdir(parents=True)
    (own / "stat").write_text(f"{os.getpid()} (a name) with a bracket) S" + " 0" * 18 + " 4711 0")
    (folder / "self").symlink_to(own.name)
    if namespace:
        (own / "ns" / "pid").symlink_to(namespace)
    if boot:
        (kernel := folder / "sys" / "kernel" / "random").mkdir(parents=True)
        (kernel / "boot_id").write_text(f"{boot}\n")
    return folder


@pytest.mark.parametrize(
    ("here", "told", "platform", "gone"),
    [
        (("pid:[1]", "a"), {"namespace": "pid:[1]", "boot": "a"}, "linux", True),
        (("pid:[1]", "a"), {"namespace": "pid:[2]", "boot": "a"}, "linux", False),
        (("pid:[1]", "a"), {"namespace": "pid:[1]", "boot": "b"}, "linux", False),
        (("pid:[1]", "a"), {"namespace": None, "boot": "a"}, "linux", False),
        (("pid:[1]", "a"), {}, "linux", False),
        (("pid:[1]", None), {"namespace": "pid:[1]", "boot": None}, "linux", False),
        ((None, None), {"namespace": None, "boot": None}, "linux", False),
        ((None, None), {"namespace": None, "boot": None}, "darwin", True),
        ((None, None), {}, "darwin", True),
        ((None, None), {"namespace": "pid:[1]", "boot": "a"}, "darwin", False),
    ],
)
def test_a_process_that_is_not_here_is_gone_only_where_it_would_be_seen(
    here: tuple[str | None, str | None], told: dict[str, str | None], platform: str, gone: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the namespace and since the boot that the lock names; where the system has neither, a host's name is enough, and on Linux it is not."""
    monkeypatch.setattr(lock, "PROCESSES", stand_in(tmp_path / "proc", *here))
    monkeypatch.setattr(lock.sys, "platform", platform)
    path, said = tmp_path / "run.lock", json.loads(holder(pid=GONE))
    path.write_text(json.dumps({key: value for key, value in said.items() if key not in ("namespace", "boot")} | told))
    if gone:
        with held(path):
            assert json.loads(path.read_text())["pid"] == os.getpid()
    else:
        with pytest.raises(LockedError, match="if it is over, delete this file"), held(path):
            pass


def test_processes_of_another_namespace_are_not_taken_for_those_of_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder may show processes whose numbers count elsewhere; there this process has another number."""
    monkeypatch.setattr(lock, "PROCESSES", stand_in(tmp_path / "proc", "pid:[1]", "a"))
    assert lock.began(os.getpid()) == "4711"
    (tmp_path / "proc" / "self").unlink()
    (tmp_path / "proc" / "self").symlink_to("1")
    assert lock.began(os.getpid()) is None


def test_a_lock_of_another_host_says_how_to_remove_it_and_stays(tmp_path: Path) -> None:
    """Nobody here can see whether its process runs."""
    path = tmp_path / "run.lock"
    path.write_text(holder(host="elsewhere", pid=1))
    with pytest.raises(LockedError, match=r"process 1 on elsewhere.*if it is over, delete this file"), held(path):
        pass
    assert "elsewhere" in path.read_text()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\udcff", '{"pid": "x", "host": "a", "since": "b", "began": null}'])
def test_a_lock_that_says_nothing_is_named(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while in which its maker might have written it."""
    monkeypatch.setattr(lock, "PAUSE", 0.0)
    (path := tmp_path / "run.lock").write_bytes(data := text.encode(errors="surrogateescape"))
    with pytest.raises(LockedError, match=r"run\.lock: does not say.*delete this file"), held(path):
        pass
    assert path.read_bytes() == data


def test_of_many_that_find_a_dead_ones_lock_one_takes_it_over(tmp_path: Path) -> None:
    """Eight at the same moment, three times."""
    for turn in range(3):
        path = tmp_path / f"{turn}.lock"
        path.write_text(holder(pid=GONE))
        many = [another(RACE, path, time.time() + 1.5) for _ in range(8)]
        assert sorted(one.communicate()[0] for one in many) == ["held\n"] + ["refused\n"] * 7


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """Here since a file is in its place."""
    (tmp_path / "runs").write_text("")
    with pytest.raises(StorageError, match=r"--output: .*runs/small: cannot be written to"), held(tmp_path / "runs" / "small" / "run.lock"):
        pass


@pytest.mark.parametrize(("place", "refusal"), [("unlink", errno.EROFS), ("open", errno.EACCES)])
def test_a_lock_that_cannot_be_read_or_removed_is_named(
    place: str, refusal: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A killed run's on a disk that is read-only by now, and another user's: one sentence, and nothing is said to be taken over."""
    (path := tmp_path / "run.lock").write_text(holder(pid=GONE))

    def refused(*_: object, **__: object) -> None:
        raise OSError(refusal, os.strerror(refusal), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, place, refused)
        with pytest.raises(StorageError, match=rf"run\.lock: .*{os.strerror(refusal)}.*delete this file, or give another --output"), held(path):
            pass
    assert path.exists() and "taken over" not in capsys.readouterr().err
