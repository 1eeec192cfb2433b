"""Who made a number, with what and when: enough to make it again."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("sae_bench_htopk", "torch", "transformers", "tokenizers", "datasets", "safetensors", "numpy", "scikit-learn", "scipy")
CODE = ("sae_bench_htopk", "variants", "metrics", "suites")


def provenance(device: str) -> dict[str, Any]:
    """Commit, versions, machine, device, threads, determinism, memory and time of the work that is being done now."""
    return {
        **commit(),
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "peak_memory": peak_memory(device),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def peak_memory(device: str) -> dict[str, int | None]:
    """Bytes that this process held at most: on the host, and on the GPU if it works there; None where the system does not tell."""
    try:
        import resource  # absent on Windows

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        host = most if sys.platform == "darwin" else 1024 * most
    except ImportError:
        host = None
    return {"host": host, "device": torch.cuda.max_memory_allocated() if device == "cuda" else None}


def resident() -> int | None:
    """Bytes that this process holds now on the host; None where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, AttributeError, ValueError):
        return None


def version(name: str) -> str | None:
    """The installed version; None in a bare checkout."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> dict[str, Any]:
    """The checkout's commit and whether files differ from it; None where there is no checkout or no git."""
    top = Path(__file__).resolve().parents[1]
    if not (top / ".git").exists():
        return {"commit": None, "dirty": None}
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=top, capture_output=True, text=True, check=True).stdout.strip()
        dirty = subprocess.run(["git", "status", "--porcelain", "--", *CODE], cwd=top, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}
    return {"commit": head, "dirty": bool(dirty)}
