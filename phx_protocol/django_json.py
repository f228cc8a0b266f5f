"""The conversion of Django's own types to JSON."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import SynchronousOnlyOperation
from django.db.models import Model, QuerySet
from django.forms.utils import ErrorList
from django.utils.functional import Promise

from .wire.json import json_default


@json_default.register
def _lazy(value: Promise) -> str:
    return str(value)  # a translation, in the language that is active now


@json_default.register
def _queryset(value: QuerySet) -> list[Any]:  # type: ignore[type-arg]
    try:
        return list(value)
    except SynchronousOnlyOperation:
        raise TypeError(
            "a queryset cannot be evaluated on an event loop: send "
            "[row async for row in queryset], or return it from a plain def"
        ) from None


@json_default.register
def _errors(value: ErrorList) -> list[dict[str, str]]:
    return value.get_json_data()


@json_default.register
def _model(value: Model) -> Any:
    raise TypeError(
        f"a {type(value).__name__} has no one JSON form: send the fields that clients may see"
    )
