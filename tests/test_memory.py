"""What is free, as made-up system files say it, and what fits."""

import math
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import sparse
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, Gemma2Config

from sae_bench_htopk import head, memory, plugins, suite
from sae_bench_htopk.contract import Reading
from sae_bench_htopk.keys import Cell, Training
from sae_bench_htopk.plugins import code_of
from sae_bench_htopk.trainer import Recipe
from tests.made_up_text import made_up, measured


def put(folder: Path, files: dict[str, str]) -> Path:
    """A folder with these files."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="ascii")
    return folder


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"memory.max": "1000\n", "memory.current": "700\n", "memory.stat": "anon 500\ninactive_file 150\n"}, 450),
        ({"memory.max": "1000\n", "memory.current": "700\n"}, 300),
        ({"memory.max": "max\n", "memory.current": "700\n"}, None),
        ({"memory/memory.limit_in_bytes": "900", "memory/memory.usage_in_bytes": "400", "memory/memory.stat": "total_inactive_file 9\n"}, 509),
        ({"memory.max": "10", "memory.current": "70"}, 0),
        ({}, None),
    ],
)
def test_a_container_leaves_its_limit_less_what_it_holds(files: dict[str, str], wanted: int | None, tmp_path: Path) -> None:
    """Both ways in which Linux says it; no limit, or no such files, is None."""
    assert memory.container(put(tmp_path, files)) == wanted


def test_the_host_says_what_is_available(tmp_path: Path) -> None:
    """In KiB; not what is merely unused."""
    put(tmp_path, {"meminfo": "MemTotal:  4000 kB\nMemFree:  10 kB\nMemAvailable:   2000 kB\n"})
    assert memory.host(tmp_path / "meminfo") == 2000 * 1024


def test_what_fits_is_half_of_what_is_free_and_nothing_fits_into_what_is_not_known() -> None:
    """To the byte."""
    assert memory.fits(50, 100) and not memory.fits(51, 100) and not memory.fits(1, None)


def test_what_is_held_grows_with_every_copy() -> None:
    """Two matrices of float32 for each; three seeds of nine SAEs at Gemma's size do not fit into 80 GB beside their calibration rows."""
    chosen = suite.load("gemma2_2b")
    recipe = Recipe(tokens=1, batch=1, latents=65_536)
    trainings = [Training(str(seed), "topk", None, 65_536, seed, False, recipe) for seed in range(27)]
    one, all_of_them = memory.measuring(chosen, [(trainings[0], 1)]), memory.measuring(chosen, [(training, 1) for training in trainings])
    assert all_of_them - one == pytest.approx(26 * 2 * 4 * 65_536 * 2304, rel=0.01)
    assert not memory.fits(all_of_them, 80 * 10**9) and memory.fits(one, 80 * 10**9)
    assert memory.measuring(chosen, [(trainings[0], 2)]) > one and memory.measuring(chosen, []) == 0 == memory.learning(chosen, [], "cpu")


class Living(TorchDispatchMode):
    """Counts the bytes of all tensors that are made inside it and still there, and the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.most, self.known = 0, 0, set[int]()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Views share their storage, which is counted once."""
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor) and (key := (storage := tensor.untyped_storage())._cdata) not in self.known:
                self.known.add(key)
                self.now += storage.nbytes()
                weakref.finalize(storage, self.gone, key, storage.nbytes())
        self.most = max(self.most, self.now)
        return made

    def gone(self, key: int, size: int) -> None:
        """A storage was freed."""
        self.known.discard(key)
        self.now -= size


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("kept", [True, False])
def test_predictions_take_about_what_is_said_of_them(kept: bool, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small Gemma-2 with many words, its clean log-probabilities kept or made again: all that is ever there, tensor by tensor."""
    for owner in (head, memory):
        monkeypatch.setattr(owner, "KEPT", 2**28 if kept else 0)
    config = Gemma2Config(
        vocab_size=8192, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
        query_pre_attn_scalar=8, sliding_window=16, max_position_embeddings=64,
    )  # fmt: skip
    language_model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype), attn_implementation="eager")
    end = head.Head(language_model)
    chosen = suite.load("quickstart")
    shape = replace(chosen.model.shape, d=16, vocab=8192)
    chosen = replace(chosen, model=replace(chosen.model, shape=shape, dtype=dtype, context=64))
    tokens = torch.randint(0, 8192, (4096 // 64, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        output = end.base(input_ids=tokens, use_cache=False)
        with Living() as living:
            clean = end.clean(output, tokens)
            end.outcomes(output, tokens, clean)
    said = memory.splicing(chosen, "cpu")
    assert bool(clean.log_p) == kept and 0.8 * said <= living.most <= 1.05 * said  # hidden states, of 16 numbers here, are not in it


def test_gemmas_predictions_and_weights_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand at the published shape: 2.61e9 weights; an output embedding in float32, four windows' log-probabilities, and chunks of 262 rows of logits."""
    chosen = suite.load("gemma2_2b")
    row = 4 * 256_000
    for free, kept in ((2**36, 4 * 1023 * row), (2**33, 0), (None, 0)):
        monkeypatch.setattr(memory, "free", lambda _, free=free: free)
        assert memory.splicing(chosen, "cuda") == 2304 * row + kept + 9 * 262 * row
    for name in ("gemma2_2b", "gemma2_2b_progressive"):
        attention, gated, norms = 2304 * 256 * (2 * 8 + 2 * 4), 3 * 2304 * 9216, 4 * 2304
        assert suite.load(name).model.shape.of_layer() == attention + gated + norms
    assert memory.subject(chosen) / 2 == pytest.approx(2.614e9, rel=1e-3)
    assert memory.subject(suite.load("pythia_160m")) / 4 == 12 * 12 * 768**2 + 768 * 50_304


def bytes_of(matrix: sparse.csr_matrix) -> int:
    """Of its entries, without the ends of rows."""
    return int(matrix.data.nbytes + matrix.indices.nbytes)


def sampled_bytes(metric: Any) -> tuple[int, int]:
    """Of the codes of a sample's rows, without the ends of rows."""
    return sum(piece.values.nbytes + piece.latents.nbytes for piece in metric.codes.pieces), 0


HELD: dict[str, Callable[[Any], tuple[int, int]]] = {
    "explained_variance": lambda metric: (0, metric.errors.nbytes),
    "absorption": sampled_bytes,
    "sparse_probing": sampled_bytes,
    "latent_purity": sampled_bytes,
    "representational_similarity": lambda metric: (
        metric.x_hat.nbytes + bytes_of(metric.codes),
        metric.streamed.x_hat.sums.nbytes + metric.streamed.sums.nbytes,
    ),
    "latent_contexts": lambda metric: (
        sum(part.nbytes for part in (metric.top.latent, metric.top.value, metric.top.place))
        + sum(piece.values.nbytes + piece.latents.nbytes for piece in metric.codes.pieces),
        0,
    ),
    "sparsity": lambda metric: (bytes_of(metric.firing) + metric.lengths.nbytes, 0),
    "sparsity_curve": lambda metric: (0, sum(part.nbytes for part in metric.sums)),
}


@pytest.mark.parametrize("name", HELD)
def test_a_metric_keeps_about_what_it_says(name: str) -> None:
    """On both sides no more, and not much less, once it has seen more rows than its sample holds; downstream_loss keeps little and says nothing."""
    batch = made_up(rows=5000 if HELD[name] is sampled_bytes or name == "latent_contexts" else 1000)
    metric: Any = measured(name, [batch])
    k = math.ceil(len(batch.codes.values) / len(batch.x_hat)) if name != "sparsity_curve" else metric.setting.k
    said, held = type(metric).kept_bytes(metric.setting._replace(k=k)), HELD[name](metric)
    assert all(0.95 * mine <= promised <= 3 * mine for promised, mine in zip(said, held, strict=True)), (said, held)
    assert plugins.metric("downstream_loss").kept_bytes(metric.setting) == (0, 0)


def test_what_metrics_keep_is_summed_over_readings_and_its_place_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand at Gemma's width: two readings of one metric; on a GPU each memory has its own, without one there is a single sum."""
    chosen = suite.load("gemma2_2b")
    d, documents = 2304, 100
    chosen = replace(chosen, text=replace(chosen.text, held_out=replace(chosen.text.held_out, tokens=200_000, documents=documents)))
    training = Training("0", "topk", None, 65_536, 0, False, Recipe(tokens=1, batch=1, latents=65_536))
    readings = [Reading(32), Reading(64)]
    reads = [(training, Cell("topk", None, "row", {}), dict.fromkeys(readings, ("representational_similarity", "sparsity_curve")))]
    shared = 36_000 * 4 * d + 90 * 200_000  # a sample of rows and the tokens around them
    host, beside = shared + 4096 * (2 * 4 * d + 8 * (32 + 64)), 2 * 2 * 8 * (d + 2) ** 2 + 8 * documents * (65 + 129)
    assert memory.keeping(chosen, reads) == (host, beside) and memory.keeping(chosen, []) == (0, 0)
    monkeypatch.setattr(memory, "free", lambda _: 2**36)
    own = memory.measuring(chosen, [(training, 1)])
    assert memory.wanted(chosen, [(training, 1)], iter(reads), "cuda") == {"cuda": own + beside, "cpu": host}
    spliced = [(training, Cell("topk", None, "row", {}), dict.fromkeys(readings, ("downstream_loss", "sparsity_curve")))]
    assert memory.wanted(chosen, [(training, 1)], spliced, "cuda")["cuda"] == own + memory.keeping(chosen, spliced)[1] + memory.splicing(chosen, "cuda")
    assert memory.wanted(chosen, [(training, 1)], reads, "cpu") == {"cpu": own + beside + host}


def test_a_gpu_elsewhere_says_nothing_of_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that is here both are asked; of one that is not, its own memory alone; half of what is free may be taken."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (100, 200))
    monkeypatch.setattr(memory, "host", lambda: 20)
    monkeypatch.setattr(memory, "container", lambda: None)
    assert memory.there("cuda") == {"cuda": 100, "cpu": 20} and memory.there("cpu") == {"cpu": 20}
    assert list(memory.there("H100")) == ["H100"]
    assert memory.fits(50, 100) and not memory.fits(51, 100) and not memory.fits(0, None)


def test_what_a_metric_says_of_its_memory_is_in_no_key(tmp_path: Path) -> None:
    """Else a better guess would measure every row anew; any other method counts."""
    plain = "class One:\n    def update(self):\n        pass\n"
    for name, text in (
        ("plain", plain),
        ("says", plain + "    def kept_bytes(self):\n        return 1, 2\n"),
        ("does", plain + "    def kept(self):\n        pass\n"),
    ):
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    assert code_of(tmp_path / "plain.py") == code_of(tmp_path / "says.py") != code_of(tmp_path / "does.py")
