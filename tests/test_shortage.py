"""Running out of memory is one sentence that names who ran out, on the CPU as the system really says it."""

import errno
import mmap
import os
import re
import weakref

import pytest
import torch

from sae_bench_htopk import plugins, shortage
from sae_bench_htopk.contract import Step
from sae_bench_htopk.shortage import OutOfMemory
from sae_bench_htopk.trainer import Learner, Recipe, train
from tests.synthetic import D, batches, units

WAYS = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("not enough memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("std::bad_alloc"),
    OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    OSError(errno.ENOMEM, "Kein Speicher verfügbar"),
]


@pytest.mark.parametrize("error", WAYS, ids=repr)
def test_every_way_of_saying_it(error: Exception) -> None:
    """With what was said, if anything was."""
    with pytest.raises(OutOfMemory, match=r"^topk: out of memory.*; wanted less$"), shortage.named("topk", "wanted less"):
        raise error


def test_what_torch_says_on_a_cpu_is_understood() -> None:
    """A quarter of an exbibyte is asked of the real allocator."""
    with pytest.raises(OutOfMemory, match="topk: out of memory"), shortage.named("topk", "wanted less"):
        torch.empty(2**58, dtype=torch.uint8)


def test_other_errors_stay_what_they_are() -> None:
    """Of the same kinds, and of others."""
    for error in (RuntimeError("shapes differ"), ValueError("out of memory"), FileNotFoundError(errno.ENOENT, "No such file", "out of memory.json")):
        with pytest.raises(type(error), match=re.escape(str(error))), shortage.named("topk", "wanted less"):
            raise error


def test_what_the_system_says_is_understood() -> None:
    """More than all addresses of a process are asked of mmap."""
    with pytest.raises(OutOfMemory, match="topk: out of memory"), shortage.named("topk", "wanted less"):
        mmap.mmap(-1, 2**56)


def test_a_step_without_memory_names_the_sae_and_what_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variant that asks for too much in its third step: batch, latents and the number of SAEs are said; what it held is free."""
    kind, recipe = plugins.variant("topk"), Recipe(tokens=10 * 128, batch=128, latents=64)
    step, taken, held = kind.step, list[int](), list[weakref.ref[torch.Tensor]]()

    def greedy(self: object, x: torch.Tensor) -> Step:
        taken.append(len(x))
        if len(taken) == 5:
            held.append(weakref.ref(large := torch.empty(1000)))
            torch.empty(len(large) * 2**50, dtype=torch.uint8)
        return step(self, x)

    monkeypatch.setattr(kind, "step", greedy)
    learners = [Learner(kind(kind.Config(k=4), D, 64, seed), recipe, units().statistics) for seed in (0, 1)]
    learners[0].label = "topk (k 4; seed 0)"
    said = "topk (k 4; seed 0): out of memory"
    with pytest.raises(OutOfMemory, match=rf"^{re.escape(said)}.*train\.batch \(128 now\).*train\.latents.*64 now.*--at-once; 2 now") as caught:
        list(train(learners, batches(10, 128)))
    assert learners[0].tokens == 2 * 128 and held[0]() is None and caught.value.__suppress_context__
