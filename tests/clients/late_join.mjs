// node late_join.mjs '{"url": "ws://127.0.0.1:8000", "package": "phoenix", "module": "history.mjs"}'
// Bob is cut and misses three messages; the server is so slow with his first rejoin that it times
// out, and he joins once more. Prints what his application was given.

import { writeSync } from "node:fs";
import { Inbox, Stage, WebSocket, ask, load } from "./client.mjs";

const config = JSON.parse(process.argv[2]);
global.window ??= { WebSocket }; // phoenix.js 1.6
const { Socket } = load({ ...config, transport: "WebSocket" });
const { channelWithHistory } = await import(config.module);
const stage = new Stage(Socket, WebSocket, config.url, `kept:${config.package}`);

const alice = await stage.channel(await stage.connect({ user: "alice" }));
const socket = await stage.connect({ user: "bob" });
let slow = [0, 0.5]; // seconds that the server takes for each of the joins
const bob = channelWithHistory(socket, stage.topic, () => ({ slow: slow.shift() ?? 0 }));
const [joins, given] = [new Inbox("a join"), new Inbox("a message")];
bob.on("msg", ({ i }) => given.put(i));
bob.join(200).receive("ok", ({ history }) => joins.put(history));
await joins.take();
await ask(alice, "say", { i: 0 });
const seen = [await given.take()];

socket.reconnectTimer.timerCalc = () => 300; // long enough to miss something
socket.conn.close();
await socket.closes.take();
for (const i of [1, 2, 3]) await ask(alice, "say", { i });
await joins.take();
await ask(alice, "say", { i: 4 });
while (seen.at(-1) !== 4) seen.push(await given.take());
writeSync(1, `${JSON.stringify(seen)}\n`);
process.exit(0);
