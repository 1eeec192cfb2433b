"""Who holds an output folder: one of many at once, until it ends or is gone."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
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


def another(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own."""
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def holder(**changes: object) -> str:
    """What a lock of this very process would say, but for the changes."""
    return json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": "2026-11-22T03:00:00+00:00", "began": None, **changes})


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
    """This process has the number, but began at another time; without a time it counts as the holder."""
    path = tmp_path / "run.lock"
    path.write_text(holder(began="1"))
    with held(path):
        assert path.exists()
    path.write_text(holder())
    with pytest.raises(LockedError, match="another run holds"), held(path):
        pass


def test_a_lock_of_another_host_says_how_to_remove_it_and_stays(tmp_path: Path) -> None:
    """Nobody here can see whether its process runs."""
    path = tmp_path / "run.lock"
    path.write_text(holder(host="elsewhere", pid=1))
    with pytest.raises(LockedError, match=r"process 1 on elsewhere.*if it is over, delete this file"), held(path):
        pass
    assert "elsewhere" in path.read_text()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"pid": "x", "host": "a", "since": "b", "began": null}'])
def test_a_lock_that_says_nothing_is_named(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while in which its maker might have written it."""
    monkeypatch.setattr(lock, "PAUSE", 0.0)
    (path := tmp_path / "run.lock").write_text(text)
    with pytest.raises(LockedError, match=r"run\.lock: does not say.*delete this file"), held(path):
        pass
    assert path.read_text() == text


def test_of_many_that_find_a_dead_ones_lock_one_takes_it_over(tmp_path: Path) -> None:
    """Eight at the same moment, three times."""
    for turn in range(3):
        path = tmp_path / f"{turn}.lock"
        path.write_text(holder(pid=2**22 + 1))  # beyond the largest number that Linux gives
        many = [another(RACE, path, time.time() + 1.5) for _ in range(8)]
        assert sorted(one.communicate()[0] for one in many) == ["held\n"] + ["refused\n"] * 7


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """Here since a file is in its place."""
    (tmp_path / "runs").write_text("")
    with pytest.raises(StorageError, match=r"--output: .*runs/small: cannot be written to"), held(tmp_path / "runs" / "small" / "run.lock"):
        pass
