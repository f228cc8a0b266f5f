"""What waits in the outbox of the site."""

from __future__ import annotations

import time
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from phx_protocol import outbox
from phx_protocol.management.doctor.findings import Status
from phx_protocol.management.doctor.outbox import backlog
from phx_protocol.outbox.models import Message
from tests.management.doctor.site import site


async def test_a_site_without_one_is_well(settings: Any) -> None:
    settings.INSTALLED_APPS = ["phx_protocol"]
    verdict = await backlog(site("http://example.com"))
    assert (verdict.status, verdict.message) == (Status.OK, "the site has none")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("age", "is_aside", "said"),
    [
        (0, False, "1 rows wait"),
        (100, False, "1 rows wait, the oldest for 100 s"),
        (100, True, "1 rows were set aside"),
    ],
)
async def test_what_waits_for_long_or_cannot_be_sent_is_a_warning(
    age: float, is_aside: bool, said: str
) -> None:
    await outbox.abroadcast("room:1", "said", {})
    now = time.time()
    await Message.objects.aupdate(
        written_at=now - age, failed_at=now if is_aside else None
    )
    verdict = await backlog(site("http://example.com"))
    assert verdict.message == said
    assert (verdict.status is Status.OK) == (age == 0)
    await sync_to_async(Message.objects.all().delete)()
