/**
 * `cardea region move-home` on real Postgres servers, one for each of three regions: a planned move, a lost home, a
 * move that is killed at each step and run again, two at once, and the old primary that comes back by the printed
 * commands. Brokers take no part here (test/integration/regions/move-home.test.ts).
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { after, afterEach, test } from "node:test";
import { formatLink, type Link } from "../../../src/events/index.ts";
import { openPostgresLog, readServerHeads, verifyLog } from "../../../src/replication/log/index.ts";
import { Child, TemporaryFolder } from "../../support/child.ts";
import { freePorts } from "../../support/free-port.ts";
import { aSession, LogWriter } from "../../support/log-writer.ts";
import { findPostgresBinaries } from "../../support/postgres.ts";
import { withClient } from "../../support/postgres-client.ts";
import { type PostgresGroup, type Synchrony, startPostgresGroup } from "../../support/postgres-group.ts";
import type { PostgresServer } from "../../support/service.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fasterStart, mainFile } from "../cluster/cluster-process.ts";

const skip = findPostgresBinaries() === undefined ? "a standby needs local binaries of Postgres" : false;
const limit = { timeout: 300_000 };
const folder = new TemporaryFolder("move-home");
const logs: Awaited<ReturnType<typeof openPostgresLog>>[] = [];
let group: PostgresGroup;
let servers: string;
let database: string;
let configFile: string;
let runs = 0;

afterEach(async () => {
  await Promise.all(logs.splice(0).map((log) => log.close()));
  await group?.stop();
});
after(() => folder.remove());

/** East, us and ap have a server each; the primary is in the east. */
async function begin(
  synchrony: Synchrony = "quorum",
  settings: Readonly<Record<string, string>> = {},
): Promise<LogWriter> {
  group = await startPostgresGroup({ synchrony, settings });
  servers = await group.newDatabase();
  database = new URL(servers.replace(/@[^/]*/, "@host")).pathname.slice(1);
  const writer = await LogWriter.open(await openAt(servers));
  for (let n = 0; n < 5; n++) await append(writer);
  await group.replicated();
  const [closed = 1] = await freePorts(1);
  const home = (region: string, server: PostgresServer) => ({
    ...{ region, urls: [`http://127.0.0.1:${closed}`], postgres: [`127.0.0.1:${server.port}`] },
  });
  configFile = join(folder.path, `${database}.yaml`);
  writeFileSync(
    configFile,
    JSON.stringify({
      ...{ services: ["databroker"], region: "east" },
      authenticate_service_url: "http://authenticate.localhost:8080",
      broker: {
        ...{ listen: "127.0.0.1:5443", cluster_name: "test" },
        homes: [home("east", group.primary()), home("us", us()), home("ap", ap())],
      },
      shared_secret: randomBytes(32).toString("base64"),
      databroker_storage_type: "postgres",
      databroker_storage_connection_string: servers,
    }),
    { mode: 0o600 },
  );
  return writer;
}

const us = () => group.standbys[0] ?? assert.fail();
const ap = () => group.standbys[1] ?? assert.fail();
const at = (server: PostgresServer, text: string) =>
  withClient(server.connectionString(database), async (client) => (await client.query(text)).rows[0]);

const following = async () => Number((await at(us(), "select count(*)::int as n from pg_stat_replication"))?.["n"]);

async function openAt(connectionString: string) {
  const log = await openPostgresLog({ connectionString, cluster: "test", writeTimeoutMs: 5_000 });
  logs.push(log);
  return log;
}

async function append(writer: LogWriter): Promise<Link> {
  const outcome = await writer.appendEach(aSession());
  assert.ok(outcome.type === "appended", outcome.type);
  return outcome.last;
}

type Run = Readonly<{ child: Child; output: () => string; exit: () => Promise<number | null> }>;

/** Starts the command. No broker runs, so a move that is complete exits with 1 and says that none leads yet. */
async function launch(...args: readonly string[]): Promise<Run> {
  runs += 1;
  const logFile = join(folder.path, `run-${runs}.log`);
  const user = ["--user", new URL(group.primary().connectionString()).username];
  const child = await Child.start({
    command: process.execPath,
    args: [
      "--no-warnings",
      mainFile,
      "region",
      "move-home",
      ...args,
      "-c",
      configFile,
      ...user,
      "--timeout",
      "0s",
      "--despite-brokers",
    ],
    logFile,
    env: { ...fasterStart, PGPASSWORD: decodeURIComponent(new URL(group.primary().connectionString()).password) },
  });
  const output = (): string => (existsSync(logFile) ? readFileSync(logFile, "utf8") : "");
  return { child, output, exit: async () => (await child.exited).code };
}

async function move(...args: readonly string[]): Promise<Readonly<{ code: number | null; output: string }>> {
  const run = await launch(...args);
  const code = await run.exit();
  return { code, output: run.output() };
}

const heads = () => readServerHeads({ connectionString: servers, cluster: "test" });

/** The us has the primary, it accepts writes, and everything that was acknowledged is there. */
async function assertMoved(writer: LogWriter, acknowledged: Link): Promise<void> {
  const { newest } = await heads();
  assert.equal(newest?.host, `127.0.0.1:${us().port}`);
  const log = await openAt(us().connectionString(database));
  const next = await waitFor("an epoch on the new primary", () => LogWriter.open(log).catch(() => undefined), {
    withinMs: 30_000,
  });
  assert.ok(next.epoch > writer.epoch);
  await append(next);
  const held = await log.linkAt(acknowledged.position);
  assert.equal(held && formatLink(held), formatLink(acknowledged), "an acknowledged event is lost");
  assert.equal((await verifyLog(log)).type, "intact");
}

test("a planned move loses nothing that was acknowledged, fences the old primary, and is idempotent", {
  skip,
  ...limit,
}, async () => {
  const writer = await begin();
  const dry = await move("us", "--dry-run");
  assert.equal(dry.code, 0, dry.output);
  assert.match(dry.output, /a planned move of the home region to us/);
  assert.match(dry.output, /1\. fence \(to do\): .*default_transaction_read_only/);
  assert.match(dry.output, /nothing was changed/);
  let last = await append(writer);
  let moving = true;
  const writing = (async () => {
    while (moving) {
      const outcome = await writer.appendEach(aSession()).catch(() => ({ type: "failed" }) as const);
      if (outcome.type !== "appended") return;
      last = outcome.last;
    }
  })();
  const moved = await move("us");
  moving = false;
  await writing;
  assert.match(moved.output, /no broker of us leads yet/);
  assert.match(
    moved.output,
    /is an old primary.*; it refuses writes.*\n.*pg_ctl -D \S+ stop -m fast\n.*pg_rewind -D \S+ -R/,
  );
  await assertMoved(writer, last);
  const { fenced, rivals } = await heads();
  assert.deepEqual([fenced.map(({ host }) => host), rivals], [[`127.0.0.1:${group.primary().port}`], []]);
  await waitFor("the ap to follow", async () => (await following()) === 1);

  const again = await move("us");
  assert.match(again.output, /the primary \S+ is in us/);
  for (const step of ["fence", "open", "follow"]) assert.match(again.output, new RegExp(`${step} \\(done\\)`));
});

test("without synchronous standbys too, a planned move loses nothing: the position is the proof", {
  skip,
  ...limit,
}, async () => {
  const writer = await begin("asynchronous");
  const last = await append(writer);
  const moved = await move("us");
  assert.doesNotMatch(moved.output, /not moved/);
  await assertMoved(writer, last);
});

test("a lost home: a standby of the named region is promoted, and receives first what another one holds", {
  skip,
  ...limit,
}, async () => {
  const writer = await begin();
  await us().detach();
  let last = await append(writer);
  for (let n = 0; n < 20; n++) last = await append(writer);
  await group.kill();
  const refused = await move("us");
  assert.equal(refused.code, 1, refused.output);
  assert.match(refused.output, /not moved: .*pg_1 may hold changes.*--old-primary/);
  const moved = await move("us", "--old-primary", "pg_1");
  assert.match(moved.output, /the home region is lost/);
  assert.match(moved.output, /receives the rest from/);
  await assertMoved(writer, last);
});

test("the old primary that comes back is named, fenced by the next run, and holds nothing that counts", {
  skip,
  ...limit,
}, async () => {
  const writer = await begin();
  const last = await append(writer);
  await group.kill();
  await move("us", "--old-primary", "pg_1");
  await assertMoved(writer, last);
  await group.start();
  assert.deepEqual(
    (await heads()).rivals.map(({ host }) => host),
    [`127.0.0.1:${group.primary().port}`],
  );
  const again = await move("us");
  assert.match(again.output, /fence \(to do\): 127\.0\.0\.1:\d+ refuses writes: it is an old primary/);
  const zombie = await at(group.primary(), "show default_transaction_read_only");
  assert.equal(zombie?.["default_transaction_read_only"], "on");
  const { rivals, newest } = await heads();
  assert.deepEqual([rivals, newest?.host], [[], `127.0.0.1:${us().port}`]);
});

test("a move is refused, before any change, where commits would wait afterwards or the target is behind", {
  skip,
  ...limit,
}, async () => {
  const writer = await begin();
  await ap().kill();
  const alone = await move("us");
  assert.equal(alone.code, 1, alone.output);
  assert.match(alone.output, /not moved: after the move 0 of the 1 standbys that commits must wait for would follow/);
  await ap().start();
  await us().detach();
  const behind = await move("us");
  assert.match(behind.output, /not moved: no standby of the target region receives from/);
  await append(writer);
  const unknown = await move("mars");
  assert.equal(unknown.code, 2);
  assert.match(unknown.output, /mars cannot be the home region; broker\.homes has Postgres servers for east, us, ap/);
});

test("a standby that does not replay is named before anything stops, and the old primary goes on", {
  skip,
  ...limit,
}, async () => {
  const writer = await begin();
  await at(ap(), "select pg_wal_replay_pause()");
  const refused = await move("us");
  assert.equal(refused.code, 1, refused.output);
  assert.match(refused.output, new RegExp(`not moved: 127\\.0\\.0\\.1:${ap().port} has its replay paused`));
  const last = await append(writer);
  await at(ap(), "select pg_wal_replay_resume()");
  await move("us");
  await assertMoved(writer, last);
});

test("of two moves at once, the second waits for the first or changes nothing, and nothing is lost", {
  skip,
  ...limit,
}, async () => {
  const writer = await begin();
  const last = await append(writer);
  const runs = await Promise.all([launch("us"), launch("us")]);
  assert.deepEqual(await Promise.all(runs.map(({ exit }) => exit())), [1, 1], "neither is complete");
  const outputs = runs.map(({ output }) => output());
  assert.ok(
    outputs.some((output) => /no broker of us leads yet/.test(output)),
    outputs.join("\n---\n"),
  );
  for (const output of outputs)
    assert.match(output, /no broker of us leads yet|another run of this command, or of cardea postgres promote/);
  await assertMoved(writer, last);
  await waitFor("the ap to follow", async () => (await following()) === 1, { withinMs: 30_000 });
});

test("the printed commands bring the old primary back as a standby, and the home moves back to it", {
  skip,
  ...limit,
}, async () => {
  const writer = await begin("quorum", { wal_log_hints: "on" });
  const last = await append(writer);
  const east = group.primary();
  const data = String((await at(east, "show data_directory"))?.["data_directory"]);
  const moved = await move("us");
  await assertMoved(writer, last);
  const printed = moved.output.split("\n").filter((line) => line.startsWith("    pg_"));
  assert.deepEqual(
    printed.map((line) => line.trim().split(" ")[0]),
    ["pg_ctl", "pg_rewind", "pg_ctl"],
    moved.output,
  );
  const machine = await machineOf(data);
  try {
    await machine.run(printed.join("\n"));
    await waitFor(
      "the old primary to follow as pg_1",
      async () =>
        (
          await at(
            us(),
            "select 1 as one from pg_stat_replication where application_name = 'pg_1' and sync_state = 'quorum'",
          )
        )?.["one"] === 1,
      { withinMs: 60_000 },
    );
    assert.equal((await at(east, "select pg_is_in_recovery() as standby"))?.["standby"], true);
    const log = await openAt(servers);
    const next = await LogWriter.open(log);
    const later = await append(next);
    const back = await move("east");
    assert.match(back.output, /a planned move of the home region to east/);
    const { newest, rivals } = await heads();
    assert.deepEqual([newest?.host, newest?.writes, rivals], [`127.0.0.1:${east.port}`, "accepted", []]);
    const returned = await openAt(east.connectionString(database));
    await append(await LogWriter.open(returned));
    const held = await returned.linkAt(later.position);
    assert.equal(held && formatLink(held), formatLink(later));
  } finally {
    await machine.run(`pg_ctl -D ${data} stop -m immediate`);
  }
});

/**
 * A shell on the machine of a server. Its `pg_ctl` adds the options with which the server was started, as the service
 * manager of a machine does.
 */
async function machineOf(data: string) {
  const binaries = findPostgresBinaries() ?? assert.fail();
  const [, options = ""] = /"-D" "[^"]*" (.*)$/m.exec(readFileSync(join(data, "postmaster.opts"), "utf8")) ?? [];
  const bin = join(dirname(data), "bin"); // its user may read it
  mkdirSync(bin, { recursive: true, mode: 0o755 });
  const manager = `#!/bin/sh
case " $* " in
  *" start "*) exec ${join(binaries, "pg_ctl")} "$@" -l ${data}.log -o '${options}' ;;
  *) exec ${join(binaries, "pg_ctl")} "$@" ;;
esac
`;
  writeFileSync(join(bin, "pg_ctl"), manager, { mode: 0o755 });
  const { uid, gid } = statSync(data);
  const env = {
    PATH: [bin, binaries, process.env["PATH"] ?? ""].join(delimiter),
    PGPASSWORD: decodeURIComponent(new URL(group.primary().connectionString()).password),
  };
  return {
    /** Only a clean end of every command is accepted. */
    async run(commands: string): Promise<void> {
      const logFile = join(folder.path, "machine.log");
      const user = process.getuid?.() === 0 ? { user: { uid, gid } } : {};
      const spec = { command: "/bin/sh", args: ["-e", "-c", commands], cwd: "/", logFile, env, ...user };
      const shell = await Child.start(spec);
      const { code } = await shell.exited;
      assert.equal(code, 0, readFileSync(logFile, "utf8"));
    },
  };
}

for (const [step, line] of [
  ["the fence", /refuses writes$/m],
  ["the catch-up", /has received everything/],
  ["the stop of the standbys", /no longer receives changes/],
  ["the order to promote", /: promoting$/m],
  ["the promotion", /: is the primary$/m],
  ["the first standby that follows", /: follows /],
] as const)
  test(`a move that is killed at ${step} succeeds when it is run again`, { skip, ...limit }, async () => {
    const writer = await begin();
    const last = await append(writer);
    const run = await launch("us");
    await waitFor("the step", () => line.test(run.output().split("the plan:")[1] ?? "") || !run.child.running, {
      withinMs: 60_000,
      everyMs: 2,
    });
    await run.child.kill();
    const again = await move("us");
    assert.doesNotMatch(again.output, /not moved/, run.output());
    await assertMoved(writer, last);
    await waitFor("the ap to follow", async () => (await following()) === 1, { withinMs: 30_000 });
  });

test("a move that was killed after the fence is taken back by a move to where the primary is", {
  skip,
  ...limit,
}, async () => {
  const writer = await begin();
  const run = await launch("us");
  await waitFor("the fence", () => /refuses writes$/m.test(run.output().split("the plan:")[1] ?? ""), {
    withinMs: 60_000,
    everyMs: 2,
  });
  await run.child.kill();
  const { newest } = await heads();
  if (newest?.host !== `127.0.0.1:${group.primary().port}`) return; // the kill came after the promotion
  const back = await move("east");
  assert.match(back.output, /open \((?:to do|done)\)/);
  const log = await openAt(group.primary().connectionString(database));
  const next = await waitFor("the primary to accept writes", () => LogWriter.open(log).catch(() => undefined));
  assert.ok(next.epoch > writer.epoch);
});
