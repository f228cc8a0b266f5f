"""Long-poll: what a client is answered, and what becomes of its messages."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from django.core import signing
from django.test import override_settings

from phx_protocol import Channel, ConnectionRefused, Reason, Socket, abroadcast, event
from phx_protocol.node.node import get_pubsub
from phx_protocol.transports.longpoll import session as session_module
from phx_protocol.transports.longpoll.session import sessions_of
from tests.support.asgi_poll_client import JSON, NDJSON, Client, Request

HEARTBEAT = [None, "9", "phoenix", "heartbeat", {}]
ended: asyncio.Queue[tuple[str, Reason]] = asyncio.Queue()


@pytest.fixture(autouse=True)
def _ended() -> None:
    global ended
    ended = asyncio.Queue()


class RoomChannel(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok", {"token": self.socket.auth_token}

    @event("echo")
    async def echo(self, payload: Any) -> Any:
        return "ok", payload

    @event("slow")
    async def slow(self, payload: Any) -> Any:
        await asyncio.Event().wait()

    async def terminate(self, reason: Reason) -> None:
        ended.put_nowait((self.topic, reason))


class PollSocket(Socket):
    channels = {"room:*": RoomChannel}
    longpoll = {"WINDOW": 0.3, "SESSION_TIMEOUT": 0.1, "MAX_BODY_SIZE": 50_000}
    shutdown_timeout = 0.1
    max_frame_size = 10_000
    inbound = 5

    async def connect(self, params: dict[str, Any]) -> None:
        if "status" in params:
            raise ConnectionRefused(int(params["status"]), params.get("reason", ""))
        if "crash" in params:
            raise RuntimeError("crash")

    def id(self) -> str | None:
        return self.params.get("id")


class PatientSocket(PollSocket):
    longpoll = True
    outbound = {"hard_bytes": 16 * 1024 * 1024}


class RoomySocket(PatientSocket):
    outbound = {"hard_bytes": 32 * 1024 * 1024}


async def opened(socket_class: type[Socket] = PollSocket, **params: Any) -> Client:
    client = Client(socket_class, params)
    assert (await client.open())["status"] == 410
    return client


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


async def test_every_answer_has_the_headers_of_phoenix() -> None:
    client = Client(PollSocket)
    request = await client.request("GET").send()
    await request.answer()
    assert request.status == 200
    assert request.headers["content-type"] == "application/json; charset=utf-8"
    assert request.headers["cache-control"] == "no-store"
    assert request.headers["access-control-allow-origin"] == "*"


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
    (found,) = sessions_of(get_pubsub())._sessions.values()
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


async def test_the_next_poll_waits_for_what_became_of_the_last_batch() -> None:
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


async def test_too_many_lines_are_refused_as_a_whole() -> None:
    client = await opened()
    answer = await client.post(*[HEARTBEAT] * 1001)
    assert answer == {"status": 413, "reason": "request too large"}
    assert (await client.poll())["status"] == 204


@pytest.mark.parametrize("line", [b"", b"%%%", b"\xff\xfe", b"[", b"AAAA\r"])
async def test_lines_are_counted_before_they_are_read(line: bytes) -> None:
    client = await opened()
    body = b"\n".join([line] * 1001)
    answer = {"status": 413, "reason": "request too large"}
    assert await client.post_body(body) == answer
    assert await client.post(HEARTBEAT) == {"status": 200}


async def test_a_body_of_which_no_end_comes_is_refused_in_time() -> None:
    class HastySocket(PollSocket):
        longpoll = {"READ_TIMEOUT": 0.05}

    client = await opened(HastySocket)
    request = client.request("POST")
    await request.send_part(b"[")
    assert (await request.body(), request.status) == (b"", 408)
    assert request.headers["connection"] == "close"
    assert await client.post(HEARTBEAT) == {"status": 200}


async def test_an_answer_has_some_megabytes_and_the_next_poll_has_the_rest() -> None:
    client = await opened(RoomySocket)
    await client.join("room:a")
    for n in range(5):
        await abroadcast("room:a", "news", {"n": n, "x": "x" * 1_500_000})
    seen = [[m[4]["n"] for m in (await client.poll())["messages"]] for _ in range(3)]
    assert seen == [[0, 1], [2, 3], [4]]


async def test_sessions_that_nobody_polls_make_room_for_new_ones(
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr("phx_protocol.transports.longpoll.session.UNPOLLED", 2)
    polled = await opened(PatientSocket)
    await polled.join("room:a")  # which is seen in a poll
    clients = [await opened(PatientSocket) for _ in range(3)]
    statuses = [(await client.post(HEARTBEAT))["status"] for client in clients]
    assert statuses == [410, 200, 200]
    assert await polled.post(HEARTBEAT) == {"status": 200}


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
    assert await ended.get() == ("room:a", Reason.CRASH)
    assert await client.post(HEARTBEAT) == {"status": 410}


async def test_a_body_that_is_too_large_is_refused() -> None:
    client = await opened()
    request = await client.request("POST", b"[" + b"x" * 50_000).send()
    assert (await request.body(), request.status) == (b"", 400)
    assert await client.post(HEARTBEAT) == {"status": 200}


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
    assert await ended.get() == ("room:a", Reason.CLOSED)
    assert (await client.post(HEARTBEAT))["status"] == 410


async def test_a_session_that_is_not_polled_is_bounded_in_time() -> None:
    client = await opened(SmallSocket)
    await client.join("room:a")
    await abroadcast("room:a", "news", {"n": "x" * 2000})
    assert await ended.get() == ("room:a", Reason.CLOSED)


# ------------------------------------------------------------------- the end


async def test_a_session_that_is_not_polled_ends_and_posts_do_not_count() -> None:
    client = await opened()
    await client.join("room:a")
    while ended.empty():
        assert (await client.post(HEARTBEAT))["status"] in (200, 410)
        await asyncio.sleep(0.05)
    assert await ended.get() == ("room:a", Reason.CLOSED)
    assert len(sessions_of(get_pubsub())) == 0


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
    assert await ended.get() == ("room:a", Reason.DISCONNECTED)


async def test_a_draining_process_sends_its_clients_elsewhere() -> None:
    client = await opened(PatientSocket)
    await client.join("room:a")
    poll = await client.start_poll()
    await get_pubsub().drainer.at_once()
    assert (await poll.answer())["status"] == 410
    assert await ended.get() == ("room:a", Reason.DRAINING)


async def test_a_session_that_ends_while_it_opens_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pubsub = get_pubsub()
    began, may_go_on = asyncio.Event(), asyncio.Event()

    async def reachable() -> None:  # as long as a layer that is slow
        began.set()
        await may_go_on.wait()

    monkeypatch.setattr(pubsub, "reachable", reachable)
    opening = asyncio.create_task(Client(PatientSocket, {"id": "users:1"}).open())
    await began.wait()
    await pubsub.drainer.at_once()
    may_go_on.set()
    await opening
    assert not len(sessions_of(pubsub)) and not pubsub.registry
    assert pubsub._holders == {pubsub.drainer} and not pubsub.sockets


async def test_a_poll_of_a_session_that_is_gone_opens_another() -> None:
    client = await opened(PatientSocket, id="users:1")
    await abroadcast("users:1", "disconnect", {})
    answer = await client.poll()
    assert answer["status"] == 410 and answer["token"] != client.token


# -------------------------------------------------------------------- tokens


async def refused(client: Client, token: Any) -> bool:
    """Whether `token` is none: a POST is 410, a GET opens another session."""
    client.token = token
    posted = (await client.post(HEARTBEAT))["status"]
    got = await client.poll()
    return bool(posted == got["status"] == 410)


async def test_a_token_that_we_did_not_sign_is_none() -> None:
    client = await opened()
    token = str(client.token)
    foreign = signing.dumps(["id", None], salt="phx_protocol.longpoll")
    for bad in (token + "x", token[:-5], token[5:], "garbage", "é", foreign, "phx."):
        assert await refused(client, bad), bad
    client.token = token
    assert await client.post(HEARTBEAT) == {"status": 200}


class OtherSocket(PatientSocket):
    pass


async def test_a_token_of_another_mount_is_none() -> None:
    client = await opened(PatientSocket)
    client.path = "/other/longpoll"
    assert await client.post(HEARTBEAT) == {"status": 410}
    client.path, client.socket_class = "/socket/longpoll", OtherSocket
    assert await client.post(HEARTBEAT) == {"status": 410}
    client.socket_class = PatientSocket
    assert await client.post(HEARTBEAT) == {"status": 200}


async def test_a_mount_is_the_same_by_whichever_of_its_urls() -> None:
    client = await opened(PatientSocket)
    client.path = "/socket/longpoll/"
    assert await client.post(HEARTBEAT) == {"status": 200}
    client.path, client.root_path = "/app/socket/longpoll", "/app"
    assert await client.post(HEARTBEAT) == {"status": 200}


async def test_the_parameter_of_an_application_may_be_called_token() -> None:
    class Reading(PatientSocket):
        async def connect(self, params: dict[str, Any]) -> None:
            if params.get("token") != "mine":
                raise ConnectionRefused(403)

    client = await opened(Reading, token="mine", id="users:1")
    assert (await client.join("room:a"))["status"] == "ok"
    await abroadcast("users:1", "disconnect", {})
    # phoenix.js has both in its URL, and is told that there is a new session
    assert (await client.poll())["status"] == 410
    assert await Client(Reading, {"token": "theirs"}).open() == {"status": 403}


async def test_an_old_token_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    client = await opened()
    later = time.time() + 1_209_601
    monkeypatch.setattr(time, "time", lambda: later)
    assert await refused(client, client.token)


async def test_a_token_outlives_the_rotation_of_the_secret_key() -> None:
    client = await opened()
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["tests"]):
        assert await client.post(HEARTBEAT) == {"status": 200}
    with override_settings(SECRET_KEY="new"):
        assert await client.post(HEARTBEAT) == {"status": 410}


async def test_a_token_in_the_header_wins_even_when_it_is_bad() -> None:
    client = await opened()
    client.headers["x-phoenix-longpoll-token"] = "bad"
    assert await client.post(HEARTBEAT) == {"status": 410}
    client.headers["x-phoenix-longpoll-token"], client.token = str(client.token), "bad"
    assert await client.post(HEARTBEAT) == {"status": 200}


# ------------------------------------------------------------------ refusals


async def test_a_refusal_is_403_in_the_body_with_its_reason() -> None:
    assert await Client(PollSocket, {"status": "403"}).open() == {"status": 403}
    slow_down = {"status": "429", "reason": "slow down"}
    assert await Client(PollSocket, slow_down).open() == {
        "status": 403,
        "reason": "slow down",
    }


async def test_a_crash_in_connect_is_500_on_which_clients_try_again() -> None:
    assert await Client(PollSocket, {"crash": "1"}).open() == {"status": 500}


class StrictSocket(PollSocket):
    check_origin = ["http://allowed.test"]


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_another_origin_is_refused_whatever_it_asks(method: str) -> None:
    client = Client(StrictSocket, headers={"origin": "http://evil.test"})
    request = await client.request(method).send()
    assert await request.answer() == {"status": 403}
    assert "access-control-allow-headers" not in request.headers


async def test_a_preflight_allows_what_it_asks_for() -> None:
    headers = {"access-control-request-headers": "x-phoenix-authtoken,content-type"}
    client = Client(StrictSocket, headers={"origin": "http://allowed.test", **headers})
    request = await client.request("OPTIONS").send()
    assert await request.body() == b""
    assert request.headers["access-control-allow-headers"] in headers.values()
    assert request.headers["access-control-allow-methods"] == "get, post, options"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD"])
async def test_another_method_is_400(method: str) -> None:
    request = await Client(PollSocket).request(method).send()
    assert (await request.body(), request.status) == (b"", 400)


async def test_bad_parameters_are_400() -> None:
    request = await Request(PollSocket, "GET", b"vsn=2.0.0&a=%ff").send()
    assert (await request.body(), request.status) != (b"", 200)
    assert request.status == 400


async def test_a_session_is_as_limited_in_channels_as_any_socket() -> None:
    class NarrowSocket(PollSocket):
        max_channels = 1

    client = await opened(NarrowSocket)
    await client.join("room:a")
    assert (await client.join("room:b"))["response"] == {
        "reason": "too many channels joined"
    }


async def test_ndjson_is_known_by_its_exact_content_type_only() -> None:
    client = await opened()
    two = b"\n".join([json.dumps(HEARTBEAT).encode()] * 2)
    assert await client.post_body(two, NDJSON) == {"status": 200}
    assert await client.post_body(two, f"{NDJSON}; charset=utf-8") == {"status": 408}


async def test_an_id_that_is_no_text_is_500_and_leaves_no_session(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class BadSocket(PatientSocket):
        def id(self) -> Any:
            return 7

    assert await Client(BadSocket).open() == {"status": 500}
    assert "must return a string" in caplog.text
    assert not len(sessions_of(get_pubsub())) and not get_pubsub().sockets
