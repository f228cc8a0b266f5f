"""The words for a payload that does not fit its type."""

from __future__ import annotations

from typing import Any

import msgspec
import pydantic
import pytest

from phx_protocol.exceptions import InvalidPayload
from phx_protocol.socket.payloads.errors import (
    ERRORS,
    MANY,
    TEXT,
    located,
    not_as_declared,
    reported,
    unchecked_behind,
)


@pytest.mark.parametrize(
    ("annotation", "payload", "path"),
    [
        (int, "x", "$"),
        (list[int], [1, "x"], "$[1]"),
        (dict[str, list[int]], {"a": ["x"]}, "$[...][0]"),
        (dict[int, int], {"x": 1}, "$"),
    ],
)
def test_an_error_of_msgspec_has_its_path(
    annotation: Any, payload: Any, path: str
) -> None:
    with pytest.raises(msgspec.ValidationError) as error:
        msgspec.convert(payload, annotation, str_keys=True)
    found = located(error.value)
    assert found["path"] == path and " - at " not in found["message"]


def errors_of(payload: Any) -> Any:
    with pytest.raises(pydantic.ValidationError) as error:
        pydantic.TypeAdapter(dict[str, list[int]]).validate_python(payload)
    return error.value


def test_the_first_errors_of_pydantic_are_listed_and_the_others_counted() -> None:
    found, more = reported(errors_of({"a": ["x"] * (ERRORS + 5)}))
    assert len(found) == ERRORS and more == 5
    assert found[1]["path"] == "$.a[1]"
    found, more = reported(errors_of({"a": ["x"] * (MANY + 1)}))
    assert found[0]["message"].startswith(f"{MANY + 1} errors") and more == 0


def test_values_behind_the_first_error_of_a_list_are_counted_as_unchecked() -> None:
    payload = {"a": [1, "x", 3, 4]}
    assert unchecked_behind(errors_of(payload), payload) == 2


def test_an_exception_names_the_place_and_each_error() -> None:
    invalid = InvalidPayload([{"path": "$.a", "message": "x" * TEXT}], 3)
    text = str(not_as_declared("the push", invalid))
    assert text == f"the push is not as declared: $.a: {'x' * TEXT}; 3 more"
