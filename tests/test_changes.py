"""Models that tell a topic of their changes: when, where, and what of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import Group, Permission
from django.core import serializers
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, models, transaction
from django.db.models.signals import class_prepared, post_delete, post_save
from django.http import HttpResponse
from django.test import AsyncRequestFactory
from django.test.utils import isolate_apps

from phx_protocol import Channel, EncodeError, Socket, changes, event, outbox
from phx_protocol.changes import broadcast_changes
from phx_protocol.middleware import ConnectionMiddleware
from phx_protocol.outbox.models import Message
from phx_protocol.testing import SyncTestChannel, TestChannel
from tests.support.visitor import Visitor


class GroupsChannel(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok"

    @event("create")
    async def create(self, payload: Any) -> Any:
        group = await Group.objects.acreate(name=payload["name"])
        return "ok", {"id": group.pk}


class GroupsSocket(Socket):
    channels = {"groups": GroupsChannel, "group:*": GroupsChannel}


@pytest.fixture
def decorate() -> Iterator[Any]:
    """``decorate(model, ...)``, undone behind the test."""
    decorated: list[Any] = []

    def decorate(model: Any, *args: Any, **kwargs: Any) -> None:
        assert broadcast_changes(*args, **kwargs)(model) is model
        decorated.append(model)

    yield decorate
    for model in decorated:
        uid = f"phx_protocol.changes.{model._meta.label}"
        assert post_save.disconnect(sender=model, dispatch_uid=uid)
        assert post_delete.disconnect(sender=model, dispatch_uid=uid)


def name_of(group: Group) -> dict[str, Any]:
    return {"id": group.pk, "name": group.name}


@pytest.fixture
async def groups(
    transactional_db: None, phx_connect: Any
) -> AsyncIterator[TestChannel]:
    yield await (await phx_connect(GroupsSocket)).join("groups")


@pytest.fixture
def groups_sync(transactional_db: None, phx_connect_sync: Any) -> SyncTestChannel:
    channel: SyncTestChannel = phx_connect_sync(GroupsSocket).join("groups")
    return channel


async def test_a_model_broadcasts_created_updated_and_deleted(
    decorate: Any, groups: TestChannel
) -> None:
    decorate(Group, "groups", name_of)
    group = await Group.objects.acreate(name="readers")
    key = group.pk
    await groups.assert_push("group_created", {"id": key, "name": "readers"})
    group.name = "writers"
    await group.asave()
    await groups.assert_push("group_updated", {"id": key, "name": "writers"})
    await group.adelete()
    assert await groups.assert_push("group_deleted") == {"id": key}


async def test_a_change_by_a_handler_is_broadcast_too(
    decorate: Any, groups: TestChannel
) -> None:
    decorate(Group, "groups", name_of)
    ref = await groups.push("create", {"name": "readers"})
    await groups.assert_push("group_created", {"name": "readers"})
    await groups.assert_reply(ref, "ok")


def test_nothing_is_broadcast_before_the_commit_or_after_a_rollback(
    decorate: Any, groups_sync: SyncTestChannel
) -> None:
    decorate(Group, "groups", name_of)
    with transaction.atomic():
        group = Group.objects.create(name="readers")
        groups_sync.refute_push("group_created")
        Group.objects.filter(pk=group.pk).update(name="changed behind its back")
    groups_sync.assert_push("group_created", {"name": "readers"})
    with pytest.raises(RuntimeError), transaction.atomic():
        Group.objects.create(name="undone")
        raise RuntimeError
    groups_sync.refute_push("group_created")


def test_topics_are_made_of_the_instance_and_may_be_several_or_none(
    decorate: Any, groups_sync: SyncTestChannel
) -> None:
    def topics(group: Group) -> list[str] | str | None:
        return {"both": ["groups", "group:both"], "none": None}.get(
            group.name, f"group:{group.name}"
        )

    decorate(Group, topics, name_of)
    both = groups_sync.socket.join("group:both")
    other = groups_sync.socket.join("group:other")
    for name in ("none", "other", "both"):
        Group.objects.create(name=name)
    groups_sync.assert_push("group_created", {"name": "both"})
    both.assert_push("group_created", {"name": "both"})
    other.assert_push("group_created", {"name": "other"})
    groups_sync.refute_push("group_created")


def test_events_may_have_other_names_or_be_left_out(
    decorate: Any, groups_sync: SyncTestChannel
) -> None:
    events = {"created": "new_group", "updated": None}
    decorate(Group, "groups", name_of, events=events)
    group = Group.objects.create(name="readers")
    group.save()
    group.delete()
    groups_sync.assert_push("new_group")
    groups_sync.assert_push("group_deleted")
    groups_sync.refute_push("group_updated")


def test_an_event_that_is_left_out_asks_for_no_topic(
    decorate: Any, groups_sync: SyncTestChannel
) -> None:
    asked: list[str] = []

    def topic(group: Group) -> str:
        asked.append(group.name)
        return "groups"

    decorate(Group, topic, name_of, events={"deleted": None})
    Group.objects.create(name="readers").delete()
    groups_sync.assert_push("group_created")
    assert asked == ["readers"]


def test_fixtures_tell_nothing(decorate: Any, groups_sync: SyncTestChannel) -> None:
    decorate(Group, "groups", name_of)
    [loaded] = serializers.deserialize(
        "json", '[{"model": "auth.group", "pk": 1, "fields": {"name": "loaded"}}]'
    )
    loaded.save()
    assert Group.objects.filter(name="loaded").exists()
    groups_sync.refute_push("group_created")


def test_a_payload_that_cannot_be_sent_raises_an_error_in_save(
    decorate: Any, groups_sync: SyncTestChannel
) -> None:
    decorate(Group, "groups", lambda group: {"group": group})
    with pytest.raises(EncodeError, match="send the fields that clients may see"):
        Group.objects.create(name="readers")


def test_another_model_is_not_concerned(
    decorate: Any, groups_sync: SyncTestChannel
) -> None:
    decorate(Group, "groups", name_of)
    Permission.objects.all().first().delete()  # type: ignore[union-attr]
    groups_sync.refute_push("permission_deleted")


def test_an_abstract_model_and_an_unknown_change_are_refused() -> None:
    with pytest.raises(TypeError, match="AbstractBaseUser is abstract: decorate"):
        broadcast_changes("users", dict)(AbstractBaseUser)
    with pytest.raises(TypeError, match="not \\['renamed'\\]"):
        broadcast_changes("users", dict, events={"renamed": "user_renamed"})


# ------------------------------------- proxies, children, and several decorators

with isolate_apps("django.contrib.auth"):

    class Club(Group):
        class Meta:
            app_label = "auth"
            proxy = True

    class Team(Group):
        sport = models.CharField(max_length=20)

        class Meta:
            app_label = "auth"

    class Crew(Team):
        class Meta:
            app_label = "auth"
            proxy = True

    class Squad(Team):
        captain = models.CharField(max_length=20)

        class Meta:
            app_label = "auth"

    class Lodge(Club):
        """A child with a table, of a proxy."""

        secret = models.CharField(max_length=20)

        class Meta:
            app_label = "auth"


def test_with_an_outbox_the_broadcast_is_committed_with_the_change(
    decorate: Any, groups_sync: SyncTestChannel
) -> None:
    decorate(Group, "groups", name_of, outbox=True)
    with pytest.raises(RuntimeError), transaction.atomic():
        Group.objects.create(name="undone")
        assert Message.objects.count() == 1
        raise RuntimeError
    assert not Message.objects.exists()
    with transaction.atomic():
        group = Group.objects.create(name="readers")
        key = group.pk
        group.delete()
    groups_sync.refute_push("group_created")
    assert outbox.send_waiting() == 2
    groups_sync.assert_push("group_created", {"id": key, "name": "readers"})
    groups_sync.assert_push("group_deleted", {"id": key})


def test_an_outbox_that_is_not_installed_is_named(
    decorate: Any, transactional_db: None, settings: Any
) -> None:
    settings.INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes"]
    decorate(Group, "groups", name_of, outbox=True)
    with pytest.raises(ImproperlyConfigured, match=r"phx_protocol\.outbox"):
        Group.objects.create(name="readers")


@pytest.fixture
def tables(transactional_db: None) -> Iterator[None]:
    with connection.schema_editor() as editor:
        for model in (Team, Squad, Lodge):
            editor.create_model(model)
    yield
    with connection.schema_editor() as editor:
        for model in (Lodge, Squad, Team):
            editor.delete_model(model)


@pytest.fixture
def broadcasts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """Collect broadcasts: topic, event, and the name in the payload."""
    broadcasts: list[tuple[str, str, str]] = []

    def tell(topic: str, event: str, payload: Any, **kwargs: Any) -> None:
        broadcasts.append((topic, event, payload.get("name", "")))

    monkeypatch.setattr(changes, "broadcast_on_commit", tell)
    return broadcasts


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Receivers that a test has connected for the models above are gone behind it."""
    signals = (post_save, post_delete, class_prepared)
    before = [list(signal.receivers) for signal in signals]
    yield
    for signal, receivers in zip(signals, before, strict=True):
        signal.receivers = receivers
        signal.sender_receivers_cache.clear()


@pytest.mark.parametrize("model", [Club, Team, Crew, Squad, Lodge])
def test_a_change_through_a_proxy_or_child_is_broadcast_once(
    model: Any, tables: None, broadcasts: list[Any]
) -> None:
    broadcast_changes("groups", name_of)(Group)
    one = model.objects.create(name="one")
    one.name = "two"
    one.save()
    one.delete()
    model.objects.create(name="three")
    model.objects.all().delete()
    assert broadcasts == [
        ("groups", "group_created", "one"),
        ("groups", "group_updated", "two"),
        ("groups", "group_deleted", ""),
        ("groups", "group_created", "three"),
        ("groups", "group_deleted", ""),
    ]


def test_a_child_that_is_deleted_through_its_parent_is_broadcast_once(
    tables: None, broadcasts: list[Any]
) -> None:
    broadcast_changes("teams", name_of)(Team)
    Squad.objects.create(name="one")
    Team.objects.get().delete()
    assert [event for _, event, _ in broadcasts] == ["team_created", "team_deleted"]
    assert not Squad.objects.exists()


@pytest.mark.parametrize("model", [Club, Lodge])
def test_a_decorated_proxy_broadcasts_only_changes_through_it(
    model: Any, tables: None, broadcasts: list[Any]
) -> None:
    broadcast_changes("clubs", name_of)(Club)
    Group.objects.create(name="a group")
    Team.objects.create(name="a team")
    model.objects.create(name="one").delete()
    assert broadcasts == [
        ("clubs", "club_created", "one"),
        ("clubs", "club_deleted", ""),
    ]


def test_a_proxy_that_is_defined_later_is_broadcast_too(
    transactional_db: None, broadcasts: list[Any]
) -> None:
    broadcast_changes("groups", name_of)(Group)
    with isolate_apps("django.contrib.auth"):
        meta = type("Meta", (), {"app_label": "auth", "proxy": True})
        body = {"__module__": __name__, "Meta": meta}
        late = type("Late", (Group,), body)
    late.objects.create(name="late")  # type: ignore[attr-defined]
    assert broadcasts == [("groups", "group_created", "late")]


def test_a_child_and_its_parent_tell_each_for_itself(
    tables: None, broadcasts: list[Any]
) -> None:
    broadcast_changes("groups", name_of)(Group)
    broadcast_changes("teams", name_of)(Team)
    Team.objects.create(name="one")
    assert sorted(broadcasts) == [
        ("groups", "group_created", "one"),
        ("teams", "team_created", "one"),
    ]


def test_a_model_that_is_decorated_twice_tells_twice(
    transactional_db: None, broadcasts: list[Any]
) -> None:
    for topic in ("one", "two", "three"):
        broadcast_changes(topic, name_of)(Group)
    Group.objects.create(name="a").delete()
    assert [topic for topic, *_ in broadcasts] == ["one", "two", "three"] * 2


def test_a_decorator_that_could_never_broadcast_raises_an_error() -> None:
    async def late(instance: Any) -> Any: ...

    with pytest.raises(TypeError, match="receive m2m_changed"):
        broadcast_changes("groups", dict)(Group.permissions.through)
    with pytest.raises(TypeError, match="it is a plain def"):
        broadcast_changes(late, dict)(Group)
    with pytest.raises(TypeError, match="it is a plain def"):
        broadcast_changes("groups", late)(Group)


async def test_the_page_whose_request_makes_the_change_is_left_out(
    decorate: Any, groups: TestChannel, phx_connect: Any
) -> None:
    decorate(Group, "groups", name_of)
    page = await phx_connect(GroupsSocket, user=Visitor("ada"))
    its_channel = await page.join("groups")
    await page.send([None, "id", "phoenix", "connection_id", {}])
    id = (await page._take(lambda frame: frame[1] == "id"))[4]["response"]["id"]
    request: Any = AsyncRequestFactory().post("/", headers={"X-Phx-Connection": id})
    request.user = Visitor("ada")

    async def view(request: Any) -> HttpResponse:
        await Group.objects.acreate(name="readers")
        return HttpResponse()

    await ConnectionMiddleware(view)(request)  # type: ignore[misc]
    await groups.assert_push("group_created")
    await its_channel.refute_push("group_created")
