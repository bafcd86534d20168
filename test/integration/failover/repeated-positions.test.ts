/**
 * Repeated epoch numbers and positions, after an asynchronous failover or a restore from a backup.
 *
 * Brokers without memory of the lost history open an epoch under a number that was used before, and write at used
 * positions. Hash and incarnation, never numbers, tell lost links in receipts, credentials and nodes from new ones.
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

async function submit(member: TestBroker, command: Parameters<typeof asked>[0]): Promise<Link & { commandId: string }> {
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

async function waitToFollow({ log }: TestBroker, { replica }: TestNode): Promise<void> {
  await waitFor(
    "the node to follow the new history",
    async () => {
      const at = await log.linkAt(replica.applied.position);
      return replica.ready().ready && at !== undefined && sameLink(at, replica.applied);
    },
    { withinMs: 30_000 },
  );
}

test("after an epoch number and its positions repeat, every query about the lost links is answered with lost", {
  skip,
  timeout: 240_000,
}, async () => {
  const first = await testCluster.broker("broker-1");
  await waitToLead(first);
  await submit(first, createSession("kept", "alice"));
  await submit(first, createSession("victim", "bob"));
  await first.crash();
  await group.replicated();
  await group.detachStandbys();

  // The suffix that will be lost: an epoch and its events, among them a revocation.
  const second = await testCluster.broker("broker-2");
  await waitToLead(second);
  const [holder, bystander] = await Promise.all([
    testCluster.node("holder", [second]),
    testCluster.node("bystander", [second]),
  ]);
  for (const { replica } of [holder, bystander]) assert.ok(await replica.whenReady(60_000));
  const lostSession = await submit(second, createSession("lost", "carol"));
  const lostRevocation = await submit(second, revoke("victim"));
  const lostEvents = [
    await submit(second, createSession("lost-2", "carol")),
    await submit(second, createSession("lost-3", "carol")),
  ];
  for (const { replica } of [holder, bystander])
    await waitFor(
      "the lost events to be enforced",
      () => replica.enforced.position >= (lostEvents.at(-1)?.position ?? 0),
    );
  await waitFor(
    "the receipt of the lost revocation to be complete",
    async () => (await receipt(second, lostRevocation.commandId)).complete,
  );
  await waitFor("the node to permit both valid sessions", () => holder.permits("kept") && holder.permits("lost"));
  assert.ok(!holder.permits("victim"));
  const lastLost = holder.replica.applied;

  // Both nodes are cut off, the primary and the broker with the lost history die, and a standby is promoted.
  holder.relay.cut();
  bystander.relay.cut();
  await group.kill();
  await second.crash();
  await group.failOver();
  const third = await testCluster.broker("broker-3");
  await waitToLead(third);
  const repeated = await submit(third, createSession("new", "dave"));
  assert.equal(repeated.epoch, lostSession.epoch, "the epoch number repeats");
  assert.equal(repeated.position, lostSession.position, "the position repeats");
  assert.ok(!sameLink(repeated, lostSession));

  // Receipts.
  for (const target of [lostSession, lostRevocation, lostRevocation.commandId, lostSession.commandId]) {
    const answer = await receipt(third, target);
    assert.deepEqual([answer.status, answer.complete, answer.link], ["lost", false, null]);
  }

  // A node reconnects while the log is still shorter than the node's copy.
  const heldLink = holder.replica.applied;
  assert.ok(heldLink.position > (await third.log.observe()).head.position, "the node is ahead of the log");
  holder.relay.setTargets([third.port]);
  holder.relay.restore();
  await waitToFollow(third, holder); // without any new event
  const newRevocation = await submit(third, revoke("new"));
  const pending = await receipt(third, newRevocation.commandId);
  for (const node of pending.nodes) {
    if (node.node !== "holder" || node.enforced === null) continue;
    assert.ok(!sameLink(node.enforced, heldLink), "the receipt counts the lost link as enforced");
  }
  await waitToFollow(third, holder);
  await waitFor(
    "the node to apply the new revocation",
    () => holder.replica.applied.position >= newRevocation.position,
  );
  await waitFor("the node to permit the surviving session", () => holder.permits("kept"));
  for (const session of ["lost", "lost-2", "new", "victim"]) assert.equal(holder.permits(session), false, session);
  assert.equal(await holder.replica.waitFor(lostSession, 100), "lost", "a credential that needs a lost link");
  assert.notEqual(await holder.replica.waitFor(lastLost, 100), "reached");
  assert.equal(await holder.replica.waitFor(repeated, 30_000), "reached");

  // The other node reconnects when the log is longer than its copy, at the same positions.
  while ((await submit(third, createSession(`n${Math.random()}`, "dave"))).position <= lastLost.position + 2);
  bystander.relay.setTargets([third.port]);
  bystander.relay.restore();
  await waitToFollow(third, bystander);
  await waitFor("both nodes to reach one link", () => sameLink(bystander.replica.applied, holder.replica.applied));
  assert.equal(bystander.replica.projection.digest(), holder.replica.projection.digest());
  for (const session of ["lost", "victim", "new"]) assert.equal(bystander.permits(session), false, session);
  for (const { replica } of [holder, bystander])
    for (const link of [lostRevocation, lastLost]) assert.equal(await replica.waitFor(link, 100), "lost");
  const done = await waitFor(
    "the receipt of a new revocation",
    async () => {
      const answer = await receipt(third, newRevocation.commandId);
      return answer.complete ? answer : undefined;
    },
    { withinMs: 30_000 },
  );
  assert.equal(done.nodes.find(({ node }) => node === "holder")?.status, "applied");
});

test("after a restore from a backup the log continues at used positions, in an epoch above that of a node with the lost history", {
  skip,
  timeout: 240_000,
}, async () => {
  const first = await testCluster.broker("broker-1");
  await waitToLead(first);
  await submit(first, createSession("kept", "alice"));
  await group.replicated();
  await group.detachStandbys(); // the backup: the present state of a standby
  const node = await testCluster.node("proxy-1", [first]);
  assert.ok(await node.replica.whenReady(60_000));
  const lostLink = await submit(first, createSession("gone", "bob"));
  await waitFor("the node to apply it", () => node.replica.applied.position >= lostLink.position);
  await group.kill();
  await first.crash();
  await group.failOver();
  const second = await testCluster.broker("broker-2");
  await waitToLead(second);
  node.relay.setTargets([second.port]);
  const next = await submit(second, createSession("next", "carol"));
  await waitToFollow(second, node);
  assert.equal(await node.replica.waitFor(next, 30_000), "reached");
  await waitFor("the node to permit both valid sessions", () => node.permits("kept") && node.permits("next"));
  assert.ok(!node.permits("gone"));
  assert.equal(await node.replica.waitFor(lostLink, 100), "lost");
  const { epoch } = await second.log.observe();
  assert.ok(epoch > lostLink.epoch, "the new epoch is above the one that the node knows");
});
