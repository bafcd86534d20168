/**
 * Regions: a region that is cut off from the leader keeps its contract, restarts its nodes from its own data, and heals
 * without a stampede. How long callers wait there is held over every hop: the proxy's gateway, the authenticate service
 * and the regional broker.
 *
 * No revocation is missed on the way. Leases have their default window of 65 s, of which this uses a part.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { measureName } from "../../../src/cli/process/measure-gauges.ts";
import { mintOperatorToken, operatorApiPrefix } from "../../../src/console/index.ts";
import { formatLink } from "../../../src/events/index.ts";
import type { Receipt } from "../../../src/replication/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type HttpReply, openSocket, sendRequest } from "../cluster/client.ts";
import { type Change, loadConfigFile, runCardea, type Session } from "../cluster/cluster.ts";
import type { ClusterProcess } from "../cluster/cluster-process.ts";
import { testLocalRevocations } from "./local-revocation.ts";
import { startTwoRegions, type TwoRegions } from "./two-regions.ts";

/** Latency (ms) of the WAN in each direction. */
const lateMs = 40;
let regions: TwoRegions;

before(
  async () => {
    regions = await startTwoRegions({ timing: "default", lateMs, westAuthenticate: "one" });
  },
  { timeout: 590_000 },
);
after(() => regions?.stop());

const measure = (of: ClusterProcess, name: string) => of.metric(`cardea_broker_${measureName(name)}`);

test("a session created in the east is permitted in the west at once, because the node waits for its link", async (t) => {
  const [proxy] = regions.west.proxies;
  assert.ok(proxy);
  const tookMs: number[] = [];
  for (let i = 0; i < 5; i++) {
    const session = await regions.session(`user-${i}`);
    const requestedAt = performance.now();
    const answer = await regions.get(proxy, "app", session);
    tookMs.push(Math.round(performance.now() - requestedAt));
    assert.equal(answer.permitted, true, `${answer.status} ${answer.body.slice(0, 200)}`);
  }
  t.diagnostic(`with ${2 * lateMs} ms between the regions the first request took ${tookMs.join(", ")} ms`);
});

test("a receipt for all regions names the regional broker too, and open streams in the west are cut", async (t) => {
  const session = await regions.session("alice");
  const [proxy] = regions.west.proxies;
  assert.ok(proxy);
  assert.equal((await regions.get(proxy, "app", session)).permitted, true);
  const socket = await openSocket({ port: proxy.ports.address, host: regions.host("app"), cookie: session.cookie });
  const requestedAt = performance.now();
  const { receipt } = await regions.operator.revoke(session, { wait: "all" });
  t.diagnostic(`revoked in both regions after ${Math.round(performance.now() - requestedAt)} ms`);
  assert.equal(receipt?.complete, true, JSON.stringify(receipt?.nodes));
  assert.deepEqual([...new Set(receipt?.nodes.map((node) => node.region))].sort(), ["east", "west"]);
  assert.ok(receipt?.nodes.some(({ node, role }) => node === "broker-west" && role === "broker"));
  assert.equal((await socket.closed).code, 4401);
  assert.equal((await regions.get(proxy, "app", session)).permitted, false);
});

test("during a cut, a receipt for one region completes with its own nodes; one for all names the missing nodes and completes after healing", {
  timeout: 220_000,
}, async (t) => {
  const { proxy: eastern } = regions.east;
  const [first, second] = regions.west.proxies;
  assert.ok(first && second);
  const session = await regions.session("grace");
  for (const proxy of [eastern, first, second])
    assert.equal((await regions.get(proxy, "app", session)).permitted, true, proxy.name);
  regions.wan.cut();

  // A node of the region that has not applied the change keeps that region's receipt incomplete.
  eastern.pause();
  const change = await regions.operator.revoke(session, { wait: "region", timeoutMs: 500 });
  assert.equal(change.receipt?.complete, false, "proxy-east cannot have applied it");
  const missing = missingIn(change.receipt);
  assert.ok(
    missing.some(({ node }) => node === "proxy-east"),
    JSON.stringify(missing),
  );
  eastern.resume();

  const own = await regions.operator.receipt(change.link, { wait: "region", timeoutMs: 20_000 });
  assert.deepEqual([own.complete, own.wait, own.region], [true, "region", "east"], JSON.stringify(own.nodes));
  const [ownNodes, otherNodes] = [own.nodes.filter(({ region }) => region === "east"), missingIn(own)];
  assert.ok(ownNodes.length >= 2 && ownNodes.every(({ status }) => status === "applied"), JSON.stringify(ownNodes));
  assert.deepEqual(
    otherNodes.map(({ region }) => region).filter((region) => region !== "west"),
    [],
  );
  assert.equal((await regions.get(eastern, "app", session)).permitted, false, "after the receipt of its region");
  assert.equal(
    (await regions.get(first, "app", session)).permitted,
    true,
    "a receipt for one region promises nothing about the other",
  );

  const all = await regions.operator.receipt(change.link, { wait: "all", timeoutMs: 1_000 });
  assert.deepEqual([all.complete, all.status], [false, "incomplete"]);
  const names = missingIn(all).map(({ node }) => node);
  assert.deepEqual(names.toSorted(), ["authenticate-west", "broker-west", "proxy-west-1", "proxy-west-2"]);
  for (const { node, reason, fencedInMs } of missingIn(all)) {
    assert.match(reason, /not yet|confirmed nothing/, node);
    assert.ok((fencedInMs ?? 0) > 0 && (fencedInMs ?? 0) <= all.completeInMs, `${node}: ${fencedInMs} ms`);
  }
  const west = { wait: "region", region: "west", timeoutMs: 500 } as const;
  const link = { type: "link", link: change.link } as const;
  assert.equal(
    (await regions.client("operator").receipt(link, west)).complete,
    false,
    "the receipt for the west alone is incomplete too",
  );

  regions.wan.heal();
  const healedAt = performance.now();
  const healed = await regions.operator.receipt(change.link, { wait: "all", timeoutMs: 50_000 });
  t.diagnostic(`complete for all ${Math.round(performance.now() - healedAt)} ms after healing`);
  assert.equal(healed.complete, true, JSON.stringify(healed.nodes));
  for (const proxy of [first, second])
    assert.equal(
      (await regions.get(proxy, "app", session)).permitted,
      false,
      `${proxy.name}, after the complete receipt`,
    );
  const after = await regions.session("heidi");
  for (const proxy of [first, second])
    await waitFor("a fresh lease", async () => (await regions.get(proxy, "strict", after)).permitted, {
      withinMs: 30_000,
    });
});

const missingIn = (receipt: Receipt | null) => receipt?.nodes.filter(({ status }) => status === "unconfirmed") ?? [];

test("the lag of a region is visible in the status, on the command line and in the metrics", async () => {
  const status = await regions.status();
  assert.deepEqual([...new Set(status.nodes.map(({ region }) => region))].sort(), ["east", "west"]);
  assert.ok(status.nodes.some(({ node, role }) => node === "broker-west" && role === "broker"));
  await waitFor("the command line to show one broker and three nodes of the west without lag", async () => {
    const { out, err } = await regions.cardea("cluster", "status");
    assert.match(out, /broker-west/, err);
    assert.match(out, /^west +1 +3 +0/m);
    return true;
  });
  const leading = regions.east.brokers[0] ?? assert.fail();
  await waitFor(
    "the leader to count the nodes of the west",
    async () => (await leading.metric("cardea_region_nodes", { region: "west" })) === 3,
  );
  await waitFor("the region to catch up", async () => (await measure(regions.west.broker, "regionLag")) === 0);
  assert.ok((await measure(regions.west.broker, "homeSilentMs")) >= 0);
  await waitFor("the mirror to catch up", async () => (await measure(regions.west.broker, "mirrorLag")) === 0);
});

test("a cut-off region serves by its contract, restarts a node, and misses no revocation after healing", {
  timeout: 400_000,
}, async (t) => {
  const { broker, proxies } = regions.west;
  const [first, second] = proxies;
  assert.ok(first && second);
  const [valid, revoked] = [await regions.session("bob", ["eng"]), await regions.session("carol")];
  for (const proxy of proxies) {
    assert.equal((await regions.get(proxy, "eng", valid)).permitted, true);
    assert.equal((await regions.get(proxy, "strict", revoked)).permitted, true);
  }

  const byAge = await measure(broker, "grantsByAge");
  regions.wan.cut();
  const cutAt = performance.now();
  const sinceCut = (): string => `${((performance.now() - cutAt) / 1_000).toFixed(1)} s after the cut`;
  await waitFor(
    "new leases by age",
    async () => (await measure(broker, "grantsByAge")) >= byAge + 2 && (await measure(broker, "leasesByAge")) >= 2,
    { withinMs: 20_000 },
  );
  t.diagnostic(`grants by age ${sinceCut()}`);

  // A restart as after a crash, when only the regional broker is reachable.
  await first.kill();
  await first.launch();
  const again = await waitFor(
    "the restarted proxy to permit",
    async () => (await regions.getNow(first, "eng", valid)).permitted && performance.now(),
    { withinMs: 45_000 },
  );
  t.diagnostic(
    `a proxy killed and started in the cut-off region serves ${((again - cutAt) / 1_000).toFixed(1)} s after the cut`,
  );
  await waitFor(
    "the route that denies when stale to deny",
    async () => (await regions.getNow(first, "strict", valid)).status === 503,
    { withinMs: 15_000 },
  );
  assert.equal(
    (await regions.get(second, "app", revoked)).permitted,
    true,
    "a route that serves when stale still serves",
  );

  // A revocation at home meanwhile: its receipt is incomplete while the west may still permit.
  const change = await regions.operator.revoke(revoked);
  const incomplete = await waitFor("the east to apply it", async () => {
    const receipt = await regions.operator.receipt(change.link, { wait: "none" });
    assert.equal(receipt.complete, false);
    const east = receipt.nodes.filter(({ region }) => region === "east");
    return east.every(({ status }) => status === "applied") ? receipt : undefined;
  });
  const open = missingIn(incomplete);
  assert.ok(
    open.some(({ node }) => node === "broker-west"),
    "the receipt names the broker that grants by age",
  );
  assert.ok(open.every(({ region }) => region === "west"));

  const connections = regions.wan.brokers.map((wan) => wan.accepted()).reduce((sum, each) => sum + each, 0);
  const reads = await measure(broker, "homeReads");
  regions.wan.heal();
  const healedAt = performance.now();
  const receipt = await regions.operator.receipt(change.link, { wait: "all", timeoutMs: 60_000 });
  const completeMs = performance.now() - healedAt;
  assert.equal(receipt.complete, true, JSON.stringify(receipt.nodes));
  for (const proxy of proxies)
    assert.equal(
      (await regions.get(proxy, "app", revoked)).permitted,
      false,
      `${proxy.name}, after a complete receipt`,
    );
  t.diagnostic(`healed: the revocation is enforced in the west after ${Math.round(completeMs)} ms`);
  await waitFor("fresh leases", async () => (await regions.get(first, "strict", valid)).permitted, {
    withinMs: 20_000,
  });
  const more = regions.wan.brokers.map((wan) => wan.accepted()).reduce((sum, each) => sum + each, 0) - connections;
  const newReads = (await measure(broker, "homeReads")) - reads;
  t.diagnostic(`for healing, ${more} connections and ${newReads} reads crossed between the regions`);
  // A read that waits at the head is repeated about once a second.
  const healedS = (performance.now() - healedAt) / 1_000;
  assert.ok(newReads <= 20 + healedS, "only the regional broker catches up over the WAN");
});

const browser = { accept: "text/html", "sec-fetch-mode": "navigate" };
const login = `/.pomerium/api/v1/login?pomerium_redirect_uri=${encodeURIComponent("http://localhost:4711/done")}`;
/** The gateway waits this long for an answer that is no receipt. */
const otherAnswersMs = 30_000;

const visit = (at: ClusterProcess, host: string, path = "/"): Promise<HttpReply> =>
  sendRequest({ port: at.ports.address, host: regions.host(host), path, headers: browser });

async function operatorToken(): Promise<string> {
  const { sharedSecret: secret, broker } = loadConfigFile(regions.authenticate.configFile);
  const nowS = Math.floor(Date.now() / 1_000);
  return mintOperatorToken({
    secret,
    cluster: broker.clusterName,
    name: "test",
    tokenId: randomUUID(),
    nowS,
    ttlS: 300,
  });
}

/** A call of the operator API through the gateway of a proxy, sent once. */
async function operate(at: ClusterProcess, path: string, body?: object): Promise<HttpReply> {
  return sendRequest({
    method: body === undefined ? "GET" : "POST",
    port: at.ports.address,
    host: regions.host("authenticate"),
    path: `${operatorApiPrefix}${path}`,
    headers: {
      authorization: `Bearer ${await operatorToken()}`,
      accept: "application/json",
      ...(body && { "content-type": "application/json" }),
    },
    ...(body && { body: JSON.stringify(body) }),
    timeoutMs: 180_000,
  });
}

const commandsAt = (authenticate: ClusterProcess): number => authenticate.log().split('"operator command"').length - 1;

/**
 * Sends a command while only the home region's answers are lost: it is recorded, and the caller cannot learn that. A
 * machine that sleeps for long in between would make the region know of the cut before the command is sent.
 */
async function submitUnheard(at: ClusterProcess, session: Session) {
  return waitFor("a command to be forwarded before the region knows of the cut", async () => {
    const commandId = randomUUID();
    regions.wan.cutAnswers();
    const answer = await operate(at, "/groups/night/members", { add: [session.user], commandId });
    assert.equal(answer.status, 503, answer.body);
    const { code, outcome } = JSON.parse(answer.body);
    assert.equal(code, "home-unreachable");
    if (outcome === "unknown") return { commandId };
    regions.wan.heal();
    await waitFor("the west to be connected", async () => (await operate(at, "/groups")).status === 200);
    return undefined;
  });
}

test("in a region that is cut off, commands and sign-ins are refused at once over every hop, with a truthful outcome, and sessions continue", {
  timeout: 400_000,
}, async (t) => {
  const [proxy] = regions.west.proxies;
  const westAuthenticate = regions.westAuthenticate?.process;
  assert.ok(proxy && westAuthenticate);
  const eastern = regions.east.proxy;
  const [session, other] = [await regions.session("ivan"), await regions.session("judy")];
  for (const each of [session, other]) assert.equal((await regions.get(proxy, "app", each)).permitted, true);
  const signIn = await waitFor("a redirect to sign-in", async () => {
    const answer = await visit(proxy, "app");
    return answer.status === 302 && answer.headers.location;
  });

  const { commandId } = await submitUnheard(proxy, session);
  t.after(() => regions.wan.heal());
  const recorded = await regions.operator.receipt(commandId, { wait: "none" });
  assert.ok(recorded.link !== null, "the home region has recorded what the west calls unknown");
  regions.wan.cut();

  // A receipt waits longer than the gateway waits for any other answer: until the west is connected again.
  const longWaitBegan = performance.now();
  const longWait = operate(eastern, `/receipts/command:${commandId}?wait=all&timeoutMs=120000`);
  longWait.catch(() => {}); // awaited below
  const sent = commandsAt(westAuthenticate);
  const refusedAt = performance.now();
  const refused = await operate(proxy, "/groups/night/members", { add: [other.user], commandId: randomUUID() });
  t.diagnostic(`refused a command after ${Math.round(performance.now() - refusedAt)} ms`);
  assert.deepEqual([refused.status, refused.headers["retry-after"]], [503, "5"], refused.body);
  const { code, outcome } = JSON.parse(refused.body);
  assert.deepEqual([code, outcome], ["home-unreachable", "none"]);
  const link = formatLink(session.link);
  const receipt = await operate(proxy, `/receipts/link:${link}?wait=all&timeoutMs=60000`);
  assert.deepEqual([receipt.status, JSON.parse(receipt.body).code], [503, "home-unreachable"], receipt.body);
  process.env["CARDEA_TOKEN"] = await operatorToken();
  const url = `http://authenticate.localhost:${proxy.ports.address}`;
  const line = await runCardea(["groups", "add", "night", other.user, "--url", url]);
  assert.equal(line.code, 3, line.err);
  assert.match(line.err, /cut off from its home region, so the command was not forwarded/);
  assert.equal(commandsAt(westAuthenticate) - sent, 2, "each command was sent once");
  const local = await operate(proxy, `/sessions/${other.id}/revoke`, { wait: "none" });
  assert.equal(local.status, 202, local.body);

  for (const host of ["app", "authenticate"]) // each process closes its own gate
    await waitFor("sign-ins to be refused", async () => (await visit(proxy, host, login)).status === 503, {
      withinMs: 30_000,
    });
  const { pathname, search } = new URL(signIn);
  for (const [host, path] of [
    ["app", "/"],
    ["app", "/.pomerium/sign_in"],
    ["app", login],
    ["authenticate", login],
    ["authenticate", `${pathname}${search}`], // a proxy has started it before the cut
  ] as const) {
    const page = await visit(proxy, host, path);
    const head = [page.status, page.headers["retry-after"], page.headers.location];
    assert.deepEqual(head, [503, "5", undefined], `${host} ${path}: ${page.body.slice(0, 300)}`);
    assert.match(page.body, /You can(?:'|&#39;)t sign in right now/);
  }
  assert.equal((await regions.getNow(proxy, "app", session)).permitted, true, "who is signed in continues");
  assert.equal((await visit(eastern, "app")).status, 302, "the home region signs people in");

  await waitFor(
    "the receipt to wait longer than other answers may",
    () => performance.now() - longWaitBegan > otherAnswersMs + 2_000,
    { withinMs: otherAnswersMs * 2 },
  );
  regions.wan.heal();
  const complete = await longWait;
  assert.equal(complete.status, 200, complete.body);
  assert.equal((JSON.parse(complete.body) as Receipt).complete, true, complete.body);
  await waitFor("sign-ins in the west", async () => (await visit(proxy, "app")).status === 302, { withinMs: 30_000 });
  const again = await operate(proxy, "/groups/night/members", { add: [session.user], commandId });
  assert.equal(again.status, 200, again.body);
  const answered: Change = JSON.parse(again.body);
  assert.deepEqual([answered.changed, answered.link], [true, recorded.link], "a repeated command is the first one");
  const late = await operate(proxy, "/groups/night/members", { add: [other.user] });
  assert.equal(JSON.parse(late.body).changed, true, "a refused command is not forwarded later either");
});

testLocalRevocations(() => regions);
