"""Models that tell the clients of a topic when they have changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from django.db.models import Model
from django.db.models.signals import post_delete, post_save

from .pubsub import broadcast_on_commit

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
    ``bulk_create``, ``QuerySet.update`` and fixtures are none. Raises TypeError for an abstract
    model and for a change of another name; what `topic` or `payload` raise, and EncodeError, go
    to whoever saves. What Phoenix projects write into their contexts by hand, behind each
    ``Repo.insert``.
    """
    unknown = set(events or ()) - set(CHANGES)
    if unknown:
        raise TypeError(f"changes are {CHANGES}, not {sorted(unknown)}")

    def decorate(model: type[M]) -> type[M]:
        if model._meta.abstract:
            raise TypeError(
                f"{model.__name__} is abstract: decorate the models that derive from it"
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

        # weak=False: nobody else holds these functions
        uid = f"phx_protocol.changes.{model._meta.label}"
        post_save.connect(saved, model, weak=False, dispatch_uid=uid)
        post_delete.connect(deleted, model, weak=False, dispatch_uid=uid)
        return model

    return decorate
