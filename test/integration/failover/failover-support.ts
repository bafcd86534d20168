/**
 * Support of the failover tests: SQL and log access by server, load, and its checks, for a cluster on a Postgres
 * primary with two standbys.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { type CommandId, type CommandResult, parseUserId } from "../../../src/events/index.ts";
import { type EventLog, openPostgresLog } from "../../../src/replication/log/index.ts";
import type { PostgresGroup } from "../../support/postgres-group.ts";
import type { PostgresServer } from "../../support/service.ts";
import { hammer, type Shot } from "../cluster/client.ts";
import type { Cluster, Session } from "../cluster/cluster.ts";

/** Opens the log of one server and passes it to `read`. */
export async function logAt<T>(
  cluster: Cluster,
  server: PostgresServer,
  read: (log: EventLog) => Promise<T>,
): Promise<T> {
  const log = await openPostgresLog({
    connectionString: server.connectionString(databaseOf(cluster)),
    cluster: cluster.setup.clusterName,
  });
  try {
    return await read(log);
  } finally {
    await log.close();
  }
}

/** Runs SQL as a superuser of one server. */
export async function sqlAt(
  cluster: Cluster,
  server: PostgresServer,
  text: string,
): Promise<Record<string, unknown>[]> {
  const { withClient } = await import("../../support/postgres-client.ts");
  return withClient(server.connectionString(databaseOf(cluster)), async (client) => (await client.query(text)).rows);
}

export function databaseOf({ setup }: Cluster): string {
  return setup.postgres.slice(setup.postgres.lastIndexOf("/") + 1);
}

/** Constant requests of one session at every proxy, on a route that serves during its grace and one that does not. */
export function hammerAll(cluster: Cluster, session: Session) {
  return hammer(
    cluster.proxies.flatMap((proxy) =>
      ["app", "strict"].map((route) => ({
        name: `${proxy.name} ${route}`,
        target: { port: proxy.ports.address, host: cluster.host(route), cookie: session.cookie },
      })),
    ),
    { callers: 1 },
  );
}

/**
 * Asserts that no request was refused or sent to sign in. A route within its grace serves, and one without a lease
 * answers 503. The end of a lease may also reset a connection on the route without grace if the next request there gets
 * 503. A proxy that has logged a pause of its machine may answer 503 everywhere.
 */
export function assertNeverSignedOut({ proxies }: Cluster, shots: readonly Shot[]): void {
  assert.ok(shots.length > 100, `${shots.length} shots`);
  const stopped = proxies.filter((proxy) => proxy.hasReportedPause()).map(({ name }) => `${name} app`);
  const mayBe503 = (name: string): boolean => /strict/.test(name) || stopped.includes(name);
  const byName = Map.groupBy(shots, ({ name }) => name);
  const isCutByLeaseEnd = (shot: Shot): boolean => {
    const sameTarget = byName.get(shot.name) ?? [];
    return /strict/.test(shot.name) && shot.status === 0 && sameTarget[sameTarget.indexOf(shot) + 1]?.status === 503;
  };
  const wrong = shots.filter((shot) => {
    const { permitted, status, name } = shot;
    return !permitted && !(status === 503 && mayBe503(name)) && !isCutByLeaseEnd(shot);
  });
  assert.deepEqual(wrong, []);
}

export type Write = Readonly<{ commandId: CommandId; startedAt: number; endedAt: number; result: CommandResult }>;

/** Thousands would make identity headers that the app of these tests refuses with 431. */
const groupsMax = 100;

/** Submits changes one by one, each under its own id until the outcome is known. */
export function startWriting(cluster: Cluster, user: string) {
  const written: Write[] = [];
  let running = true;
  const member = parseUserId(user);
  const loop = (async () => {
    for (let n = 0; running; n++) {
      const commandId = randomUUID() as string as CommandId;
      const startedAt = performance.now();
      const [added, removed] = Math.floor(n / groupsMax) % 2 === 0 ? [[member], []] : [[], [member]];
      const result = await cluster.client("operator").submit({
        commandId,
        actor: "operator:test",
        command: {
          ...{ type: "changeGroupMembers", groupId: `g${n % groupsMax}` as never, source: "operator" },
          ...{ added, removed },
        },
      });
      written.push({ commandId, startedAt, endedAt: performance.now(), result });
      await new Promise((resolve) => setTimeout(resolve, 15)); // each costs three servers and every node some work
    }
  })();
  return {
    written: written as readonly Write[],
    done: () => written.filter(({ result }) => result.type === "done").length,
    async stop(): Promise<readonly Write[]> {
      running = false;
      await loop;
      return written;
    },
  };
}

export const groupOf = (cluster: Cluster): PostgresGroup => cluster.postgres as PostgresGroup;
