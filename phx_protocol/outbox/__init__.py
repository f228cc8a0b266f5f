"""Outbox: broadcasts that are written to the database with what they tell of, and sent after the commit.

It is an app with tables of its own::

    INSTALLED_APPS = [..., "phx_protocol.outbox"]

    from phx_protocol import outbox

    with transaction.atomic():
        order.save()
        outbox.broadcast(f"order:{order.pk}", "order_changed", {"state": order.state})

A row is committed, or rolled back, together with everything else in its transaction. Whoever serves
clients, or ``manage.py phx_outbox``, sends it: see ``relay``.
"""

from .api import abroadcast, abroadcast_from, broadcast, broadcast_from
from .testing import asend_waiting, send_waiting

__all__ = [
    "abroadcast",
    "abroadcast_from",
    "asend_waiting",
    "broadcast",
    "broadcast_from",
    "send_waiting",
]
