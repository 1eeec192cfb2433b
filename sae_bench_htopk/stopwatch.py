"""Seconds that a device works on something: of a CPU by the clock, of a GPU by its own marks, since it runs behind the program."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

MARKS = 256  # pairs of marks that are read together: reading one waits for the GPU


class Stopwatch:
    """Adds up the seconds of what is timed."""

    def __init__(self, device: torch.device) -> None:
        """Starts at 0."""
        self.device, self.known = device, 0.0
        self.marks: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Counts what is done meanwhile, on the device's current stream; nothing if it fails."""
        if self.device.type != "cuda":
            clock = time.perf_counter()
            yield
            self.known += time.perf_counter() - clock
            return
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        yield
        last.record()
        self.marks.append((first, last))
        if len(self.marks) >= MARKS:
            self.read()

    def read(self) -> float:
        """All seconds so far."""
        for first, last in self.marks:
            last.synchronize()
            self.known += first.elapsed_time(last) / 1000
        self.marks = []
        return self.known
