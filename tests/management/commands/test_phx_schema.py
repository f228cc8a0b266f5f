"""phx_schema: the contract of the sockets of the settings, in a file or printed."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from tests.schema.channels import SOCKETS


def test_the_command_writes_the_sockets_of_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "contract.ts"
    with override_settings(PHX_PROTOCOL={"SOCKETS": SOCKETS}):
        call_command("phx_schema", format="typescript", output=str(path), title="Chat")
        out = io.StringIO()
        call_command("phx_schema", stdout=out)
    assert "export function chatSocketChannel" in path.read_text()
    assert json.loads(out.getvalue())["asyncapi"] == "3.0.0"


def test_the_command_says_what_cannot_be_loaded() -> None:
    with override_settings(PHX_PROTOCOL={"SOCKETS": {"/socket": "no.such.Socket"}}):
        with pytest.raises(CommandError, match="no"):
            call_command("phx_schema")
