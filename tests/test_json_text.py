"""JSON in which every number is one, read with orjson and without."""

import math

import pytest

from sae_bench_htopk import json_text


@pytest.fixture(params=[True, False], ids=["orjson", "without"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both readers."""
    if not request.param:
        monkeypatch.setattr(json_text, "orjson", None)
    elif json_text.orjson is None:
        pytest.fail("orjson is not installed, which the tests want")


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("text", [b"NaN", b'{"a": -Infinity}', b"[1.5, -1e400]", b"1e999", b"\xff", b"", b'{"a": 1', b"[1,]"])
def test_what_is_no_json_or_no_number_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        json_text.parse(text)


@pytest.mark.usefixtures("either")
def test_numbers_come_as_they_were_written() -> None:
    """To the last bit: what Python writes, both read back."""
    numbers = [0.1, 1e-310, math.nextafter(1, 2), -0.0, 123456789012345678, 1e300, 2**53 + 1]
    found = json_text.parse(("[" + ", ".join(map(repr, numbers)) + ', null, true, "ä"]').encode())
    assert found == [*numbers, None, True, "ä"] and [type(one) for one in found[:7]] == [type(one) for one in numbers]
    assert math.copysign(1, found[3]) == -1
