// node comeback.mjs '{"url": "ws://127.0.0.1:8000", "package": "phoenix", "transport": "LongPoll"}'
// Joins, and says so; is left alone by its server, and says so; joins again when there is a new one.

import assert from "node:assert/strict";
import { writeSync } from "node:fs";
import { Stage, ask, load } from "./client.mjs";

const TIMEOUT = 30_000; // servers take their time to start
const say = (line) => writeSync(1, `${line}\n`);

const config = JSON.parse(process.argv[2]);
const { Socket, transport } = load(config);
const stage = new Stage(Socket, transport, config.url, "room:comeback");
const channel = await stage.channel();
assert.deepEqual((await ask(channel, "count")).response, { count: 1 });
say("joined");
await channel.socket.closes.take(TIMEOUT);
say("left alone");
assert.equal((await channel.joins.take(TIMEOUT)).status, "ok");
assert.deepEqual((await ask(channel, "count")).response, { count: 1 });
say("joined again");
process.exit(0);
