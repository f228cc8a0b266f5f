// node catch_up.mjs '{"url": "ws://127.0.0.1:8000", "package": "phoenix", "module": "history.mjs",
//   "kind": "kept", "transport": "WebSocket"}'
// Bob is cut again and again: he misses nothing once, then some, then more than is kept. Prints
// what his application got and learned.

import { writeSync } from "node:fs";
import { Inbox, Stage, WebSocket, ask, load } from "./client.mjs";

const config = JSON.parse(process.argv[2]);
const { Socket, transport } = load(config);
global.window ??= { WebSocket }; // phoenix.js 1.6
const { channelWithHistory } = await import(config.module);
const topic = `${config.kind}:${config.package}-${config.transport}`;
const stage = new Stage(Socket, transport, config.url, topic);

const alice = await stage.channel(await stage.connect({ user: "alice" }, { transport: WebSocket }));
const socket = await stage.connect({ user: "bob" });
const bob = channelWithHistory(socket, topic, () => ({ any: "params" }));
const [joins, given] = [new Inbox("a join"), new Inbox("a message")];
const seen = [];
bob.on("msg", ({ i }) => given.put(i));
bob.join().receive("ok", ({ history }) => joins.put(history.recovered));

let count = 0;
const say = (event = "say") => ask(alice, event, { i: count++ });
const last = async () => {
  while (seen.at(-1) !== count - 1) seen.push(await given.take());
};

async function cut(missed) {
  socket.reconnectTimer.timerCalc = () => 500; // long enough to miss something
  socket.conn.close();
  await socket.closes.take();
  for (let n = 0; n < missed; n++) await say();
  seen.push({ recovered: await joins.take() });
}

seen.push({ recovered: await joins.take() });
await say();
await last();
await ask(bob, "whisper", { i: -1 }); // he knows it, and never gets it
await cut(0);
await say("announce");
await last();
await ask(bob, "whisper", { i: -2 });
await cut(3);
await say();
await last();
await cut(30); // 20 are kept
await say();
await last();
writeSync(1, `${JSON.stringify(seen)}\n`);
process.exit(0);
