"""Long-poll: what a client is answered, and what becomes of its messages."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from phx_protocol import Reason, abroadcast
from phx_protocol.node.node import get_node
from phx_protocol.transports.longpoll import session as session_module
from phx_protocol.transports.longpoll.sessions import Sessions
from tests.support.asgi_poll_client import JSON, Client
from tests.transports.longpoll.rooms import (
    HEARTBEAT,
    PatientSocket,
    PollSocket,
    RoomChannel,
    _ended,
    opened,
)

__all__ = ["_ended"]


class RoomySocket(PatientSocket):
    outbound = {"hard_bytes": 32 * 1024 * 1024}


# ----------------------------------------------------------- opening and polling


async def test_a_session_is_opened_polled_and_posted_to() -> None:
    client = await opened()
    assert await client.post(["1", "1", "room:a", "phx_join", {}]) == {"status": 200}
    reply = {"status": "ok", "response": {"token": None}}
    answer = await client.poll()
    assert answer == {
        "status": 200,
        "token": client.token,
        "messages": [["1", "1", "room:a", "phx_reply", reply]],
    }


async def test_a_poll_waits_for_what_comes_within_its_window() -> None:
    client = await opened(PatientSocket)
    await client.join("room:a")
    poll = await client.start_poll()
    await abroadcast("room:a", "news", {"n": 1})
    await abroadcast("room:a", "news", {"n": 2})
    messages = [json.loads(m) for m in (await poll.answer())["messages"]]
    assert [m[4]["n"] for m in messages] == [1, 2]


async def test_a_window_without_messages_ends_with_204() -> None:
    client = await opened()
    assert (await client.poll())["status"] == 204


async def test_of_two_polls_the_later_gets_the_message_and_the_earlier_takes_over() -> (
    None
):
    client = await opened(PatientSocket)
    await client.join("room:a")
    first, second = await client.start_poll(), await client.start_poll()
    await abroadcast("room:a", "news", {"n": 1})
    assert "news" in (await second.answer())["messages"][0]
    await abroadcast("room:a", "news", {"n": 2})
    assert '"n":2' in (await first.answer())["messages"][0]


async def test_the_auth_token_is_read_when_the_session_opens() -> None:
    client = Client(PollSocket, headers={"x-phoenix-authtoken": "secret"})
    await client.open()
    assert (await client.join("room:a"))["response"] == {"token": "secret"}


# ------------------------------------------------------------------ nothing lost


async def test_a_client_that_drops_while_its_poll_waits_loses_nothing() -> None:
    client = await opened(PatientSocket)
    await client.join("room:a")
    poll = await client.start_poll()
    await poll.disconnect()
    await abroadcast("room:a", "news", {"n": 1})
    assert (await client.receive())[4] == {"n": 1}


async def test_a_client_that_drops_before_its_answer_is_written_loses_nothing() -> None:
    client = await opened(PatientSocket)
    await client.join("room:a")
    poll = await client.start_poll()
    await abroadcast("room:a", "news", {"n": 1})  # the poll has it ...
    await poll.disconnect()  # ... and nobody is there to be written to
    await abroadcast("room:a", "news", {"n": 2})
    messages = (await client.poll())["messages"]
    assert [m[4]["n"] for m in messages] == [1, 2]


def payloads(batch: Any) -> list[Any]:
    return [json.loads(m)[4] for m in json.loads(b"[%s]" % batch.messages)]


async def only_session() -> Any:
    (found,) = get_node().part(Sessions)._sessions.values()
    return found


async def test_a_batch_that_was_not_written_is_sent_again_and_one_that_was_is_not() -> (
    None
):
    client = await opened(PatientSocket)
    await client.join("room:a")
    await abroadcast("room:a", "news", {"n": 1})
    held = await only_session()
    batch = await held.poll()
    held.confirm_now(batch.number, False)
    again = await held.poll()
    assert again.messages == batch.messages and again.number != batch.number
    held.confirm_now(again.number, True)
    await abroadcast("room:a", "news", {"n": 2})
    assert payloads(await held.poll()) == [{"n": 2}]


async def test_the_next_poll_waits_until_the_last_batch_is_confirmed() -> None:
    client = await opened(PatientSocket)
    await client.join("room:a")
    await abroadcast("room:a", "news", {"n": 1})
    held = await only_session()
    batch = await held.poll()
    following = asyncio.create_task(held.poll())
    await abroadcast("room:a", "news", {"n": 2})
    held.confirm_now(batch.number, True)
    assert payloads(await following) == [{"n": 2}]


async def test_a_batch_of_which_nothing_is_heard_is_sent_again() -> None:
    client = await opened()  # SESSION_TIMEOUT is a tenth of a second here
    await client.join("room:a")
    await abroadcast("room:a", "news", {"n": 1})
    held = await only_session()
    batch = await held.poll()
    assert (await held.poll()).messages == batch.messages


# --------------------------------------------------------------------- sending


async def test_more_than_a_hundred_lines_are_all_handled() -> None:
    client = await opened()
    frames = [[None, str(n), "phoenix", "heartbeat", {}] for n in range(250)]
    assert await client.post(*frames) == {"status": 200}
    assert [m[1] for m in (await client.poll())["messages"]] == [
        str(n) for n in range(250)
    ]


async def test_an_answer_has_some_megabytes_and_the_next_poll_has_the_rest() -> None:
    client = await opened(RoomySocket)
    await client.join("room:a")
    for n in range(5):
        await abroadcast("room:a", "news", {"n": n, "x": "x" * 1_500_000})
    seen = [[m[4]["n"] for m in (await client.poll())["messages"]] for _ in range(3)]
    assert seen == [[0, 1], [2, 3], [4]]


async def test_a_bad_line_refuses_the_whole_request_and_the_session_lives() -> None:
    client = await opened()
    request = client.request("POST", json.dumps(HEARTBEAT).encode() + b"\n%%%")
    answer = await (await request.send()).answer()
    assert (request.status, answer["status"]) == (500, 500)
    assert "base64" in answer["reason"]
    assert await client.post(HEARTBEAT) == {"status": 200}


@pytest.mark.parametrize("body", [b"nope", b"[1,2]", b"\xff\xfe", b"", b"{}"])
async def test_an_undecodable_frame_ends_the_session_at_once(body: bytes) -> None:
    client = await opened(PatientSocket)
    await client.join("room:a")
    assert await client.post_body(body, JSON) == {"status": 408}
    assert await RoomChannel.ended.get() == ("room:a", Reason.CRASH)
    assert await client.post(HEARTBEAT) == {"status": 410}


async def test_a_frame_that_is_too_large_ends_the_session_readably() -> None:
    client = await opened()
    answer = await client.post([None, "1", "phoenix", "heartbeat", "x" * 10_000])
    assert answer["status"] == 413
    assert (await client.post(HEARTBEAT))["status"] == 410


async def test_too_many_waiting_frames_end_the_session_readably() -> None:
    client = await opened()
    await client.join("room:a")
    frames = [["1", str(n), "room:a", "slow", {}] for n in range(20)]
    assert (await client.post(*frames))["status"] == 429
    assert (await client.post(HEARTBEAT))["status"] == 410


# ------------------------------------------------------------- the way out


async def test_a_binary_message_is_dropped_said_once_and_the_rest_arrives(
    caplog: pytest.LogCaptureFixture,
) -> None:
    session_module._cannot_be_sent.cache_clear()
    client = await opened()
    await client.join("room:a")
    await abroadcast("room:a", "news", b"\xff\xfe")
    await abroadcast("room:a", "news", b"\xff\xfe")
    await abroadcast("room:a", "news", {"n": 1})
    assert (await client.receive())[4] == {"n": 1}
    assert len([r for r in caplog.records if "binary" in r.message]) == 1


class SmallSocket(PollSocket):
    longpoll = True
    outbound = {"bytes": 1000, "seconds": 0.1, "hard_bytes": 5000}


async def test_a_session_that_is_not_polled_is_bounded_in_bytes() -> None:
    client = await opened(SmallSocket)
    await client.join("room:a")
    await abroadcast("room:a", "news", {"n": "x" * 6000})
    assert await RoomChannel.ended.get() == ("room:a", Reason.CLOSED)
    assert (await client.post(HEARTBEAT))["status"] == 410


async def test_a_session_that_is_not_polled_is_bounded_in_time() -> None:
    client = await opened(SmallSocket)
    await client.join("room:a")
    await abroadcast("room:a", "news", {"n": "x" * 2000})
    assert await RoomChannel.ended.get() == ("room:a", Reason.CLOSED)


# ------------------------------------------------------------------- the end


async def test_a_session_that_is_not_polled_ends_and_posts_do_not_count() -> None:
    client = await opened()
    await client.join("room:a")
    while RoomChannel.ended.empty():
        assert (await client.post(HEARTBEAT))["status"] in (200, 410)
        await asyncio.sleep(0.05)
    assert await RoomChannel.ended.get() == ("room:a", Reason.CLOSED)
    assert len(get_node().part(Sessions)) == 0


async def test_a_poll_keeps_its_session_alive() -> None:
    client = await opened()
    for _ in range(3):
        assert (await client.poll())["status"] == 204
    assert await client.post(HEARTBEAT) == {"status": 200}


async def test_disconnect_ends_the_session_and_answers_the_waiting_poll() -> None:
    client = await opened(PatientSocket, id="users:1")
    await client.join("room:a")
    poll = await client.start_poll()
    await abroadcast("users:1", "disconnect", {})
    answer = {"status": 410, "token": client.token, "messages": []}
    assert await poll.answer() == answer
    assert await RoomChannel.ended.get() == ("room:a", Reason.DISCONNECTED)


async def test_a_draining_process_sends_its_clients_elsewhere() -> None:
    client = await opened(PatientSocket)
    await client.join("room:a")
    poll = await client.start_poll()
    await get_node().drainer.drain_now()
    assert (await poll.answer())["status"] == 410
    assert await RoomChannel.ended.get() == ("room:a", Reason.DRAINING)


async def test_a_session_is_as_limited_in_channels_as_any_socket() -> None:
    class NarrowSocket(PollSocket):
        max_channels = 1

    client = await opened(NarrowSocket)
    await client.join("room:a")
    assert (await client.join("room:b"))["response"] == {
        "reason": "too many channels joined"
    }
