"""Keeps in a suite's folder the records that are part of it as it is now, with what it asks of them, and no others."""

from collections.abc import Sequence
from pathlib import Path

from sae_bench_htopk import plan, records, storage
from sae_bench_htopk.keys import Training
from sae_bench_htopk.progress import note
from sae_bench_htopk.recording import as_asked, measured_numbers
from sae_bench_htopk.storage import move
from sae_bench_htopk.suite import Suite


def tidy(suite: Suite, trainings: Sequence[Training], root: Path) -> None:
    """Sets aside records that are no part of the suite any more, and brings back those that are again.

    What the suite no longer asks of an SAE leaves its record, of which a copy is set aside.
    """
    folder, aside = plan.record_folder(root, suite.name), plan.set_aside(root, suite.name)
    known = {training.key: training for training in trainings if any(cell.keys for cell in training.cells)}
    for path in folder.glob("*.json"):
        if path.stem not in known or plan.known_record(root, suite.name, path.stem) is None:
            move(path, aside)
            note(f"{path.name} is no part of {suite.name} as it is now, or of an earlier schema; moved to {aside}")
    for path in aside.glob("*.json"):
        if path.stem in known and not (folder / path.name).is_file() and plan.known_record(root, suite.name, path.stem):
            move(path, folder)
    for record in records.read_all(folder):
        if (asked := as_asked(record, suite, known[record["train_key"]])) != record:
            if measured_numbers(record) > measured_numbers(asked):
                copy = storage.write(aside / f"{record['train_key']}.before.json", (folder / f"{record['train_key']}.json").read_text(encoding="utf-8"))
                note(f"{record['train_key']}.json holds numbers that {suite.name} asks for no more; they leave it, and a copy with them is {copy}")
            records.write(folder, asked)
