"""Draws figures in a process of their own, while the words of their page are still being made; in this one where that is not to be had."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from typing import TypeAlias

from sae_bench_htopk import lines, plugins
from sae_bench_htopk.picture import Picture

Draw: TypeAlias = Callable[[Picture], Callable[[], str]]  # begins a drawing; what it gives waits for it, and answers with the SVG


def here(picture: Picture) -> Callable[[], str]:
    """Draws it when it is asked for, in this process."""
    return partial(lines.svg, picture)


@contextmanager
def aside() -> Iterator[Draw]:
    """Draws in a second process, which is gone at the end; in this one on a machine of one core, or once the other is lost."""
    if (os.cpu_count() or 1) < 2 or (pool := process()) is None:
        yield here
        return

    def draw(picture: Picture) -> Callable[[], str]:
        try:
            return partial(drawn, pool.submit(lines.svg, picture), picture)
        except (BrokenProcessPool, OSError):
            return here(picture)

    try:
        yield draw
    finally:
        pool.shutdown(cancel_futures=True)


def process() -> ProcessPoolExecutor | None:
    """The second process, begun, since it has much to import; None where semaphores or processes are refused."""
    try:
        pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=begin, initargs=(list(plugins.package("variants").__path__),))
        pool.submit(os.getpid)
    except (OSError, ImportError, NotImplementedError, BrokenProcessPool):
        return None
    return pool


def begin(variants: Sequence[str]) -> None:
    """In the second process: variants have the colours that they have in the first, and who interrupts means the first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    plugins.package("variants").__path__[:] = variants


def drawn(future: Future[str], picture: Picture) -> str:
    """What the second process made, or this one if that is gone."""
    try:
        return future.result()
    except BrokenProcessPool:
        return lines.svg(picture)
