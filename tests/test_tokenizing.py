"""Tokens from several processes are those of one, in its order, and no process outlives its parent."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
from transformers import AutoTokenizer

from sae_bench_htopk import suite, tokenizing
from sae_bench_htopk.checkpoint import ASSETS
from sae_bench_htopk.corpus import Corpus
from sae_bench_htopk.reader import Listed
from sae_bench_htopk.text import Document, Hub, TextError
from sae_bench_htopk.tokenizing import Tokenizing, give_up_writing
from sae_bench_htopk.windows import Cut, Position, Window

MODEL = ASSETS / "pycode_gemma2"
ROOT = Path(__file__).parents[1]


def documents(count: int = 150) -> list[Document]:
    """Source of this test in pieces of many lengths, one of them empty, one quoting a special token, some equal."""
    source = Path(__file__).read_text(encoding="utf-8")
    texts = ["", "a <bos> quoted", "é漢\n" * 30, *(source[place : place + 20 + 61 * place % 3000] for place in range(count))]
    return [Document(str(number), text, "") for number, text in enumerate(texts + texts[:20])]


@pytest.fixture(scope="module")
def tokenizer() -> object:
    """Of the embedded model."""
    return AutoTokenizer.from_pretrained(MODEL)


@pytest.mark.parametrize("workers", [1, 2])
def test_windows_are_the_same_for_any_number_of_processes(workers: int, tokenizer: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents, places and ids; what transformers itself makes of a text is the oracle."""
    monkeypatch.setattr(tokenizing, "BATCH", 5000)
    texts = documents()
    plain = [np.array(tokenizer(document.text, add_special_tokens=False, split_special_tokens=True)["input_ids"]) for document in texts]  # type: ignore[operator]
    wanted = list(Cut(texts, lambda text: (plain[next(n for n, one in enumerate(texts) if one.text == text)], None), 32))
    with Tokenizing(tokenizer, workers) as made:
        found = list(Cut(made.ahead(Listed(texts)), made.ids, 32))
        assert not made.made  # nothing was made that no one asked for
    assert [(one.document, one.start, one.ids.tolist()) for one in found] == [(one.document, one.start, one.ids.tolist()) for one in wanted]
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 1])
def test_cutting_goes_on_behind_what_was_read_ahead(workers: int, tokenizer: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a position in a stream of the hub that was JSON, by readers made anew: the same windows as without a break."""
    monkeypatch.setattr(tokenizing, "BATCH", 5000)
    datasets.Dataset.from_dict({"text": [document.text for document in documents(400)]}).to_parquet(tmp_path / "rows.parquet")
    builder = datasets.load_dataset_builder("parquet", data_files={"train": str(tmp_path / "rows.parquet")})
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *_, **__: builder)

    def windows(made: Tokenizing, position: Position | None) -> Cut:
        return Corpus(Hub("some/set", "a" * 40)).windows("train", made.ids, 32, position, made.ahead)

    def shown(some: Iterable[Window]) -> list[tuple[int, int, list[int]]]:
        return [(window.document, window.start, window.ids.tolist()) for window in some]

    with Tokenizing(tokenizer, workers) as made:
        whole = shown(windows(made, None))
        for taken in (1, 500, 2500):
            first = windows(made, None)
            before = shown(islice(first, taken))
            position = first.position()
            state = json.loads(json.dumps(position.documents))
            assert before + shown(windows(made, position._replace(documents=state))) == whole
    assert len(whole) > 4000


@pytest.mark.parametrize("name", ["gemma2_2b", "gemma2_2b_progressive"])
def test_the_suites_of_a_large_gpu_have_further_processes(name: str) -> None:
    """One thread makes fewer tokens than it takes."""
    assert suite.load(name).text.workers == 2


def test_no_more_is_read_ahead_than_has_its_place(tokenizer: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """However far the text goes; and the state is that of what was given, not of what was read."""
    monkeypatch.setattr(tokenizing, "BATCH", 1000)
    plain = Listed([Document(str(number), f"x = {number:05}\n" * 60, "") for number in range(1000)])  # two of them are a batch
    with Tokenizing(tokenizer, 2) as made:
        ahead = made.ahead(plain)
        for number in range(1, 31):
            next(ahead)
            assert number <= plain.given <= number + 2 * tokenizing.AHEAD * 2 and ahead.state() == {"given": number}
            assert len(made.made) <= plain.given
        rest = Listed(plain.items, json.loads(json.dumps(ahead.state())))
        assert [document.name for document in ahead] == [document.name for document in rest] == [str(number) for number in range(30, 1000)]


def test_a_fault_in_a_process_is_the_callers(tokenizer: object) -> None:
    """With its own kind and words; a process that was killed is one sentence."""
    broken = [Document("0", "a lone \ud800", "")]  # a json file may hold half a pair
    said = []
    for workers in (0, 1):
        with Tokenizing(tokenizer, workers) as made, pytest.raises(Exception) as caught:
            made.ids(next(made.ahead(Listed(broken))).text)
        said.append((caught.type, str(caught.value)))
    assert said[0] == said[1]
    with Tokenizing(tokenizer, 1) as made:
        text = next(made.ahead(Listed(documents()))).text
        for child in multiprocessing.active_children():
            os.kill(child.pid or 0, signal.SIGKILL)
        with pytest.raises(TextError, match=r"text\.workers: 1, one of which could not be started, or was ended from outside"):
            made.ids(text)
    assert not multiprocessing.active_children()


def test_a_fault_has_its_turn(tokenizer: object) -> None:
    """What reading ahead meets is raised behind all that was read before it, and reading can go on after it; texts beside a bad one keep their ids."""
    texts = documents()[:9]

    class Breaks(Listed[Document]):
        broken = False

        def __next__(self) -> Document:
            if self.given == 5 and not self.broken:
                self.broken = True
                raise TextError("text: broken")
            return super().__next__()

    with Tokenizing(tokenizer, 1) as made:
        ahead = made.ahead(Breaks(texts))
        assert [next(ahead).name for _ in range(5)] == [text.name for text in texts[:5]]
        assert ahead.state() == {"given": 5}
        with pytest.raises(TextError, match="text: broken"):
            next(ahead)
        assert ahead.state() == {"given": 5}
        assert [document.name for document in ahead] == [text.name for text in texts[5:]]
        good, bad = "x = 1\n", "a lone \ud800"
        ahead = made.ahead(Listed([Document(str(number), text, "") for number, text in enumerate((good, bad, good + good))]))
        assert made.ids(next(ahead).text)[0].tolist() == tokenizing.ids_of(tokenizer, good).tolist()
        with pytest.raises(Exception, match=r"surrogates|TextInputSequence|TextEncodeInput"):
            made.ids(next(ahead).text)
        assert made.ids(next(ahead).text)[0].tolist() == tokenizing.ids_of(tokenizer, good + good).tolist()


BODY = """
import os, signal, sys, threading, time
from transformers import PreTrainedTokenizerFast
from sae_bench_htopk.reader import Listed
from sae_bench_htopk.text import Document, TextError
from sae_bench_htopk.tokenizing import Tokenizing
def main():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which whoever runs the tests in the background has switched off
    with Tokenizing(PreTrainedTokenizerFast.from_pretrained(sys.argv[1]), 2) as made:
        if sys.argv[2:]:
            threading.Timer(0.3, os.killpg, (0, signal.SIGINT)).start()
            made.send(["x = 1"])
            time.sleep(30)
        try:
            made.ids(next(made.ahead(Listed([Document(str(n), "x = 1\\n" * 9, "") for n in range(9)]))).text)
        except TextError as error:
            print(error)
"""


@pytest.mark.parametrize("how", ["file", "stdin"])
def test_a_process_that_dies_while_it_starts_is_one_sentence(how: str, tmp_path: Path) -> None:
    """As in a script that does not ask whether it is the main module, and in one that no process can read: never a parent that waits for ever."""
    script = tmp_path / "script.py"
    script.write_text(BODY + "main()\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    command = [sys.executable, str(script) if how == "file" else "-", str(MODEL)]
    done = subprocess.run(command, input=script.read_text(encoding="utf-8"), capture_output=True, text=True, env=environment, timeout=90, check=False)
    assert done.stdout.splitlines()[-1].startswith("text.workers: 2, one of which could not be started, or was ended from outside"), done.stderr
    assert not list(tmp_path.glob("*.json"))


def test_ctrl_c_while_processes_start_is_the_parents_alone(tmp_path: Path) -> None:
    """They have not come to the point yet where they could say themselves that they do not want it."""
    script = tmp_path / "script.py"
    script.write_text(BODY + "if __name__ == '__main__':\n    main()\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    command = [sys.executable, str(script), str(MODEL), "interrupt"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=90, check=False, start_new_session=True)
    assert done.returncode == -signal.SIGINT and done.stderr.count("Traceback") == 1 and done.stderr.endswith("KeyboardInterrupt\n"), done.stderr
    assert not list(tmp_path.glob("*.json"))


SCRIPT = """
import multiprocessing, sys, time
from transformers import PreTrainedTokenizerFast
from sae_bench_htopk.corpus import Corpus
from sae_bench_htopk.reader import Listed
from sae_bench_htopk.text import Document
from sae_bench_htopk.tokenizing import Tokenizing
if __name__ == "__main__":
    with Tokenizing(PreTrainedTokenizerFast.from_pretrained(sys.argv[2]), 2) as made:
        ahead = made.ahead(Listed([Document(str(n), "x = 1\\n" * 9, "") for n in range(9)]))
        made.ids(next(ahead).text)
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        if sys.argv[1] == "raise":
            raise SystemExit(3)
        time.sleep(60)
"""


@pytest.mark.parametrize("end", ["raise", "kill"])
def test_processes_end_with_their_parent(end: str, tmp_path: Path) -> None:
    """Whether it raises or is killed."""
    script = tmp_path / "parent.py"
    script.write_text(SCRIPT, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, str(script), end, str(MODEL)], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    children = [int(number) for number in parent.stdout.readline().split()]
    assert children
    if end == "kill":
        parent.kill()
    assert parent.wait(60) == (3 if end == "raise" else -signal.SIGKILL)
    parent.stdout.close()
    deadline = time.monotonic() + 30
    while any(alive(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(child) for child in children)
    assert not list(tmp_path.glob("*.json")), "the tokenizer's file is gone too"


def alive(process: int) -> bool:
    """Whether there is such a process; one that has ended and was not asked for counts as gone."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")
    return not (status.is_file() and status.read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] == "Z")


def test_a_pipe_that_its_own_thread_has_closed_ends_nothing() -> None:
    """Where the pool's thread and ours close the same end at one moment, the second finds a closed descriptor."""
    with ProcessPoolExecutor(1) as pool, pytest.MonkeyPatch.context() as patch:
        one, other = multiprocessing.Pipe(duplex=False)
        os.close(one.fileno())  # as its thread would, between our look and our close
        patch.setattr(pool, "_broken", "a process is gone")
        patch.setattr(pool, "_call_queue", SimpleNamespace(_reader=one))
        give_up_writing(pool)
    assert one.closed
    other.close()
