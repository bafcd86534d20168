/** Log history: a long scan lets other work run, and finds what a scan of every event would find. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeEvents, genesis, type Position, type Stream } from "../../../src/events/index.ts";
import { type EventLog, readHistory } from "../../../src/replication/log/index.ts";
import { created, History, revoked, sessionId } from "../support.ts";

test("a scan yields after each few hundred events, and finds the wanted events among others of their kind", async () => {
  const history = new History().open(1);
  for (let n = 1; n <= 600; n++) history.add(created(n, n));
  history.add(revoked(7, 7));
  for (let n = 601; n <= 1_200; n++) history.add(created(n, n));
  const log: Pick<EventLog, "base" | "linkAt" | "read"> = {
    base: async () => genesis,
    linkAt: async (position) => history.linkAt(position),
    read: async (after, limit) => history.read(after, limit),
  };
  let turns = 0;
  const find = (stream: string) =>
    readHistory(log, { streams: [stream as Stream], upTo: history.head.position, depth: 10_000 }, async () => {
      turns += 1;
    });
  const { found, searchedTo, at } = await find(`session:${sessionId(7)}`);
  assert.ok(turns >= 4, `${turns} turns for 1,200 events`);
  assert.deepEqual([searchedTo, at], [0 as Position, history.head]);
  const events = found.flatMap(({ previous, bytes }) => decodeEvents([bytes], previous));
  assert.deepEqual(
    events.map(({ type, position }) => [type, position]),
    [
      ["SessionCreated", 8],
      ["SessionRevoked", 602],
    ],
  );
  assert.deepEqual(
    events.map(({ hash }) => hash),
    [history.linkAt(8).hash, history.linkAt(602).hash],
  );
  assert.deepEqual((await find("configuration:node-1")).found, []);
});
