"""Payloads that are small to send and dear to take: JSON objects, as large as one frame may be."""

from __future__ import annotations

from collections.abc import Callable

#: MAX_FRAME_SIZE, without what a frame has beside its payload
ROOM = 1024 * 1024 - 2000
#: as many lists and objects as it may have, without those around the payload
LISTS = 256 * 1024 - 10
#: as many digits as a number may have
DIGITS = 1000
#: as deep as the decoder goes, with what stands around it
DEPTH = 900


def filled(unit: str, around: str = '{"a":[%s]}') -> str:
    """An object with as many of `unit` as there is room for and as it may have lists, and then with
    what is dearest without a list."""
    room = ROOM - len(around)
    size, lists = len(unit.encode()) + 1, unit.count("[") + unit.count("{")
    count = room // size
    if lists:
        count = min(count, LISTS // lists)
    rest = (room - count * size) // len("1e9,")
    return around % ",".join([unit] * count + ["1e9"] * rest)


def keys() -> str:
    """An object with as many different keys as there is room for."""
    count = ROOM // 11
    return "{%s}" % ",".join(f'"{n:06x}":0' for n in range(count))


PAYLOADS: dict[str, Callable[[], str]] = {
    "lists": lambda: filled("[]"),
    "pairs of lists": lambda: filled("[[]]"),
    "lists of objects": lambda: filled("[{}]"),
    "nested lists": lambda: filled("[" * DEPTH + "]" * DEPTH),
    "objects": lambda: filled('{"":{}}'),
    "nested objects": lambda: filled('{"a":' * DEPTH + "1" + "}" * DEPTH),
    "keys": keys,
    "letters": lambda: filled('"a"'),
    "accents": lambda: filled('"\u00e9"'),
    "emoji": lambda: filled('"\U0001f600"'),
    "floats": lambda: filled("1e9"),
    "numbers": lambda: filled("1"),
    "long numbers": lambda: filled("1" * DIGITS),
    "text": lambda: '{"a":"%s"}' % ("x" * (ROOM - 10)),
    "text of emoji": lambda: '{"a":"%s"}' % ("\U0001f600" * (ROOM // 4 - 10)),
    "text of brackets": lambda: '{"a":"%s%s"}'
    % ("[]" * LISTS, "x" * (ROOM - 2 * LISTS - 10)),
}
