"""Loads a causal language model of transformers by packaged name, local folder or hub id, and says plainly why it cannot."""

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from sae_bench_htopk.errors import InputError
from sae_bench_htopk.faults import refused
from sae_bench_htopk.plugins import suggest
from sae_bench_htopk.shortage import is_shortage

ASSETS = Path(__file__).parent / "assets"
SAMPLED = 4096  # numbers of each tensor that the fingerprint sees


class ModelError(InputError):
    """A language model that cannot be loaded or hooked as asked; the message says what was given and what is wanted."""


def load_checkpoint(
    path: str, revision: str | None, dtype: torch.dtype, check_layers: Callable[[int], None]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and its tokenizer; never runs code from the checkpoint and reads no pickle. Raises ModelError.

    `check_layers` is given the number of layers before the weights are read, and may raise.
    """
    folder = locate(path)
    where = str(folder or path)
    options: dict[str, Any] = {"revision": revision or "main", "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(where, **options)
        check_layers(int(config.get_text_config().num_hidden_layers))
        soft_capped = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
        attention = {"attn_implementation": "eager"} if soft_capped else {}  # fused attention may leave the soft-capping out
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
        wanted: dict[str, Any] = {"config": config, "dtype": dtype, "output_loading_info": True, "use_safetensors": True}
        loaded: Any = AutoModelForCausalLM.from_pretrained(where, **wanted, **attention, **options)
    except ModelError:
        raise
    except Exception as error:  # transformers lets through whatever its parsers and its network raise
        if is_shortage(error):
            raise
        raise explain(path, revision, folder, error) from error
    model, report = loaded
    if missing := sorted(report["missing_keys"]):  # transformers would leave them random, with no more than a warning
        raise ModelError(f"model.path: {path}: the checkpoint lacks {', '.join(missing[:3])} ({len(missing)} in all); wanted a whole one")
    return model, tokenizer


def fingerprint(model: nn.Module) -> str:
    """16 hex digits of every tensor's name, type and shape, and of up to SAMPLED of its numbers at even steps: seconds for any size."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.reshape(-1)
        sample = flat[:: max(1, math.ceil(len(flat) / SAMPLED))].cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode() + sample.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def locate(path: str) -> Path | None:
    """The folder of a packaged or local model, None for a hub id. Raises ModelError if a folder is missing or holds no model."""
    packaged = sorted(folder.name for folder in ASSETS.glob("*") if folder.is_dir())
    folder = ASSETS / path if path in packaged else Path(path).expanduser()
    if not folder.is_dir():
        if path.startswith((".", "~")) or path.count("/") + path.count("\\") != 1 or path.startswith("/"):
            raise ModelError(f"model.path: {path}: no such folder; wanted a folder, a hub id (owner/name) or an embedded model; {suggest(path, packaged)}")
        return None
    wanted = "wanted config.json, weights (model.safetensors) and tokenizer.json, as save_pretrained writes them"
    if not (folder / "config.json").is_file():
        raise ModelError(f"model.path: {path}: the folder has no config.json; {wanted}")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise ModelError(f"model.path: {path}: the folder has no tokenizer; {wanted}")
    if not [*folder.glob("*.safetensors")]:
        raise ModelError(f"model.path: {path}: the folder has no weights in safetensors; {wanted}")
    return folder


def explain(path: str, revision: str | None, folder: Path | None, error: Exception) -> ModelError:
    """What transformers' error means to the user, in one sentence."""
    at = f"model.path: {path}" + (f" at revision {revision}" if revision else "")
    if folder is None and (advice := refused(error, f"https://huggingface.co/{path}", "model")):
        return ModelError(f"{at}: {advice}")
    reason = " ".join(str(error).split())
    if folder is None and isinstance(error, OSError):
        return ModelError(f"{at}: no such folder, and the hub could not be reached or has no such model or revision ({reason[:200]})")
    return ModelError(f"{at}: transformers cannot load it: {type(error).__name__}: {reason[:300]}")
