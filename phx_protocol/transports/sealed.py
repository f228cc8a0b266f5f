"""Sealed texts: a client keeps them for us, but can neither read nor change them.

Neither Django nor the standard library can encrypt, and a package for it would serve only these
hundred bytes of a session. So HMAC-SHA256 does both. In counter mode, over a nonce that is used
once, it makes the key stream (a PRF in CTR mode). Over nonce, text and purpose, under another
key, it makes the seal, which is checked first (encrypt-then-MAC).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import secrets
import time
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from django.conf import settings
from django.core.signing import BadSignature
from django.utils.crypto import salted_hmac
from django.utils.encoding import force_bytes

#: the beginning of every sealed text, by which it differs from the values of other applications
PREFIX = "phx."
#: characters of the longest text that is decoded
LONGEST = 1024

SALT = "phx_protocol.sealed"
NONCE, SEAL = 16, 32


def seal(value: Any, purpose: str) -> str:
    """Return `value` (any JSON value) as a text of ``A-Za-z0-9_-.``.

    Only ``unseal`` with the same `purpose` accepts it, if it is not longer than LONGEST. Raise
    TypeError if JSON cannot carry `value`.
    """
    text = json.dumps([int(time.time()), value], separators=(",", ":")).encode()
    key, nonce = next(_keys()), secrets.token_bytes(NONCE)
    hidden = _xor(text, key, nonce)
    sealed = nonce + _seal(key, purpose, nonce + hidden) + hidden
    return PREFIX + base64.urlsafe_b64encode(sealed).decode().rstrip("=")


def unseal(text: str, purpose: str, max_age: float) -> Any:
    """Return the value that was sealed for `purpose`, at most `max_age` seconds ago.

    Keys in SECRET_KEY_FALLBACKS count too. Raise BadSignature for every other text.
    """
    sealed = _decode(text)
    nonce, given, hidden = (
        sealed[:NONCE],
        sealed[NONCE : NONCE + SEAL],
        sealed[NONCE + SEAL :],
    )
    for key in _keys():
        if hmac.compare_digest(_seal(key, purpose, nonce + hidden), given):
            sealed_at, value = json.loads(_xor(hidden, key, nonce))
            if time.time() - sealed_at > max_age:
                raise BadSignature("sealed too long ago")
            return value
    raise BadSignature("not sealed with this key, for this purpose")


def is_sealed(text: str) -> bool:
    """Return whether `text` looks like a sealed text; only ``unseal`` checks the seal."""
    return text.startswith(PREFIX)


def _decode(text: str) -> bytes:
    encoded = text.removeprefix(PREFIX)
    if not is_sealed(text) or len(text) > LONGEST or not text.isascii():
        raise BadSignature("not sealed")
    try:
        sealed = base64.b64decode(
            encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True
        )
    except binascii.Error as error:
        raise BadSignature("not sealed") from error
    # accept one spelling only: the last character of base64 has bits that decoding ignores
    if base64.urlsafe_b64encode(sealed).decode().rstrip("=") != encoded:
        raise BadSignature("not sealed")
    return sealed


def _keys() -> Iterator[bytes]:
    """Return the current key first, then those of SECRET_KEY_FALLBACKS."""
    for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        yield force_bytes(secret)


def _seal(key: bytes, purpose: str, text: bytes) -> bytes:
    # of fixed length, so that no other purpose and text together give the same bytes
    named = sha256(purpose.encode()).digest()
    return _hmac(key, "seal", named + text)


def _xor(text: bytes, key: bytes, nonce: bytes) -> bytes:
    blocks = range(-(-len(text) // sha256().digest_size))
    stream = b"".join(_hmac(key, "stream", nonce + bytes((n,))) for n in blocks)
    return bytes(a ^ b for a, b in zip(text, stream, strict=False))


def _hmac(key: bytes, use: str, text: bytes) -> bytes:
    return salted_hmac(f"{SALT}.{use}", text, secret=key, algorithm="sha256").digest()
