/**
 * The corpus: requests that two readers could read in two ways, statements about who is asking, and credentials, each
 * byte by byte on a connection of its own, over plain TCP and TLS, in front of Node and nginx. Behind each stands
 * another request, so that a connection which is out of step shows.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { findNginx } from "../support/nginx.ts";
import { readAnswers } from "../support/strict-http1.ts";
import { type Attack, cookie, hidden } from "./corpus/attack.ts";
import { framing } from "./corpus/framing.ts";
import { names } from "./corpus/names.ts";
import { targets } from "./corpus/targets.ts";
import { type Arena, startArena, type Transport, type UpstreamKind } from "./oracle.ts";
import { converse } from "./socket.ts";

const sentinel = `GET /sentinel HTTP/1.1\r\nHost: app.localhost\r\n${cookie}Connection: close\r\n\r\n`;
const rooms: Readonly<Record<string, readonly Attack[]>> = { framing, targets, names };

async function carryOut(arena: Arena, { bytes, outcome }: Attack): Promise<void> {
  const said = await converse(arena.connect(), bytes + (outcome.type === "refused" ? hidden : sentinel));
  const { messages, problem } = readAnswers(said);
  assert.equal(problem, null, said);
  const statuses = messages.map(({ status }) => status).filter((status) => status >= 200);
  const expected = outcome.type === "carried" ? [...outcome.sent, {}] : outcome.type === "answered" ? [{}] : [];
  const seen = await arena.judge(expected.length);
  const targetsSeen = seen.map(({ method, target }) => `${method} ${target}`);
  switch (outcome.type) {
    case "refused":
      assert.deepEqual(statuses, [outcome.status]);
      assert.match(said, /\r\nconnection: close\r\n/i);
      assert.match(said, /\r\nx-request-id: \S+\r\n/i);
      assert.deepEqual(targetsSeen, []);
      return;
    case "answered":
      assert.deepEqual(statuses, [...outcome.statuses, 200]);
      assert.deepEqual(targetsSeen, ["GET /sentinel"]);
      return;
    case "carried":
      assert.deepEqual(statuses, [...outcome.sent.map(() => 200), 200]);
      assert.deepEqual(targetsSeen, [
        ...outcome.sent.map(({ method, target }) => `${method} ${target}`),
        "GET /sentinel",
      ]);
      outcome.sent.forEach(({ body, host }, i) => {
        if (body !== undefined && arena.upstream === "node") assert.equal(seen[i]?.body, body);
        if (host !== undefined) assert.equal(seen[i]?.host, host);
      });
  }
}

for (const upstream of ["node", "nginx"] as const satisfies UpstreamKind[]) {
  for (const transport of ["plain", "tls"] as const satisfies Transport[]) {
    const skip = upstream === "nginx" && findNginx() === undefined ? "no nginx here" : false;
    describe(`${upstream}, ${transport}`, { skip }, () => {
      let arena: Arena;
      before(async () => {
        arena = await startArena({ upstream, transport });
      });
      after(() => arena.close());
      // Of what is refused by its head no upstream hears anything, whichever it is.
      for (const [room, attacks] of Object.entries(rooms))
        for (const attack of attacks)
          if (
            (attack.transport ?? transport) === transport &&
            (upstream === "node" || room === "framing" || attack.outcome.type !== "refused")
          )
            test(`${room}: ${attack.name}`, () => carryOut(arena, attack));
    });
  }
}
