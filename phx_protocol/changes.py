"""broadcast_changes(): models that broadcast to a topic when they change."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model
from django.db.models.signals import class_prepared, post_delete, post_save

from .api import broadcast_on_commit
from .api.broadcasts import message_of, sender_of
from .concurrency.callbacks import is_async
from .middleware import current_request

M = TypeVar("M", bound=Model)

# the changes of a model; the event of the first is "message_created" for a model Message
CHANGES = ("created", "updated", "deleted")


def broadcast_changes(
    topic: str | Callable[[Any], str | Iterable[str] | None],
    payload: Callable[[Any], Any],
    *,
    events: Mapping[str, str | None] | None = None,
    outbox: bool = False,
) -> Callable[[type[M]], type[M]]:
    """Decorate a model so that its changes are broadcast when the transaction is committed.

    For a model of another package write ``broadcast_changes(...)(Model)`` in
    ``AppConfig.ready``. Each of these is called with the instance:

    - `topic` returns a topic, several, or None for no broadcast. It may be a plain string.
    - `payload` returns the payload. It is called when the instance is saved, not after the
      commit. The payload of a deleted instance is ``{"id": <primary key>}``.

    `events` names the events: by default ``{"created": "message_created", "updated":
    "message_updated", "deleted": "message_deleted"}`` for a model ``Message``. None as a name
    means no broadcast. With ``ConnectionMiddleware`` the page whose request makes the change is left
    out, if it names its connection. With `outbox` the broadcasts are written to the outbox, in the
    transaction and the database of the change: ``phx_protocol.outbox`` is in INSTALLED_APPS.

    It receives ``post_save`` and ``post_delete``, so each ``save()`` is an event, and
    ``bulk_create``, ``QuerySet.update`` and fixtures are not. Instances that are saved through a
    proxy or as a child of the model (multi-table inheritance) are broadcast as well; with a
    decorated proxy, only those that are saved through it. A model that is decorated twice
    broadcasts twice. Raises TypeError for an abstract model, for one that Django has made for a
    ManyToManyField, for an ``async def``, and for a change of another name. Errors of `topic` and
    `payload`, and EncodeError, reach the code that saves. Phoenix projects write such broadcasts
    into their contexts by hand, after each ``Repo.insert``.
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
                return  # before `topic`, which may query the database for each row of a cascade
            topics = topic(instance) if callable(topic) else topic
            if topics is None:
                return
            body, exclude = make(instance), current_request()
            each = [topics] if isinstance(topics, str) else topics
            if outbox:
                sender = sender_of(exclude)
                rows = [message_of(t, event, body, sender) for t in each]
                _outbox().write(rows, using)
            else:
                for t in each:
                    broadcast_on_commit(t, event, body, using=using, exclude=exclude)

        def saved(
            instance: M, created: bool, raw: bool, using: str, **kwargs: Any
        ) -> None:
            if not raw:  # loading a fixture is not a change
                tell("created" if created else "updated", instance, payload, using)

        def deleted(instance: M, using: str, **kwargs: Any) -> None:
            tell("deleted", instance, lambda gone: {"id": gone.pk}, using)

        def connect(sender: type[Model]) -> None:
            uid = _free_uid(model, sender)
            # weak=False: there is no other reference to these functions
            post_save.connect(saved, sender, weak=False, dispatch_uid=uid)
            if not _is_deleted_as(model, sender):
                post_delete.connect(deleted, sender, weak=False, dispatch_uid=uid)

        def prepared(sender: type[Model], **kwargs: Any) -> None:
            if issubclass(sender, model):
                connect(sender)

        # Django sends its signals with the class that is saved, never with a base (ticket 9318)
        for each in _with_subclasses(model):
            connect(each)
        class_prepared.connect(prepared, weak=False)
        return model

    return decorate


def _outbox() -> Any:
    """Return the app of the outbox. Raises ImproperlyConfigured."""
    try:
        return apps.get_app_config("phx_outbox")
    except LookupError as error:
        raise ImproperlyConfigured(
            "broadcast_changes(outbox=True): INSTALLED_APPS needs 'phx_protocol.outbox'"
        ) from error


def _with_subclasses(model: type[Model]) -> list[type[Model]]:
    """Return `model`, its proxies, and its children with tables of their own, each once."""
    found: dict[type[Model], None] = {model: None}
    waiting = [model]
    while waiting:
        waiting = [sub for each in waiting for sub in each.__subclasses__()]
        found.update(dict.fromkeys(waiting))
    return [each for each in found if not each._meta.abstract]


def _is_deleted_as(model: type[Model], sender: type[Model]) -> bool:
    """Return whether Django sends ``post_delete`` of `model` too when a `sender` is deleted.

    It does for a child with a table of its own, because it deletes the parent's row as well.
    """
    is_proxy = sender._meta.concrete_model is model._meta.concrete_model
    return not (is_proxy or model._meta.proxy)


def _free_uid(model: type[Model], sender: type[Model]) -> str:
    """Return an unused name for a receiver: Django ignores a second one with the same name."""
    first = uid = f"phx_protocol.changes.{model._meta.label}"
    taken = {key for key, *_ in post_save.receivers}
    for n in itertools.count(2):
        if (uid, id(sender)) not in taken:
            break
        uid = f"{first}.{n}"
    return uid
