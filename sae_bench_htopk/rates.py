"""What GPUs that need not be here can do, and where each number is from: for plans alone.

Measured on one of each are a product in bfloat16 and a copy. The rate of a product in float32, as SAEs make it, is the maker's peak, which no program
exceeds; no training step has been timed on a GPU yet. So a plan for one of these says the least time, and whoever measures more adds it here.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """One GPU: operations per second of products, bytes per second of a copy (read and written), bytes that are free; what was measured, where and when."""

    bfloat16: float
    float32: float  # the maker's peak, without TF32, which torch leaves off
    copy: float
    memory: int  # that CUDA reports free once its context is there, which is less than the board has
    device: str
    what: str


MEASURED: Mapping[str, Rate] = {
    "H100": Rate(
        798e12, 67e12, 3.0e12, 78 * 2**30, "NVIDIA H100 80GB HBM3", "a bf16 product of 8192 x 8192 x 8192 and a copy in PyTorch, one machine, 2026-11-13"
    ),
    "H200": Rate(
        788e12,
        67e12,
        4.3e12,
        139 * 2**30,
        "NVIDIA H200",
        "a bf16 product of 8192 x 8192 x 8192, the mean of ten, and a copy in PyTorch, one machine, 2026-10-28",
    ),
}
PEAK = "NVIDIA's data sheet"  # of H100 SXM and H200 alike, whose float32 peaks are the same
