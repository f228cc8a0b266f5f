"""Models without tables or migrations: the admin needs them for its entries and permissions."""

from __future__ import annotations

from typing import Any

from django.db import models


class NoRows(models.Manager[Any]):
    """A manager that never queries the database: ``dumpdata`` uses the managers of all models."""

    def get_queryset(self) -> models.QuerySet[Any]:
        return super().get_queryset().none()


class Live(models.Model):
    """The base of the models for objects that exist only in processes that serve sockets."""

    objects = NoRows()

    class Meta:
        abstract = True
        managed = False
        base_manager_name = "objects"
        default_permissions = ("view",)


class Topic(Live):
    """A topic, whether a client has joined it or not."""

    topic = models.TextField(primary_key=True)

    class Meta(Live.Meta):
        permissions = [
            ("broadcast_topic", "Can broadcast on topic"),
            ("close_topic", "Can close topic"),
            ("listen_topic", "Can listen to topic"),
        ]

    def __str__(self) -> str:
        return self.topic


class Connection(Live):
    """A client's open connection: a Socket, over WebSocket or long-poll."""

    id = models.TextField(primary_key=True)

    class Meta(Live.Meta):
        permissions = [("disconnect_connection", "Can disconnect connection")]

    def __str__(self) -> str:
        return self.id


class Node(Live):
    """A process (event loop) that serves sockets or tracks presences."""

    name = models.TextField(primary_key=True)

    class Meta(Live.Meta):
        pass

    def __str__(self) -> str:
        return self.name


class OnlineUser(Live):
    """A user with an open connection, by the primary key as text."""

    key = models.TextField(primary_key=True)

    class Meta(Live.Meta):
        verbose_name = "user online"
        verbose_name_plural = "users online"

    def __str__(self) -> str:
        return self.key
