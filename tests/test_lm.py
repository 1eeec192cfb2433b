"""Tests of the frozen language model, on tiny random models of four families; the oracle is a plain forward with torch's own hooks."""

from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
import torch.nn.functional as F
from huggingface_hub.errors import GatedRepoError
from scipy.stats import entropy
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    AutoConfig,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput

from sae_bench_htopk import checkpoint, head, lm
from sae_bench_htopk.lm import Hook, ModelError, SubjectModel

LAYERS, D, VOCABULARY, CONTEXT = 4, 32, 300, 11
SITES = ["resid_post", "resid_pre", "mlp_out", "attn_out"]
COMMON = {"vocab_size": VOCABULARY, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, "initializer_range": 0.3}
SIZES = {"hidden_size": D, "intermediate_size": 48, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "max_position_embeddings": 32}


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer, trained.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=["<pad>", "<eos>", "<bos>"], initial_alphabet=alphabet, show_progress=False)
    trained.train_from_iterator(["def return import self, " * 20], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=trained, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>")


class Pair(nn.Module):
    """A layer in the manner of older models: its hidden state comes by keyword, and it returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.attn, self.mlp = nn.Linear(D, D), nn.Linear(D, D)

    def forward(self, scale: float = 0.0, hidden_states: Any = None) -> tuple[Tensor, None]:
        hidden_states = hidden_states + scale * self.attn(hidden_states).tanh()
        return hidden_states + self.mlp(hidden_states).tanh(), None


class OldConfig(PreTrainedConfig):
    model_type = "old_for_test"


class OldBase(PreTrainedModel):
    config_class, base_model_prefix = OldConfig, "model"

    def __init__(self, config: OldConfig) -> None:
        super().__init__(config)
        self.embed, self.blocks = nn.Embedding(VOCABULARY, D), nn.ModuleList(Pair() for _ in range(LAYERS))
        self.post_init()

    def forward(self, input_ids: Tensor, use_cache: bool = False) -> BaseModelOutput:
        hidden = self.embed(input_ids)
        for block in self.blocks:
            hidden = block(scale=0.5, hidden_states=hidden)[0]
        return BaseModelOutput(last_hidden_state=hidden)


class OldCausalLM(PreTrainedModel):
    config_class, base_model_prefix = OldConfig, "model"

    def __init__(self, config: OldConfig) -> None:
        super().__init__(config)
        self.model, self.head = OldBase(config), nn.Linear(D, VOCABULARY)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def forward(self, input_ids: Tensor, use_cache: bool = False) -> CausalLMOutput:
        return CausalLMOutput(logits=2 * self.head(self.model(input_ids=input_ids).last_hidden_state))


def gemma2(**changes: Any) -> Gemma2ForCausalLM:
    own = {"num_key_value_heads": 1, "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 4, "attn_logit_softcapping": 5.0}
    return Gemma2ForCausalLM(Gemma2Config(**COMMON, **SIZES, **own, final_logit_softcapping=3.0, attn_implementation="eager", **changes))


@cache
def build(family: str) -> Any:
    torch.manual_seed(7)
    if family == "gemma2":
        return gemma2()
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig(**COMMON, **SIZES, num_key_value_heads=2, tie_word_embeddings=True))
    if family in ("neox", "neox_serial"):
        return GPTNeoXForCausalLM(GPTNeoXConfig(**COMMON, **SIZES, use_parallel_residual=family == "neox"))
    if family == "gpt2":
        return GPT2LMHeadModel(GPT2Config(**COMMON, n_embd=D, n_layer=LAYERS, n_head=2, n_positions=32))
    config = OldConfig()
    config.num_hidden_layers, config.hidden_size, config.vocab_size, config.initializer_range = LAYERS, D, VOCABULARY, 0.3
    return OldCausalLM(config)


WHERE = {  # what the model's own source says: the list of layers, the attention
    "gemma2": ("model.layers", "self_attn"),
    "llama": ("model.layers", "self_attn"),
    "neox": ("gpt_neox.layers", "attention"),
    "neox_serial": ("gpt_neox.layers", "attention"),
    "gpt2": ("transformer.h", "attn"),
    "old": ("model.blocks", "attn"),
}
FAMILIES = list(WHERE)
TOKENS = torch.randint(3, VOCABULARY, (3, CONTEXT), generator=torch.Generator().manual_seed(0))
OTHER = torch.randn(3, CONTEXT, D, generator=torch.Generator().manual_seed(1))


def subject(family: str, layer: int, site: str) -> SubjectModel:
    return SubjectModel(build(family), tokenizer(), Hook(layer, site))  # type: ignore[arg-type]


def site_of(family: str, layer: int, site: str) -> nn.Module:
    layers, attention = WHERE[family]
    block = build(family).get_submodule(f"{layers}.{layer}")
    return {"mlp_out": block.mlp, "attn_out": getattr(block, attention)}.get(site, block)


def losses_of(model: SubjectModel, captured: lm.Captured, replacement: Tensor | None) -> Tensor:
    """Cross-entropy with a replacement, or of the untouched model."""
    clean = model.clean(captured, TOKENS)
    return clean.loss if replacement is None else model.outcomes(captured, replacement, TOKENS, clean).loss


@torch.no_grad()
def oracle(family: str, layer: int, site: str, replacement: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """(the activation, the losses, the logits in float64) of one whole forward pass in which a torch hook reads the hook point and may overwrite it."""
    seen: list[Tensor] = []

    def output_hook(_: nn.Module, __: Any, output: Any) -> Any:
        seen.append(output[0] if isinstance(output, tuple) else output)
        if replacement is not None:
            return (replacement, *output[1:]) if isinstance(output, tuple) else replacement

    def input_hook(_: nn.Module, args: Any, kwargs: Any) -> Any:
        seen.append(args[0] if args else kwargs["hidden_states"])
        if replacement is not None:
            return ((replacement, *args[1:]), kwargs) if args else ((), {**kwargs, "hidden_states": replacement})

    module = site_of(family, layer, site)
    pre = site == "resid_pre"
    with module.register_forward_pre_hook(input_hook, with_kwargs=True) if pre else module.register_forward_hook(output_hook):
        logits = build(family).eval()(input_ids=TOKENS).logits
    losses = torch.zeros(TOKENS.shape)
    for window in range(len(TOKENS)):
        for place in range(CONTEXT - 1):
            row = logits[window, place].double()
            losses[window, place] = row.logsumexp(0) - row[TOKENS[window, place + 1]]
    return seen[0], losses, logits.double()


def distance(clean: Tensor, changed: Tensor) -> tuple[Tensor, Tensor]:
    """(KL(clean || changed), whether their likeliest tokens are one) from logits in float64, place by place; the last column is 0."""
    kl, agrees = torch.zeros(TOKENS.shape), torch.zeros(TOKENS.shape)
    for window in range(len(TOKENS)):
        for place in range(CONTEXT - 1):
            p, q = clean[window, place].softmax(0).numpy(), changed[window, place].softmax(0).numpy()
            kl[window, place] = float(entropy(p, q))
            agrees[window, place] = float(p.argmax() == q.argmax())
    return kl, agrees


@pytest.mark.parametrize("layer", [0, 2, LAYERS - 1])
@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("family", FAMILIES)
def test_agrees_with_a_plain_forward_and_hooks(family: str, site: str, layer: int) -> None:
    model = subject(family, layer, site)
    captured = model.capture(TOKENS)
    activation, losses, logits = oracle(family, layer, site, None)
    torch.testing.assert_close(captured.activation, activation, atol=1e-6, rtol=0)
    assert torch.equal(captured.entry, captured.activation if site.startswith("resid") else subject(family, layer, "resid_pre").activations(TOKENS))
    clean = model.clean(captured, TOKENS)
    torch.testing.assert_close(clean.loss, losses, atol=1e-5, rtol=0)
    assert (clean.loss[:, -1] == 0).all() and clean.loss.dtype == torch.float32
    same = model.outcomes(captured, captured.activation.clone(), TOKENS, clean)
    torch.testing.assert_close(same.loss, clean.loss, atol=1e-6, rtol=0)
    assert same.kl.abs().max() < 1e-6 and (same.agrees[:, :-1] == 1).all()
    replacement = OTHER * activation.norm(dim=-1).mean() / D**0.5
    changed = model.outcomes(captured, replacement, TOKENS, clean)
    _, losses, others = oracle(family, layer, site, replacement)
    for found, wanted in zip(changed, (losses, *distance(logits, others)), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert (changed.loss - clean.loss).abs().max() > 1e-2 and changed.kl.max() > 1e-3
    assert torch.equal(model.clean(captured, TOKENS).loss, clean.loss)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_layers_that_are_needed_run(family: str, site: str) -> None:
    model, layer, ran = subject(family, 2, site), 2, []
    embedding = build(family).get_output_embeddings()
    handles = [site_of(family, number, "attn_out").register_forward_hook(lambda *_, number=number: ran.append(number)) for number in range(LAYERS)]
    handles.append(embedding.register_forward_hook(lambda *_: ran.append("head")))
    captured = model.capture(TOKENS)
    assert ran == ([0, 1] if site == "resid_pre" else [0, 1, 2])
    clean = model.clean(captured, TOKENS)
    for again in (lambda: model.clean(captured, TOKENS), lambda: model.outcomes(captured, OTHER, TOKENS, clean)):
        ran.clear()
        again()
        assert ran == ([3, "head"] if site == "resid_post" else [2, 3, "head"])
    ran.clear()
    assert torch.equal(model.activations(TOKENS), captured.activation) and layer + 1 not in ran
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("site", SITES)
def test_everything_is_put_back_after_an_exception(site: str) -> None:
    model = subject("gemma2", 1, site)
    captured = model.capture(TOKENS)
    clean = losses_of(model, captured, None)

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    for place in ("norm", "layers.3.mlp"):
        with build("gemma2").model.get_submodule(place).register_forward_pre_hook(fail), pytest.raises(KeyboardInterrupt):
            losses_of(model, captured, OTHER)
    with build("gemma2").lm_head.register_forward_pre_hook(fail), pytest.raises(KeyboardInterrupt):
        losses_of(model, captured, OTHER)
    with build("gemma2").model.layers[0].mlp.register_forward_pre_hook(fail), pytest.raises(KeyboardInterrupt):
        model.capture(TOKENS)
    for module in build("gemma2").modules():
        assert "forward" not in vars(module) and not module._forward_hooks and not module._forward_pre_hooks
    assert torch.equal(losses_of(model, captured, None), clean)


def test_a_forward_that_an_instance_already_had_comes_back() -> None:
    module = nn.Linear(2, 2)
    own = module.forward = lambda x: x
    with lm.replaced({module: lambda x: 2 * x}):
        assert module(torch.ones(2)).tolist() == [2, 2]
    assert vars(module)["forward"] is own


def test_chunks_and_what_is_kept_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits of 30 rows in chunks of 7, with and without room for clean log-probabilities; and no row at all."""
    model = subject("gemma2", 1, "mlp_out")
    captured = model.capture(TOKENS)
    clean = model.clean(captured, TOKENS)
    whole = model.outcomes(captured, OTHER, TOKENS, clean)
    for name, value in (("ROWS", 7), ("KEPT", 4 * 30 * VOCABULARY - 1)):
        monkeypatch.setattr(head, name, value)
        cut = model.clean(captured, TOKENS)
        assert len(cut.top) == 5 and len(cut.log_p) == (5 if name == "ROWS" else 0)
        torch.testing.assert_close(cut.loss, clean.loss, atol=1e-5, rtol=0)
        for found, wanted in zip(model.outcomes(captured, OTHER, TOKENS, cut), whole, strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    one = TOKENS[:, :1]
    captured = model.capture(one)
    for found in model.outcomes(captured, captured.activation, one, model.clean(captured, one)):
        assert found.tolist() == [[0], [0], [0]]


def test_a_tie_for_the_likeliest_token_is_no_disagreement() -> None:
    """By hand: two tokens are as likely as each other, and the clean model preferred the second."""
    clean, tied, other = (torch.tensor([row]) for row in ([0.0, 2.0, 1.0], [3.0, 3.0, 0.0], [3.0, 2.9, 0.0]))
    top, target = clean.argmax(1), torch.tensor([0])
    assert [float(head.compared(clean.log_softmax(1), top, logits, target).agrees) for logits in (clean, tied, other)] == [1, 1, 0]


@pytest.mark.parametrize("family", ["llama", "old"])
def test_logits_of_a_bfloat16_model_are_float32(family: str) -> None:
    model = SubjectModel(type(build(family))(build(family).config).bfloat16(), tokenizer(), Hook(1, "resid_post"))
    captured = model.capture(TOKENS)
    assert captured.activation.dtype == torch.bfloat16
    embedding, hidden = model.model.get_output_embeddings(), model.model.base_model(input_ids=TOKENS).last_hidden_state.float()
    logits = hidden @ embedding.weight.float().T
    if family == "old":
        logits = 2 * (logits + embedding.bias.float())
    losses = F.cross_entropy(logits[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten(), reduction="none").view(3, -1)
    torch.testing.assert_close(losses_of(model, captured, None)[:, :-1], losses, atol=1e-5, rtol=0)
    assert torch.equal(losses_of(model, captured, captured.activation.float())[:, :-1], losses_of(model, captured, None)[:, :-1])


class Casts(TorchDispatchMode):
    """Counts the casts of tensors of one shape."""

    def __init__(self, shape: torch.Size) -> None:
        super().__init__()
        self.shape, self.count = shape, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function is torch.ops.aten._to_copy.default and args[0].shape == self.shape
        return function(*args, **(kwargs or {}))


def test_the_output_embedding_is_cast_once_for_all_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten chunks in two runs."""
    monkeypatch.setattr(head, "ROWS", 7)
    model = SubjectModel(type(build("llama"))(build("llama").config).bfloat16(), tokenizer(), Hook(1, "resid_post"))
    captured = model.capture(TOKENS)
    with Casts(model.model.get_output_embeddings().weight.shape) as casts:
        clean = model.clean(captured, TOKENS)
        model.outcomes(captured, captured.activation, TOKENS, clean)
    assert len(clean.top) == 5 and casts.count == 1


def test_a_gpu_keeps_clean_log_probabilities_in_a_share_of_its_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter where that is more than other devices may keep."""
    for free, kept in ((80 * 2**30, 20 * 2**30), (2**20, head.KEPT)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (free, 80 * 2**30))
        assert head.may_keep(torch.device("cuda")) == kept
    assert head.may_keep(torch.device("cpu")) == head.KEPT


def test_the_model_is_frozen_and_captures_are_fit_for_training() -> None:
    model = subject("gpt2", 1, "resid_post")
    assert not model.model.training and not any(parameter.requires_grad for parameter in model.model.parameters())
    activation = model.capture(TOKENS.int()).activation
    assert not activation.is_inference() and not activation.requires_grad
    assert (model.d, model.layers, model.vocabulary, model.context, model.bos) == (D, LAYERS, VOCABULARY, 32, 2)


def test_verify_shape_names_all_that_differ() -> None:
    model = subject("neox", 0, "resid_pre")
    model.verify_shape(D, LAYERS, VOCABULARY, context=32)
    with pytest.raises(ModelError, match="d is 31, the model has 32; vocab is 9, the model has 300; context is 33, the model reads at most 32"):
        model.verify_shape(31, LAYERS, 9, context=33)
    layer = sum(part.numel() for name, part in model.model.named_parameters() if ".layers.0." in name)
    model.verify_shape(D, LAYERS, VOCABULARY, layer_weights=layer)
    with pytest.raises(ModelError, match=f"layer_weights is 5, the model has {layer}"):
        model.verify_shape(D, LAYERS, VOCABULARY, layer_weights=5)


@pytest.mark.parametrize("layer", [-1, LAYERS])
def test_a_layer_that_does_not_exist(layer: int) -> None:
    with pytest.raises(ModelError, match=f"model.hook.layer: {layer}, wanted 0 to 3"):
        subject("llama", layer, "resid_post")


def test_what_cannot_be_found_is_named() -> None:
    hook = Hook(0, "resid_pre")
    object.__setattr__(hook, "site", "resid")
    with pytest.raises(ModelError, match="'resid', wanted one of resid_post, resid_pre, mlp_out, attn_out"):
        SubjectModel(build("llama"), tokenizer(), hook)

    class Bare(nn.Module):
        def __init__(self, **children: nn.Module) -> None:
            super().__init__()
            for name, child in children.items():
                self.add_module(name, child)

    with pytest.raises(ModelError, match="attn_out is the output of self_attn or attention or attn, but Bare has mixer, mlp"):
        lm.find_module(Bare(mixer=nn.Linear(1, 1), mlp=nn.Linear(1, 1)), Hook(0, "attn_out"))
    mixed = nn.ModuleList([nn.Linear(1, 1), nn.ReLU()])
    with pytest.raises(ModelError, match=r"looked for one nn.ModuleList of 2 modules of one class, found a \(2 of Linear/ReLU\)"):
        lm.find_layers(Bare(a=mixed), 2)
    with pytest.raises(ModelError, match=r"found no nn\.ModuleList"):
        lm.find_layers(Bare(a=nn.Linear(1, 1)), 2)
    blocks = nn.ModuleList(Bare(experts=nn.ModuleList(nn.ReLU() for _ in range(2))) for _ in range(2))
    assert lm.find_layers(Bare(blocks=blocks), 2) is blocks
    with pytest.raises(ModelError, match=r"blocks \(2 of Bare\), .*other \(2 of ReLU\)"):
        lm.find_layers(Bare(blocks=blocks, other=nn.ModuleList([nn.ReLU(), nn.ReLU()])), 2)
    with pytest.raises(ModelError, match="no causal language model"):
        SubjectModel(build("llama").model, tokenizer(), Hook(0, "resid_post"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    gemma2().save_pretrained(tmp_path / "tiny")
    tokenizer().save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def load(path: Path | str, layer: int = 1, dtype: torch.dtype = torch.float32) -> SubjectModel:
    return SubjectModel.load(str(path), None, Hook(layer, "resid_post"), "cpu", dtype)


def test_loads_a_folder_and_a_packaged_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(folder)
    torch.manual_seed(3)
    logits = gemma2().eval()(input_ids=TOKENS).logits
    expected = F.cross_entropy(logits[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten(), reduction="none").view(3, -1)
    torch.testing.assert_close(losses_of(model, model.capture(TOKENS), None)[:, :-1], expected, atol=1e-5, rtol=0)
    assert model.model.config._attn_implementation == "eager" and model.bos == 2 and model.device.type == "cpu"
    monkeypatch.setattr(checkpoint, "ASSETS", folder.parent)
    packaged = load("tiny")
    assert packaged.fingerprint == model.fingerprint and len(model.fingerprint) == 16 and int(model.fingerprint, 16) >= 0
    half = load("tiny", dtype=torch.bfloat16)
    assert half.capture(TOKENS).activation.dtype == torch.bfloat16 and half.fingerprint != model.fingerprint


def test_attention_is_eager_where_its_logits_are_soft_capped(tmp_path: Path) -> None:
    tokenizer().save_pretrained(tmp_path)
    for capping, wanted in ((None, "sdpa"), (5.0, "eager")):
        config = LlamaConfig(**COMMON, **SIZES, attn_logit_softcapping=capping)
        LlamaForCausalLM(config).save_pretrained(tmp_path)
        assert load(tmp_path).model.config._attn_implementation == wanted


def test_the_fingerprint_sees_values_names_and_shapes() -> None:
    one = nn.Linear(3, 2)
    found = {checkpoint.fingerprint(one)}
    with torch.no_grad():
        one.bias[1] += 1
    found |= {checkpoint.fingerprint(one), checkpoint.fingerprint(nn.Sequential(one)), checkpoint.fingerprint(nn.Linear(2, 3))}
    assert len(found) == 4 and checkpoint.fingerprint(one) in found


def test_encode_gives_ids_and_character_spans() -> None:
    model, text = subject("llama", 0, "resid_post"), 'def é(self): "<bos>" \U0001f600\n  return'
    ids, spans = model.encode(text)
    assert ids.shape == (len(spans),) and spans.shape[1] == 2 and not set(ids.tolist()) & {0, 1, 2}
    assert tokenizer().decode(ids) == text
    covered = {place for start, end in spans.tolist() for place in range(start, end)}
    assert covered == set(range(len(text))) and text[slice(*spans[0])] == "def"
    assert tuple(map(len, model.encode(""))) == (0, 0) and model.encode("")[1].shape == (0, 2)


def test_tokenizers_that_will_not_do() -> None:
    model = subject("llama", 0, "resid_post")
    model.tokenizer = SimpleNamespace(is_fast=False, bos_token_id=None, eos_token_id=5)  # type: ignore[assignment]
    assert model.bos == 5
    with pytest.raises(ModelError, match="a slow tokenizer"):
        model.encode("a")
    model.tokenizer = SimpleNamespace(bos_token_id=None, eos_token_id=None)  # type: ignore[assignment]
    with pytest.raises(ModelError, match="no bos_token and no eos_token"):
        _ = model.bos
    model.tokenizer, model.vocabulary = tokenizer(), 10
    with pytest.raises(ModelError, match="the model knows 0 to 9"):
        model.encode("zebra")


def test_folders_that_hold_no_model(folder: Path) -> None:
    with pytest.raises(ModelError, match="wanted 0 to 3"):
        load(folder, layer=9)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ModelError, match="tiny: transformers cannot load it"):
        load(folder)
    weights.unlink()
    with pytest.raises(ModelError, match=r"tiny: the folder has no weights in safetensors; wanted config\.json, weights"):
        load(folder)
    weights.write_bytes(whole)
    (folder / "tokenizer.json").rename(folder / "elsewhere.json")
    with pytest.raises(ModelError, match="tiny: the folder has no tokenizer; wanted"):
        load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"tiny: the folder has no config\.json"):
        load(folder)


def test_a_checkpoint_that_lacks_tensors_is_refused(folder: Path) -> None:
    import safetensors.torch

    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    del tensors["model.layers.2.mlp.up_proj.weight"]
    safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks model.layers.2.mlp.up_proj.weight \(1 in all\)"):
        load(folder)


@pytest.mark.parametrize("path", ["./nowhere", "/nowhere/at/all", "nowhere", "a/b/c", "~/nowhere", "../no_such_folder"])
def test_a_path_that_looks_local_and_is_not_there(path: str) -> None:
    with pytest.raises(ModelError, match=f"{path}: no such folder; wanted a folder, a hub id"):
        load(path)


def test_a_hub_that_cannot_be_reached_and_a_gated_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="nobody/nothing: no such folder, and the hub could not be reached or has no such model"):
        load("nobody/nothing")

    def gated(*_: Any, **options: Any) -> None:
        assert options == {"revision": "v2", "trust_remote_code": False}
        response = SimpleNamespace(headers={}, request=None)
        raise OSError("You are trying to access a gated repo.") from GatedRepoError("401", response=response)  # type: ignore[arg-type]

    monkeypatch.setattr(AutoConfig, "from_pretrained", gated)
    with pytest.raises(ModelError, match=r"some/model at revision v2: the model is gated; accept its licence at https://huggingface\.co/some/model and set HF"):
        SubjectModel.load("some/model", "v2", Hook(0, "resid_post"), "cpu", torch.float32)


def test_code_of_a_repository_is_never_run(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "strange", "auto_map": {"AutoConfig": "evil.Config"}}')
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ModelError, match="transformers cannot load it"):
        load(folder)
