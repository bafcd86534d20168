/**
 * Fencing on a real cluster with short leases: what a node may do that was stopped, cut off or passed over, and what a
 * receipt says of it meanwhile. Lease 2 s, grace 2 s, so W is a little more than four seconds.
 */
import assert from "node:assert/strict";
import { after, before, type TestContext, test } from "node:test";
import type { Receipt } from "../../../src/replication/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { hammer, openSocket, type Shot } from "./client.ts";
import { type Cluster, type Session, startCluster } from "./cluster.ts";
import { fenceMs, shortMs } from "./cluster-config.ts";
import type { ClusterProcess } from "./cluster-process.ts";

let cluster: Cluster;

before(
  async () => {
    cluster = await startCluster({ timing: "short", regions: ["north", "north", "south"], relayed: "proxy-3" });
  },
  { timeout: 400_000 },
);
after(() => cluster?.stop());

const wMs = fenceMs(shortMs.lease + shortMs.grace);
/** A node's own 250 ms tick that comes over a second late. */
const noticedMs = 1_400;
const routes = ["app", "strict"] as const;

/** Callers on kept connections, of each session on each route, at one proxy. */
function hammerAt(t: TestContext, proxy: ClusterProcess, sessions: Readonly<Record<string, Session>>) {
  const hammering = hammer(
    Object.entries(sessions).flatMap(([who, { cookie }]) =>
      routes.map((route) => ({
        name: `${who} ${route}`,
        target: { port: proxy.ports.address, host: cluster.host(route), cookie, timeoutMs: 60_000 },
      })),
    ),
  );
  t.after(() => hammering.stop());
  return hammering;
}

const names = (who: string): string[] => routes.map((route) => `${who} ${route}`);
const ofThese = (shots: readonly Shot[], wanted: readonly string[], since = 0): readonly Shot[] =>
  shots.filter(({ name, endedAt }) => wanted.includes(name) && endedAt >= since);

async function untilEach(
  what: string,
  shots: readonly Shot[],
  options: Readonly<{ names: readonly string[]; since: number; count: number; which: (shot: Shot) => boolean }>,
): Promise<void> {
  const enough = (name: string): boolean =>
    ofThese(shots, [name], options.since).filter(options.which).length >= options.count;
  await waitFor(what, () => options.names.every(enough), { withinMs: 20_000 }).catch((cause: unknown) => {
    const seen: Record<string, number> = {};
    for (const { name, status } of ofThese(shots, options.names, options.since)) {
      seen[`${name} ${status}`] = (seen[`${name} ${status}`] ?? 0) + 1;
    }
    throw new Error(`in vain: ${what}; seen: ${JSON.stringify(seen)}`, { cause });
  });
}

function nodeIn(receipt: Receipt | null, { name }: ClusterProcess) {
  const found = receipt?.nodes.filter(({ node }) => node === name) ?? [];
  assert.equal(found.length, 1, JSON.stringify(receipt));
  return found[0] as Receipt["nodes"][number];
}

const othersOf = (receipt: Receipt, { name }: ClusterProcess): string[] => [
  ...new Set(receipt.nodes.filter(({ node }) => node !== name).map(({ status }) => status)),
];

const permittedOf = (shots: readonly Shot[]): readonly Shot[] => shots.filter(({ permitted }) => permitted);

test("a stopped proxy is never called applied, is fenced after W, and permits nothing on what was revoked when it wakes", async (t) => {
  const stopped = cluster.proxy(2);
  cluster.front.setTargets([cluster.proxy(1).ports.address]);
  const [revoked, kept] = [await cluster.session("alice"), await cluster.session("alice")];
  const hammering = hammerAt(t, stopped, { revoked, kept });
  const all = [...names("revoked"), ...names("kept")];
  const isPermitted = ({ permitted }: Shot) => permitted;
  await untilEach("all to be permitted", hammering.shots, { names: all, since: 0, count: 5, which: isPermitted });

  stopped.pause();
  const { link } = await cluster.operator.revoke(revoked);
  const askedAt = performance.now();
  const receipt = await cluster.operator.receipt(link, { wait: "none" });
  assert.equal(receipt.complete, false);
  const { status, fencedInMs } = nodeIn(receipt, stopped);
  assert.equal(status, "unconfirmed");
  assert.ok(fencedInMs !== null && fencedInMs > 0 && fencedInMs <= wMs, `it says when it is fenced: ${fencedInMs}`);

  const completed = await cluster.operator.receipt(link);
  const completedAt = performance.now();
  assert.equal(completed.complete, true);
  assert.deepEqual([nodeIn(completed, stopped).status, othersOf(completed, stopped)], ["fenced", ["applied"]]);
  assert.ok(completedAt - askedAt >= fencedInMs - 1, "not before its last grant was W ago");
  const arrivedBefore = new Set(cluster.upstream.requestIds);

  stopped.resume();
  await untilEach("the other session to be permitted again", hammering.shots, {
    ...{ names: names("kept"), since: completedAt, count: 30, which: isPermitted },
  });
  const shots = await hammering.stop();

  assert.deepEqual(
    permittedOf(ofThese(shots, names("revoked"), completedAt)),
    [],
    "permitted after a complete receipt",
  );
  const reached = ofThese(shots, names("revoked")).filter(
    ({ id }) => cluster.upstream.requestIds.has(id) && !arrivedBefore.has(id),
  );
  assert.deepEqual(reached, [], "nor did any of it reach the upstream");
  const afterwards = await cluster.operator.receipt(link);
  assert.equal(nodeIn(afterwards, stopped).status, "applied", "awake, it confirms like the others");
  cluster.front.setTargets(cluster.proxies.map(({ ports }) => ports.address));
});

test("a proxy that was stopped for a moment permits nothing on any route before its next grant, whatever waits in its sockets", async (t) => {
  const stopped = cluster.proxy(3);
  const { relays } = cluster;
  const [revoked, kept] = [await cluster.session("alice"), await cluster.session("alice")];
  const hammering = hammerAt(t, stopped, { revoked, kept });
  const all = [...names("revoked"), ...names("kept")];
  const isPermitted = ({ permitted }: Shot) => permitted;
  await untilEach("all to be permitted", hammering.shots, { names: all, since: 0, count: 5, which: isPermitted });

  // Grants are on their way when it stops, and lie in its sockets when it wakes. Nothing else reaches it, and nothing
  // leaves.
  const kepts = relays.brokers.map((relay) => relay.hold());
  await waitFor("a grant to be on its way", () => kepts.some((bytes) => bytes() > 400));
  stopped.pause();
  const pausedAt = performance.now();
  for (const relay of relays.brokers) relay.release();
  for (const relay of [...relays.brokers, relays.nats]) relay.freeze();
  const { link } = await cluster.operator.revoke(revoked);
  await waitFor("a pause that a node must notice", () => performance.now() - pausedAt > noticedMs);

  const resumedAt = performance.now(); // its lease and its grace would go on for a while, had it not slept
  stopped.resume();
  await untilEach("answers without a grant", hammering.shots, {
    ...{ names: all, since: resumedAt, count: 60, which: ({ status }) => status === 503 },
  });
  assert.deepEqual(
    permittedOf(ofThese(hammering.shots, all, resumedAt)),
    [],
    "permitted without a grant asked for since",
  );
  assert.match((await stopped.notReadyReasons()).join("; "), /did not run for \d+ ms; waiting for a grant/);

  for (const relay of [...relays.brokers, relays.nats]) relay.thaw();
  await untilEach("the other session to be permitted again", hammering.shots, {
    ...{ names: names("kept"), since: resumedAt, count: 30, which: isPermitted },
  });
  const shots = await hammering.stop();
  assert.deepEqual(permittedOf(ofThese(shots, names("revoked"), resumedAt)), []);
  const receipt = await cluster.operator.receipt(link);
  assert.equal(receipt.complete, true);
  assert.equal(nodeIn(receipt, stopped).status, "applied");
  await stopped.ready();
});

test("a proxy that is cut off denies at once where the route says so, serves its grace where it may, and then fences itself", async (t) => {
  const cutOff = cluster.proxy(3);
  const { relays } = cluster;
  const [revoked, kept] = [await cluster.session("alice"), await cluster.session("alice")];
  const at = (route: string, session: Session) => ({
    port: cutOff.ports.address,
    host: cluster.host(route),
    cookie: session.cookie,
  });
  const hammering = hammerAt(t, cutOff, { revoked, kept });
  const [serving, denying] = [await openSocket(at("app", kept)), await openSocket(at("strict", kept))];
  const isPermitted = ({ permitted }: Shot) => permitted;
  const all = [...names("revoked"), ...names("kept")];
  await untilEach("all to be permitted", hammering.shots, { names: all, since: 0, count: 5, which: isPermitted });

  for (const relay of [...relays.brokers, relays.nats]) relay.freeze();
  const { link } = await cluster.operator.revoke(revoked);
  assert.notEqual(nodeIn(await cluster.operator.receipt(link, { wait: "none" }), cutOff).status, "applied");

  assert.equal((await denying.closed).code, 4503);
  const leaseOverAt = performance.now();
  assert.equal(serving.isOpen(), true, "a stream on a serve route is not closed within its grace");
  await untilEach("the deny route to answer 503", hammering.shots, {
    ...{ names: ["kept strict"], since: leaseOverAt, count: 5, which: ({ status }) => status === 503 },
  });
  await untilEach("the serve route to go on serving", hammering.shots, {
    ...{ names: ["kept app"], since: leaseOverAt, count: 1, which: isPermitted },
  });
  // What had been decided before may still be on its way.
  const asked = ofThese(hammering.shots, ["kept strict"]).filter(({ sentAt }) => sentAt >= leaseOverAt);
  assert.deepEqual(permittedOf(asked), []);

  const completing = cluster.operator.receipt(link).then((receipt) => [receipt, performance.now()] as const);
  const [{ code }, [completed, completedAt]] = await Promise.all([serving.closed, completing]);
  assert.equal(code, 4503);
  assert.equal(nodeIn(completed, cutOff).status, "fenced");
  assert.ok(serving.newest() < completedAt, "it had fenced itself before the receipt said so");
  await untilEach("answers after the grace", hammering.shots, {
    ...{ names: all, since: completedAt, count: 20, which: ({ status }) => status === 503 },
  });
  assert.deepEqual(permittedOf(ofThese(hammering.shots, all, completedAt)), []);

  for (const relay of [...relays.brokers, relays.nats]) relay.thaw();
  await untilEach("the other session to be permitted again", hammering.shots, {
    ...{ names: names("kept"), since: completedAt, count: 10, which: isPermitted },
  });
  const shots = await hammering.stop();
  assert.deepEqual(permittedOf(ofThese(shots, names("revoked"), completedAt)), []);
  await cutOff.ready();
});

test("a boot without a grant permits nothing on any route, however long it waits", async (t) => {
  const started = cluster.proxy(3);
  const { relays } = cluster;
  const kept = await cluster.session("alice");
  await started.kill();
  for (const relay of [...relays.brokers, relays.nats]) relay.freeze();
  await started.launch();
  const hammering = hammerAt(t, started, { kept });
  await untilEach("answers before the first grant", hammering.shots, {
    ...{ names: names("kept"), since: 0, count: 100, which: ({ status }) => status === 503 },
  });
  assert.deepEqual(permittedOf(hammering.shots), []);
  for (const relay of [...relays.brokers, relays.nats]) relay.thaw();
  await started.ready();
  await untilEach("both routes to be served", hammering.shots, {
    ...{ names: names("kept"), since: 0, count: 10, which: ({ permitted }) => permitted },
  });
});
