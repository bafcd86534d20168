/**
 * Damaged rows in Postgres: bytes or a hash changed, or a row deleted, by a superuser.
 *
 * No broker folds the damaged event and no node applies it. The broker names the position, and nodes serve what they
 * had applied within their windows.
 */
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import type { Link } from "../../../src/events/index.ts";
import { verifyLog } from "../../../src/replication/log/index.ts";
import { createSession } from "../../broker/support.ts";
import { startPostgres } from "../../support/postgres.ts";
import { withClient } from "../../support/postgres-client.ts";
import type { PostgresServer } from "../../support/service.ts";
import { waitFor } from "../../support/wait-for.ts";
import { InProcessCluster, submitCommand, type TestBroker, waitToLead } from "./in-process.ts";

const timing = { deltaMs: 1_000, windowMs: 60_000 };
let server: PostgresServer;
let testCluster: InProcessCluster;
let database: string;
before(async () => {
  server = await startPostgres();
});
after(() => server.stop());
beforeEach(async () => {
  database = await server.newDatabase();
  testCluster = new InProcessCluster(database, timing);
});
afterEach(() => testCluster.stop());

const submit = async (member: TestBroker, session: string): Promise<Link> =>
  (await submitCommand(member, createSession(session, "alice"))).link;
const sql = (text: string, values: readonly unknown[]) =>
  withClient(database, async (client) => (await client.query(text, [...values])).rows);

function collectLog() {
  const lines: string[] = [];
  const record = (facts: object, text: string): void => {
    const { err } = facts as { err?: unknown };
    lines.push(
      `${text}: ${err instanceof Error ? `${err.message} ${String(err.cause ?? "")}` : ""} ${JSON.stringify(facts)}`,
    );
  };
  return { lines, logger: { debug: record, info: record, warn: record, error: record } };
}

const damages: readonly (readonly [string, "changed" | "missing", string])[] = [
  [
    "bytes of an event are changed",
    "changed",
    "update cardea.event set bytes = set_byte(bytes, 40, (get_byte(bytes, 40) + 1) % 256) where pos = $1",
  ],
  [
    "a hash is changed",
    "changed",
    "update cardea.event set hash = set_byte(hash, 0, (get_byte(hash, 0) + 1) % 256) where pos = $1",
  ],
  ["bytes are cut off", "changed", "update cardea.event set bytes = substr(bytes, 1, 20) where pos = $1"],
  ["a row is gone", "missing", "delete from cardea.event where pos = $1"],
];

for (const [what, kind, damage] of damages) {
  test(`${what}: no event from there on is applied, the broker names the position, and the node serves what it had applied`, async (t) => {
    const first = await testCluster.broker("broker-1");
    await waitToLead(first);
    const node = await testCluster.node("node", [first]);
    await submit(first, "kept");
    await waitFor("the node to permit", () => node.permits("kept"), { withinMs: 20_000 });
    node.relay.cut();
    const { position: servedTo } = await submit(first, "before");
    const bad = await submit(first, "changed");
    await submit(first, "after");
    await sql(damage, [bad.position]);

    // A broker that starts now would have to fold the damaged event.
    const brokers = collectLog();
    const second = await testCluster.broker("broker-2", { logger: brokers.logger });
    await first.crash();
    node.relay.setTargets([second.port]);
    node.relay.restore();
    const problem = kind === "missing" ? "is missing" : "is not the one that was written";
    const damageLine = new RegExp(`damaged at position ${bad.position}: the event there ${problem}.*docs/backup\\.md`);
    const lines = await waitFor("the broker to log the damaged position", () =>
      brokers.lines.find((line) => damageLine.test(line)),
    );
    t.diagnostic(lines.slice(0, 300));
    await waitFor("the readiness page to name the damaged position", () =>
      damageLine.test(second.broker.ready().reasons.join()),
    );
    assert.equal(second.broker.leading(), false, "a broker that cannot fold the log does not lead");
    assert.equal(second.broker.ready().ready, false);
    await waitFor("the node to apply the intact events", () => node.replica.applied.position === servedTo);
    assert.ok(node.permits("kept") && node.permits("before"), "the node serves what it had applied");
    assert.equal(node.permits("changed"), false);
    const count = brokers.lines.filter((line) => damageLine.test(line)).length;
    assert.ok(count < 8, `logged on every read: ${count} times`);
    const verdict = await verifyLog(second.log);
    assert.deepEqual([verdict.type, verdict.type === "broken" && verdict.position], ["broken", bad.position]);
  });
}
