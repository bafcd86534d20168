/** Revoking ten thousand sessions: one command, one batch, one receipt, with every log. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { Broker } from "../../src/broker/index.ts";
import { type SessionId, userIdOf } from "../../src/events/index.ts";
import { createLocalFanout } from "../../src/replication/fanout/index.ts";
import { type AppendBatch, createMemoryLog, type EventLog, openSqliteLog } from "../../src/replication/log/index.ts";
import { startReplica } from "../../src/replication/node/index.ts";
import { systemClock } from "../../src/replication/runtime/index.ts";
import { checkReceipt, digestOfIds, receiptKeys } from "../../src/replication/wire/index.ts";
import { TemporaryFolder } from "../support/child.ts";
import { waitFor } from "../support/wait-for.ts";
import { asked, brokerOn, cluster, createSession, folded, quiet, random, secret, session, wrapLog } from "./support.ts";

const many = 10_000;
const people = 500;
const idOf = (n: number): SessionId => session(`session-${String(n).padStart(5, "0")}`);
const userOf = (n: number): string => userIdOf("https://idp.test", `person-${n % people}`);

async function signIn(broker: Broker, count: number): Promise<void> {
  const port = broker.databroker("authenticate");
  const width = 1_000;
  for (let from = 0; from < count; from += width) {
    const results = await Promise.all(
      Array.from({ length: Math.min(width, count - from) }, (_, at) =>
        port.submit(asked(createSession(idOf(from + at), userOf(from + at)))),
      ),
    );
    assert.ok(results.every(({ type }) => type === "done"));
  }
}

function watched(log: EventLog): Readonly<{ log: EventLog; batches: AppendBatch[] }> {
  const batches: AppendBatch[] = [];
  const append = (batch: AppendBatch) => {
    batches.push(batch);
    return log.append(batch);
  };
  return { log: wrapLog(log, { append }), batches };
}

const logs: readonly (readonly [string, (folder: string) => Promise<EventLog>])[] = [
  ["in memory", async () => createMemoryLog()],
  ["in a file", (folder) => openSqliteLog({ path: join(folder, "log.db"), cluster })],
];

for (const [where, open] of logs) {
  test(`${many} sessions are revoked by one batch of a log ${where}; a node enforces it, and one receipt lists them`, async () => {
    using folder = new TemporaryFolder("revoke-many");
    const inner = await open(folder.path);
    const { log, batches } = watched(inner);
    const fanout = createLocalFanout({ logger: quiet });
    const broker = brokerOn(log, { fanout, writeTimeoutMs: 60_000, commandMs: 60_000 });
    const node = startReplica({
      ...{ name: "proxy-1" as never, role: "proxy", region: "eu", version: "test" },
      ...{ configHash: () => "c", cluster, secret, databroker: broker.databroker("proxy"), fanout },
      ...{ clock: systemClock, randomBytes: random, logger: quiet, windowMs: () => 5_000, dataDir: null },
    });
    try {
      await signIn(broker, many + 1);
      batches.length = 0;
      const sessionIds = Array.from({ length: many }, (_, at) => idOf(at));
      const operator = broker.databroker("operator");
      const result = await operator.submit(asked({ type: "revokeSessions", sessionIds, reason: "operator" }));
      if (result.type !== "done") return assert.fail(JSON.stringify(result));
      assert.deepEqual(
        batches.map(({ entries }) => entries.length),
        [many],
      );
      const receipt = await operator.receipt({ type: "link", link: result.link }, { wait: "all", timeoutMs: 60_000 });
      assert.deepEqual([receipt.complete, receipt.nodes.map(({ status }) => status)], [true, ["applied"]]);
      assert.ok(sessionIds.every((id) => node.projection.sessionStatus(id).status === "revoked"));
      assert.equal(node.projection.sessionStatus(idOf(many)).status, "active", "no other session is revoked");
      const checked = await checkReceipt(receipt.signed ?? "", [await receiptKeys({ cluster, secrets: [secret] })]);
      if (!checked.ok) return assert.fail(checked.detail);
      const [change] = checked.statement.changes ?? [];
      assert.deepEqual([change?.count, change?.ids.length, change?.idsSha256], [many, 1_000, digestOfIds(sessionIds)]);
    } finally {
      await node.stop();
      await broker.stop();
      await inner.close();
    }
  });
}

describe("revoking sessions of which some are gone", () => {
  test("revoked, unknown and repeated ids are skipped; only unknown ids are not-found, and no id is invalid", async () => {
    const log = createMemoryLog();
    const broker = brokerOn(log);
    const operator = broker.databroker("operator");
    const revokeAll = (...ids: readonly string[]) =>
      operator.submit(asked({ type: "revokeSessions", sessionIds: ids.map(session), reason: "operator" }));
    try {
      await waitFor("a leader", () => broker.leading());
      for (const id of ["a", "b", "c"])
        await broker.databroker("authenticate").submit(asked(createSession(id, `user-${id}`)));
      await operator.submit(asked({ type: "revokeSession", sessionId: session("a"), reason: "operator" }));
      const done = await revokeAll("a", "b", "b", "unknown");
      assert.equal(done.type === "done" && done.changed, true);
      const projection = await folded(log);
      assert.deepEqual(
        ["a", "b", "c", "unknown"].map((id) => projection.sessionStatus(session(id)).status),
        ["revoked", "revoked", "active", "unknown"],
      );
      const again = await revokeAll("a", "b");
      assert.equal(again.type === "done" && again.changed, false);
      const unknown = await revokeAll("unknown", "no-one");
      assert.equal(unknown.type === "refused" && unknown.code, "not-found");
      const none = await revokeAll();
      assert.equal(none.type === "refused" && none.code, "invalid");
      const forbidden = await broker
        .databroker("authenticate")
        .submit(asked({ type: "revokeSessions", sessionIds: [session("c")], reason: "operator" }));
      assert.equal(forbidden.type === "refused" && forbidden.code, "forbidden");
    } finally {
      await broker.stop();
    }
  });
});
