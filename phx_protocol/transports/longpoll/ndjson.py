"""The body of a POST: one frame in each line."""

from __future__ import annotations

import base64
import binascii

from ...wire.messages import Frame


class BadLine(ValueError):
    """A line of an ndjson body is neither a text frame nor base64."""


def split_lines(body: str) -> list[Frame]:
    """Return the frames of an ndjson body.

    A line ``[...`` is a text frame; any other line is a binary frame in base64. Raise BadLine
    for a line that is neither.
    """
    return [_line(line.removesuffix("\r")) for line in body.split("\n")]


def _line(line: str) -> Frame:
    if line.startswith("["):
        return line
    try:
        return base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadLine(f"neither a text frame nor base64: {error}") from error
