/**
 * `cardea postgres promote` on real servers: what it refuses, and what holds of the old primary and of the log once it
 * is done.
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
} from "../../../src/replication/index.ts";
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
  const writer = await LogWriter.open(await openedAt(servers));
  for (let n = 0; n < 5; n++) assert.equal((await writer.appendEach(aSession())).type, "appended");
  await group.replicated();
  return writer;
}
const logs: Awaited<ReturnType<typeof openPostgresLog>>[] = [];
async function openedAt(connectionString: string, { writeTimeoutMs = 5_000 } = {}) {
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

test("a primary that answers is not replaced unless that is meant, and nothing is touched", { skip }, async () => {
  const writer = await begin();
  await assert.rejects(promote(), (error: Error) => {
    assert.ok(error instanceof PromotionRefusedError);
    assert.match(error.message, /answers as a primary/);
    return true;
  });
  assert.equal(await streaming(group.primary()), 2);
  assert.equal((await writer.appendEach(aSession())).type, "appended");
});

test("a standby that cannot be reached may be the one that acknowledged: refused without touching anything, and named", {
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
  await assert.rejects(promote(), /pg_1 may hold .* name it with --old-primary/, "its own name is not known to be it");
  const { mayBeLost, promoted, follow } = await promote({ oldPrimary: "pg_1" });
  assert.deepEqual([mayBeLost, follow.length], [[], 1]);
  assert.match(promoted, new RegExp(`:(${one.port}|${two.port})$`));
  const next = await waitFor("an epoch on the new primary", () => LogWriter.open(writer.log).catch(() => undefined));
  assert.equal(next.epoch, 2);
  assert.equal((await verifyLog(writer.log)).type, "intact");
});

test("the standby that has received more is promoted, though the other answers first and an old primary lives on: it acknowledges nothing more", {
  skip,
}, async () => {
  const writer = await begin();
  const [one, two] = group.standbys;
  assert.ok(one !== undefined && two !== undefined);
  await one.detach(); // a quorum of one goes on
  const kept: number[] = [];
  for (let n = 0; n < 20; n++) {
    const outcome = await writer.appendEach(aSession());
    assert.equal(outcome.type, "appended");
    if (outcome.type === "appended") kept.push(outcome.last.position);
  }
  const zombie = group.primary();
  const said: string[] = [];
  const promotion = await promote({ livingPrimary: "replace", say: (line) => said.push(line) });
  assert.equal(promotion.promoted, `127.0.0.1:${two.port}`, said.join("\n"));
  assert.deepEqual(promotion.mayBeLost, []);
  assert.equal(promotion.position, kept.at(-1));
  assert.deepEqual(promotion.follow, [`127.0.0.1:${one.port}`]);
  assert.match(promotion.left.join("\n"), new RegExp(`${zombie.port} still believes .* stop it`));
  const stopped = said.findLastIndex((line) => /receives nothing any more/.test(line));
  assert.ok(stopped < said.findIndex((line) => /is promoted/.test(line)), said.join("\n"));

  // Its own clients, who know nobody else, get no acknowledgement.
  const alone = await openedAt(zombie.connectionString(database));
  const outcome = await writer.fork(alone).appendEach(aSession());
  assert.equal(outcome.type, "indeterminate");
  const next = await waitFor("an epoch on the new primary", () => LogWriter.open(writer.log).catch(() => undefined));
  assert.equal((await next.appendEach(aSession())).type, "appended");
  await waitFor("the other standby to have it", async () => {
    const row = await at(one, "select pos::int as pos from cardea.log_head");
    return Number(row?.["pos"]) > (kept.at(-1) ?? 0) + 1;
  });
});

test("a process that looks at an old primary which lives on turns to the new one as soon as it hears of a later epoch, or has seen one", {
  skip,
}, async () => {
  const writer = await begin();
  const told = await openedAt(servers);
  const alone = await openedAt(group.primary().connectionString(database));
  const before = await told.observe();
  assert.deepEqual(await alone.observe(), before);
  await promote({ livingPrimary: "replace" });
  const next = await waitFor("an epoch on the new primary", () => LogWriter.open(writer.log).catch(() => undefined));
  for (const log of [told, alone]) assert.equal((await log.observe()).epoch, before.epoch, "its past, for ever");

  for (const log of [told, alone]) log.heardOf?.(next.epoch);
  await waitFor("the new one", async () => (await told.observe()).epoch === next.epoch);
  for (let n = 0; n < 3; n++)
    assert.equal((await alone.observe()).epoch, before.epoch, "who knows no other server goes on with this one");
  // Who waits there, for a commit or for somebody else's, is told at once: its own time-out would be longer than this
  // test.
  const patient = await openedAt(group.primary().connectionString(database), { writeTimeoutMs: 300_000 });
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
  await waitFor("it to wait", async () => (await waiting()) > others);
  patient.heardOf?.(before.epoch);
  assert.equal(outcome, "", "of the epoch that it knows it has heard before");
  patient.heardOf?.(next.epoch);
  await opening;
  assert.match(outcome, /^(indeterminate|unavailable)$/);

  const found = await openedAt(servers);
  await waitFor("a newcomer to have met either", async () => (await found.observe()).epoch > 0);
  found.heardOf?.(next.epoch);
  await waitFor("the new one, by whatever it began with", async () => (await found.observe()).epoch === next.epoch);
  for (let n = 0; n < 3; n++) assert.equal((await told.observe()).epoch, next.epoch, "and it stays there");
});

test("begun and broken off: whoever runs it again finishes it", { skip }, async () => {
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
  await Promise.all([one.detach(), two.detach()]); // as a run leaves them that was killed in the middle
  const { follow } = await promote({ oldPrimary: "pg_1" });
  assert.equal(follow.length, 1);
});

test("without synchronous standbys it says what may be lost, and goes on when that is accepted: by the command line", {
  skip,
}, async (t) => {
  await begin("asynchronous");
  const folder = new TemporaryFolder("promotion");
  t.after(() => folder.remove());
  const config = join(folder.path, "cardea.yaml");
  const superuser = new URL(group.primary().connectionString());
  const unprivileged = servers.replace(/\/\/[^@]*@/, "//nobody:wrong@");
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
  const looked = await cardea(...as, "--accept-loss", "--dry-run");
  assert.deepEqual([looked.code, looked.out], [0, "nothing was changed\n"], looked.err);
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
