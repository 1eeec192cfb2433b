"""What benchmarks say of the machine, and how they measure memory on it (Linux). Run by hand for the speed of its products:

python -m tests.bench.machine
"""

import ctypes
import gc
import os
import platform
import re
import statistics
import time
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


def product_ms(dtype: torch.dtype, rounds: int = 9) -> float:
    """Median ms of the product that makes all scores of a batch at the larger shape of step.py: [2048, 768] by [768, 16384]."""
    x, W = torch.randn(2048, 768).to(dtype), torch.randn(16384, 768).to(dtype)
    seconds = []
    for _ in range(rounds):
        clock = time.perf_counter()
        x @ W.T
        seconds.append(time.perf_counter() - clock)
    return 1000 * statistics.median(seconds)


if __name__ == "__main__":
    print(machine())
    print(f"[2048, 768] by [768, 16384]: float32 {product_ms(torch.float32):.0f} ms, bfloat16 {product_ms(torch.bfloat16):.0f} ms")
