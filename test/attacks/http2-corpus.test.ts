/**
 * The corpus of HTTP/2 attacks, frame by frame, over TLS and over plain TCP with prior knowledge, in front of Node and
 * nginx. Unless the attack ended its connection, another request follows on it.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { endHeaders, endStream, headers, RawHttp2 } from "../support/http2-frames.ts";
import { findNginx } from "../support/nginx.ts";
import { waitFor } from "../support/wait-for.ts";
import { type Http2Attack, http2 } from "./corpus/http2.ts";
import { type Arena, handleOf, startArena, type Transport, type UpstreamKind } from "./oracle.ts";

const sentinel = headers(
  5,
  endHeaders | endStream,
  ...[":method", "GET", ":scheme", "http", ":authority", "app.localhost", ":path", "/sentinel"],
  ...["cookie", `_pomerium=${handleOf(1)}`],
);

async function runAttack(arena: Arena, { frames, outcome }: Http2Attack): Promise<void> {
  const client = new RawHttp2(arena.connect(["h2"]));
  client.send(...frames, sentinel);
  await waitFor("both streams to finish", () => client.isOver(5) && (client.isOver(1) || outcome === "refused"), {
    everyMs: 1,
  });
  const attacked = client.stream(1);
  const sentinels = client.stream(5).status === 200 ? ["GET /sentinel"] : [];
  const seen = await arena.verify(sentinels.length + (typeof outcome === "object" ? 1 : 0));
  client.socket.destroy();
  const targets = seen.map(({ method, target }) => `${method} ${target}`).sort();
  if (outcome === "refused") {
    const facts = JSON.stringify([attacked, client.goAway]);
    assert.ok(attacked.status === 0 || (attacked.status >= 400 && attacked.status < 500), facts);
    assert.deepEqual(targets, sentinels, facts);
    return;
  }
  assert.deepEqual(sentinels, ["GET /sentinel"], "the connection stays usable");
  if (typeof outcome === "number") {
    assert.equal(attacked.status, outcome);
    assert.deepEqual(targets, sentinels);
    return;
  }
  const { method, target, host, body } = outcome;
  assert.equal(attacked.status, 200);
  assert.deepEqual(targets, [...sentinels, `${method} ${target}`].sort());
  const request = seen.find((one) => one.target === target);
  if (host !== undefined) assert.equal(request?.host, host);
  if (body !== undefined && arena.upstream === "node") assert.equal(request?.body, body);
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
      for (const attack of http2) test(attack.name, () => runAttack(arena, attack));
    });
  }
}
