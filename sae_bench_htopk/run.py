"""The main job: what is missing of a suite is trained and measured, seed after seed, and the page is written."""

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from sae_bench_htopk import leaderboard, lock, plan, resume, shelf, shortage, storage
from sae_bench_htopk.asked import HELD_OUT, texts
from sae_bench_htopk.comparing import Comparing
from sae_bench_htopk.corpus import Corpus
from sae_bench_htopk.errors import InputError
from sae_bench_htopk.estimate import disk
from sae_bench_htopk.keys import Facts, facts_of, resolve
from sae_bench_htopk.lm import SubjectModel
from sae_bench_htopk.measuring_pass import MeasuringPass
from sae_bench_htopk.outlook import Outlook, outlooks
from sae_bench_htopk.progress import note
from sae_bench_htopk.showing import Shown, labelled
from sae_bench_htopk.stored import Stored
from sae_bench_htopk.stream import windows_at_once
from sae_bench_htopk.suite import Suite
from sae_bench_htopk.tokenizing import Tokenizing
from sae_bench_htopk.training_pass import TrainingPass, tokens_wanted


class Runner:
    """One run of one suite: the text and the language model are loaded once, and only if something is to be done."""

    def __init__(self, suite: Suite, root: Path, device: str, at_once: int | None = None) -> None:
        """Reads the text; raises TextError if it cannot give the suite's parts. No training pass has more than `at_once` SAEs."""
        self.suite, self.root, self.device, self.at_once = suite, root, device, at_once
        self.stored = Stored(suite, root, device)
        self.corpus = Corpus(suite.text.source)
        self.facts: Facts = facts_of(suite, self.corpus)
        self.trainings = resolve(suite, self.facts)
        self.items = plan.items(suite, self.trainings, root)

    def run(self) -> Path:
        """Does what is to be done and returns the page. What ends it early keeps every finished pass, and its page: a seed, or all together.

        Raises LockedError if another run works in the same folder, OutOfMemory and StorageError where there is not enough of either, TextError if text ends.
        """
        with lock.held(plan.lock_path(self.root, self.suite.name)):
            self.items = plan.items(self.suite, self.trainings, self.root)  # another run may have ended since
            parts = plan.schedule(self.suite, self.items, self.device, self.at_once)
            prospects = outlooks(self.suite, parts, self.device) if parts else []
            if parts:
                self.prepare(parts)
                with shortage.named(f"loading the language model {self.suite.model.path}", shortage.of_loading(self.suite.model.dtype)):
                    self.load_model()
            try:
                for part, outlook in zip(parts, prospects, strict=True):
                    self.work(part, outlook)
                self.sweep(todo=())
            except (KeyboardInterrupt, InputError):
                self.keep_page()
                raise
            return self.page()

    def prepare(self, parts: Sequence[plan.Pass]) -> None:
        """Clears away what a killed run left unfinished, and names what it left of another form of the suite.

        Raises StorageError if the disk has no room for the weights that are to come.
        """
        storage.sweep(self.stored.folder, "*.safetensors")
        storage.sweep(self.stored.records, "*.json")
        self.sweep([item.training.learner for item in self.items if item.todo == "train"])
        for path in resume.strangers(resume.folder(self.stored.folder), [training.learner for training in self.trainings]):
            note(f"{path} holds the training of nothing in {self.suite.name} as it is now; delete it if it is not wanted")
        storage.require(self.stored.folder, disk(self.suite, [training for part in parts for group in part.trainings for training in group]))

    def sweep(self, todo: Sequence[str]) -> None:
        """Deletes snapshots of what is trained by now; `todo` are the learners that are not."""
        resume.sweep(resume.folder(self.stored.folder), todo, [training.learner for training in self.trainings])

    def work(self, part: plan.Pass, outlook: Outlook) -> None:
        """Trains, measures and compares the items of one pass."""
        clock = time.monotonic()
        for fresh in part.trainings:
            with self.tokenizing, shortage.named(f"seed {fresh[0].seed}: reading the text for {len(fresh)} SAEs", self.less_reading()):
                outlook.training.whole |= self.training.train(fresh, fresh[0].seed)
        outlook.training.seconds += (time.monotonic() - clock) if part.trainings else 0.0
        if unread := [item for item in part.items if item.missing]:
            with shortage.named(f"measuring {len(unread)} SAEs", "wanted fewer readings or metrics of them, a smaller model.context, or less calibration text"):
                self.measuring.evaluate(unread, outlook)
        if compared := [item for item in part.items if item.todo == "compare"]:
            latents = max(item.training.latents for item in compared)
            with shortage.named(f"comparing {len(compared)} SAEs", shortage.of_comparing(latents, self.suite.text.calibration.tokens)):
                self.compare(compared)

    def compare(self, items: Sequence[plan.Item]) -> None:
        """Compares SAEs that are measured already with their twins; without units nothing can be loaded to be compared, and no row is wanted."""
        units = self.stored.units([item.training for item in items])
        x = torch.zeros(0, self.suite.model.shape.d) if units is None else self.measuring.calibration_rows(units)
        Comparing(self.stored, self.trainings).compare(items, x)

    def less_reading(self) -> str:
        """Which settings take less memory where the language model reads the text."""
        context = self.suite.model.context
        return shortage.of_model(context, windows_at_once(context), self.suite.train.block)

    def keep_page(self) -> None:
        """The page of what is finished, if anything is, and if it can be written."""
        if any(plan.record_folder(self.root, self.suite.name).glob("*.json")):
            try:
                self.page()
            except (InputError, OSError) as error:  # neither may hide what ended the run
                note(f"the page was not written: {error}")

    def load_model(self) -> None:
        """Loads the language model, and checks what would else fail only after training: the length of all texts, and the folders."""
        chosen, recipe = self.suite.model, self.suite.train
        model = SubjectModel.load(chosen.path, chosen.revision, chosen.hook, self.device, getattr(torch, chosen.dtype))
        model.verify_shape(chosen.shape.d, chosen.shape.layers, chosen.shape.vocab, chosen.context, chosen.shape.layer_weights)
        text, context = self.suite.text, chosen.context
        self.tokenizing = Tokenizing(model.tokenizer, text.workers)
        held_out = Shown(*self.corpus.sample("held_out", model.encode, context, text.held_out.tokens, text.held_out.documents))
        wanted = texts(name for item in self.items for _, some in item.missing for names in some.values() for name in names)
        others = {name: self.suite.labelled[name].text for name in wanted if name != HELD_OUT}
        shown = {HELD_OUT: held_out} | labelled(others, model.encode, context)
        calibration, _ = self.corpus.sample("calibration", self.tokenizing.ids, context, text.calibration.tokens, None)
        if any(item.todo == "train" for item in self.items):
            self.corpus.require("train", self.tokenizing.ids, tokens_wanted(recipe), recipe.tokens)
        for folder in (self.stored.records, self.stored.folder):
            storage.writable(folder)
        self.training = TrainingPass(self.stored, self.corpus, model, self.tokenizing)
        self.measuring = MeasuringPass(self.stored, self.trainings, self.facts, model, shown, calibration)

    def page(self) -> Path:
        """Puts the records in order, and writes the page."""
        shelf.tidy(self.suite, self.trainings, self.root)
        return leaderboard.build(self.root / "leaderboard", self.suite.name)
