"""What a run would do and why, before anything runs: which SAEs are done, to be compared, evaluated or trained, and in which passes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from sae_bench_htopk import memory, plugins, records, seeds, weights
from sae_bench_htopk.contract import Reading
from sae_bench_htopk.keys import Cell, Training, as_far, code_of_variant, digest, learners, place_of, together
from sae_bench_htopk.markdown import words
from sae_bench_htopk.suite import Suite

OUTDATED = "its latents were measured by other code"
Wanted: TypeAlias = dict[Reading, tuple[str, ...]]  # readings, and which metrics of each


@dataclass(frozen=True)
class Item:
    """One training of the suite: what there is to do, why, which metrics are missing at which readings, and with which twins it is only to be compared."""

    training: Training
    todo: Literal["done", "compare", "evaluate", "train"]
    why: str
    missing: list[tuple[Cell, Wanted]]
    twins: tuple[Training, ...] = ()
    latents: bool = False  # whether all that is known of its latents is to be measured anew, beside that


class Pass(NamedTuple):
    """Items that are measured in one pass over the text, after what is to be trained, for later passes too, in passes of its own."""

    items: list[Item]
    trainings: list[list[Training]]


def weights_path(root: Path, suite: str, key: str) -> Path:
    """Where the weights of a training are kept."""
    return root / "runs" / suite / f"{key}.safetensors"


def record_folder(root: Path, suite: str) -> Path:
    """Where a suite's records are."""
    return root / "leaderboard" / suite


def lock_path(root: Path, suite: str) -> Path:
    """What says that a run is going on."""
    return root / "runs" / suite / "run.lock"


def set_aside(root: Path, suite: str) -> Path:
    """Where records go that are no part of the suite any more."""
    return root / "runs" / suite / "set_aside"


def items(suite: Suite, trainings: list[Training], root: Path) -> list[Item]:
    """Compares what the suite comes to with the records and weights that are there. Raises RecordError on a damaged record."""
    found: list[Item] = []
    for training in trainings:
        found.append(item(suite, training, root, found))
    return found


def record_path(root: Path, suite: str, key: str) -> Path | None:
    """A training's record: among the suite's, or among those that an earlier form of the suite set aside."""
    folders = (record_folder(root, suite), set_aside(root, suite))
    return next((path for folder in folders if (path := folder / f"{key}.json").is_file()), None)


def known_record(root: Path, suite: str, key: str) -> records.Record | None:
    """A training's record; None if there is none, or one of an earlier schema, which is made again."""
    path = record_path(root, suite, key)
    try:
        return records.read(path) if path else None
    except records.OldRecordError:
        return None


def item(suite: Suite, training: Training, root: Path, before: Sequence[Item] = ()) -> Item:
    """What there is to do for one training, after those that stand before it in the suite."""
    record = known_record(root, suite.name, training.key)
    have = {place_of(row): row.get("keys", {}) for row in record["rows"]} if record else {}  # rows of an earlier form do not say what measured them
    every = [(cell, wanted) for cell in training.cells if (wanted := lacking(cell, {}))]
    missing = [(cell, wanted) for cell in training.cells if (wanted := lacking(cell, have))]
    if not every:
        return Item(training, "done", "no reading is asked for", [])
    there = weights_path(root, suite.name, training.key).is_file()
    if record and not missing and (there or not outdated(training, record)):
        return measured(suite, training, record, root, before)
    if there:
        return Item(training, "evaluate", f"weights are there, {said(missing) if have else 'no record is'}", missing)
    known = (known_record(root, suite.name, path.stem) for path in record_folder(root, suite.name).glob("*.json"))
    others = any(other["sae"]["variant"] == training.variant for other in known if other)
    gone = f"its weights are gone and {'readings are missing' if missing else OUTDATED}"
    other = "this share of the tokens was not kept" if training.whole else "its settings, code, model or text differ from every record's"
    why = gone if have else other if others else "no record"
    return Item(training, "train", why, every)  # new weights may differ in their last bits, so no old row may stay beside new ones


def lacking(cell: Cell, have: Mapping[str, Mapping[str, str]]) -> Wanted:
    """What a cell wants and a record has not, or not by today's code; `have` are the keys of the record's rows, by place."""
    found = {}
    for reading, keys in cell.keys.items():
        old = have.get(cell.place(reading), {})
        if names := tuple(name for name, key in keys.items() if old.get(name) != key):
            found[reading] = names
    return found


def said(missing: Sequence[tuple[Cell, Wanted]]) -> str:
    """How many readings are missing, and how many lack some of their metrics alone: which."""
    counts: Counter[tuple[str, ...]] = Counter()
    for cell, readings in missing:
        counts.update(() if len(names) == len(cell.keys[reading]) else names for reading, names in readings.items())
    whole = [f"{counts[()]} reading{'s are' if counts[()] > 1 else ' is'} not"] if counts[()] else []
    parts = [f"{count} reading{'s lack' if count > 1 else ' lacks'} {', '.join(names)}" for names, count in counts.most_common() if names]
    return "; ".join([*whole, *parts])


def outdated(training: Training, record: records.Record) -> bool:
    """Whether what a record says of its latents was measured by other code than today's; where there are no numbers, there is nothing to be outdated."""
    return not record.get("unusable") and record.get("latents_key", "") != training.latents_key


def measured(suite: Suite, training: Training, record: records.Record, root: Path, before: Sequence[Item]) -> Item:
    """What is left to do where every reading is in the record: to compare it with twins whose weights are here now, or will be by then.

    What a damaged file keeps from being compared is no work that a run could do, so it is said and not asked for.
    """
    every, known = "every reading is in its record", seeds.known(record.get("stability", ()))
    if reason := record.get("unusable"):
        return Item(training, "done", f"{every}, without numbers: {reason}; delete record and weights to train it again", [])
    old, todo = outdated(training, record), {each.training.key: each.todo for each in before}
    kin = list(seeds.twins(training, as_far(training, (each.training for each in before))))
    others = [other for other in kin if old or todo[other.key] == "train" or other.key not in known]
    if not (others or old) or not (own := weights_path(root, suite.name, training.key)).is_file():
        return Item(training, "done", every, [])
    if not weights.whole(own):
        return Item(training, "done", f"{every}; its weights are damaged, so it is compared with no other seed", [])
    if old:
        return Item(training, "compare", f"{every}, but {OUTDATED}", [], tuple(others), latents=True)
    whole = tuple(other for other in others if todo[other.key] == "train" or weights.whole(weights_path(root, suite.name, other.key)))
    damaged = [other.seed for other in others if other not in whole and weights_path(root, suite.name, other.key).is_file()]
    further = f"; the weights of seed {words(damaged)} are damaged (with its record deleted as well, they are trained again)" if damaged else ""
    if whole:
        return Item(training, "compare", f"{every}, not yet compared with seed {words(other.seed for other in whole)}{further}", [], whole)
    return Item(training, "done", f"{every}{further}", [])


def passes(suite: Suite, all_items: Sequence[Item], device: str) -> list[list[Item]]:
    """What there is to do, in the passes over the text in which a run does it: seed by seed, or all at once.

    All at once only if nothing is to be trained and memory holds all: the language model's own part is then done once.
    """
    todo = [each for each in all_items if each.todo != "done"]
    by_seed = [mine for seed in suite.seeds if (mine := [each for each in todo if each.training.seed == seed])]
    if any(each.todo == "train" for each in todo) or len(by_seed) < 2:
        return by_seed
    wanted = memory.wanted(suite, copies(todo), reads(todo), device)
    return [todo] if all(memory.fits(wanted[place], free) for place, free in memory.there(device).items()) else by_seed


def schedule(suite: Suite, all_items: Sequence[Item], device: str, at_once: int | None = None) -> list[Pass]:
    """All passes of a run, by what is free before it begins."""
    found = list[Pass]()
    for mine in passes(suite, all_items, device):
        first, *others = measuring_passes(suite, mine, device)
        found += [Pass(first, training_passes(suite, mine, device, at_once)), *(Pass(some, []) for some in others)]
    return found


def measuring_passes(suite: Suite, some: Sequence[Item], device: str) -> list[list[Item]]:
    """What is measured side by side: as much as memory has room for, the whole SAEs before their checkpoints; no number depends on it.

    Shorter trainings have passes of their own, as the unit of their activations is another where they are shorter than what it is measured on.
    Each pass runs the language model anew. Where it is not known what is free, one pass has all.
    """
    groups = list[list[Item]]()
    for each in sorted(some, key=lambda each: (each.training.shorter, -each.training.share)):
        joined = [*groups[-1], each] if groups and groups[-1][0].training.shorter == each.training.shorter else []
        wanted = memory.wanted(suite, copies(joined), reads(joined), device)
        if joined and all(free is None or memory.fits(wanted[place], free) for place, free in memory.there(device).items()):
            groups[-1] = joined
        else:
            groups.append([each])
    return groups


def training_passes(suite: Suite, some: Sequence[Item], device: str, at_once: int | None = None) -> list[list[Training]]:
    """What is to be trained, in as few passes over the same text as memory allows, in order; no more than `at_once` SAEs in any.

    Each pass sees the same batches, so weights do not depend on how many there are; shorter trainings have passes of their own.
    Where it is not known what is free, one pass has all.
    """
    free, groups = memory.free(device), list[list[Training]]()
    for kept in together(each.training for each in some if each.todo == "train").values():
        joined = [*groups[-1], *kept] if groups and groups[-1][0].shorter == kept[0].shorter else []
        few = at_once is None or len(learners(joined)) <= at_once
        if joined and few and (free is None or memory.fits(memory.learning(suite, joined, device), free)):
            groups[-1] = joined
        else:
            groups.append(kept)
    return groups


def copies(some: Sequence[Item]) -> list[tuple[Training, int]]:
    """How often the weights of each training are held where all of these are measured side by side; a comparison holds them once."""
    return [(each.training, len(each.missing) or 1) for each in some if each.todo != "done"]


def reads(some: Sequence[Item]) -> list[tuple[Training, Cell, Wanted]]:
    """The readings that are measured side by side where all of these are."""
    return [(each.training, cell, readings) for each in some for cell, readings in each.missing]


def changed_variants(root: Path) -> dict[str, str]:
    """A note for each variant whose code is not that of all of its records, which pages do not say: variant -> note."""
    found: dict[str, set[str]] = {}
    for path in sorted((root / "leaderboard").glob("*/*.json")):
        record = known_record(root, path.parent.name, path.stem) or {}
        sae, code = record.get("sae", {}), record.get("provenance", {}).get("variant_code")
        if code and not sae["control"] and sae["variant"] in plugins.names("variants") and code != digest(code_of_variant(sae["variant"], False)):
            found.setdefault(sae["variant"], set()).add(path.parent.name)
    return {variant: f" [changed since its records in {', '.join(sorted(suites))}]" for variant, suites in found.items()}
