"""Times representational_similarity: what one reading costs beyond the first, with 100 draws of documents.

python -m tests.bench.similarity
"""

import time

import torch

from sae_bench_htopk import plugins
from sae_bench_htopk.contract import Batch, Codes, Setting, Statistics, Text
from sae_bench_htopk.resampling import draws
from tests.made_up_text import Rest

D, LATENTS, K, DOCUMENTS, BATCH, BATCHES = 192, 2048, 32, 105, 4096, 50


def batch(number: int) -> Text:
    """Rows on a curved spectrum, from all documents in turn."""
    random = torch.Generator().manual_seed(number)
    x = torch.randn(BATCH, D, generator=random) / torch.arange(1, D + 1) ** 0.5
    row = torch.arange(BATCH)
    nothing = torch.zeros(BATCH, 2, dtype=torch.long)
    place = number * BATCH + row
    return Text(x, place % DOCUMENTS, place // DOCUMENTS, row, nothing, row < 0, [""] * DOCUMENTS, Rest(x, row >= 0, x[:, 0]))


def read(text: Text, W: torch.Tensor) -> Batch:
    """A TopK reading by random unit directions."""
    values, latents = (text.x @ W.T).relu().topk(K)
    codes = Codes(values.flatten(), latents.flatten(), torch.arange(BATCH + 1) * K)
    return Batch(text, text.x + 0.02 * torch.randn_like(text.x), codes)


def main() -> None:
    """Prints milliseconds of processor time: per reading for the stream of moments and the sample, and for the rest at the end."""
    torch.set_num_threads(1)
    W = torch.nn.functional.normalize(torch.randn(LATENTS, D, generator=torch.Generator().manual_seed(0)), dim=1)
    texts = [batch(number) for number in range(BATCHES)]
    covariance = torch.cov(texts[0].x.T)
    setting = Setting(D, LATENTS, LATENTS, DOCUMENTS, K, (BATCH * BATCHES // DOCUMENTS,) * DOCUMENTS, W.norm(dim=1), Statistics(texts[0].x.mean(0), covariance))
    metrics, spent = [plugins.metric("representational_similarity")(setting) for _ in range(3)], [0.0] * 3
    for text in texts:
        reading = read(text, W)
        for number, metric in enumerate(metrics):
            begun = time.process_time()
            metric.update(reading)
            spent[number] += time.process_time() - begun
    for number, metric in enumerate(metrics):
        begun = time.process_time()
        answers = metric.results(draws(DOCUMENTS))
        print(f"reading {number}: {BATCHES * BATCH:,} rows {1000 * spent[number]:.0f} ms, results {1000 * (time.process_time() - begun):.0f} ms")
    print(answers[0])


if __name__ == "__main__":
    main()
