/**
 * Real processes on a real disk, killed at any moment and restarted: what their callers saw is recorded, or declared
 * lost.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { type AuditRecord, parseLine } from "../../../src/audit/index.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { waitFor } from "../../support/wait-for.ts";

/** What the callers of one boot saw. */
type History = Readonly<{ boot: string; bestEffort: string[]; durable: string[]; refused: string[] }>;

function start(
  t: TestContext,
  folder: string,
  boot: string,
  { bytes = 0, down = false }: Readonly<{ bytes?: number; down?: boolean }> = {},
): Readonly<{ child: ChildProcess; history: History }> {
  const child = spawn(
    process.execPath,
    [join(import.meta.dirname, "killed-recorder.ts"), folder, boot, String(bytes), down ? "down" : "up"],
    {
      stdio: ["pipe", "pipe", "ignore"],
    },
  );
  t.after(() => child.kill("SIGKILL"));
  const history: History = { boot, bestEffort: [], durable: [], refused: [] };
  let rest = "";
  child.stdout?.on("data", (chunk: Buffer) => {
    const lines = `${rest}${chunk}`.split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const list = { b: history.bestEffort, s: history.durable, x: history.refused }[line[0] ?? ""];
      list?.push(line.slice(2));
    }
  });
  return { child, history };
}

async function kill(child: ChildProcess): Promise<void> {
  child.kill("SIGKILL");
  await once(child, "close");
}

function recordsIn(folder: string): AuditRecord[] {
  const path = join(folder, "audit.jsonl");
  return existsSync(path)
    ? readFileSync(path, "utf8")
        .split("\n")
        .flatMap((line) => parseLine(line) ?? [])
    : [];
}

function checkHistory(records: readonly AuditRecord[], { boot, bestEffort, durable }: History): void {
  const own = records.filter((record) => record.boot === boot);
  const recorded = new Set(own.flatMap((record) => (record.kind === "decision" ? [record.requestId] : [])));
  const numbers = new Set(own.flatMap((record) => (record.kind === "decision" ? [record.seq] : [])));
  let declared = 0;
  for (const record of own) {
    if (record.kind !== "gap") continue;
    for (let number = record.first; number <= record.last; number++) if (!numbers.has(number)) declared++;
  }
  for (const id of durable) assert.ok(recorded.has(id), `${id} was acknowledged as durable`);
  const missing = bestEffort.filter((id) => !recorded.has(id));
  assert.ok(missing.length <= declared, `${boot}: ${missing.length} missing, ${declared} declared`);
  const newest = Math.max(0, ...own.map(({ seq }) => seq));
  assert.equal(new Set([...numbers, ...own.flatMap(rangeOf)]).size, newest, `${boot}: every number is accounted for`);
}

function rangeOf(record: AuditRecord): number[] {
  if (record.kind !== "gap") return [];
  return Array.from({ length: record.last - record.first + 1 }, (_, i) => record.first + i);
}

test("kill -9 under load: what callers saw is recorded or declared lost; strict records are all there", async (t) => {
  const folder = new TemporaryFolder("killed-spool");
  t.after(() => folder.remove());
  const histories: History[] = [];
  for (let boot = 1; boot <= 4; boot++) {
    const { child, history } = start(t, folder.path, `boot-${boot}`);
    histories.push(history);
    await waitFor("the load", () => history.durable.length > boot * 7);
    await delay(boot * 13);
    await kill(child);
  }
  const { child, history } = start(t, folder.path, "boot-9");
  await waitFor("the last boot's load", () => history.durable.length > 5);
  child.stdin?.write("stop\n");
  assert.deepEqual(await once(child, "close"), [0, null]);
  const records = recordsIn(folder.path);
  for (const each of [...histories, history]) checkHistory(records, each);
  const last = records.filter((record) => record.boot === "boot-9");
  assert.ok(
    last.every(({ kind }) => kind === "decision"),
    "a clean shutdown leaves no gap",
  );
  for (const boot of ["boot-1", "boot-2", "boot-3", "boot-4"])
    assert.ok(records.some((record) => record.boot === boot && record.kind === "gap" && record.reason === "killed"));
});

test("a rolling deploy while the sink is down: the new process waits for the old one's folder, and nothing is lost", async (t) => {
  const folder = new TemporaryFolder("rolling-spool");
  t.after(() => folder.remove());
  const histories: History[] = [];
  let running = start(t, folder.path, "boot-0", { down: true });
  for (let nth = 1; nth <= 4; nth++) {
    await waitFor("the load", () => running.history.durable.length > 5);
    const next = start(t, folder.path, `boot-${nth}`, { down: nth < 4 }); // while the old one still decides
    await delay(nth * 60);
    running.child.kill("SIGTERM");
    assert.deepEqual(await once(running.child, "close"), [0, null]);
    histories.push(running.history);
    running = next;
  }
  await waitFor("the last one's load", () => running.history.durable.length > 5);
  running.child.kill("SIGTERM");
  assert.deepEqual(await once(running.child, "close"), [0, null]);
  const records = recordsIn(folder.path);
  for (const each of [...histories, running.history]) {
    checkHistory(records, each);
    assert.deepEqual(
      records.filter(({ boot, kind }) => boot === each.boot && kind === "gap"),
      [],
      "clean ends leave no gap",
    );
  }
});

test("a full disk: strict is refused, best effort goes on, and every loss is declared", async (t) => {
  const folder = new TemporaryFolder("full-spool");
  const spool = join(folder.path, "spool");
  t.after(() => {
    spawnSync("umount", ["-l", spool]);
    folder.remove();
  });
  mkdirSync(spool);
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=12m", "tmpfs", spool]);
  if (mounted.status !== 0) return t.skip("a file system of a given size needs the right to mount");
  const { child, history } = start(t, folder.path, "boot-1", { bytes: 1_500 });
  await waitFor("the load", () => history.durable.length > 20);
  const filler = join(spool, "filler");
  await waitFor("strict records to be refused", () => {
    fill(filler);
    return history.refused.length > 20;
  });
  const { length } = history.bestEffort;
  await waitFor("best effort to go on", () => {
    fill(filler);
    return history.bestEffort.length > length + 500;
  });
  const durable = history.durable.length;
  rmSync(filler);
  await waitFor("strict records to be accepted again", () => history.durable.length > durable + 5);
  child.stdin?.write("stop\n");
  assert.deepEqual(await once(child, "close"), [0, null]);
  checkHistory(recordsIn(folder.path), history);
  return undefined;
});

/** Takes what is left of the file system. */
function fill(path: string): void {
  for (const size of [1_048_576, 65_536, 4_096]) {
    try {
      for (;;) appendFileSync(path, Buffer.alloc(size));
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "ENOSPC")) throw error;
    }
  }
}
