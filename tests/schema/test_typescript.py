"""TypeScript: what its compiler accepts, and what it refuses."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

from phx_protocol import Socket
from phx_protocol.schema import FORMATS, contract
from tests.schema import namesakes
from tests.schema.workshop import HERE, MODULES, parse_asyncapi, workshop, written
from tests.support import servers

__all__ = ["workshop"]


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


def test_typescript_compiles_strictly_and_refuses_wrong_types(
    workshop: Path,
) -> None:
    (workshop / "contract.ts").write_text(written("typescript"))
    for name in ("right.ts", "wrong.ts"):
        (workshop / name).write_text((HERE / name).read_text())
    compiled = tsc(workshop, "right.ts", "wrong.ts")
    assert compiled.returncode == 0, compiled.stdout


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


def blocks(language: str) -> list[str]:
    page = (servers.ROOT / "docs" / "typed.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", page, flags=re.M | re.S)


def test_the_example_of_the_page_works(workshop: Path) -> None:
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
