/**
 * Postgres servers that the log must not use: another log of the same name, an empty server, a foreign schema, and
 * sessions that commit unsafely.
 *
 * None is written to, the error names the server and the remedy, and the log continues on its own server.
 */
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import {
  type EventLog,
  LogRefusedError,
  LogUnavailableError,
  openPostgresLog,
} from "../../../src/replication/log/index.ts";
import { aSession, LogWriter } from "../../support/log-writer.ts";
import { startPostgres } from "../../support/postgres.ts";
import { withClient } from "../../support/postgres-client.ts";
import type { PostgresServer } from "../../support/service.ts";
import { waitFor } from "../../support/wait-for.ts";

let logServer: PostgresServer;
let other: PostgresServer;
let database: string;
let password: string;
const logs: EventLog[] = [];

before(async () => {
  [logServer, other] = await Promise.all([startPostgres(), startPostgres()]);
  password = new URL(logServer.connectionString()).password;
  await sql(other, `alter role postgres password '${password}'`, other.connectionString());
});
after(() => Promise.all([logServer, other].map((server) => server.stop())));
beforeEach(async () => {
  database = new URL(await logServer.newDatabase()).pathname.slice(1);
  await sql(other, `create database ${database}`, at([other], "postgres"));
});
afterEach(async () => {
  await Promise.all(logs.splice(0).map((log) => log.close()));
  for (const server of [logServer, other])
    await sql(server, `drop database ${database} with (force)`, at([server], "postgres"));
});

function at(servers: readonly (PostgresServer | number)[], name = database): string {
  const hosts = servers.map((server) => `127.0.0.1:${typeof server === "number" ? server : server.port}`);
  return `postgres://postgres:${password}@${hosts.join()}/${name}`;
}

async function sql(
  server: PostgresServer,
  text: string,
  connectionString = at([server]),
): Promise<Record<string, unknown>[]> {
  return withClient(connectionString, async (client) => (await client.query(text)).rows);
}

async function open(connectionString: string, parts: object = {}): Promise<EventLog> {
  const log = await openPostgresLog({ connectionString, cluster: "test", connectTimeoutMs: 2_000, ...parts });
  logs.push(log);
  return log;
}

const schemas = async (server: PostgresServer): Promise<unknown> =>
  (await sql(server, "select count(*)::int as n from pg_namespace where nspname = 'cardea'"))[0]?.["n"];

test("no log is created on an empty server while another named server is unreachable or has the log", async () => {
  await assert.rejects(open(at([1, logServer])), (error: Error) => {
    assert.ok(error instanceof LogUnavailableError);
    assert.match(
      error.message,
      /has no log yet, and 127\.0\.0\.1:1 did not answer .* only after every server .* has answered/,
    );
    return true;
  });
  assert.equal(await schemas(logServer), 0, "no schema was created");
  const writer = await LogWriter.open(await open(at([logServer])));
  await writer.appendEach(aSession());
  await writer.beat();
  const log = await open(at([other, logServer]));
  assert.equal(
    (await log.observe()).head.position,
    2,
    "the log is found on the second server, though the first is empty",
  );
  assert.equal(await schemas(other), 0);
});

test("a server with another log of the same name is neither read nor written once the log is known, and the error names it", async () => {
  const writer = await LogWriter.open(await open(at([logServer])));
  await writer.appendEach(aSession());
  await writer.beat();
  const foreign = await LogWriter.open(await open(at([other])));
  await foreign.appendEach(aSession(), aSession(), aSession());
  await foreign.beat();
  const before = await sql(other, "select epoch, pos, beat from cardea.log_head");

  const log = await open(at([logServer, other]));
  assert.equal((await log.observe()).head.position, 2);
  await logServer.kill();
  try {
    await waitFor("the other server to be refused by name", async () => {
      const error = await log.observe().then(
        () => undefined,
        (problem: unknown) => problem,
      );
      return error instanceof LogRefusedError && error.message.includes(`127.0.0.1:${other.port} holds another log`);
    });
    const { epoch } = await foreign.log.observe();
    assert.equal((await log.openEpoch({ ...(await request(epoch)) })).type, "unavailable");
    assert.deepEqual(
      await sql(other, "select epoch, pos, beat from cardea.log_head"),
      before,
      "the other server was written to",
    );
  } finally {
    await logServer.start();
  }
  await waitFor("the log to be read again", async () => (await log.observe()).head.position === 2);
});

async function request(epoch: number) {
  const { openEpochRequest } = await import("../../support/log-writer.ts");
  return openEpochRequest(epoch as never);
}

test("an empty server in place of the log's server is refused and stays empty", async () => {
  const writer = await LogWriter.open(await open(at([logServer])));
  await writer.appendEach(aSession());
  const log = await open(at([logServer, other]));
  await sql(logServer, "drop schema cardea cascade");
  await assert.rejects(log.observe());
  await sql(logServer, "alter system set default_transaction_read_only = on");
  await sql(logServer, "select pg_reload_conf()");
  try {
    await waitFor("a refusal", () =>
      log.observe().then(
        () => false,
        (error: Error) => /no cluster|cannot be used|another|empty/.test(error.message),
      ),
    );
    assert.equal(await schemas(other), 0);
  } finally {
    await withClient(at([logServer]), async (client) => {
      await client.query("set default_transaction_read_only = off");
      await client.query("alter system reset default_transaction_read_only");
      await client.query("select pg_reload_conf()");
    });
  }
});

for (const [what, text] of [
  [
    "tables of its own",
    "create schema cardea; create table cardea.event (id int); insert into cardea.event values (1)",
  ],
  ["a version table of its own", "create schema cardea; create table cardea.schema_version (number int)"],
] as const) {
  test(`a foreign schema of the same name with ${what} is refused and left unchanged`, async () => {
    await sql(logServer, text);
    const before = await sql(
      logServer,
      "select relname::text from pg_class where relnamespace = 'cardea'::regnamespace order by 1",
    );
    await assert.rejects(open(at([logServer])), (error: Error) => {
      assert.ok(error instanceof LogRefusedError);
      assert.match(
        error.message,
        /schema cardea of Postgres at 127\.0\.0\.1:\d+ was not created by Cardea .* Name another database/,
      );
      return true;
    });
    assert.deepEqual(
      await sql(logServer, "select relname::text from pg_class where relnamespace = 'cardea'::regnamespace order by 1"),
      before,
    );
  });
}

test("a lowered synchronous_commit is refused, whether set for the role, the database or the session", async () => {
  const settings = {
    role: ["alter role postgres set synchronous_commit = off", "alter role postgres reset synchronous_commit"],
    database: [`alter database ${database} set synchronous_commit = local`, `alter database ${database} reset all`],
  };
  for (const [what, [set = "", reset = ""]] of Object.entries(settings)) {
    await sql(logServer, set);
    await assert.rejects(
      open(at([logServer])),
      /synchronous_commit is (off|local): acknowledged events may be lost; set it to on/,
      what,
    );
    await sql(logServer, reset);
  }
  const options = encodeURIComponent("-c synchronous_commit=off");
  await assert.rejects(open(`${at([logServer])}?options=${options}`), /synchronous_commit is off/, "the session");
  const keyValueString = `host=127.0.0.1 port=${logServer.port} user=postgres password=${password} dbname=${database}`;
  await assert.rejects(open(`${keyValueString} options='-c synchronous_commit=off'`), /synchronous_commit is off/);
  const log = await open(keyValueString);
  const writer = await LogWriter.open(log);
  await sql(logServer, "alter role postgres set synchronous_commit = remote_write");
  assert.equal((await writer.appendEach(aSession())).type, "appended", "an older session keeps its setting");
  await sql(logServer, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'cardea'");
  await waitFor("new sessions to be refused", async () => {
    const outcome = await writer.fork(log).beat();
    return outcome.type === "unavailable" && /remote_write/.test(String(outcome.cause));
  });
  await sql(logServer, "alter role postgres reset all");
});

test("a log opened to wait for its server logs that it waits, and works once the server is up", async () => {
  const lines: string[] = [];
  const logger = {
    info: (_: object, text: string) => lines.push(text),
    warn: (_: object, text: string) => lines.push(text),
  };
  await logServer.kill();
  const log = await open(at([logServer]), { whenUnavailable: "wait", logger });
  await assert.rejects(log.observe(), LogUnavailableError);
  await assert.rejects(open(at([logServer])), LogUnavailableError);
  await logServer.start();
  const writer = await waitFor("the log to be created", () => LogWriter.open(log).catch(() => undefined));
  assert.equal((await writer.appendEach(aSession())).type, "appended");
  assert.match(lines.join("\n"), /not available yet; waiting[\s\S]*Postgres is available/);
});
