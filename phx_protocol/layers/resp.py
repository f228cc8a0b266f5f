"""RESP3, the protocol of Redis: commands become bytes, and bytes become values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from redis.exceptions import ConnectionError, ResponseError

CRLF = b"\r\n"
#: how each message of a subscription begins, and each of one in a cluster
MESSAGE = b">3\r\n$7\r\nmessage\r\n$"
SHARD_MESSAGE = b">3\r\n$8\r\nsmessage\r\n$"


class Push(list[Any]):
    """A value that Redis sends without having been asked: a message, or an answer to SUBSCRIBE."""


class ProtocolError(ConnectionError):
    """Bytes that are not RESP3: the connection cannot be used any more."""


class Incomplete(Exception):
    """The bytes end in the middle of a value; `missing` is the least number of bytes to come."""

    def __init__(self, missing: int) -> None:
        self.missing = missing


def pack(*words: bytes) -> bytes:
    """Return a command as bytes."""
    head = b"*%d\r\n" % len(words)
    return head + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


def pack_publish(
    command: bytes, channel: bytes, data: bytes
) -> tuple[bytes, bytes, bytes]:
    """Return the parts of a PUBLISH or SPUBLISH command; `data`, which may be large, is not copied."""
    head = b"*3\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n"
    words = len(command), command, len(channel), channel, len(data)
    return head % words, data, CRLF


class Parser:
    """Takes bytes as they arrive, and yields the values that are complete."""

    def __init__(self) -> None:
        self._data = b""
        self._at = 0  # where the next value begins in _data
        # what arrived of a large value: joined when it is complete
        self._chunks: list[bytes] = []
        self._missing = 0

    def feed(self, data: bytes) -> None:
        """Take bytes that arrived."""
        self._chunks.append(data)
        self._missing -= len(data)
        if self._missing <= 0:
            rest = self._data[self._at :]
            self._data = b"".join((rest, *self._chunks))
            self._at = self._missing = 0
            self._chunks = []

    def __iter__(self) -> Iterator[Any]:
        """Yield complete values, each once. Raises ProtocolError."""
        while not self._missing and self._at < len(self._data):
            try:
                value, self._at = self._message(self._at)
            except Incomplete as end:
                self._missing = end.missing
                return
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise ProtocolError(f"Redis sent no RESP3: {error!r}") from error
            yield value

    def _message(self, at: int) -> tuple[Any, int]:
        """Return a message of a subscription, as nearly all values are, or any value."""
        if self._data.startswith(MESSAGE, at):
            at += len(MESSAGE)
        elif self._data.startswith(SHARD_MESSAGE, at):
            at += len(SHARD_MESSAGE)
        else:
            return self._value(at)
        # at the length of the channel's name: the sign $ before it says that it is text
        channel, at = self._text(at)
        data, at = self._text(at + 1)
        return Push((b"message", channel, data)), at

    def _line(self, at: int) -> tuple[bytes, int]:
        end = self._data.find(CRLF, at)
        if end < 0:
            raise Incomplete(1)
        return self._data[at:end], end + 2

    def _text(self, at: int) -> tuple[bytes | None, int]:
        size, at = self._line(at)
        end = at + int(size)
        if end < at:  # RESP2 writes -1 for a text that is none
            return None, at
        if len(self._data) < end + 2:
            raise Incomplete(end + 2 - len(self._data))
        return self._data[at:end], end + 2

    def _value(self, at: int) -> tuple[Any, int]:
        kind = self._data[at : at + 1]
        if kind in b"$=":
            return self._text(at + 1)
        if kind == b"!":
            text, at = self._text(at + 1)
            return _error(text or b""), at
        line, at = self._line(at + 1)
        if kind in SIMPLE:
            return SIMPLE[kind](line), at
        pairs = 2 if kind in b"%|" else 1
        values, at = self._values(int(line) * pairs, at)
        if kind == b"|":  # attributes of the value that follows them
            return self._value(at)
        return MANY[kind](values), at

    def _values(self, count: int, at: int) -> tuple[list[Any], int]:
        values = []
        for _ in range(count):
            if at >= len(self._data):
                raise Incomplete(1)
            value, at = self._value(at)
            values.append(value)
        return values, at


def _error(text: bytes) -> ResponseError:
    return ResponseError(text.decode(errors="replace"))


def _pairs(values: Iterable[Any]) -> dict[Any, Any]:
    each = iter(values)
    return dict(zip(each, each))


#: sign -> what makes a value from its line
SIMPLE: dict[bytes, Any] = {
    b"+": bytes,
    b"-": _error,
    b":": int,
    b",": float,
    b"(": int,
    b"#": b"t".__eq__,
    b"_": lambda line: None,
}
#: sign -> what makes a value from the values in it
MANY: dict[bytes, Any] = {b"*": list, b"~": list, b">": Push, b"%": _pairs}
