"""The number of writes that the store must have."""

from __future__ import annotations

from phx_protocol.state.ledger import Ledger


def test_a_step_that_another_server_answered_is_missed_on_this_one() -> None:
    """The old primary answers for a while after the new one does."""
    ledger = Ledger(60)
    ledger.learn("7.a")
    for count in (1, 2, 3):
        ledger.note("3", "7.a", count)
    ledger.note("3", "7.a", 4)  # the new one, which lacks the third
    ledger.note("3", "7.a", 4)  # and the fourth of the old one
    assert ledger.of("3").steps == 5
    assert ledger.of("4").steps == 0


def test_a_ledger_without_recent_writes_demands_no_steps() -> None:
    now = 0.0
    ledger = Ledger(60, lambda: now)
    ledger.learn("7.a")
    ledger.note("3", "7.a", 1)
    count = ledger.of("3")
    author = count.author
    now = 29.0
    assert count.steps == 1
    now = 31.0
    assert count.steps == 0 and count.author != author


def test_an_answer_of_an_earlier_generation_comes_too_late() -> None:
    ledger = Ledger(60)
    ledger.learn("7.a")
    ledger.learn("6.a")
    ledger.note("3", "6.a", 9)
    assert ledger.generation == "7.a" and ledger.of("3").steps == 0
    ledger.note("3", "7.a", 1)
    ledger.learn("8.a")
    assert ledger.of("3").steps == 0
