"""phx_doctor as a command: what it prints, and what it refuses."""

from __future__ import annotations

import io
import json
import re

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from tests.management.doctor.site import alone, doctor, mount
from tests.support import servers

__all__ = ["alone", "mount"]


def test_the_report_is_for_people(mount: str) -> None:
    report = doctor(f"{mount}/new", "--idle", "0.5", "--no-layer", "--no-color")
    lines = report.output.splitlines()
    assert lines[0] == "ok       websocket              upgraded with 101"
    (at,) = [i for i, line in enumerate(lines) if line.startswith("fault")]
    assert lines[at].split()[:3] == ["fault", "vsn", "1.0.0"]
    assert lines[at + 1].startswith("           Clients of that version")
    (layer,) = [line for line in lines if line.split()[1] == "layer"]
    assert layer.split() == ["skipped", "layer", "left", "out", "by", "--no-layer"]


def test_colours_say_how_bad_it_is(mount: str) -> None:
    report = doctor(f"{mount}/open", "--idle", "0.5", "--force-color")
    assert "\x1b[32;1mok " in report.output
    assert "\x1b[33;1mwarning " in report.output


@pytest.mark.django_db
def test_settings_that_are_no_good_do_not_stop_the_other_checks(mount: str) -> None:
    out, layers = io.StringIO(), {"default": {"BACKEND": "no.such.Layer"}}
    with override_settings(CHANNEL_LAYERS=layers), pytest.raises(CommandError):
        call_command(
            "phx_doctor", f"{mount}/socket", "--idle=0.5", "--json", stdout=out
        )
    found = {f["check"]: f for f in json.loads(out.getvalue())}
    for check in ("layer", "state"):
        assert "no.such.Layer" in found.pop(check)["message"]
    assert {f["status"] for f in found.values()} <= {"ok", "warning"}


@pytest.mark.parametrize(
    "args, said",
    [
        (["example.com/socket"], "a URL such as https://example.com/socket is wanted"),
        (["http://a:b/socket"], "Port could not be cast"),
        (["http://a/socket", "--param", "token"], "--param takes NAME=VALUE"),
        (["http://a/socket", "--idle", "0"], "--idle takes seconds above 0"),
    ],
)
def test_bad_arguments_are_refused(args: list[str], said: str) -> None:
    with pytest.raises(CommandError, match=re.escape(said)):
        call_command("phx_doctor", *args)


def test_the_library_that_it_needs_is_named() -> None:
    code = (
        "import sys; sys.modules['websockets'] = None\n"
        "from django.core.management import execute_from_command_line as run\n"
        "run(['manage.py', 'phx_doctor', 'http://a/socket'])"
    )
    env = {"DJANGO_SETTINGS_MODULE": "tests.management.doctor.settings"}
    done = servers.python(code, env)
    assert done.returncode == 1
    assert "pip install phx_protocol[doctor]" in done.stderr
