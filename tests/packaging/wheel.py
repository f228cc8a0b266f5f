"""The distribution as pip gets it, and environments that have nothing else."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import NamedTuple

from tests.support.servers import ROOT


class Distribution(NamedTuple):
    sdist: Path
    wheel: Path


def run(*args: str | Path, cwd: Path) -> str:
    """Return what `args` print, run outside of this tree; an AssertionError if they fail."""
    hidden = ("PYTHONPATH", "DJANGO_SETTINGS_MODULE")
    done = subprocess.run(
        args,
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if k not in hidden},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def tracked() -> list[str]:
    """The files that git knows, as they are now."""
    listed = run("git", "ls-files", "-z", cwd=ROOT).split("\0")
    return [name for name in listed if name and (ROOT / name).is_file()]


def build(directory: Path) -> Distribution:
    """The sdist, and the wheel made of it, in `directory`; built unless they are there."""
    dist = directory / "dist"
    with open(directory / "dist.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not dist.exists():
            unfinished = directory / "unfinished"
            python_build(clone(directory / "source"), unfinished)
            unfinished.rename(dist)
    return Distribution(*dist.glob("*.tar.gz"), *dist.glob("*.whl"))


def clone(directory: Path) -> Path:
    """A copy of what git knows."""
    for name in tracked():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, directory / name)
    return directory


def python_build(source: Path, directory: Path, *options: str) -> None:
    # the setuptools that is installed here: an isolated build would fetch one
    command = [sys.executable, "-m", "build", "--no-isolation", *options]
    run(*command, "--outdir", directory, source, cwd=source)


def install(directory: Path, requirement: str) -> Path:
    """A new environment with `requirement` and what it asks for; returns its Python."""
    venv.create(directory, with_pip=False)
    python = directory / "bin/python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet")
    run(*pip, "--no-compile", requirement, cwd=directory)
    return python
