/**
 * The corpus of HTTP/1.1 attacks: ambiguous requests, forged identity headers and credentials.
 *
 * Each attack is sent byte by byte on its own connection, over plain TCP and TLS, in front of Node and nginx. Another
 * request follows it, so a connection that has lost its framing is noticed.
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
import { sendAndReadAll } from "./socket.ts";

const sentinel = `GET /sentinel HTTP/1.1\r\nHost: app.localhost\r\n${cookie}Connection: close\r\n\r\n`;
const attacksByArea: Readonly<Record<string, readonly Attack[]>> = { framing, targets, names };

async function runAttack(arena: Arena, { bytes, outcome }: Attack): Promise<void> {
  const received = await sendAndReadAll(arena.connect(), bytes + (outcome.type === "refused" ? hidden : sentinel));
  const { messages, problem } = readAnswers(received);
  assert.equal(problem, null, received);
  const statuses = messages.map(({ status }) => status).filter((status) => status >= 200);
  const expected = outcome.type === "forwarded" ? [...outcome.requests, {}] : outcome.type === "answered" ? [{}] : [];
  const seen = await arena.verify(expected.length);
  const targetsSeen = seen.map(({ method, target }) => `${method} ${target}`);
  switch (outcome.type) {
    case "refused":
      assert.deepEqual(statuses, [outcome.status]);
      assert.match(received, /\r\nconnection: close\r\n/i);
      assert.match(received, /\r\nx-request-id: \S+\r\n/i);
      assert.deepEqual(targetsSeen, []);
      return;
    case "answered":
      assert.deepEqual(statuses, [...outcome.statuses, 200]);
      assert.deepEqual(targetsSeen, ["GET /sentinel"]);
      return;
    case "forwarded":
      assert.deepEqual(statuses, [...outcome.requests.map(() => 200), 200]);
      assert.deepEqual(targetsSeen, [
        ...outcome.requests.map(({ method, target }) => `${method} ${target}`),
        "GET /sentinel",
      ]);
      outcome.requests.forEach(({ body, host }, i) => {
        if (body !== undefined && arena.upstream === "node") assert.equal(seen[i]?.body, body);
        if (host !== undefined) assert.equal(seen[i]?.host, host);
      });
  }
}

for (const upstream of ["node", "nginx"] as const satisfies UpstreamKind[]) {
  for (const transport of ["plain", "tls"] as const satisfies Transport[]) {
    const skip = upstream === "nginx" && findNginx() === undefined ? "nginx is not installed" : false;
    describe(`${upstream}, ${transport}`, { skip }, () => {
      let arena: Arena;
      before(async () => {
        arena = await startArena({ upstream, transport });
      });
      after(() => arena.close());
      // An attack refused by its head reaches no upstream, so running it in front of Node is enough.
      for (const [area, attacks] of Object.entries(attacksByArea))
        for (const attack of attacks)
          if (
            (attack.transport ?? transport) === transport &&
            (upstream === "node" || area === "framing" || attack.outcome.type !== "refused")
          )
            test(`${area}: ${attack.name}`, () => runAttack(arena, attack));
    });
  }
}
