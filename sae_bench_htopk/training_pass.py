"""Trains SAEs side by side in one pass over the text, goes on where a kill left off, and keeps what training comes to."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from sae_bench_htopk import plan, resume, weights
from sae_bench_htopk.corpus import Corpus
from sae_bench_htopk.estimate import disk
from sae_bench_htopk.keys import Training, together
from sae_bench_htopk.lm import SubjectModel
from sae_bench_htopk.progress import Progress, note
from sae_bench_htopk.provenance import provenance
from sae_bench_htopk.snapshot import Snapshot
from sae_bench_htopk.storage import move
from sae_bench_htopk.stored import Stored
from sae_bench_htopk.stream import Blocks, Stream
from sae_bench_htopk.tokenizing import Tokenizing
from sae_bench_htopk.trainer import Learner, Recipe, train


@dataclass(frozen=True)
class TrainingPass:
    """What training wants: where SAEs are kept, the text, the language model that reads it, and who makes tokens."""

    stored: Stored
    corpus: Corpus
    model: SubjectModel
    tokenizing: Tokenizing

    def train(self, trainings: Sequence[Training], seed: int) -> set[str]:
        """Trains all of one seed, and returns the keys of what was trained from its beginning.

        What a snapshot is on the way to goes on from there, what it is not in a pass of its own.
        """
        whole = set[str]()
        while trainings:
            found = resume.find(resume.folder(self.stored.folder), list(together(trainings)), self.model.fingerprint)
            going = [training for training in trainings if found is not None and is_ahead(found, training)]
            self.train_together(going or trainings, seed, found if going else None)
            whole |= set() if going else {training.key for training in trainings}
            trainings = [training for training in trainings if going and training not in going]
        return whole

    def train_together(self, trainings: Sequence[Training], seed: int, found: Snapshot | None) -> None:
        """Trains these in one pass, from a snapshot if there is one, and saves their weights, checkpoints on the way; the pass' snapshots are then deleted."""
        with closing(self.stream(trainings[0].recipe, seed, found)) as stream:
            self.train_on(stream, trainings, seed, found)

    def train_on(self, stream: Stream, trainings: Sequence[Training], seed: int, found: Snapshot | None) -> None:
        """The same on a stream that stands where the snapshot does."""
        recipe = trainings[0].recipe  # but for rates, that of all
        learners = {key: self.learner(kept[-1], stream) for key, kept in together(trainings).items()}
        active = {key: learner for key, learner in learners.items() if learner.variant.trained}
        snapshots = resume.Snapshots(self.stored.folder, list(learners), self.stored.suite.snapshot.minutes, self.now(), found)
        for training in trainings:
            if training.learner not in active:  # it sees nothing of the stream but its statistics, wherever that stands
                self.save(training, learners[training.learner], stream)
        taken = resume.restore(found, active) if found else 0
        due = sorted((training for training in trainings if training.learner in active), key=lambda training: training.steps)
        total = due[-1].steps * recipe.batch if due else 0
        with Progress(f"seed {seed}: training {len(active)} SAEs", total, taken * recipe.batch) as progress:
            for tokens in train(list(active.values()), stream.batches(recipe.batch), taken=taken):
                progress.reach(tokens)
                while due and due[0].steps * recipe.batch == tokens:
                    self.save(training := due.pop(0), learners[training.learner], stream, beside(active, snapshots.earlier))
                if not due:
                    break
                snapshots.keep(tokens // recipe.batch, stream, active, {one.key: one.learner for one in due}, disk(self.stored.suite, due))
        snapshots.remove()

    def now(self) -> dict[str, Any]:
        """With what is trained now, as snapshots say it."""
        return provenance(self.stored.device) | {"model": self.model.fingerprint}

    def learner(self, training: Training, stream: Stream) -> Learner:
        """A new one, started from the stream's statistics."""
        learner = Learner(self.stored.build(training.kind(), training), training.recipe, stream.units.statistics, training.seed)
        learner.label = training.label()
        return learner

    def stream(self, recipe: Recipe, seed: int, found: Snapshot | None) -> Stream:
        """The activations that are trained on, from their beginning or from where a snapshot left them."""
        chosen = self.stored.suite.model
        known = resume.stream_of(found, self.stored.device) if found else None
        if found is None:
            note(f"seed {seed}: measuring scale and mean of the first activations")
        else:
            note(f"seed {seed}: going on after {found.facts['step'] * recipe.batch:,} tokens, from {found.folder}")
            for line in resume.differences(found, self.now()):
                note(line)
        windows = self.corpus.windows("train", self.tokenizing.ids, chosen.context, known[1].text if known else None, self.tokenizing.ahead)
        device = self.stored.device
        held = Blocks(device, self.stored.suite.blocks.on == "pinned", ahead=device != "cpu")  # on a CPU both would want the same cores
        return Stream(self.model, windows, chosen.context, self.model.bos, recipe.block, recipe.stream_seed, recipe.tokens, known, held)

    def save(self, training: Training, learner: Learner, stream: Stream, how: Mapping[str, Any] | None = None) -> None:
        """Keeps what training came to: weights, and the story that records tell of them; `how` is what provenance says of the pass."""
        if learner.failed:
            note(f"{training.label()}: given up, and the others went on: {learner.failed}")
        story: dict[str, Any] = {"curve": learner.curve, "seconds": learner.seconds, "tokens": learner.tokens, "failed": learner.failed}
        story["stream"] = seen(stream, learner)
        story["provenance"] = provenance(self.stored.device) | {"variant_code": training.code(), "selection": learner.variant.proposals.story()}
        story["provenance"] |= how or {}
        self.retire(training)
        weights.save(self.stored.path(training), learner.variant, stream.units, story)

    def retire(self, training: Training) -> None:
        """Sets aside the record of weights that are gone, under a name that is not brought back: beside new weights its numbers would be another SAE's."""
        path = self.stored.records / f"{training.key}.json"
        if path.is_file():
            move(path, plan.set_aside(self.stored.root, self.stored.suite.name), f"{training.key}.of-earlier-weights.json")


def beside(active: Collection[str], earlier: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many SAEs take turns in a pass, without which seconds cannot be compared, and the runs that it went on from."""
    return {"side_by_side": len(active)} | ({"resumed": list(earlier)} if earlier else {})


def seen(stream: Stream, learner: Learner) -> dict[str, float | int]:
    """The stream's units, and how many rows of it came by until now, those that were left out as massive among them; for who takes no step, none."""
    units, rows = stream.units, (stream.rows, stream.massive) if learner.variant.trained else (0, 0)
    facts = {"scale": units.scale, "massive_limit": units.massive_limit, "total_variance": units.statistics.total_variance}
    return facts | {"rows": rows[0], "massive": rows[1]}


def is_ahead(found: Snapshot, training: Training) -> bool:
    """Whether a snapshot is on the way to a training: of its learner, and not beyond where it is kept."""
    return training.learner in found.facts["keys"] and training.steps > found.facts["step"]


def tokens_wanted(recipe: Recipe) -> int:
    """How much text a training needs: its tokens, what each block may leave over, and a little for massive norms."""
    return round(1.02 * recipe.tokens * recipe.block / (recipe.block - recipe.batch + 1))
