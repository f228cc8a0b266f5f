from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import time
import uuid
from collections import OrderedDict, UserList
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from django import forms
from django.contrib.auth.models import User
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy

from phx_protocol.exceptions import EncodeError
from phx_protocol.wire import json


class Whole(int):
    pass


class Shy(UserList[Any], list[Any]):
    """As Django's ErrorList is: for msgspec, an empty list."""


class SignUp(forms.Form):
    name = forms.CharField(error_messages={"required": gettext_lazy("Monday")})

    def clean(self) -> None:
        raise forms.ValidationError("Come back %(day)s", "day", {"day": "later"})


WRONG = {
    "name": [{"message": "Monday", "code": "required"}],
    "__all__": [{"message": "Come back later", "code": "day"}],
}


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
        (UserList([1, UserList([])]), "[1,[]]"),
        ({"a": [], "b": ({"c": Shy([1, Shy()])},)}, '{"a":[],"b":[{"c":[1,[]]}]}'),
        ((1, 2), "[1,2]"),
        ({1: "a"}, '{"1":"a"}'),
    ],
)
def test_values_of_python_and_django_are_encoded(value: Any, text: str) -> None:
    assert json.encode(value).decode() == text


class Loud(list[Any]):
    """Another list, which hides nothing."""


def test_a_list_that_hides_its_items_is_found_wherever_it_is() -> None:
    """Also where Python's own types do not lead: in fields, and in subclasses of dict and list."""
    for around in (
        lambda v: [v],
        lambda v: {"a": Loud([v])},
        lambda v: OrderedDict(a=v),
    ):
        text = json.encode([[], around(Shy(["shown"]))]).decode()
        assert text.count('"shown"') == 1
    assert json.encode({"a": [[]], "b": Loud([])}) == b'{"a":[[]],"b":[]}'


@pytest.mark.parametrize("value", [object(), "\ud800", {object(): 1}])
def test_a_value_that_cannot_be_encoded_is_an_encode_error(value: Any) -> None:
    with pytest.raises(EncodeError):
        json.encode(value)


def test_a_value_that_contains_itself_is_an_encode_error() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(EncodeError):
        json.encode(value)


def test_errors_of_a_form_are_encoded_as_django_does() -> None:
    form = SignUp({})
    assert json.plain(form.errors) == WRONG
    assert json.plain({"reason": "invalid", "errors": form.errors})["errors"] == WRONG
    assert json.plain([form.non_field_errors()]) == [WRONG["__all__"]]
    assert json.plain({"errors": SignUp({"name": "a"})["name"].errors}) == {
        "errors": []
    }


class Refusal(msgspec.Struct, rename="camel", tag=True):
    form_errors: Any
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Answer:
    errors: Any
    at: datetime.date


def test_errors_of_a_form_are_found_wherever_they_are() -> None:
    errors = SignUp({}).errors
    day = datetime.date(2026, 1, 2)
    looped: dict[str, Any] = {"errors": []}
    looped["itself"] = looped
    refusal, answer = Refusal(errors), Answer([(errors,)], day)
    assert json.plain([{"a": refusal}]) == [
        {"a": {"type": "Refusal", "formErrors": WRONG, "note": ""}}
    ]
    object.__setattr__(answer, "no_field", looped)
    assert json.plain(answer) == {"errors": [[WRONG]], "at": "2026-01-02"}
    assert refusal.form_errors is errors and answer.errors[0][0] is errors
    deep: Any = errors
    for _ in range(800):
        deep = [deep, []]
    assert b"Come back later" in json.encode(deep)


@pytest.mark.parametrize("inner", ["[]", [], "a,[],b", {"[]": ()}], ids=repr)
def test_an_empty_list_neither_halves_the_depth_nor_multiplies_the_work(
    inner: Any,
) -> None:
    deep: Any = inner
    for _ in range(800):
        deep = [deep]
    assert json.encode({"deep": deep}).count(b"[") >= 800
    strings, numbers = ["x"] * 300_000, [[n, {"a": n}] for n in range(50_000)]
    for many in (strings, numbers, [{"a": "b", "n": 1}] * 50_000, [[]] * 300_000):
        without = fastest(lambda: json.encode({"a": [many, 1]}), 5)
        _encode = json._encode
        alone = fastest(lambda: _encode({"a": [many, 1], "b": inner}), 5)
        both = fastest(lambda: json.encode({"a": [many, 1], "b": inner}), 5)
        assert both < 10 * max(alone, without)


def fastest(run: Callable[[], Any], times: int) -> float:
    took = []
    for _ in range(times):
        started = time.thread_time()
        run()
        took.append(time.thread_time() - started)
    return min(took)


def test_data_of_a_rest_framework_serializer_is_encoded_as_it_renders() -> None:
    from rest_framework import serializers

    class UserSerializer(serializers.Serializer):  # type: ignore[misc]
        name = serializers.CharField(source="username")
        joined = serializers.DateTimeField(source="date_joined")
        tags = serializers.ListField(default=[])

    user = User(username="ada", date_joined=datetime.datetime(2026, 1, 2))
    shown = UserSerializer(user).data
    assert json.plain(shown) == dict(shown)
    assert json.plain(UserSerializer([user, user], many=True).data) == [shown, shown]
    refused = UserSerializer(data={"joined": "never"})
    assert not refused.is_valid()
    assert json.plain({"errors": refused.errors})["errors"] == {
        "name": ["This field is required."],
        "joined": [str(refused.errors["joined"][0])],
    }


async def test_a_queryset_on_an_event_loop_says_what_to_write_instead() -> None:
    with pytest.raises(EncodeError, match="async for row in queryset"):
        json.encode({"users": User.objects.values("username")})
