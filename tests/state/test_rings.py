"""Which server has a name, and since when, while the list of servers changes."""

from __future__ import annotations

import pytest

from phx_protocol.state import rings
from phx_protocol.state.rings import Rings, id_of, is_newer

NAMES = [f"room:{n}" for n in range(3000)]


def moved(before: Rings, after: Rings) -> list[str]:
    return [n for n in NAMES if before.place(n).server != after.place(n).server]


def test_a_third_server_takes_a_third_of_the_names_and_moves_no_other() -> None:
    before = Rings([["a", "b"]])
    after = before.then(["a", "b", "c"])
    gone = moved(before, after)
    assert {after.place(name).server for name in gone} == {"c"}
    assert 900 < len(gone) < 1100


def test_the_order_of_the_list_does_not_matter() -> None:
    assert Rings([["a", "b"]]).lists == Rings([["b", "a"]]).lists
    assert not moved(Rings([["a", "b", "c"]]), Rings([["c", "b", "a"]]))


def test_a_name_that_stays_is_there_since_the_ring_in_which_it_came() -> None:
    first = Rings([["a"]])
    second = first.then(["a", "b", "c"])
    third = second.then(["a", "b"])
    for name in NAMES:
        one, two, three = (some.place(name) for some in (first, second, third))
        assert one == ("a", 0)
        assert two.since == (0 if two.server == "a" else 1)
        assert three.since == (two.since if three.server == two.server else 2)


def test_a_name_that_comes_back_is_not_taken_for_one_that_stayed() -> None:
    back = Rings([["a"], ["a", "b"], ["a"]])
    since = {back.place(name).since for name in NAMES}
    assert since == {0, 2}
    for name in NAMES:
        was_away = back.before.place(name).server == "b"
        assert back.place(name) == ("a", 2 if was_away else 0)


def test_rings_are_a_text_in_the_state_and_nothing_before_the_first_change() -> None:
    assert str(Rings([["a", "b"]])) == ""
    some = Rings([["a"], ["c", "a"], ["b"]])
    assert str(some) == "/a/a,c/b"
    assert Rings.parse(str(some)).lists == some.lists


@pytest.mark.parametrize(
    ("newer", "older"),
    [
        ("/a/b", ""),
        ("/a/b/c", "/a/b"),
        ("/a/b/a", "/a/c"),
        # two processes at the same time
        ("/a/c", "/a/b"),
    ],
)
def test_of_two_rings_one_counts(newer: str, older: str) -> None:
    one = Rings.parse(newer)
    other = Rings.parse(older) if older else Rings([["z"]])
    assert is_newer(one, other) and not is_newer(other, one)
    assert not is_newer(one, one)


def test_an_id_is_short_the_same_everywhere_and_separates_nothing() -> None:
    assert id_of("10.0.0.1:6379/0") == "8b11ea5a"
    assert id_of("10.0.0.1:6379/1") != id_of("10.0.0.1:6379/0")


def test_only_so_many_names_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rings, "KNOWN", 10)
    some = Rings([["a", "b"]])
    places = [some.place(name) for name in NAMES]
    assert len(some._places) <= 10
    assert [some.place(name) for name in NAMES] == places
