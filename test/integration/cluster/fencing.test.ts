/**
 * Fencing on a real cluster with short leases: what a proxy permits after it was paused, cut off or restarted, and what
 * receipts say meanwhile.
 *
 * Lease and grace are 2 s each, so the window W is a little more than 4 s.
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
/** A pause that a node must notice: its 250 ms tick fires over a second late. */
const noticedMs = 1_400;
const routes = ["app", "strict"] as const;

/** Constant requests of each session on each route at one proxy, on keep-alive connections. */
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
    const statusCounts: Record<string, number> = {};
    for (const { name, status } of ofThese(shots, options.names, options.since)) {
      statusCounts[`${name} ${status}`] = (statusCounts[`${name} ${status}`] ?? 0) + 1;
    }
    throw new Error(`timed out waiting for ${what}; seen: ${JSON.stringify(statusCounts)}`, { cause });
  });
}

function nodeIn(receipt: Receipt | null, { name }: ClusterProcess) {
  const entries = receipt?.nodes.filter(({ node }) => node === name) ?? [];
  assert.equal(entries.length, 1, JSON.stringify(receipt));
  return entries[0] as Receipt["nodes"][number];
}

const othersOf = (receipt: Receipt, { name }: ClusterProcess): string[] => [
  ...new Set(receipt.nodes.filter(({ node }) => node !== name).map(({ status }) => status)),
];

const permittedOf = (shots: readonly Shot[]): readonly Shot[] => shots.filter(({ permitted }) => permitted);

test("a receipt never reports a paused proxy as applied, but as fenced after W, and the proxy refuses the revoked session when it resumes", async (t) => {
  const stopped = cluster.proxy(2);
  cluster.front.setTargets([cluster.proxy(1).ports.address]);
  const [revoked, kept] = [await cluster.session("alice"), await cluster.session("alice")];
  const hammering = hammerAt(t, stopped, { revoked, kept });
  const all = [...names("revoked"), ...names("kept")];
  const isPermitted = ({ permitted }: Shot) => permitted;
  await untilEach("all to be permitted", hammering.shots, { names: all, since: 0, count: 5, which: isPermitted });

  stopped.pause();
  const { link } = await cluster.operator.revoke(revoked);
  const revokedAt = performance.now();
  const receipt = await cluster.operator.receipt(link, { wait: "none" });
  assert.equal(receipt.complete, false);
  const { status, fencedInMs } = nodeIn(receipt, stopped);
  assert.equal(status, "unconfirmed");
  assert.ok(
    fencedInMs !== null && fencedInMs > 0 && fencedInMs <= wMs,
    `the receipt says when the proxy is fenced: ${fencedInMs}`,
  );

  const completed = await cluster.operator.receipt(link);
  const completedAt = performance.now();
  assert.equal(completed.complete, true);
  assert.deepEqual([nodeIn(completed, stopped).status, othersOf(completed, stopped)], ["fenced", ["applied"]]);
  assert.ok(completedAt - revokedAt >= fencedInMs - 1, "complete before the last grant was W ago");
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
  assert.deepEqual(reached, [], "a request of the revoked session reached the upstream");
  const afterwards = await cluster.operator.receipt(link);
  assert.equal(nodeIn(afterwards, stopped).status, "applied", "the resumed proxy confirms like the others");
  cluster.front.setTargets(cluster.proxies.map(({ ports }) => ports.address));
});

test("a proxy that was briefly paused permits nothing on any route before its next grant, even if older grants wait in its sockets", async (t) => {
  const stopped = cluster.proxy(3);
  const { relays } = cluster;
  const [revoked, kept] = [await cluster.session("alice"), await cluster.session("alice")];
  const hammering = hammerAt(t, stopped, { revoked, kept });
  const all = [...names("revoked"), ...names("kept")];
  const isPermitted = ({ permitted }: Shot) => permitted;
  await untilEach("all to be permitted", hammering.shots, { names: all, since: 0, count: 5, which: isPermitted });

  // Grants are on their way when the proxy is paused, and are in its sockets when it resumes. Nothing else reaches or
  // leaves it.
  const heldBytes = relays.brokers.map((relay) => relay.hold());
  await waitFor("a grant to be in flight", () => heldBytes.some((bytes) => bytes() > 400));
  stopped.pause();
  const pausedAt = performance.now();
  for (const relay of relays.brokers) relay.release();
  for (const relay of [...relays.brokers, relays.nats]) relay.freeze();
  const { link } = await cluster.operator.revoke(revoked);
  await waitFor("a pause that a node must notice", () => performance.now() - pausedAt > noticedMs);

  const resumedAt = performance.now(); // without the pause, its lease and grace would last a while longer
  stopped.resume();
  await untilEach("denials without a grant", hammering.shots, {
    ...{ names: all, since: resumedAt, count: 60, which: ({ status }) => status === 503 },
  });
  assert.deepEqual(
    permittedOf(ofThese(hammering.shots, all, resumedAt)),
    [],
    "permitted without a grant requested after the pause",
  );
  assert.match((await stopped.notReadyReasons()).join("; "), /did not run for \d+ ms; waiting for a newer grant/);

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

test("a proxy that is cut off denies at the end of its lease or of its grace, as each route says, and then fences itself", async (t) => {
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
  assert.equal(serving.isOpen(), true, "a stream on a serve route stays open within its grace");
  await untilEach("the deny route to answer 503", hammering.shots, {
    ...{ names: ["kept strict"], since: leaseOverAt, count: 5, which: ({ status }) => status === 503 },
  });
  await untilEach("the serve route to permit", hammering.shots, {
    ...{ names: ["kept app"], since: leaseOverAt, count: 1, which: isPermitted },
  });
  // Responses that were decided before may still arrive.
  const sentAfterwards = ofThese(hammering.shots, ["kept strict"]).filter(({ sentAt }) => sentAt >= leaseOverAt);
  assert.deepEqual(permittedOf(sentAfterwards), []);

  const completing = cluster.operator.receipt(link).then((receipt) => [receipt, performance.now()] as const);
  const [{ code }, [completed, completedAt]] = await Promise.all([serving.closed, completing]);
  assert.equal(code, 4503);
  assert.equal(nodeIn(completed, cutOff).status, "fenced");
  assert.ok(serving.newest() < completedAt, "the proxy fenced itself before the receipt was complete");
  await untilEach("denials after the grace", hammering.shots, {
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

test("a boot without a grant permits nothing on any route", async (t) => {
  const started = cluster.proxy(3);
  const { relays } = cluster;
  const kept = await cluster.session("alice");
  await started.kill();
  for (const relay of [...relays.brokers, relays.nats]) relay.freeze();
  await started.launch();
  const hammering = hammerAt(t, started, { kept });
  await untilEach("denials before the first grant", hammering.shots, {
    ...{ names: names("kept"), since: 0, count: 100, which: ({ status }) => status === 503 },
  });
  assert.deepEqual(permittedOf(hammering.shots), []);
  for (const relay of [...relays.brokers, relays.nats]) relay.thaw();
  await started.ready();
  await untilEach("both routes to be served", hammering.shots, {
    ...{ names: names("kept"), since: 0, count: 10, which: ({ permitted }) => permitted },
  });
});
