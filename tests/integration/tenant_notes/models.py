"""What each tenant has in a schema of its own."""

from __future__ import annotations

from django.db import models


class Note(models.Model):
    text = models.TextField()
