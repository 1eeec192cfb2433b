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
    gpu = f"{torch.cuda.get_device_name()}; " if torch.cuda.is_available() else ""
    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return f"{gpu}{processor}, {bfloat16}, {threads}, torch {torch.__version__}, {datetime.now(UTC):%Y-%m-%d}"


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


def held(device: str) -> float:
    """MB that this process holds now: on the GPU what tensors hold, on the CPU all of it, after what malloc keeps has been given back."""
    gc.collect()
    if device == "cuda":
        return torch.cuda.memory_allocated() / 2**20
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return status("VmRSS") / 1024


def forget_peak(device: str) -> None:
    """From now on `most_held` knows nothing of before."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def most_held(device: str) -> float:
    """MB that it held at most, so far."""
    return torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else status("VmHWM") / 1024


def finished(device: str) -> float:
    """Now, in seconds, once the device has done all that it was given to do."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def median_ms(step: Callable[[], object], rounds: int = 9) -> float:
    """Median ms of some calls, after one that is not counted."""
    seconds = []
    for _ in range(rounds + 1):
        clock = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - clock)
    return 1000 * statistics.median(seconds[1:])


def products() -> str:
    """What proposals cost at the larger shape of step.py: a batch of [2048, 768] by an encoder of [768, 16384], for one learner and for ten."""
    x, encoders = torch.randn(2048, 768), [torch.randn(16384, 768).bfloat16() for _ in range(10)]
    W, x16, stacked = encoders[0].float(), x.bfloat16(), torch.cat(encoders)
    times = {
        "product in float32": median_ms(lambda: x @ W.T),
        "product in bfloat16": median_ms(lambda: x16 @ encoders[0].T),
        "rounding the batch": median_ms(x.bfloat16),
        "rounding the encoder": median_ms(W.bfloat16),
        "ten products in bfloat16, in turn": median_ms(lambda: [x16 @ one.T for one in encoders], 3),
        "one product by ten stacked encoders": median_ms(lambda: x16 @ stacked.T, 3),
    }
    return "\n".join(f"{name}: {ms:.1f} ms" for name, ms in times.items())


if __name__ == "__main__":
    print(machine())
    print(products())
