/**
 * Idle lifetimes on a real cluster of separate processes with two proxies: use on one of them counts on the other,
 * over a change of the leader and a restart, and a proxy that is cut off keeps no session in use.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { waitFor } from "../../support/wait-for.ts";
import { type Cluster, type Session, startCluster } from "./cluster.ts";

let cluster: Cluster;
const idleMs = 24_000;

before(
  async () => {
    cluster = await startCluster({
      timing: "default",
      regions: ["north", "north"],
      relayed: "proxy-2",
      moreRoutes: { payroll: { session_idle_lifetime: `${idleMs / 1_000}s` } },
    });
  },
  { timeout: 400_000 },
);
after(() => cluster?.stop());

const statusAt = async (n: number, session: Session, route = "payroll"): Promise<number> =>
  (await cluster.get(cluster.proxy(n), route, session)).status;

/** Uses a session at one proxy, every half a second, for a while. */
async function use(n: number, session: Session, ms: number): Promise<void> {
  for (const until = performance.now() + ms; performance.now() < until; await sleep(500))
    assert.equal(await statusAt(n, session), 200);
}

test("a session that is used at one proxy counts at the other, also after another leader took over and a restart", {
  timeout: 300_000,
}, async () => {
  const session = await cluster.session("alice");
  await use(1, session, 6_000);
  const leader = await cluster.leader();
  await leader.kill();
  await use(1, session, 1.2 * idleMs);
  assert.equal(await statusAt(2, session), 200, "the reports reached the new leader");
  await leader.start();
  assert.ok((await cluster.proxy(1).metric('cardea_session_activity_reports_total{result="done"}')) >= 2);
  await cluster.proxy(1).restart();
  await waitFor("the restarted proxy to permit it", async () => (await statusAt(1, session)) === 200);
  const { sessions } = JSON.parse((await cluster.operator.get("/sessions")).body) as {
    sessions: { id: string; lastSeenBy: string; lastSeenAt: string }[];
  };
  const own = sessions.find(({ id }) => id === session.id);
  assert.equal(own?.lastSeenBy, "log");
  await sleep(idleMs + 1_000);
  for (const n of [1, 2]) assert.equal(await statusAt(n, session), 401, "idle on both");
  assert.equal(await statusAt(1, session, "app"), 200, "the other route has no idle lifetime");
});

test("a proxy that is cut off from the brokers keeps no session in use, although its routes are served", {
  timeout: 300_000,
}, async (t) => {
  const session = await cluster.session("bob");
  await use(2, session, 2_000);
  const relays = [...cluster.relays.brokers, cluster.relays.nats];
  for (const relay of relays) relay.freeze();
  t.after(() => {
    for (const relay of relays) relay.thaw();
  });
  const cutAt = performance.now();
  await waitFor("the session to become idle there", async () => (await statusAt(2, session)) === 401, {
    withinMs: idleMs + 20_000,
  });
  const ms = performance.now() - cutAt;
  assert.ok(ms > idleMs * 0.7, `after ${ms} ms`);
  assert.equal(await statusAt(2, session, "app"), 200, "served from the last known state");
});
