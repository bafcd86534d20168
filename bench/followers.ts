/**
 * Bench: one broker and up to a hundred followers on simulated links. It prints
 *
 * - the time from a revoke call to the last follower enforcing it, while people sign in, beside its floor in the same
 *   run: a bare commit of one row on the same Postgres, then one NATS hop to the last of as many bare subscribers over
 *   the same links;
 * - the broker's processor time per second at several numbers of followers: idle, with sign-ins, and with revocations
 *   that wait for receipts. From fitted lines it computes what a thousand nodes need;
 * - what it costs the broker to lose NATS and get it back, and how long changes then take to arrive.
 *
 *   node --expose-gc bench/followers.ts [--nodes 8,25,50,100] [--seconds 5] [--sign-ins 20] [--revocations 150]
 *     [--latency 40] [--only latency|cost|idle|outage]
 *
 * Four processes have the followers: real replicas, each with its lease, its own connections, and a link with a seeded
 * latency of 1 to 40 ms and up to a fifth of that as jitter, in both directions. Postgres has `fsync` on.
 */
import { type ChildProcess, fork } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { connect } from "@nats-io/transport-node";
import pg from "pg";
import { encode, type SessionId } from "../src/events/index.ts";
import { systemClock } from "../src/replication/runtime/index.ts";
import { createBrokerClient } from "../src/replication/wire/index.ts";
import { freePort } from "../test/support/free-port.ts";
import { startNats } from "../test/support/nats.ts";
import { startPostgres } from "../test/support/postgres.ts";
import { createSession, revokeSession, timedSessionId } from "./support/bench-sessions.ts";
import { type Budget, reportBudgets, whole } from "./support/budget.ts";
import type { BrokerSetup, BrokerUsage } from "./support/follower-broker.ts";
import type { CrowdReport, CrowdSetup } from "./support/follower-crowd.ts";
import { histogram, percentile } from "./support/histogram.ts";

const { values } = parseArgs({
  options: {
    nodes: { type: "string", default: "8,25,50,100" },
    seconds: { type: "string", default: "5" },
    "sign-ins": { type: "string", default: "20" },
    revocations: { type: "string", default: "150" },
    latency: { type: "string", default: "40" },
    only: { type: "string", default: "" },
  },
});
const sizes = values.nodes.split(",").map(Number);
const seconds = Number(values.seconds);
const signInsPerSecond = Number(values["sign-ins"]);
const receiptsPerSecond = 5;
const cluster = "bench";
const crowdCount = 4;
const pollMs = 3_000;
const doubtMs = 11_000;
const nodesOnPaper = 1_000;
const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const runs = (part: string): boolean => values.only === "" || values.only === part;

await using postgres = await startPostgres({ settings: { fsync: "on" } });
await using nats = await startNats({ size: 1 });
const connectionString = await postgres.newDatabase();
const secret = randomBytes(32).toString("base64");
const port = await freePort();
const brokerUrl = `http://127.0.0.1:${port}`;
const natsUrls = [...nats.urls];
const profile = process.env["CPU_PROF"];
const broker = fork(new URL("./support/follower-broker.ts", import.meta.url), {
  execArgv: [...process.execArgv, ...(profile === undefined ? [] : ["--cpu-prof", "--cpu-prof-dir", profile])],
});
broker.send({ cluster, secret, port, natsUrls, connectionString } satisfies BrokerSetup);
await once(broker, "message");
const crowds = Array.from({ length: crowdCount }, () => fork(new URL("./support/follower-crowd.ts", import.meta.url)));
const [operator, authenticate] = [clientOf("operator"), clientOf("authenticate")];
const connection = await connect({ servers: natsUrls });
const bare = new pg.Client({ connectionString });
await bare.connect();
await bare.query("create table floor (n bigint, body bytea)");

/** Per timed change: how many followers had it, and when the last of them did. */
const seen = new Map<string, { followers: number; at: bigint }>();
for (const crowd of crowds) {
  crowd.on("message", (report: CrowdReport) => {
    if (report.type !== "seen") return;
    const entry = seen.get(report.what) ?? { followers: 0, at: 0n };
    const at = BigInt(report.at);
    seen.set(report.what, { followers: entry.followers + report.by, at: at > entry.at ? at : entry.at });
  });
}

type Cost = Readonly<{ nodes: number; phase: string; perSecond: Readonly<Record<keyof BrokerUsage, number>> }>;
const costs: Cost[] = [];
const budgets: Budget[] = [];
let followers = 0;
let people = 0;
for (const nodes of sizes) {
  await growTo(nodes);
  if (!runs("cost") && !runs("idle")) continue;
  if (runs("cost")) {
    costs.push(await costOf("sign-ins", () => signIn(seconds)));
    costs.push(await costOf("revocations", () => revokeWithReceipts(seconds)));
  }
  await sleep(runs("cost") ? pollMs : doubtMs); // for ten seconds after its start a node also polls
  costs.push(await costOf("idle", () => sleep(seconds * 1_000)));
}
if (runs("latency")) await measureLatency();
if (costs.length > 0) printCosts();
if (runs("outage")) await measureOutage();
reportBudgets(budgets);
for (const crowd of crowds) crowd.kill("SIGKILL");
broker.send("exit");
await once(broker, "exit");
await Promise.all([operator.close(), authenticate.close()]);
await bare.end();
await connection.close();

function clientOf(role: "operator" | "authenticate"): ReturnType<typeof createBrokerClient> {
  return createBrokerClient({
    urls: [new URL(brokerUrl)],
    cluster,
    role,
    name: "bench",
    secret: Buffer.from(secret, "base64"),
    clock: systemClock,
    randomBytes,
    logger: quiet,
  });
}

/** Adds followers to all processes alike. */
async function growTo(nodes: number): Promise<void> {
  const added = nodes - followers;
  const share = Math.ceil(added / crowdCount);
  await Promise.all(
    crowds.map(async (crowd, index) => {
      const from = followers + Math.min(added, index * share);
      const to = followers + Math.min(added, (index + 1) * share);
      if (from === to) return;
      crowd.send({
        ...{ type: "add", from, to, cluster, secret, brokerUrl, natsUrls, bare: runs("latency") },
        latencyMsMax: Number(values.latency),
      } satisfies CrowdSetup);
      await messageOf(crowd, "ready");
    }),
  );
  followers = nodes;
}

async function messageOf<Type extends CrowdReport["type"]>(
  crowd: ChildProcess,
  type: Type,
): Promise<Extract<CrowdReport, { type: Type }>> {
  for (;;) {
    const [report] = (await once(crowd, "message")) as [CrowdReport];
    if (report.type === type) return report as Extract<CrowdReport, { type: Type }>;
  }
}

async function usage(): Promise<BrokerUsage> {
  const answer = once(broker, "message");
  broker.send("usage");
  const [found] = (await answer) as [BrokerUsage];
  return found;
}

async function costOf(phase: string, run: () => Promise<void>): Promise<Cost> {
  const before = await usage();
  const startedAt = performance.now();
  await run();
  const elapsedS = (performance.now() - startedAt) / 1_000;
  const after = await usage();
  const perSecond = { ...after };
  for (const name of Object.keys(after) as (keyof BrokerUsage)[])
    if (name !== "heapMb" && name !== "rssMb") perSecond[name] = (after[name] - before[name]) / elapsedS;
  return { nodes: followers, phase, perSecond };
}

async function atRate(perSecond: number, forS: number, act: (n: number) => Promise<void>): Promise<void> {
  const startedAt = performance.now();
  const acts: Promise<void>[] = [];
  for (let n = 0; n < perSecond * forS; n++) {
    await sleep(Math.max(0, startedAt + (n * 1_000) / perSecond - performance.now()));
    acts.push(act(n));
  }
  await Promise.all(acts);
}

function signIn(forS: number): Promise<void> {
  return atRate(signInsPerSecond, forS, () =>
    createSession(authenticate, randomUUID() as string as SessionId, people++),
  );
}

/** Each revocation waits for a receipt of all nodes. */
async function revokeWithReceipts(forS: number): Promise<void> {
  const sessions = await newSessions(receiptsPerSecond * forS);
  const took: number[] = [];
  let bytes = 0;
  await atRate(receiptsPerSecond, forS, async (n) => {
    const startedAt = performance.now();
    const commandId = await revokeSession(operator, sessions[n] as SessionId);
    const receipt = await operator.receipt({ type: "command", commandId }, { wait: "all", timeoutMs: 10_000 });
    if (!receipt.complete) throw new Error("a receipt is incomplete");
    took.push(performance.now() - startedAt);
    bytes = encode(receipt).length;
  });
  console.log(
    `${followers} nodes: a complete receipt after p50 ${percentile(took, 50).toFixed(0)} ms, p99 ${percentile(took, 99).toFixed(0)} ms, of ${whole(bytes)} B`,
  );
}

async function newSessions(count: number): Promise<readonly SessionId[]> {
  const ids = Array.from({ length: count }, timedSessionId);
  await Promise.all(ids.map((id) => createSession(authenticate, id, people++)));
  await sleep(500); // each follower has them before any is revoked
  return ids;
}

/** @returns how long (ms) after the call the last follower had it */
async function measure(what: string, act: () => Promise<unknown>): Promise<number> {
  const startedAt = process.hrtime.bigint();
  await act();
  const giveUpAt = performance.now() + 15_000;
  for (;;) {
    const entry = seen.get(what);
    if (entry?.followers === followers) {
      seen.delete(what);
      return Number(entry.at - startedAt) / 1e6;
    }
    if (performance.now() > giveUpAt)
      throw new Error(`${what}: only ${entry?.followers ?? 0} of ${followers} followers have it`);
    await sleep(1);
  }
}

/** Alternates with the floor while people sign in. */
async function measureLatency(): Promise<void> {
  const sessions = await newSessions(Number(values.revocations));
  const floor: number[] = [];
  const enforced: number[] = [];
  let signingIn = true;
  const load = (async () => {
    while (signingIn) await signIn(1);
  })();
  for (const [n, sessionId] of sessions.entries()) {
    floor.push(
      await measure(`floor-${n}`, async () => {
        await bare.query("insert into floor values ($1, $2)", [n, randomBytes(300)]);
        connection.publish("floor", `floor-${n}`);
      }),
    );
    enforced.push(await measure(`session:${sessionId}`, () => revokeSession(operator, sessionId)));
  }
  signingIn = false;
  await load;
  console.log(`${enforced.length} revocations, ${followers} followers, ${signInsPerSecond} sign-ins/s`);
  console.log(histogram({ floor, enforced }, "ms"));
  for (const p of [50, 99]) {
    const [bottom, top] = [percentile(floor, p), percentile(enforced, p)];
    console.log(`p${p}   floor ${bottom.toFixed(1)} ms   revoke to the last of ${followers} ${top.toFixed(1)} ms`);
    budgets.push({
      what: `revoke to the last of ${followers} enforcing, p${p}, beside its floor`,
      result: `${(top / bottom).toFixed(2)} × (${top.toFixed(1)} ms)`,
      ...(p === 50 ? { budget: "", met: null } : { budget: "≤ 3 ×", met: top / bottom <= 3 }),
    });
  }
}

function printCosts(): void {
  const of = (phase: string): readonly Cost[] => costs.filter((cost) => cost.phase === phase);
  for (const phase of ["idle", "sign-ins", "revocations"]) {
    console.log(`\nbroker, ${phase}, per second`);
    for (const { nodes, perSecond: used } of of(phase))
      console.log(
        `${String(nodes).padStart(5)} nodes   ${used.cpuMs.toFixed(1).padStart(6)} ms   ${used.calls.toFixed(0)} calls   ` +
          `${(used.callBytes / 1_024).toFixed(0)} KiB of calls   ${used.grants.toFixed(0)} grants   ` +
          `${used.confirmations.toFixed(0)} confirmations   ${used.published.toFixed(1)} published   ` +
          `${(used.publishedBytes / 1_024).toFixed(1)} KiB published   heap ${used.heapMb.toFixed(1)} MB   RSS ${used.rssMb.toFixed(0)} MB`,
      );
  }
  const idle = of("idle");
  if (idle.length < 2) return;
  const renews = lineThrough(idle.map(({ nodes, perSecond }) => [nodes, perSecond.cpuMs]));
  const bytes = lineThrough(idle.map(({ nodes, perSecond }) => [nodes, perSecond.callBytes]));
  // Beyond what the same nodes cost while idle: the changes, and the confirmations that they cause.
  const signIns = of("sign-ins");
  const idlePaper = renews.a + renews.b * nodesOnPaper;
  console.log(
    `\nidle: ${renews.a.toFixed(1)} + ${renews.b.toFixed(3)} × nodes ms/s, ${whole(bytes.b)} B/s of calls per node`,
  );
  budgets.push({
    what: `broker, ${whole(nodesOnPaper)} nodes on paper, idle`,
    result: `${(idlePaper / 1_000).toFixed(2)} cores (${renews.b.toFixed(2)} ms a second and node)`,
    ...{ budget: "≤ 0.5 cores", met: idlePaper <= 500 },
  });
  if (signIns.length < 2) return;
  const confirms = lineThrough(
    signIns.map(({ perSecond }, index) => [
      perSecond.confirmations,
      perSecond.cpuMs - (idle[index]?.perSecond.cpuMs ?? 0),
    ]),
  );
  const mostConfirms = Math.max(...signIns.map(({ perSecond }) => perSecond.confirmations));
  const busyPaper = idlePaper + confirms.a + confirms.b * mostConfirms;
  const published = signIns.at(-1)?.perSecond;
  console.log(
    `sign-ins: ${(confirms.a / signInsPerSecond).toFixed(1)} ms each, ${confirms.b.toFixed(3)} ms a confirmation, ` +
      `at most ${whole(mostConfirms)} confirmations/s\n` +
      `${whole(nodesOnPaper)} nodes: NATS sends ${whole((published?.published ?? 0) * nodesOnPaper)} messages/s, ` +
      `${(((published?.publishedBytes ?? 0) * nodesOnPaper) / 1e6).toFixed(1)} MB/s, with ${signInsPerSecond} sign-ins/s; ` +
      `calls ${((bytes.b * nodesOnPaper) / 1e6).toFixed(1)} MB/s`,
  );
  budgets.push({
    what: `the same with ${signInsPerSecond} sign-ins/s`,
    result: `${(busyPaper / 1_000).toFixed(2)} cores`,
    ...{ budget: "", met: null },
  });
}

/** Least squares. */
function lineThrough(points: readonly (readonly [number, number])[]): Readonly<{ a: number; b: number }> {
  const mean = (index: 0 | 1): number => points.reduce((sum, point) => sum + point[index], 0) / points.length;
  const [x, y] = [mean(0), mean(1)];
  const b =
    points.reduce((sum, [px, py]) => sum + (px - x) * (py - y), 0) /
    points.reduce((sum, [px]) => sum + (px - x) ** 2, 0);
  return { a: y - b * x, b };
}

/** NATS is gone for four seconds, then back, while people sign in. */
async function measureOutage(): Promise<void> {
  const sessions = await newSessions(60);
  const timeline: string[] = [];
  let before = await usage();
  const startedAt = performance.now();
  let watching = true;
  const watch = (async () => {
    while (watching) {
      await sleep(1_000);
      const now = await usage();
      timeline.push(
        `${((performance.now() - startedAt) / 1_000).toFixed(0)} s: ${(now.cpuMs - before.cpuMs).toFixed(0)} ms, ${now.calls - before.calls} calls`,
      );
      before = now;
    }
  })();
  const load = (async () => {
    while (watching) await signIn(1);
  })();
  await sleep(2_000);
  await nats.nodes[0]?.kill();
  const during: number[] = [];
  const after: number[] = [];
  const lostAt = performance.now();
  let next = 0;
  for (; performance.now() - lostAt < 4_000 && next < 20; next++)
    during.push(await measure(`session:${sessions[next]}`, () => revokeSession(operator, sessions[next] as SessionId)));
  await nats.nodes[0]?.start();
  const backAt = performance.now();
  for (; performance.now() - backAt < 5_000 && next < sessions.length; next++) {
    after.push(await measure(`session:${sessions[next]}`, () => revokeSession(operator, sessions[next] as SessionId)));
    await sleep(50);
  }
  watching = false;
  await Promise.all([watch, load]);
  console.log(`\nNATS lost at 2 s, back at ${((backAt - startedAt) / 1_000).toFixed(1)} s; the broker per second`);
  console.log(timeline.join("\n"));
  console.log(
    `revoke to the last of ${followers}: without NATS p50 ${percentile(during, 50).toFixed(0)} ms, max ${Math.max(...during).toFixed(0)} ms; ` +
      `after it is back, in turn: ${after.map((ms) => ms.toFixed(0)).join(", ")} ms`,
  );
  budgets.push({
    what: `revoke to the last of ${followers} while NATS is gone, p50 and max`,
    result: `${percentile(during, 50).toFixed(0)} and ${Math.max(...during).toFixed(0)} ms`,
    ...{ budget: "", met: null },
  });
}
