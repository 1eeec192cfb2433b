"""What a snapshot holds: windows, batches and learners go on from it as if nothing had happened."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sae_bench_htopk import plugins, resume, snapshot
from sae_bench_htopk.contract import Step, Variant
from sae_bench_htopk.reader import Listed, Reader
from sae_bench_htopk.resume import Snapshots
from sae_bench_htopk.snapshot import SnapshotError
from sae_bench_htopk.stream import Stream
from sae_bench_htopk.text import Document
from sae_bench_htopk.trainer import Learner, Recipe, train
from sae_bench_htopk.windows import Cut
from tests.synthetic import D, batches, raw_rows, settings, units
from tests.test_stream import BOS, CONTEXT, encode

VARIANTS = ("topk", "batchtopk", "hierarchical_topk", "matryoshka", "relu")
MADE = {"model": "some fingerprint"}
LENGTHS = [int(length) for length in np.random.default_rng(3).integers(0, 60, 400)]  # characters of each document; some have none


def documents() -> list[Document]:
    """Texts of very different lengths."""
    draw = np.random.default_rng(4)
    return [Document(str(n), "".join(map(chr, draw.integers(90, 180, length))), "") for n, length in enumerate(LENGTHS)]


class Table:
    """A model whose activation is a fixed row for each token and place in the window; one token in ninety is massive."""

    def __init__(self) -> None:
        self.rows = raw_rows(100 * CONTEXT, seed=7).view(100, CONTEXT, D)
        self.rows[7] *= 1000

    def activations(self, tokens: Tensor) -> Tensor:
        """Looks rows up."""
        return self.rows[tokens, torch.arange(CONTEXT)]


def stream(known: Any = None, read: Reader[Document] | None = None) -> Stream:
    """About 12,000 tokens in blocks of 1,024, from their beginning or from a place."""
    return Stream(Table(), Cut(read or Listed(documents()), encode, CONTEXT, known[1].text if known else None), CONTEXT, BOS, 1024, 5, 3000, known)


def test_windows_are_those_of_64_documents_in_turn() -> None:
    """Against the rounds written out: from the last open document to the first, and one that has ended makes place for the next."""
    waiting, wanted = list(enumerate(LENGTHS)), []
    opened = [(*waiting.pop(0), 0) for _ in range(64)]
    while opened:
        for place in range(len(opened) - 1, -1, -1):
            document, length, start = opened[place]
            if start < length:
                wanted.append((document, start, min(CONTEXT - 1, length - start)))
                opened[place] = (document, length, start + CONTEXT - 1)
            elif waiting:
                opened[place] = (*waiting.pop(0), 0)
            else:
                del opened[place]
    found = [(window.document, window.start, len(window.ids)) for window in Cut(documents(), encode, CONTEXT)]
    assert found == wanted and sum(length for *_, length in found) == sum(LENGTHS)


@pytest.mark.parametrize("given", [0, 1, 63, 64, 65, 500, 1500, 1800])
def test_cutting_goes_on_where_it_stood(given: int) -> None:
    """After any number of windows, with documents that are read anew; the position does not move with what was cut since."""
    cut = Cut(Listed(documents()), encode, CONTEXT)
    for _ in range(given):
        next(cut)
    position = cut.position()
    rest = list(cut)
    assert position.documents == {"given": position.given} and len(rest) > 10
    again = list(Cut(Listed(documents(), position.documents), encode, CONTEXT, position))
    for one, other in zip(again, rest, strict=True):
        assert one[:2] == other[:2] and np.array_equal(one.ids, other.ids) and np.array_equal(one.spans, other.spans)


def saved(folder: Path, it: Stream, learners: dict[str, Learner], step: int = 1) -> snapshot.Snapshot:
    """A snapshot that went through the disk."""
    kept = Snapshots(folder, ["a"], 1e-9, MADE, None)
    kept.keep(step, it, learners, {}, 0)
    assert kept.last is not None
    return snapshot.read(kept.last)


@pytest.mark.parametrize("taken", [1, 7, 8, 9, 31, 40, 80])
def test_a_stream_goes_on_where_it_stood(taken: int, tmp_path: Path) -> None:
    """In the opening and after it, within a block and at its end: the same batches, and in the end the same counts."""
    it = stream()
    rows = it.batches(128)
    for _ in range(taken):
        next(rows)
    found = saved(tmp_path, it, {})
    rest = list(rows)
    known = resume.stream_of(found, "cpu")
    again = stream(known, Listed(documents(), known[1].text.documents))
    assert all(torch.equal(one, other) for one, other in zip(again.batches(128), rest, strict=True))
    assert (again.rows, again.massive, again.units.scale) == (it.rows, it.massive, it.units.scale) and it.massive > 0


class Noisy(Variant):
    """Draws random numbers in training, from torch's own source, and remembers a mean in a buffer."""

    @dataclass(frozen=True)
    class Config:
        """None."""

        k: int = 4

    def __init__(self, config: Config, d: int, latents: int, seed: int) -> None:
        """One buffer more."""
        super().__init__(config, d, latents, seed)
        self.register_buffer("mean", torch.zeros(d))

    def activation(self, scores: Tensor) -> Tensor:
        """Draws too, also where dead latents are looked at."""
        return super().activation(scores + 0.01 * torch.randn_like(scores))

    def step(self, x: Tensor) -> Step:
        """A dense step on disturbed x."""
        self.mean.lerp_(x.mean(0), 0.1)
        activations = self.activation(self.preactivations(x + 0.1 * torch.randn_like(x) - self.mean))
        x_hat = self.b_dec + activations @ self.W_dec
        return Step((x - x_hat).square().sum(1).mean(), x_hat.detach(), (activations.detach() > 0).any(0))


def learner(name: str) -> Learner:
    """A new learner, some of whose latents die; of "large", whose choice remembers a threshold from step to step."""
    kind: type[Variant] = Noisy if name == "noisy" else plugins.variant("batchtopk" if name == "large" else name)
    latents, k = (2048, 1) if name == "large" else (64, 4)
    recipe = Recipe(tokens=60 * 128, batch=128, latents=latents, rate=2e-2, dead_after=512, auxk=1.0)
    return Learner(kind(settings(kind, k), D, latents, 0), recipe, units().statistics)


def bits(it: Learner) -> dict[str, Tensor]:
    """Every tensor of a learner's."""
    return {name: tensor.clone() for name, tensor in it.state()[1].items()}


@pytest.mark.parametrize("step", [1, 30, 47])
def test_learners_go_on_where_they_stood(step: int, tmp_path: Path) -> None:
    """Weights, moments, ages of latents, running thresholds, curves and choices, in warm-up, plateau and decay; new ones of another seed take them on."""
    names = [*VARIANTS, "large", "noisy"]
    rows = list(batches(60, 128))
    torch.manual_seed(0)
    through = {name: learner(name) for name in names}
    going = train(list(through.values()), rows)
    for _ in range(step):
        next(going)
    found = saved(tmp_path, stream(), through, step)
    list(going)
    again = {name: learner(name) for name in names}
    for it in again.values():
        with torch.no_grad():
            it.variant.W_enc.normal_()
    torch.manual_seed(1)
    assert resume.restore(found, again) == step
    assert list(train(list(again.values()), rows[step:], taken=step))[-1] == 60 * 128
    for name, it in again.items():
        wanted = bits(through[name])
        assert all(torch.equal(tensor, wanted[part]) for part, tensor in bits(it).items()), name
        assert (it.curve, it.tokens, it.failed) == (through[name].curve, through[name].tokens, ""), name
        assert it.variant.proposals == through[name].variant.proposals, name
    assert len(through["topk"].curve) == 40 and through["topk"].curve[-1]["dead"] > 0
    assert through["batchtopk"].variant.ema_threshold > 0


@pytest.mark.parametrize("name", ["topk", "noisy"])
def test_what_is_trained_beside_an_sae_changes_nothing_of_it(name: str, tmp_path: Path) -> None:
    """Nor what it draws: alone, beside one that draws too, and gone on with alone after a while beside it, it comes to the same bits."""
    rows = list(batches(60, 128))
    torch.manual_seed(0)
    list(train([alone := learner(name)], rows))
    torch.manual_seed(1)
    beside = {"one": learner(name), "other": learner("noisy")}
    going = train([beside["other"], beside["one"]], rows)
    for _ in range(30):
        next(going)
    found = saved(tmp_path, stream(), beside, 30)
    list(going)
    torch.manual_seed(2)
    drawn = torch.rand(3)
    torch.manual_seed(2)
    list(train([later := learner(name)], rows[resume.restore(found, {"one": later}) :], taken=30))
    assert torch.equal(torch.rand(3), drawn)
    wanted = bits(alone)
    for it in (beside["one"], later):
        assert all(torch.equal(tensor, wanted[part]) for part, tensor in bits(it).items() if not part.startswith("random"))


def test_one_that_was_given_up_stays_so(tmp_path: Path) -> None:
    """Also before its first step, when Adam holds nothing yet."""
    failing, beside = learner("batchtopk"), learner("topk")
    with torch.no_grad():
        failing.variant.W_dec[3] = torch.nan
    going = train([failing, beside], list(batches(60, 128)))
    for _ in range(3):
        next(going)
    found = saved(tmp_path, stream(), {"one": failing, "other": beside})
    again = {"one": learner("batchtopk"), "other": learner("topk")}
    resume.restore(found, again)
    assert again["one"].failed == failing.failed != "" and again["one"].tokens == 0 and again["other"].tokens == 3 * 128


def test_what_is_asked_of_a_snapshot_is_checked(tmp_path: Path) -> None:
    """A manifest that was changed by hand, that holds something else, or that is of a form to come, is refused by name."""
    found = saved(tmp_path, stream(), {})
    path = found.folder / snapshot.MANIFEST
    written = path.read_text(encoding="utf-8")
    for text, said in (
        (written.replace('"step": 1', '"step": 2'), "checksum"),
        (json.dumps([1]), "not what was written"),
        (written[:-1], "not what was written"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(SnapshotError, match=said) as error:
            snapshot.read(found.folder)
        assert str(path) in str(error.value)
    manifest = {"format": snapshot.FORMAT + 1, "facts": {}, "parts": {}, "sums": {}}
    path.write_text(json.dumps(manifest | {"sha256": snapshot.digest(manifest)}), encoding="utf-8")
    with pytest.raises(SnapshotError, match=f"of form {snapshot.FORMAT + 1}, wanted {snapshot.FORMAT}"):
        snapshot.read(found.folder)


def test_snapshots_come_by_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first after so many, and then after so many more, however many steps there are between."""
    now = {"seconds": 0.0}
    monkeypatch.setattr(resume.time, "monotonic", lambda: now["seconds"])
    kept, made, it = Snapshots(tmp_path, ["a"], 2.0, MADE, None), list[int](), stream()
    for second in range(0, 500, 10):
        now["seconds"] = float(second)
        before = kept.last
        kept.keep(second, it, {}, {}, 0)
        made += [second] * (kept.last != before)
    assert made == [120, 240, 360, 480]
