// node heartbeats.mjs '{"url": "ws://127.0.0.1:8000", "package": "phoenix", "module": "history.mjs"}'
// Bob's heartbeats are pending while Alice has broadcast after broadcast kept. Prints how many
// messages came while one was pending, and what became of it all.

import { writeSync } from "node:fs";
import { Inbox, Stage, WebSocket, ask, load } from "./client.mjs";

const [BURST, BEATS, INTERVAL] = [200, 30, 2000];
const config = JSON.parse(process.argv[2]);
global.window ??= { WebSocket }; // phoenix.js 1.6
const { Socket } = load({ ...config, transport: "WebSocket" });
const { channelWithHistory } = await import(config.module);
const stage = new Stage(Socket, WebSocket, config.url, `long:heartbeats-${config.package}`);

const alice = await stage.channel(await stage.connect({ user: "alice" }));
const socket = await stage.connect({ user: "bob" }, { heartbeatIntervalMs: INTERVAL });
const bob = channelWithHistory(socket, stage.topic);
const [joins, given] = [new Inbox("a join"), []];
bob.on("msg", ({ i }) => given.push(i));
bob.join().receive("ok", () => joins.put(true));
await joins.take();

// A heartbeat more often than any interval that a busy machine keeps: as phoenix.js sends them
let [sent, unanswered] = [0, 0];
function beat() {
  if (socket.pendingHeartbeatRef) unanswered += 1;
  clearTimeout(socket.heartbeatTimer);
  sent += 1;
  socket.sendHeartbeat();
}

const result = { between: 0, answered: 0, wrong: [] };
const answered = new Inbox("a heartbeat's reply");
const { onConnMessage } = socket;
socket.onConnMessage = (raw) => {
  const [joinRef, ref, topic, event, payload] = JSON.parse(raw.data);
  const pending = socket.pendingHeartbeatRef;
  onConnMessage.call(socket, raw);
  if (!pending) return;
  if (socket.pendingHeartbeatRef === pending) {
    result.between += event === "msg";
  } else if (topic === "phoenix" && event === "phx_reply" && ref === pending) {
    result.answered += payload.status === "ok";
    answered.put(true);
  } else {
    result.wrong.push([pending, joinRef, ref, topic, event]);
    answered.put(false);
  }
};

let total = 0;
for (let n = 0; n < BEATS; n++) {
  alice.push("burst", { from: total, to: (total += BURST) });
  while (given.length < total - BURST / 2) await new Promise((resolve) => setTimeout(resolve, 1));
  beat(); // in the middle of it
  await answered.take();
  await ask(alice, "say_other"); // the burst is over
}
while (given.length < total) await new Promise((resolve) => setTimeout(resolve, 1));
result.inOrder = given.every((i, n) => i === n) && given.length === total;
result.closes = socket.closes.items.length;
writeSync(1, `${JSON.stringify({ ...result, sent, unanswered })}\n`);
process.exit(0);
