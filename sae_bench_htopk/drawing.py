"""Draws figures in a process of their own, while the words of their page are still being made; in this one where that is not to be had."""

import gc
import importlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

Draw: TypeAlias = Callable[[Any], Callable[[], str]]  # begins the drawing of a Picture; what it gives waits for it, and answers with the SVG


def svg(picture: Any) -> str:
    """The drawing of a Picture. What draws is imported here, so that the second process is begun before the first imports anything."""
    from sae_bench_htopk.svg import svg

    return svg(picture)


def here(picture: Any) -> Callable[[], str]:
    """Draws it when it is asked for, in this process."""
    return partial(svg, picture)


@contextmanager
def aside() -> Iterator[Draw]:
    """Draws in a second process, which is gone at the end; in this one on a machine of one core, or once the other is lost."""
    if (os.cpu_count() or 1) < 2 or (pool := process()) is None:
        yield here
        return

    def draw(picture: Any) -> Callable[[], str]:
        try:
            return partial(drawn, pool.submit(coloured, variants(), picture), picture)
        except (BrokenProcessPool, OSError):
            return here(picture)

    try:
        yield draw
    finally:
        pool.shutdown(cancel_futures=True)


def process() -> ProcessPoolExecutor | None:
    """The second process, begun, since it has much to import; None where semaphores or processes are refused."""
    try:
        pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=begin)
    except (OSError, ImportError, NotImplementedError):
        return None
    try:
        pool.submit(variants)
    except (OSError, BrokenProcessPool):
        pool.shutdown(wait=False)
        return None
    return pool


def begin() -> None:
    """In the second process: who interrupts means the first; and all that drawing wants is imported, which is then left out of looks for garbage."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()
    for name in ("plugins", "svg", "draw_lines"):
        importlib.import_module(f"sae_bench_htopk.{name}")
    gc.freeze()
    gc.enable()


def variants() -> list[str]:
    """The folders of variants that are known."""
    from sae_bench_htopk import plugins

    return list(plugins.package("variants").__path__)


def coloured(folders: Sequence[str], picture: Any) -> str:
    """In the second process the drawing of a Picture, where variants have the colours that they have in the first."""
    from sae_bench_htopk import plugins

    plugins.package("variants").__path__[:] = folders
    return svg(picture)


def drawn(future: Future[str], picture: Any) -> str:
    """What the second process made, or this one if that is gone or has not come to it."""
    if future.cancel():
        return svg(picture)
    try:
        return future.result()
    except BrokenProcessPool:
        return svg(picture)
