from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.db import models
from django.urls import reverse

from phx_protocol.changes import broadcast_changes

#: most messages in the page of a room
LATEST = 50


class Room(models.Model):
    name = models.SlugField(max_length=40, unique=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("room", args=[self.name])

    @property
    def topic(self) -> str:
        return f"room:{self.name}"

    def latest(self) -> list[dict[str, Any]]:
        """Return the payloads of the latest messages, the newest last."""
        messages = self.messages.select_related("author").order_by("-id")[:LATEST]
        return [message.as_payload() for message in messages][::-1]


@broadcast_changes(
    topic=lambda message: message.room.topic,
    payload=lambda message: message.as_payload(),
    events={"created": "new_msg", "updated": None, "deleted": None},
    outbox=True,
)
class Message(models.Model):
    """A message of a room. The clients of the room get it, whichever code saves it."""

    room = models.ForeignKey(Room, models.CASCADE, related_name="messages")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    #: made by the sender, so that a message sent again is not stored again
    key = models.UUIDField(default=uuid.uuid4, editable=False)
    body = models.TextField(max_length=2000)
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["author", "key"], name="message_sent_once")
        ]

    def __str__(self) -> str:
        return f"{self.author}: {self.body:.50}"

    def as_payload(self) -> dict[str, Any]:
        """Return the fields that clients see."""
        return {
            "id": self.pk,
            "author": self.author.get_username(),
            "body": self.body,
            "created": self.created,
        }
