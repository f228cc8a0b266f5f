"""Models that tell the clients of a topic when they have changed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from django.db.models import Model
from django.db.models.signals import class_prepared, post_delete, post_save

from .api import broadcast_on_commit
from .concurrency.callbacks import is_async

M = TypeVar("M", bound=Model)

# what happens to a model; the event that tells of it is "message_created" for a Message
CHANGES = ("created", "updated", "deleted")


def broadcast_changes(
    topic: str | Callable[[Any], str | Iterable[str] | None],
    payload: Callable[[Any], Any],
    *,
    events: Mapping[str, str | None] | None = None,
) -> Callable[[type[M]], type[M]]:
    """Have a model broadcast what happens to it, once the transaction has been committed.

    A class decorator; for a model of somebody else's: ``broadcast_changes(...)(Model)`` in
    ``AppConfig.ready``. Each is called with the instance:

    - `topic` says where: a topic, several, or None for nowhere. It may be a plain string.
    - `payload` makes what is sent, and is called when it is saved, not after the commit. Of one
      that is deleted it is ``{"id": <primary key>}``.

    `events` names the events: by default ``{"created": "message_created", "updated":
    "message_updated", "deleted": "message_deleted"}`` for a model ``Message``; None says nothing.

    It listens to ``post_save`` and ``post_delete``, so each ``save()`` is an event, and
    ``bulk_create``, ``QuerySet.update`` and fixtures are none. What is saved through a proxy or
    as a child of the model (multi-table inheritance) is told as well; of a decorated proxy only
    what is saved through it. A model that is decorated twice tells twice. Raises TypeError for
    an abstract model, for one that Django has made for a ManyToManyField, for an ``async def``,
    and for a change of another name; what `topic` or `payload` raise, and EncodeError, go
    to whoever saves. What Phoenix projects write into their contexts by hand, behind each
    ``Repo.insert``.
    """
    unknown = set(events or ()) - set(CHANGES)
    if unknown:
        raise TypeError(f"changes are {CHANGES}, not {sorted(unknown)}")

    for function in (topic, payload):
        if is_async(function):
            raise TypeError(
                f"broadcast_changes calls {function!r:.100} where models are saved: it is a plain def"
            )

    def decorate(model: type[M]) -> type[M]:
        if model._meta.abstract:
            raise TypeError(
                f"{model.__name__} is abstract: decorate the models that derive from it"
            )
        if model._meta.auto_created:
            raise TypeError(
                f"Django sends no signals for {model._meta.label}, which it has made for a "
                "ManyToManyField: give the field a `through` model, or receive m2m_changed"
            )
        name = model._meta.model_name
        named = {change: f"{name}_{change}" for change in CHANGES} | dict(events or {})

        def tell(
            change: str, instance: M, make: Callable[[M], Any], using: str
        ) -> None:
            event = named[change]
            if event is None:
                return  # before `topic` may ask the database, for each row of a cascade
            topics = topic(instance) if callable(topic) else topic
            if topics is None:
                return
            body = make(instance)
            for each in [topics] if isinstance(topics, str) else topics:
                broadcast_on_commit(each, event, body, using=using)

        def saved(
            instance: M, created: bool, raw: bool, using: str, **kwargs: Any
        ) -> None:
            if not raw:  # a fixture is no change of anybody's
                tell("created" if created else "updated", instance, payload, using)

        def deleted(instance: M, using: str, **kwargs: Any) -> None:
            tell("deleted", instance, lambda gone: {"id": gone.pk}, using)

        def connect(sender: type[Model]) -> None:
            uid = _free_uid(model, sender)
            # weak=False: nobody else holds these functions
            post_save.connect(saved, sender, weak=False, dispatch_uid=uid)
            if not _is_deleted_as(model, sender):
                post_delete.connect(deleted, sender, weak=False, dispatch_uid=uid)

        def prepared(sender: type[Model], **kwargs: Any) -> None:
            if issubclass(sender, model):
                connect(sender)

        # Django's signals name the very class that is saved, never a base (ticket 9318)
        for each in _with_subclasses(model):
            connect(each)
        class_prepared.connect(prepared, weak=False)
        return model

    return decorate


def _with_subclasses(model: type[Model]) -> list[type[Model]]:
    """`model`, its proxies, and its children with tables of their own, each once."""
    found: dict[type[Model], None] = {model: None}
    waiting = [model]
    while waiting:
        waiting = [sub for each in waiting for sub in each.__subclasses__()]
        found.update(dict.fromkeys(waiting))
    return [each for each in found if not each._meta.abstract]


def _is_deleted_as(model: type[Model], sender: type[Model]) -> bool:
    """Whether Django tells the receivers of `model` by itself when a `sender` is deleted: it deletes
    the row of the parent, too."""
    is_proxy = sender._meta.concrete_model is model._meta.concrete_model
    return not (is_proxy or model._meta.proxy)


def _free_uid(model: type[Model], sender: type[Model]) -> str:
    """A name for one more receiver: Django ignores a second one of the same name."""
    first = uid = f"phx_protocol.changes.{model._meta.label}"
    taken = {key for key, *_ in post_save.receivers}
    for n in itertools.count(2):
        if (uid, id(sender)) not in taken:
            break
        uid = f"{first}.{n}"
    return uid
