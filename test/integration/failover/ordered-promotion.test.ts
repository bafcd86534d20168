/**
 * A run of `cardea region move-home` that was killed after it had ordered a promotion, with real Postgres servers and
 * no synchronous standbys: while the promotion is pending at a standby that answers, no other server may accept writes.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, test } from "node:test";
import { PromotionRefusedError, promotePostgresStandby } from "../../../src/replication/log/index.ts";
import type { LogWriter } from "../../support/log-writer.ts";
import { findPostgresBinaries } from "../../support/postgres.ts";
import type { Synchrony } from "../../support/postgres-group.ts";
import { waitFor } from "../../support/wait-for.ts";
import { append, HomeServers, isComplete } from "./home-servers.ts";

const skip = findPostgresBinaries() === undefined ? "a standby needs local binaries of Postgres" : false;
const limit = { timeout: 300_000 };
let homes: HomeServers;

afterEach(() => homes?.stop());

async function begin(synchrony: Synchrony = "asynchronous"): Promise<LogWriter> {
  const begun = await HomeServers.start(synchrony);
  homes = begun.homes;
  return begun.writer;
}

const address = (server: { port: number }): string => `127.0.0.1:${server.port}`;
const isPending = async (): Promise<boolean> =>
  (await homes.at(homes.us, "select pg_is_in_recovery() as standby"))?.["standby"] === true;

/** A move to any region but that of the ordered server opens and promotes nothing, whatever the operator accepts. */
async function assertRefused(): Promise<void> {
  const pending = new RegExp(
    `not moved: ${address(homes.us)} was ordered by an earlier run to become a primary, and may do so at any time\\. ` +
      `${address(homes.east)} refuses writes meanwhile\\. Run cardea region move-home us, which waits for it`,
  );
  for (const args of [["east"], ["east", "--accept-loss"], ["ap", "--accept-loss"], ["east", "--dry-run"]]) {
    const { code, output } = await homes.move(...args);
    assert.equal(code, 1, output);
    assert.match(output, pending);
  }
  const fence = await homes.at(homes.east, "show default_transaction_read_only");
  assert.equal(fence?.["default_transaction_read_only"], "on");
  await assert.rejects(
    promotePostgresStandby({
      ...{ connectionString: homes.servers, livingPrimary: "replace", loss: "accept" },
      prefer: new Set([address(homes.ap)]),
    }),
    (error: Error) => error instanceof PromotionRefusedError && /was ordered by an earlier run/.test(error.message),
  );
  assert.equal(await isPending(), true, "the promotion was pending all the time");
}

test("a move is not taken back while the promotion that a killed run ordered has not ended; the next run ends it", {
  skip,
  ...limit,
}, async () => {
  const writer = await begin();
  const last = await append(writer);
  // A command of the operator that the server runs before the promotion ends.
  await homes.at(homes.us, "alter system set recovery_end_command = 'until test -e may-end; do sleep 0.1; done'");
  await homes.at(homes.us, "select pg_reload_conf()");
  const folder = String((await homes.at(homes.us, "show data_directory"))?.["data_directory"]);
  const run = await homes.launch(["us"]);
  await waitFor(
    "the promotion to be triggered",
    () =>
      homes.at(homes.us, "select pg_wal_replay_resume()").then(
        () => !run.child.running,
        ({ code }: { code?: string }) => code === "55000",
      ),
    { withinMs: 120_000 },
  );
  await run.child.kill();
  assert.match(run.output(), /: promoting$/m);
  await assertRefused();
  writeFileSync(join(folder, "may-end"), "");
  const again = await homes.move("us");
  await homes.assertMoved(writer, last);
  assert.doesNotMatch(again.output, /not moved|not complete/);
  await waitFor("the ap to follow", async () => (await homes.following()) === 1, { withinMs: 60_000 });
});

test("the same holds before the server has looked at the order", { skip, ...limit }, async () => {
  const writer = await begin();
  const last = await append(writer);
  const run = await homes.launch(["us"]);
  await waitFor("the fence", () => /refuses writes$/m.test(run.output().split("the plan:")[1] ?? ""), {
    withinMs: 120_000,
    everyMs: 2,
  });
  await run.child.kill();
  if (!(await isPending())) return; // the kill came after the promotion
  const row = await homes.at(homes.us, "select pid from pg_stat_activity where backend_type = 'startup'");
  const pid = Number(row?.["pid"]);
  process.kill(pid, "SIGSTOP");
  try {
    await homes.at(homes.us, "select pg_promote(false)");
    await assertRefused();
  } finally {
    process.kill(pid, "SIGCONT");
  }
  await waitFor("the promotion", async () => !(await isPending()), { withinMs: 60_000 });
  await homes.move("us");
  await homes.assertMoved(writer, last);
});

/** Limits all processes of a server, so that no file can grow beyond so many bytes, as on a full disk. */
function limitFiles(dataFolder: string, bytes: number): void {
  const postmaster = Number(readFileSync(join(dataFolder, "postmaster.pid"), "utf8").split("\n")[0]);
  const { uid, gid } = statSync(dataFolder);
  const user = process.getuid?.() === 0 ? { uid, gid } : {};
  const children = readFileSync(`/proc/${postmaster}/task/${postmaster}/children`, "utf8").trim().split(" ");
  for (const pid of [String(postmaster), ...children])
    try {
      execFileSync("prlimit", ["--pid", pid, `--fsize=${bytes}:`], user);
    } catch (error) {
      if (existsSync(`/proc/${pid}`)) throw error; // a session that has ended
    }
}

test("a promotion that fails for want of disk names the server; with room, the next run ends the move or takes it back", {
  skip: skip === false && process.platform !== "linux" ? "prlimit is of Linux" : skip,
  ...limit,
}, async () => {
  const writer = await begin("quorum");
  const last = await append(writer);
  const folder = String((await homes.at(homes.us, "show data_directory"))?.["data_directory"]);
  // Just less than a segment of the write-ahead log: it still receives, but cannot begin a new timeline.
  limitFiles(folder, 16 * 1_048_576 - 8_192);
  const failed = await homes.move("us");
  assert.equal(failed.code, 1, failed.output);
  const { us, east } = homes;
  assert.match(
    failed.output,
    new RegExp(`not complete: ${address(us)} was not promoted: .*read the log of ${address(us)}`),
  );
  assert.match(
    failed.output,
    new RegExp(`${address(east)} still refuses writes, because the promotion may yet happen`),
  );
  assert.match(await us.log(), /could not write to file "pg_wal\/xlogtemp/);
  // Until it answers, no run can know what it did last.
  const early = await homes.move("east");
  assert.match(early.output, /not moved: an earlier run may have promoted a server that does not answer/);
  await us.start();
  assert.match((await homes.move("east")).output, isComplete);
  const again = await homes.writerAt(east);
  await append(again.writer);
  assert.match((await homes.move("us")).output, isComplete);
  await homes.assertMoved(writer, last);
});
