"""The words and codes of what ends or is refused. That each is explained, tests/test_docs.py sees."""

from __future__ import annotations

import pytest
from websockets.frames import Close

from phx_protocol.wire import json
from phx_protocol.wire.reasons import CloseCode, Reason, Refusal


@pytest.mark.parametrize("code", CloseCode)
def test_a_close_code_may_be_sent_and_brings_clients_back(code: CloseCode) -> None:
    Close(code, "").check()  # raises ProtocolError for one that is not for the wire
    assert code != 1000  # phoenix.js before 1.8.16 stays away after it


@pytest.mark.parametrize("word", [*Refusal, *Reason])
def test_a_reason_is_plain_text_on_the_wire(word: Refusal | Reason) -> None:
    assert json.decode(json.encode({"reason": word})) == {"reason": str(word.value)}
    assert (
        word.value.islower()
        or word.value == "a line is neither a text frame nor base64"
    )


def test_no_two_reasons_are_the_same_word() -> None:
    for kind in (Refusal, Reason, CloseCode):
        assert len({member.value for member in kind}) == len(kind.__members__)
