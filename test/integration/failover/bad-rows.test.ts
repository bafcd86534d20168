/**
 * Somebody with a superuser's hands in Postgres: changed bytes, a changed hash, a row that is gone. No broker folds it,
 * no node applies it, each says at which position the log breaks, and what was applied before goes on by its contract.
 */
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import type { Link } from "../../../src/events/index.ts";
import { verifyLog } from "../../../src/replication/index.ts";
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

function listener() {
  const said: string[] = [];
  const note = (facts: object, text: string): void => {
    const { err } = facts as { err?: unknown };
    said.push(
      `${text}: ${err instanceof Error ? `${err.message} ${String(err.cause ?? "")}` : ""} ${JSON.stringify(facts)}`,
    );
  };
  return { said, logger: { debug: note, info: note, warn: note, error: note } };
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
  test(`${what}: nothing of it is applied, the position is named, and what was applied is served`, async (t) => {
    const first = await testCluster.broker("broker-1");
    await waitToLead(first);
    const node = await testCluster.node("node", [first]);
    await submit(first, "kept");
    await waitFor("it to permit", () => node.permits("kept"), { withinMs: 20_000 });
    node.relay.cut();
    const { position: servedTo } = await submit(first, "before");
    const bad = await submit(first, "changed");
    await submit(first, "after");
    await sql(damage, [bad.position]);

    // A broker that starts now, and would have to fold it.
    const brokers = listener();
    const second = await testCluster.broker("broker-2", { logger: brokers.logger });
    await first.crash();
    node.relay.setTargets([second.port]);
    node.relay.restore();
    const thereIs = kind === "missing" ? "is missing" : "is not the one that was written";
    const named = new RegExp(`damaged at position ${bad.position}: the event there ${thereIs}.*docs/backup\\.md`);
    const said = await waitFor("the broker to name the place", () => brokers.said.find((line) => named.test(line)));
    t.diagnostic(said.slice(0, 300));
    await waitFor("it to name the place to whoever asks whether it is ready", () =>
      named.test(second.broker.ready().reasons.join()),
    );
    assert.equal(second.broker.leading(), false, "it cannot lead what it cannot fold");
    assert.equal(second.broker.ready().ready, false);
    await waitFor("the node to have what is intact", () => node.replica.applied.position === servedTo);
    assert.ok(node.permits("kept") && node.permits("before"), "it goes on by its contract");
    assert.equal(node.permits("changed"), false);
    const times = brokers.said.filter((line) => named.test(line)).length;
    assert.ok(times < 8, `it is not said with every look at the log: ${times} times`);
    const verdict = await verifyLog(second.log);
    assert.deepEqual([verdict.type, verdict.type === "broken" && verdict.position], ["broken", bad.position]);
  });
}
