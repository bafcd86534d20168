/**
 * After an asynchronous failover, or a restore from a backup, brokers that remember nothing open an epoch with a number
 * that was used before, and write at places that were written before. Receipts, credentials and nodes that know the
 * lost ones are told apart from the new by hash and incarnation, never by number.
 */
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { type Link, sameLink } from "../../../src/events/index.ts";
import { type asked, createSession, revoke } from "../../broker/support.ts";
import { findPostgresBinaries } from "../../support/postgres.ts";
import { type PostgresGroup, startPostgresGroup } from "../../support/postgres-group.ts";
import { waitFor } from "../../support/wait-for.ts";
import { InProcessCluster, submitCommand, type TestBroker, type TestNode, waitToLead } from "./in-process.ts";

const skip = findPostgresBinaries() === undefined ? "a standby needs local binaries of Postgres" : false;
let group: PostgresGroup;
let testCluster: InProcessCluster;

beforeEach(async () => {
  if (skip !== false) return;
  group = await startPostgresGroup({ synchrony: "asynchronous" });
  testCluster = new InProcessCluster(await group.newDatabase());
});
afterEach(async () => {
  await testCluster?.stop();
  await group?.stop();
});

async function ask(member: TestBroker, command: Parameters<typeof asked>[0]): Promise<Link & { commandId: string }> {
  const { link, commandId } = await submitCommand(member, command);
  return { ...link, commandId };
}

const receipt = (member: TestBroker, target: string | Link) =>
  member.broker
    .databroker("operator")
    .receipt(
      typeof target === "string" ? { type: "command", commandId: target as never } : { type: "link", link: target },
      {
        wait: "all",
        timeoutMs: 0,
      },
    );

async function standsOn({ log }: TestBroker, { replica }: TestNode): Promise<void> {
  await waitFor(
    "the node to stand on the new history",
    async () => {
      const at = await log.linkAt(replica.applied.position);
      return replica.ready().ready && at !== undefined && sameLink(at, replica.applied);
    },
    { withinMs: 30_000 },
  );
}

test("the same epoch number and the same positions again: every question about the lost ones is answered with lost", {
  skip,
  timeout: 240_000,
}, async () => {
  const first = await testCluster.broker("broker-1");
  await waitToLead(first);
  await ask(first, createSession("kept", "alice"));
  await ask(first, createSession("victim", "bob"));
  await first.crash();
  await group.replicated();
  await group.detachStandbys();

  // The suffix that nobody else will have: an epoch of its own and what was written in it, a revocation among it.
  const second = await testCluster.broker("broker-2");
  await waitToLead(second);
  const [holder, bystander] = await Promise.all([
    testCluster.node("holder", [second]),
    testCluster.node("bystander", [second]),
  ]);
  for (const { replica } of [holder, bystander]) assert.ok(await replica.whenReady(60_000));
  const lostSession = await ask(second, createSession("lost", "carol"));
  const lostRevocation = await ask(second, revoke("victim"));
  const more = [
    await ask(second, createSession("lost-2", "carol")),
    await ask(second, createSession("lost-3", "carol")),
  ];
  for (const { replica } of [holder, bystander])
    await waitFor("it to be enforced", () => replica.enforced.position >= (more.at(-1)?.position ?? 0));
  await waitFor("it to be promised", async () => (await receipt(second, lostRevocation.commandId)).complete);
  await waitFor("it to permit what stands", () => holder.permits("kept") && holder.permits("lost"));
  assert.ok(!holder.permits("victim"));
  const lastLost = holder.replica.applied;

  // Both nodes are cut off, the primary and everybody who remembers are gone, and a standby is promoted.
  holder.relay.cut();
  bystander.relay.cut();
  await group.kill();
  await second.crash();
  await group.failOver();
  const third = await testCluster.broker("broker-3");
  await waitToLead(third);
  const again = await ask(third, createSession("new", "dave"));
  assert.equal(again.epoch, lostSession.epoch, "the number of the epoch repeats");
  assert.equal(again.position, lostSession.position, "and so does the place");
  assert.ok(!sameLink(again, lostSession));

  // Receipts.
  for (const target of [lostSession, lostRevocation, lostRevocation.commandId, lostSession.commandId]) {
    const answer = await receipt(third, target);
    assert.deepEqual([answer.status, answer.complete, answer.link], ["lost", false, null]);
  }

  // The node that holds more than the log has comes back while the log is still shorter than what it holds.
  const theirs = holder.replica.applied;
  assert.ok(theirs.position > (await third.log.observe()).head.position, "it is ahead of the log");
  holder.relay.setTargets([third.port]);
  holder.relay.restore();
  await standsOn(third, holder); // though nothing new is written
  const mine = await ask(third, revoke("new"));
  const pending = await receipt(third, mine.commandId);
  for (const node of pending.nodes) {
    if (node.node !== "holder" || node.enforced === null) continue;
    assert.ok(!sameLink(node.enforced, theirs), "what it holds counts for nothing here");
  }
  await standsOn(third, holder);
  await waitFor("the revocation", () => holder.replica.applied.position >= mine.position);
  await waitFor("it to permit what was kept", () => holder.permits("kept"));
  for (const session of ["lost", "lost-2", "new", "victim"]) assert.equal(holder.permits(session), false, session);
  assert.equal(await holder.replica.waitFor(lostSession, 100), "lost", "a credential that needs a lost place");
  assert.notEqual(await holder.replica.waitFor(lastLost, 100), "reached");
  assert.equal(await holder.replica.waitFor(again, 30_000), "reached");

  // The other one comes back when the log is longer than what it holds, at the very same places.
  while ((await ask(third, createSession(`n${Math.random()}`, "dave"))).position <= lastLost.position + 2);
  bystander.relay.setTargets([third.port]);
  bystander.relay.restore();
  await standsOn(third, bystander);
  await waitFor("both to be alike", () => sameLink(bystander.replica.applied, holder.replica.applied));
  assert.equal(bystander.replica.projection.digest(), holder.replica.projection.digest());
  for (const session of ["lost", "victim", "new"]) assert.equal(bystander.permits(session), false, session);
  for (const { replica } of [holder, bystander])
    for (const link of [lostRevocation, lastLost]) assert.equal(await replica.waitFor(link, 100), "lost");
  const done = await waitFor(
    "the receipt of a new revocation",
    async () => {
      const answer = await receipt(third, mine.commandId);
      return answer.complete ? answer : undefined;
    },
    { withinMs: 30_000 },
  );
  assert.equal(done.nodes.find(({ node }) => node === "holder")?.status, "applied");
});

test("a restore from a backup under nodes that are gone for good: their leases are waited for, and the log goes on at the same places", {
  skip,
  timeout: 240_000,
}, async () => {
  const first = await testCluster.broker("broker-1");
  await waitToLead(first);
  await ask(first, createSession("kept", "alice"));
  await group.replicated();
  await group.detachStandbys(); // the backup: what a standby has, from now on as it is
  const node = await testCluster.node("proxy-1", [first]);
  assert.ok(await node.replica.whenReady(60_000));
  const gone = await ask(first, createSession("gone", "bob"));
  await waitFor("the node to have it", () => node.replica.applied.position >= gone.position);
  await group.kill();
  await first.crash();
  await group.failOver();
  const second = await testCluster.broker("broker-2");
  await waitToLead(second);
  node.relay.setTargets([second.port]);
  const next = await ask(second, createSession("next", "carol"));
  await standsOn(second, node);
  assert.equal(await node.replica.waitFor(next, 30_000), "reached");
  await waitFor("it to permit what stands", () => node.permits("kept") && node.permits("next"));
  assert.ok(!node.permits("gone"));
  assert.equal(await node.replica.waitFor(gone, 100), "lost");
  const { epoch } = await second.log.observe();
  assert.ok(epoch > gone.epoch, "nobody writes in an epoch of which a node has seen another");
});
