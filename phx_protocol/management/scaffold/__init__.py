"""The base of phx_channel, phx_socket and phx_presence: they write a class and its test.

They also print what to do next.
"""

from __future__ import annotations

import contextlib
import re
import textwrap
from pathlib import Path
from string import Template
from typing import Any, ClassVar, NamedTuple

from django.apps import AppConfig, apps
from django.core.management.base import BaseCommand, CommandError, CommandParser

from .source import Unfit, with_class

HERE = Path(__file__).parent


class Kind(NamedTuple):
    """A kind of class: the name of its templates, the app's module, the suffix, the imports."""

    name: str
    module: str
    suffix: str
    imports: tuple[str, ...]


class ScaffoldCommand(BaseCommand):
    """A command that writes a class and its test into an app: both, or none if one cannot be written."""

    kind: ClassVar[Kind]
    # the settings may name a class that is not written yet
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("app", help='the label of an app, as in "chat"')
        self.add_name(parser)
        parser.add_argument(
            "--dry-run", action="store_true", help="show what would be written"
        )

    def add_name(self, parser: CommandParser) -> None:
        example = f'as in "room", for the class Room{self.kind.suffix}'
        parser.add_argument("name", help=example)

    def handle(
        self, *args: Any, app: str, name: str | None, dry_run: bool, **options: Any
    ) -> None:
        config = _app(app)
        words = _words(config.label if name is None else name, self.kind)
        stem, class_name = "_".join(words).lower(), "".join(map(_capital, words))
        class_name += self.kind.suffix
        test, dots = _test(config, f"test_{stem}_{self.kind.name}.py")
        fill = {
            "app": config.name,
            "topic": stem,
            "class_name": class_name,
            "module": f"{dots}{self.kind.module}",
            "path": f"{config.name}.{self.kind.module}.{class_name}",
        }
        path = Path(config.path) / f"{self.kind.module}.py"
        code = _rendered(f"{self.kind.name}.py", fill)
        files = {
            path: _extended(path, class_name, code, self.kind.imports),
            test: _rendered(f"{self.kind.name}_test.py", fill),
        }
        if test.exists():
            raise CommandError(
                f"{test} is there already: take another name, or remove it. Nothing was written."
            )
        if not dry_run:
            _write(files)
        for file, text in files.items():
            self.stdout.write(self.style.SUCCESS(str(file)))
            if dry_run:
                self.stdout.write(textwrap.indent(text, "    "))
        if options["verbosity"] > 0:
            self.stdout.write("\n" + _rendered(f"{self.kind.name}.txt", fill))


def _app(label: str) -> AppConfig:
    try:
        return apps.get_app_config(label)
    except LookupError as error:
        known = ", ".join(sorted(config.label for config in apps.get_app_configs()))
        raise CommandError(
            f"{error} Is it in INSTALLED_APPS? There are: {known}."
        ) from error


def _words(name: str, kind: Kind) -> list[str]:
    """Return the words of "chat_room", "ChatRoom" or "ChatRoomChannel"."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+|[0-9]+", name)
    if len(words) > 1 and words[-1].lower() == kind.name:
        words.pop()
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or not words:
        raise CommandError(
            f"a name is letters, digits and underscores, as in chat_room or ChatRoom, not {name!r}"
        )
    return words


def _capital(word: str) -> str:
    return word[0].upper() + word[1:]


def _test(config: AppConfig, name: str) -> tuple[Path, str]:
    """Return the path of the test, and the dots of an import from there to the app.

    It is in the package ``tests``, or in the app without one: Django finds ``test*.py`` in both.
    """
    package = Path(config.path) / "tests"
    if (package / "__init__.py").exists():
        return package / name, ".."
    return Path(config.path) / name, "."


def _rendered(name: str, fill: dict[str, str]) -> str:
    return Template((HERE / f"{name}-tpl").read_text("utf-8")).substitute(fill)


def _extended(path: Path, name: str, code: str, imports: tuple[str, ...]) -> str:
    """Return the text of `path` with the class added."""
    try:
        text = path.read_bytes().decode() if path.exists() else ""
        newline = "\r\n" if "\r\n" in text else "\n"
        extended = with_class(text.replace("\r\n", "\n"), name, code, imports)
    except SyntaxError as error:
        what = f"{error.msg} (line {error.lineno})"
        raise CommandError(
            f"{path} is no Python: {what}. Nothing was written."
        ) from error
    except (Unfit, ValueError, OSError) as error:
        raise CommandError(f"{path}: {error}. Nothing was written.") from error
    return extended.replace("\n", newline)


def _write(files: dict[Path, str]) -> None:
    before = {path: path.read_bytes() if path.exists() else None for path in files}
    try:
        for path, text in files.items():
            path.write_bytes(text.encode())
    except OSError as error:
        for path, old in before.items():
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True) if old is None else path.write_bytes(old)
        raise CommandError(f"{error}. Nothing was written.") from error
