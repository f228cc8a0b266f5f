"""JSON Web Tokens, verified by PyJWT, with keys of a real HTTP server."""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.core.signing import BadSignature

from phx_protocol import ConnectionRefused
from phx_protocol.contrib.jwt import JWT, JWTSocket
from phx_protocol.testing import connect
from tests.support.visitor import Visitor

AGO, SOON = timedelta(seconds=-5), timedelta(seconds=5)
SECRET, OLDER = "s" * 32, "o" * 32
RSA, RSA2 = (rsa.generate_private_key(65537, 2048) for _ in range(2))
EC = ec.generate_private_key(ec.SECP256R1())


def pem(key: Any) -> str:
    public = key.public_key()
    text: bytes = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


def token(key: Any = SECRET, alg: str = "HS256", kid: Any = None, **claims: Any) -> str:
    """A JWT of ada, for a minute; a claim that is a timedelta is that much from now."""
    now = time.time()
    claims = {"sub": "ada", "exp": timedelta(seconds=60), **claims}
    for name, value in [*claims.items()]:
        if isinstance(value, timedelta):
            claims[name] = now + value.total_seconds()
        elif value is None:
            del claims[name]
    return pyjwt.encode(claims, key, alg, headers={"kid": kid} if kid else None)


#: makes a token when the test runs: a whole run takes longer than it lasts
new = functools.partial(functools.partial, token)


def hs(**more: Any) -> JWT:
    return JWT(**{"key": SECRET, "algorithms": ["HS256"], **more})


# ------------------------------------------------------------------------------ claims


@pytest.mark.parametrize(
    "verifier, good",
    [
        (hs(), new()),
        (hs(key=[SECRET, OLDER]), new(OLDER)),
        (hs(key=[OLDER, SECRET]), new(SECRET)),
        (hs(key=pem(RSA), algorithms=["RS256"]), new(RSA, "RS256")),
        (hs(key=[pem(EC), pem(RSA)], algorithms=["RS256"]), new(RSA, "RS256")),
        # from one algorithm to another
        (hs(key=[SECRET, pem(EC)], algorithms=["HS256", "ES256"]), new(EC, "ES256")),
        (hs(key=[SECRET, pem(EC)], algorithms=["HS256", "ES256"]), new()),
        (hs(key=pem(EC), algorithms=["ES256"]), new(EC, "ES256")),
        (hs(audience="chat"), new(aud=["mail", "chat"])),
        (hs(audience=["chat", "mail"], issuer="me"), new(aud="mail", iss="me")),
        (hs(leeway=30), new(exp=AGO)),
        (hs(leeway=30), new(nbf=SOON)),
        (hs(required=[]), new(exp=None)),
        (hs(user_claim="id"), new(sub=None, id=7)),
    ],
)
async def test_a_good_token_is_valid(verifier: JWT, good: Callable[[], str]) -> None:
    assert await verifier.verify(good())


@pytest.mark.parametrize(
    "verifier, make",
    [
        (hs(), new(OLDER)),
        (hs(key=[OLDER, "x" * 32]), new()),
        (hs(), lambda: token()[:-2]),
        (hs(), lambda: token() + "."),
        (hs(), lambda: "nonsense"),
        (hs(), lambda: ""),
        (hs(), lambda: "\ud800"),
        (hs(), lambda: "é.é.é"),
        (hs(), lambda: base64.b64encode(b"[" * 3000).decode() + ".e30.x"),
        (hs(), new(alg="HS512")),
        (hs(), lambda: pyjwt.encode({"sub": "ada", "exp": 4e9}, None, "none")),
        # a public key as a secret
        (hs(key=pem(RSA), algorithms=["RS256", "HS256"]), new(pem(RSA)[27:80])),
        (hs(), new(exp=AGO)),
        (hs(), new(exp=None)),
        (hs(), new(exp="soon")),
        (hs(), new(exp=float("inf"))),
        (hs(), new(exp=float("nan"))),
        (hs(), new(nbf=SOON)),
        (hs(), new(iat=SOON)),
        (hs(), new(jti=7)),
        (hs(), new(aud="chat")),
        (hs(audience="chat"), new()),
        (hs(audience="chat"), new(aud="mail")),
        (hs(issuer="me"), new(iss="you")),
        (hs(required=["exp", "jti"]), new()),
    ],
)
async def test_any_other_is_not_and_its_text_is_not_told(
    verifier: JWT, make: Callable[[], str]
) -> None:
    bad = make()
    with pytest.raises(BadSignature) as error:
        await verifier.verify(bad)
    assert len(bad) < 10 or bad[5:] not in str(error.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"key": None},
        {"key": ""},
        {"key": [SECRET, ""]},
        {"jwks_url": "http://localhost/"},
        {"algorithms": []},
        {"algorithms": ["none"]},
        {"algorithms": ["HS255"]},
        {"algorithms": "HS256"},
        {"key": None, "jwks_url": "http://localhost/", "algorithms": ["HS256"]},
    ],
)
def test_what_is_unsafe_is_an_error_when_the_class_is_made(arguments: Any) -> None:
    with pytest.raises(ImproperlyConfigured):
        hs(**arguments)


# ------------------------------------------------------------------------------- users


class AdaSocket(JWTSocket):
    jwt = hs(user_field="username", leeway=10)


class VisitorSocket(JWTSocket):
    jwt = hs()

    async def jwt_user(self, claims: Any) -> Any:
        return Visitor(claims["sub"])


async def seen(socket_class: Any, text: str) -> Any:
    """The socket of a client with this token, once it is open."""
    found: list[Any] = []

    class Seen(socket_class):  # type: ignore[misc]
        async def connect(self, params: Any) -> None:
            found.append(self)

    await (await connect(Seen, auth_token=text)).close()
    return found[0]


@pytest.mark.django_db(transaction=True)
async def test_the_user_is_the_one_that_the_token_names_until_it_ends() -> None:
    ada = await User.objects.acreate(username="ada")
    end = int(time.time()) + 60
    credential = await AdaSocket({}).read_token(token(exp=end, jti="7", iat=end - 90))
    assert credential == (ada, end + 10, None, "7", end - 100)
    assert (await seen(AdaSocket, token())).user == ada


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("user", [{"username": "bob"}, {"is_active": False}])
async def test_a_user_must_exist_and_be_active(user: Any) -> None:
    await User.objects.acreate(**{"username": "ada", **user})
    with pytest.raises(ConnectionRefused) as error:
        await connect(AdaSocket, auth_token=token())
    assert error.value.status == 403


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["x", "9" * 60, True, [1], {}, 1.5])
async def test_a_claim_that_names_nobody_refuses(name: Any) -> None:
    await User.objects.acreate(pk=1, username="ada")

    class PkSocket(JWTSocket):
        jwt = hs(user_claim="id")

    with pytest.raises(BadSignature):
        await PkSocket({}).read_token(token(id=name))


async def test_users_may_be_in_no_database() -> None:
    assert (await seen(VisitorSocket, token(sub="eve"))).user.pk == "eve"


# -------------------------------------------------------------------------------- keys


class Issuer:
    """A site that publishes its keys."""

    def __init__(self) -> None:
        self.keys: dict[str | None, Any] = {}
        self.reads = 0
        self.status = 200
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.reads += 1
                self.send_response(issuer.status)
                self.end_headers()
                self.wfile.write(issuer.body())

            def log_message(self, *args: Any) -> None:
                """Write nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/jwks.json"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def body(self) -> bytes:
        algorithm = pyjwt.algorithms.RSAAlgorithm
        keys = []
        for kid, key in self.keys.items():
            jwk = json.loads(algorithm.to_jwk(key.public_key()))
            keys.append({**jwk, "alg": "RS256", **({"kid": kid} if kid else {})})
        return json.dumps({"keys": keys}).encode()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    yield issuer
    issuer.server.shutdown()
    issuer.server.server_close()


@pytest.fixture
def verifier(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> JWT:
    issuer.keys = {"one": RSA}
    return JWT(jwks_url=issuer.url, algorithms=["RS256"])


def published(verifier: JWT) -> Any:
    return verifier._published


async def test_published_keys_are_read_once(issuer: Issuer, verifier: JWT) -> None:
    good = token(RSA, "RS256", "one")
    await asyncio.gather(*(verifier.verify(good) for _ in range(20)))
    await verifier.verify(good)
    assert issuer.reads == 1


async def test_a_new_key_is_read_when_a_token_has_it_and_an_old_one_ends(
    issuer: Issuer, verifier: JWT
) -> None:
    await verifier.verify(token(RSA, "RS256", "one"))
    published(verifier).PAUSE = 0.0
    issuer.keys = {"two": RSA2}
    await verifier.verify(token(RSA2, "RS256", "two"))
    with pytest.raises(BadSignature):
        await verifier.verify(token(RSA, "RS256", "one"))


async def test_made_up_keys_do_not_make_us_read_again_and_again(
    issuer: Issuer, verifier: JWT
) -> None:
    for n in range(20):
        with pytest.raises(BadSignature, match="no key of the issuer"):
            await verifier.verify(token(RSA, "RS256", f"made-up-{n}"))
    assert issuer.reads == 1


async def test_keys_are_read_again_after_a_while(issuer: Issuer, verifier: JWT) -> None:
    await verifier.verify(token(RSA, "RS256", "one"))
    published(verifier)._lifespan = published(verifier).PAUSE = -1.0
    for n in range(2, 4):
        # it does not wait for them
        await verifier.verify(token(RSA, "RS256", "one"))
        await published(verifier)._reading
        assert issuer.reads == n


async def test_while_the_issuer_is_away_the_last_keys_count(
    issuer: Issuer, verifier: JWT, caplog: pytest.LogCaptureFixture
) -> None:
    await verifier.verify(token(RSA, "RS256", "one"))
    published(verifier)._lifespan = published(verifier).PAUSE = -1.0
    issuer.status = 503
    with caplog.at_level(logging.ERROR):
        await verifier.verify(token(RSA, "RS256", "one"))
        await published(verifier)._reading
    assert "cannot be read from http://127.0.0.1" in caplog.text
    await verifier.verify(token(RSA, "RS256", "one"))


async def test_without_any_key_a_client_is_refused_for_now(
    issuer: Issuer, verifier: JWT
) -> None:
    class FarSocket(VisitorSocket):
        jwt = verifier

    issuer.status = 500
    for _ in range(2):
        with pytest.raises(ConnectionRefused) as error:
            await connect(FarSocket, auth_token=token(RSA, "RS256", "one"))
        assert error.value.status == 503
    assert issuer.reads == 1


@pytest.mark.parametrize("kid", ["one", None])
async def test_a_token_without_a_key_id_has_the_only_key(
    issuer: Issuer, verifier: JWT, kid: str | None
) -> None:
    issuer.keys = {kid: RSA}
    await verifier.verify(token(RSA, "RS256"))
    with pytest.raises(BadSignature):
        await verifier.verify(token(RSA2, "RS256"))


async def test_of_several_keys_a_token_must_name_one(
    issuer: Issuer, verifier: JWT
) -> None:
    issuer.keys = {"one": RSA, "two": RSA2}
    await verifier.verify(token(RSA2, "RS256", "two"))
    for bad in (token(RSA, "RS256"), token(RSA, "RS256", "two")):
        with pytest.raises(BadSignature):
            await verifier.verify(bad)


async def test_a_key_that_says_its_algorithm_has_no_other(
    issuer: Issuer, verifier: JWT
) -> None:
    both = JWT(jwks_url=issuer.url, algorithms=["RS256", "RS512"])
    await both.verify(token(RSA, "RS256", "one"))
    with pytest.raises(BadSignature):
        await both.verify(token(RSA, "RS512", "one"))


def test_keys_serve_several_event_loops(verifier: JWT) -> None:
    for _ in range(2):
        assert asyncio.run(verifier.verify(token(RSA, "RS256", "one")))
