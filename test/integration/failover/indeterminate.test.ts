/**
 * Commits of which a broker does not learn what became: the connection is cut between the commit and its answer, or the
 * wait for a standby is cancelled. Whoever asked is told the truth, once, and never before it is certain.
 */
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { type CommandResult, decodeEvents, genesis } from "../../../src/events/index.ts";
import { verifyLog } from "../../../src/replication/index.ts";
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
  const own = new URL(group.primary().connectionString(database));
  own.port = String(relay.port);
  throughRelay = own.href;
  testCluster = new InProcessCluster(throughRelay);
});
afterEach(async () => {
  await testCluster?.stop();
  await relay?.close();
  await group?.stop();
});

type Asked = {
  commandId: string;
  sessionId: string;
  answer: Promise<CommandResult>;
  again: () => Promise<CommandResult>;
};

function ask(member: TestBroker, sessionId: string): Asked {
  const request = asked(createSession(sessionId, "alice"));
  const again = () => member.broker.databroker("authenticate").submit(request);
  return { commandId: request.commandId, sessionId, answer: again(), again };
}

/**
 * A busy machine may take longer than a command waits. A caller that learns of no outcome submits the command again,
 * with the same id.
 */
async function settled({ answer, again }: Pick<Asked, "answer" | "again">): Promise<CommandResult> {
  let result = await answer;
  while (result.type === "unavailable") result = await again();
  return result;
}

/**
 * The standbys go while an append waits for them. What waits may also be a beat or the opening of an epoch: then they
 * come back first.
 */
async function leaveAppendWaiting(member: TestBroker): Promise<void> {
  for (let attempts = 0; attempts < 10; attempts++) {
    await waitToLead(member);
    await group.detachStandbys();
    const waiting = await waitFor("a commit that waits for a standby", async () => {
      const rows = await group.sql("select query from pg_stat_activity where wait_event = 'SyncRep'");
      return rows.length > 0 && rows.map((row) => String(row["query"]));
    });
    if (waiting.some((query) => query.includes(".append("))) return;
    await group.attachStandbys();
  }
  assert.fail("no append was under way when the standbys went");
}

/** How often each command stands in the log, by its cause. */
async function timesInLog(member: TestBroker): Promise<Map<string, number>> {
  const times = new Map<string, number>();
  assert.equal((await verifyLog(member.log)).type, "intact");
  const page = await member.log.read(genesis, 10_000);
  assert.equal(page.type, "page");
  if (page.type !== "page") return times;
  const seen = new Set<string>();
  for (const { cause, event } of decodeEvents(page.page.entries, genesis)) {
    if (cause === null || event.type !== "SessionCreated" || seen.has(event.sessionId)) continue;
    times.set(cause, (times.get(cause) ?? 0) + 1);
  }
  return times;
}

test("the connection is cut after the server has committed and before its answer comes: each command is done once, and told so", {
  skip,
  timeout: 240_000,
}, async (t) => {
  const member = await testCluster.broker("broker-1");
  await waitToLead(member);
  await ask(member, "before").answer;
  const committed: number[] = [];
  const all: Asked[] = [];
  const isSeen = (): boolean => committed.some((count) => count > 0);
  for (let round = 0; round < 8 || (round < 40 && !isSeen()); round++) {
    await waitToLead(member);
    const [head] = await group.sql("select pos::int as pos from cardea.log_head", database);
    const kept = relay.hold();
    const own = Array.from({ length: 5 }, (_, n) => ask(member, `s${round}-${n}`));
    all.push(...own);
    await waitFor("an answer to be on its way", () => kept() > 0);
    // The server has committed, or has not yet; the brokers cannot know.
    await new Promise((resolve) => setTimeout(resolve, round < 8 ? round * 3 : 500));
    const [now] = await group.sql("select pos::int as pos from cardea.log_head", database);
    committed.push(Number(now?.["pos"]) - Number(head?.["pos"]));
    relay.cut();
    relay.restore();
    for (const one of own) assert.equal((await settled(one)).type, "done");
  }
  t.diagnostic(`events that were committed without an answer, by round: ${committed.join(", ")}`);
  assert.ok(isSeen(), "some were committed and not answered");
  const times = await timesInLog(member);
  for (const { commandId, answer, again } of all) {
    assert.equal(times.get(commandId), 1);
    const result = await settled({ answer, again });
    if (result.type === "done") assert.deepEqual(await member.log.linkAt(result.link.position), result.link);
  }
  const { epoch } = await member.log.observe();
  assert.ok(epoch > 1, "each of them ended an epoch");
});

test("a cancelled wait for a standby makes an event visible, and nobody is told that it is done before a standby has it", {
  skip,
  timeout: 240_000,
}, async (t) => {
  const member = await testCluster.broker("broker-1");
  await waitToLead(member);
  await ask(member, "before").answer;
  // Commands arrive all the time, so that a change is under way when the standbys go.
  const all: (Asked & { answered: boolean; done: boolean })[] = [];
  let [running, everyMs] = [true, 5];
  const asking = (async () => {
    for (let n = 0; running; n++) {
      const one = { ...ask(member, `s${n}`), answered: false, done: false };
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
  await leaveAppendWaiting(member);
  everyMs = 100;
  const inLog = async (): Promise<ReadonlySet<string>> => {
    const rows = await group.sql("select command_id::text as id from cardea.command", database);
    return new Set(rows.map((row) => String(row["id"])));
  };
  // The rows of the append that waits are not visible yet; no other append can commit now.
  const known = await inLog();
  const cancelled = async (): Promise<number> => {
    const text = "select count(pg_cancel_backend(pid))::int as n from pg_stat_activity where wait_event = 'SyncRep'";
    return Number((await group.sql(text))[0]?.["n"]);
  };
  const hidden = await waitFor(
    "an event to be visible on the primary that nobody was told of",
    async () => {
      await cancelled();
      const visible = await inLog();
      return all.find(({ commandId }) => visible.has(commandId) && !known.has(commandId));
    },
    { withinMs: 20_000 },
  );
  running = false;
  await asking;
  for (let n = 0; n < 10; n++) {
    await cancelled();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const early = hidden.answered && (await hidden.answer).type;
  assert.ok(early === false || early === "unavailable", `visible is not durable: ${early}`);
  assert.equal(await member.log.findCommand(hidden.commandId as never), undefined);
  await group.attachStandbys();
  for (const { answer, again } of all) {
    assert.equal((await settled({ answer, again })).type, "done");
  }
  const times = await timesInLog(member);
  for (const { commandId } of all) assert.equal(times.get(commandId), 1);
});
