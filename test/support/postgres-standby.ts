/**
 * Postgres standby: a streaming replica of a test server, from the binaries of this machine. A test can detach and
 * promote it.
 *
 * It has the roles, passwords and databases of its primary, as every physical replica does. Once promoted it is a
 * normal server.
 */
import { execFile } from "node:child_process";
import { chownSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import pg from "pg";
import { detachConninfo } from "../../src/replication/log/postgres/promotion.ts";
import { Child, TemporaryFolder } from "./child.ts";
import { onFreePort } from "./free-port.ts";
import { findPostgresBinaries } from "./postgres.ts";
import { newDatabase, withClient } from "./postgres-client.ts";
import type { PostgresServer } from "./service.ts";
import { waitFor } from "./wait-for.ts";

const run = promisify(execFile);

export type PostgresStandby = PostgresServer &
  Readonly<{
    /** The name of the standby in `synchronous_standby_names`. */
    name: string;
    /** Stops replication from its current primary. Resolves when no more WAL can arrive. */
    detach(): Promise<void>;
    /** Replicates from this server from now on. */
    follow(primary: Readonly<{ port: number }>): Promise<void>;
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
  const { password, username } = new URL(primary.connectionString());
  const user = await unprivilegedUser();
  if (user !== undefined) chownSync(folder.path, user.uid, user.gid);
  const source = (port: number): string =>
    `host=${primary.host} port=${port} user=${username} password=${password} application_name=${name}`;
  await run(
    join(binaries, "pg_basebackup"),
    [
      `--pgdata=${dataFolder}`,
      `--dbname=${source(primary.port)}`,
      "--write-recovery-conf",
      "--checkpoint=fast",
      "--no-sync",
    ],
    { ...user, cwd: folder.path },
  );
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

  async function receiveFrom(conninfo: string): Promise<void> {
    await query(`alter system set primary_conninfo = ${pg.escapeLiteral(conninfo).trim()}`);
    await query("select pg_reload_conf()");
  }

  const standby: PostgresStandby = {
    name,
    host: "127.0.0.1",
    port,
    connectionString,
    newDatabase: () => newDatabase(standby),
    async detach() {
      await receiveFrom(detachConninfo(String((await query("show primary_conninfo"))?.["primary_conninfo"])));
      let still = 0;
      await waitFor(`${name} to receive nothing more`, async () => {
        const row = await query(
          "select count(*)::int as receivers from pg_stat_wal_receiver where status = 'streaming'",
        );
        still = row?.["receivers"] === 0 ? still + 1 : 0;
        return still > 3;
      });
    },
    async follow(other) {
      await receiveFrom(source(other.port));
      await waitFor(
        `${name} to stream`,
        async () =>
          (await query("select 1 as streaming from pg_stat_wal_receiver where status = 'streaming'"))?.["streaming"],
        { withinMs: 30_000 },
      );
    },
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
    pause: async () => child.pause(),
    resume: async () => child.resume(),
    log: async () => child.log(),
    [Symbol.asyncDispose]: () => standby.stop(),
  };
  return standby;
}

async function unprivilegedUser(): Promise<{ uid: number; gid: number } | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const [uid, gid] = await Promise.all(
    ["-u", "-g"].map(async (flag) => Number((await run("id", [flag, "postgres"])).stdout)),
  );
  return { uid: uid ?? 0, gid: gid ?? 0 };
}
