"""Every block of code in the README and the documentation is held to its language.

Python is checked by mypy, scripts by tsc, commands by the programs they name, and so on. A block
uses what blocks above it on the page have made, and what ``stand_ins`` has; ``chat`` is the app of
the demo, with what blocks add to it (``# chat/consumers.py``). What nobody can check says so, and why, in a comment above it::

    <!-- unchecked: this is Elixir -->
"""

from __future__ import annotations

import builtins
import configparser
import functools
import json
import os
import re
import shlex
import shutil
import subprocess
import symtable
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from django.core.management import get_commands, load_command_class
from django.template import Engine

from tests.docs import stand_ins
from tests.docs.blocks import BLOCKS, ELSEWHERE, Block, is_elsewhere, of
from tests.support import servers

HERE = Path(__file__).parent
PYTHON = ("python",)
SCRIPTS = {"js": "js", "ts": "ts", "jsx": "jsx", "tsx": "tsx"}


def test_every_block_is_checked_by_a_test_or_says_why_not() -> None:
    checked = {*PYTHON, *SCRIPTS, *LANGUAGES}
    # directives are checked when the site is built
    unknown = [
        block.where
        for block in BLOCKS
        if block.why is None
        and block.language not in checked
        and not is_elsewhere(block)
        and not block.language.startswith("{")
    ]
    assert not unknown, "nobody checks these"


def test_what_is_checked_elsewhere_is_read_there() -> None:
    for page, tests in ELSEWHERE.items():
        for test in tests.values():
            assert page in (HERE.parent / test).read_text(), test


# ------------------------------------------------------------------------ Python

BOARD = '''

class Board(models.Model):
    """The reader's own, which django.md tells of."""

    name = models.CharField(max_length=100)


class Notice(models.Model):
    """The reader's own, which users.md tells of."""

    id = models.CharField(max_length=64, primary_key=True)
'''
MYPY = """
[mypy]
plugins = mypy_django_plugin.main
check_untyped_defs = True
disable_error_code = import-untyped, top-level-await
[mypy.plugins.django-stubs]
django_settings_module = settings
# its stubs do not take what its own documentation shows
[mypy-channels.*]
follow_imports = skip
follow_imports_for_stubs = True
"""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the demo's app as ``chat``, and every Python block as a module of it."""
    home = tmp_path_factory.mktemp("workshop")
    shutil.copytree(servers.ROOT / "project/chat", home / "chat")
    for path in (home / "chat").rglob("*.py"):
        path.write_text(path.read_text().replace("project.chat", "chat"))
    (home / "settings.py").write_text(
        'from tests.settings import *\n\nINSTALLED_APPS += ["chat"]\n'
    )
    (home / "mypy.ini").write_text(MYPY)
    with (home / "chat/models.py").open("a") as models:
        models.write(BOARD)
    for block in of(*PYTHON):
        (home / "chat" / f"{block.name}.py").write_text(module(block))
        titled = re.match(r"# (chat/\w+\.py)\n", block.code)
        if titled is not None and not (home / titled[1]).exists():
            (home / titled[1]).write_text(f"from .{block.name} import *\n")
    return home


def module(block: Block) -> str:
    """`block` as a module, on the lines that it has on its page, behind its imports."""
    imports = []
    for name in sorted(free_names(block.code)):
        home = next(
            (b for b in reversed(above(block)) if name in made_names(b.code)), None
        )
        if home is not None:
            imports.append(f"from .{home.name} import {name}")
        elif name in stand_ins.__all__:
            imports.append(f"from tests.docs.stand_ins import {name}")
    return "; ".join(imports) + "\n" * (block.line - 1) + block.code


def above(block: Block) -> list[Block]:
    return [b for b in of(*PYTHON) if b.page == block.page and b.line < block.line]


def tables(code: str) -> Iterator[symtable.SymbolTable]:
    waiting = [symtable.symtable(code, "block", "exec")]
    while waiting:
        table = waiting.pop()
        yield table
        waiting += table.get_children()


def made_names(code: str) -> set[str]:
    """Return the names that a block defines or imports."""
    top = next(tables(code))
    return {
        s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported()
    }


def free_names(code: str) -> set[str]:
    """Return the names that a block uses without defining them."""
    used = {
        symbol.get_name()
        for table in tables(code)
        for symbol in table.get_symbols()
        if symbol.is_referenced() and symbol.is_global()
    }
    return used - made_names(code) - set(dir(builtins))


def test_mypy_finds_nothing_wrong_with_the_python(workshop: Path) -> None:
    names = {block.name: block.page for block in of(*PYTHON)}
    modules = [word for name in names for word in ("-m", f"chat.{name}")]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", *modules]
        + ["--cache-dir", str(servers.ROOT / ".mypy_cache/docs")],
        cwd=workshop,
        env={"PATH": "", "PYTHONPATH": f"{workshop}:{servers.ROOT}"}
        | {"MYPYPATH": f"{workshop}:{servers.ROOT}"},
        capture_output=True,
        text=True,
    )
    said = re.sub(r"chat/(\w+)\.py", lambda m: names.get(m[1], m[0]), checked.stdout)
    assert checked.returncode == 0, said + checked.stderr


SETTINGS = {"PHX_PROTOCOL", "CHANNEL_LAYERS"}


@pytest.mark.parametrize(
    "block",
    [b for b in of(*PYTHON) if SETTINGS & made_names(b.code)],
    ids=lambda block: block.where,
)
def test_the_system_checks_find_nothing_wrong_with_the_settings(
    block: Block, workshop: Path
) -> None:
    # in a process of its own: an app that was installed leaves models and admins behind
    ours = f"{{name: globals()[name] for name in {SETTINGS & made_names(block.code)}}}"
    (workshop / f"{block.name}.py").write_text(
        f"{block.code}\n_ours = {ours}\n"
        "from settings import *\nglobals().update(_ours)\n"
    )
    checked = subprocess.run(
        [sys.executable, "-m", "django", "check", "--settings", block.name],
        env={**os.environ, "PYTHONPATH": f"{workshop}:{servers.ROOT}"},
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


# ----------------------------------------------------------------------- scripts


def scripts_of(page: Block) -> Iterator[tuple[int, str]]:
    """The modules in a page of HTML: how many lines are before them, and their code."""
    for match in re.finditer(
        r'<script type="module">(.*?)</script>', page.code, flags=re.S
    ):
        yield page.code.count("\n", 0, match.start(1)), match[1]


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """A directory with every script as a module, on the lines that it has on its page."""
    (tmp_path / "node_modules").symlink_to(servers.ROOT / "tests/node_modules")
    (tmp_path / "stand_ins.d.ts").write_text((HERE / "stand_ins.d.ts").read_text())
    options = {
        "strict": False,
        "noEmit": True,
        "allowJs": True,
        "checkJs": True,
        "jsx": "react-jsx",
        "target": "es2022",
        "module": "esnext",
        "moduleResolution": "bundler",
        "moduleDetection": "force",
        "types": ["phoenix"],
        "paths": {
            "/static/phoenix/phoenix.mjs": ["./node_modules/@types/phoenix/index.d.ts"],
            "/static/*": [f"{servers.ROOT}/phx_protocol/static/*"],
        },
    }
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": options}))
    for block in of(*SCRIPTS):
        name = f"{block.name}.{SCRIPTS[block.language]}"
        (tmp_path / name).write_text("\n" * (block.line - 1) + block.code)
    for page in of("html"):
        for before, code in scripts_of(page):
            line = page.line - 1 + before
            (tmp_path / f"{page.name}_{before}.js").write_text("\n" * line + code)
    return tmp_path


def test_tsc_finds_nothing_wrong_with_the_scripts(scripts: Path) -> None:
    tsc = servers.ROOT / "tests/node_modules/.bin/tsc"
    checked = subprocess.run(
        [str(tsc), "-p", "."], cwd=scripts, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout


def html(block: Block, home: Path) -> None:
    """It is a template that Django can read."""
    libraries = {
        "phx_protocol": "phx_protocol.templatetags.phx_protocol",
        "static": "django.templatetags.static",
    }
    Engine(libraries=libraries).from_string(block.code)


# ---------------------------------------------------------------------- commands


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a script, each as its words."""
    for line in text.replace("\\\n", " ").splitlines():
        for command in line.removeprefix("$ ").split("&&"):
            words = shlex.split(command, comments=True)
            while words and re.match(r"[A-Z_]+=", words[0]):
                words.pop(0)  # for the environment
            if words:
                yield words


def manage(words: list[str]) -> None:
    """There is such a command, and it takes these arguments; a ``[word]`` may be left out."""
    name, *given = [word.strip("[]") for word in words]
    parser = load_command_class(get_commands()[name], name).create_parser("", name)
    parser.parse_args(given)  # exits if it does not


@functools.cache
def help_of(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", program, "--help"],
        cwd=servers.ROOT,
        capture_output=True,
        text=True,
        env={"COLUMNS": "200", "PATH": ""},
    )
    return done.stdout


def server(program: str, words: list[str]) -> None:
    """The server has these options; what is named of our package is there."""
    for word in words:
        option = re.match(r"--?[a-z][\w-]*", word)
        if option is not None:
            known = re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", help_of(program))
            assert option[0] in known, f"{program} has no {option[0]}"
        elif word.startswith("phx_protocol."):
            home, _, name = word.partition(":")
            assert hasattr(__import__(home, fromlist=[name]), name), word


def pip(words: list[str]) -> None:
    """Our installed package has these extras."""
    setup = configparser.ConfigParser()
    setup.read(servers.ROOT / "setup.cfg")
    extras = set(setup["options.extras_require"])
    assert words[0] == "install"
    for word in words[1:]:
        ours = re.fullmatch(r"phx_protocol(?:\[(.+)\])?", word)
        if ours is not None and ours[1]:
            assert set(ours[1].split(",")) <= extras, word


def make(words: list[str]) -> None:
    makefile = (servers.ROOT / "Makefile").read_text()
    for target in words:
        assert re.search(rf"^{target}:", makefile, re.M), target


def npm(words: list[str]) -> None:
    """The installed packages are those of our tests."""
    known = json.loads((servers.ROOT / "tests/package.json").read_text())[
        "dependencies"
    ]
    assert words[0] == "install"
    assert {word for word in words[1:] if not word.startswith("--")} <= set(known)


def systemctl(words: list[str]) -> None:
    assert words[0] in {"enable", "restart"}, words


def curl(words: list[str]) -> None:
    """curl knows the options: it fails only because nobody listens."""
    url = re.sub(r":(%i|\d+)/", f":{servers.free_port()}/", words[-1])
    options = [w.replace("60", "0") for w in words[:-1]]
    asked = subprocess.run(["curl", *options, url], capture_output=True, text=True)
    assert asked.returncode == 7, asked.stderr


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "manage.py": manage,
    "pip": pip,
    "make": make,
    "npm": npm,
    "systemctl": systemctl,
    "curl": curl,
    **{
        program: functools.partial(server, program)
        for program in ("uvicorn", "daphne", "gunicorn", "hypercorn", "granian")
    },
}


def check(words: list[str]) -> None:
    program, *given = words
    if program == "python":
        program, *given = given
    name = Path(program).name
    assert name in CHECKS, f"nobody checks {program}"
    CHECKS[name](given)


def shell(block: Block, home: Path) -> None:
    """The programs, and their options, exist."""
    for words in commands(block.code):
        check(words)


# ------------------------------------------------------------------ configuration


def nginx(block: Block, home: Path) -> None:
    """nginx takes it, with a certificate made here, and ports that anybody may listen on."""
    key, certificate = home / "key.pem", home / "certificate.pem"
    subprocess.run(
        "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=example.com -days 1".split()
        + ["-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    text = re.sub(r"(ssl_certificate_key) [^;]+", rf"\1 {key}", block.code)
    text = re.sub(r"(ssl_certificate) [^;]+", rf"\1 {certificate}", text)
    text = re.sub(r"listen \d+", lambda _: f"listen {servers.free_port()}", text)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {kind};" for kind in kinds)
    (home / "nginx.conf").write_text(
        f"pid nginx.pid;\nevents {{}}\nhttp {{\n{temporary}\n{text}\n}}\n"
    )
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    tested = subprocess.run(
        [program, "-t", "-q", "-p", str(home), "-c", "nginx.conf", "-e", "stderr"],
        capture_output=True,
        text=True,
    )
    assert tested.returncode == 0, tested.stderr


def unit(block: Block, home: Path) -> None:
    """A unit of systemd parses, and starts what exists."""
    parsed = configparser.RawConfigParser(strict=False)
    parsed.read_string(block.code.replace("\\\n", " "))
    assert set(parsed.sections()) <= {"Unit", "Service", "Install"}
    started = {k: v for k, v in parsed["Service"].items() if k.startswith("exec")}
    assert started
    for command in started.values():
        for words in commands(command):
            check(words)


LANGUAGES: dict[str, Callable[[Block, Path], object]] = {
    "sh": shell,
    "console": shell,
    "html": html,
    "nginx": nginx,
    "ini": unit,
    "json": lambda block, home: json.loads(block.code),
    "yaml": lambda block, home: yaml.safe_load(block.code),
}


@pytest.mark.parametrize("block", of(*LANGUAGES), ids=lambda block: block.where)
def test_what_a_block_says_is_so(block: Block, tmp_path: Path) -> None:
    LANGUAGES[block.language](block, tmp_path)
