"""What a token says, and what is kept of it."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import AnonymousUser

from phx_protocol.auth.credentials import Claim, Credential, name_of, signed_part
from tests.support.visitor import Visitor

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_w"


@pytest.mark.parametrize(
    "ends, other, outlives",
    [
        (None, None, True),
        (None, 9e9, True),
        (9e9, None, False),
        (5, 5, True),
        (6, 5, True),
        (5, 6, False),
    ],
)
def test_of_two_credentials_the_one_that_ends_later_counts(
    ends: float | None, other: float | None, outlives: bool
) -> None:
    assert Credential(Visitor("ada"), ends).outlives(other) is outlives


def test_a_claim_keeps_digests_and_neither_the_token_nor_its_id() -> None:
    credential = Credential(Visitor("ada"), id="the-id", issued_at=7.0)
    claim = Claim.of("the-token", credential)
    assert claim == ((name_of("the-token"), name_of("the-id")), "ada", 7.0)
    assert "the-" not in repr(claim)


def test_a_claim_of_nobody_names_nobody() -> None:
    assert Claim.of("token", Credential(AnonymousUser())) == (
        (name_of("token"),),
        None,
        None,
    )


@pytest.mark.parametrize("signature", ["", "x", "dBjf==", "+/!", " \nx", "€"])
def test_a_jwt_has_one_name_however_its_signature_is_written(signature: str) -> None:
    signed = JWT.rpartition(".")[0]
    assert signed_part(f"{signed}.{signature}") == signed
    assert name_of(f"{signed}.{signature}") == name_of(JWT)


@pytest.mark.parametrize(
    "token",
    ["", "a.b.c", "eu.west.1", "eyJ.x", "eyJ.a.b.c", "W10:1sX:sig"],
)
def test_any_other_token_is_named_by_all_of_it(token: str) -> None:
    assert signed_part(token) is None
    assert name_of(token) != name_of(token + "x")
