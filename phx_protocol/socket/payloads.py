"""Declared types of payloads: received payloads are decoded and checked, sent ones are checked.

A type is a ``msgspec.Struct``, a dataclass, a TypedDict, a pydantic model, or anything else that
``msgspec.convert`` or a ``pydantic.TypeAdapter`` makes. ``Any``, ``dict``, ``Mapping`` and ``bytes``
declare nothing.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from ..exceptions import EncodeError, InvalidPayload
from ..logs.printable import message_of, shown
from ..wire.json import ENCODE_ERRORS, encode, plain

UNTYPED = (Any, object, dict, bytes, Mapping, inspect.Parameter.empty)

#: the status that stands for any other, where a reply's status is declared as ``str``
ANY_STATUS = "*"

#: the most errors of a payload in the reply to its client, and the most characters of each
ERRORS = 20
TEXT = 200
#: with more errors, none is listed: pydantic can only make all of them
MANY = 1_000
#: bytes of JSON above which pydantic looks for the first error of each list only: all errors of
#: 1 MiB held the loop for 200 ms to 1.4 s, the first ones for 35 ms at the most
LARGE = 32 * 1024


class PayloadType:
    """A type that msgspec decodes, except for pydantic models in it. `annotation` is the type."""

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation

    @staticmethod
    def of(annotation: Any) -> PayloadType | None:
        """Return the type that `annotation` declares, or None if it declares nothing."""
        if _says_nothing(annotation):
            return None
        kind = PydanticType if _is_for_pydantic(annotation) else PayloadType
        return kind(annotation)

    def decode(self, payload: Any) -> Any:
        """Return a received `payload` as the declared type. Raises InvalidPayload."""
        return self._convert(payload, _from_pydantic)

    def sent(self, payload: Any, where: str) -> Any:
        """Return `payload` as it is sent. Raises EncodeError if it does not fit the type; `where` names it."""
        try:
            self._convert(plain(payload), _unchecked)
        except InvalidPayload as invalid:
            raise _not_as_declared(where, invalid) from None
        return payload

    def verify(self) -> None:
        """Raise TypeError if this type cannot be checked."""
        msgspec.json.Decoder(self.annotation, dec_hook=_from_pydantic)
        for found in custom_types(self.annotation):
            if not is_pydantics(found):
                raise TypeError(f"{found!r} is a type that cannot be checked")

    def _convert(self, payload: Any, hook: Any) -> Any:
        try:
            return msgspec.convert(
                payload, self.annotation, str_keys=True, dec_hook=hook
            )
        except msgspec.ValidationError as error:
            found = _located(error)
        raise InvalidPayload([found])


class PydanticType(PayloadType):
    """A type that pydantic decodes; it reports more than the first error."""

    def decode(self, payload: Any) -> Any:
        import pydantic

        text = None if isinstance(payload, bytes) else encode(payload)
        is_large = text is not None and len(text) > LARGE
        try:
            return self._read(payload, text, is_large)
        except pydantic.ValidationError as error:
            wrong = error
        count = wrong.error_count()
        if count > MANY and not is_large:
            try:
                self._read(payload, text, True)
            except pydantic.ValidationError as error:
                wrong = error
        errors, more = _reported(wrong)
        if is_large:
            more += _behind(wrong, payload)
        else:
            more = count - len(errors)
        raise InvalidPayload(errors, more)

    def sent(self, payload: Any, where: str) -> Any:
        """Return `payload` as the type serializes it: by alias, without excluded fields, and so on."""
        try:
            valid = self._validated(payload)
            if isinstance(payload, bytes):
                return payload
            return self._dumped(valid)
        except InvalidPayload as invalid:
            raise _not_as_declared(where, invalid) from None
        except ENCODE_ERRORS as error:  # of pydantic's serializer, a ValueError
            raise EncodeError(
                f"{where} is not as declared: {message_of(error)}"
            ) from None

    def _dumped(self, valid: Any) -> Any:
        dump = functools.partial(self._adapter.dump_python, mode="json", by_alias=True)
        try:
            return dump(valid, warnings="error")
        except ValueError:
            # a field was set later, or by a default, to a value that is not quite of its type
            dumped = dump(valid, warnings=False)
            self.decode(dumped)
            return dumped

    def verify(self) -> None:
        """Raise TypeError if pydantic cannot use this type."""
        import pydantic

        try:
            pydantic.TypeAdapter(self.annotation)
        except pydantic.errors.PydanticUserError as error:
            raise TypeError(str(error)) from error

    def _validated(self, payload: Any) -> Any:
        """Validate a payload to be sent: a model is valid already, other values as Python or as JSON."""
        import pydantic

        validator = self._adapter.validator
        if isinstance(payload, (dict, list, tuple)) and _is_large(payload):
            validator = self._hasty
        for names in ({}, {"by_alias": True, "by_name": True}):
            # by_name for a dict with the names of fields; pydantic has it from 2.11 on
            with contextlib.suppress(pydantic.ValidationError, TypeError):
                return validator.validate_python(payload, **names)
        return self.decode(plain(payload))

    def _read(self, payload: Any, text: bytes | None, is_hasty: bool) -> Any:
        # as JSON: as Python values, a strict type refuses a date or a key that is text
        import pydantic

        if text is None:
            return self._adapter.validate_python(payload)
        validator = self._hasty if is_hasty else self._adapter.validator
        try:
            return validator.validate_json(text)
        except pydantic.ValidationError as error:
            if error.error_count() > 1 or _listed(error)[0]["type"] != "json_invalid":
                raise
        # nested too deeply for pydantic's parser
        return validator.validate_python(payload)

    @functools.cached_property
    def _adapter(self) -> Any:
        import pydantic

        return pydantic.TypeAdapter(self.annotation)

    @functools.cached_property
    def _hasty(self) -> Any:
        """Return a validator that stops at the first error of each list or dict, where pydantic can do that."""
        from pydantic_core import SchemaError, SchemaValidator

        schema = _fail_fast(self._adapter.core_schema)
        # without the first one, models use their own
        arguments: tuple[dict[str, Any], ...] = ({"_use_prebuilt": False}, {})
        for how in arguments:
            try:
                return SchemaValidator(schema, **how)
            except (TypeError, SchemaError):
                continue
        return self._adapter.validator


class Replies:
    """The declared replies of a callback: the type of the payload for each status."""

    def __init__(self, declared: Mapping[str, PayloadType | None]) -> None:
        self.declared = declared

    @staticmethod
    def of(annotation: Any) -> Replies | None:
        """Return the replies that an annotation declares, as in ``tuple[Literal["ok"], Saved] | None``.

        None if it declares nothing: any status with any payload.
        """
        declared: dict[str, PayloadType | None] = {}
        for answer in _members(annotation):
            if typing.get_origin(answer) is tuple and len(typing.get_args(answer)) == 2:
                status, payload = typing.get_args(answer)
                declared.update(
                    dict.fromkeys(_statuses(status), PayloadType.of(payload))
                )
            else:
                for status in _statuses(answer):
                    declared.setdefault(status, None)
        return (
            Replies(declared) if declared and declared != {ANY_STATUS: None} else None
        )

    def sent(self, status: str, payload: Any, where: str) -> Any:
        """Return the payload that goes out. Raises EncodeError if the reply is not as declared."""
        known = status if status in self.declared else ANY_STATUS
        if known not in self.declared:
            raise EncodeError(f"{where} is not as declared: the status {shown(status)}")
        wanted = self.declared[known]
        return payload if wanted is None else wanted.sent(payload, where)


def _members(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the type itself."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _statuses(annotation: Any) -> list[str]:
    if typing.get_origin(annotation) is Literal:
        return [str(status) for status in typing.get_args(annotation)]
    return [ANY_STATUS] if annotation is str else []


# ------------------------------------------------------------- whose type it is


def _says_nothing(annotation: Any) -> bool:
    origin = typing.get_origin(annotation)
    if origin not in (dict, Mapping):
        return (origin or annotation) in UNTYPED
    key, value = typing.get_args(annotation) or (Any, Any)
    return key in (str, Any) and value in (Any, object)


def is_pydantics(annotation: Any) -> bool:
    """Return True if only pydantic can decode `annotation`."""
    if "pydantic" not in sys.modules:  # a model can exist only if it is imported
        return False
    own = ("__pydantic_validator__", "__get_pydantic_core_schema__")
    is_type = isinstance(annotation, type) and any(hasattr(annotation, n) for n in own)
    module = type(annotation).__module__.partition(".")[0]
    return is_type or module in ("pydantic", "annotated_types")


def _is_for_pydantic(annotation: Any) -> bool:
    """Return True if pydantic has to decode all of it: it contains a model, or msgspec refuses it."""
    if any(map(is_pydantics, _members_within(annotation))):
        return True
    try:
        msgspec.json.Decoder(annotation, dec_hook=_from_pydantic)
    except TypeError:  # for example two dataclasses in a union
        return _is_installed()
    except Exception:
        pass  # a class that is defined further down: found when it is used first
    return False


def _is_installed() -> bool:
    try:
        import pydantic  # noqa: F401
    except ImportError:
        return False
    return True


def _members_within(annotation: Any) -> Iterator[Any]:
    """Yield `annotation` and the types that it is composed of, but not the fields of classes."""
    yield annotation
    origin = typing.get_origin(annotation)
    if origin is Literal or hasattr(origin, "__struct_fields__"):
        return
    inner = getattr(annotation, "__value__", None)  # of a ``type`` statement
    metadata = getattr(annotation, "__metadata__", ())
    for part in (*typing.get_args(annotation), *metadata, *([inner] if inner else ())):
        yield from _members_within(part)


def custom_types(annotation: Any) -> Iterator[Any]:
    """Return the types in `annotation` that msgspec passes to a hook."""
    found = []

    def look(custom: Any) -> dict[str, Any]:
        found.append(custom)
        return {"title": str(custom)}

    msgspec.json.schema(annotation, schema_hook=look)
    yield from found


# ------------------------------------------------------- pydantic's within msgspec's


def _from_pydantic(kind: Any, value: Any) -> Any:
    """Make a value that msgspec cannot make. Raises ValueError; msgspec adds the path."""
    if not is_pydantics(kind):
        return value  # msgspec then raises the error
    try:
        return _of_pydantic(kind).decode(value)
    except InvalidPayload as invalid:
        words = _text_of(invalid)
    raise ValueError(words)


def _unchecked(kind: Any, value: Any) -> Any:
    """Accept a pydantic model in a sent payload unchecked: a model may not be able to read its own JSON."""
    return kind.__new__(kind) if is_pydantics(kind) else value


@functools.lru_cache(maxsize=1_000)
def _of_pydantic(kind: Any) -> PydanticType:
    return PydanticType(kind)


def _fail_fast(schema: Any) -> Any:
    """Return a core schema of pydantic whose lists and dicts stop at their first error."""
    if isinstance(schema, list):
        return [_fail_fast(part) for part in schema]
    if isinstance(schema, tuple):
        return tuple(map(_fail_fast, schema))
    if not isinstance(schema, dict):
        return schema
    values = ("default", "metadata", "cls")  # they contain no schemas
    own = {k: v if k in values else _fail_fast(v) for k, v in schema.items()}
    stops = ("list", "set", "frozenset", "tuple", "dict")
    return {**own, "fail_fast": True} if schema.get("type") in stops else own


# ------------------------------------------------------------------- the errors


def _located(error: msgspec.ValidationError) -> dict[str, str]:
    """Return where a payload does not fit (``$.body``), and what was expected."""
    text = str(error)
    # the message may contain text of the client, the path does not
    message, found, path = text.rpartition(" - at `")
    if not found or not path.endswith("`"):
        message, path = text, "$`"
    path = path[:-1].removeprefix("key` in `")  # the path of a key of a dict
    return {"path": _shortened(path), "message": _shortened(message)}


def _reported(error: Any) -> tuple[list[dict[str, str]], int]:
    """Return the errors of pydantic for the reply, and how many more it found."""
    count = error.error_count()
    if count > MANY:
        return [{"path": "$", "message": f"{count} errors, too many to be listed"}], 0
    reported = [
        {"path": _shortened(_path(at["loc"])), "message": _shortened(at["msg"])}
        for at in _listed(error)[:ERRORS]
    ]
    return reported, count - len(reported)


def _is_large(payload: Any) -> bool:
    try:
        return len(encode(payload)) > LARGE
    except EncodeError:
        return False  # pydantic may be able to read it


def _listed(error: Any) -> list[dict[str, Any]]:
    listed = error.errors(include_url=False, include_input=False, include_context=False)
    return list(listed)


def _behind(error: Any, payload: Any) -> int:
    """Return how many values in the same lists come after the reported errors: they were not checked."""
    unseen: dict[int, int] = {}  # by the id of the list
    for at in _listed(error)[:ERRORS] if error.error_count() <= MANY else ():
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


def _not_as_declared(where: str, invalid: InvalidPayload) -> EncodeError:
    return EncodeError(f"{where} is not as declared: {_text_of(invalid)}")


def _text_of(invalid: InvalidPayload) -> str:
    errors = "; ".join(f"{e['path']}: {e['message']}" for e in invalid.errors)
    return f"{errors}; {invalid.more} more" if invalid.more else errors


def _shortened(text: str) -> str:
    return text if len(text) <= TEXT else f"{text[:TEXT]}..."


def _path(location: tuple[int | str, ...]) -> str:
    steps = (f"[{at}]" if isinstance(at, int) else f".{at}" for at in location)
    return "$" + "".join(steps)
