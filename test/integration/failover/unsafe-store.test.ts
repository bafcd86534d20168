/**
 * A Postgres that becomes unusable while brokers and nodes run: its disk is full, it commits unsafely, or it holds a
 * foreign schema.
 *
 * Nothing is written or read. The broker logs the problem and the remedy, nodes serve what they had applied, and after
 * the repair the log continues.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { promisify } from "node:util";
import { type Link, sameLink } from "../../../src/events/index.ts";
import { openPostgresLog, verifyLog } from "../../../src/replication/log/index.ts";
import { asked, cluster, createSession, revoke } from "../../broker/support.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { startPostgres } from "../../support/postgres.ts";
import { withClient } from "../../support/postgres-client.ts";
import type { PostgresServer } from "../../support/service.ts";
import { waitFor } from "../../support/wait-for.ts";
import { InProcessCluster, submitCommand, type TestBroker, waitToLead } from "./in-process.ts";

const run = promisify(execFile);
const timing = { deltaMs: 1_000, windowMs: 60_000 };
let server: PostgresServer;
let testCluster: InProcessCluster;
let database: string;
before(async () => {
  server = await startPostgres();
});
after(() => server.stop());
beforeEach(async () => {
  database = await server.newDatabase();
  testCluster = new InProcessCluster(database, timing);
});
afterEach(() => testCluster.stop());

const sql = (text: string) => withClient(database, async (client) => (await client.query(text)).rows);
const endSessions = () =>
  sql(
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'cardea' and pid <> pg_backend_pid()",
  );

async function submit(member: TestBroker, command: Parameters<typeof asked>[0]): Promise<Link | string> {
  const role = command.type === "createSession" ? "authenticate" : "operator";
  const result = await member.broker.databroker(role).submit(asked(command));
  return result.type === "done" ? result.link : `${result.type}: ${result.message}`;
}

async function startCluster() {
  const lines: string[] = [];
  const record = (facts: object, text: string): void => {
    const { err, reason } = facts as { err?: Error; reason?: unknown };
    lines.push(`${text} ${String(reason ?? "")} ${err?.message ?? ""} ${String(err?.cause ?? "")}`);
  };
  const member = await testCluster.broker("broker-1", {
    logger: { debug: record, info: record, warn: record, error: record },
  });
  await waitToLead(member);
  const node = await testCluster.node("node", [member]);
  await submitCommand(member, createSession("kept", "alice"));
  await waitFor("it to permit", () => node.permits("kept"), { withinMs: 20_000 });
  return { member, node, lines };
}

const faults: readonly (readonly [string, RegExp, () => Promise<unknown>, () => Promise<unknown>])[] = [
  [
    "sessions commit without waiting",
    /synchronous_commit is off: acknowledged events may be lost; set it to on/,
    () => sql("alter role postgres set synchronous_commit = off"),
    () => sql("alter role postgres reset synchronous_commit"),
  ],
  [
    "a foreign schema has the name of the log's schema",
    /schema cardea of Postgres at 127\.0\.0\.1:\d+ (was not created by Cardea .* Name another database|holds the log of no cluster.* Name the database of this cluster)/,
    async () => {
      await sql("alter schema cardea rename to ours");
      await sql("create schema cardea; create table cardea.event (id int); insert into cardea.event values (1)");
    },
    async () => {
      await sql("drop schema cardea cascade");
      await sql("alter schema ours rename to cardea");
    },
  ],
  [
    "the schema is of a newer build",
    /schema cardea of Postgres at 127\.0\.0\.1:\d+ has version 10\d\d.* Run the newer build/,
    () => sql("update cardea.schema_version set version = version + 1000, works_with = works_with + 1000"),
    () => sql("update cardea.schema_version set version = version - 1000, works_with = works_with - 1000"),
  ],
];

test("on a full disk commands are refused and decisions continue, and with free space the log continues", {
  skip: process.getuid?.() !== 0 ? "mounting a small disk needs root" : false,
}, async (t) => {
  using folder = new TemporaryFolder("small-disk");
  const disk = join(folder.path, "disk");
  const filler = join(disk, "filler");
  mkdirSync(disk);
  await run("mount", ["-t", "tmpfs", "-o", "size=24m,mode=0777", "tmpfs", disk]);
  try {
    mkdirSync(join(disk, "pg"));
    await run("chown", ["-R", "postgres", join(disk, "pg")]);
    await run("chmod", ["755", folder.path]);
    const space = `small_${Date.now()}`;
    await sql(`create tablespace ${space} location '${join(disk, "pg")}'`);
    await sql(`alter database ${new URL(database).pathname.slice(1)} set default_tablespace = ${space}`);
    const { member, node, lines } = await startCluster();
    await run("dd", ["if=/dev/zero", `of=${filler}`, "bs=4096", "count=100000"]).catch(() => {});

    let recorded = 0;
    const answer = await waitFor(
      "a command to be refused",
      async () => {
        const outcome = await submit(member, createSession(`more-${recorded}`, `person-${recorded}`));
        if (typeof outcome === "string") return outcome;
        recorded += 1;
        return undefined;
      },
      { withinMs: 60_000, everyMs: 0 },
    );
    t.diagnostic(`${recorded} more sessions had room; then ${answer}`);
    assert.match(answer, /^unavailable: /);
    const line = await waitFor("the broker to log the problem", () =>
      lines.find((each) => /No space left on device|disk is full/.test(each)),
    ).catch((cause: unknown) => {
      throw new Error(lines.slice(-12).join("\n"), { cause });
    });
    t.diagnostic(line.slice(0, 400));
    const { applied } = node.replica;
    assert.ok(node.permits("kept"), "the node serves what it had applied");
    assert.equal(
      node.replica.projection.session(`more-${recorded}` as never),
      undefined,
      "the refused session is in no projection",
    );

    rmSync(filler);
    const link = await waitFor(
      "commands to succeed again",
      async () => {
        const outcome = await submit(member, revoke("kept"));
        return typeof outcome === "string" ? undefined : outcome;
      },
      { withinMs: 60_000 },
    );
    assert.ok(link.position > applied.position);
    await waitFor("the node to apply it", () => node.replica.applied.position >= link.position, { withinMs: 30_000 });
    assert.equal(node.permits("kept"), false);
    assert.equal((await verifyLog(member.log)).type, "intact");
  } finally {
    await testCluster.stop();
    await withClient(server.connectionString(), async (client) => {
      await client.query(`drop database ${new URL(database).pathname.slice(1)} with (force)`);
    });
    await run("umount", ["-l", disk]);
  }
});

for (const [what, message, inject, repair] of faults) {
  test(`when ${what}, commands are refused with the reason, decisions continue, and after the repair the log continues`, async (t) => {
    const { member, node, lines } = await startCluster();
    const { head } = await member.log.observe();
    await inject();
    try {
      await endSessions();
      const answer = await waitFor(
        "a command to be refused",
        async () => {
          const outcome = await submit(member, revoke("kept"));
          return typeof outcome === "string" ? outcome : `recorded at ${outcome.position}`;
        },
        { withinMs: 30_000 },
      );
      t.diagnostic(answer);
      assert.match(answer, /^unavailable: /);
      const line = await waitFor("the broker to log the problem", () => lines.find((each) => message.test(each)), {
        withinMs: 20_000,
      }).catch((cause: unknown) => {
        throw new Error(lines.slice(-12).join("\n"), { cause });
      });
      t.diagnostic(line.slice(0, 400));
      assert.ok(node.permits("kept"), "the node serves what it had applied");
      await waitFor("the broker to report that it is not ready", () => !member.broker.ready().ready);
      await assert.rejects(openPostgresLog({ connectionString: database, cluster, connectTimeoutMs: 500 }), message);
    } finally {
      await repair();
      await endSessions();
    }
    const link = await waitFor(
      "commands to succeed again",
      async () => {
        const outcome = await submit(member, revoke("kept"));
        return typeof outcome === "string" ? undefined : outcome;
      },
      { withinMs: 60_000 },
    );
    assert.ok(link.position > head.position);
    await waitFor(
      "the node to apply it",
      () => sameLink(node.replica.applied, link) || node.replica.applied.position > link.position,
      {
        withinMs: 30_000,
      },
    );
    assert.equal(node.permits("kept"), false);
    assert.equal((await verifyLog(member.log)).type, "intact");
  });
}
