"""Says on stderr how far a phase is and how fast: one line that moves on a terminal, plain lines elsewhere."""

import sys
import time
from typing import TextIO


class Progress:
    """One phase of work, counted in tokens; use it as a context manager."""

    def __init__(self, phase: str, total: int, before: int = 0, out: TextIO | None = None) -> None:
        """`total` is in tokens, of which some were done `before`; `out` is stderr if not given."""
        self.phase, self.total, self.before, self.out = phase, total, before, out or sys.stderr
        self.live = self.out.isatty()
        self.done = before
        self.started = self.said = time.monotonic()

    def __enter__(self) -> "Progress":
        """Starts the clock."""
        self.started = self.said = time.monotonic()
        return self

    def reach(self, tokens: int) -> None:
        """So many tokens are done; says so every second on a terminal, every 15 seconds elsewhere."""
        self.done = tokens
        if time.monotonic() - self.said > (1 if self.live else 15):
            self.say()

    def say(self, end: str = "") -> None:
        """Prints the state."""
        self.said = time.monotonic()
        rate = (self.done - self.before) / max(self.said - self.started, 1e-9)
        line = f"{self.phase}: {self.done:,} of {self.total:,} tokens, {rate:,.0f} tokens/s{end}"
        self.out.write(f"\r\033[K{line}" if self.live else f"{line}\n")
        self.out.flush()

    def __exit__(self, *error: object) -> None:
        """Closes the line with the time that the phase took."""
        self.say(f", {time.monotonic() - self.started:.0f} s")
        if self.live:
            self.out.write("\n")


def note(line: str) -> None:
    """One line on stderr."""
    print(line, file=sys.stderr, flush=True)
