"""PayloadType: the declared type of a payload, decoded by msgspec or, as a PydanticType, by pydantic."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import msgspec

from ...exceptions import EncodeError, InvalidPayload
from ...logs.printable import message_of
from ...wire.json import ENCODE_ERRORS, encode, plain
from .errors import (
    MANY,
    listed,
    located,
    not_as_declared,
    reported,
    text_of,
    unchecked_behind,
)
from .kinds import is_for_pydantic, is_pydantics, must_be_known, says_nothing

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
        if says_nothing(annotation):
            return None
        kind = PydanticType if is_for_pydantic(annotation) else PayloadType
        return kind(annotation)

    def decode(self, payload: Any) -> Any:
        """Return a received `payload` as the declared type. Raises InvalidPayload."""
        return self._convert(payload, _from_pydantic)

    def sent(self, payload: Any, where: str) -> Any:
        """Return `payload` as it is sent. Raises EncodeError if it does not fit the type; `where` names it."""
        try:
            self._convert(plain(payload), _unchecked)
        except InvalidPayload as invalid:
            raise not_as_declared(where, invalid) from None
        return payload

    def verify(self) -> None:
        """Raise TypeError if this type cannot be checked."""
        must_be_known(self.annotation)

    def _convert(self, payload: Any, hook: Any) -> Any:
        try:
            return msgspec.convert(
                payload, self.annotation, str_keys=True, dec_hook=hook
            )
        except msgspec.ValidationError as error:
            found = located(error)
        raise InvalidPayload([found])


class PydanticType(PayloadType):
    """A type that pydantic decodes; it reports more than the first error."""

    def decode(self, payload: Any) -> Any:
        import pydantic

        text = None if isinstance(payload, bytes) else encode(payload)
        is_large = text is not None and len(text) > LARGE
        try:
            return self._read(payload, text, stops_early=is_large)
        except pydantic.ValidationError as error:
            wrong = error.with_traceback(None)  # which has this frame and its payload
        count = wrong.error_count()
        if count > MANY and not is_large:
            # too many to be listed: find the first ones
            try:
                self._read(payload, text, stops_early=True)
            except pydantic.ValidationError as error:
                wrong = error.with_traceback(None)
        errors, more = reported(wrong)
        if is_large:
            more += unchecked_behind(wrong, payload)
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
            raise not_as_declared(where, invalid) from None
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
            validator = self._early_stopper
        for names in ({}, {"by_alias": True, "by_name": True}):
            # by_name for a dict with the names of fields; pydantic has it from 2.11 on
            with contextlib.suppress(pydantic.ValidationError, TypeError):
                return validator.validate_python(payload, **names)
        return self.decode(plain(payload))

    def _read(self, payload: Any, text: bytes | None, stops_early: bool) -> Any:
        # as JSON: as Python values, a strict type refuses a date or a key that is text
        import pydantic

        if text is None:
            return self._adapter.validate_python(payload)
        validator = self._early_stopper if stops_early else self._adapter.validator
        try:
            return validator.validate_json(text)
        except pydantic.ValidationError as error:
            if error.error_count() > 1 or listed(error)[0]["type"] != "json_invalid":
                raise
        # nested too deeply for pydantic's parser
        return validator.validate_python(payload)

    @functools.cached_property
    def _adapter(self) -> Any:
        import pydantic

        return pydantic.TypeAdapter(self.annotation)

    @functools.cached_property
    def _early_stopper(self) -> Any:
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


def _from_pydantic(kind: Any, value: Any) -> Any:
    """Make a value that msgspec cannot make. Raises ValueError; msgspec adds the path."""
    if not is_pydantics(kind):
        return value  # msgspec then raises the error
    try:
        return _of_pydantic(kind).decode(value)
    except InvalidPayload as invalid:
        words = text_of(invalid)
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


def _is_large(payload: Any) -> bool:
    try:
        return len(encode(payload)) > LARGE
    except EncodeError:
        return False  # pydantic may be able to read it
