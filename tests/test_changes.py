"""Models that tell a topic of their changes: when, where, and what of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import Group, Permission
from django.core import serializers
from django.db import transaction
from django.db.models.signals import post_delete, post_save

from phx_protocol import Channel, EncodeError, Socket, event
from phx_protocol.changes import broadcast_changes
from phx_protocol.testing import SyncTestChannel, TestChannel


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


async def test_a_model_tells_what_was_created_updated_and_deleted(
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


async def test_what_a_handler_saves_is_told_too(
    decorate: Any, groups: TestChannel
) -> None:
    decorate(Group, "groups", name_of)
    ref = await groups.push("create", {"name": "readers"})
    await groups.assert_push("group_created", {"name": "readers"})
    await groups.assert_reply(ref, "ok")


def test_nothing_is_told_before_the_commit_nor_of_what_is_undone(
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


def test_what_cannot_be_sent_is_told_to_who_saves_it(
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
