/** `cardea audit spool`: the spools of nodes that no process runs any more are reported, and can be delivered. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
import { Registry } from "prom-client";
import { type AuditRecord, openSpoolFolder, parseLine, spoolFolderOf } from "../../../src/audit/index.ts";
import { watchOrphanedSpools } from "../../../src/cli/build/audit/orphaned-spools.ts";
import type { NodeId } from "../../../src/events/index.ts";
import { startSpool } from "../../audit/spool/spool-support.ts";
import { decision, node, testSink } from "../../audit/support.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { waitFor } from "../../support/wait-for.ts";
import { run } from "../support.ts";

type Place = Readonly<{ config: string; spoolDir: string; folder: string; audit: string }>;

function placeOf(t: TestContext): Place {
  const folder = new TemporaryFolder("audit-spool");
  t.after(() => folder.remove());
  const [config, spoolDir] = [join(folder.path, "cardea.yaml"), join(folder.path, "spools")];
  const audit = join(folder.path, "audit", "decisions.jsonl");
  const secret = randomBytes(32).toString("base64");
  const keys = {
    ...{ services: "all", shared_secret: secret, cookie_secret: secret, insecure_server: true },
    authenticate_service_url: "https://authenticate.example.com",
    ...{ idp_provider: "oidc", idp_provider_url: "https://idp.example.com", idp_client_id: "cardea" },
    ...{ idp_client_secret: "a secret", data_dir: join(folder.path, "data"), node_name: "new-name" },
    audit: { spool_dir: spoolDir, sinks: [{ file: audit }] },
    routes: [{ from: "https://app.example.com", to: "http://127.0.0.1:1", allow_any_authenticated_user: true }],
  };
  writeFileSync(config, JSON.stringify(keys), { mode: 0o600 });
  return { config, spoolDir, folder: spoolFolderOf(spoolDir, node), audit };
}

/** A process of the node that decided while its sink was down. */
async function leaveRecords({ folder }: Place, boot: string, count: number): Promise<void> {
  const down = testSink(`file of ${boot}`);
  down.mode = "failing";
  const disk = openSpoolFolder(folder);
  const recorder = await startSpool(disk, [down], { boot });
  for (let i = 1; i <= count; i++) recorder.record(decision(`/${i}`, { boot: recorder.boot }));
  await recorder.close(200);
  disk.release();
  await waitFor("the end of its last write", () => isFree(folder));
}

function isFree(folder: string): boolean {
  try {
    openSpoolFolder(folder).release();
    return true;
  } catch {
    return false;
  }
}

function recordsIn(path: string): AuditRecord[] {
  return readFileSync(path, "utf8")
    .split("\n")
    .flatMap((line) => parseLine(line) ?? []);
}

test("audit spool lists what waits, and delivers it: every boot in order, once, and then the folder is gone", async (t) => {
  const place = placeOf(t);
  assert.deepEqual(await run(["audit", "spool", "-c", place.config]), {
    ...{ code: 0, out: "there are no audit spools\n", err: "" },
  });
  await leaveRecords(place, "boot-1", 3);
  await leaveRecords(place, "boot-2", 2);
  const before = readdirSync(place.folder).toSorted();
  const listed = await run(["audit", "spool", "-c", place.config, "--json"]);
  assert.equal(listed.code, 1);
  const [{ state, records, deadLetters } = { state: "", records: 0, deadLetters: null }] = JSON.parse(listed.out);
  assert.deepEqual({ state, records, deadLetters }, { state: "undelivered", records: 5, deadLetters: [] });
  assert.match((await run(["audit", "spool", "-c", place.config])).out, /^NODE .*\nnode-1 +undelivered +5 /);
  assert.deepEqual(readdirSync(place.folder).toSorted(), before, "looking changes nothing");

  const delivered = await run(["audit", "spool", "-c", place.config, "--deliver", "node-1"]);
  assert.equal(delivered.code, 0, delivered.err);
  assert.match(delivered.err, /5 delivered, 0 declared lost, 0 rejected, 0 wait/);
  assert.deepEqual(
    recordsIn(place.audit).map(({ boot, seq }) => `${boot}:${seq}`),
    ["boot-1:1", "boot-1:2", "boot-1:3", "boot-2:1", "boot-2:2"],
  );
  assert.equal(existsSync(place.folder), false);
  assert.equal((await run(["audit", "spool", "-c", place.config])).code, 0);
});

test("audit spool delivers nothing of a folder in use, and keeps what the sink does not accept", async (t) => {
  const place = placeOf(t);
  await leaveRecords(place, "boot-1", 3);
  const held = openSpoolFolder(place.folder);
  const refused = await run(["audit", "spool", "-c", place.config, "--deliver", "node-1"]);
  assert.equal(refused.code, 3);
  assert.match(refused.err, /a process uses the spool of node-1/);
  assert.match((await run(["audit", "spool", "-c", place.config])).out, /node-1 +in use/);
  held.release();

  mkdirSync(place.audit, { recursive: true }); // a folder in place of the file
  const failed = await run(["audit", "spool", "-c", place.config, "--deliver", "node-1", "--timeout", "300ms"]);
  assert.equal(failed.code, 1);
  assert.match(failed.err, /3 wait \(EISDIR.*\)\nnot all records of node-1 were delivered; the others stay in/);
  assert.equal((await run(["audit", "spool", "-c", place.config])).code, 1);

  for (const name of ["node-2", "../node-1", "..", ""]) {
    const unknown = await run(["audit", "spool", "-c", place.config, "--deliver", name]);
    assert.ok(unknown.code >= 2, `${name}: ${unknown.code} ${unknown.err}`);
  }
  assert.deepEqual(readdirSync(place.spoolDir), ["node-1"], "asking for a node creates no folder");
});

test("audit spool lists a folder that a killed process left with nothing but its gap, until the gap is delivered", async (t) => {
  const place = placeOf(t);
  const sink = testSink("a");
  const disk = openSpoolFolder(place.folder);
  const recorder = await startSpool(disk, [sink]);
  await recorder.recordDurably(decision());
  const cursor = (): string => {
    const name = readdirSync(place.folder).find((each) => each.startsWith("cursor-") && each.endsWith(".json"));
    return name === undefined ? "" : readFileSync(join(place.folder, name), "utf8");
  };
  await waitFor("the sink's position", () => cursor().includes('"next":2'));
  disk.release(); // it can write no end
  await waitFor("the end of its last write", async () => {
    return /node-1 +undelivered +0 /.test((await run(["audit", "spool", "-c", place.config])).out);
  });
  await recorder.close(50);
  assert.equal((await run(["audit", "spool", "-c", place.config, "--deliver", "node-1"])).code, 0);
  const gap = recordsIn(place.audit).at(-1);
  assert.ok(gap?.kind === "gap" && gap.reason === "killed" && gap.first === 2 && gap.atLeast === 0);
});

test("a process reports the spools of other nodes that no process uses, once, and counts them", async (t) => {
  const place = placeOf(t);
  await leaveRecords(place, "boot-1", 3);
  const held = ["own", "idle"].map((name) => openSpoolFolder(spoolFolderOf(place.spoolDir, name as NodeId)));
  writeFileSync(join(place.spoolDir, "file"), "");
  const warnings: unknown[] = [];
  const logger = { debug() {}, info() {}, error() {}, warn: (facts: object) => warnings.push(facts) };
  const registry = new Registry();
  const audit = { spoolDir: place.spoolDir } as Parameters<typeof watchOrphanedSpools>[0]["audit"];
  const options = { node: "own" as NodeId, registry, logger, firstMs: 1, everyMs: 5 };
  const stop = watchOrphanedSpools({ audit }, options);
  const measured = async (name: string): Promise<number | undefined> =>
    (await registry.getSingleMetric(`cardea_audit_orphaned_${name}`)?.get())?.values[0]?.value;
  await waitFor("the report", async () => (await measured("spools")) === 1);
  assert.equal(await measured("records"), 3);
  await waitFor("its delivery", async () => {
    return (await run(["audit", "spool", "-c", place.config, "--deliver", "node-1"])).code === 0;
  });
  await waitFor("the end of the report", async () => (await measured("spools")) === 0);
  await stop();
  assert.equal(warnings.length, 1);
  assert.partialDeepStrictEqual(warnings[0], { node: "node-1", path: place.folder, records: 3 });
  for (const each of held) each.release();
});

test("the folder of a node is inside the configured one, whatever the node is called", () => {
  for (const name of [".", "..", "...", "a/../b", "~", "x%2Fy"]) {
    const folder = spoolFolderOf("/var/spool/cardea", name as NodeId);
    assert.equal(dirname(folder), "/var/spool/cardea", name);
  }
  assert.equal(spoolFolderOf("/var/spool", "proxy-1.example" as NodeId), "/var/spool/proxy-1.example");
});
