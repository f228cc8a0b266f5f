"""RESP3: what Redis sends becomes values, however the bytes are cut."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import ResponseError

from phx_protocol.layers import resp
from phx_protocol.layers.resp import Parser, ProtocolError, Push, pack, pack_publish

VALUES = [
    (b"+OK\r\n", b"OK"),
    (b":-7\r\n", -7),
    (b"$2\r\n\r\n\r\n", b"\r\n"),
    (b"$0\r\n\r\n", b""),
    (b"$-1\r\n", None),
    (b"_\r\n", None),
    (b"#t\r\n", True),
    (b"#f\r\n", False),
    (b",1.5\r\n", 1.5),
    (b"(12345678901234567890\r\n", 12345678901234567890),
    (b"=7\r\ntxt:abc\r\n", b"txt:abc"),
    (b"*2\r\n:1\r\n*1\r\n+a\r\n", [1, [b"a"]]),
    (b"~1\r\n+a\r\n", [b"a"]),
    (b"%2\r\n+role\r\n+master\r\n+n\r\n*0\r\n", {b"role": b"master", b"n": []}),
    (b"|1\r\n+ttl\r\n:3\r\n+OK\r\n", b"OK"),
    (
        b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$3\r\n\r\n\x00\r\n",
        Push([b"message", b"a", b"\r\n\x00"]),
    ),
    (b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n", Push([b"subscribe", b"a", 1])),
]
STREAM = b"".join(data for data, _ in VALUES)


def parse(data: bytes, size: int) -> list[Any]:
    parser, found = Parser(), []
    for at in range(0, len(data), size):
        parser.feed(data[at : at + size])
        found += parser
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11, len(STREAM)])
def test_values_arrive_whole_in_whatever_pieces_the_bytes_come(size: int) -> None:
    found = parse(STREAM, size)
    assert found == [value for _, value in VALUES]
    assert [type(value) for value in found] == [type(value) for _, value in VALUES]


@pytest.mark.parametrize(
    "data", [b"-NOPERM no right\r\n", b"!15\r\nNOPERM no right\r\n"]
)
def test_an_error_is_a_value_too(data: bytes) -> None:
    [error] = parse(data, len(data))
    assert isinstance(error, ResponseError) and str(error) == "NOPERM no right"


def test_an_iteration_that_was_left_goes_on_with_the_next_value() -> None:
    parser = Parser()
    parser.feed(b":1\r\n:2\r\n:3")
    assert next(iter(parser)) == 1
    parser.feed(b"\r\n")
    assert list(parser) == [2, 3]


def test_a_large_value_is_joined_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once for each piece: that would be quadratic."""
    size, tries = 1_000_000, 0
    value = Parser._message

    def counted(self: Parser, at: int) -> tuple[Any, int]:
        nonlocal tries
        tries += 1
        return value(self, at)

    monkeypatch.setattr(resp.Parser, "_message", counted)
    data = b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$%d\r\n%b\r\n" % (size, b"x" * size)
    [push] = parse(data, 1000)
    assert len(push[2]) == size and tries <= 2


@pytest.mark.parametrize(
    "data",
    [
        *(b"HTTP/1.1 400\r\n", b"$x\r\n", b":one\r\n", b">3\r\n?\r\n"),
        *(b"*1\r\n" * 10_000, b"$%b\r\n" % (b"9" * 5000)),
    ],
)
def test_what_is_no_resp_is_an_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse(data, len(data))


def test_commands_are_packed_with_the_length_of_each_word() -> None:
    assert pack(b"HELLO", b"3") == b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"
    published = b"".join(pack_publish(b"PUBLISH", "é".encode(), b"\r\n\x00"))
    assert published == pack(b"PUBLISH", "é".encode(), b"\r\n\x00")
