"""Turns running out of memory into one sentence: who ran out, and which settings take less."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import clear_frames

import torch

from sae_bench_htopk.errors import InputError

WORDS = (  # of torch on the CPU, of C++, and of CUDA's libraries, to whose errors torch gives no kind of their own
    "not enough memory", "out of memory", "can't allocate memory", "cannot allocate memory", "std::bad_alloc", "status_alloc_failed", "_allocation_failed",
)  # fmt: skip


class OutOfMemory(InputError):
    """A device has no memory left for what is asked of it; the message says who wanted it, and what to change."""


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that memory has run out; on the CPU torch says it in words alone, the system by number, since its words are in any language."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error).lower() for words in WORDS)


@contextmanager
def named(who: str, advice: str) -> Iterator[None]:
    """Raises OutOfMemory, which begins with `who` and ends with `advice`, where memory runs out; whatever else happens is not touched."""
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not is_shortage(error):
            raise
        clear_frames(error.__traceback__)  # they hold the memory that is short, and a page may still be written
        said = " ".join(str(error).split())[:160]
        raise OutOfMemory(f"{who}: out of memory{f' ({said})' if said else ''}; {advice}") from None


def of_step(batch: int, latents: int, together: int | None) -> str:
    """What to change where an SAE has no room, or none for a step beside the others of so many in one pass (None: of those that are here)."""
    fewer = "" if together == 1 else f", or fewer SAEs in one pass over the text (--at-once{'' if together is None else f'; {together} now'})"
    return f"wanted a smaller train.batch ({batch:,} now), fewer latents (train.latents, or the entry's own; {latents:,} now){fewer}"


def of_model(context: int, windows: int, block: int) -> str:
    """What to change where the language model cannot give activations."""
    return f"wanted a smaller model.context ({context:,} now, {windows} windows at once), train.block ({block:,} now), or fewer SAEs beside it (--at-once)"


def of_loading(dtype: str) -> str:
    """What to change where the language model does not fit, or the text beside it."""
    smaller = "" if dtype == "bfloat16" else f", model.dtype bfloat16 ({dtype} now)"
    return f"wanted a device with more memory free{smaller}, or another model"


def of_comparing(latents: int, calibration: int) -> str:
    """What to change where SAEs that are measured cannot be compared."""
    return (
        f"wanted a device with more memory free, fewer latents (train.latents, or the entry's own; {latents:,} now), "
        f"or less calibration text (text.calibration.tokens; {calibration:,} now)"
    )
