/**
 * A failing SQLite log under a broker and a node in one process: a damaged file, a full disk, a thread that dies.
 *
 * Each failure is an error that names the file and the remedy. No event is half written, and decisions continue from
 * what was applied.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { promisify } from "node:util";
import type { BrokerId, CommandResult, NodeId } from "../../../src/events/index.ts";
import { createLocalFanout } from "../../../src/replication/fanout/index.ts";
import {
  type EventLog,
  LogRefusedError,
  LogUnavailableError,
  openSqliteLog,
  verifyLog,
} from "../../../src/replication/log/index.ts";
import { startReplica } from "../../../src/replication/node/index.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import { asked, brokerOn, cluster, createSession, quiet, random, revoke, secret } from "../../broker/support.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { aSession, LogWriter } from "../../support/log-writer.ts";
import { waitFor } from "../../support/wait-for.ts";

const run = promisify(execFile);
let folder: TemporaryFolder;
let path: string;
const cleanups: (() => Promise<unknown> | unknown)[] = [];
beforeEach(() => {
  folder = new TemporaryFolder("bad-store");
  path = join(folder.path, "data", "log.db");
});
afterEach(async () => {
  for (const cleanUp of cleanups.splice(0).reverse()) await cleanUp();
  folder.remove();
});

async function openLog(options: object = {}): Promise<EventLog> {
  const log = await openSqliteLog({ path, cluster, ...options });
  cleanups.push(() => log.close());
  return log;
}

/** Starts a broker and a node in one process, as `cardea dev` does. */
async function startBrokerAndNode(log: EventLog) {
  const fanout = createLocalFanout({ logger: quiet });
  const lines: string[] = [];
  const record = (facts: object, text: string): void => {
    const { err, reason } = facts as { err?: Error; reason?: string };
    lines.push(`${text}: ${reason ?? ""} ${err?.message ?? ""}`);
  };
  const logger = { debug: record, info: record, warn: record, error: record };
  const broker = brokerOn(log, { fanout, logger, brokerId: "solo" as BrokerId, commandMs: 5_000 });
  cleanups.push(() => broker.stop());
  const replica = startReplica({
    ...{ name: "node" as NodeId, role: "proxy", region: "here", version: "test" },
    ...{ configHash: () => "c", cluster, secret, databroker: broker.databroker("proxy"), fanout, clock: systemClock },
    ...{ randomBytes: random, logger: quiet, windowMs: () => 5_000, dataDir: null, renewMs: 100, pollMs: 100 },
  });
  cleanups.push(() => replica.stop());
  assert.ok(await replica.whenReady(60_000));
  const submit = (command: Parameters<typeof asked>[0], request = asked(command)): Promise<CommandResult> =>
    broker.databroker(command.type === "revokeSession" ? "operator" : "authenticate").submit(request);
  return { broker, replica, submit, lines };
}

test("a file truncated at any length is refused and left unchanged", async () => {
  const log = await openSqliteLog({ path, cluster });
  const writer = await LogWriter.open(log);
  for (let n = 0; n < 20; n++) await writer.appendEach(...Array.from({ length: 20 }, () => aSession()));
  await log.close();
  const intact = readFileSync(path);
  for (const share of [0.9, 0.5, 0.1]) {
    writeFileSync(path, intact);
    truncateSync(path, Math.floor((intact.length * share) / 4096) * 4096);
    const size = statSync(path).size;
    await assert.rejects(openSqliteLog({ path, cluster }), (error: Error) => {
      assert.ok(error instanceof LogRefusedError, `${share}: ${error.name}`);
      assert.match(
        error.message,
        /log\.db is damaged \(.*\), so it is neither read nor changed\..* backup .*docs\/backup\.md/,
      );
      return true;
    });
    assert.equal(statSync(path).size, size, "the file is unchanged");
  }
  writeFileSync(path, intact);
  assert.equal((await verifyLog(await openLog())).type, "intact");
});

test("reading an overwritten page is an error that names the file and the remedy", async () => {
  const log = await openSqliteLog({ path, cluster });
  const writer = await LogWriter.open(log);
  for (let n = 0; n < 20; n++) await writer.appendEach(...Array.from({ length: 20 }, () => aSession()));
  await log.close();
  const bytes = readFileSync(path);
  for (let page = 10; page < bytes.length / 4096; page++) bytes.fill(0xff, page * 4096, page * 4096 + 64);
  writeFileSync(path, bytes);
  const outcome = await openSqliteLog({ path, cluster }).then(
    async (log) => {
      cleanups.push(() => log.close());
      return verifyLog(log).then(
        (verdict) => (verdict.type === "broken" ? verdict.problem : "intact"),
        (error: Error) => error.message,
      );
    },
    (error: Error) => error.message,
  );
  assert.match(outcome, /log\.db is damaged .* backup/);
});

test("on a full disk commands are unavailable and decisions continue; with free space commands succeed again", {
  skip: process.getuid?.() !== 0 ? "mounting a small disk needs root" : false,
}, async (t) => {
  const disk = join(folder.path, "small");
  mkdirSync(disk);
  await run("mount", ["-t", "tmpfs", "-o", "size=3m", "tmpfs", disk]);
  cleanups.push(() => run("umount", ["-l", disk]));
  path = join(disk, "log.db");
  const { broker, replica, submit, lines } = await startBrokerAndNode(await openLog());
  assert.equal((await submit(createSession("kept", "alice"))).type, "done");
  assert.equal((await submit(createSession("other", "bob"))).type, "done");
  await waitFor("the node to apply both sessions", () => replica.projection.counts.sessions === 2);

  const filler = join(disk, "filler");
  const fillDisk = async (): Promise<void> => {
    await run("dd", ["if=/dev/zero", `of=${filler}`, "bs=4096", "count=10000"]).catch(() => {});
  };
  await fillDisk();
  const refused = await waitFor(
    "a command to be refused",
    async () => {
      await fillDisk(); // use up what SQLite had reserved
      const result = await submit(createSession(randomUUID(), "carol"));
      return result.type === "unavailable" ? result : undefined;
    },
    { withinMs: 30_000 },
  );
  t.diagnostic(refused.message);
  await waitFor("a log line that names the full disk", () =>
    lines.some((line) => /log\.db.*disk is full\. Free some space/.test(line)),
  ).catch((cause: unknown) => assert.fail(new Error(lines.join("\n"), { cause })));
  const session = replica.projection.session("kept" as never);
  assert.equal(session?.status, "active", "the projection keeps what was applied");
  await waitFor("the broker to report that it is not ready", () => !broker.ready().ready);

  rmSync(filler);
  const result = await waitFor(
    "commands to succeed again",
    async () => {
      const answer = await submit(revoke("other"));
      return answer.type === "done" ? answer : undefined;
    },
    { withinMs: 30_000 },
  );
  await waitFor("the node to apply it", () => replica.applied.position >= result.link.position);
  assert.equal(replica.projection.session("other" as never)?.status, "revoked");
  await waitFor("the node to have a lease again", () => replica.ready().ready);
});

test("when the thread of the file log dies, pending commands may be unavailable, a new thread reopens the file, and the broker continues", async () => {
  const log = await openLog();
  const { submit, replica } = await startBrokerAndNode(log);
  const first = await submit(createSession("s1", "alice"));
  assert.equal(first.type, "done");
  for (let n = 0; n < 3; n++) {
    const pending = submit(createSession(`during-${n}`, "alice"));
    await terminateThread();
    const result = await pending;
    assert.ok(result.type === "done" || result.type === "unavailable", JSON.stringify(result));
  }
  const command = createSession("later", "bob");
  const commandRequest = asked(command);
  const later = await waitFor(
    "commands to succeed again",
    async () => {
      const answer = await submit(command, commandRequest);
      return answer.type === "done" ? answer : undefined;
    },
    { withinMs: 30_000 },
  );
  await waitFor("the node to apply it", () => replica.applied.position >= later.link.position);
  assert.equal((await verifyLog(log)).type, "intact");
});

/** Terminates the workers of this process, since the log offers no way to end its thread. */
async function terminateThread(): Promise<void> {
  const { Worker } = await import("node:worker_threads");
  const workers = threads.splice(0);
  await Promise.all(workers.map((worker) => (worker as InstanceType<typeof Worker>).terminate()));
}
const threads: unknown[] = [];
process.on("worker", (worker) => threads.push(worker));

test("a thread that cannot reopen its file gives the reason, and the log recovers once the file is back", async () => {
  const log = await openLog();
  const writer = await LogWriter.open(log);
  await writer.appendEach(aSession());
  const intact = join(folder.path, "good.db");
  await terminateThread();
  await run("mv", [path, intact]);
  mkdirSync(path);
  await waitFor("an error that names the file", async () => {
    const error = await log.observe().then(
      () => undefined,
      (problem: unknown) => problem,
    );
    return error instanceof LogUnavailableError && /log\.db cannot be (opened|used)/.test(error.message);
  });
  rmSync(path, { recursive: true });
  await run("mv", [intact, path]);
  await waitFor("the log to be read again", async () => (await log.observe()).head.position === 2, {
    withinMs: 20_000,
  });
});
