"""Random numbers of one's own for code that draws from torch's global source, so that nobody else's draws change them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class Chance:
    """The state of torch's source on the host and, where the work is done on a GPU, of that one's."""

    def __init__(self, seed: int, device: torch.device) -> None:
        """As torch.manual_seed leaves them."""
        self.states = {"random": torch.Generator().manual_seed(seed).get_state()}
        self.device = device
        if device.type == "cuda":
            self.states["random_cuda"] = torch.Generator(device).manual_seed(seed).get_state()

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Whatever is drawn meanwhile comes from here, and goes on from there the next time; the global source is then what it was."""
        before = {"random": torch.get_rng_state()} | ({"random_cuda": torch.cuda.get_rng_state(self.device)} if "random_cuda" in self.states else {})
        self.put(self.states)
        try:
            yield
        finally:
            self.states = {"random": torch.get_rng_state()} | ({"random_cuda": torch.cuda.get_rng_state(self.device)} if "random_cuda" in before else {})
            self.put(before)

    def put(self, states: dict[str, Tensor]) -> None:
        """Makes these the global ones."""
        torch.set_rng_state(states["random"])
        if "random_cuda" in states:
            torch.cuda.set_rng_state(states["random_cuda"], self.device)
