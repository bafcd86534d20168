/** The file log: crashes, other processes, older and newer files, full disks, and files of other programs. */
import assert from "node:assert/strict";
import { chmodSync, copyFileSync, cpSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { type BootId, type CommandId, type NodeId, parseCommandId } from "../../src/events/index.ts";
import {
  type Lessee,
  LogRefusedError,
  LogUnavailableError,
  openSqliteLog,
  verifyLog,
} from "../../src/replication/log/index.ts";
import { sqliteMigrations } from "../../src/replication/log/migrations/sqlite-migrations.ts";
import { aConfiguration } from "../contract/configurations.ts";
import { Child, TemporaryFolder } from "../support/child.ts";
import { aCommandId, aSession, LogWriter, openEpoch } from "../support/log-writer.ts";
import { waitFor } from "../support/wait-for.ts";

const known = sqliteMigrations.length;
let folder: TemporaryFolder;
let path: string;
beforeEach(() => {
  folder = new TemporaryFolder("file-log");
  path = join(folder.path, "data", "log.db");
});
afterEach(() => folder.remove());

const writerScript = join(import.meta.dirname, "file-log-writer.ts");
const startWriter = (n: number): Promise<Child> =>
  Child.start({
    command: process.execPath,
    args: [writerScript, path],
    logFile: join(folder.path, `writer-${n}`),
  });

test("a log whose writer is killed repeatedly during appends stays dense and keeps every acknowledged batch", {
  timeout: 240_000,
}, async () => {
  const acknowledged = new Map<CommandId, number>();
  for (let round = 1; round <= 8; round++) {
    const writer = await startWriter(round);
    await waitFor("appends", () => writer.log().split("\n").length > 20 || !writer.running);
    assert.ok(writer.running, writer.log());
    await delay((round * 37) % 60); // each time at another point of a commit
    await writer.kill();
    for (const line of writer.log().split("\n").slice(1, -1)) {
      const [commandId, count] = line.split(" ");
      acknowledged.set(parseCommandId(commandId), Number(count));
    }
    const log = await openSqliteLog({ path, cluster: "test" });
    const verdict = await verifyLog(log);
    assert.ok(verdict.type === "intact", JSON.stringify(verdict));
    assert.equal(verdict.epochs.length, round);
    for (const [commandId, count] of acknowledged) assert.equal((await log.findCommand(commandId))?.count, count);
    await log.close();
  }
});

test("a second process is refused because the file is in use", async () => {
  const log = await openSqliteLog({ path, cluster: "test" });
  await LogWriter.open(log);
  const second = await startWriter(1);
  await second.exited;
  assert.ok(second.log().includes(`${path} is in use: another process has it open`), second.log());
  await assert.rejects(openSqliteLog({ path, cluster: "test", lockTimeoutMs: 50 }), (error: Error) => {
    assert.ok(error instanceof LogUnavailableError);
    assert.match(error.message, /in use/);
    return true;
  });
  await log.close();
  await (await openSqliteLog({ path, cluster: "test" })).close();
});

test("only the owner can read the file and the files that SQLite creates beside it", async () => {
  const log = await openSqliteLog({ path, cluster: "test" });
  const writer = await LogWriter.open(log);
  await writer.appendEach(aSession());
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.equal(statSync(`${path}-wal`).mode & 0o777, 0o600);
  assert.equal(statSync(join(folder.path, "data")).mode & 0o777, 0o700);
  await log.close();
  chmodSync(path, 0o644);
  await (await openSqliteLog({ path, cluster: "test" })).close();
  assert.equal(statSync(path).mode & 0o777, 0o600);
});

test("a file of a newer but compatible schema is used, and so is one from before compatibility was recorded", async () => {
  const writing = async (): Promise<void> => {
    const log = await openSqliteLog({ path, cluster: "test" });
    try {
      assert.equal((await (await LogWriter.open(log)).appendEach(aSession())).type, "appended");
    } finally {
      await log.close();
    }
  };
  const change = (sql: string): void => {
    const file = new DatabaseSync(path);
    file.exec(sql);
    file.close();
  };
  await writing();
  change(`alter table event add column note text; insert into schema_version values (${known + 1}, 0, ${known})`);
  await writing();
  change(`delete from schema_version where version > ${known}; alter table schema_version drop column works_with`);
  await writing();
  change(`insert into schema_version (version, applied_at, works_with) values (${known + 2}, 0, ${known + 1})`);
  const tooNew = new RegExp(`schema version ${known + 2}.*versions up to ${known}`);
  await assert.rejects(openSqliteLog({ path, cluster: "test" }), tooNew);
});

test("a file of the previous schema version is migrated with its content", async () => {
  const original = await openSqliteLog({ path, cluster: "test" });
  await (await LogWriter.open(original)).appendEach(aSession());
  const { head } = await original.observe();
  await original.close();
  const file = new DatabaseSync(path);
  file.exec(
    "drop table configuration; drop table lease_mark; drop table admitted_node; delete from schema_version where version >= 3",
  );
  file.close();
  const log = await openSqliteLog({ path, cluster: "test" });
  assert.deepEqual((await log.observe()).head, head);
  const configuration = aConfiguration("{}");
  const writer = await LogWriter.open(log);
  assert.equal((await writer.append([{ events: [aSession()] }], { configurations: [configuration] })).type, "appended");
  assert.equal((await log.configurations()).length, 1);
  await log.close();
});

const replacements: Readonly<Record<string, (copy: string) => void>> = {
  "the file alone": (copy) => copyFileSync(join(copy, "log.db"), path),
  "the file and its mark, in place": (copy) => {
    for (const name of ["log.db", "log.db-mark"]) copyFileSync(join(copy, name), join(dirname(path), name));
  },
  "the whole folder": (copy) => {
    rmSync(dirname(path), { recursive: true });
    cpSync(copy, dirname(path), { recursive: true, preserveTimestamps: true });
  },
};
for (const [what, replace] of Object.entries(replacements))
  test(`an older copy is noticed when it replaces ${what}, even within one epoch`, async () => {
    const original = await openSqliteLog({ path, cluster: "test" });
    const writer = await LogWriter.open(original, { windowMaxMs: 60_000 });
    const copy = join(folder.path, "copy");
    const lessee = (node: string): Lessee => ({
      node: node as NodeId,
      boot: `${node}-boot` as BootId,
      region: "here",
      role: "proxy",
      windowMs: 5_000,
    });
    await writer.beat({ lessees: [lessee("early")] });
    await original.close();
    cpSync(dirname(path), copy, { recursive: true, preserveTimestamps: true });
    const lost = await openSqliteLog({ path, cluster: "test" });
    const { incarnation, epoch } = writer;
    const beat = { epoch, incarnation, head: writer.head, lessees: [lessee("late")], left: [] };
    assert.equal((await lost.beat(beat)).type, "beaten");
    await lost.close();

    replace(copy);
    const log = await openSqliteLog({ path, cluster: "test" });
    const opened = await openEpoch(log, { windowMaxMs: 60_000 });
    assert.ok(opened.type === "opened", opened.type);
    assert.match(opened.beatsLost ?? "", /the log is a copy/);
    assert.deepEqual(opened.lessees.map(({ node }) => node).sort(), ["@unknown-nodes", "early"]);
    const again = await openEpoch(log, { windowMaxMs: 60_000 });
    assert.equal(again.type === "opened" && again.beatsLost, null, "from then on it counts as the log");
    await log.close();
  });

test("files of another cluster, version or program are refused and left unchanged", async () => {
  const refused = async (pattern: RegExp, cluster = "test"): Promise<void> => {
    await assert.rejects(openSqliteLog({ path, cluster }), (error: Error) => {
      assert.ok(error instanceof LogRefusedError, error.message);
      assert.match(error.message, pattern);
      assert.ok(error.message.includes(path));
      return true;
    });
  };
  await (await openSqliteLog({ path, cluster: "test" })).close();
  await refused(/cluster "test", not of "other"/, "other");
  const file = new DatabaseSync(path);
  file.exec("insert into schema_version (version, applied_at) values (7, 0)");
  file.close();
  await refused(new RegExp(`schema version 7.*versions up to ${known}`));

  path = join(folder.path, "foreign.db");
  const foreign = new DatabaseSync(path);
  foreign.exec("create table customers (name text)");
  foreign.close();
  await refused(/not a Cardea log/);

  path = join(folder.path, "text.db");
  writeFileSync(path, "this is not a database, despite its name\n".repeat(100));
  await refused(/not a Cardea log/);

  path = join(folder.path, "a-folder");
  mkdirSync(path);
  await assert.rejects(openSqliteLog({ path, cluster: "test" }), LogUnavailableError);
});

test("a write on a full disk is never acknowledged, and no acknowledged batch is lost", async () => {
  // A limit on the file size stands in for the disk: a write beyond it fails as on a full disk.
  const writer = await Child.start({
    command: "sh",
    args: ["-c", `trap '' XFSZ; ulimit -f 2000; exec "$0" "$@"`, process.execPath, writerScript, path],
    logFile: join(folder.path, "writer-full"),
  });
  assert.equal((await writer.exited).code, 1);
  assert.match(writer.log(), /Error: (indeterminate|unavailable)/);
  const lines = writer.log().split("\n");
  const acknowledged = lines.filter((line) => /^[0-9a-f-]{36} \d+$/.test(line)).map((line) => line.split(" "));
  assert.ok(acknowledged.length > 10);
  const log = await openSqliteLog({ path, cluster: "test" });
  assert.equal((await verifyLog(log)).type, "intact");
  for (const [commandId, count] of acknowledged) {
    assert.equal((await log.findCommand(parseCommandId(commandId)))?.count, Number(count));
  }
  await log.close();
});

test("erased data is gone from the file and from its WAL", async () => {
  const log = await openSqliteLog({ path, cluster: "test" });
  const writer = await LogWriter.open(log);
  const [key, tokens] = [Buffer.from("the-wrapped-key-of-a-person"), Buffer.from("the-sealed-tokens-of-a-session")];
  const session = aSession();
  await writer.append([{ events: [session] }], {
    newKeys: [{ userId: session.userId, keyId: Buffer.from("the-keyid"), wrapped: key }],
    vault: [{ sessionId: session.sessionId, version: 1, sealed: tokens }],
  });
  const holds = (secret: Buffer) => [path, `${path}-wal`].some((file) => readFileSync(file).includes(secret));
  assert.ok(holds(key) && holds(tokens));
  await writer.append([{ events: [{ type: "UserErased", userId: session.userId }] }], {
    erasedKeys: [session.userId],
    vaultRemoved: [session.sessionId],
  });
  assert.ok(!holds(key) && !holds(tokens));
  await log.close();
});

test("a write without an answer in time is indeterminate, and later calls find its outcome", async () => {
  const log = await openSqliteLog({ path, cluster: "test", answerTimeoutMs: 60 });
  const writer = await waitFor("an epoch", () => LogWriter.open(log).catch(() => undefined));
  const commandId = aCommandId();
  const events = Array.from({ length: 20_000 }, () => aSession());
  const outcome = await writer.append([{ commandId, events }]);
  assert.ok(outcome.type === "indeterminate", outcome.type);
  const found = await waitFor("the database thread to finish", () => log.findCommand(commandId).catch(() => undefined));
  assert.equal(found.count, events.length);
  await log.close();
  const reopened = await openSqliteLog({ path, cluster: "test" });
  assert.equal((await verifyLog(reopened)).type, "intact");
  await reopened.close();
});

test("an answer that arrives after its time-out does not keep the process alive", async () => {
  const log = await openSqliteLog({ path, cluster: "test" });
  const writer = await LogWriter.open(log);
  await writer.append([{ events: Array.from({ length: 5_000 }, () => aSession()) }]);
  await log.close();
  const script = `
    import { openSqliteLog } from ${JSON.stringify(join(import.meta.dirname, "../../src/replication/log/index.ts"))};
    import { genesis } from ${JSON.stringify(join(import.meta.dirname, "../../src/events/index.ts"))};
    const log = await openSqliteLog({ path: ${JSON.stringify(path)}, cluster: "test", answerTimeoutMs: 1 });
    const reads = Array.from({ length: 5 }, () => log.read(genesis, 5_000));
    for (const { status } of await Promise.allSettled(reads)) console.log(status);`;
  const child = await Child.start({
    command: process.execPath,
    args: ["--input-type=module", "--eval", script],
    logFile: join(folder.path, "late"),
  });
  const late = setTimeout(() => void child.kill(), 120_000);
  const { code, signal } = await child.exited;
  clearTimeout(late);
  assert.deepEqual({ code, signal }, { code: 0, signal: null });
  assert.match(child.log(), /rejected/);
});

test("an idle file log does not keep its process alive", async () => {
  const script = `
    import { openSqliteLog } from ${JSON.stringify(join(import.meta.dirname, "../../src/replication/log/index.ts"))};
    const log = await openSqliteLog({ path: ${JSON.stringify(path)}, cluster: "test" });
    await log.observe();
    console.log("done");`;
  const child = await Child.start({
    command: process.execPath,
    args: ["--input-type=module", "--eval", script],
    logFile: join(folder.path, "idle"),
  });
  assert.deepEqual(await child.exited, { code: 0, signal: null });
  assert.match(child.log(), /done/);
});
