/** Failing over: what the tests of this folder share over a cluster of real processes on a primary and two standbys. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { type CommandId, type CommandResult, parseUserId } from "../../../src/events/index.ts";
import { type EventLog, openPostgresLog } from "../../../src/replication/index.ts";
import type { PostgresGroup } from "../../support/postgres-group.ts";
import type { PostgresServer } from "../../support/service.ts";
import { hammer, type Shot } from "../cluster/client.ts";
import type { Cluster, Session } from "../cluster/cluster.ts";

/** The log as one server has it, whatever the others say. */
export async function logAt<T>(
  cluster: Cluster,
  server: PostgresServer,
  use: (log: EventLog) => Promise<T>,
): Promise<T> {
  const log = await openPostgresLog({
    connectionString: server.connectionString(databaseOf(cluster)),
    cluster: cluster.setup.clusterName,
  });
  try {
    return await use(log);
  } finally {
    await log.close();
  }
}

/** Asked as a superuser of one server. */
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

/** Callers of one session at every proxy, on a route that serves its grace and one that does not. */
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
 * No caller was sent to sign in or refused: a route without a lease answers 503, and one in its grace serves. The end
 * of a lease cuts the answer under way on a route without grace, and resets its connection: the next request there gets
 * 503. A proxy that says it was stopped by its machine may answer 503 everywhere.
 */
export function assertNeverSignedOut({ proxies }: Cluster, shots: readonly Shot[]): void {
  assert.ok(shots.length > 100, `${shots.length} shots`);
  const stopped = proxies.filter((proxy) => proxy.hasReportedPause()).map(({ name }) => `${name} app`);
  const mayBe503 = (name: string): boolean => /strict/.test(name) || stopped.includes(name);
  const byName = Map.groupBy(shots, ({ name }) => name);
  const isCutByLeaseEnd = (shot: Shot): boolean => {
    const own = byName.get(shot.name) ?? [];
    return /strict/.test(shot.name) && shot.status === 0 && own[own.indexOf(shot) + 1]?.status === 503;
  };
  const wrong = shots.filter((shot) => {
    const { permitted, status, name } = shot;
    return !permitted && !(status === 503 && mayBe503(name)) && !isCutByLeaseEnd(shot);
  });
  assert.deepEqual(wrong, []);
}

export type Write = Readonly<{ commandId: CommandId; startedAt: number; endedAt: number; result: CommandResult }>;

/** Changes, one after the other, each asked with its own id until there is a definite answer. */
export function startWriting(cluster: Cluster, user: string) {
  const written: Write[] = [];
  let running = true;
  const member = parseUserId(user);
  const loop = (async () => {
    for (let n = 0; running; n++) {
      const commandId = randomUUID() as string as CommandId;
      const startedAt = performance.now();
      const result = await cluster.client("operator").submit({
        commandId,
        actor: "operator:test",
        command: {
          ...{ type: "changeGroupMembers", groupId: `g${n}` as never, source: "operator" },
          ...{ added: [member], removed: [] },
        },
      });
      written.push({ commandId, startedAt, endedAt: performance.now(), result });
      await new Promise((resolve) => setTimeout(resolve, 5));
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
