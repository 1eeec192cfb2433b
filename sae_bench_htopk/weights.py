"""Saves and loads one trained SAE: its parameters, and the units of the stream that it was trained on. Safetensors, never pickle."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sae_bench_htopk import storage
from sae_bench_htopk.contract import Statistics, Variant
from sae_bench_htopk.errors import InputError
from sae_bench_htopk.stream import Units


class WeightsError(InputError):
    """A file of weights that cannot be used; the message names it and says why."""


def save(path: Path, variant: Variant, units: Units, training: dict[str, Any]) -> None:
    """Writes parameters, units and the facts of the training, whole or not at all. Raises StorageError if the disk refuses."""
    tensors = {f"sae.{name}": value.detach().cpu().contiguous() for name, value in variant.state_dict().items()}
    tensors |= {"stream.mean": units.statistics.mean.cpu(), "stream.covariance": units.statistics.covariance.cpu()}
    facts = {"scale": units.scale, "massive_limit": units.massive_limit, "training": training}
    with storage.whole(path) as unfinished:
        save_file(tensors, unfinished, metadata={"facts": json.dumps(facts, sort_keys=True)})


def whole(path: Path) -> bool:
    """Whether a file is there and is, as far as its beginning and its length tell, all that was saved; reads no weights."""
    try:
        with safe_open(path, framework="pt") as file:
            return "facts" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def load(path: Path, variant: Variant) -> tuple[Units, dict[str, Any]]:
    """Fills `variant`, and returns the stream's units and the facts of the training. Raises WeightsError on a damaged file."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["facts"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        variant.load_state_dict({name.removeprefix("sae."): value for name, value in tensors.items() if name.startswith("sae.")})
    except (SafetensorError, RuntimeError, KeyError, TypeError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: not the weights of this SAE ({str(error)[:160]}); delete it, and run trains it again") from error
    statistics = Statistics(tensors["stream.mean"], tensors["stream.covariance"])
    return Units(facts["scale"], facts["massive_limit"], statistics), facts["training"]
