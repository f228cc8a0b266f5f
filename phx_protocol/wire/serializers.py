"""V1 and V2: frames to messages and back (``Phoenix.Socket.V1.JSONSerializer``, ``V2``)."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import msgspec

from ..exceptions import DecodeError, EncodeError
from ..logs.printable import shown
from .json import DECODE_ERRORS, decode, encode
from .messages import REPLY, Broadcast, Frame, Message, Reply

#: characters; the payload of a frame of this length or more is decoded later, when it is needed.
#: A shorter one is decoded at once: those that may wait take little memory
LARGE_FRAME = 1024


class Serializer(Protocol):
    """One version of the wire. Stateless: one instance serves all sockets of a process.

    A serializer may also have ``decode_head``: like ``decode``, but it leaves the JSON payload of a
    frame of LARGE_FRAME characters or more undecoded, as a ``msgspec.Raw``. So a message that waits,
    or that no channel gets, is not decoded as a whole.
    """

    def decode(self, frame: Frame) -> Message:
        """Return the message in `frame`. Raises DecodeError, and no other error, for any bad frame."""

    def encode(self, message: Message | Reply) -> Frame:
        """Encode `message` as a frame. Raises EncodeError if this version cannot carry it."""

    def fastlane(self, broadcast: Broadcast) -> Frame:
        """Encode `broadcast` as the one frame that all its receivers get. Raises EncodeError."""


def with_payload(message: Message) -> Message:
    """Return `message` with its payload decoded. Raises DecodeError."""
    payload = message.payload
    if not isinstance(payload, msgspec.Raw):
        return message
    refs = message.join_ref, message.ref
    return Message(*refs, message.topic, message.event, decode(payload))


def head_decoder(serializer: Serializer) -> Callable[[Frame], Message]:
    """Return ``decode_head`` of `serializer`, or its ``decode`` if a subclass overrides only that."""
    for cls in type(serializer).__mro__:
        if "decode_head" in vars(cls):
            return serializer.decode_head  # type: ignore[attr-defined, no-any-return]
        if "decode" in vars(cls):
            break
    return serializer.decode


def _slim(frame: Frame) -> Frame:
    """Return `frame` in the form that takes the least memory while its payload waits.

    In a string with a single character beyond ASCII each character takes up to four bytes.
    """
    if isinstance(frame, bytes) or frame.isascii():
        return frame
    return frame.encode()


def encode_map(payload: Any, event: Any) -> msgspec.Raw:
    """Encode the payload of a push or broadcast as JSON. Raises EncodeError if it is not a mapping."""
    # Phoenix's V2 matches %{} in pushes and broadcasts: phoenix.js's handlers expect an object.
    raw = payload if isinstance(payload, msgspec.Raw) else msgspec.Raw(encode(payload))
    if bytes(memoryview(raw)[:1]) != b"{":
        raise EncodeError(
            f"the payload of {shown(event, 100)} must be a mapping or bytes, not JSON that begins with "
            f"{bytes(memoryview(raw)[:20])!r}"
        )
    return raw


class V2JSONSerializer:
    """``[join_ref, ref, topic, event, payload]``, and four binary forms."""

    class _Head(Message, frozen=True, array_like=True, gc=False):
        payload: msgspec.Raw

    _decode = msgspec.json.Decoder(Message).decode
    _decode_head = msgspec.json.Decoder(_Head).decode

    def decode(self, frame: Frame) -> Message:
        return with_payload(self.decode_head(frame))

    def decode_head(self, frame: Frame) -> Message:
        """Return the message in `frame`; a large JSON payload is left undecoded. Raises DecodeError."""
        try:
            if isinstance(frame, bytes):
                return self._decode_binary(frame)
            if len(frame) < LARGE_FRAME:
                return self._decode(frame)
            return self._decode_head(_slim(frame))
        except DECODE_ERRORS as error:
            raise DecodeError(f"not a V2 frame: {error}") from error

    def encode(self, message: Message | Reply) -> Frame:
        payload = message.payload
        if isinstance(message, Reply):
            if isinstance(payload, bytes):
                meta = (message.join_ref, message.ref, message.topic, message.status)
                return _pack(1, meta, payload)
            body = {"response": payload, "status": message.status}
            return encode(
                (message.join_ref, message.ref, message.topic, REPLY, body)
            ).decode()
        if isinstance(payload, bytes):
            head = (message.join_ref, message.topic, message.event)
            return _pack_with_offset(message.ref, *head, payload)
        fields = (message.join_ref, message.ref, message.topic, message.event)
        return encode((*fields, encode_map(payload, message.event))).decode()

    def fastlane(self, broadcast: Broadcast) -> Frame:
        topic, event, payload = broadcast.topic, broadcast.event, broadcast.payload
        if isinstance(payload, bytes):
            if broadcast.offset is not None:
                return _pack_with_offset(broadcast.offset, None, topic, event, payload)
            return _pack(2, (topic, event), payload)
        fields = (None, broadcast.offset, topic, event)
        return encode((*fields, encode_map(payload, event))).decode()

    def _decode_binary(self, frame: bytes) -> Message:
        # <<0, four sizes, join_ref, ref, topic, event, data>>; only the server sends other kinds
        if len(frame) < 5 or frame[0] != 0:
            raise ValueError("a binary frame is kind 0 with four sizes")
        at = 5
        meta = []
        for size in frame[1:5]:
            meta.append(str(frame[at : at + size], "utf-8"))
            at += size
        if at > len(frame):
            raise ValueError("the sizes of a binary frame exceed it")
        join_ref, ref, topic, event = meta
        return Message(join_ref, ref, topic, event, frame[at:])


class V1JSONSerializer:
    """``{"topic", "event", "payload", "ref"}``; a join_ref is read but never written."""

    class _Frame(msgspec.Struct, gc=False):
        topic: Any
        event: Any
        payload: Any
        ref: Any
        join_ref: Any = None

    class _Head(_Frame, gc=False):
        payload: msgspec.Raw

    _decode = msgspec.json.Decoder(_Frame).decode
    _decode_head = msgspec.json.Decoder(_Head).decode

    def decode(self, frame: Frame) -> Message:
        return with_payload(self.decode_head(frame))

    def decode_head(self, frame: Frame) -> Message:
        """Return the message in `frame`; a large payload is left undecoded. Raises DecodeError."""
        try:
            # JSON in a binary frame is accepted as well
            if len(frame) < LARGE_FRAME:
                v1 = self._decode(frame)
            else:
                v1 = self._decode_head(_slim(frame))
        except DECODE_ERRORS as error:
            raise DecodeError(f"not a V1 frame: {error}") from error
        return Message(v1.join_ref, v1.ref, v1.topic, v1.event, v1.payload)

    def encode(self, message: Message | Reply) -> Frame:
        if isinstance(message, Reply):
            payload = {"response": _text(message.payload), "status": message.status}
            return self._encode(message.topic, REPLY, payload, message.ref)
        return self._encode(
            message.topic, message.event, _text(message.payload), message.ref
        )

    def fastlane(self, broadcast: Broadcast) -> Frame:
        return self._encode(
            broadcast.topic,
            broadcast.event,
            _text(broadcast.payload),
            broadcast.offset,
        )

    def _encode(self, topic: Any, event: Any, payload: Any, ref: Any) -> str:
        return encode(
            {"event": event, "payload": payload, "ref": ref, "topic": topic}
        ).decode()


def _text(payload: Any) -> Any:
    if isinstance(payload, bytes):
        raise EncodeError("a V1 client cannot be sent a binary payload")
    return payload


def _pack_with_offset(
    offset: Any, join_ref: Any, topic: Any, event: Any, data: bytes
) -> bytes:
    """Pack a push; with an offset in the form of a reply, because a push has no room for a ref."""
    if offset is None:
        return _pack(0, (join_ref, topic, event), data)
    return _pack(1, (join_ref, offset, topic, event), data)


def _pack(kind: int, meta: tuple[Any, ...], data: bytes) -> bytes:
    fields = [_meta(value) for value in meta]
    return bytes((kind, *map(len, fields))) + b"".join(fields) + data


def _meta(value: Any) -> bytes:
    # as to_string/1 of Elixir: null becomes the empty string, a number its digits
    text = (
        value
        if isinstance(value, str)
        else "" if value is None else encode(value).decode()
    )
    field = text.encode()
    if len(field) > 255:
        raise EncodeError(
            f"{text[:20]!r}... is {len(field)} bytes long; a binary frame takes 255"
        )
    return field


# -------------------------------------------------------------------- vsn

_NUMBER = r"(0|[1-9][0-9]*)"
_IDENTIFIER = r"(?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)"
_SEMVER = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}"
    rf"(-{_IDENTIFIER}(?:\.{_IDENTIFIER})*)?"
    r"(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?"
)

#: The serializers of Phoenix. ``~> X.Y.Z`` accepts X.Y.Z and its later patches.
DEFAULT_SERIALIZERS: tuple[tuple[str, Serializer], ...] = (
    ("~> 1.0.0", V1JSONSerializer()),
    ("~> 2.0.0", V2JSONSerializer()),
)


def for_version(
    vsn: Any, serializers: Iterable[tuple[str, Serializer]] = DEFAULT_SERIALIZERS
) -> Serializer | None:
    """Return the first serializer whose requirement (``"~> X.Y.Z"``) accepts `vsn`, or None.

    `vsn` is the decoded connect parameter. The result is None for anything that is not the string
    of a full semantic version.
    """
    version = (
        _SEMVER.fullmatch(vsn) if isinstance(vsn, str) and len(vsn) < 100 else None
    )
    if version is None:
        return None
    major, minor, patch = map(int, version.group(1, 2, 3))
    for requirement, serializer in serializers:
        wanted = parse_requirement(requirement)
        # a pre-release comes before its release: 2.0.0-rc.1 < 2.0.0 < 2.0.1-rc.1
        early = patch == wanted[2] and version.group(4) is not None
        if (major, minor) == wanted[:2] and patch >= wanted[2] and not early:
            return serializer
    return None


def decode_payload(broadcast: Broadcast) -> Any:
    """Return the payload of a broadcast as Python's values; one that is binary as it is."""
    payload = broadcast.payload
    return payload if isinstance(payload, bytes) else decode(bytes(payload))


@functools.cache
def parse_requirement(requirement: str) -> tuple[int, int, int]:
    """Return the three numbers of ``"~> X.Y.Z"``. Raises ValueError for any other form."""
    match = re.fullmatch(rf"~>\s*{_NUMBER}\.{_NUMBER}\.{_NUMBER}", requirement)
    if match is None:
        raise ValueError(f'a version requirement reads "~> X.Y.Z", not {requirement!r}')
    major, minor, patch = map(int, match.groups())
    return major, minor, patch
