"""What benchmarks say of the machine, and how they measure memory on it (Linux)."""

import ctypes
import gc
import os
import platform
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch

from sae_bench_htopk import choose


def machine() -> str:
    """The processor, its cores, torch, and the day, on one line."""
    known = dict(re.findall(r"^(model name|cpu family|model)\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE))
    processor = f"{known.get('model name', platform.machine())} (family {known.get('cpu family')}, model {known.get('model')})"
    bfloat16 = "bfloat16 products" if choose.has_bfloat16() else "no bfloat16 products"
    return f"{processor}, {bfloat16}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}, {datetime.now(UTC):%Y-%m-%d}"


def status(key: str) -> int:
    """A line of this process's status, in kB."""
    return int(re.findall(rf"{key}:\s+(\d+)", Path("/proc/self/status").read_text())[0])


def extra_memory(step: Callable[[], object]) -> float:
    """MB that one call held at most beyond what was held before it; what malloc keeps of earlier calls is given back first."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    step()
    return (status("VmHWM") - before) / 1024
