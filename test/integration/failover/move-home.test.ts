/**
 * `cardea region move-home` on real Postgres servers, one for each of three regions: a planned move, a lost home, a
 * move that is killed at each step and run again, two at once, and the old primary that comes back by the printed
 * commands. Brokers take no part here (test/integration/regions/move-home.test.ts).
 */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { after, afterEach, test } from "node:test";
import { formatLink } from "../../../src/events/index.ts";
import { openPostgresLog } from "../../../src/replication/log/index.ts";
import { Child, TemporaryFolder } from "../../support/child.ts";
import { aSession, LogWriter } from "../../support/log-writer.ts";
import { findPostgresBinaries } from "../../support/postgres.ts";
import type { Synchrony } from "../../support/postgres-group.ts";
import { waitFor } from "../../support/wait-for.ts";
import { append, HomeServers, isComplete } from "./home-servers.ts";

const skip = findPostgresBinaries() === undefined ? "a standby needs local binaries of Postgres" : false;
const limit = { timeout: 300_000 };
const folder = new TemporaryFolder("move-home");
let homes: HomeServers;

afterEach(() => homes?.stop());
after(() => folder.remove());

async function begin(synchrony?: Synchrony, settings?: Readonly<Record<string, string>>): Promise<LogWriter> {
  const begun = await HomeServers.start(synchrony, settings);
  homes = begun.homes;
  return begun.writer;
}

test("a planned move loses nothing that was acknowledged, fences the old primary, and is idempotent", {
  skip,
  ...limit,
}, async () => {
  const writer = await begin();
  const dry = await homes.move("us", "--dry-run");
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
  const moved = await homes.move("us");
  moving = false;
  await writing;
  assert.match(moved.output, /no broker of us leads yet/);
  assert.match(
    moved.output,
    /is an old primary.*; it refuses writes.*\n.*pg_ctl -D \S+ stop -m fast\n.*psql -d .* -c checkpoint\n.*pg_rewind -D \S+ -R/,
  );
  await homes.assertMoved(writer, last);
  const { fenced, rivals } = await homes.heads();
  assert.deepEqual([fenced.map(({ host }) => host), rivals], [[`127.0.0.1:${homes.east.port}`], []]);
  await waitFor("the ap to follow", async () => (await homes.following()) === 1);

  const named = { connectionString: homes.servers, cluster: "test" };
  const inEast = new Set([`127.0.0.1:${homes.east.port}`]);
  await assert.rejects(
    openPostgresLog({ ...named, onlyHosts: inEast }),
    /no Postgres server accepts writes \(127\.0\.0\.1:\d+: read-only\)$/,
    "a broker of the east leads at no primary of another region",
  );
  await (await openPostgresLog({ ...named, onlyHosts: new Set([`127.0.0.1:${homes.us.port}`]) })).close();

  const again = await homes.move("us");
  assert.match(again.output, /the primary \S+ is in us/);
  for (const step of ["fence", "open", "follow"]) assert.match(again.output, new RegExp(`${step} \\(done\\)`));
});

test("without synchronous standbys too, a planned move loses nothing: the position is the proof", {
  skip,
  ...limit,
}, async () => {
  const writer = await begin("asynchronous");
  const last = await append(writer);
  const moved = await homes.move("us");
  assert.doesNotMatch(moved.output, /not moved/);
  await homes.assertMoved(writer, last);
});

test("a lost home: a standby of the named region is promoted, and receives first what another one holds", {
  skip,
  ...limit,
}, async () => {
  const writer = await begin();
  await homes.us.detach();
  let last = await append(writer);
  for (let n = 0; n < 20; n++) last = await append(writer);
  await homes.group.kill();
  const refused = await homes.move("us");
  assert.equal(refused.code, 1, refused.output);
  assert.match(refused.output, /not moved: .*pg_1 may hold changes.*--old-primary/);
  const moved = await homes.move("us", "--old-primary", "pg_1");
  assert.match(moved.output, /the home region is lost/);
  assert.match(moved.output, /receives the rest from/);
  await homes.assertMoved(writer, last);
});

test("the old primary that comes back is named, fenced by the next run, and holds nothing that counts", {
  skip,
  ...limit,
}, async () => {
  const writer = await begin();
  const last = await append(writer);
  await homes.group.kill();
  await homes.move("us", "--old-primary", "pg_1");
  await homes.assertMoved(writer, last);
  await homes.group.start();
  assert.deepEqual(
    (await homes.heads()).rivals.map(({ host }) => host),
    [`127.0.0.1:${homes.east.port}`],
  );
  const again = await homes.move("us");
  assert.match(again.output, /fence \(to do\): 127\.0\.0\.1:\d+ refuses writes: it is an old primary/);
  const zombie = await homes.at(homes.east, "show default_transaction_read_only");
  assert.equal(zombie?.["default_transaction_read_only"], "on");
  const { rivals, newest } = await homes.heads();
  assert.deepEqual([rivals, newest?.host], [[], `127.0.0.1:${homes.us.port}`]);
});

test("a move is refused, before any change, where commits would wait afterwards or the target is behind", {
  skip,
  ...limit,
}, async () => {
  const writer = await begin();
  await homes.ap.kill();
  const alone = await homes.move("us");
  assert.equal(alone.code, 1, alone.output);
  assert.match(alone.output, /not moved: after the move 0 of the 1 standbys that commits must wait for would follow/);
  await homes.ap.start();
  await homes.us.detach();
  const behind = await homes.move("us");
  assert.match(behind.output, /not moved: no standby of the target region receives from/);
  await append(writer);
  const there = await homes.move("east");
  for (const step of ["fence", "open"]) assert.match(there.output, new RegExp(`${step} \\(done\\)`));
  await append(writer); // its session has not ended
  const preferred = await homes.run("postgres", "promote", "--replace-living", "--prefer", "mars");
  assert.equal(preferred.code, 2, preferred.output);
  assert.match(
    preferred.output,
    /--prefer mars: broker\.homes names no Postgres server of mars .*, but some of east, us, ap/,
  );
  const unknown = await homes.move("mars");
  assert.equal(unknown.code, 2);
  assert.match(unknown.output, /mars cannot be the home region; broker\.homes has Postgres servers for east, us, ap/);
});

test("a standby that does not replay is named before anything stops, and the old primary goes on", {
  skip,
  ...limit,
}, async () => {
  const writer = await begin();
  await homes.at(homes.ap, "select pg_wal_replay_pause()");
  const refused = await homes.move("us");
  assert.equal(refused.code, 1, refused.output);
  assert.match(refused.output, new RegExp(`not moved: 127\\.0\\.0\\.1:${homes.ap.port} has its replay paused`));
  const last = await append(writer);
  await homes.at(homes.ap, "select pg_wal_replay_resume()");
  await homes.move("us");
  await homes.assertMoved(writer, last);
});

test("of two moves at once, the second waits for the first or changes nothing, and nothing is lost", {
  skip,
  ...limit,
}, async () => {
  const writer = await begin();
  const last = await append(writer);
  const runs = await Promise.all([homes.launch(["us"]), homes.launch(["us"])]);
  assert.deepEqual(await Promise.all(runs.map(({ exit }) => exit())), [1, 1], "neither is complete");
  const outputs = runs.map(({ output }) => output());
  assert.ok(
    outputs.some((output) => /no broker of us leads yet/.test(output)),
    outputs.join("\n---\n"),
  );
  for (const output of outputs)
    assert.match(output, /no broker of us leads yet|another run of this command, or of cardea postgres promote/);
  await homes.assertMoved(writer, last);
  await waitFor("the ap to follow", async () => (await homes.following()) === 1, { withinMs: 30_000 });
});

test("of two moves at once to different regions, one region gets the primary, and the other move says why it did not", {
  skip,
  ...limit,
}, async () => {
  const writer = await begin();
  const last = await append(writer);
  const runs = await Promise.all([homes.launch(["us"]), homes.launch(["ap"])]);
  await Promise.all(runs.map(({ exit }) => exit()));
  const outputs = runs.map(({ output }) => output());
  const { newest, rivals } = await homes.heads();
  const [winner, other] = newest?.host === `127.0.0.1:${homes.us.port}` ? [homes.us, homes.ap] : [homes.ap, homes.us];
  // The second waited for the first: another move would leave no standby for the commits. Or it did not wait so long.
  const why =
    /not moved: after the move 0 of the 1 standbys|another run of this command, or of cardea postgres promote/;
  assert.match(outputs[winner === homes.us ? 0 : 1] ?? "", isComplete);
  assert.match(outputs[winner === homes.us ? 1 : 0] ?? "", why);
  assert.deepEqual(rivals, []);
  await homes.assertMoved(writer, last, winner);
  assert.equal((await homes.at(other, "select pg_is_in_recovery() as standby"))?.["standby"], true);
  await waitFor("the other to follow", async () => (await homes.following(winner)) === 1, { withinMs: 30_000 });
});

test("the printed commands bring the old primary back as a standby, and the home moves back to it", {
  skip,
  ...limit,
}, async () => {
  const writer = await begin("quorum", { wal_log_hints: "on" });
  const last = await append(writer);
  const east = homes.east;
  const data = String((await homes.at(east, "show data_directory"))?.["data_directory"]);
  const moved = await homes.move("us");
  await homes.assertMoved(writer, last);
  const printed = moved.output.split("\n").filter((line) => /^ {4}(?:pg_|psql )/.test(line));
  assert.deepEqual(
    printed.map((line) => line.trim().split(" ")[0]),
    ["pg_ctl", "psql", "pg_rewind", "pg_ctl"],
    moved.output,
  );
  const machine = await machineOf(data);
  try {
    await machine.run(printed.join("\n"));
    await waitFor(
      "the old primary to follow as pg_1",
      async () =>
        (
          await homes.at(
            homes.us,
            "select 1 as one from pg_stat_replication where application_name = 'pg_1' and sync_state = 'quorum' and state = 'streaming'",
          )
        )?.["one"] === 1,
      { withinMs: 60_000 },
    );
    assert.equal((await homes.at(east, "select pg_is_in_recovery() as standby"))?.["standby"], true);
    const log = await homes.openAt(homes.servers);
    const next = await LogWriter.open(log);
    const later = await append(next);
    // Until then the move back is refused: it is behind.
    await waitFor(
      "the old primary to have it",
      async () => (await homes.at(east, "select pos::int as pos from cardea.log_head"))?.["pos"] === later.position,
      { withinMs: 60_000 },
    );
    const back = await homes.move("east");
    assert.match(back.output, /a planned move of the home region to east/);
    assert.match(back.output, isComplete);
    const { newest, rivals } = await homes.heads();
    assert.deepEqual([newest?.host, newest?.writes, rivals], [`127.0.0.1:${east.port}`, "accepted", []]);
    const returned = await homes.openAt(east.connectionString(homes.database));
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
    PGPASSWORD: decodeURIComponent(new URL(homes.east.connectionString()).password),
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
    const run = await homes.launch(["us"]);
    await waitFor("the step", () => line.test(run.output().split("the plan:")[1] ?? "") || !run.child.running, {
      withinMs: 60_000,
      everyMs: 2,
    });
    await run.child.kill();
    const again = await homes.move("us");
    assert.doesNotMatch(again.output, /not moved/, run.output());
    await homes.assertMoved(writer, last);
    await waitFor("the ap to follow", async () => (await homes.following()) === 1, { withinMs: 30_000 });
  });

test("a move that was killed after the fence is taken back by a move to where the primary is", {
  skip,
  ...limit,
}, async () => {
  const writer = await begin();
  const run = await homes.launch(["us"]);
  await waitFor("the fence", () => /refuses writes$/m.test(run.output().split("the plan:")[1] ?? ""), {
    withinMs: 60_000,
    everyMs: 2,
  });
  await run.child.kill();
  const { newest } = await homes.heads();
  if (newest?.host !== `127.0.0.1:${homes.east.port}`) return; // the kill came after the promotion
  const back = await homes.move("east");
  assert.match(back.output, /open \((?:to do|done)\)/);
  const log = await homes.openAt(homes.east.connectionString(homes.database));
  const next = await waitFor("the primary to accept writes", () => LogWriter.open(log).catch(() => undefined));
  assert.ok(next.epoch > writer.epoch);
});
