"""The body of a POST: a frame a line."""

from __future__ import annotations

import base64
import binascii

from ...wire.messages import Frame


class BadLine(ValueError):
    """A line of an ndjson body that is neither a text frame nor base64."""


def split_lines(body: str) -> list[Frame]:
    """The frames of an ndjson body: ``[...`` is a text one, anything else base64 of a binary one.

    Raises BadLine.
    """
    return [_line(line.removesuffix("\r")) for line in body.split("\n")]


def _line(line: str) -> Frame:
    if line.startswith("["):
        return line
    try:
        return base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadLine(f"neither a text frame nor base64: {error}") from error
