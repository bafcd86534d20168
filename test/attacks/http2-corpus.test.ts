/**
 * The corpus of HTTP/2, frame by frame, over TLS and plain with prior knowledge, in front of Node and nginx. Behind
 * what was not the end of its connection, another request is asked on it.
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

async function carryOut(arena: Arena, { frames, outcome }: Http2Attack): Promise<void> {
  const client = new RawHttp2(arena.connect(["h2"]));
  client.send(...frames, sentinel);
  await waitFor("both to be over", () => client.isOver(5) && (client.isOver(1) || outcome === "refused"), {
    everyMs: 1,
  });
  const went = client.stream(1);
  const sentinels = client.stream(5).status === 200 ? ["GET /sentinel"] : [];
  const seen = await arena.judge(sentinels.length + (typeof outcome === "object" ? 1 : 0));
  client.socket.destroy();
  const targets = seen.map(({ method, target }) => `${method} ${target}`).sort();
  if (outcome === "refused") {
    const said = JSON.stringify([went, client.goAway]);
    assert.ok(went.status === 0 || (went.status >= 400 && went.status < 500), said);
    assert.deepEqual(targets, sentinels, said);
    return;
  }
  assert.deepEqual(sentinels, ["GET /sentinel"], "the connection goes on");
  if (typeof outcome === "number") {
    assert.equal(went.status, outcome);
    assert.deepEqual(targets, sentinels);
    return;
  }
  const { method, target, host, body } = outcome;
  assert.equal(went.status, 200);
  assert.deepEqual(targets, [...sentinels, `${method} ${target}`].sort());
  const request = seen.find((one) => one.target === target);
  if (host !== undefined) assert.equal(request?.host, host);
  if (body !== undefined && arena.upstream === "node") assert.equal(request?.body, body);
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
      for (const attack of http2) test(attack.name, () => carryOut(arena, attack));
    });
  }
}
