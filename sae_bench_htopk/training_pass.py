"""Trains SAEs side by side in one pass over the text, goes on where a kill left off, and keeps what training comes to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae_bench_htopk import plan, resume, weights
from sae_bench_htopk.corpus import Corpus
from sae_bench_htopk.keys import Training, together
from sae_bench_htopk.lm import SubjectModel
from sae_bench_htopk.progress import Progress, note
from sae_bench_htopk.provenance import provenance
from sae_bench_htopk.snapshot import Snapshot
from sae_bench_htopk.storage import move
from sae_bench_htopk.stored import Stored
from sae_bench_htopk.stream import Stream
from sae_bench_htopk.tokenizing import Tokenizing
from sae_bench_htopk.trainer import Learner, Recipe, train


@dataclass(frozen=True)
class TrainingPass:
    """What training wants: where SAEs are kept, the text, the language model that reads it, and who makes tokens."""

    stored: Stored
    corpus: Corpus
    model: SubjectModel
    tokenizing: Tokenizing

    def train(self, trainings: Sequence[Training], seed: int) -> None:
        """Trains all of one seed; what a snapshot is on the way to goes on from there, what it is not in a pass of its own."""
        while trainings:
            found = resume.find(self.snapshots, list(together(trainings)))
            going = [training for training in trainings if found is not None and is_ahead(found, training)]
            self.train_together(going or trainings, seed, found if going else None)
            trainings = [training for training in trainings if going and training not in going]

    @property
    def snapshots(self) -> Path:
        """Where training is kept while it lasts."""
        return resume.folder(self.stored.folder)

    def train_together(self, trainings: Sequence[Training], seed: int, found: Snapshot | None) -> None:
        """Trains these in one pass, from a snapshot if there is one, and saves their weights, checkpoints on the way; the pass' snapshots are then deleted."""
        recipe, kept = self.stored.suite.train, together(trainings)
        stream = self.stream(seed, found)
        learners = {key: self.learner(some[-1], stream) for key, some in kept.items()}
        active = {key: learner for key, learner in learners.items() if learner.variant.trained}
        taken = resume.restore(found, active) if found else 0
        snapshots = resume.Snapshots(self.snapshots, list(learners), self.stored.suite.snapshot.minutes, found)
        due = sorted((training for training in trainings if training.learner in active), key=lambda training: training.steps)
        total = due[-1].steps * recipe.batch if due else 0
        with Progress(f"seed {seed}: training {len(active)} SAEs", total, taken * recipe.batch) as progress:
            for tokens in train(list(active.values()), stream.batches(recipe.batch), taken=taken):
                progress.reach(tokens)
                while due and due[0].steps * recipe.batch == tokens:
                    self.save(training := due.pop(0), learners[training.learner], stream)
                if not due:
                    break
                snapshots.keep(tokens // recipe.batch, stream, active)
        for training in trainings:
            if training.learner not in active:
                self.save(training, learners[training.learner], stream)
        snapshots.remove()

    def learner(self, training: Training, stream: Stream) -> Learner:
        """A new one, started from the stream's statistics."""
        learner = Learner(self.stored.build(training.kind(), training), training.recipe, stream.units.statistics)
        learner.label = training.label()
        return learner

    def stream(self, seed: int, found: Snapshot | None) -> Stream:
        """The activations that are trained on, from their beginning or from where a snapshot left them."""
        chosen, recipe = self.stored.suite.model, self.stored.suite.train
        known = resume.stream_of(found, self.stored.device) if found else None
        if found is None:
            note(f"seed {seed}: measuring scale and mean of the first activations")
        else:
            note(f"seed {seed}: going on after {found.facts['step'] * recipe.batch:,} tokens, from {found.folder}")
        windows = self.corpus.windows("train", self.tokenizing.ids, chosen.context, known[1].text if known else None, self.tokenizing.ahead)
        return Stream(self.model, windows, chosen.context, self.model.bos, recipe.block, recipe.stream_seed, recipe.tokens, known)

    def save(self, training: Training, learner: Learner, stream: Stream) -> None:
        """Keeps what training came to: weights, and the story that records tell of them."""
        facts = {"scale": stream.units.scale, "massive_limit": stream.units.massive_limit, "massive": stream.massive, "rows": stream.rows}
        facts["total_variance"] = stream.units.statistics.total_variance
        if learner.failed:
            note(f"{training.label()}: given up, and the others went on: {learner.failed}")
        story: dict[str, Any] = {"curve": learner.curve, "seconds": learner.seconds, "tokens": learner.tokens, "stream": facts, "failed": learner.failed}
        story["provenance"] = self.made_by(training, learner)
        self.retire(training)
        weights.save(self.stored.path(training), learner.variant, stream.units, story)

    def made_by(self, training: Training, learner: Learner) -> Mapping[str, Any]:
        """With what and when weights were made."""
        return provenance(self.stored.device) | {"variant_code": training.code(), "selection": learner.variant.proposals.story()}

    def retire(self, training: Training) -> None:
        """Sets aside the record of weights that are gone, under a name that is not brought back: beside new weights its numbers would be another SAE's."""
        path = self.stored.records / f"{training.key}.json"
        if path.is_file():
            move(path, plan.set_aside(self.stored.root, self.stored.suite.name), f"{training.key}.of-earlier-weights.json")


def is_ahead(found: Snapshot, training: Training) -> bool:
    """Whether a snapshot is on the way to a training: of its learner, and not beyond where it is kept."""
    return training.learner in found.facts["keys"] and training.steps > found.facts["step"]


def tokens_wanted(recipe: Recipe) -> int:
    """How much text a training needs: its tokens, what each block may leave over, and a little for massive norms."""
    return round(1.02 * recipe.tokens * recipe.block / (recipe.block - recipe.batch + 1))
