"""What benchmarks of a training step train on: sparse mixtures of directions, as many as wanted."""

import torch
from torch import Tensor


def data(d: int, batch: int, count: int) -> list[Tensor]:
    """Batches of 24 of 4 d directions each, with frequencies as 1 / rank, and noise; mean squared norm 1."""
    random = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(4 * d, d, generator=random), dim=1)
    odds = (1 / torch.arange(1, 4 * d + 1)).expand(batch, -1)
    made = []
    for _ in range(count):
        chosen = torch.multinomial(odds, 24, generator=random)
        x = torch.nn.functional.embedding_bag(chosen, directions, per_sample_weights=torch.rand(batch, 24, generator=random) + 0.2, mode="sum")
        made.append(x + 0.05 * torch.randn(batch, d, generator=random))
    scale = torch.cat(made).square().sum(1).mean().sqrt()
    return [x / scale for x in made]
