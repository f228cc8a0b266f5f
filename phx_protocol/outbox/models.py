"""The tables of the outbox: what is to be sent, and who sends it."""

from __future__ import annotations

import json
import time
from typing import Any

from django.db import models


class Messages(models.QuerySet["Message"]):
    """Rows of the outbox."""

    def waiting(self) -> Messages:
        return self.filter(failed_at__isnull=True)

    def in_order_of(self, partition: int) -> Messages:
        """Return the rows of `partition` that wait, the oldest first.

        A range, though of one number, and ordered by both: with "=" PostgreSQL may choose the primary key
        for the order, and so pass by all rows that are set aside, or were deleted not long ago.
        """
        found = self.waiting().filter(partition__range=(partition, partition))
        return found.order_by("partition", "id")


class Message(models.Model):
    """A broadcast that is not sent yet. It is deleted when it was."""

    partition = models.PositiveSmallIntegerField(editable=False)
    topic = models.TextField()
    event = models.TextField()
    #: JSON in UTF-8, or the bytes of a binary payload
    payload = models.BinaryField()
    is_binary = models.BooleanField(default=False)
    #: bytes of topic, event and payload
    size = models.PositiveIntegerField()
    #: the channel, or the page, that does not get it
    sender = models.TextField(null=True)
    #: of a trace
    headers = models.JSONField(null=True)
    #: seconds of the epoch
    written_at = models.FloatField()
    #: when it was set aside, as it cannot be sent; None: it waits
    failed_at = models.FloatField(null=True)
    reason = models.TextField(default="", blank=True)

    objects = Messages.as_manager()

    class Meta:
        indexes = [
            models.Index(
                fields=["partition", "id"],
                condition=models.Q(failed_at__isnull=True),
                name="phx_outbox_waiting",
            ),
            models.Index(
                fields=["failed_at"],
                condition=models.Q(failed_at__isnull=False),
                name="phx_outbox_aside",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.topic} {self.event}"

    @property
    def content(self) -> Any:
        """The payload: decoded JSON, or ``bytes``."""
        payload = bytes(self.payload)
        return payload if self.is_binary else json.loads(payload)

    @property
    def age(self) -> float:
        """The seconds since it was written."""
        return max(0.0, time.time() - self.written_at)


class Partition(models.Model):
    """The lease of a partition: which relay sends its rows, and until when. Times are the database's."""

    number = models.PositiveSmallIntegerField(primary_key=True)
    holder = models.CharField(max_length=64, default="", blank=True)
    until = models.DateTimeField()
    #: names the numbers below; another one if this row is made again
    source = models.CharField(max_length=16)
    #: the number of the last row that was about to be sent to a topic with a history
    last = models.BigIntegerField(default=0)
    #: the numbers of the rows that may just be on their way: JSON, id -> number
    sending = models.TextField(default="{}")

    class Meta:
        verbose_name = "partition"

    def __str__(self) -> str:
        return str(self.number)


class Relay(models.Model):
    """A process that sends rows, or would."""

    name = models.CharField(max_length=64, primary_key=True)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    until = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.host}, pid {self.pid}"
