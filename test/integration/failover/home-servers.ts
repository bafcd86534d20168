/**
 * Home servers: three regions with one Postgres server each, the primary in the east, and the command
 * `cardea region move-home` as a process of its own. No broker runs, so a move that is complete says that none leads.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { formatLink, type Link } from "../../../src/events/index.ts";
import { type EventLog, openPostgresLog, readServerHeads, verifyLog } from "../../../src/replication/log/index.ts";
import { Child, TemporaryFolder } from "../../support/child.ts";
import { freePorts } from "../../support/free-port.ts";
import { aSession, LogWriter } from "../../support/log-writer.ts";
import { withClient } from "../../support/postgres-client.ts";
import { type PostgresGroup, type Synchrony, startPostgresGroup } from "../../support/postgres-group.ts";
import type { PostgresStandby } from "../../support/postgres-standby.ts";
import { mainFile } from "../../support/program.ts";
import type { PostgresServer } from "../../support/service.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fasterStart } from "../cluster/cluster-process.ts";

export type MoveRun = Readonly<{ child: Child; output: () => string; exit: () => Promise<number | null> }>;
/** `code` is null for a run that was killed. */
export type MoveResult = Readonly<{ code: number | null; output: string }>;

/** The last line of a run that has done its part. */
export const isComplete = /no broker of \w+ leads yet/;
const killFile = join(import.meta.dirname, "kill-at-change.ts");

export class HomeServers {
  readonly group: PostgresGroup;
  readonly database: string;
  /** The connection string of all servers. */
  readonly servers: string;
  readonly #folder = new TemporaryFolder("move-home");
  readonly #configFile: string;
  readonly #logs: EventLog[] = [];
  #runs = 0;

  private constructor(group: PostgresGroup, servers: string, closedPort: number) {
    this.group = group;
    this.servers = servers;
    this.database = new URL(servers.replace(/@[^/]*/, "@host")).pathname.slice(1);
    this.#configFile = join(this.#folder.path, "broker.yaml");
    const home = (region: string, server: PostgresServer) => ({
      ...{ region, urls: [`http://127.0.0.1:${closedPort}`], postgres: [`127.0.0.1:${server.port}`] },
    });
    const config = {
      ...{ services: ["databroker"], region: "east" },
      authenticate_service_url: "http://authenticate.localhost:8080",
      broker: {
        ...{ listen: "127.0.0.1:5443", cluster_name: "test" },
        homes: [home("east", this.east), home("us", this.us), home("ap", this.ap)],
      },
      shared_secret: randomBytes(32).toString("base64"),
      databroker_storage_type: "postgres",
      databroker_storage_connection_string: servers,
    };
    writeFileSync(this.#configFile, JSON.stringify(config), { mode: 0o600 });
  }

  /** @returns also a writer that has appended some events, which all servers have */
  static async start(
    synchrony: Synchrony = "quorum",
    settings: Readonly<Record<string, string>> = {},
  ): Promise<Readonly<{ homes: HomeServers; writer: LogWriter }>> {
    const group = await startPostgresGroup({ synchrony, settings });
    const [closedPort = 1] = await freePorts(1);
    const homes = new HomeServers(group, await group.newDatabase(), closedPort);
    const writer = await LogWriter.open(await homes.openAt(homes.servers));
    for (let n = 0; n < 5; n++) await append(writer);
    await group.replicated();
    return { homes, writer };
  }

  async stop(): Promise<void> {
    await Promise.all(this.#logs.splice(0).map((log) => log.close()));
    await this.group.stop();
    this.#folder.remove();
  }

  /** The server of the first primary. */
  get east(): PostgresServer {
    return this.group.primary();
  }
  get us(): PostgresStandby {
    return this.group.standbys[0] ?? assert.fail();
  }
  get ap(): PostgresStandby {
    return this.group.standbys[1] ?? assert.fail();
  }

  /** Runs SQL as a superuser. @returns the first row */
  async at(server: PostgresServer, text: string): Promise<Record<string, unknown> | undefined> {
    return withClient(server.connectionString(this.database), async (client) => (await client.query(text)).rows[0]);
  }

  /** How many standbys receive from a server. */
  async following(server: PostgresServer = this.us): Promise<number> {
    const text = "select count(*)::int as n from pg_stat_replication where state = 'streaming'";
    return Number((await this.at(server, text))?.["n"]);
  }

  async openAt(connectionString: string): Promise<EventLog> {
    const log = await openPostgresLog({ connectionString, cluster: "test", writeTimeoutMs: 5_000 });
    this.#logs.push(log);
    return log;
  }

  /** Opens a new epoch on a server once it accepts writes. */
  async writerAt(server: PostgresServer): Promise<Readonly<{ log: EventLog; writer: LogWriter }>> {
    const log = await this.openAt(server.connectionString(this.database));
    const what = `an epoch at ${server.port}`;
    const opened = waitFor(what, () => LogWriter.open(log).catch(() => undefined), { withinMs: 60_000 });
    return { log, writer: await opened };
  }

  /** Starts the command. @param killAfter kills it after so many statements that change a server */
  launch(args: readonly string[], limits: Readonly<{ killAfter?: number }> = {}): Promise<MoveRun> {
    return this.#start(["region", "move-home", ...args, "--timeout", "0s", "--despite-brokers"], limits);
  }

  async #start(args: readonly string[], { killAfter }: Readonly<{ killAfter?: number }>): Promise<MoveRun> {
    this.#runs += 1;
    const logFile = join(this.#folder.path, `run-${this.#runs}.log`);
    const { username, password } = new URL(this.east.connectionString());
    const preload = killAfter === undefined ? [] : ["--import", killFile];
    const child = await Child.start({
      command: process.execPath,
      args: ["--no-warnings", ...preload, mainFile, ...args, "-c", this.#configFile, "--user", username],
      logFile,
      env: {
        ...{ ...fasterStart, PGPASSWORD: decodeURIComponent(password) },
        ...(killAfter === undefined ? {} : { KILL_AFTER_CHANGES: String(killAfter) }),
      },
    });
    const output = (): string => (existsSync(logFile) ? readFileSync(logFile, "utf8") : "");
    return { child, output, exit: async () => (await child.exited).code };
  }

  /** Runs another command of the same configuration. */
  async run(...args: readonly string[]): Promise<MoveResult> {
    const run = await this.#start(args, {});
    return { code: await run.exit(), output: run.output() };
  }

  async move(...args: readonly string[]): Promise<MoveResult> {
    const run = await this.launch(args);
    return { code: await run.exit(), output: run.output() };
  }

  /** Kills the command after so many statements that change a server. */
  async moveUntil(killAfter: number, ...args: readonly string[]): Promise<MoveResult> {
    const run = await this.launch(args, { killAfter });
    return { code: await run.exit(), output: run.output() };
  }

  heads() {
    return readServerHeads({ connectionString: this.servers, cluster: "test" });
  }

  /** The us have the primary, it accepts writes, and everything that was acknowledged is there. */
  async assertMoved(before: LogWriter, acknowledged: Link, to: PostgresServer = this.us): Promise<void> {
    const { newest } = await this.heads();
    assert.equal(newest?.host, `127.0.0.1:${to.port}`);
    const { log, writer } = await this.writerAt(to);
    assert.ok(writer.epoch > before.epoch);
    await append(writer);
    const held = await log.linkAt(acknowledged.position);
    assert.equal(held && formatLink(held), formatLink(acknowledged), "an acknowledged event is lost");
    assert.equal((await verifyLog(log)).type, "intact");
  }
}

export async function append(writer: LogWriter): Promise<Link> {
  const outcome = await writer.appendEach(aSession());
  assert.ok(outcome.type === "appended", outcome.type);
  return outcome.last;
}
