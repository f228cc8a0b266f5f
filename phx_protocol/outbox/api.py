"""broadcast() and its variants: they write rows of the outbox."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterable
from typing import Any

from channels.db import database_sync_to_async
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import router, transaction

from ..api import broadcasts
from ..api.broadcasts import message_of, sender_of
from ..conf import options
from ..exceptions import EncodeError
from ..pubsub.message import require_size, size_of
from ..pubsub.replies import ReplyRef
from ..wire import json
from ..wire.messages import Broadcast
from ..wire.serializers import encode_map
from . import hints

#: the topics are spread over so many partitions, each of which one relay has at a time
PARTITIONS = 16


def broadcast(
    topic: str,
    event: str,
    payload: Any,
    *,
    using: str | None = None,
    exclude: Any = None,
) -> None:
    """Write a broadcast to the outbox: it is sent when the current transaction is committed.

    If that is rolled back, it is not. Outside of a transaction it is committed at once. `using` names
    the database, which must be the transaction's: by default the one where routers write the outbox.
    The other arguments are as for ``phx_protocol.broadcast``. It is delivered at least once, also if this process, or Redis, is gone
    after the commit: see the page about the outbox. Raises EncodeError for a payload that cannot be sent,
    ImproperlyConfigured for a database of which no rows are sent, and the errors of the database.
    """
    write([message_of(topic, event, payload, sender_of(exclude))], using)


def broadcast_from(
    sender: ReplyRef | str,
    topic: str,
    event: str,
    payload: Any,
    *,
    using: str | None = None,
) -> None:
    """Do as ``broadcast``, but leave out the channel `sender` (a reply ref, or a channel id)."""
    write([message_of(topic, event, payload, sender)], using)


async def abroadcast(
    topic: str,
    event: str,
    payload: Any,
    *,
    using: str | None = None,
    exclude: Any = None,
) -> None:
    """Do what ``broadcast`` does, on an event loop: outside of a transaction, as Django has no async ones."""
    message = message_of(topic, event, payload, sender_of(exclude))
    await database_sync_to_async(write)([message], using)


async def abroadcast_from(
    sender: ReplyRef | str,
    topic: str,
    event: str,
    payload: Any,
    *,
    using: str | None = None,
) -> None:
    """Do what ``broadcast_from`` does, on an event loop."""
    message = message_of(topic, event, payload, sender)
    await database_sync_to_async(write)([message], using)


def write(messages: Iterable[Broadcast], using: str | None) -> None:
    """Write rows with one INSERT, and tell their relays after the commit."""
    if not apps.is_installed("phx_protocol.outbox"):
        raise ImproperlyConfigured("INSTALLED_APPS needs 'phx_protocol.outbox'")
    from .models import Message

    using = using or router.db_for_write(Message)
    if using not in options().outbox["DATABASES"]:
        raise ImproperlyConfigured(
            f"nobody sends the outbox of {using!r}: add it to PHX_PROTOCOL['OUTBOX']['DATABASES']"
        )
    rows = [Message(**_fields(broadcast)) for broadcast in messages]
    if rows:
        Message._default_manager.using(using).bulk_create(rows)
        partitions = frozenset(row.partition for row in rows)
        tell = functools.partial(hints.tell, using, partitions)
        transaction.on_commit(tell, using=using, robust=True)


def _fields(broadcast: Broadcast) -> dict[str, Any]:
    require_size(broadcast)
    topic, event, payload = broadcast.topic, broadcast.event, broadcast.payload
    if "\0" in topic or "\0" in event:
        raise EncodeError("databases cannot keep a topic or an event with a NUL")
    is_binary = isinstance(payload, bytes)
    if not is_binary:
        payload = encode_map(payload, event)
    # raises EncodeError for strings with lone surrogates
    json.encode((topic, event, broadcast.sender))
    return {
        "partition": partition_of(topic),
        "topic": topic,
        "event": event,
        "payload": bytes(payload),
        "is_binary": is_binary,
        "size": size_of(broadcast),
        "sender": broadcast.sender,
        "headers": broadcasts.trace_headers(),
        "written_at": broadcast.sent_at,
    }


def partition_of(topic: str) -> int:
    """Return the partition of `topic`, in every process and version the same."""
    return zlib.crc32(topic.encode()) % PARTITIONS
