/**
 * `cardea postgres promote` on real servers: what it refuses, and the state of the old primary and of the log after a
 * promotion.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, test } from "node:test";
import { commands } from "../../../src/cli/commands/commands.ts";
import { runCommandLine } from "../../../src/cli/terminal/command-line.ts";
import {
  openPostgresLog,
  type PromoteOptions,
  PromotionFailedError,
  PromotionRefusedError,
  promotePostgresStandby,
  verifyLog,
} from "../../../src/replication/log/index.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { aSession, LogWriter, openEpochRequest } from "../../support/log-writer.ts";
import { findPostgresBinaries } from "../../support/postgres.ts";
import { withClient } from "../../support/postgres-client.ts";
import { type PostgresGroup, type Synchrony, startPostgresGroup } from "../../support/postgres-group.ts";
import type { PostgresServer } from "../../support/service.ts";
import { waitFor } from "../../support/wait-for.ts";

const skip = findPostgresBinaries() === undefined ? "a standby needs local binaries of Postgres" : false;
let group: PostgresGroup;
let servers: string;
let database: string;

async function begin(synchrony: Synchrony = "quorum"): Promise<LogWriter> {
  group = await startPostgresGroup({ synchrony });
  servers = await group.newDatabase();
  database = new URL(group.primary().connectionString(servers.slice(servers.lastIndexOf("/") + 1))).pathname.slice(1);
  const writer = await LogWriter.open(await openLogAt(servers));
  for (let n = 0; n < 5; n++) assert.equal((await writer.appendEach(aSession())).type, "appended");
  await group.replicated();
  return writer;
}
const logs: Awaited<ReturnType<typeof openPostgresLog>>[] = [];
async function openLogAt(connectionString: string, { writeTimeoutMs = 5_000 } = {}) {
  const log = await openPostgresLog({ connectionString, cluster: "test", connectTimeoutMs: 2_000, writeTimeoutMs });
  logs.push(log);
  return log;
}
afterEach(async () => {
  await Promise.all(logs.splice(0).map((log) => log.close()));
  await group?.stop();
});

const at = (server: PostgresServer, text: string) =>
  withClient(server.connectionString(database), async (client) => (await client.query(text)).rows[0]);
const promote = (parts: Partial<PromoteOptions> = {}) =>
  promotePostgresStandby({ connectionString: servers, connectTimeoutMs: 4_000, stepTimeoutMs: 60_000, ...parts });
const streaming = async (server: PostgresServer): Promise<number> =>
  Number((await at(server, "select count(*)::int as n from pg_stat_replication where state = 'streaming'"))?.["n"]);

test("a primary that answers is not replaced without consent, and no server is changed", { skip }, async () => {
  const writer = await begin();
  await assert.rejects(promote(), (error: Error) => {
    assert.ok(error instanceof PromotionRefusedError);
    assert.match(error.message, /answers as a primary/);
    return true;
  });
  assert.equal(await streaming(group.primary()), 2);
  assert.equal((await writer.appendEach(aSession())).type, "appended");
});

test("a promotion is refused, without any change, while a standby that may hold acknowledged commits is unreachable", {
  skip,
}, async () => {
  const writer = await begin();
  const [one, two] = group.standbys;
  assert.ok(one !== undefined && two !== undefined);
  two.pause();
  try {
    await group.kill();
    await assert.rejects(promote({ oldPrimary: "pg_1" }), (error: Error) => {
      assert.ok(error instanceof PromotionRefusedError);
      assert.match(error.message, new RegExp(`pg_3 may hold .*${two.port}`));
      return true;
    });
    assert.equal((await at(one, "select pg_is_in_recovery() as standby"))?.["standby"], true);
    assert.doesNotMatch(String((await at(one, "show primary_conninfo"))?.["primary_conninfo"]), /detached/);
  } finally {
    two.resume();
  }
  await assert.rejects(promote(), /pg_1 may hold .* name it with --old-primary/, "the old primary must be named");
  const { mayBeLost, promoted, follow } = await promote({ oldPrimary: "pg_1" });
  assert.deepEqual([mayBeLost, follow.length], [[], 1]);
  assert.match(promoted, new RegExp(`:(${one.port}|${two.port})$`));
  const next = await waitFor("an epoch on the new primary", () => LogWriter.open(writer.log).catch(() => undefined));
  assert.equal(next.epoch, 2);
  assert.equal((await verifyLog(writer.log)).type, "intact");
});

test("the standby that has received more is promoted, and an old primary that is still running acknowledges nothing more", {
  skip,
}, async () => {
  const writer = await begin();
  const [one, two] = group.standbys;
  assert.ok(one !== undefined && two !== undefined);
  await one.detach(); // a quorum of one is enough
  const appended: number[] = [];
  for (let n = 0; n < 20; n++) {
    const outcome = await writer.appendEach(aSession());
    assert.equal(outcome.type, "appended");
    if (outcome.type === "appended") appended.push(outcome.last.position);
  }
  const zombie = group.primary();
  const lines: string[] = [];
  const promotion = await promote({ livingPrimary: "replace", say: (line) => lines.push(line) });
  assert.equal(promotion.promoted, `127.0.0.1:${two.port}`, lines.join("\n"));
  assert.deepEqual(promotion.mayBeLost, []);
  assert.equal(promotion.position, appended.at(-1));
  assert.deepEqual(promotion.follow, [`127.0.0.1:${one.port}`]);
  assert.match(promotion.left.join("\n"), new RegExp(`${zombie.port} still acts as a primary: stop it`));
  const stopped = lines.findLastIndex((line) => /no longer receives/.test(line));
  assert.ok(stopped < lines.findIndex((line) => /promoting/.test(line)), lines.join("\n"));

  // Clients that know only the old primary get no acknowledgement.
  const isolated = await openLogAt(zombie.connectionString(database));
  const outcome = await writer.fork(isolated).appendEach(aSession());
  assert.equal(outcome.type, "indeterminate");
  const next = await waitFor("an epoch on the new primary", () => LogWriter.open(writer.log).catch(() => undefined));
  assert.equal((await next.appendEach(aSession())).type, "appended");
  await waitFor("the other standby to receive the new event", async () => {
    const row = await at(one, "select pos::int as pos from cardea.log_head");
    return Number(row?.["pos"]) > (appended.at(-1) ?? 0) + 1;
  });
});

test("a process connected to an old primary that is still running switches to the new one when it learns of a later epoch", {
  skip,
}, async () => {
  const writer = await begin();
  const follower = await openLogAt(servers);
  const isolated = await openLogAt(group.primary().connectionString(database));
  const before = await follower.observe();
  assert.deepEqual(await isolated.observe(), before);
  await promote({ livingPrimary: "replace" });
  const next = await waitFor("an epoch on the new primary", () => LogWriter.open(writer.log).catch(() => undefined));
  for (const log of [follower, isolated])
    assert.equal((await log.observe()).epoch, before.epoch, "the old primary stays in the old epoch");

  for (const log of [follower, isolated]) log.heardOf?.(next.epoch);
  await waitFor(
    "the process to switch to the new primary",
    async () => (await follower.observe()).epoch === next.epoch,
  );
  for (let n = 0; n < 3; n++)
    assert.equal(
      (await isolated.observe()).epoch,
      before.epoch,
      "a process that knows no other server stays on the old primary",
    );
  // A process that waits on the old primary, for a commit or for a lock, is interrupted at once: its time-out is longer
  // than this test.
  const patient = await openLogAt(group.primary().connectionString(database), { writeTimeoutMs: 300_000 });
  const waiting = async (): Promise<number> => {
    const text =
      "select count(*)::int as n from pg_stat_activity where wait_event_type = 'Lock' or wait_event = 'SyncRep'";
    return Number((await at(group.primary(), text))?.["n"]);
  };
  const others = await waiting();
  let outcome = "";
  const opening = patient.openEpoch(openEpochRequest(before.epoch)).then(({ type }) => {
    outcome = type;
  });
  await waitFor("the opening to wait", async () => (await waiting()) > others);
  patient.heardOf?.(before.epoch);
  assert.equal(outcome, "", "the known epoch does not interrupt the wait");
  patient.heardOf?.(next.epoch);
  await opening;
  assert.match(outcome, /^(indeterminate|unavailable)$/);

  const newcomer = await openLogAt(servers);
  await waitFor("a new process to connect to a primary", async () => (await newcomer.observe()).epoch > 0);
  newcomer.heardOf?.(next.epoch);
  await waitFor(
    "the new process to switch to the new primary",
    async () => (await newcomer.observe()).epoch === next.epoch,
  );
  for (let n = 0; n < 3; n++)
    assert.equal((await follower.observe()).epoch, next.epoch, "the process stays on the new primary");
});

test("a promotion that failed or was interrupted succeeds when run again", { skip }, async () => {
  await begin();
  const [one, two] = group.standbys;
  assert.ok(one !== undefined && two !== undefined);
  await group.kill();
  await at(two, "select pg_wal_replay_pause()");
  await assert.rejects(promote({ oldPrimary: "pg_1", stepTimeoutMs: 5_000 }), (error: Error) => {
    assert.ok(error instanceof PromotionFailedError);
    assert.match(
      error.message,
      /nothing was promoted: .*has its replay paused; resume it first; the standbys follow again/,
    );
    return true;
  });
  for (const standby of [one, two])
    assert.doesNotMatch(String((await at(standby, "show primary_conninfo"))?.["primary_conninfo"]), /detached/);
  await at(two, "select pg_wal_replay_resume()");
  await Promise.all([one.detach(), two.detach()]); // as a run that was killed halfway leaves them
  const { follow } = await promote({ oldPrimary: "pg_1" });
  assert.equal(follow.length, 1);
});

test("a promotion that waited for another run goes by what that run has left, and changes nothing", {
  skip,
}, async () => {
  await begin();
  const [one, two] = group.standbys;
  assert.ok(one !== undefined && two !== undefined);
  await group.kill();
  const conninfo = String((await at(two, "show primary_conninfo"))?.["primary_conninfo"]);
  await withClient(one.connectionString(database), async (other) => {
    await other.query("select pg_advisory_lock(1667330149, 1)");
    const refused = assert.rejects(promote({ oldPrimary: "pg_1" }), /answers as a primary|another run of this command/);
    await waitFor("the promotion to wait for the lock", async () => {
      const row = await at(
        one,
        "select count(*)::int as n from pg_stat_activity where query like '%pg_try_advisory_lock%' and pid <> pg_backend_pid()",
      );
      return row?.["n"] === 1;
    });
    await one.promote();
    await other.query("select pg_advisory_unlock(1667330149, 1)");
    await refused;
  });
  assert.equal(String((await at(two, "show primary_conninfo"))?.["primary_conninfo"]), conninfo);
  assert.equal((await at(one, "select pg_is_in_recovery() as standby"))?.["standby"], false);
});

test("without synchronous standbys the command reports what may be lost and promotes only with --accept-loss", {
  skip,
}, async (t) => {
  await begin("asynchronous");
  const folder = new TemporaryFolder("promotion");
  t.after(() => folder.remove());
  const config = join(folder.path, "cardea.yaml");
  const superuser = new URL(group.primary().connectionString());
  const unprivileged = servers.replace(/\/\/[^@]*@/, "//unprivileged:wrong@");
  writeFileSync(
    config,
    JSON.stringify({
      services: ["databroker"],
      authenticate_service_url: "http://authenticate.localhost:8080",
      ...{ idp_provider: "oidc", idp_provider_url: "http://idp.localhost:8080" },
      ...{ idp_client_id: "cardea", idp_client_secret: randomBytes(16).toString("hex") },
      broker: { listen: "127.0.0.1:5443" },
      shared_secret: randomBytes(32).toString("base64"),
      databroker_storage_type: "postgres",
      databroker_storage_connection_string: unprivileged,
      nats: { servers: ["nats://127.0.0.1:4222"] },
    }),
    { mode: 0o600 },
  );
  const cardea = async (...args: string[]) => {
    const [out, err]: [string[], string[]] = [[], []];
    const code = await runCommandLine(["postgres", "promote", ...args], commands, {
      out: (text) => out.push(text),
      err: (text) => err.push(text),
      ...{ interactive: false, env: { PGPASSWORD: decodeURIComponent(superuser.password) } },
    });
    return { code, out: out.join(""), err: err.join("") };
  };
  const as = ["-c", config, "--user", superuser.username];
  await group.kill();
  assert.equal((await cardea()).code, 2);
  const wrong = await cardea("-c", config);
  assert.deepEqual([wrong.code, /no standby answers/.test(wrong.err)], [1, true], wrong.err);
  const refused = await cardea(...as);
  assert.equal(refused.code, 1, refused.err);
  assert.match(refused.err, /not promoted: .*no synchronous standbys.*--accept-loss/);
  const dryRun = await cardea(...as, "--accept-loss", "--dry-run");
  assert.deepEqual([dryRun.code, dryRun.out], [0, "nothing was changed\n"], dryRun.err);
  for (const standby of group.standbys)
    assert.equal((await at(standby, "select pg_is_in_recovery() as standby"))?.["standby"], true);
  const done = await cardea(...as, "--accept-loss", "--json");
  assert.equal(done.code, 0, done.err);
  const { promoted, mayBeLost } = JSON.parse(done.out);
  assert.equal(mayBeLost.length, 1);
  const chosen = group.standbys.find(({ port }) => promoted === `127.0.0.1:${port}`);
  assert.ok(chosen !== undefined, promoted);
  assert.equal((await at(chosen, "select pg_is_in_recovery() as standby"))?.["standby"], false);
  assert.doesNotMatch(done.out + done.err + refused.err, new RegExp(decodeURIComponent(superuser.password)));
});
