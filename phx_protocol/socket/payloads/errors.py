"""Errors of payloads that do not fit their type, for the reply to a client or for an exception."""

from __future__ import annotations

from typing import Any

import msgspec

from ...exceptions import EncodeError, InvalidPayload

#: the most errors of a payload in the reply to its client, and the most characters of each
ERRORS = 20
TEXT = 200
#: with more errors, none is listed: pydantic can only make all of them
MANY = 1_000


def located(error: msgspec.ValidationError) -> dict[str, str]:
    """Return where a payload does not fit (``$.body``), and what was expected."""
    text = str(error)
    # the message may contain text of the client, the path does not
    message, found, path = text.rpartition(" - at `")
    if not found or not path.endswith("`"):
        message, path = text, "$`"
    path = path[:-1].removeprefix("key` in `")  # the path of a key of a dict
    return {"path": shortened(path), "message": shortened(message)}


def reported(error: Any) -> tuple[list[dict[str, str]], int]:
    """Return the errors of pydantic for the reply, and how many more it found."""
    count = error.error_count()
    if count > MANY:
        return [{"path": "$", "message": f"{count} errors, too many to be listed"}], 0
    first = [
        {"path": shortened(_path(at["loc"])), "message": shortened(at["msg"])}
        for at in listed(error)[:ERRORS]
    ]
    return first, count - len(first)


def listed(error: Any) -> list[dict[str, Any]]:
    """Return the errors in a ValidationError of pydantic, without the client's values."""
    return list(
        error.errors(include_url=False, include_input=False, include_context=False)
    )


def unchecked_behind(error: Any, payload: Any) -> int:
    """Return how many values in the same lists come after the reported errors: they were not checked."""
    unseen: dict[int, int] = {}  # by the id of the list
    for at in listed(error)[:ERRORS] if error.error_count() <= MANY else ():
        value = payload
        for step in at["loc"]:
            if isinstance(value, list) and isinstance(step, int) and step < len(value):
                unseen[id(value)] = len(value) - step - 1
            elif isinstance(value, dict) and step in value:
                # so this is no model: none has so many fields
                if len(value) > MANY and id(value) not in unseen:
                    unseen[id(value)] = len(value) - list(value).index(str(step)) - 1
            else:
                continue  # it is the name of a member of a union
            value = value[step]
    return sum(unseen.values())


def not_as_declared(where: str, invalid: InvalidPayload) -> EncodeError:
    return EncodeError(f"{where} is not as declared: {text_of(invalid)}")


def text_of(invalid: InvalidPayload) -> str:
    errors = "; ".join(f"{e['path']}: {e['message']}" for e in invalid.errors)
    return f"{errors}; {invalid.more} more" if invalid.more else errors


def shortened(text: str) -> str:
    return text if len(text) <= TEXT else f"{text[:TEXT]}..."


def _path(location: tuple[int | str, ...]) -> str:
    steps = (f"[{at}]" if isinstance(at, int) else f".{at}" for at in location)
    return "$" + "".join(steps)
