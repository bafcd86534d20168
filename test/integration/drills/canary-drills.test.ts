/** Drills that change only the canary, on a real cluster: what they measure, refuse, and leave behind. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { lockGroup } from "../../../src/cli/drill/drill-lock.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type DrillCluster, type DrillResult, startDrillCluster } from "./drill-support.ts";

let drills: DrillCluster;
before(
  async () => {
    drills = await startDrillCluster({ timing: "short", regions: ["north", "north", "south"] });
  },
  { timeout: 400_000 },
);
after(() => drills?.stop());

const quick = ["--quiet", "1s"];

/** Safety holds whatever the machine's pace; times are the drill's own verdicts and set its exit code. */
function assertSafe(result: DrillResult): void {
  const { verdicts } = result.record();
  for (const name of ["nothing-after-receipt", "nothing-lost", "restored"] as const)
    assert.equal(result.verdict(name).result, "held", `${name}: ${result.verdict(name).text}\n${result.err}`);
  assert.equal(result.code, verdicts.some((verdict) => verdict.result === "broken") ? 1 : 0, result.err);
  assert.match(readFileSync(result.report, "utf8"), /data-page="run-report"/);
}

async function assertUnlocked(): Promise<void> {
  const lock = (await drills.groups()).find(({ id }) => id === lockGroup);
  assert.deepEqual(
    (lock?.members ?? []).filter(({ member }) => member),
    [],
  );
}

test("group-removal measures every round, ends the canary's streams, and gives the membership back", async () => {
  await drills.signIn();
  const result = await drills.run("group-removal", "--rounds", "2", ...quick);
  assertSafe(result);
  const record = result.record();
  assert.equal(record.revocations.length, 2);
  assert.equal(record.receipts.length, 2);
  assert.ok(record.receipts.every(({ nodes }) => nodes.length >= 3));
  assert.notEqual(result.verdict("streams-end").result, "not-measured");
  assert.deepEqual(
    record.traffic
      .filter(({ source }) => source === "canary")
      .map(({ region }) => region)
      .sort(),
    ["north", "south"],
  );
  assert.ok((await drills.canary()).groups.includes("eng"));
  await assertUnlocked();
});

test("revoke-session ends the canary's session, and says that it must sign in again", async () => {
  const session = await drills.signIn();
  const result = await drills.run("revoke-session", ...quick);
  assertSafe(result);
  assert.match(result.err, /sign in again before the next drill/);
  assert.equal((await drills.cluster.get(drills.cluster.proxy(1), "eng", session)).permitted, false);
  const again = await drills.run("group-removal", ...quick);
  assert.equal(again.code, 3);
  assert.match(again.err, /not a live session of canary@example\.com/);
  assert.ok(!existsSync(again.report));
});

test("suspend-user restores the user, who may sign in again", async () => {
  await drills.signIn();
  const result = await drills.run("suspend-user", ...quick);
  assertSafe(result);
  assert.equal((await drills.canary()).status, "active");
  await drills.signIn();
});

test("suspend-user does not begin while the canary user has a session that is not the canary's", async () => {
  await drills.signIn();
  await drills.signIn("another");
  const result = await drills.run("suspend-user", ...quick);
  assert.equal(result.code, 3);
  assert.match(result.err, /other sessions, which a suspension would end/);
});

test("an interrupt while the canary is suspended restores it, releases the lock, and leaves a report", async () => {
  await drills.signIn();
  const drill = drills.start("suspend-user", ...quick);
  await waitFor("the canary to be suspended", async () => (await drills.canary()).status === "suspended", {
    withinMs: 60_000,
    everyMs: 5,
  });
  drill.kill("SIGINT");
  const result = await drill.result;
  assert.equal(result.code, 1, result.err);
  assert.equal(result.record().stopped, "interrupted by SIGINT");
  assert.equal(result.verdict("restored").result, "held", result.verdict("restored").text);
  assert.equal((await drills.canary()).status, "active");
  await assertUnlocked();
  assert.match(readFileSync(result.report, "utf8"), /Stopped early/);
});

test("a terminal that is closed in the middle of a drill keeps nothing from being undone", async () => {
  await drills.signIn();
  const drill = drills.start("group-removal", ...quick);
  await waitFor("the canary to lose its right", async () => !(await drills.canary()).groups.includes("eng"), {
    withinMs: 60_000,
    everyMs: 5,
  });
  drill.closeOutput();
  drill.kill("SIGTSTP"); // no drill stands still
  drill.kill("SIGHUP");
  const result = await drill.result;
  assert.equal(result.code, 1);
  assert.ok((await drills.canary()).groups.includes("eng"));
  await assertUnlocked();
  assert.match(readFileSync(result.report, "utf8"), /interrupted by SIGHUP/);
});

test("a second drill does not begin while the first one runs, and begins afterwards", async () => {
  await drills.signIn();
  const first = drills.start("group-removal", "--rounds", "1", "--quiet", "60s");
  await waitFor("the first drill to take the lock", () => first.err().includes("lock taken"), { withinMs: 60_000 });
  const second = await drills.run("group-removal", "--rounds", "1", ...quick);
  assert.equal(second.code, 3);
  assert.match(second.err, /the drill does not begin: another drill is running/);
  first.kill("SIGINT");
  assert.equal((await first.result).record().stopped, "interrupted by SIGINT");
  assertSafe(await drills.run("group-removal", "--rounds", "1", ...quick));
});

test("a dry run checks, prints each step, and writes nothing to the log", async () => {
  await drills.signIn();
  const before = (await drills.cluster.status()).leader?.head.position;
  const result = await drills.run("group-removal", "--dry-run");
  assert.equal(result.code, 0, result.err);
  for (const step of [
    /remove canary@example\.com from eng/,
    /proxy-3 at 127\.0\.0\.1:/,
    /release the lock/,
    /nothing is changed/,
  ])
    assert.match(result.out, step);
  assert.equal((await drills.cluster.status()).leader?.head.position, before);
  assert.ok(!existsSync(result.report));
});

test("a canary without its membership is refused before anything is changed, with the command that adds it", async () => {
  const session = await drills.signIn();
  await drills.cluster.operator.post("/groups/eng/members", { remove: [session.userId], wait: "all" });
  const result = await drills.run("group-removal", ...quick);
  assert.equal(result.code, 3);
  assert.match(result.err, /first: cardea groups add eng canary@example\.com/);
});
