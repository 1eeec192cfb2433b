"""What a suite comes to: trainings and readings, each named by a hash of all that its numbers depend on."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sae_bench_htopk import labelled_text, plugins
from sae_bench_htopk.asked import HELD_OUT, metric_of, text_of
from sae_bench_htopk.checkpoint import locate
from sae_bench_htopk.contract import Metric, Reading, Selector, Variant
from sae_bench_htopk.controls import CONTROLS, dictionary_size
from sae_bench_htopk.corpus import Corpus
from sae_bench_htopk.imports import standing
from sae_bench_htopk.suite import MetricUse, Sae, Suite
from sae_bench_htopk.trainer import RECIPE_VERSION, Recipe

EVALUATION_VERSION = 1  # rises when a change to the core moves a measured number; tests/test_golden_rows.py holds those that tell
EVERY_NUMBER = ("calibrate", "evaluate", "rows")  # modules that every number comes through, with all that they import
LATENTS = ("calibrate", "power_law", "seeds", "stability")  # those behind what a record says of the latents themselves


@dataclass(frozen=True)
class Facts:
    """What a suite's numbers depend on beside the suite: the text that is really there, and the model's files."""

    text: dict[str, str]  # part -> fingerprint
    model: str
    labelled: Mapping[str, str] = field(default_factory=dict)  # labelled text -> fingerprint


@dataclass
class Cell:
    """One SAE as one variant reads it: the readings, and of each the metrics that are wanted with the keys of their numbers."""

    variant: str
    config: Any
    native: Selector
    keys: dict[Reading, dict[str, str]]

    def place(self, reading: Reading) -> str:
        """What tells a reading's row from others of a record."""
        return place_of({"variant": self.variant, "config": asdict(self.config), "reading": asdict(reading)})


@dataclass
class Training:
    """One set of weights, and everyone who reads it."""

    key: str
    variant: str
    config: Any
    latents: int
    seed: int
    control: bool
    recipe: Recipe
    rate: float | None = None  # its own, where it has another than the suite's others
    cells: list[Cell] = field(default_factory=list)
    latents_key: str = ""  # names what is measured of its latents themselves; empty for a control, of whose latents nothing is
    share: float = 1.0  # of the training tokens, after which the weights are kept
    whole: str = ""  # of a checkpoint, the key of what its training ends in
    shorter: bool = False  # whether it is one of the suite's shorter trainings

    def kind(self) -> type[Variant]:
        """Its class: a control of the core, or a plug-in."""
        return CONTROLS[self.variant] if self.control else plugins.variant(self.variant)

    def code(self) -> str:
        """The hash of its variant's code, comments and docstrings left out."""
        return digest(code_of_variant(self.variant, self.control))

    @property
    def learner(self) -> str:
        """Names the training itself, which checkpoints have in common with what it ends in."""
        return self.whole or self.key

    @property
    def steps(self) -> int:
        """After how many batches the weights are kept."""
        return max(1, round(self.share * self.recipe.steps()))

    def label(self) -> str:
        """For people: variant, settings, size and seed, and how far it was trained."""
        budget = self.kind().budget(self.config)
        settings = ", ".join(f"{key} {value}" for key, value in asdict(self.config).items()) if budget is None else f"k {budget}"
        rate = "" if self.rate is None else f"; rate {self.rate:g}"
        share = "" if self.share == 1 else f"; {self.share:.3g} of the tokens"
        tokens = f"; {self.recipe.tokens:,} tokens" if self.shorter else ""
        return f"{self.variant} ({settings}; {self.latents:,} latents{rate}; seed {self.seed}{share}{tokens})"


def digest(thing: Any) -> str:
    """16 hex digits of JSON."""
    return hashlib.sha256(json.dumps(thing, sort_keys=True, default=str).encode()).hexdigest()[:16]


def facts_of(suite: Suite, corpus: Corpus) -> Facts:
    """Reads the text and the model's files, if they are here; loads no model. Raises ModelError if its folder is missing or holds none."""
    folder = locate(suite.model.path)
    data = sorted(path for path in folder.iterdir() if path.suffix in {".json", ".safetensors"}) if folder else []  # not the card
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in data}
    named = {"path": suite.model.path if folder is None else "local", "revision": suite.model.revision, "files": files}
    labelled = {name: labelled_text.fingerprint(labelled.text, name) for name, labelled in suite.labelled.items()}
    return Facts({part: corpus.fingerprint(part) for part in ("train", "calibration", "held_out")}, digest(named), labelled)


def code_of_variant(name: str, control: bool) -> str:
    """The code of a variant, or of the controls, as keys see it."""
    return plugins.code_of(Path(__file__).with_name("controls.py") if control else plugins.source_file("variants", name))


def train_key(suite: Suite, facts: Facts, recipe: Recipe, name: str, config: Any, latents: int, seed: int, control: bool) -> str:
    """Names weights: settings, the variant's code, the recipe, the model and its hook point, the training text, the seeds."""
    model = {"files": facts.model, "hook": asdict(suite.model.hook), "dtype": suite.model.dtype, "context": suite.model.context}
    settings = {"variant": name, "config": asdict(config), "latents": latents, "seed": seed, "train": asdict(recipe)}
    return digest([settings, code_of_variant(name, control), RECIPE_VERSION, model, facts.text["train"]])


def place_of(row: Mapping[str, Any]) -> str:
    """What tells a row of a record from its others: who reads it, and how."""
    return digest([row["variant"], row["config"], row["reading"]])


def code_behind(files: Iterable[Path]) -> str:
    """The hash of files and of all that they import."""
    return digest({name: plugins.code_of(path) for name, path in standing(files).items()})


def code_of_metric(name: str) -> str:
    """The hash of all code that a metric's numbers on one text stand on: that behind every number, its own, what its own imports, and who labels the text."""
    labels = [] if text_of(name) == HELD_OUT else ["labelled_text", "showing"]
    return code_behind([*map(core_file, [*EVERY_NUMBER, *labels]), plugins.source_file("metrics", metric_of(name))])


def core_file(name: str) -> Path:
    """A module of the core."""
    return Path(__file__).with_name(f"{name}.py")


def metric_keys(suite: Suite, facts: Facts, reader: str, config: Any, reading: Reading, codes: Mapping[str, str]) -> dict[str, str]:
    """Names one reading's numbers, metric by metric: reading, reader's code, metric's code (`codes`), and the texts of calibration and measuring."""
    own = digest(code_of_variant(reader, reader in CONTROLS))
    texts = {HELD_OUT: [facts.text["held_out"], asdict(suite.text.held_out)]} | {text: [known] for text, known in facts.labelled.items()}
    calibration = [facts.text["calibration"], asdict(suite.text.calibration)]
    shared = [asdict(reading), reader, asdict(config), own]
    return {name: digest([*shared, [*texts[text_of(name)], *calibration], EVALUATION_VERSION, name, code]) for name, code in codes.items()}


def latents_key(suite: Suite, facts: Facts, training: Training) -> str:
    """Names what is measured of the latents of a training, how they fall off and what other seeds have of them: by whom, with what code and on what text.

    The weights are named by the train key, those of other seeds where the pairs stand.
    """
    readers = [digest(code_of_variant(cell.variant, cell.variant in CONTROLS)) for cell in training.cells]
    text = [facts.text["calibration"], asdict(suite.text.calibration)]
    code = digest({name: plugins.code_of(core_file(name)) for name in LATENTS})
    return "" if training.control else digest([readers, code, text, EVALUATION_VERSION])


def resolve(suite: Suite, facts: Facts) -> list[Training]:
    """Every training of the suite with its cells, by seed; what reads another's weights is a cell of that training."""
    codes = {name: code_of_metric(name) for use in suite.metrics for name in use.names()}
    found = of_saes(suite, facts, suite.train, suite.saes, suite.metrics, codes)
    budgets = Counter(k for sae in suite.saes if (k := plugins.variant(sae.variant).budget(sae.config)))
    budget = max(budgets, key=lambda k: (budgets[k], k), default=suite.read.k[-1])  # the most common one, so that most comparisons have a control beside them
    rates = Counter(sae.rate for sae in suite.saes if plugins.variant(sae.variant).budget(sae.config) == budget)
    alike = replace(suite.train, rate=rates.most_common(1)[0][0] or suite.train.rate) if rates else suite.train  # as most of those that it stands beside
    for name in suite.controls:
        kind = CONTROLS[name]
        config, seed = kind.Config(k=budget), suite.seeds[0]
        latents = dictionary_size(name, suite.model.shape.d, suite.train.latents)
        recipe = alike if kind.trained else suite.train
        key = train_key(suite, facts, recipe, name, config, latents, seed, control=True)
        training = found.setdefault(key, Training(key, name, config, latents, seed, True, recipe))
        # A control that is trained is read where it was trained, and nowhere else: off its budget it would look worse than it is.
        readings = tuple(Reading(k) for k in (suite.read.k if not kind.trained else [budget]) if k <= latents)
        training.cells.append(cell(suite, facts, suite.metrics, codes, name, config, "row", readings, seed, latents))
    every = [one for training in found.values() for one in (*checkpoints(suite, training), training)]
    every += shorter(suite, facts, codes)
    for training in every:
        training.latents_key = latents_key(suite, facts, training)
    return sorted(every, key=lambda training: suite.seeds.index(training.seed))


def of_saes(suite: Suite, facts: Facts, usual: Recipe, saes: Iterable[Sae], metrics: Sequence[MetricUse], codes: Mapping[str, str]) -> dict[str, Training]:
    """By key the trainings of some SAEs by a recipe, but for rates of their own, with what is measured of each."""
    found: dict[str, Training] = {}
    for sae in saes:
        kind = plugins.variant(sae.variant)
        base, settings = kind.trained_as(sae.config) or (sae.variant, None)
        config = sae.config if settings is None else plugins.variant(base).Config(**settings)
        recipe = replace(usual, rate=usual.rate if sae.rate is None else sae.rate)
        key = train_key(suite, facts, recipe, base, config, sae.latents, sae.seed, control=False)
        training = found.setdefault(key, Training(key, base, config, sae.latents, sae.seed, False, recipe, sae.rate))
        training.cells.append(cell(suite, facts, metrics, codes, sae.variant, sae.config, kind.native(sae.config), sae.readings(), sae.seed, sae.latents))
    return found


def shorter(suite: Suite, facts: Facts, codes: Mapping[str, str]) -> list[Training]:
    """The suite's SAEs trained on fewer tokens, if it wants them; of an SAE that is never trained there is nothing shorter."""
    if (wanted := suite.shorter) is None:
        return []
    saes = [sae for sae in suite.saes if sae.seed in wanted.seeds]
    found = of_saes(suite, facts, replace(suite.train, tokens=wanted.tokens), saes, wanted.metrics, codes)
    return [replace(training, shorter=True) for training in found.values() if training.kind().trained]


def checkpoints(suite: Suite, training: Training) -> list[Training]:
    """What a training comes to earlier, as SAEs of their own with the same readings; of a control nothing."""
    shares = sorted(suite.checkpoints) if training.kind().trained and not training.control else []
    return [replace(training, key=digest([training.key, "share", share]), share=share, whole=training.key) for share in shares]


def as_far(training: Training, trainings: Iterable[Training]) -> list[Training]:
    """Those that are kept after the same share of their tokens as one: a checkpoint is compared with no other."""
    return [other for other in trainings if other.share == training.share]


def learners(trainings: Iterable[Training]) -> list[Training]:
    """Of some trainings what each learner is trained to at last, without those that are never trained."""
    return [kept[-1] for kept in together(trainings).values() if kept[-1].kind().trained]


def together(trainings: Iterable[Training]) -> dict[str, list[Training]]:
    """By learner what is kept of it, the earliest first."""
    found: dict[str, list[Training]] = {}
    for training in trainings:
        found.setdefault(training.learner, []).append(training)
    return {learner: sorted(kept, key=lambda training: training.share) for learner, kept in found.items()}


def cell(
    suite: Suite, facts: Facts, metrics: Sequence[MetricUse], codes: Mapping[str, str],
    reader: str, config: Any, native: Selector, readings: Iterable[Reading], seed: int, size: int,
) -> Cell:  # fmt: skip
    """The readings of one SAE by one variant, with the metrics that are wanted of each; what no metric is wanted of is not read."""
    wanted = {
        reading: [name for use in metrics if use.only is None or use.only.allows(reading, native, seed, size) for name in use.names()] for reading in readings
    }
    keys = {reading: metric_keys(suite, facts, reader, config, reading, {name: codes[name] for name in names}) for reading, names in wanted.items() if names}
    return Cell(reader, config, native, keys)


def metric_classes(suite: Suite) -> dict[str, type[Metric]]:
    """Every metric of the suite by the names of what it measures, in its order."""
    return {name: plugins.metric(use.name) for use in suite.metrics for name in use.names()}
