"""How much memory training and measuring SAEs takes, and how much there is: what goes into one pass over the text."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import torch

from sae_bench_htopk import plugins, rates
from sae_bench_htopk.asked import HELD_OUT, metric_of, text_of
from sae_bench_htopk.calibrate import CHUNK
from sae_bench_htopk.contract import Reading, Setting
from sae_bench_htopk.head import KEPT, KEPT_SHARE, LOGITS, ROWS
from sae_bench_htopk.keys import Cell, Training, learners, together
from sae_bench_htopk.stability import LIMIT
from sae_bench_htopk.stream import OPENING_ROWS, ROWS_AT_ONCE, windows_at_once
from sae_bench_htopk.suite import Suite

SHARE = 0.5  # of the memory that is free before the language model is loaded: the rest is for that model and for others
# Bytes for each number in W_enc and W_dec. A step holds their gradients, and at its widest half as much again: in bfloat16, or of AuxK. What it takes
# beside HELD was measured on the CPU at d 256 and 768, 16,384 latents, batches of 512 and 2048, with and without dead latents: at most this.
WEIGHTS, HELD, STEP = 4, 12, 6  # held: the weights and Adam's two moments, all float32
AHEAD = 5  # blocks on a GPU, whose next one is made while one is used: raw, without massive rows and shuffled, and the parts of the next beside their sum
SCORE = 8  # bytes for each vector of a batch and latent: scores, and what is made of them
DOCUMENT = 512  # tokens of a document, where the suite does not say how many documents there are: less than most texts have, so that sums are not too small
SAMPLED = 12_000  # rows in the sample of a text; up to twice as many are held until it is cut
TOKEN = 90  # bytes of a token that is remembered with its place, twice
CHUNKS = 9  # of logits that there are at once at most, counted in a model with a soft cap: the clean ones made again, and what divergences make of both
GROUPS = Path("/sys/fs/cgroup")  # where Linux says what a container may hold
SYSTEM = Path("/proc/meminfo")
Reads: TypeAlias = Iterable[tuple[Training, Cell, Mapping[Reading, Sequence[str]]]]  # readings that are measured side by side, each by which metrics
Copies: TypeAlias = Iterable[tuple[Training, int]]  # a training, and how many variants hold a copy of its weights to read them


def learning(suite: Suite, trainings: Sequence[Training], device: str) -> int:
    """Bytes of a device to train these side by side: what is held, the stream's blocks, and what the largest step makes; gradients are one SAE's at a time."""
    if not trainings:
        return 0
    d, recipe = suite.model.shape.d, suite.train
    held = sum((HELD if kept[-1].kind().trained else WEIGHTS) * 2 * kept[-1].latents * d for kept in together(trainings).values())
    largest = max((training.latents for training in learners(trainings)), default=0)
    return held + largest * (STEP * 2 * d + SCORE * recipe.batch) + (0 if suite.blocks.on == "pinned" and device != "cpu" else blocks(suite, device))


def blocks(suite: Suite, device: str) -> int:
    """Bytes of the stream's blocks, where they are held: the opening, one that is used, and what the next is made of; more where it is made ahead."""
    return 4 * suite.model.shape.d * ((2 if device == "cpu" else AHEAD) * suite.train.block + OPENING_ROWS)


def subject(suite: Suite) -> int:
    """Bytes of the language model's weights, from its shape: its layers, and one matrix of the vocabulary."""
    shape = suite.model.shape
    return (shape.of_layer() * shape.layers + shape.d * shape.vocab) * (2 if suite.model.dtype == "bfloat16" else 4)


def snapshot(suite: Suite, trainings: Iterable[Training]) -> int:
    """Bytes on the host of what a snapshot copies there at once: the largest SAE in training, with its moments."""
    return max((HELD * 2 * training.latents * suite.model.shape.d for training in learners(trainings)), default=0)


def splices(metric: str) -> bool:
    """Whether a metric runs the rest of the language model at each reading, as its source says."""
    return "attr='spliced'" in plugins.code_of(plugins.source_file("metrics", metric_of(metric)))


def splicing(suite: Suite, device: str) -> int:
    """Bytes that predictions take: a float32 copy of the output embedding, the clean model's log-probabilities if they may be kept, and chunks of logits."""
    shape, context = suite.model.shape, suite.model.context
    row, rows = 4 * shape.vocab, windows_at_once(context) * (context - 1)
    copy = 0 if suite.model.dtype == "float32" else shape.d * row
    kept = rows * row
    limit = KEPT if device == "cpu" else max(KEPT, KEPT_SHARE * (free(device) or 0))
    chunk = ROWS if device == "cpu" else max(ROWS, LOGITS // shape.vocab)
    return copy + (kept if kept <= limit else 0) + CHUNKS * min(chunk, rows) * row


def measuring(suite: Suite, copies: Copies) -> int:
    """Bytes to measure these side by side: every copy and its calibration, the calibration rows, and the largest thing made meanwhile.

    What metrics keep is not in it (`keeping`), nor is the language model.
    """
    d, copies = suite.model.shape.d, list(copies)
    if not any(count for _, count in copies):
        return 0
    latents = max(training.latents for training, _ in copies)
    held = sum(count * training.latents * (8 * d + 64) for training, count in copies)  # W_enc and W_dec; uses and orders of latents
    scores = 4 * max(CHUNK, ROWS_AT_ONCE) * latents * 2
    return held + 8 * d * suite.text.calibration.tokens + max(scores, comparing(d, latents) if len(suite.seeds) > 1 else 0)  # rows twice, while they are joined


def comparing(d: int, latents: int) -> int:
    """Bytes to compare two seeds: the other's weights, unit rows of both, a random floor, and the cosines that an assignment is made of."""
    return 32 * d * latents + 12 * (latents if latents <= LIMIT else 0) ** 2


def keeping(suite: Suite, reads: Reads) -> tuple[int, int]:
    """Bytes that metrics keep at all of these readings, as they say themselves, and what they share: on the host, and where the activations are."""
    reads = list(reads)
    host, beside = sum(shared(suite, text) for text in {text_of(name) for *_, readings in reads for names in readings.values() for name in names}), 0
    for training, _, readings in reads:
        for reading, names in readings.items():
            usable = min(reading.latents or training.latents, training.latents)
            for name in names:
                documents, tokens = length_of(suite, text_of(name))
                setting = Setting(suite.model.shape.d, training.latents, usable, documents, reading.k, (tokens // documents,) * documents)
                own = plugins.metric(metric_of(name)).kept_bytes(setting)
                host, beside = host + own[0], beside + own[1]
    return host, beside


def shared(suite: Suite, text: str) -> int:
    """Bytes that all SAEs share of one text, once a metric looks at a sample of its rows, or at the tokens around them: both, with a copy each."""
    return 4 * suite.model.shape.d * 3 * SAMPLED + TOKEN * length_of(suite, text)[1]


def length_of(suite: Suite, text: str) -> tuple[int, int]:
    """About how many documents and tokens metrics are shown of held-out text, or of a labelled one at most."""
    if text != HELD_OUT:
        return suite.labelled[text].text.documents, suite.labelled[text].text.documents * suite.labelled[text].text.length
    tokens = suite.text.held_out.tokens
    return suite.text.held_out.documents or max(1, tokens // DOCUMENT), tokens


def wanted(suite: Suite, copies: Copies, reads: Reads, device: str) -> dict[str, int]:
    """Bytes to measure these side by side, by the device that holds them: all on the host if there is no other."""
    reads = list(reads)
    host, beside = keeping(suite, reads)
    spliced = any(splices(name) for *_, readings in reads for names in readings.values() for name in names)
    own = measuring(suite, copies) + beside + (splicing(suite, device) if spliced else 0)
    return {device: own, "cpu": host} if device != "cpu" else {"cpu": own + host}


def there(device: str) -> dict[str, int | None]:
    """Bytes that are free by the device that holds something; of a GPU elsewhere nothing is said of its host, which is not this one."""
    return {place: free(place) for place in ([device] if device in rates.MEASURED else [device, "cpu"])}


def fits(wanted: int, free: int | None) -> bool:
    """Whether so many bytes are at most the share of those free; where it is not known, they do not."""
    return free is not None and wanted <= SHARE * free


def free(device: str) -> int | None:
    """Bytes that are free on the GPU, or on the host for this process; of a GPU that is not here all. None where the system does not tell."""
    if device in rates.MEASURED:
        return rates.MEASURED[device].memory
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return min((known for known in (host(), container()) if known is not None), default=None)


def host(system: Path = SYSTEM) -> int | None:
    """What the host can give without swapping, as Linux or, with fewer words, another system says; macOS and Windows say nothing."""
    if (available := listed(system, "MemAvailable:")) is not None:
        return 1024 * available
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def container(groups: Path = GROUPS) -> int | None:
    """What the limit of a container leaves; files that Linux only remembers (inactive) make room when it is wanted. None: no limit."""
    version_2 = "memory.max", "memory.current", "memory.stat", "inactive_file"
    version_1 = "memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"
    for limit, usage, remembered, name in (version_2, version_1):
        if (most := number(groups / limit)) is not None and (used := number(groups / usage)) is not None:
            return max(0, most - used + (listed(groups / remembered, name) or 0))
    return None


def number(file: Path) -> int | None:
    """The one number that a file holds, if it is there and holds one."""
    try:
        text = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdecimal() else None


def listed(file: Path, name: str) -> int | None:
    """The number after `name` in a file of lines, if it is there."""
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    return next((int(words[1]) for line in lines if len(words := line.split()) > 1 and words[0] == name and words[1].isdecimal()), None)
