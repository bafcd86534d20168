/**
 * Bench: the longest pauses of the event loops while a SCIM client sends large groups, in a cluster of separate
 * processes on Postgres and NATS. The proxy decides requests meanwhile.
 *
 *   node bench/scim-pauses.ts [--users 6000] [--groups 20] [--members 5000]
 *
 * Budget: no piece of work keeps the proxy from deciding for more than 10 ms of processor time.
 */
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { Agent } from "node:http";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { formatScimToken, hashScimSecret, readsLevel, scimScopes, secretIn } from "../src/events/index.ts";
import { sendUntilDecided } from "../test/integration/cluster/client.ts";
import { type Cluster, type Session, startCluster } from "../test/integration/cluster/cluster.ts";
import { TemporaryFolder } from "../test/support/child.ts";
import { waitFor } from "../test/support/wait-for.ts";
import { reportBudgets } from "./support/budget.ts";
import type { LoopDelay } from "./support/loop-delay.ts";
import { printTimes } from "./support/sampled-decisions.ts";

const { values } = parseArgs({
  options: {
    users: { type: "string", default: "6000" },
    groups: { type: "string", default: "20" },
    members: { type: "string", default: "5000" },
  },
});
const [users, groups, members] = [Number(values.users), Number(values.groups), Number(values.members)] as const;
const cpuMsMax = 10;
const bulkSchema = "urn:ietf:params:scim:api:messages:2.0:BulkRequest";
const bulkUsers = 250;
const bulksInFlight = 4;
const groupsInFlight = 2;
const settleMs = 2_000;
const watched = ["proxy-1", "authenticate", "broker-1", "broker-2"] as const;

type Send = (method: string, path: string, body: object) => Promise<Record<string, unknown>>;

const folder = new TemporaryFolder("scim-pauses");
const fileOf = (name: string): string => join(folder.path, `${name}.json`);
const preload = fileURLToPath(new URL("support/loop-delay.ts", import.meta.url));
const recording = (name: string): Readonly<Record<string, string>> => ({
  NODE_OPTIONS: `--import=${preload}`,
  LOOP_DELAY_FILE: fileOf(name),
});
const cluster = await startCluster({
  timing: "default",
  regions: ["north"],
  settings: { scim_clients: { bench: { match: "subject" } } },
  env: Object.fromEntries(watched.map((name) => [name, recording(name)])),
});
try {
  const send = await connect(cluster);
  const startedAt = performance.now();
  const ids = await loadUsers(send);
  console.log(`${users} users in ${((performance.now() - startedAt) / 1_000).toFixed(0)} s`);
  const session = await cluster.session("person");
  await startPeriod();
  const idle = await decideDuring(cluster, session, () => delay(settleMs));
  printTimes("decisions while idle", idle);
  print("idle");
  await startPeriod();
  const times = await decideDuring(cluster, session, async () => {
    await loadGroups(send, ids);
    await delay(settleMs);
  });
  printTimes(`decisions while ${groups} groups of ${members} arrive`, times);
  const { cpuMs } = print("groups");
  reportBudgets([
    {
      what: "longest piece of work of the proxy",
      result: `${cpuMs.toFixed(1)} ms`,
      budget: `≤ ${cpuMsMax} ms`,
      met: cpuMs <= cpuMsMax,
    },
  ]);
} finally {
  await cluster.stop();
  folder.remove();
}

async function connect(at: Cluster): Promise<Send> {
  await waitFor("the level", async () => {
    const { status } = await at.operator.post("/cluster/finalize", { level: readsLevel, wait: "all" });
    return status === 200;
  });
  const tokenId = randomBytes(6).toString("hex");
  const token = formatScimToken(tokenId, randomBytes(32));
  const secretHash = hashScimSecret(secretIn(token));
  await at.operator.post("/scim/tokens", { client: "bench", tokenId, secretHash, scopes: scimScopes, wait: "all" });
  const agent = new Agent({ keepAlive: true });
  return async (method, path, body) => {
    // Sends again while a busy machine refuses.
    const answer = await sendUntilDecided({
      ...{ method, agent, port: at.authenticate.ports.address, host: at.host("authenticate"), path: `/scim/v2${path}` },
      headers: { authorization: `Bearer ${token}`, "content-type": "application/scim+json" },
      body: JSON.stringify(body),
      timeoutMs: 120_000,
    });
    if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${answer.body.slice(0, 500)}`);
    return answer.body === "" ? {} : (JSON.parse(answer.body) as Record<string, unknown>);
  };
}

async function loadUsers(send: Send): Promise<readonly string[]> {
  const ids: string[] = [];
  const starts = Array.from({ length: Math.ceil(users / bulkUsers) }, (_, n) => n * bulkUsers);
  await inParallel(starts, bulksInFlight, async (from) => {
    let rest = Array.from({ length: Math.min(bulkUsers, users - from) }, (_, n) => `user-${from + n}`);
    for (let tries = 0; rest.length > 0 && tries < 20; tries++) {
      const Operations = rest.map((name) => {
        const data = { userName: `${name}@example.com`, externalId: name };
        return { method: "POST", path: "/Users", bulkId: name, data };
      });
      const answer = await send("POST", "/Bulk", { schemas: [bulkSchema], Operations });
      const done = answer["Operations"] as Readonly<{ bulkId: string; status: string; location?: string }>[];
      for (const { location } of done)
        if (location !== undefined) ids.push(location.slice(location.lastIndexOf("/") + 1));
      // A busy machine may refuse some for a moment.
      rest = done.filter(({ status }) => status === "503").map(({ bulkId }) => bulkId);
    }
  });
  if (ids.length < users) throw new Error(`${users - ids.length} users were not created`);
  return ids;
}

async function inParallel<T>(all: readonly T[], count: number, run: (one: T) => Promise<void>): Promise<void> {
  const rest = [...all];
  await Promise.all(
    Array.from({ length: count }, async () => {
      for (let next = rest.pop(); next !== undefined; next = rest.pop()) await run(next);
    }),
  );
}

async function loadGroups(send: Send, ids: readonly string[]): Promise<void> {
  const all = Array.from({ length: groups }, (_, n) => n);
  await inParallel(all, groupsInFlight, async (group) => {
    const first = group * 613;
    const listed = Array.from({ length: members }, (_, n) => ({ value: ids[(first + n) % ids.length] }));
    await send("POST", "/Groups?excludedAttributes=members", { displayName: `group ${group}`, members: listed });
  });
}

async function decideDuring(at: Cluster, session: Session, job: () => Promise<void>): Promise<readonly number[]> {
  const agent = new Agent({ keepAlive: true });
  const times: number[] = [];
  let isOver = false;
  const decide = async (): Promise<void> => {
    while (!isOver) {
      const sentAt = performance.now();
      const target = { port: at.proxy(1).ports.address, host: at.host("app"), cookie: session.cookie, agent };
      const { status } = await sendUntilDecided(target);
      if (status !== 200) throw new Error(`a permitted request got ${status}`);
      times.push(performance.now() - sentAt);
      await delay(5);
    }
  };
  const run = (): Promise<void> =>
    job().finally(() => {
      isOver = true;
    });
  await Promise.all([decide(), run()]);
  agent.destroy();
  return times;
}

async function startPeriod(): Promise<void> {
  for (const name of watched) writeFileSync(`${fileOf(name)}.reset`, "");
  await waitFor("a new period", () => watched.every((name) => !existsSync(`${fileOf(name)}.reset`)));
}

/** @returns what the proxy recorded */
function print(period: string): LoopDelay {
  const found = watched.map((name) => ({ name, ...(JSON.parse(readFileSync(fileOf(name), "utf8")) as LoopDelay) }));
  for (const { name, p99Ms, maxMs, cpuMs } of found)
    console.log(
      `${period}, ${name}: pauses p99 ${p99Ms.toFixed(1)} ms, max ${maxMs.toFixed(1)} ms; ` +
        `longest piece of work ${cpuMs.toFixed(1)} ms of processor time`,
    );
  const [proxy] = found;
  if (proxy === undefined) throw new Error("no process is watched");
  return proxy;
}
