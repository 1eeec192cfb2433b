"""What errors of the hub's own library mean, made by the library itself from answers that a hub gives."""

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import datasets
import huggingface_hub
import pytest
import torch
from datasets.arrow_writer import ArrowWriter
from huggingface_hub.utils import hf_raise_for_status, httpx

from sae_bench_htopk import faults, reader
from sae_bench_htopk.lm import Hook, ModelError, SubjectModel
from sae_bench_htopk.text import Hub, TextError

Answer = Callable[[httpx.Request], httpx.Response]
COMMIT = "c" * 40
PAGE = "https://huggingface.co/api/models/some/model"


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if requests were to be made."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[Answer], None]]:
    """Makes every request of the hub's library end in an answer of the test's; nothing is sent, and nothing waited for."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(reader.time, "sleep", lambda seconds: None)  # the same module for everyone
    plain = huggingface_hub.utils._http._GLOBAL_CLIENT_FACTORY
    yield lambda answer: huggingface_hub.set_client_factory(lambda: httpx.Client(transport=httpx.MockTransport(answer)))
    huggingface_hub.set_client_factory(plain)


def answer(status: int, **headers: str) -> Answer:
    """The same answer to every request."""
    return lambda request: httpx.Response(status, headers={name.replace("_", "-"): value for name, value in headers.items()}, request=request)


def raised(status: int, **headers: str) -> Exception:
    """What the library makes of an answer."""
    with pytest.raises(Exception) as caught:
        hf_raise_for_status(answer(status, **headers)(httpx.Request("GET", PAGE)))
    return caught.value


@pytest.mark.parametrize("revision", [COMMIT, "main"])
@pytest.mark.parametrize(("status", "code"), [(401, "GatedRepo"), (403, "GatedRepo")])
def test_what_is_gated_says_which_licence_and_which_variable(hub: Callable[[Answer], None], status: int, code: str, revision: str) -> None:
    """A model and a data set, through all that lies between the answer and the user; the data set is not asked for again."""
    asked: list[str] = []

    def count(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return answer(status, X_Error_Code=code)(request)

    hub(count)
    with pytest.raises(
        TextError, match=r"some/set .* at \w+: the data set is gated; accept its licence at https://huggingface\.co/datasets/some/set and set HF_T"
    ):
        next(Hub("some/set", revision).rows())
    assert sum("some/set" in url for url in asked) == 1
    with pytest.raises(
        ModelError, match=r"path: some/model: the model is gated; accept its licence at https://huggingface\.co/some/model and set HF_TOKEN to a"
    ):
        SubjectModel.load("some/model", None, Hook(0, "resid_post"), "cpu", torch.float32)


@pytest.mark.parametrize("revision", [COMMIT, "main"])
def test_a_private_or_gated_thing_that_the_hub_denies_to_strangers(hub: Callable[[Answer], None], monkeypatch: pytest.MonkeyPatch, revision: str) -> None:
    """Without an account the hub says no more than 401; with a token the sentence is about the token."""
    hub(answer(401))
    with pytest.raises(
        TextError, match=r"no such data set, or none for this account; if https://huggingface\.co/datasets/some/set is there, .* set HF_TOKEN to a"
    ):
        next(Hub("some/set", revision).rows())
    monkeypatch.setenv("HF_TOKEN", "hf_made_up")
    with pytest.raises(
        ModelError, match=r"no such model, or none for this account; if https://huggingface\.co/some/model is there, .* see that HF_TOKEN is a valid"
    ):
        SubjectModel.load("some/model", None, Hook(0, "resid_post"), "cpu", torch.float32)


@pytest.mark.parametrize("revision", [COMMIT, "main"])
def test_a_hub_that_is_down_is_asked_again(hub: Callable[[Answer], None], capsys: pytest.CaptureFixture[str], revision: str) -> None:
    """Until the tries are used up; for an answer that asks to come later, and for no answer."""

    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route", request=request)

    for down in (answer(503), broken):
        hub(down)
        with pytest.raises(TextError, match=r"some/set .* at \w+ cannot be read: "):
            next(Hub("some/set", revision).rows())
        said = capsys.readouterr().err
        assert [f"trying again in {wait} s" in said for wait in (1, 2, 4, 8, 16, 32, 60)] == [True] * 7 and said.count("trying again") == 7


def test_which_answers_may_change() -> None:
    """Of the hub's and of Python's own errors."""
    for error in (raised(500), raised(503), raised(429), raised(408), httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("cut off")):
        assert faults.transient(error), error
    for error in (ConnectionResetError(), TimeoutError(), OSError(101, "Network is unreachable"), ssl.SSLEOFError("cut off")):
        assert faults.transient(error), error
    for error in (raised(404), raised(400), raised(403), raised(401), raised(404, X_Error_Code="RevisionNotFound"), raised(401, X_Error_Code="GatedRepo")):
        assert not faults.transient(error), error
    for error in (ValueError("bad"), FileNotFoundError("gone"), PermissionError("no"), OSError(28, "No space left on device"), MemoryError()):
        assert not faults.transient(error), error


def test_who_is_offline_on_purpose_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the errors are wrapped; nor who meets a certificate that is not valid."""
    offline = ConnectionError("Couldn't reach 'some/set' on the Hub (OfflineModeIsEnabled)")
    untrusted = httpx.ConnectError("certificate verify failed")
    untrusted.__cause__ = ssl.SSLCertVerificationError()
    assert not faults.transient(offline) and not faults.transient(untrusted)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert not faults.transient(ConnectionResetError())


@pytest.mark.parametrize("revision", [COMMIT, "main"])
def test_a_certificate_that_is_not_valid_is_not_waited_for(hub: Callable[[Answer], None], capsys: pytest.CaptureFixture[str], revision: str) -> None:
    """Also where `datasets` raises its own error and drops the cause."""

    def untrusted(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("certificate verify failed", request=request) from ssl.SSLCertVerificationError("self-signed certificate")

    hub(untrusted)
    with pytest.raises(TextError, match=r"some/set .* cannot be read: "):
        next(Hub("some/set", revision).rows())
    assert "trying again" not in capsys.readouterr().err


def test_no_other_revision_is_read_while_the_hub_is_away(
    hub: Callable[[Answer], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`datasets` falls back on what it has stored last; that is waited out as any fault, and without a network on purpose said at once."""
    stored = tmp_path / "some___set" / "default" / "0.0.0" / "0123456789abcdef"
    stored.mkdir(parents=True)
    with ArrowWriter(path=str(stored / "set-train.arrow"), features=datasets.Features(text=datasets.Value("string"))) as writer:
        writer.write({"text": "of another revision"})
        rows, size = writer.finalize()
    split = datasets.SplitInfo("train", num_bytes=size, num_examples=rows, dataset_name="set")
    info = datasets.DatasetInfo(dataset_name="set", config_name="default", features=datasets.Features(text=datasets.Value("string")))
    info.splits = datasets.splits.SplitDict({"train": split}, dataset_name="set")
    info.write_to_directory(str(stored))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)

    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route", request=request)

    hub(broken)
    assert next(iter(datasets.load_dataset("some/set", revision=COMMIT, split="train", streaming=True)))["text"] == "of another revision"
    for offline, tries in ((False, 7), (True, 0)):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
        with pytest.raises(TextError, match=r"some/set .* cannot be read: the hub cannot be reached, and what is stored here may be of another revision"):
            next(Hub("some/set", COMMIT).rows())
        assert capsys.readouterr().err.count("trying again") == tries
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    hub(answer(403, X_Error_Code="GatedRepo"))
    with pytest.raises(TextError, match=r"the data set is gated; accept its licence"):
        next(Hub("some/set", COMMIT).rows())


@pytest.mark.parametrize("status", [401, 403])
def test_a_data_set_whose_rows_were_read_is_not_said_to_be_unknown(status: int, hub: Callable[[Answer], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's own words are; so they are where it gives a data set to nobody any more."""

    def rows() -> Iterator[dict[str, str]]:
        yield {"text": "one"}
        raise raised(status, X_Error_Message="token has expired")

    given = datasets.IterableDataset.from_generator(rows)
    hub(answer(403, X_Error_Message="Access to this resource is disabled."))
    with pytest.raises(TextError, match=r"the hub gives the data set to nobody, see https://huggingface\.co/datasets/some/set: .*resource is disabled\."):
        next(Hub("some/set", "main").rows())
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *_, **__: SimpleNamespace(as_streaming_dataset=lambda split: given))
    reading = Hub("some/set", COMMIT).rows()
    assert next(reading).columns == {"text": "one"}
    with pytest.raises(TextError) as caught:
        next(reading)
    said = str(caught.value)
    assert "no such data set" not in said and "the hub gives no more of the data set; if https://huggingface.co/datasets/some/set is still there" in said
    assert said.endswith("token of that account: token has expired")
