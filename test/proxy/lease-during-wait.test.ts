/**
 * A lease that expires while a request waits for something (a link, an identity, an audit record): the proxy checks the
 * lease again after the wait.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, test } from "node:test";
import { Registry } from "prom-client";
import type { Link, MonotonicMs, UnixMs } from "../../src/events/index.ts";
import { type ProxyDeps, startDecisionServer } from "../../src/proxy/index.ts";
import { systemClock } from "../../src/replication/runtime/index.ts";
import { decisionApiConfig, type Rig, routeTo, sendRequest, signedIn, startRig, startUpstream } from "./support.ts";

const cleanUps: (() => Promise<void>)[] = [];
after(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
});

const unreachedLink = { epoch: 1, position: 99, hash: new Uint8Array(32) } as unknown as Link;
const forwarded = {
  ...{ "x-forwarded-method": "GET", "x-forwarded-proto": "http", "x-forwarded-host": "app.localhost" },
  ...{ "x-forwarded-uri": "/", "x-forwarded-for": "203.0.113.9" },
};

/** A proxy and a decision service with a lease of ten seconds, and a clock that a test controls. */
async function start(
  parts: Readonly<{
    needs: Link | null;
    deps?: Partial<ProxyDeps>;
    strict?: boolean;
    recordDurably?: () => Promise<void>;
  }>,
) {
  let movedMs = 0;
  const leaseEndsAt = systemClock.monotonic() + 10_000;
  const upstream = await startUpstream();
  const rig: Rig = await startRig(
    [
      routeTo(upstream.port, {
        staleGraceMs: 0,
        passIdentityHeaders: true,
        audit: parts.strict ? "strict" : "best_effort",
      }),
    ],
    {
      needs: parts.needs,
      recordDurably: parts.recordDurably ?? null,
      deps: {
        clock: {
          monotonic: () => (systemClock.monotonic() + movedMs) as MonotonicMs,
          wall: () => (systemClock.wall() + movedMs) as UnixMs,
        },
        // As a real node does, this compares the lease with the time that the caller passes.
        freshness: { overdueMs: (now) => now - leaseEndsAt },
        ...parts.deps,
      },
    },
  );
  await rig.apply(signedIn(1));
  const service = await startDecisionServer({
    listen: decisionApiConfig({ address: { host: "127.0.0.1", port: 0 }, trustedProxies: ["127.0.0.1"] }),
    deps: () => rig.deps,
    registry: new Registry(),
    requestId: randomUUID,
  });
  cleanUps.push(async () => {
    await service.close();
    await rig.close();
    await upstream.close();
  });
  return {
    ...{ rig, upstream },
    expireLease() {
      movedMs = 11_000;
    },
    callProxy: () => rig.request({ session: 1 }),
    callService: () =>
      sendRequest(service.address?.port ?? 0, { path: "/forward-auth", session: 1, headers: forwarded }),
  };
}

for (const entry of ["callProxy", "callService"] as const) {
  const service = entry === "callProxy" ? "the proxy" : "the decision service";

  for (const expires of [false, true]) {
    test(`${service} ${expires ? "denies" : "permits"} a request that waited for a link while the lease ${expires ? "expired" : "was fresh"}`, async () => {
      const waiting = Promise.withResolvers<void>();
      const reached = Promise.withResolvers<"reached">();
      const catchUp = (): Promise<"reached"> => {
        waiting.resolve();
        return reached.promise;
      };
      const place = await start({ needs: unreachedLink, deps: { catchUp } });
      const answer = place[entry]();
      await waiting.promise;
      if (expires) place.expireLease();
      reached.resolve("reached");
      assert.equal((await answer).status, expires ? 503 : 200);
      assert.equal(place.upstream.seen.length, entry === "callProxy" && !expires ? 1 : 0);
      assert.deepEqual(
        place.rig.records.map(({ result, reasons }) => [result, expires ? reasons : []]),
        [expires ? ["unavailable", ["no-lease"]] : ["permit", []]],
        "no request that was refused is recorded as permitted",
      );
    });
  }
}

test("the decision service denies a request whose identity took longer to sign than the lease lasted", async () => {
  const waiting = Promise.withResolvers<void>();
  const signed = Promise.withResolvers<void>();
  const place = await start({
    needs: null,
    deps: {
      assertions: {
        issue: async () => {
          waiting.resolve();
          await signed.promise;
          return { assertion: "a.b.c", claimHeaders: [] };
        },
      } as unknown as ProxyDeps["assertions"],
    },
  });
  const answer = place.callService();
  await waiting.promise;
  place.expireLease();
  signed.resolve();
  const { status, headers } = await answer;
  assert.equal(status, 503);
  assert.equal(headers["x-pomerium-jwt-assertion"], undefined);
  assert.deepEqual(
    place.rig.records.map(({ result }) => result),
    ["unavailable"],
  );
});

for (const entry of ["callProxy", "callService"] as const) {
  test(`${entry === "callProxy" ? "the proxy" : "the decision service"} denies a request whose audit record took longer to write than the lease lasted`, async () => {
    const waiting = Promise.withResolvers<void>();
    const written = Promise.withResolvers<void>();
    const recordDurably = (): Promise<void> => {
      waiting.resolve();
      return written.promise;
    };
    const place = await start({ needs: null, strict: true, recordDurably });
    const answer = place[entry]();
    await waiting.promise;
    place.expireLease();
    written.resolve();
    assert.equal((await answer).status, 503);
    assert.equal(place.upstream.seen.length, 0);
  });
}
