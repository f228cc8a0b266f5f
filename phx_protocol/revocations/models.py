"""Revocation: a token that is refused until it ends, or a user whose older tokens are."""

from __future__ import annotations

from django.db import models


class Revocation(models.Model):
    """All times are in seconds of the epoch."""

    class Kind(models.TextChoices):
        TOKEN = "token"
        USER = "user"

    kind = models.CharField(max_length=5, choices=Kind)
    #: of a token the digest of it or of its id, of a user the primary key
    key = models.CharField(max_length=255)
    revoked_at = models.FloatField(db_index=True)
    #: when the token has ended, and the row may be deleted; None: never
    expires_at = models.FloatField(null=True, db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["kind", "key"], name="phx_revocation_key")
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.key}"
