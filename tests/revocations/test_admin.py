"""The revocations in the admin: a list, from which one can be taken back."""

from __future__ import annotations

import time

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from phx_protocol.revocations import revoke
from phx_protocol.revocations.models import Revocation

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def admin(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root"))
    return client


def url(name: str, *args: object) -> str:
    return reverse(f"admin:phx_revocations_revocation_{name}", args=args)


@pytest.mark.urls("tests.admin.urls")
def test_it_lists_them_with_their_times(admin: Client) -> None:
    revoke(user=7)
    revoke("the-id", expires_at=time.time() + 60)
    page = admin.get(url("changelist")).content.decode()
    assert 'class="field-key">7<' in page
    assert page.count(time.strftime("%Y")) >= 3
    assert "the-id" not in page


@pytest.mark.urls("tests.admin.urls")
def test_one_can_be_deleted_and_none_added_or_changed(admin: Client) -> None:
    revoke(user=7)
    row = Revocation.objects.get()
    assert admin.get(url("add")).status_code == 403
    assert admin.post(url("change", row.pk), {"key": "8"}).status_code == 403
    assert admin.get(url("change", row.pk)).status_code == 200
    admin.post(url("delete", row.pk), {"post": "yes"})
    assert not Revocation.objects.exists()
