"""Sealed texts: a client can neither read nor change them."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest
from django.core.signing import BadSignature
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from phx_protocol.transports.sealed import PREFIX, seal, unseal

ADDRESS = "specific.4f2e9c!process"


@given(st.lists(st.text(max_size=10) | st.integers() | st.none(), max_size=4))
def test_a_sealed_value_comes_back(value: Any) -> None:
    assert unseal(seal(value, "a"), "a", 10) == value


def test_nothing_of_it_can_be_read_and_no_two_are_alike() -> None:
    texts = [seal([ADDRESS] * 2, "a").removeprefix(PREFIX) for _ in range(50)]
    sealed = [base64.urlsafe_b64decode(text + "==") for text in texts]
    for one in sealed:
        assert not any(ADDRESS[i : i + 4].encode() in one for i in range(20))
    # no byte stands still: not of the nonce, nor of the seal, nor of what is hidden
    assert all(len(set(column)) > 10 for column in zip(*sealed, strict=True))


@given(st.integers(0, 120), st.characters(min_codepoint=33, max_codepoint=126))
def test_a_text_that_was_changed_anywhere_is_refused(at: int, to: str) -> None:
    text = seal([ADDRESS], "a")
    changed = text[:at] + to + text[at + 1 :]
    if changed != text:
        with pytest.raises(BadSignature):
            unseal(changed, "a", 10)


@pytest.mark.parametrize(
    "text", ["", PREFIX, PREFIX + "a", "é", PREFIX + "é", PREFIX + "A" * 2000]
)
def test_a_text_that_was_never_sealed_is_refused(text: str) -> None:
    with pytest.raises(BadSignature):
        unseal(text, "a", 10)


def test_it_counts_for_its_purpose_only() -> None:
    with pytest.raises(BadSignature):
        unseal(seal([ADDRESS], "a"), "b", 10)


def test_it_grows_old(monkeypatch: pytest.MonkeyPatch) -> None:
    text, later = seal([ADDRESS], "a"), time.time() + 12
    monkeypatch.setattr(time, "time", lambda: later)
    assert unseal(text, "a", 20) == [ADDRESS]
    with pytest.raises(BadSignature):
        unseal(text, "a", 10)


def test_a_rotated_key_opens_what_it_has_sealed() -> None:
    text = seal([ADDRESS], "a")
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["tests"]):
        assert unseal(text, "a", 10) == [ADDRESS]
        newer = seal([ADDRESS], "a")
    with override_settings(SECRET_KEY="new"):
        assert unseal(newer, "a", 10) == [ADDRESS]
        with pytest.raises(BadSignature):
            unseal(text, "a", 10)
