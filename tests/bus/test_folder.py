"""The folder in which the processes of a project find each other."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.conf import settings

from phx_protocol.bus import folder as module
from phx_protocol.bus.folder import (
    ORPHANED,
    Neighbour,
    Place,
    folders,
    folders_of_others,
    is_safe,
    neighbours,
    project,
)
from tests.bus.peers import peer

NOBODY = 65534


@pytest.fixture
def place() -> Place:
    return Place(serves=True)


def test_a_place_is_a_file_that_goes_with_its_process(
    place: Place, runtime: Path
) -> None:
    (file,) = runtime.iterdir()
    assert file.suffix == ".serving"
    assert Path(place.address) == file.with_suffix(".sock")
    assert oct(runtime.stat().st_mode)[-3:] == "700"
    place.leave()
    place.leave()
    assert list(runtime.iterdir()) == []


def test_a_process_is_no_neighbour_of_itself(place: Place) -> None:
    assert neighbours() == []
    place.leave()


async def test_others_are_seen_as_long_as_they_live(runtime: Path) -> None:
    async with peer("serving") as one, peer("visiting"), peer("silent"):
        assert sorted(n.serves for n in neighbours()) == [False, True, True]
        await one.kill()
        assert sorted(n.serves for n in neighbours()) == [False, True]
    assert neighbours() == []
    assert list(runtime.iterdir()) == []


async def test_a_killed_process_leaves_nothing_in_the_way(runtime: Path) -> None:
    async with peer() as one:
        await one.kill()
    assert {file.suffix for file in runtime.iterdir()} == {".serving", ".sock"}
    assert neighbours() == []
    assert list(runtime.iterdir()) == []


def test_what_killed_processes_left_half_done_is_removed_after_a_minute(
    place: Place, runtime: Path
) -> None:
    orphans = [runtime / f".{project()}-00", runtime / f"{project()}-01.sock"]
    for file in orphans:
        file.touch()
    foreign = runtime / ".other-00"
    foreign.touch()
    long_ago = time.time() - ORPHANED - 1
    os.utime(foreign, (long_ago, long_ago))
    assert neighbours() == [] and all(file.exists() for file in orphans)
    for file in orphans:
        os.utime(file, (long_ago, long_ago))
    assert neighbours() == [] and not any(file.exists() for file in orphans)
    assert foreign.exists() and place.is_there(listens=False)
    place.leave()


def test_a_place_tells_cleaners_of_old_files_that_it_lives(
    place: Place, runtime: Path
) -> None:
    (file,) = runtime.iterdir()
    socket = Path(place.address)
    assert not place.is_there(listens=True)
    socket.touch()
    for path in (file, socket):
        os.utime(path, (0, 0))
    assert place.is_there(listens=True)
    assert min(path.stat().st_mtime for path in (file, socket)) > time.time() - 60
    file.unlink()
    assert not place.is_there(listens=True)
    place.leave()


async def test_who_cannot_look_takes_nobody_for_dead(runtime: Path) -> None:
    async with peer():
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        opened = len(os.listdir("/proc/self/fd"))
        files = sorted(runtime.iterdir())
        (file,) = (f for f in files if f.suffix == ".serving")
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(3, opened), hard))
        try:
            assert module._is_locked(file)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert sorted(runtime.iterdir()) == files


def test_a_child_sees_its_parent_and_leaves_it_its_place(
    place: Place, runtime: Path
) -> None:
    child = os.fork()
    if child == 0:
        seen = neighbours() == [Neighbour(place.address, True)]
        place.leave()
        os._exit(0 if seen and list(runtime.iterdir()) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    place.leave()


async def test_other_projects_are_not_seen(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other settings are another project, and so is a copy of it in another place."""
    names = {project()}
    for base in (tmp_path / "a", tmp_path / "b"):
        monkeypatch.setattr(settings, "BASE_DIR", base, raising=False)
        project.cache_clear()
        names.add(project())
    monkeypatch.setattr(settings, "SETTINGS_MODULE", "others.settings")
    project.cache_clear()
    names.add(project())
    assert len(names) == 4
    async with peer():
        assert neighbours() == []
    monkeypatch.undo()
    project.cache_clear()
    place.leave()


@pytest.mark.parametrize("what", ["open to the group", "a link", "a file"])
def test_a_folder_that_others_might_have_made_is_not_used(
    what: str, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = runtime.parent / "bad", runtime.parent / "good"
    if what == "a file":
        bad.write_text("")
    elif what == "a link":
        target = runtime.parent / "target"
        target.mkdir(0o700)
        bad.symlink_to(target)
    else:
        bad.mkdir()
        bad.chmod(0o710)
    monkeypatch.setattr(module, "folders", lambda: [bad, good])
    assert not is_safe(bad)
    place = Place(serves=True)
    assert Path(place.address).parent == good
    place.leave()
    monkeypatch.setattr(module, "folders", lambda: [bad])
    with pytest.raises(OSError, match="only this user can enter"):
        Place(serves=True)
    assert neighbours() == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_a_folder_of_another_user_is_not_used(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir(0o700)
    os.chown(theirs, NOBODY, NOBODY)
    assert not is_safe(theirs)


def test_a_path_that_is_too_long_for_a_socket_is_left_for_the_next_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 90)
    monkeypatch.setattr(module, "folders", lambda: [long, tmp_path / "short"])
    monkeypatch.setattr(module, "LONGEST_PATH", len(str(tmp_path)) + 70)
    place = Place(serves=False)
    assert Path(place.address).parent.name == "short"
    place.leave()
    assert not long.exists()


def test_without_a_runtime_folder_the_usual_one_is_looked_into(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    user = os.getuid()
    first, second = folders()
    assert first == Path(f"/run/user/{user}/phx_protocol")
    assert second == Path(f"/tmp/phx-{user}")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_users_that_have_a_folder_of_their_own_are_named() -> None:
    folder = Path(f"/tmp/phx-{NOBODY}")
    had = folder.exists()
    folder.mkdir(0o700, exist_ok=True)
    os.chown(folder, NOBODY, NOBODY)
    try:
        assert "nobody" in folders_of_others()
    finally:
        if not had:
            folder.rmdir()


def test_at_its_end_a_process_leaves_its_place(runtime: Path) -> None:
    code = "from phx_protocol.bus.folder import Place; Place(serves=True)"
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
    assert list(runtime.iterdir()) == []
