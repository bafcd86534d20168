/**
 * A request that waits for something (a link, an identity, an audit record) needs a lease that is fresh after the wait,
 * too.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, test } from "node:test";
import { Registry } from "prom-client";
import type { Link, MonotonicMs, UnixMs } from "../../src/events/index.ts";
import { type ProxyDeps, startDecisionServer } from "../../src/proxy/index.ts";
import { systemClock } from "../../src/replication/index.ts";
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

/** A proxy and a decision service with a lease of ten seconds, and a clock that a test moves. */
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
        // As a node does it: the lease is compared with the time that the caller names.
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
    letLeaseRunOut() {
      movedMs = 11_000;
    },
    askProxy: () => rig.request({ session: 1 }),
    askService: () =>
      sendRequest(service.address?.port ?? 0, { path: "/forward-auth", session: 1, headers: forwarded }),
  };
}

for (const asked of ["askProxy", "askService"] as const) {
  const whose = asked === "askProxy" ? "the proxy" : "the decision service";

  for (const runsOut of [false, true]) {
    test(`${whose} ${runsOut ? "refuses" : "permits"} a request that waited for a link while the lease ${runsOut ? "ran out" : "lasted"}`, async () => {
      const waiting = Promise.withResolvers<void>();
      const reached = Promise.withResolvers<"reached">();
      const catchUp = (): Promise<"reached"> => {
        waiting.resolve();
        return reached.promise;
      };
      const place = await start({ needs: unreachedLink, deps: { catchUp } });
      const answer = place[asked]();
      await waiting.promise;
      if (runsOut) place.letLeaseRunOut();
      reached.resolve("reached");
      assert.equal((await answer).status, runsOut ? 503 : 200);
      assert.equal(place.upstream.seen.length, asked === "askProxy" && !runsOut ? 1 : 0);
      assert.deepEqual(
        place.rig.records.map(({ result, reasons }) => [result, runsOut ? reasons : []]),
        [runsOut ? ["unavailable", ["no-lease"]] : ["permit", []]],
        "nothing is recorded as permitted that was not",
      );
    });
  }
}

test("the decision service refuses a request whose identity took longer to sign than the lease lasted", async () => {
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
  const answer = place.askService();
  await waiting.promise;
  place.letLeaseRunOut();
  signed.resolve();
  const { status, headers } = await answer;
  assert.equal(status, 503);
  assert.equal(headers["x-pomerium-jwt-assertion"], undefined);
  assert.deepEqual(
    place.rig.records.map(({ result }) => result),
    ["unavailable"],
  );
});

for (const asked of ["askProxy", "askService"] as const) {
  test(`${asked === "askProxy" ? "the proxy" : "the decision service"} refuses a request whose audit record took longer to keep than the lease lasted`, async () => {
    const waiting = Promise.withResolvers<void>();
    const kept = Promise.withResolvers<void>();
    const recordDurably = (): Promise<void> => {
      waiting.resolve();
      return kept.promise;
    };
    const place = await start({ needs: null, strict: true, recordDurably });
    const answer = place[asked]();
    await waiting.promise;
    place.letLeaseRunOut();
    kept.resolve();
    assert.equal((await answer).status, 503);
    assert.equal(place.upstream.seen.length, 0);
  });
}
