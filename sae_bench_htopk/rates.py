"""What GPUs that need not be here can do, as it was measured on one of each: for plans alone.

Measured is one product of large matrices, so that is what a step can at best come near; no training step has been measured on a GPU yet.
Whoever measures one adds what share of the product's speed it reached.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """One GPU: operations per second of a product, and bytes of memory; and what was measured, where and when."""

    product: float
    memory: int
    device: str
    what: str


PRODUCT = "a bf16 product of 8192 x 8192 x 8192 in PyTorch on random data"
MEASURED: Mapping[str, Rate] = {
    "H100": Rate(798e12, 81_559 * 2**20, "NVIDIA H100 80GB HBM3", f"{PRODUCT}, one machine, 2026-11-13"),
    "H200": Rate(788e12, 143_771 * 2**20, "NVIDIA H200", f"{PRODUCT}, the mean of ten after three warm-ups, 2026-10-28; 769 to 798 on another, 2026-11-04"),
}
