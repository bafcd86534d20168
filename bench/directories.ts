/**
 * Bench: what the first run of a large directory, one that changes nothing and one that changes little cost a process
 * with all services and SQLite. Prints the time of each beside raw inserts of as many rows and bytes into SQLite, the
 * time of decisions meanwhile beside an idle process, and resident memory.
 *
 *   node bench/directories.ts [--people 100000] [--groups 2000] [--members 200]
 */
import { randomBytes, randomUUID } from "node:crypto";
import { mkdtempSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { type DirectoryView, mintOperatorToken, operatorApiPrefix } from "../src/console/index.ts";
import { directoriesFrom } from "../src/events/index.ts";
import { Visitor } from "../test/support/visitor.ts";
import { type Cardea, startCardea } from "./support/cardea.ts";
import { percentile } from "./support/histogram.ts";
import { printTimes, sampled, throwIfEnded } from "./support/sampled-decisions.ts";
import { withStand } from "./support/stand.ts";

const { values } = parseArgs({
  options: {
    people: { type: "string", default: "100000" },
    groups: { type: "string", default: "2000" },
    members: { type: "string", default: "200" },
  },
});
const people = Number(values.people);
const groups = Number(values.groups);
const members = Number(values.members);

/** The process may close an idle connection just when a request begins. */
const attemptsMax = 5;

type Operate = (method: "GET" | "POST", path: string, body?: object) => Promise<Record<string, unknown>>;

await withStand(async (stand) => {
  const upstream = createServer((_request, response) => response.end("ok")).listen(0, "127.0.0.1");
  stand.atEnd(async () => void upstream.close());
  await new Promise((resolve) => upstream.once("listening", resolve));
  const folder = mkdtempSync(join(tmpdir(), "cardea-bench-directories-"));
  stand.atEnd(async () => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, "people.json");
  const write = (text: string): void => {
    writeFileSync(`${path}.new`, text);
    renameSync(`${path}.new`, path);
  };
  write('{"people": []}');
  const cardea = await startCardea(stand, {
    upstreamPort: (upstream.address() as AddressInfo).port,
    store: "file",
    settings: [`directories: {bench: {provider: file, path: ${JSON.stringify(path)}, interval: 24h}}`],
  });
  const visitor = new Visitor();
  stand.atEnd(() => visitor.close());
  const operate = await connect(cardea, visitor);
  const idle = await sampled(cardea, async () => delay(5_000));
  printTimes("decisions while idle", idle.times, idle);
  const memory = (): string => `${Math.round(cardea.pinned.rssBytes() / 1024 ** 2)} MB`;
  console.log(`resident memory: ${memory()}`);

  const quiet = percentile(idle.times, 99);
  for (const [name, change] of [
    ["the first run", 0],
    ["a run that changes nothing", 0],
    ["a run that changes the members of each group", 1],
  ] as const) {
    const text = documentOf(change);
    const from = { events: await eventsOf(operate), bytes: logBytes(cardea) };
    const run = await sampled(cardea, async () => {
      const before = await lastRun(operate);
      write(text);
      // More people lose a group than mass_change permits at once.
      await operate("POST", "/directories/bench/sync", { removals: true });
      for (let last = before; last === before || last === "running"; last = await lastRun(operate)) await delay(250);
    });
    const size = `${people} people, ${groups} groups, ${groups * members} memberships`;
    console.log(`${name}: ${size} in ${(run.ms / 1_000).toFixed(1)} s (${(run.cpuMs / 1_000).toFixed(1)} s of CPU)`);
    const events = (await eventsOf(operate)) - from.events;
    const raw = rawInserts(folder, { rows: events, bytes: Math.max(0, logBytes(cardea) - from.bytes) });
    console.log(
      `${events} events; raw inserts of as many rows and bytes ${(raw / 1_000).toFixed(2)} s: ` +
        `${(run.ms / raw).toFixed(1)} × (${(run.cpuMs / raw).toFixed(1)} × by processor time)`,
    );
    printTimes("decisions meanwhile", run.times, run);
    console.log(`p99 ${(percentile(run.times, 99) / quiet).toFixed(1)} × idle; resident memory: ${memory()}`);
  }
});

/** Position of the head. */
async function eventsOf(operate: Operate): Promise<number> {
  const { applied } = (await operate("GET", "/held")) as { applied: { position: number } };
  return applied.position;
}

function logBytes({ config }: Cardea): number {
  return readdirSync(config.dataDir)
    .filter((name) => name.includes(".db"))
    .reduce((sum, name) => sum + statSync(join(config.dataDir, name)).size, 0);
}

/** Milliseconds of inserts of 100 rows each, as durable as those of the log. */
function rawInserts(folder: string, { rows, bytes }: Readonly<{ rows: number; bytes: number }>): number {
  const path = join(folder, "raw.db");
  const db = new DatabaseSync(path);
  db.exec("pragma journal_mode = wal");
  db.exec("pragma synchronous = full");
  db.exec("create table raw (position integer primary key, payload blob not null)");
  const insert = db.prepare("insert into raw (payload) values (?)");
  const payload = randomBytes(Math.max(1, Math.round(bytes / Math.max(1, rows))));
  const from = performance.now();
  for (let at = 0; at < rows; at += 100) {
    db.exec("begin immediate");
    for (let row = at; row < Math.min(rows, at + 100); row++) insert.run(payload);
    db.exec("commit");
  }
  const ms = performance.now() - from;
  db.close();
  for (const name of readdirSync(folder).filter((each) => each.startsWith("raw.db"))) rmSync(join(folder, name));
  return ms;
}

function documentOf(change: number): string {
  const groupOf = (group: number) => ({
    id: `g${group}`,
    name: `group ${group}`,
    members: Array.from({ length: members }, (_, n) => `p${(group * 7_919 + n + change) % people}`),
  });
  return JSON.stringify({
    people: Array.from({ length: people }, (_, n) => ({
      id: `p${n}`,
      email: `p${n}@example.com`,
      name: `Person ${n}`,
    })),
    groups: Array.from({ length: groups }, (_, n) => groupOf(n)),
  });
}

async function lastRun(operate: Operate): Promise<string> {
  const { directories } = (await operate("GET", "/directories")) as { directories: readonly DirectoryView[] };
  const [view] = directories;
  if (view === undefined) throw new Error("the directory is not listed");
  if (view.last !== null && view.last.result !== "complete")
    throw new Error(`${view.last.result}: ${view.last.problem}`);
  return view.runningSince !== null || view.asked ? "running" : (view.last?.endedAt ?? "never");
}

async function connect({ config, port, pinned }: Cardea, visitor: Visitor): Promise<Operate> {
  const origin = `http://authenticate.localhost:${port}`;
  const token = await mintOperatorToken({
    secret: config.sharedSecret,
    cluster: config.broker.clusterName,
    name: "bench",
    tokenId: randomUUID(),
    nowS: Math.floor(Date.now() / 1_000),
    ttlS: 7_200,
  });
  const send = async (method: "GET" | "POST", path: string, body?: object) => {
    for (let attempt = 1; ; attempt++)
      try {
        return await visitor.request(`${origin}${operatorApiPrefix}${path}`, {
          method,
          headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
          ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        });
      } catch (error) {
        throwIfEnded(pinned, error);
        if (attempt >= attemptsMax) throw error;
        console.log(`${method} ${path} got no answer: ${String(error)}`);
      }
  };
  while ((await send("POST", "/cluster/finalize", { level: directoriesFrom })).status !== 200) await delay(200);
  return async (method, path, body) => {
    const { status, body: text } = await send(method, path, body);
    if (status >= 300) throw new Error(`${method} ${path}: ${status} ${text.slice(0, 500)}`);
    return JSON.parse(text) as Record<string, unknown>;
  };
}
