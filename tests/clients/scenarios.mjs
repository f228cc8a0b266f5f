// node scenarios.mjs '{"url": "ws://127.0.0.1:8000", "package": "phoenix", "transport": "WebSocket",
//   "scenarios": ["connects"]}'
// Runs those scenarios with that phoenix.js; prints one JSON line {name, ok, detail} for each.

import assert from "node:assert/strict";
import { writeSync } from "node:fs";
import { Inbox, Stage, WebSocket, ask, join, listen, load } from "./client.mjs";

const config = JSON.parse(process.argv[2]);
const { Socket, transport } = load(config);
const DISCONNECTED = { WebSocket: 1001, LongPoll: 3410 }[config.transport];

const bytes = (...numbers) => new Uint8Array(numbers).buffer;
const numbers = (buffer) => {
  assert.ok(buffer instanceof ArrayBuffer, `no ArrayBuffer: ${JSON.stringify(buffer)}`);
  return [...new Uint8Array(buffer)];
};

const scenarios = {
  "connects": async (stage) => {
    const socket = await stage.connect();
    assert.equal(socket.connectionState(), "open");
  },

  "is refused by connect": async (stage) => {
    const socket = stage.socket({ deny: "1" });
    socket.connect();
    const error = await socket.errors.take();
    assert.match(String(error.message ?? error), /403/);
    assert.equal(socket.opens.items.length, 0);
  },

  "has its heartbeats answered": async (stage) => {
    const socket = await stage.connect({}, { heartbeatIntervalMs: 100 });
    const beats = new Inbox("a heartbeat's reply");
    socket.onMessage((message) => message.topic === "phoenix" && beats.put(message));
    for (const _ of [1, 2, 3]) {
      const { event, payload } = await beats.take();
      assert.deepEqual([event, payload], ["phx_reply", { status: "ok", response: {} }]);
    }
    assert.equal(socket.closes.items.length, 0);
  },

  "has its pings answered": async (stage) => {
    const socket = await stage.connect();
    const pongs = new Inbox("the answer to a ping");
    for (const _ of [1, 2, 3]) {
      socket.ping((milliseconds) => pongs.put(milliseconds));
      assert.ok((await pongs.take()) >= 0);
    }
  },

  "joins": async (stage) => {
    const socket = await stage.connect();
    const channel = socket.channel(stage.topic, { welcome: "hello ❤" });
    const answer = await join(channel).take();
    assert.deepEqual(answer, { status: "ok", response: { welcome: "hello ❤" } });
    assert.equal(channel.state, "joined");
  },

  "is denied a join": async (stage) => {
    const socket = await stage.connect();
    const channel = socket.channel(stage.topic, { deny: true });
    const answer = await join(channel).take();
    assert.deepEqual(answer, { status: "error", response: { reason: "unauthorized" } });
    assert.notEqual(channel.state, "joined");
  },

  "asks again and again when a join is denied": async (stage) => {
    const socket = await stage.connect();
    const joins = join(socket.channel("members:1", { permanent: false }));
    for (const _ of [1, 2, 3]) {
      assert.deepEqual((await joins.take()).response, { reason: "members only" });
    }
  },

  "stays away when a join is denied for good": async (stage) => {
    const socket = await stage.connect();
    const clock = await stage.channel(socket, "room:clock");
    const channel = socket.channel("members:1", { permanent: true });
    const closes = new Inbox("phx_close");
    channel.onClose(() => closes.put(true));
    const joins = join(channel);
    assert.deepEqual((await joins.take()).response, { reason: "members only" });
    await closes.take();
    await ask(clock, "later", { ms: 150, v: "long after a rejoin would have come" });
    assert.equal(joins.items.length, 0);
    assert.equal(channel.state, "closed");
  },

  "learns that no channel matches the topic": async (stage) => {
    const socket = await stage.connect();
    const answer = await join(socket.channel("nowhere:1", {})).take();
    assert.deepEqual(answer, { status: "error", response: { reason: "unmatched topic" } });
  },

  "gets a push just after the join": async (stage) => {
    const socket = await stage.connect();
    const channel = socket.channel(stage.topic, { push_on_join: [1, 2] });
    const pushed = listen(channel, "joined");
    join(channel);
    assert.deepEqual(await pushed.take(), { v: [1, 2] });
  },

  "gets a reply to a push": async (stage) => {
    const channel = await stage.channel();
    const payload = { a: [1, null, "ü", { b: 0.5 }] };
    assert.deepEqual(await ask(channel, "echo", payload), { status: "ok", response: payload });
  },

  "gets an error reply to a push": async (stage) => {
    const channel = await stage.channel();
    const answer = await ask(channel, "echo_error", { reason: "no" });
    assert.deepEqual(answer, { status: "error", response: { reason: "no" } });
  },

  "sees a push that nobody answers time out": async (stage) => {
    const channel = await stage.channel();
    assert.equal((await ask(channel, "noreply", {}, 50)).status, "timeout");
    assert.equal((await ask(channel, "ok")).status, "ok");
  },

  "chats with another client": async (stage) => {
    const [alice, bob] = [await stage.channel(), await stage.channel()];
    const [toAlice, toBob] = [listen(alice, "shout"), listen(bob, "shout")];
    alice.push("shout", { from: "alice" });
    for (const inbox of [toAlice, toBob]) {
      assert.deepEqual(await inbox.take(), { from: "alice" });
    }
    bob.push("shout", { from: "bob" });
    for (const inbox of [toAlice, toBob]) {
      assert.deepEqual(await inbox.take(), { from: "bob" });
    }
  },

  "whispers to the others only": async (stage) => {
    const [alice, bob] = [await stage.channel(), await stage.channel()];
    const [toAlice, toBob] = [listen(alice, "shout"), listen(bob, "shout")];
    alice.push("whisper", { v: "psst" });
    assert.deepEqual(await toBob.take(), { v: "psst" });
    alice.push("shout", { v: "all" });
    assert.deepEqual(await toBob.take(), { v: "all" });
    assert.deepEqual(await toAlice.take(), { v: "all" });
  },

  "leaves and joins again": async (stage) => {
    const bob = await stage.channel();
    const socket = await stage.connect();
    const alice = await stage.channel(socket);
    const [closes, heard] = [new Inbox("phx_close"), new Inbox("a shout")];
    socket.onMessage(({ event, payload }) => {
      if (event === "phx_close") closes.put(payload);
      if (event === "shout") heard.put(payload);
    });
    assert.deepEqual((await ask(alice, "count")).response, { count: 1 });
    alice.leave();
    assert.equal(alice.state, "closed");
    await closes.take();
    await ask(bob, "shout_ack", { v: "while away" });
    const again = await stage.channel(socket);
    assert.deepEqual((await ask(again, "count")).response, { count: 1 });
    await ask(bob, "shout_ack", { v: "back" });
    assert.deepEqual(await heard.take(), { v: "back" });
    assert.equal(again.state, "joined");
  },

  "joins again by itself when the channel crashed": async (stage) => {
    const channel = await stage.channel();
    const errors = new Inbox("phx_error");
    channel.onError(() => errors.put(true));
    assert.deepEqual((await ask(channel, "count")).response, { count: 1 });
    channel.push("crash", {});
    await errors.take();
    assert.equal((await channel.joins.take()).status, "ok");
    assert.deepEqual((await ask(channel, "count")).response, { count: 1 });
    assert.equal(channel.socket.closes.items.length, 0);
  },

  "stays away when the channel stopped": async (stage) => {
    const socket = await stage.connect();
    const [channel, clock] = [await stage.channel(socket), await stage.channel(socket, "room:clock")];
    const closes = new Inbox("phx_close");
    channel.onClose(() => closes.put(true));
    channel.push("stop", {});
    await closes.take();
    assert.equal(channel.state, "closed");
    await ask(clock, "later", { ms: 150, v: "long after a rejoin would have come" });
    assert.equal(channel.joins.items.length, 0);
    assert.equal(channel.state, "closed");
  },

  "reconnects and joins again when the server disconnects it": async (stage) => {
    const admin = await stage.channel(null, "room:admin");
    const socket = await stage.connect({ user_id: stage.topic });
    const channel = await stage.channel(socket);
    assert.equal((await ask(admin, "disconnect_user", { user_id: stage.topic })).status, "ok");
    assert.equal((await socket.closes.take()).code, DISCONNECTED);
    await socket.opens.take();
    assert.equal((await channel.joins.take()).status, "ok");
    assert.deepEqual((await ask(channel, "assigns")).response, { user_id: stage.topic });
    assert.equal(admin.socket.closes.items.length, 0);
  },

  // before 1.7, a session that is gone is no lost connection to phoenix.js: it polls the new one,
  // but does not join again by itself
  "has a new session to join in when the server disconnects it": async (stage) => {
    const admin = await stage.channel(null, "room:admin");
    const socket = await stage.connect({ user_id: stage.topic });
    await stage.channel(socket);
    assert.equal((await ask(admin, "disconnect_user", { user_id: stage.topic })).status, "ok");
    await socket.opens.take();
    const channel = await stage.channel(socket);
    assert.deepEqual((await ask(channel, "assigns")).response, { user_id: stage.topic });
    assert.equal(admin.socket.closes.items.length, 0);
  },

  "goes on after polls that brought nothing": async (stage) => {
    const socket = await stage.connect({}, { mount: "/brief" }); // polls end after 0.5 s
    const channel = await stage.channel(socket);
    const answer = await ask(channel, "later", { ms: 800, v: "in the second poll" });
    assert.deepEqual(answer.response, { v: "in the second poll" });
    assert.equal((await ask(channel, "ok")).status, "ok");
    assert.deepEqual([socket.opens.items.length, socket.closes.items.length], [0, 0]);
  },

  "has its auth token seen by the server": async (stage) => {
    const admin = await stage.channel(null, "room:admin");
    const tokens = ["t-1", "t-2"];
    const authToken = () => tokens.shift(); // asked at every connect
    const socket = await stage.connect({ user_id: stage.topic }, { authToken });
    const channel = await stage.channel(socket, "token");
    assert.deepEqual((await ask(channel, "show")).response, { token: "t-1" });
    await ask(admin, "disconnect_user", { user_id: stage.topic });
    assert.equal((await channel.joins.take()).status, "ok");
    assert.deepEqual((await ask(channel, "show")).response, { token: "t-2" });
  },

  "has bytes echoed": async (stage) => {
    const channel = await stage.channel();
    const { status, response } = await ask(channel, "echo", bytes(0, 1, 127, 128, 255));
    assert.equal(status, "ok");
    assert.deepEqual(numbers(response), [0, 1, 127, 128, 255]);
  },

  "gets bytes pushed": async (stage) => {
    const channel = await stage.channel();
    const pushed = listen(channel, "pushed");
    channel.push("push_me", bytes(1, 0, 2));
    assert.deepEqual(numbers(await pushed.take()), [1, 0, 2]);
  },

  "gets bytes broadcast": async (stage) => {
    const [alice, bob] = [await stage.channel(), await stage.channel()];
    const [toAlice, toBob] = [listen(alice, "shout"), listen(bob, "shout")];
    alice.push("shout", bytes(255, 0));
    for (const inbox of [toAlice, toBob]) {
      assert.deepEqual(numbers(await inbox.take()), [255, 0]);
    }
  },

  "is spared the bytes of others and goes on": async (stage) => {
    const alice = await stage.channel();
    const bob = await stage.channel(await stage.connect({}, { transport: WebSocket }));
    const [toAlice, toBob] = [listen(alice, "shout"), listen(bob, "shout")];
    bob.push("shout", bytes(255, 0));
    bob.push("shout", { v: "text" });
    assert.deepEqual(numbers(await toBob.take()), [255, 0]);
    assert.deepEqual(await toAlice.take(), { v: "text" });
    assert.equal(alice.socket.closes.items.length, 0);
  },

  "sends bytes but is spared those of the reply": async (stage) => {
    const alice = await stage.channel();
    const bob = await stage.channel(await stage.connect({}, { transport: WebSocket }));
    const toBob = listen(bob, "shout");
    alice.push("shout", bytes(0, 1, 127, 128, 255));
    assert.deepEqual(numbers(await toBob.take()), [0, 1, 127, 128, 255]);
    assert.equal((await ask(alice, "echo", bytes(1), 100)).status, "timeout");
    assert.deepEqual((await ask(alice, "echo", { v: "text" })).response, { v: "text" });
    assert.equal(alice.socket.closes.items.length, 0);
  },

  // before 1.7, phoenix.js sends bytes as they are, which nobody can tell from a frame of text
  "loses its session over bytes and joins again": async (stage) => {
    const channel = await stage.channel();
    channel.push("shout", bytes(255, 0));
    assert.equal(await channel.socket.errors.take(), 408);
    assert.equal((await channel.joins.take()).status, "ok");
    assert.equal((await ask(channel, "ok")).status, "ok");
  },
};

let count = 0;
for (const name of config.scenarios) {
  const stage = new Stage(Socket, transport, config.url, `room:${count++}`);
  let result = { name, ok: true, detail: "" };
  try {
    await scenarios[name](stage);
  } catch (error) {
    result = { name, ok: false, detail: error.stack ?? String(error) };
  }
  stage.strike();
  writeSync(1, `${JSON.stringify(result)}\n`);
}
process.exit(0); // 1.2.1 never stops its heartbeat
