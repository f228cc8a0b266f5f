"""The outbox in the admin."""

from __future__ import annotations

import time

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from phx_protocol import outbox
from phx_protocol.outbox.models import Message

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.admin.urls")]

LIST = "admin:phx_outbox_message_changelist"


@pytest.fixture
def admin(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root"))
    return client


@pytest.fixture
def aside() -> Message:
    """A row that was set aside, beside one that waits."""
    outbox.broadcast("room:1", "waits", {})
    outbox.broadcast("room:<b>", "failed", {"html": "<script>"})
    row = Message.objects.get(event="failed")
    row.failed_at, row.reason = time.time(), "<i>too large</i>"
    row.written_at = time.time() - 100
    row.save()
    return row


def test_it_lists_what_waits_since_when_and_why_it_cannot_be_sent(
    admin: Client, aside: Message
) -> None:
    page = admin.get(reverse(LIST)).content.decode()
    assert "room:&lt;b&gt;" in page and "&lt;i&gt;too large" in page
    assert "100." in page and "<i>" not in page.split("<tbody>")[1]


@pytest.mark.parametrize(
    ("state", "event"), [("waiting", "waits"), ("aside", "failed")]
)
def test_a_filter_shows_one_or_the_other(
    admin: Client, aside: Message, state: str, event: str
) -> None:
    page = admin.get(reverse(LIST), {"state": state})
    assert [row.event for row in page.context["cl"].result_list] == [event]


def test_the_page_of_a_row_shows_its_payload(admin: Client, aside: Message) -> None:
    url = reverse("admin:phx_outbox_message_change", args=[aside.pk])
    page = admin.get(url).content.decode()
    assert "&lt;script&gt;" in page and '<script>"' not in page


def test_what_was_set_aside_is_sent_again_as_a_new_row(
    admin: Client, aside: Message
) -> None:
    waiting = Message.objects.get(event="waits")
    chosen = {"action": "send_again", "_selected_action": [aside.pk, waiting.pk]}
    admin.post(reverse(LIST), chosen)
    again = Message.objects.get(event="failed")
    assert again.pk > aside.pk and again.failed_at is None and again.reason == ""
    assert Message.objects.get(event="waits").pk == waiting.pk


def test_who_may_only_look_can_do_nothing_else(client: Client, aside: Message) -> None:
    user = User.objects.create_user("eve", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_message"))
    client.force_login(user)
    assert client.get(reverse(LIST)).status_code == 200
    client.post(reverse(LIST), {"action": "send_again", "_selected_action": [aside.pk]})
    assert Message.objects.get(pk=aside.pk).failed_at is not None
    delete = reverse("admin:phx_outbox_message_delete", args=[aside.pk])
    assert client.post(delete, {"post": "yes"}).status_code == 403
    add = reverse("admin:phx_outbox_message_add")
    assert client.get(add).status_code == 403
