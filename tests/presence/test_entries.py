"""Presences as values: entries, diffs, and the order of what a key shows."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from phx_protocol.presence.entries import Diff, Entries, Entry, Roster, by_ref
from phx_protocol.presence.replica import Replica
from tests.presence.hints import KEYS, client_of, entry, shown


@st.composite
def sequences(draw: st.DrawFn) -> tuple[Entries, list[Diff]]:
    """Entries, and diffs that can follow each other; the same ref may leave and be back."""
    everything = [entry(n, KEYS[n % 3]) for n in range(6)]
    there = by_ref(e for e in everything if draw(st.booleans()))
    first, diffs = dict(there), []
    for _ in range(draw(st.integers(1, 6))):
        changed = [e for e in everything if draw(st.booleans())]
        joins = [e for e in changed if e.ref not in there]
        leaves = [e for e in changed if e.ref in there]
        diffs.append(Diff(joins, leaves))
        there = {
            ref: e for ref, e in there.items() if ref not in diffs[-1].leaves
        } | diffs[-1].joins
    return first, diffs


@settings(max_examples=300, deadline=None)
@given(sequences())
def test_merged_diffs_have_the_same_effect_as_one_after_the_other(
    sequence: tuple[Entries, list[Diff]],
) -> None:
    """A client that got a part of them before has the same in the end."""
    there, diffs = sequence
    replica, merged = Replica(), Diff()
    replica.roster = Roster(there.values())
    clients = [client_of(replica) for _ in range(len(diffs) + 1)]
    for n, diff in enumerate(diffs):
        merged.add(diff)
        for client in clients[n + 1 :]:
            client.take_diff(shown(diff))
    assert not set(merged.joins) & set(merged.leaves)
    wanted = clients[-1].refs()
    for client in clients:
        client.take_diff(shown(merged))
        assert client.refs() == wanted


def test_between_leads_from_one_roster_to_the_other() -> None:
    ada, bob, eve = entry(1, "ada"), entry(2, "bob"), entry(3, "eve")
    diff = Diff.between(by_ref([ada, bob]), by_ref([bob, eve]))
    assert (diff.joins, diff.leaves) == (by_ref([eve]), by_ref([ada]))


def test_a_large_diff_comes_in_parts_and_its_joins_come_first() -> None:
    old, new = ([entry(i, f"k{i % 7}") for i in range(n, n + 7)] for n in (0, 7))
    diff = Diff(new, old)
    assert list(diff.parts(14)) == [diff]
    parts = list(diff.parts(3))
    assert [(len(p.joins), len(p.leaves)) for p in parts] == [
        *((3, 0), (3, 0), (1, 0)),
        *((0, 3), (0, 3), (0, 1)),
    ]
    roster = Roster(old)
    for part in parts:
        roster.change(part)
        assert len(roster) == 7  # nobody who is updated is absent in between
    assert roster.presences() == Roster(new).presences()


def test_an_entry_survives_being_packed() -> None:
    made = Entry.make("ada", 5, {"a": [1, "ü"]}, "before")
    again = Entry.unpack(made.pack())
    assert (again.ref, again.key, again.since) == (made.ref, "ada", 5)
    assert bytes(again.meta) == bytes(made.meta)
    assert again.decoded() == {"a": [1, "ü"]}


def test_an_entry_that_is_put_twice_is_there_once() -> None:
    """A node that mends the state puts what is on its way there as well."""
    ada, bob = entry(1, "ada"), entry(2, "bob")
    roster = Roster([ada])
    roster.change(Diff([ada, bob]))
    assert [len(p["metas"]) for p in roster.presences().values()] == [1, 1]
    roster.change(Diff((), [ada]))
    assert list(roster.presences()) == ["bob"]


def test_metas_of_a_key_are_in_the_order_they_came() -> None:
    roster = Roster([entry(3, "ada"), entry(2, "bob"), entry(1, "ada")])
    wanted = {
        "ada": {"metas": [{"phx_ref": "r1"}, {"phx_ref": "r3"}]},
        "bob": {"metas": [{"phx_ref": "r2"}]},
    }
    assert roster.presences() == wanted
    roster.change(Diff([entry(2, "ada")], [entry(2, "bob")]))
    wanted["ada"]["metas"].insert(1, {"phx_ref": "r2"})
    del wanted["bob"]
    assert roster.presences() == wanted
    assert roster.of("bob").presences() == {}


def test_a_key_that_is_updated_keeps_its_place() -> None:
    ada, bob = Entry.make("ada", 1, {}), Entry.make("bob", 2, {})
    roster = Roster([ada, bob])
    roster.change(Diff([Entry.make("ada", 1, {"a": 1}, ada.ref)], [ada]))
    assert list(roster.presences()) == ["ada", "bob"]
