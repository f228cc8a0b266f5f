"""The path of a module tells where its tests are."""

from __future__ import annotations

from pathlib import Path

import phx_protocol

PACKAGE = Path(phx_protocol.__file__).parent
TESTS = Path(__file__).parent
#: lines from which on a module has a test file of its own
LONG = 60
#: Longer modules without one. A name goes when its file comes, and no other is added: the number of
#: names that are allowed is never raised.
WITHOUT = {
    "exceptions.py",  # the tree of errors: each is tested where it is raised
    "management/doctor/advice.py",  # words, which the tests of each check look for
    "management/doctor/findings.py",  # what these checks return
    "testing/blocking.py",  # tests/hangs, in memory and on file
    "testing/database.py",  # the same
    "wire/messages.py",  # values without behaviour
}
ALLOWED = 6


def place_of_tests(module: Path) -> Path:
    """``node/rpc.py`` is tested in ``node/test_rpc.py``; a folder's own lines in ``test_<folder>.py``."""
    name = module.parent.name if module.stem == "__init__" else module.stem
    return TESTS / module.relative_to(PACKAGE).with_name(f"test_{name}.py")


def untested() -> set[str]:
    """The long modules that have no test file in their place."""
    return {
        module.relative_to(PACKAGE).as_posix()
        for module in PACKAGE.rglob("*.py")
        if len(module.read_text().splitlines()) > LONG
        and module.parent.name != "migrations"  # Django writes them
        and not place_of_tests(module).is_file()
    }


def test_every_long_module_has_a_test_file_in_its_place_or_is_on_the_list() -> None:
    assert sorted(untested() - WITHOUT) == []


def test_modules_on_the_list_have_no_test_file_and_the_list_does_not_grow() -> None:
    assert sorted(WITHOUT - untested()) == []
    assert len(WITHOUT) <= ALLOWED
