from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from typing import Any

import pytest
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy

from phx_protocol.exceptions import EncodeError
from phx_protocol.wire import json


class Whole(int):
    pass


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    "value, text",
    [
        (datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), '"2026-01-02T00:00:00Z"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (decimal.Decimal("1.10"), '"1.10"'),
        (2**70, "1180591620717411303424"),
        (-0.0, "-0.0"),
        (gettext_lazy("Monday"), '"Monday"'),
        (mark_safe("<b>"), '"<b>"'),
        (Whole(5), "5"),
        (Colour.RED, '"red"'),
        ((1, 2), "[1,2]"),
        ({1: "a"}, '{"1":"a"}'),
    ],
)
def test_values_of_python_and_django_are_encoded(value: Any, text: str) -> None:
    assert json.encode(value).decode() == text


@pytest.mark.parametrize("value", [object(), "\ud800", {object(): 1}])
def test_what_cannot_be_encoded_is_an_encode_error(value: Any) -> None:
    with pytest.raises(EncodeError):
        json.encode(value)


def test_a_value_that_contains_itself_is_an_encode_error() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(EncodeError):
        json.encode(value)
