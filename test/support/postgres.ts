/**
 * Postgres for tests: a private server on a free loopback port.
 *
 * - It runs the binaries of this machine, or a container if there are none (containers.ts).
 * - It accepts only TCP connections with a random password.
 * - With `fsync` off, the default, a power cut may lose data. A killed process loses nothing.
 */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chownSync, existsSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { Child, TemporaryFolder } from "./child.ts";
import { onFreePort } from "./free-port.ts";
import { newDatabase, withClient } from "./postgres-client.ts";
import type { PostgresOptions, PostgresServer } from "./service.ts";
import { waitFor } from "./wait-for.ts";

const run = promisify(execFile);
const oldestVersion = 15;

/** Starts a server with the newest local binaries, or in a container if there are none. */
export async function startPostgres(options: PostgresOptions = {}): Promise<PostgresServer> {
  const binaries = findPostgresBinaries();
  if (binaries !== undefined) return startLocalPostgres(binaries, options);
  const { startPostgresContainer } = await import("./containers.ts");
  return startPostgresContainer(options);
}

/** @returns the folder that holds `postgres` and `initdb`: CARDEA_POSTGRES_BIN, or the newest version found */
export function findPostgresBinaries(): string | undefined {
  const chosen = process.env["CARDEA_POSTGRES_BIN"];
  if (chosen !== undefined) return chosen;
  const packaged = [
    ...versionFolders("/usr/lib/postgresql", /^(\d+)$/),
    ...versionFolders("/opt/homebrew/opt", /^postgresql@(\d+)$/),
  ];
  packaged.sort((a, b) => b.version - a.version);
  return [...packaged.map((each) => each.folder), ...(process.env["PATH"] ?? "").split(delimiter)].find(
    (folder) => existsSync(join(folder, "postgres")) && existsSync(join(folder, "initdb")),
  );
}

function versionFolders(parent: string, pattern: RegExp): { version: number; folder: string }[] {
  if (!existsSync(parent)) return [];
  return readdirSync(parent)
    .map((name) => ({ version: Number(pattern.exec(name)?.[1] ?? 0), folder: join(parent, name, "bin") }))
    .filter((each) => each.version >= oldestVersion);
}

async function startLocalPostgres(binaries: string, options: PostgresOptions): Promise<PostgresServer> {
  const folder = new TemporaryFolder("postgres");
  const dataFolder = join(folder.path, "data");
  const logFile = join(folder.path, "postgres.log");
  const passwordFile = join(folder.path, "password");
  const password = randomBytes(12).toString("hex");
  const user = await unprivilegedUser();
  writeFileSync(passwordFile, password, { mode: 0o600 });
  if (user !== undefined) for (const path of [folder.path, passwordFile]) chownSync(path, user.uid, user.gid);

  const flags = ["--auth=scram-sha-256", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync"];
  await run(join(binaries, "initdb"), [`--pgdata=${dataFolder}`, `--pwfile=${passwordFile}`, ...flags], {
    ...user,
    cwd: folder.path,
  });

  let { child, port } = await onFreePort(async (port) => ({ child: await launch(port), port }));

  async function launch(port: number): Promise<Child> {
    const settings: Record<string, string> = {
      listen_addresses: "127.0.0.1",
      port: String(port),
      unix_socket_directories: "",
      fsync: "off",
      max_connections: "200",
      ...options.settings,
    };
    const started = await Child.start({
      command: join(binaries, "postgres"),
      args: ["-D", dataFolder, ...Object.entries(settings).flatMap(([key, value]) => ["-c", `${key}=${value}`])],
      logFile,
      cwd: folder.path,
      ...(user !== undefined && { user }),
    });
    await waitFor(`Postgres on port ${port}`, () => answers(started, connectionString(port, "postgres")), {
      withinMs: 30_000,
    });
    if (!started.running) throw new Error(`Postgres did not start:\n${started.log()}`);
    return started;
  }

  function connectionString(port: number, database: string): string {
    return `postgres://postgres:${password}@127.0.0.1:${port}/${database}`;
  }

  const server: PostgresServer = {
    host: "127.0.0.1",
    port,
    connectionString: (database = "postgres") => connectionString(port, database),
    newDatabase: () => newDatabase(server),
    async stop() {
      await child.end("SIGINT");
      folder.remove();
    },
    async kill() {
      await child.kill();
    },
    async start() {
      if (!child.running) child = await launch(port);
    },
    async restart() {
      await child.end("SIGINT");
      child = await launch(port);
    },
    async copyFrom(source) {
      await child.end("SIGINT");
      await takeBaseBackup({ binaries, dataFolder, folder: folder.path, source, user });
      child = await launch(port);
    },
    pause: async () => child.pause(),
    resume: async () => child.resume(),
    log: async () => child.log(),
    [Symbol.asyncDispose]: () => server.stop(),
  };
  return server;
}

export type UnprivilegedUser = Readonly<{ uid: number; gid: number }>;

/** Fills a data folder with a copy of a running server's, as its standby. What was in the folder is gone. */
export async function takeBaseBackup({
  binaries,
  dataFolder,
  folder,
  source,
  user,
}: Readonly<{
  binaries: string;
  dataFolder: string;
  folder: string;
  /** Connection settings, as in `primary_conninfo`. */
  source: string;
  user: UnprivilegedUser | undefined;
}>): Promise<void> {
  rmSync(dataFolder, { recursive: true, force: true });
  const flags = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync"];
  await run(join(binaries, "pg_basebackup"), [`--pgdata=${dataFolder}`, `--dbname=${source}`, ...flags], {
    ...user,
    cwd: folder,
  });
}

/** Whether the wait is over: the server answers, or its process has ended. */
async function answers(child: Child, connectionString: string): Promise<boolean> {
  if (!child.running) return true;
  await withClient(connectionString, (client) => client.query("select 1"));
  return true;
}

/** The user that runs Postgres, because Postgres refuses to run as root; undefined: the current user. */
export async function unprivilegedUser(): Promise<UnprivilegedUser | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const [uid, gid] = await Promise.all(
    ["-u", "-g"].map(async (flag) => Number((await run("id", [flag, "postgres"])).stdout)),
  );
  return { uid: uid ?? 0, gid: gid ?? 0 };
}
