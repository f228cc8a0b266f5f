// node given_twice.mjs '{"url": "ws://127.0.0.1:8000", "package": "phoenix", "module": "history.mjs"}'
// Whatever comes to bob comes twice, as the answer to a poll does if the process that relayed it
// died before it could say so. Prints what his application was given, before and after a rejoin.

import { writeSync } from "node:fs";
import { Inbox, Stage, WebSocket, ask, load } from "./client.mjs";

const config = JSON.parse(process.argv[2]);
global.window ??= { WebSocket }; // phoenix.js 1.6
const { Socket } = load({ ...config, transport: "WebSocket" });
const { channelWithHistory } = await import(config.module);
const stage = new Stage(Socket, WebSocket, config.url, `kept:twice ${config.package}`);

const alice = await stage.channel(await stage.connect({ user: "alice" }));
const socket = await stage.connect({ user: "bob" });
const onConnMessage = socket.onConnMessage.bind(socket);
socket.onConnMessage = (message) => [0, 1].forEach(() => onConnMessage(message));
const bob = channelWithHistory(socket, stage.topic);
const [joins, given] = [new Inbox("a join"), new Inbox("a message")];
bob.on("msg", ({ i }) => given.put(i));
bob.join().receive("ok", () => joins.put(true));
await joins.take();
const seen = [];
for (const i of Array(11).keys()) await ask(alice, "say", { i });
while (seen.at(-1) !== 10) seen.push(await given.take());

socket.reconnectTimer.timerCalc = () => 300; // long enough to miss something
socket.conn.close();
await socket.closes.take();
for (const i of [11, 12]) await ask(alice, "say", { i });
await joins.take();
await ask(alice, "say", { i: 13 });
while (seen.at(-1) !== 13) seen.push(await given.take());
writeSync(1, `${JSON.stringify(seen)}\n`);
process.exit(0);
