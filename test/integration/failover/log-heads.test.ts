/**
 * `cardea log verify` and `log export` on real servers: they read the newest proven epoch, whichever server comes first
 * in the connection string, and name an old primary that still runs.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { commands } from "../../../src/cli/commands/commands.ts";
import { runCommandLine } from "../../../src/cli/terminal/command-line.ts";
import { openPostgresLog, promotePostgresStandby } from "../../../src/replication/log/index.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { aSession, LogWriter } from "../../support/log-writer.ts";
import { findPostgresBinaries } from "../../support/postgres.ts";
import { withClient } from "../../support/postgres-client.ts";
import { type PostgresGroup, startPostgresGroup } from "../../support/postgres-group.ts";
import type { PostgresServer } from "../../support/service.ts";
import { waitFor } from "../../support/wait-for.ts";

const skip = findPostgresBinaries() === undefined ? "a standby needs local binaries of Postgres" : false;
const folder = new TemporaryFolder("log-heads");
const logs: Awaited<ReturnType<typeof openPostgresLog>>[] = [];
let group: PostgresGroup;
let servers: string;
let database: string;
let zombie: PostgresServer;

before(
  async () => {
    if (skip !== false) return;
    group = await startPostgresGroup({ synchrony: "quorum" });
    servers = await group.newDatabase();
    database = new URL(servers.replace(/@[^/]*/, "@host")).pathname.slice(1);
    zombie = group.primary();
  },
  { timeout: 300_000 },
);
after(async () => {
  await Promise.all(logs.map((log) => log.close()));
  await group?.stop();
  folder.remove();
});

async function openAt(connectionString: string) {
  const log = await openPostgresLog({ connectionString, cluster: "test", writeTimeoutMs: 5_000 });
  logs.push(log);
  return log;
}

async function cardea(...args: readonly string[]) {
  const config = join(folder.path, "cardea.yaml");
  writeFileSync(
    config,
    JSON.stringify({
      services: ["databroker"],
      authenticate_service_url: "http://authenticate.localhost:8080",
      ...{ idp_provider: "oidc", idp_provider_url: "http://idp.localhost:8080" },
      ...{ idp_client_id: "cardea", idp_client_secret: randomBytes(16).toString("hex") },
      broker: { listen: "127.0.0.1:5443", cluster_name: "test" },
      shared_secret: randomBytes(32).toString("base64"),
      databroker_storage_type: "postgres",
      databroker_storage_connection_string: servers,
      nats: { servers: ["nats://127.0.0.1:4222"] },
    }),
    { mode: 0o600 },
  );
  const [out, err]: [string[], string[]] = [[], []];
  const code = await runCommandLine([...args, "-c", config], commands, {
    out: (text) => out.push(text),
    err: (text) => err.push(text),
    ...{ interactive: false, env: {} },
  });
  return { code, out: out.join(""), err: err.join("") };
}

async function append(writer: LogWriter, count: number): Promise<void> {
  for (let n = 0; n < count; n++) assert.equal((await writer.appendEach(aSession())).type, "appended");
}

test("a primary with its standbys is verified without remark about rivals", { skip }, async () => {
  const writer = await LogWriter.open(await openAt(servers));
  await append(writer, 5);
  await group.replicated();
  const { code, out, err } = await cardea("log", "verify");
  assert.deepEqual([code, /rival|not shown/.test(err)], [0, false], err + out);
  assert.match(out, /^[56] events verified/);
  assert.match(err, new RegExp(`read from 127.0.0.1:${zombie.port}, the primary`));
});

test("an old primary that still runs is not believed: the newest epoch is read, the rival is named, and the exit code is 1", {
  skip,
}, async () => {
  await promotePostgresStandby({ connectionString: servers, livingPrimary: "replace", stepTimeoutMs: 60_000 });
  const onNew = group.standbys.map(({ host, port }) => `${host}:${port}`).join(",");
  const log = await openAt(servers.replace(/@[^/]*/, `@${onNew}`));
  const writer = await waitFor("an epoch on the new primary", () => LogWriter.open(log).catch(() => undefined));
  await append(writer, 4);
  const verified = await cardea("log", "verify", "--json");
  assert.equal(verified.code, 1, verified.err);
  const { type, last, source, rivals, doubt } = JSON.parse(verified.out);
  assert.equal(type, "intact");
  assert.ok(last.epoch === 2 && last.position > 6, verified.out);
  assert.notEqual(source, `127.0.0.1:${zombie.port}`);
  assert.deepEqual([rivals.map(({ host }: { host: string }) => host), doubt], [[`127.0.0.1:${zombie.port}`], null]);
  const exported = await cardea("log", "export");
  assert.deepEqual([exported.code, exported.out.trim().split("\n").length], [1, last.position], exported.err);
  assert.match(exported.err, new RegExp(`rival: 127.0.0.1:${zombie.port} acts as a primary`));
});

test("an old primary that refuses writes is named, and is no rival", { skip }, async () => {
  await withClient(zombie.connectionString(database), async (client) => {
    await client.query("alter system set default_transaction_read_only = on");
    await client.query("select pg_reload_conf()");
  });
  const verified = await waitFor("the server to refuse writes", async () => {
    const result = await cardea("log", "verify");
    return result.code === 0 ? result : undefined;
  });
  assert.match(verified.err, new RegExp(`127.0.0.1:${zombie.port} is a former primary and refuses writes`));
});

test("a server that does not answer is named; the standbys show that the one that was read is the newest", {
  skip,
}, async () => {
  await zombie.kill();
  const { code, err } = await cardea("log", "verify");
  assert.equal(code, 0, err);
  assert.match(err, new RegExp(`127.0.0.1:${zombie.port} could not be read`));
});

test("with the old primary alone, the command says that it may not be the newest and exits with 1", {
  skip,
}, async () => {
  for (const standby of group.standbys) await standby.kill();
  await zombie.start();
  const { code, out, err } = await cardea("log", "verify");
  assert.equal(code, 1, err);
  assert.match(out, /^[56] events verified/);
  assert.match(err, /not shown to be the newest: .* did not answer and may hold a newer epoch/);
});
