/**
 * Commits whose outcome the broker does not learn: the connection breaks between the commit and its reply, or the wait
 * for a standby is cancelled.
 *
 * Each command is done once, and its client learns so only once it is durable.
 */
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { type CommandResult, decodeEvents, genesis } from "../../../src/events/index.ts";
import { verifyLog } from "../../../src/replication/log/index.ts";
import { asked, createSession } from "../../broker/support.ts";
import { findPostgresBinaries } from "../../support/postgres.ts";
import { type PostgresGroup, startPostgresGroup } from "../../support/postgres-group.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type Relay, startRelay } from "../cluster/relay.ts";
import { InProcessCluster, type TestBroker, waitToLead } from "./in-process.ts";

const skip = findPostgresBinaries() === undefined ? "a standby needs local binaries of Postgres" : false;
let group: PostgresGroup;
let testCluster: InProcessCluster;
let relay: Relay;
let database: string;
let throughRelay: string;

beforeEach(async () => {
  if (skip !== false) return;
  group = await startPostgresGroup({ synchrony: "quorum" });
  const connectionString = await group.newDatabase();
  database = connectionString.slice(connectionString.lastIndexOf("/") + 1);
  relay = await startRelay({ targets: [group.port] });
  const submissions = new URL(group.primary().connectionString(database));
  submissions.port = String(relay.port);
  throughRelay = submissions.href;
  testCluster = new InProcessCluster(throughRelay);
});
afterEach(async () => {
  await testCluster?.stop();
  await relay?.close();
  await group?.stop();
});

type Submission = {
  commandId: string;
  sessionId: string;
  answer: Promise<CommandResult>;
  resubmit: () => Promise<CommandResult>;
};

function submit(member: TestBroker, sessionId: string): Submission {
  const request = asked(createSession(sessionId, "alice"));
  const resubmit = () => member.broker.databroker("authenticate").submit(request);
  return { commandId: request.commandId, sessionId, answer: resubmit(), resubmit };
}

/**
 * Submits the command again, under the same id, while its outcome is unknown: a busy machine may exceed its time-out.
 */
async function outcomeOf({ answer, resubmit }: Pick<Submission, "answer" | "resubmit">): Promise<CommandResult> {
  let result = await answer;
  while (result.type === "unavailable") result = await resubmit();
  return result;
}

/**
 * Detaches the standbys while an append waits for them. If a beat or the opening of an epoch waits instead, attaches
 * them and retries.
 */
async function detachDuringAppend(member: TestBroker): Promise<void> {
  for (let attempts = 0; attempts < 10; attempts++) {
    await waitToLead(member);
    await group.detachStandbys();
    const waiting = await waitFor("a commit to wait for a standby", async () => {
      const rows = await group.sql("select query from pg_stat_activity where wait_event = 'SyncRep'");
      return rows.length > 0 && rows.map((row) => String(row["query"]));
    });
    if (waiting.some((query) => query.includes(".append("))) return;
    await group.attachStandbys();
  }
  assert.fail("no append was waiting when the standbys were detached");
}

/** The number of events of each command in the log, by cause. */
async function countsInLog(member: TestBroker): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  assert.equal((await verifyLog(member.log)).type, "intact");
  const page = await member.log.read(genesis, 10_000);
  assert.equal(page.type, "page");
  if (page.type !== "page") return counts;
  const seen = new Set<string>();
  for (const { cause, event } of decodeEvents(page.page.entries, genesis)) {
    if (cause === null || event.type !== "SessionCreated" || seen.has(event.sessionId)) continue;
    counts.set(cause, (counts.get(cause) ?? 0) + 1);
  }
  return counts;
}

test("each command is done once and reported done, though the connection breaks between the commit and its reply", {
  skip,
  timeout: 240_000,
}, async (t) => {
  const member = await testCluster.broker("broker-1");
  await waitToLead(member);
  await submit(member, "before").answer;
  const committed: number[] = [];
  const all: Submission[] = [];
  const isSeen = (): boolean => committed.some((count) => count > 0);
  for (let round = 0; round < 8 || (round < 40 && !isSeen()); round++) {
    await waitToLead(member);
    const [head] = await group.sql("select pos::int as pos from cardea.log_head", database);
    const heldBytes = relay.hold();
    const submissions = Array.from({ length: 5 }, (_, n) => submit(member, `s${round}-${n}`));
    all.push(...submissions);
    await waitFor("a reply to be in flight", () => heldBytes() > 0);
    // The server may have committed by now; the brokers cannot know.
    await new Promise((resolve) => setTimeout(resolve, round < 8 ? round * 3 : 500));
    const [now] = await group.sql("select pos::int as pos from cardea.log_head", database);
    committed.push(Number(now?.["pos"]) - Number(head?.["pos"]));
    relay.cut();
    relay.restore();
    for (const one of submissions) assert.equal((await outcomeOf(one)).type, "done");
  }
  t.diagnostic(`events committed without a reply, by round: ${committed.join(", ")}`);
  assert.ok(isSeen(), "no commit lost its reply");
  const counts = await countsInLog(member);
  for (const { commandId, answer, resubmit } of all) {
    assert.equal(counts.get(commandId), 1);
    const result = await outcomeOf({ answer, resubmit });
    if (result.type === "done") assert.deepEqual(await member.log.linkAt(result.link.position), result.link);
  }
  const { epoch } = await member.log.observe();
  assert.ok(epoch > 1, "the broken connections ended no epoch");
});

test("a cancelled wait for a standby makes an event visible, but its command is not reported done before a standby has it", {
  skip,
  timeout: 240_000,
}, async (t) => {
  const member = await testCluster.broker("broker-1");
  await waitToLead(member);
  await submit(member, "before").answer;
  // Commands arrive all the time, so that a commit is pending when the standbys are detached.
  const all: (Submission & { answered: boolean; done: boolean })[] = [];
  let [running, everyMs] = [true, 5];
  const submitting = (async () => {
    for (let n = 0; running; n++) {
      const one = { ...submit(member, `s${n}`), answered: false, done: false };
      all.push(one);
      void one.answer.then(({ type }) => {
        one.answered = true;
        one.done = type === "done";
      });
      await new Promise((resolve) => setTimeout(resolve, everyMs));
    }
  })();
  t.after(() => {
    running = false;
  });
  await detachDuringAppend(member);
  everyMs = 100;
  const inLog = async (): Promise<ReadonlySet<string>> => {
    const rows = await group.sql("select command_id::text as id from cardea.command", database);
    return new Set(rows.map((row) => String(row["id"])));
  };
  // The rows of the waiting append are not visible yet, and no other append can commit now.
  const visibleBefore = await inLog();
  const cancelWaits = async (): Promise<number> => {
    const text = "select count(pg_cancel_backend(pid))::int as n from pg_stat_activity where wait_event = 'SyncRep'";
    return Number((await group.sql(text))[0]?.["n"]);
  };
  const hidden = await waitFor(
    "an unacknowledged event to be visible on the primary",
    async () => {
      await cancelWaits();
      const visible = await inLog();
      return all.find(({ commandId }) => visible.has(commandId) && !visibleBefore.has(commandId));
    },
    { withinMs: 20_000 },
  );
  running = false;
  await submitting;
  for (let n = 0; n < 10; n++) {
    await cancelWaits();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const earlyOutcome = hidden.answered && (await hidden.answer).type;
  assert.ok(earlyOutcome === false || earlyOutcome === "unavailable", `visible is not durable: ${earlyOutcome}`);
  assert.equal(await member.log.findCommand(hidden.commandId as never), undefined);
  await group.attachStandbys();
  for (const { answer, resubmit } of all) {
    assert.equal((await outcomeOf({ answer, resubmit })).type, "done");
  }
  const counts = await countsInLog(member);
  for (const { commandId } of all) assert.equal(counts.get(commandId), 1);
});
