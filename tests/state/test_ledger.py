"""The number of writes that the store must have."""

from __future__ import annotations

from phx_protocol.state.ledger import Ledger


def test_a_step_that_another_server_answered_is_missed_on_this_one() -> None:
    """The old primary answers for a while after the new one does."""
    ledger = Ledger(60)
    for count in (1, 2, 3):
        ledger.of("3").note(count)
    ledger.of("3").note(4)  # the new one, which lacks the third
    ledger.of("3").note(4)  # and the fourth of the old one
    assert ledger.of("3").steps == 5
    assert ledger.of("4").steps == 0


def test_after_a_time_without_writes_another_author_begins() -> None:
    """The store forgets an author after his last write, however much he reads."""
    now = 0.0
    ledger = Ledger(60, lambda: now)
    first = ledger.of("3")
    first.note(1)
    now = 29.0
    assert ledger.of("3") is first
    first.note(0)
    now = 31.0
    second = ledger.of("3")
    assert second.steps == 0 and second.author != first.author
    first.note(2)  # its answer comes late
    assert ledger.of("3") is second and second.steps == 0


def test_an_answer_of_an_earlier_generation_comes_too_late() -> None:
    ledger = Ledger(60)
    ledger.learn("7.a")
    count = ledger.of("3")
    ledger.learn("6.a")
    assert ledger.generation == "7.a" and ledger.of("3") is count
    ledger.learn("8.a")
    count.note(1)
    assert ledger.of("3").steps == 0
