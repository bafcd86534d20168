/**
 * Postgres backup: a base backup and the archived WAL of a test server, and servers restored from them to a named
 * point.
 *
 * It follows the steps for an operator in docs/backup.md, with the binaries of this machine.
 */
import { execFile } from "node:child_process";
import { chownSync, cpSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { Child, TemporaryFolder } from "./child.ts";
import { onFreePort } from "./free-port.ts";
import { findPostgresBinaries, startPostgres } from "./postgres.ts";
import { withClient } from "./postgres-client.ts";
import type { PostgresServer } from "./service.ts";
import { waitFor } from "./wait-for.ts";

const run = promisify(execFile);

export type ArchivedPostgres = PostgresServer &
  Readonly<{
    /** Copies the current state of the server into a new folder. @returns the folder */
    baseBackup(): Promise<string>;
    /**
     * Creates a point to which the server can be restored. When it returns, the WAL before the point is archived.
     * @param at connection string of the server; absent: the first server
     */
    restorePoint(name: string, at?: string): Promise<void>;
    /** The folder in which the servers archive their WAL. */
    archive: string;
    /** Creates a folder that the servers can read. */
    newFolder(name: string): string;
    /** Starts a server on a data folder that was restored by hand. It archives its WAL too. */
    serve(data: string, port: number): Promise<Pick<RestoredPostgres, "stop">>;
    /** Starts a new server from the backup and the archived WAL up to that point. */
    restored(backup: string, point: string): Promise<RestoredPostgres>;
    binaries: string;
  }>;
export type RestoredPostgres = Readonly<{ connectionString: string; stop(): Promise<void> }>;

export async function startArchivedPostgres(): Promise<ArchivedPostgres> {
  const binaries = findPostgresBinaries();
  if (binaries === undefined) throw new Error("a backup needs local binaries of Postgres");
  const folder = new TemporaryFolder("postgres-archive");
  const archive = join(folder.path, "wal");
  const user = await unprivilegedUser();
  mkdirSync(archive);
  if (user !== undefined) for (const path of [folder.path, archive]) chownSync(path, user.uid, user.gid);
  const archiving = { archive_mode: "on", archive_command: `test ! -f ${archive}/%f && cp %p ${archive}/%f` };
  const server = await startPostgres({ settings: archiving });
  const query = (text: string, at = server.connectionString()) =>
    withClient(at, async (c) => (await c.query(text)).rows[0]);
  const restores: Pick<RestoredPostgres, "stop">[] = [];
  let backups = 0;

  return {
    ...server,
    binaries,
    async baseBackup() {
      backups += 1;
      const path = join(folder.path, `backup-${backups}`);
      const flags = ["--checkpoint=fast", "--no-sync", "--wal-method=none"];
      await run(
        join(binaries, "pg_basebackup"),
        [`--pgdata=${path}`, `--dbname=${server.connectionString()}`, ...flags],
        {
          ...user,
          cwd: folder.path,
        },
      );
      return path;
    },
    archive,
    newFolder(name) {
      const path = join(folder.path, name);
      mkdirSync(path);
      if (user !== undefined) chownSync(path, user.uid, user.gid);
      return path;
    },
    async serve(data, port) {
      if (user !== undefined) await run("chown", ["-R", `${user.uid}:${user.gid}`, data]);
      await run("chmod", ["700", data]);
      const child = await launch(data, port, archiving);
      const served = { stop: async () => void (await child.end("SIGINT")) };
      restores.push(served);
      return served;
    },
    async restorePoint(name, at) {
      await query(`select pg_create_restore_point('${name}')`, at);
      const file = (await query("select pg_walfile_name(pg_switch_wal()) as file", at))?.["file"];
      await waitFor(
        "the WAL to be archived",
        async () => (await query("select last_archived_wal as last from pg_stat_archiver", at))?.["last"] >= file,
        { withinMs: 30_000 },
      );
    },
    async restored(backup, point) {
      const data = `${backup}-at-${point}`;
      cpSync(backup, data, { recursive: true });
      const conf = [
        `restore_command = 'cp ${archive}/%f %p'`,
        `recovery_target_name = '${point}'`,
        "recovery_target_action = 'promote'",
        "archive_mode = 'off'",
      ];
      writeFileSync(join(data, "postgresql.auto.conf"), `${conf.join("\n")}\n`);
      writeFileSync(join(data, "recovery.signal"), "");
      if (user !== undefined) await run("chown", ["-R", `${user.uid}:${user.gid}`, data]);
      await run("chmod", ["700", data]);
      const { child, port } = await onFreePort(async (port) => ({ child: await launch(data, port), port }));
      const url = new URL(server.connectionString());
      url.port = String(port);
      await waitFor(
        "the restored server to be writable",
        async () => {
          if (!child.running) throw new Error(child.log());
          return withClient(
            url.href,
            async (c) => (await c.query("select not pg_is_in_recovery() as primary")).rows[0]?.["primary"],
          ).catch(() => false);
        },
        { withinMs: 60_000 },
      );
      const restored = { connectionString: url.href, stop: async () => void (await child.end("SIGINT")) };
      restores.push(restored);
      return restored;
    },
    async stop() {
      for (const one of restores) await one.stop();
      await server.stop();
      folder.remove();
    },
  };

  async function launch(data: string, port: number, settings: Readonly<Record<string, string>> = {}): Promise<Child> {
    const all = {
      listen_addresses: "127.0.0.1",
      port,
      unix_socket_directories: "",
      fsync: "off",
      max_connections: 200,
      ...settings,
    };
    return Child.start({
      command: join(binaries as string, "postgres"),
      args: ["-D", data, ...Object.entries(all).flatMap(([key, value]) => ["-c", `${key}=${value}`])],
      logFile: join(folder.path, "restored.log"),
      cwd: folder.path,
      ...(user !== undefined && { user }),
    });
  }
}

/** The user that runs Postgres, because Postgres refuses to run as root; undefined: the current user. */
async function unprivilegedUser(): Promise<{ uid: number; gid: number } | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const [uid, gid] = await Promise.all(
    ["-u", "-g"].map(async (flag) => Number((await run("id", [flag, "postgres"])).stdout)),
  );
  return { uid: uid ?? 0, gid: gid ?? 0 };
}
