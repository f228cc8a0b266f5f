"""The React example of the docs: compiled strictly, bundled, and used in Chromium."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.browser.pages import Visit
from tests.support import servers

FILES = dict(
    re.findall(
        r"^```tsx\n// ([\w.]+)\n(.*?)^```$",
        (servers.ROOT / "docs/react.md").read_text(),
        re.M | re.S,
    )
)
MODULES = servers.ROOT / "tests/node_modules"
STRICT = {
    "strict": True,
    "noEmit": True,
    "jsx": "react-jsx",
    "module": "esnext",
    "moduleResolution": "bundler",
    "target": "es2022",
    "lib": ["es2022", "dom"],
    "types": [],
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The files of the page, where npm has installed what they import."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "node_modules").symlink_to(MODULES)
    return tmp_path


def run(*command: str | Path, cwd: Path) -> None:
    ran = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_it_compiles_strictly(source: Path) -> None:
    config = {"compilerOptions": STRICT, "files": list(FILES)}
    (source / "tsconfig.json").write_text(json.dumps(config))
    run(MODULES / ".bin/tsc", "-p", ".", cwd=source)


async def test_two_pages_talk_in_strict_mode(source: Path, visit: Visit) -> None:
    assert list(FILES) == ["phoenix.tsx", "Room.tsx", "main.tsx"]
    esbuild = (MODULES / ".bin/esbuild", "main.tsx", "--bundle", "--jsx=automatic")
    development = "--define:process.env.NODE_ENV='development'"
    run(*esbuild, development, "--outfile=bundle.js", cwd=source)
    port = servers.free_port()
    command = servers.command("uvicorn", port, "tests.browser.react_app:application")
    bundle = str(source / "bundle.js")
    with servers.run(command, port, source / "log", PHX_BUNDLE=bundle):
        ann, bob = await visit(), await visit()
        for page in (ann, bob):
            await page.goto(f"http://127.0.0.1:{port}/")
            await expect(page.get_by_role("button", name="Send")).to_be_enabled()
        for page, text in ((ann, "hello"), (bob, "hi")):
            await page.get_by_label("Say").fill(text)
            await page.get_by_role("button", name="Send").click()
            await expect(page.get_by_label("Say")).to_have_value("")
        for page in (ann, bob):
            await expect(page.get_by_role("listitem")).to_have_text(
                ["somebody: hello", "somebody: hi"]
            )
            await page.close()
