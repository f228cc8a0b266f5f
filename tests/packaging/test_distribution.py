"""The uploaded files are complete: they are built, searched, installed and used."""

from __future__ import annotations

import configparser
import itertools
import re
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
import yaml

from tests.packaging.wheel import (
    Distribution,
    clone,
    install,
    python_build,
    run,
    tracked,
)
from tests.support.servers import ROOT

README = (ROOT / "README.md").read_text()
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")


def contents(wheel: Path) -> dict[str, int]:
    """The files of a wheel, with their checksums."""
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: info.CRC for info in archive.infolist()}


# ------------------------------------------------------------------- what is in it


def test_the_sdist_has_what_the_repository_has(distribution: Distribution) -> None:
    with tarfile.open(distribution.sdist) as archive:
        files = {m.name.partition("/")[2] for m in archive.getmembers() if m.isfile()}
    made = {f for f in files if f.startswith("phx_protocol.egg-info/")} | {"PKG-INFO"}
    assert files - made == set(tracked())


def test_the_wheel_has_the_package_and_nothing_else(distribution: Distribution) -> None:
    files = {f for f in contents(distribution.wheel) if ".dist-info/" not in f}
    assert files == {f for f in tracked() if f.startswith("phx_protocol/")}
    kinds = {Path(f).suffix for f in files}
    assert kinds >= {".py", ".typed", ".lua", ".html", ".css", ".js", ".py-tpl"}


def test_the_sdist_makes_the_wheel_that_the_repository_makes(
    distribution: Distribution, tmp_path: Path
) -> None:
    python_build(clone(tmp_path / "source"), tmp_path / "dist", "--wheel")
    (wheel,) = (tmp_path / "dist").iterdir()
    assert wheel.name == distribution.wheel.name
    assert contents(wheel) == contents(distribution.wheel)


def test_twine_and_check_wheel_contents_find_nothing(
    distribution: Distribution, tmp_path: Path
) -> None:
    twine = (sys.executable, "-m", "twine", "check", "--strict")
    run(*twine, *distribution, cwd=tmp_path)
    # W004: the name of a migration begins with a digit
    check = (sys.executable, "-m", "check_wheel_contents", "--ignore", "W004")
    run(*check, distribution.wheel, cwd=tmp_path)


def test_the_extras_that_are_spoken_of_are_there_and_no_others(
    distribution: Distribution,
) -> None:
    with zipfile.ZipFile(distribution.wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(name))
    pages = [*(ROOT / "docs").glob("*.md"), *(ROOT / "phx_protocol").rglob("*.py")]
    texts = [README, *(page.read_text() for page in pages)]
    said = re.findall(r"phx_protocol\[([\w,]+)\]", " ".join(texts))
    assert set(metadata.get_all("Provides-Extra", [])) == set(",".join(said).split(","))


# ------------------------------------------------------------------ the versions


@pytest.fixture(scope="module")
def listed() -> list[str]:
    return run(sys.executable, "-m", "tox", "list", "--no-desc", "-q", cwd=ROOT).split()


def test_ci_runs_the_pairs_of_versions_that_tox_lists(listed: list[str]) -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
    matrix = workflow["jobs"]["versions"]["strategy"]["matrix"]
    pairs = [
        f"py{python}-django{django}".replace(".", "")
        for python, django in itertools.product(matrix["python"], matrix["django"])
        if {"python": python, "django": django} not in matrix["exclude"]
    ]
    assert sorted(listed) == sorted(pairs)


def test_the_classifiers_name_versions_that_tox_lists(listed: list[str]) -> None:
    named = SETUP["metadata"]["classifiers"]
    versions = re.findall(r"(Python|Django) :: ([\d]+\.[\d]+)", named)
    factors = {factor for pair in listed for factor in pair.split("-")}
    for name, version in versions:
        prefix = {"Python": "py", "Django": "django"}[name]
        assert prefix + version.replace(".", "") in factors


# ------------------------------------------------------------------ installed


@pytest.fixture(scope="module")
def python(
    distribution: Distribution, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A Python that has the wheel and what it needs, none of the extras."""
    return install(tmp_path_factory.mktemp("bare"), str(distribution.wheel))


def begun(python: Path, directory: Path) -> Path:
    """A project that has just begun, with one app; its settings."""
    run(python, "-m", "django", "startproject", "mysite", ".", cwd=directory)
    run(python, "manage.py", "startapp", "chat", cwd=directory)
    return directory / "mysite/settings.py"


def test_the_wheel_alone_can_be_imported(python: Path, tmp_path: Path) -> None:
    code = "import phx_protocol as p; [getattr(p, n) for n in p.__all__]; print(p.__file__)"
    where = run(python, "-c", code, cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(python.parent.parent)


def test_generated_code_passes_its_tests_with_the_wheel_alone(
    python: Path, tmp_path: Path
) -> None:
    settings = begun(python, tmp_path)
    with settings.open("a") as file:
        file.write('INSTALLED_APPS += ["channels", "phx_protocol", "chat"]\n')
    run(python, "manage.py", "phx_channel", "chat", "room", cwd=tmp_path)
    run(python, "manage.py", "phx_socket", "chat", "user", cwd=tmp_path)
    run(python, "manage.py", "phx_presence", "chat", cwd=tmp_path)
    tested = run(python, "manage.py", "test", cwd=tmp_path)
    assert re.search(r"^Ran [1-9]\d* tests", tested, flags=re.M)


@pytest.mark.big
def test_the_readme_is_all_that_a_new_project_needs(
    distribution: Distribution, tmp_path: Path
) -> None:
    (asked_for,) = re.findall(r"^pip install phx_protocol(\[.+\])$", README, flags=re.M)
    python = install(tmp_path / "venv", f"{distribution.wheel}{asked_for}")
    # the code blocks that begin with the name of their file
    blocks = re.findall(r"^```python\n# (\S+)\n(.*?)^```", README, flags=re.M | re.S)
    said = dict(blocks)
    settings = begun(python, tmp_path)
    with settings.open("a") as file:
        file.write(said["settings.py"].replace("...", "*INSTALLED_APPS"))
    (tmp_path / "mysite/asgi.py").write_text(said["asgi.py"])
    (tmp_path / "chat/channels.py").write_text(said["chat/channels.py"])
    run(python, "manage.py", "check", "--fail-level", "WARNING", cwd=tmp_path)
    routes = run(python, "manage.py", "phx_routes", cwd=tmp_path)
    assert (
        "/socket (/socket/websocket, /socket/longpoll)  phx_protocol.socket.socket.Socket"
        in routes
    )
    assert "room:*  chat.channels.RoomChannel" in routes
    run(python, "-c", "import mysite.asgi", cwd=tmp_path)
