/**
 * Postgres standby: a streaming replica of a test server, from the binaries of this machine. A test can detach and
 * promote it.
 *
 * It has the roles, passwords and databases of its primary, as every physical replica does. Once promoted it is a
 * normal server.
 */
import { chownSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { detachConninfo } from "../../src/replication/log/postgres/promotion.ts";
import { Child, TemporaryFolder } from "./child.ts";
import { onFreePort } from "./free-port.ts";
import { findPostgresBinaries, takeBaseBackup, unprivilegedUser } from "./postgres.ts";
import { newDatabase, withClient } from "./postgres-client.ts";
import type { PostgresServer } from "./service.ts";
import { waitFor } from "./wait-for.ts";

/** What a standby does, and what an old primary can do once it is one. */
export type Replication = Readonly<{
  /** Its name in `synchronous_standby_names`. */
  name: string;
  /** Stops replication from its current primary. Resolves when no more WAL can arrive. */
  detach(): Promise<void>;
  /** Replicates from this server from now on. */
  follow(primary: Readonly<{ port: number }>): Promise<void>;
  /** The same, and does not wait until it streams: there may be no way to that server now. */
  receiveFrom(primary: Readonly<{ port: number }>): Promise<void>;
  /** The connection settings with which it receives from a server, as in `primary_conninfo`. */
  sourceAt(primary: Readonly<{ port: number }>): string;
}>;

export type PostgresStandby = PostgresServer &
  Replication &
  Readonly<{
    /** Promotes the standby to a primary on a new timeline. Resolves when it accepts writes. */
    promote(): Promise<void>;
  }>;

export async function startStandby(
  primary: PostgresServer,
  { name = "standby", settings = {} }: Readonly<{ name?: string; settings?: Readonly<Record<string, string>> }> = {},
): Promise<PostgresStandby> {
  const binaries = findPostgresBinaries();
  if (binaries === undefined) throw new Error("a standby needs local binaries of Postgres");
  const folder = new TemporaryFolder("standby");
  const dataFolder = join(folder.path, "data");
  const logFile = join(folder.path, "standby.log");
  const user = await unprivilegedUser();
  if (user !== undefined) chownSync(folder.path, user.uid, user.gid);
  const replication = replicationOf({ name, connectionString, like: primary.connectionString() });
  const copy = (source: string): Promise<void> =>
    takeBaseBackup({ binaries, dataFolder, folder: folder.path, source, user });
  await copy(replication.sourceAt(primary));
  let { child, port } = await onFreePort(async (port) => ({ child: await launch(port), port }));

  async function launch(port: number): Promise<Child> {
    // A standby must allow as many connections as its primary.
    const all = {
      ...{ listen_addresses: "127.0.0.1", port, unix_socket_directories: "", fsync: "off", max_connections: 200 },
      ...settings,
    };
    return Child.start({
      command: join(binaries as string, "postgres"),
      args: ["-D", dataFolder, ...Object.entries(all).flatMap(([key, value]) => ["-c", `${key}=${value}`])],
      logFile,
      cwd: folder.path,
      ...(user !== undefined && { user }),
    });
  }

  function connectionString(database = "postgres"): string {
    const url = new URL(primary.connectionString(database));
    url.port = String(port);
    return url.href;
  }

  const query = (text: string) => withClient(connectionString(), async (client) => (await client.query(text)).rows[0]);
  const answers = () => waitFor(`${name} to answer`, () => query("select 1"), { withinMs: 30_000 });
  await answers();

  const standby: PostgresStandby = {
    ...replication,
    host: "127.0.0.1",
    port,
    connectionString,
    newDatabase: () => newDatabase(standby),
    async promote() {
      await query("select pg_promote(true, 30)");
      await waitFor(
        "the promotion",
        async () => (await query("select pg_is_in_recovery() as standby"))?.["standby"] === false,
      );
    },
    async stop() {
      await child.end("SIGINT");
      folder.remove();
    },
    async kill() {
      await child.kill();
    },
    async start() {
      if (!child.running) child = await launch(port);
      await answers();
    },
    async restart() {
      await child.end("SIGINT");
      await standby.start();
    },
    async copyFrom(source) {
      await child.end("SIGINT");
      await copy(source);
      await standby.start();
    },
    pause: async () => child.pause(),
    resume: async () => child.resume(),
    log: async () => child.log(),
    [Symbol.asyncDispose]: () => standby.stop(),
  };
  return standby;
}

/** @param of.like a connection string with the host and the password of the servers */
export function replicationOf({
  name,
  connectionString,
  like,
}: Readonly<{ name: string; connectionString: () => string; like: string }>): Replication {
  const query = (text: string) => withClient(connectionString(), async (client) => (await client.query(text)).rows[0]);

  async function receive(conninfo: string): Promise<void> {
    await query(`alter system set primary_conninfo = ${pg.escapeLiteral(conninfo).trim()}`);
    await query("select pg_reload_conf()");
  }

  const replication: Replication = {
    name,
    sourceAt({ port }) {
      const { hostname, password, username } = new URL(like);
      return `host=${hostname} port=${port} user=${username} password=${password} application_name=${name}`;
    },
    receiveFrom: (primary) => receive(replication.sourceAt(primary)),
    async follow(primary) {
      await replication.receiveFrom(primary);
      await waitFor(
        `${name} to stream`,
        async () =>
          (await query("select 1 as streaming from pg_stat_wal_receiver where status = 'streaming'"))?.["streaming"],
        { withinMs: 30_000 },
      );
    },
    async detach() {
      await receive(detachConninfo(String((await query("show primary_conninfo"))?.["primary_conninfo"])));
      let still = 0;
      await waitFor(`${name} to receive nothing more`, async () => {
        const row = await query(
          "select count(*)::int as receivers from pg_stat_wal_receiver where status = 'streaming'",
        );
        still = row?.["receivers"] === 0 ? still + 1 : 0;
        return still > 3;
      });
    },
  };
  return replication;
}
