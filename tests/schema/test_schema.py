"""phx_schema: what channels declare, as the official tools of each format read it."""

from __future__ import annotations

import io
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from phx_protocol import Socket
from phx_protocol.schema import FORMATS, contract
from tests.schema import namesakes
from tests.schema.channels import SOCKETS
from tests.support import servers

HERE = Path(__file__).parent
MODULES = servers.ROOT / "tests" / "node_modules"


def written(format: str, sockets: Any = SOCKETS) -> str:
    return FORMATS[format](contract(sockets), "Chat", "2.1.0")


@pytest.fixture
def workshop(tmp_path: Path) -> Path:
    """A directory from which node and tsc find their packages."""
    (tmp_path / "node_modules").symlink_to(MODULES)
    return tmp_path


def tsc(workshop: Path, *files: str) -> subprocess.CompletedProcess[str]:
    options = (
        "--strict --noEmit --target es2022 --module esnext --moduleResolution bundler"
    )
    return subprocess.run(
        [str(MODULES / ".bin" / "tsc"), *options.split(), "--types", "phoenix", *files],
        cwd=workshop,
        capture_output=True,
        text=True,
    )


def parse_asyncapi(workshop: Path, document: str) -> subprocess.CompletedProcess[str]:
    (workshop / "asyncapi.mjs").write_text((HERE / "asyncapi.mjs").read_text())
    (workshop / "contract.json").write_text(document)
    return subprocess.run(
        ["node", "asyncapi.mjs", "contract.json"],
        cwd=workshop,
        capture_output=True,
        text=True,
    )


def test_the_official_parser_finds_nothing_wrong_with_the_asyncapi_document(
    workshop: Path,
) -> None:
    parsed = parse_asyncapi(workshop, written("asyncapi"))
    assert parsed.returncode == 0, parsed.stdout + parsed.stderr
    # of the room five messages of clients and six pushes, twice; two lobbies with a join each
    assert json.loads(parsed.stdout) == {"operations": 24, "channels": 4}


def test_the_official_parser_sees_what_is_wrong(workshop: Path) -> None:
    document = json.loads(written("asyncapi"))
    operation = next(iter(document["operations"].values()))
    operation["channel"] = {"$ref": "#/channels/nowhere"}
    assert parse_asyncapi(workshop, json.dumps(document)).returncode == 1


def test_typescript_compiles_strictly_and_refuses_what_does_not_fit(
    workshop: Path,
) -> None:
    (workshop / "contract.ts").write_text(written("typescript"))
    for name in ("right.ts", "wrong.ts"):
        (workshop / name).write_text((HERE / name).read_text())
    compiled = tsc(workshop, "right.ts", "wrong.ts")
    assert compiled.returncode == 0, compiled.stdout


def test_json_schema_names_each_type_once_and_every_reference_leads_somewhere() -> None:
    document = json.loads(written("json-schema"))
    named = document["$defs"]
    assert {"NewMessage", "Message", "Author", "Order", "Line"} <= set(named)
    assert named["NewMessage"]["description"] == "What a client wants to say."
    references = []

    def look(part: Any) -> None:
        if isinstance(part, dict):
            references.extend([part["$ref"]] if "$ref" in part else [])
            part = list(part.values())
        for inner in part if isinstance(part, list) else ():
            look(inner)

    look(document)
    assert references
    assert {r.removeprefix("#/$defs/") for r in references} <= set(named)


def test_types_of_one_name_are_several_types_and_recursive_ones_have_an_end(
    workshop: Path,
) -> None:
    text = written("typescript", namesakes.SOCKETS)
    exported = re.findall(
        r"^export (?:type|interface|function) (\w+)", text, flags=re.M
    )
    assert len(exported) == len(set(exported))
    (workshop / "contract.ts").write_text(text)
    script = (HERE / "namesakes.ts").read_text()
    (workshop / "namesakes.ts").write_text(script)
    compiled = tsc(workshop, "namesakes.ts")
    assert compiled.returncode == 0, compiled.stdout + text
    parsed = parse_asyncapi(workshop, written("asyncapi", namesakes.SOCKETS))
    assert parsed.returncode == 0, parsed.stdout + parsed.stderr


def test_json_schema_tells_types_of_one_name_apart() -> None:
    named = json.loads(written("json-schema", namesakes.SOCKETS))["$defs"]
    properties = [set(schema.get("properties", ())) for schema in named.values()]
    for fields in (
        *({"of_struct"}, {"of_other_struct"}, {"of_model"}, {"of_other_model"}),
        *({"one"}, {"two"}, {"text", "replies"}, {"of_other_comment"}),
        *({"accountId", "secret"}, {"id", "initial"}),
    ):
        assert properties.count(fields) == 1, fields
    titles = [schema["title"] for schema in named.values() if "title" in schema]
    assert titles.count("Message") == 2
    assert namesakes.Message.__name__ == namesakes.other.Message.__name__ == "Message"
    # nothing but a reference would be a type that is itself
    assert not any(set(schema) == {"$ref"} for schema in named.values())


def test_json_schema_tells_of_every_event_reply_and_push() -> None:
    sockets = json.loads(written("json-schema"))["sockets"]
    assert list(sockets) == ["/socket", "/back-office/v1"]
    topics = sockets["/socket"]["topics"]
    assert list(topics) == ["room:lobby", "room:*", "*"]
    room = topics["room:*"]
    assert room["description"].startswith("A room, in which people talk.")
    assert room["join"]["payload"] == {"$ref": "#/$defs/Entry"}
    assert room["events"]["new_msg"]["description"] == "Say something."
    assert set(room["events"]["new_msg"]["replies"]) == {"ok", "error"}
    assert set(room["events"]["move"]["replies"]) == {"ok", "blocked"}
    assert room["events"]["anything"] == {"payload": {}, "replies": {"*": {}}}
    declared = {"message", "part", "moved", "cleared"}
    assert set(room["pushes"]) == declared | {"presence_state", "presence_diff"}


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


def blocks(language: str) -> list[str]:
    page = (servers.ROOT / "docs" / "typed.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", page, flags=re.M | re.S)


def test_what_the_page_shows_is_so(workshop: Path) -> None:
    """Its channel makes the contract with which its TypeScript compiles."""
    [python], [script] = blocks("python"), blocks("ts")
    defined: dict[str, Any] = {"__name__": "page"}
    exec(python, defined)
    channels = {"room:*": defined["RoomChannel"]}
    socket = type("UserSocket", (Socket,), {"channels": channels})
    text = FORMATS["typescript"](contract({"/socket": socket}), "Chat", "1")
    (workshop / "contract.ts").write_text(text)
    (workshop / "page.ts").write_text(script)
    compiled = tsc(workshop, "page.ts")
    assert compiled.returncode == 0, compiled.stdout
