/**
 * A file log whose file or disk lets it down, under a broker and a node of the same process: a truncated file, a full
 * disk, a thread that dies. Each is an error that names the place and what to do; nothing is half written, and
 * decisions go on from what was applied.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { promisify } from "node:util";
import type { BrokerId, CommandResult, NodeId } from "../../../src/events/index.ts";
import {
  createLocalFanout,
  type EventLog,
  LogRefusedError,
  LogUnavailableError,
  openSqliteLog,
  startReplica,
  systemClock,
  verifyLog,
} from "../../../src/replication/index.ts";
import { asked, brokerOn, cluster, createSession, quiet, random, revoke, secret } from "../../broker/support.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { aSession, LogWriter } from "../../support/log-writer.ts";
import { waitFor } from "../../support/wait-for.ts";

const run = promisify(execFile);
let folder: TemporaryFolder;
let path: string;
const endings: (() => Promise<unknown> | unknown)[] = [];
beforeEach(() => {
  folder = new TemporaryFolder("bad-store");
  path = join(folder.path, "data", "log.db");
});
afterEach(async () => {
  for (const end of endings.splice(0).reverse()) await end();
  folder.remove();
});

async function opened(options: object = {}): Promise<EventLog> {
  const log = await openSqliteLog({ path, cluster, ...options });
  endings.push(() => log.close());
  return log;
}

/** A broker and a node in one process, as `cardea dev` has them. */
async function whole(log: EventLog) {
  const fanout = createLocalFanout({ logger: quiet });
  const said: string[] = [];
  const note = (facts: object, text: string): void => {
    const { err, reason } = facts as { err?: Error; reason?: string };
    said.push(`${text}: ${reason ?? ""} ${err?.message ?? ""}`);
  };
  const logger = { debug: note, info: note, warn: note, error: note };
  const broker = brokerOn(log, { fanout, logger, brokerId: "solo" as BrokerId, commandMs: 5_000 });
  endings.push(() => broker.stop());
  const replica = startReplica({
    ...{ name: "node" as NodeId, role: "proxy", region: "here", version: "test" },
    ...{ configHash: () => "c", cluster, secret, databroker: broker.databroker("proxy"), fanout, clock: systemClock },
    ...{ randomBytes: random, logger: quiet, windowMs: () => 5_000, dataDir: null, renewMs: 100, pollMs: 100 },
  });
  endings.push(() => replica.stop());
  assert.ok(await replica.whenReady(60_000));
  const ask = (command: Parameters<typeof asked>[0], request = asked(command)): Promise<CommandResult> =>
    broker.databroker(command.type === "revokeSession" ? "operator" : "authenticate").submit(request);
  return { broker, replica, ask, said };
}

test("a truncated file is refused whole, wherever it ends, and is left as it is", async () => {
  const log = await openSqliteLog({ path, cluster });
  const writer = await LogWriter.open(log);
  for (let n = 0; n < 20; n++) await writer.appendEach(...Array.from({ length: 20 }, () => aSession()));
  await log.close();
  const good = readFileSync(path);
  for (const share of [0.9, 0.5, 0.1]) {
    writeFileSync(path, good);
    truncateSync(path, Math.floor((good.length * share) / 4096) * 4096);
    const size = statSync(path).size;
    await assert.rejects(openSqliteLog({ path, cluster }), (error: Error) => {
      assert.ok(error instanceof LogRefusedError, `${share}: ${error.name}`);
      assert.match(
        error.message,
        /log\.db is damaged \(.*\): nothing in it is believed or changed\..* backup .*docs\/backup\.md/,
      );
      return true;
    });
    assert.equal(statSync(path).size, size, "as it was");
  }
  writeFileSync(path, good);
  assert.equal((await verifyLog(await opened())).type, "intact");
});

test("a page that was overwritten is an error at whoever reads it, with the file's name and the remedy", async () => {
  const log = await openSqliteLog({ path, cluster });
  const writer = await LogWriter.open(log);
  for (let n = 0; n < 20; n++) await writer.appendEach(...Array.from({ length: 20 }, () => aSession()));
  await log.close();
  const bytes = readFileSync(path);
  for (let page = 10; page < bytes.length / 4096; page++) bytes.fill(0xff, page * 4096, page * 4096 + 64);
  writeFileSync(path, bytes);
  const outcome = await openSqliteLog({ path, cluster }).then(
    async (log) => {
      endings.push(() => log.close());
      return verifyLog(log).then(
        (verdict) => (verdict.type === "broken" ? verdict.problem : "intact"),
        (error: Error) => error.message,
      );
    },
    (error: Error) => error.message,
  );
  assert.match(outcome, /log\.db is damaged .* backup/);
});

test("the disk is full: commands are unavailable and say so, decisions go on, and with room they are done", {
  skip: process.getuid?.() !== 0 ? "mounting a small disk needs root" : false,
}, async (t) => {
  const disk = join(folder.path, "small");
  mkdirSync(disk);
  await run("mount", ["-t", "tmpfs", "-o", "size=3m", "tmpfs", disk]);
  endings.push(() => run("umount", ["-l", disk]));
  path = join(disk, "log.db");
  const { broker, replica, ask, said } = await whole(await opened());
  assert.equal((await ask(createSession("kept", "alice"))).type, "done");
  assert.equal((await ask(createSession("other", "bob"))).type, "done");
  await waitFor("the node to have them", () => replica.projection.counts.sessions === 2);

  const filler = join(disk, "filler");
  const full = async (): Promise<void> => {
    await run("dd", ["if=/dev/zero", `of=${filler}`, "bs=4096", "count=10000"]).catch(() => {});
  };
  await full();
  const refused = await waitFor(
    "a command to be refused",
    async () => {
      await full(); // whatever SQLite had kept in reserve
      const result = await ask(createSession(randomUUID(), "carol"));
      return result.type === "unavailable" ? result : undefined;
    },
    { withinMs: 30_000 },
  );
  t.diagnostic(refused.message);
  await waitFor("the log to say so", () => said.some((line) => /log\.db.*disk is full\. Make room/.test(line))).catch(
    (cause: unknown) => assert.fail(new Error(said.join("\n"), { cause })),
  );
  const session = replica.projection.session("kept" as never);
  assert.equal(session?.status, "active", "what was applied is still there");
  await waitFor("the broker to say that it is not ready", () => !broker.ready().ready);

  rmSync(filler);
  const result = await waitFor(
    "commands to be done again",
    async () => {
      const answer = await ask(revoke("other"));
      return answer.type === "done" ? answer : undefined;
    },
    { withinMs: 30_000 },
  );
  await waitFor("the node to have it", () => replica.applied.position >= result.link.position);
  assert.equal(replica.projection.session("other" as never)?.status, "revoked");
  await waitFor("the lease to be back", () => replica.ready().ready);
});

test("the thread of the file log dies: what was under way is unclear, another one reads the file anew, and the broker goes on", async () => {
  const log = await opened();
  const { ask, replica } = await whole(log);
  const first = await ask(createSession("s1", "alice"));
  assert.equal(first.type, "done");
  for (let n = 0; n < 3; n++) {
    const asking = ask(createSession(`during-${n}`, "alice"));
    await endThread();
    const result = await asking;
    assert.ok(result.type === "done" || result.type === "unavailable", JSON.stringify(result));
  }
  const command = createSession("later", "bob");
  const again = asked(command);
  const later = await waitFor(
    "commands to be done again",
    async () => {
      const answer = await ask(command, again);
      return answer.type === "done" ? answer : undefined;
    },
    { withinMs: 30_000 },
  );
  await waitFor("the node to have it", () => replica.applied.position >= later.link.position);
  assert.equal((await verifyLog(log)).type, "intact");
});

/** From within: a thread cannot be ended from outside of the log. */
async function endThread(): Promise<void> {
  const { Worker } = await import("node:worker_threads");
  const workers = threads.splice(0);
  await Promise.all(workers.map((worker) => (worker as InstanceType<typeof Worker>).terminate()));
}
const threads: unknown[] = [];
process.on("worker", (worker) => threads.push(worker));

test("a thread that cannot open its file again says why, and the log is back when the file is", async () => {
  const log = await opened();
  const writer = await LogWriter.open(log);
  await writer.appendEach(aSession());
  const good = join(folder.path, "good.db");
  await endThread();
  await run("mv", [path, good]);
  mkdirSync(path);
  await waitFor("an error that names the file", async () => {
    const error = await log.observe().then(
      () => undefined,
      (problem: unknown) => problem,
    );
    return error instanceof LogUnavailableError && /log\.db cannot be (opened|used)/.test(error.message);
  });
  rmSync(path, { recursive: true });
  await run("mv", [good, path]);
  await waitFor("the log to be read again", async () => (await log.observe()).head.position === 2, {
    withinMs: 20_000,
  });
});
