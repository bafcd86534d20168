/**
 * Directory sync on a cluster: two brokers on Postgres, and a real document behind HTTP. The leader is killed while it
 * reads, and while it records what it read. The next leader completes the run, and records nothing twice.
 */
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { mkdirSync } from "node:fs";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import {
  type CommandId,
  decodeEvents,
  directoryClient,
  directoryStateUser,
  genesis,
  Projection,
  provisionedUserId,
  type Recorded,
  type UnixMs,
} from "../../../src/events/index.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import { type BrokerClient, createBrokerClient } from "../../../src/replication/wire/index.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { freePorts } from "../../support/free-port.ts";
import { startPostgres } from "../../support/postgres.ts";
import { waitFor } from "../../support/wait-for.ts";
import { loadConfigFile } from "../cluster/cluster.ts";
import { type ClusterSetup, configOf } from "../cluster/cluster-config.ts";
import { ClusterProcess } from "../cluster/cluster-process.ts";

const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const peopleCount = 1_500;
const idOf = (n: number): string => `p${n}`;
const stops: (() => unknown)[] = [];

/** The document, and what the server does with a request for it. */
const directory = { text: "", requests: 0, answer: (response: ServerResponse) => void response.end(directory.text) };
let brokers: readonly ClusterProcess[] = [];
let client: BrokerClient;

before(
  async () => {
    const server = createServer((_request, response) => {
      directory.requests += 1;
      directory.answer(response);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    stops.push(() => {
      server.closeAllConnections();
      server.close();
    });
    const { port } = server.address() as AddressInfo;
    const folder = new TemporaryFolder("directories");
    stops.push(() => folder.remove());
    const postgres = await startPostgres();
    stops.push(() => postgres.stop());
    const ports = await freePorts(6);
    const places: ClusterSetup = {
      ...{ clusterName: "directories", idpSecret: "secret", postgres: await postgres.newDatabase() },
      ...{ sharedSecret: randomBytes(32).toString("base64"), cookieSecret: randomBytes(32).toString("base64") },
      ...{ upstreamPort: 9, frontPort: 80, authenticatePort: 9, idpPort: 9 },
    };
    const brokerPorts = [0, 1].map((n) => ({
      ...{ address: ports[n] ?? 0, metrics: ports[n + 2] ?? 0, broker: ports[n + 4] ?? 0 },
    }));
    const brokerUrls = brokerPorts.map(({ broker }) => `http://127.0.0.1:${broker}`);
    brokers = brokerPorts.map((each, n) => {
      const name = `broker-${n + 1}`;
      const dataDir = join(folder.path, name);
      mkdirSync(dataDir, { mode: 0o700 });
      const spec = { name, services: ["databroker"], region: "north", ports: each, nats: [], brokerUrls } as const;
      const { nats: _, ...config } = configOf(spec, places, { timing: "default", dataDir }) as Record<string, unknown>;
      const corp = { provider: "file", url: `http://127.0.0.1:${port}/people.json`, interval: "10s" };
      return new ClusterProcess({
        ...spec,
        folder: folder.path,
        dataDir,
        config: { ...config, directories: { corp } },
      });
    });
    for (const broker of brokers) stops.push(() => broker.kill());
    directory.text = documentOf(10);
    await Promise.all(brokers.map((broker) => broker.start()));
    const config = loadConfigFile(brokers[0]?.configFile ?? "");
    client = createBrokerClient({
      ...{ role: "operator", urls: config.broker.urls, cluster: places.clusterName, name: "test" },
      ...{ secret: config.sharedSecret, clock: systemClock, randomBytes, logger: quiet, submitMs: 60_000 },
    });
    stops.push(() => client.close());
    await waitFor("the level", async () => {
      const command = { type: "finalizeUpgrade", level: 5 } as const;
      const commandId = randomUUID() as string as CommandId;
      const result = await client.submit({ commandId, actor: "operator:test", command });
      return result.type === "done";
    });
  },
  { timeout: 400_000 },
);
after(async () => {
  for (const stop of stops.reverse()) await stop();
});

function documentOf(count: number): string {
  const ids = Array.from({ length: count }, (_, n) => idOf(n));
  return JSON.stringify({
    people: ids.map((id) => ({ id, email: `${id}@example.com` })),
    groups: [
      { id: "all", name: "all", members: ids },
      { id: "even", name: "even", members: ids.filter((_, n) => n % 2 === 0) },
    ],
  });
}

async function leader(): Promise<ClusterProcess> {
  return waitFor(
    "a broker to lead",
    async () => {
      for (const broker of brokers)
        if ((await broker.metric("cardea_broker_leading").catch(() => 0)) === 1) return broker;
      return undefined;
    },
    { withinMs: 60_000 },
  );
}

async function readLog(): Promise<Readonly<{ projection: Projection; events: readonly Recorded[] }>> {
  const projection = new Projection();
  const events: Recorded[] = [];
  for (let from = genesis; ; ) {
    const outcome = await client.read(from, { limit: 10_000, waitMs: 0 });
    if (outcome.type !== "page" || outcome.page.entries.length === 0) return { projection, events };
    for (const recorded of decodeEvents(outcome.page.entries, from)) {
      projection.apply(recorded);
      events.push(recorded);
      from = { epoch: recorded.epoch, position: recorded.position, hash: recorded.hash };
    }
  }
}

const membersOf = (projection: Projection, group: string): number =>
  projection.membersOf(group as Parameters<Projection["membersOf"]>[0]).size;
const untilMembers = (count: number): Promise<unknown> =>
  waitFor("the whole directory", async () => membersOf((await readLog()).projection, "all") === count, {
    withinMs: 90_000,
  });

test("a leader killed while it reads a directory: the next one reads it again, and the run is complete", {
  timeout: 300_000,
}, async () => {
  await untilMembers(10);
  directory.text = documentOf(20);
  const asked = Promise.withResolvers<void>();
  directory.answer = (response) => {
    response.writeHead(200, { "content-length": String(directory.text.length) });
    response.write(directory.text.slice(0, 200));
    asked.resolve();
  };
  await asked.promise;
  const killed = await leader();
  await killed.kill();
  directory.answer = (response) => void response.end(directory.text);
  await untilMembers(20);
  const { events } = await readLog();
  const started = events.filter(({ type }) => type === "DirectorySyncStarted");
  const completed = events.filter(({ type }) => type === "DirectorySyncCompleted");
  assert.ok(completed.some(({ event }) => event.type === "DirectorySyncCompleted" && !event.complete));
  assert.ok(started.length > completed.filter(({ event }) => "complete" in event && event.complete).length);
  await killed.start();
});

test("a leader killed while it records a run: the next one records the rest, and nothing twice", {
  timeout: 400_000,
}, async (t) => {
  const now = Date.now() as UnixMs;
  directory.text = documentOf(peopleCount);
  await waitFor("a part of the run in the log", async () => (await readLog()).projection.counts.users > 200, {
    withinMs: 90_000,
    everyMs: 50,
  });
  const killed = await leader();
  await killed.kill();
  const { projection: half } = await readLog().catch(async () => {
    await leader();
    return readLog();
  });
  t.diagnostic(`killed with ${half.counts.users} of ${peopleCount} people in the log`);
  await untilMembers(peopleCount);
  const { projection, events } = await readLog();
  assert.equal(membersOf(projection, "even"), peopleCount / 2);
  const written = new Map<string, number>();
  for (const { event } of events)
    if (event.type === "UserUpserted") written.set(event.userId, (written.get(event.userId) ?? 0) + 1);
  written.delete(directoryStateUser("corp"));
  assert.equal(written.size, peopleCount);
  assert.deepEqual(
    [...written].filter(([, times]) => times > 1),
    [],
  );
  const added = events.flatMap(({ event }) => (event.type === "GroupMembersChanged" ? event.added : []));
  assert.equal(added.length, peopleCount + peopleCount / 2, "each membership was recorded once");
  assert.deepEqual(
    events.filter(({ event }) => event.type === "GroupMembersChanged" && event.removed.length > 0),
    [],
  );
  const last = provisionedUserId(directoryClient("corp"), idOf(peopleCount - 1));
  assert.equal(projection.groupsOf(last, now).size, 1);
  await killed.start();
});
