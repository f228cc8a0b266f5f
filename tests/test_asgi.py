"""The application of asgi.py: where its mounts are, and whose lifespan it has."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from channels.testing import WebsocketCommunicator
from django.core.handlers.asgi import ASGIRequest
from django.test import override_settings
from django.urls import reverse

from phx_protocol import Channel, Socket, checks, event
from phx_protocol.asgi import get_phoenix_application
from tests.support.servers import ROOT
from tests.support.sites import MOUNTS, page

PATH = "/socket/websocket"


async def opens(path: str, root_path: str | None = "") -> bool:
    line = WebsocketCommunicator(get_phoenix_application(MOUNTS, http=page), path)
    line.scope["root_path"] = root_path
    is_open, _ = await line.connect()
    if is_open:
        await line.disconnect()
    return is_open


async def answer(path: str, root_path: str | None = "") -> str:
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "root_path": root_path,
        "query_string": b"",
        "headers": [],
    }
    request = ApplicationCommunicator(get_phoenix_application(MOUNTS, http=page), scope)
    await request.send_input({"type": "http.request"})
    assert (await request.receive_output())["status"] == 200
    return (await request.receive_output())["body"].decode()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "root_path, path, below",
    [
        ("", PATH, PATH),
        (None, PATH, PATH),
        ("/app", f"/app{PATH}", PATH),
        ("/app", PATH, PATH),  # a proxy has stripped it
        ("/x", PATH, PATH),  # a client of Daphne says so
        ("app", PATH, PATH),
        ("/app", f"/other{PATH}", f"/other{PATH}"),
    ],
)
async def test_a_root_path_is_removed_where_the_path_begins_with_it(
    root_path: str | None, path: str, below: str
) -> None:
    a_page = path.replace("socket", "page")
    assert await answer(a_page, root_path) == below.replace("socket", "page")
    assert await opens(path, root_path) is (below == PATH)


@pytest.mark.parametrize("root_path", ["/app/", "/ap", "/application", "/"])
async def test_the_prefix_is_removed_as_django_does(root_path: str) -> None:
    request: Any = {"path": f"/app{PATH}", "root_path": root_path, "method": "GET"}
    below = ASGIRequest(request, io.BytesIO()).path_info
    assert await opens(f"/app{PATH}", root_path) is (below.lstrip("/") == PATH[1:])


@override_settings(FORCE_SCRIPT_NAME="/app")
async def test_a_forced_script_name_is_removed_as_django_does() -> None:
    assert await opens(f"/app{PATH}")
    assert await opens(PATH)  # a proxy has stripped it
    assert await opens(f"/app{PATH}", "/x")
    assert not await opens(f"/x{PATH}", "/x")
    assert await answer("/app/page", "/x") == "/page"


class Linking(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok", {"in_join": reverse("admin:index")}

    @event("link")
    def link(self, payload: Any) -> Any:
        return "ok", {"in_a_thread": reverse("admin:index")}


class LinkingSocket(Socket):
    channels = {"links": Linking}


@pytest.mark.urls("tests.admin.urls")
@pytest.mark.parametrize("root_path, prefix", [("/app", "/app"), ("", "")])
async def test_channels_reverse_urls_as_views_do(root_path: str, prefix: str) -> None:
    mounted = get_phoenix_application({"/socket": LinkingSocket}, http=page)
    line = WebsocketCommunicator(mounted, f"{root_path}{PATH}?vsn=2.0.0")
    line.scope["root_path"] = root_path
    await line.connect()
    said = []
    for ref, name in (("1", "phx_join"), ("2", "link")):
        await line.send_json_to(["1", ref, "links", name, {}])
        said.append((await line.receive_json_from())[4]["response"])
    await line.disconnect()
    link = f"{prefix}/admin/"
    assert said == [{"in_join": link}, {"in_a_thread": link}]


# ------------------------------------------------------------------------ checks


def reported(*statements: str, **settings: Any) -> str:
    """Return the stderr of a new process that makes the application."""
    code = "; ".join([*statements, "import tests.integration.site_app; print('made')"])
    inherited = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**inherited, "PHX_SETTINGS": json.dumps(settings)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith("made\n")
    return done.stderr


def test_what_the_checks_find_is_logged_when_the_application_is_made() -> None:
    wrong = {"TIMEOUT": "soon", "CHECK_ORIGIN": ["example.com"]}
    log = reported(PHX_PROTOCOL=wrong)
    assert log.count("phx_protocol.E003") == 1 and "'soon'" in log
    assert "Times are in seconds" in log  # the hint
    assert reported(SILENCED_SYSTEM_CHECKS=["phx_protocol.W002"]) == ""


def test_what_a_command_has_shown_is_not_logged_again() -> None:
    log = reported(
        "import os, django.core.management as m",
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'tests.integration.site_settings'",
        "m.execute_from_command_line(['manage.py', 'check'])",
    )
    assert log.count("phx_protocol.W002") == 1 and "WARNINGS:" in log


def test_checks_that_crash_keep_no_application_from_being_made(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def crash() -> None:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(checks, "_is_shown", False)
    monkeypatch.setattr(checks, "check_settings", crash)
    get_phoenix_application(MOUNTS, http=page)
    assert "the system checks crashed" in caplog.text
