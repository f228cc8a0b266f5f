"""Revocation: tokens that are refused before they end, by all processes, also after a restart.

It is an app with a table of its own::

    INSTALLED_APPS = [..., "phx_protocol.revocations"]

    from phx_protocol.revocations import revoke

    revoke(token)      # a token, or the id (``jti``) of a JWT
    revoke(user=user)  # all tokens that a user has until now
"""

from .api import arevoke, revoke

__all__ = ["arevoke", "revoke"]
