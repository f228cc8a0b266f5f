"""Digests: what may be kept, and sent to other nodes, of a secret."""

from __future__ import annotations

import hashlib


def digest(secret: str) -> str:
    """Return a digest of a token, or of a session's key or session auth hash."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()[:16]
