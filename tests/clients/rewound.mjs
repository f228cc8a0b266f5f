// node rewound.mjs '{"url": "ws://127.0.0.1:8000", "package": "phoenix", "module": "history.mjs",
//   "transport": "WebSocket", "twice": false}'
// Bob joins when five messages are there, is cut in the middle of the three that he gets and again
// later, and is away for too long; some of it is binary. Prints what his application got and learned.

import { writeSync } from "node:fs";
import { Inbox, Stage, WebSocket, ask, load } from "./client.mjs";

const config = JSON.parse(process.argv[2]);
const { Socket, transport } = load(config);
global.window ??= { WebSocket }; // phoenix.js 1.6
const { channelWithHistory } = await import(config.module);
const topic = `rewound:${config.package} ${config.transport} ${config.twice}`;
const stage = new Stage(Socket, transport, config.url, topic);

const alice = await stage.channel(await stage.connect({ user: "alice" }, { transport: WebSocket }));
const socket = await stage.connect({ user: "bob" });
if (config.twice) {
  // as the answer to a poll does if the process that relayed it died before it could say so
  const onConnMessage = socket.onConnMessage.bind(socket);
  socket.onConnMessage = (message) => [0, 1].forEach(() => onConnMessage(message));
}
const bob = channelWithHistory(socket, topic);
const [joins, given] = [new Inbox("a join"), new Inbox("a message")];
const seen = [];
let cutAfter = Infinity; // messages, then the connection is gone, with what is on the way
const got = (i) => {
  given.put(i);
  if (--cutAfter === 0) {
    socket.reconnectTimer.timerCalc = () => 300;
    socket.conn.close();
    bob.state = "errored"; // as it is when phoenix.js has noticed
  }
};
bob.on("msg", ({ i }) => got(i));
bob.on("bytes", (buffer) => got([...new Uint8Array(buffer)]));

const say = (i) => ask(alice, "say", { i });
// a poll carries text only
const isText = config.transport === "LongPoll";
const bytes = (i) => ask(alice, isText ? "say" : "bytes", { i: isText ? [i] : i });
const heard = async (count) => {
  for (let n = 0; n < count; n++) seen.push(await given.take());
};

for (const i of [0, 1, 2]) await say(i);
await bytes(3);
await say(4);
cutAfter = 2; // of 2, [3] and 4
bob.join().receive("ok", ({ history: { recovered, rewound } }) => joins.put({ recovered, rewound }));
seen.push(await joins.take());
await heard(2);
seen.push(await joins.take());
await say(5);
await bytes(6);
await heard(3);

for (const missed of [1, 30]) { // 20 are kept
  socket.reconnectTimer.timerCalc = () => 500; // long enough to miss something
  socket.conn.close();
  await socket.closes.take();
  for (let n = 0; n < missed; n++) await say(n + 7);
  seen.push(await joins.take());
  await bytes(99);
  await heard(Math.min(missed, 3) + 1);
}
writeSync(1, `${JSON.stringify(seen)}\n`);
process.exit(0);
