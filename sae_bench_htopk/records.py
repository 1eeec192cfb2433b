"""Reads and writes the results of one trained SAE: one JSON file each, the only input of the leaderboard."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from sae_bench_htopk import json_text, storage
from sae_bench_htopk.errors import InputError
from sae_bench_htopk.finite import finite, leaves

Record: TypeAlias = dict[str, Any]
SCHEMA = 2
PARTS: dict[str, type] = {
    "suite": str, "train_key": str, "sae": dict, "rows": list, "curve": list, "cost": dict,
    "text": dict, "model": dict, "settings": dict, "provenance": dict,
}  # fmt: skip
SAE_PARTS: dict[str, type] = {"variant": str, "config": dict, "latents": int, "seed": int, "control": bool}
ROW_PARTS: dict[str, type] = {"variant": str, "config": dict, "budget": int, "native": bool, "reading": dict, "values": dict, "missing": dict}
OPTIONAL: dict[str, type] = {
    "measured": dict,
    "stability": list,
    "power_law": dict,
    "page": dict,
    "stream": dict,
    "unusable": str,
    "latents_key": str,
    "disputes": list,
}
READING_PARTS: dict[str, type] = {"k": int, "latents": object, "select": str, "cut": str, "rank": str}  # latents: a number, or null for all of them
DISPUTE_PARTS: dict[str, type] = dict.fromkeys(("config", "reading", "missing"), dict)
DISPUTE_PARTS |= dict.fromkeys(("variant", "column", "measured_here", "measured_there"), str) | dict.fromkeys(("here", "there"), object)
ROW_OPTIONAL: dict[str, type] = {"intervals": dict, "draws": dict, "details": dict}
NUMBERS = {int, float}
FILE_NAME = re.compile(r"[0-9A-Za-z_-]+")


class OnDisk(dict[str, Any]):
    """A record as its file gave it, with the SHA-256 of that file."""

    digest: str


class RecordError(InputError):
    """A record that cannot be read or must not be written; the message names the file, the place in it, and what is wanted."""


class OldRecordError(RecordError):
    """A record of an earlier schema: it is made again, as if it were not there."""


def write(folder: Path, record: Record) -> Path:
    """Writes `folder`/<train_key>.json whole or not at all, and returns its path. Raises RecordError, before anything is written, if it is invalid.

    Raises StorageError if the disk refuses.
    """
    validate(record, "record to be written")
    if not finite([record]):
        path, value = next((path, value) for path, value in leaves(record, "") if not finite([value]))
        raise RecordError(f"record to be written: {path} is {value}, wanted a finite number, or null with a reason under `missing`")
    return storage.write(folder / f"{record['train_key']}.json", as_text(record))


def as_text(record: Record) -> str:
    """The same record is the same text: sorted keys, floats at full precision."""
    return json.dumps(record, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def read(path: Path) -> Record:
    """One record. Raises RecordError if the file is damaged, of a newer schema, or not what its name says."""
    try:
        record = json_text.parse(found := path.read_bytes())
    except (ValueError, OSError) as error:
        raise RecordError(f"{path}: not a readable record: {error}") from None
    validate(record, str(path))
    if record["train_key"] != path.stem:
        raise RecordError(f"{path}: holds the record of train_key {record['train_key']}, wanted that of its file name")
    (held := OnDisk(record)).digest = hashlib.sha256(found).hexdigest()
    return held


def digest_of(record: Record) -> str:
    """The SHA-256 of its file; of the file that `write` would make, if it came from none."""
    return record.digest if isinstance(record, OnDisk) else hashlib.sha256(as_text(record).encode()).hexdigest()


def read_all(folder: Path) -> list[Record]:
    """Every record of a folder, by file name; none if there is no such folder. Raises RecordError as `read` does."""
    return [read(path) for path in sorted(folder.glob("*.json"))]


def share_of(record: Record) -> float:
    """The share of its training tokens after which an SAE was kept: 1, but for checkpoints."""
    return float(record["sae"].get("share", 1.0))


def stage_of(record: Record) -> tuple[int, float]:
    """(the tokens that its training was planned for, the share of them after which it was kept); 0 tokens where the record does not say."""
    tokens = record["settings"].get("tokens")
    return (int(tokens) if is_number(tokens) else 0), share_of(record)


def validate(record: Any, where: str) -> None:
    """Raises RecordError, which begins with `where`, unless the record is complete, of this schema, and honest about what is missing."""
    if not isinstance(record, dict):
        raise RecordError(f"{where}: holds {type(record).__name__}, wanted an object")
    if (schema := record.get("schema")) != SCHEMA:
        newer = isinstance(schema, int) and schema > SCHEMA
        advice = "update sae_bench_htopk to read it" if newer else "run the suite again to remake it"
        raise (RecordError if newer else OldRecordError)(f"{where}: schema is {schema!r}, wanted {SCHEMA}; {advice}")
    demand(record, PARTS, where)
    demand(record["sae"], SAE_PARTS, f"{where}: sae")
    if not FILE_NAME.fullmatch(record["train_key"]):
        raise RecordError(f"{where}: train_key is {record['train_key']!r}, wanted letters and digits")
    validate_optional(record, where)
    for index, row in enumerate(record["rows"]):
        validate_row(row, f"{where}: rows[{index}]")


def validate_optional(record: Record, where: str) -> None:
    """Raises RecordError if a part that pages look into, where it is there, is not what they take it for."""
    demand(record, {key: kind for key, kind in OPTIONAL.items() if key in record}, where)
    every(record["curve"], lambda point: isinstance(point, dict) and all(map(is_number, point.values())), "an object of numbers", f"{where}: curve")
    every(record["cost"], lambda cost: cost is None or is_number(cost) or isinstance(cost, dict), "a number or an object", f"{where}: cost")
    every(record["sae"].get("shells", []), is_number, "a number", f"{where}: sae.shells")
    if not is_number(share := record["sae"].get("share", 1.0)) or not 0 < share <= 1:
        raise RecordError(f"{where}: sae.share is {share!r}, wanted a number above 0 and at most 1")
    every(record.get("stability", []), lambda pair: isinstance(pair, dict), "an object", f"{where}: stability")
    for index, one in enumerate(record.get("disputes", [])):
        demand(one, DISPUTE_PARTS, f"{where}: disputes[{index}]")
        every([one["here"], one["there"]], lambda value: value is None or is_number(value), "a number or null", f"{where}: disputes[{index}]")
    every(record.get("power_law", {}), lambda law: isinstance(law, dict), "an object", f"{where}: power_law")
    every(record["text"].get("notes", []), lambda note: isinstance(note, str), "text", f"{where}: text.notes")
    demand(record["provenance"], {"when": str} if "when" in record["provenance"] else {}, f"{where}: provenance")
    if not is_number(rate := record["settings"].get("rate", 0)):
        raise RecordError(f"{where}: settings.rate is {rate!r}, wanted a number")
    runs = record.get("measured", {})
    for place, run in {"provenance": record["provenance"], "measured": runs, **{f"measured.{when}": run for when, run in runs.items()}}.items():
        if isinstance(run, dict) and not isinstance(run.get("versions", {}), dict):
            raise RecordError(f"{where}: {place}.versions is {run['versions']!r}, wanted an object")


def every(part: Any, holds: Callable[[Any], bool], wanted: str, where: str) -> None:
    """Raises RecordError unless `part` is a list or an object, and each of what it holds is as wanted."""
    if not isinstance(part, list | dict):
        raise RecordError(f"{where} is {part!r}, wanted several of {wanted}")
    for place, one in part.items() if isinstance(part, dict) else enumerate(part):
        if not holds(one):
            raise RecordError(f"{where}[{place}] is {one!r}, wanted {wanted}")


def is_number(value: Any) -> bool:
    """Whether it is one, and not true or false."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def validate_row(row: Any, where: str) -> None:
    """Raises RecordError unless every value is a number, or null with its reason."""
    demand(row, ROW_PARTS, where)
    demand(row, {key: kind for key, kind in ROW_OPTIONAL.items() if key in row}, where)
    validate_reading(row["reading"], f"{where}.reading")
    for part in ("keys", "measured", "drawn"):  # by metric; a row of an earlier form has no keys, and says in a word when it was measured
        if (
            part in row
            and not isinstance(row[part], str)
            and (not isinstance(row[part], dict) or not all(isinstance(each, str) for each in row[part].values()))
        ):
            raise RecordError(f"{where}: {part} is {row[part]!r}, wanted an object of text by metric")
    for column, value in row["values"].items():
        if value is None and not row["missing"].get(column):
            raise RecordError(f"{where}: {column} is null, wanted its reason under `missing`")
        if value is not None and not is_number(value):
            raise RecordError(f"{where}: {column} is {value!r}, wanted a number or null")
    for part in ("intervals", "draws"):
        every(row.get(part, {}), lambda several: several is None or isinstance(several, list), "a list of numbers", f"{where}: {part}")
        for column, several in row.get(part, {}).items():
            if several and not set(map(type, several)) <= NUMBERS:
                every(several, lambda one: one is None or is_number(one), "a number", f"{where}: {part}.{column}")
            if part == "intervals" and several is not None and len(several) != 2:
                raise RecordError(f"{where}: {part}.{column} is {several!r}, wanted two numbers")


def validate_reading(reading: dict[str, Any], where: str) -> None:
    """Raises RecordError unless it says all of a reading, and nothing that is no part of one."""
    demand(reading, READING_PARTS, where)
    if further := sorted(reading.keys() - READING_PARTS.keys()):
        raise RecordError(f"{where}: has {', '.join(map(repr, further))}, wanted only {', '.join(map(repr, READING_PARTS))}")
    for part in ("k", "latents") if reading["latents"] is not None else ("k",):
        if not isinstance(reading[part], int) or isinstance(reading[part], bool) or reading[part] < 1:
            raise RecordError(f"{where}: {part} is {reading[part]!r}, wanted a whole number of at least 1")


def demand(part: Any, wanted: dict[str, type], where: str) -> None:
    """Raises RecordError unless `part` is an object that holds every key of `wanted` with that type."""
    if not isinstance(part, dict):
        raise RecordError(f"{where}: is {type(part).__name__}, wanted an object")
    for key, kind in wanted.items():
        if key not in part:
            raise RecordError(f"{where}: has no {key!r}, wanted one of type {kind.__name__}")
        if not isinstance(part[key], kind) or (kind is int and isinstance(part[key], bool)):
            raise RecordError(f"{where}: {key} is {part[key]!r}, wanted {kind.__name__}")
