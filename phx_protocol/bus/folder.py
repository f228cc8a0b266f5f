"""Where the processes of one project and one user find each other on this machine.

A process that is there holds a lock on a file of its own, so that a dead one can be told from a
living one, also after a SIGKILL. The name of the file says whether it serves sockets. The Unix
socket beside it has the same name.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import os
import secrets
import stat
import sys
import time
from collections.abc import Iterator
from hashlib import blake2s
from pathlib import Path
from typing import NamedTuple

from django.conf import settings

try:
    import fcntl
except ImportError:  # Windows, which has no Unix sockets in asyncio either
    fcntl = None  # type: ignore[assignment]

#: the most bytes in the path of a Unix socket: 107 on Linux, 103 on macOS
LONGEST_PATH = 103
#: seconds after which a file that belongs to nobody is removed
ORPHANED = 60.0
SERVING, VISITING, SOCKET = ".serving", ".visiting", ".sock"

#: the places of this process by their names
_own: dict[str, Place] = {}


class Neighbour(NamedTuple):
    """Another process of the project: the path of its socket, and whether it serves clients."""

    address: str
    serves: bool


class Place:
    """The place of this process in the folder, until it leaves. Raises OSError if there is none."""

    def __init__(self, *, serves: bool) -> None:
        if fcntl is None:
            raise OSError("there are no locks on files here")
        self._pid = os.getpid()
        name = f"{project()}-{secrets.token_hex(8)}"
        folder = _make_folder(name + SOCKET)
        self.address = str(folder / (name + SOCKET))
        self._file = folder / (name + (SERVING if serves else VISITING))
        # locked before it has its name: nobody can take it for that of a dead process
        unnamed = folder / f".{name}"
        lock = os.open(unnamed, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        self._lock: int | None = lock
        _own[name] = self
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(unnamed, self._file)
        except OSError:
            _remove(unnamed)
            self.leave()
            raise

    def is_there(self, *, listens: bool) -> bool:
        """Return False if somebody has removed its files; else tell cleaners of old files that it lives."""
        try:
            os.utime(self._file)
            if listens:
                os.utime(self.address)
            return True
        except OSError:
            return False

    def leave(self) -> None:
        """Remove the files. A child of this process leaves them to its parent."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        if os.getpid() == self._pid:
            _remove(self._file, Path(self.address))
            _own.pop(self._file.stem, None)
        os.close(lock)


def neighbours() -> list[Neighbour]:
    """Return the other processes of this project and user; remove the files of dead ones.

    Raises OSError if a folder cannot be read, such as when too many files are open.
    """
    if fcntl is None:
        return []
    found: list[Neighbour] = []
    for folder in folders():
        if is_safe(folder):
            found += _of(folder)
    return found


def _of(folder: Path) -> Iterator[Neighbour]:
    """Yield those in `folder`; remove what the dead have left there. Raises OSError."""
    mine = f"{project()}-"
    files = [Path(entry.path) for entry in os.scandir(folder) if mine in entry.name]
    names = {file.stem for file in files if file.suffix in (SERVING, VISITING)}
    for file in sorted(files):
        if file.stem.lstrip(".") in _own:
            continue
        if file.suffix in (SERVING, VISITING):
            socket = file.with_suffix(SOCKET)
            if _is_locked(file):
                yield Neighbour(str(socket), file.suffix == SERVING)
            else:
                _remove(file, socket)
        elif file.stem not in names and _is_old(file):
            _remove(
                file
            )  # of a process that was killed while it took its place, or left it


def _is_old(file: Path) -> bool:
    try:
        return time.time() - os.lstat(file).st_mtime > ORPHANED
    except OSError:
        return False


def is_address(text: str) -> bool:
    """Return True if `text` may be the address of a process."""
    return text.startswith("/") and text.endswith(SOCKET)


def folders() -> list[Path]:
    """Return the folders that this user's processes use, the best first.

    Both are looked into: a service has no XDG_RUNTIME_DIR where the shell of its user has one.
    """
    user = os.getuid()
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{user}"
    return [Path(runtime, "phx_protocol"), Path(f"/tmp/phx-{user}")]


def folders_of_others() -> list[str]:
    """Return the names or numbers of the other users that have such a folder."""
    if fcntl is None:
        return []
    found = []
    for folder in sorted(Path("/tmp").glob("phx-*")):
        with contextlib.suppress(OSError):
            owner = os.lstat(folder).st_uid
            if owner != os.getuid() and folder.name == f"phx-{owner}":
                found.append(name_of_user(owner))
    return found


def name_of_user(user: int) -> str:
    """Return the name of the user with the number `user`, or the number."""
    import pwd  # Windows has none

    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def is_safe(folder: Path) -> bool:
    """Return True if `folder` is a folder, no link to one, of this user, and closed to all others."""
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return is_ours and not found.st_mode & 0o077


def _make_folder(name: str) -> Path:
    """Return the first folder that is safe and leaves room for `name`; make it if it is missing.

    Raises OSError if there is none.
    """
    for folder in folders():
        if len(os.fsencode(folder / name)) > LONGEST_PATH:
            continue
        with contextlib.suppress(OSError):  # it is there, or its parent is not
            os.mkdir(folder, 0o700)
        if is_safe(folder) and os.access(folder, os.W_OK):
            return folder
    tried = " and ".join(map(str, folders()))
    raise OSError(f"neither of {tried} is a folder that only this user can enter")


@functools.cache
def project() -> str:
    """Return a name for this project: other settings, or the same in another place, have another one."""
    module = getattr(settings, "SETTINGS_MODULE", "") or ""
    base = getattr(settings, "BASE_DIR", None)
    if base is None:
        file = getattr(sys.modules.get(module), "__file__", None)
        base = os.path.dirname(file) if file else os.getcwd()
    text = f"{module}\0{os.path.realpath(base)}"
    return blake2s(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def _is_locked(file: Path) -> bool:
    """Return True if a process holds its lock; this one must not have it open."""
    try:
        opened = os.open(file, os.O_RDWR | os.O_NOFOLLOW)
    except OSError as error:
        # any other error, such as too many open files, says nothing about the process
        return error.errno not in (errno.ENOENT, errno.ELOOP)
    try:
        fcntl.lockf(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(opened)


def _remove(*files: Path) -> None:
    for file in files:
        with contextlib.suppress(OSError):
            file.unlink()


@atexit.register
def _leave() -> None:
    for place in list(_own.values()):
        place.leave()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_own.clear)
