/**
 * A cut-off region revokes by itself: two regional brokers, two proxies and the operator API of the region, as
 * processes. Open streams are cut, the signed receipt is complete, and a broker and a node are killed in between.
 * Healing records each revocation once.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { measureName } from "../../../src/cli/process/measure-gauges.ts";
import type { LocalChangeAnswer } from "../../../src/console/index.ts";
import {
  decodeEvents,
  parsePosition,
  parseSessionId,
  type Recorded,
  type Stream,
  sessionStream,
  userStream,
} from "../../../src/events/index.ts";
import type { LocalReceipt } from "../../../src/replication/index.ts";
import { checkLocalReceipt, receiptKeys } from "../../../src/replication/wire/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { openSocket } from "../cluster/client.ts";
import { loadConfigFile, type Session } from "../cluster/cluster.ts";
import type { ClusterProcess } from "../cluster/cluster-process.ts";
import { startTwoRegions, type TwoRegions } from "./two-regions.ts";

let regions: TwoRegions;

before(
  async () => {
    regions = await startTwoRegions({ timing: "default", westBrokers: 2, westAuthenticate: "one" });
  },
  { timeout: 590_000 },
);
after(() => regions?.stop());

const measure = (of: ClusterProcess, name: string) => of.metric(`cardea_broker_${measureName(name)}`);

function west() {
  const [first, second] = regions.west.proxies;
  const [broker, other] = regions.west.brokers;
  const { westAuthenticate } = regions;
  assert.ok(first && second && broker && other && westAuthenticate);
  return { first, second, broker, other, operator: westAuthenticate.operator };
}

/** Repeats a change under one command id until the region has accepted it. */
async function revokeInWest(path: string): Promise<LocalChangeAnswer> {
  const commandId = randomUUID();
  let last = "";
  return waitFor(
    "the region to accept the revocation",
    async () => {
      const { status, body } = await west().operator.post(path, { commandId, wait: "none" });
      last = `${status} ${body}`;
      assert.notEqual(status, 200, "a cut-off region never answers that it is done");
      return status === 202 ? (JSON.parse(body) as LocalChangeAnswer) : undefined;
    },
    { withinMs: 50_000 },
  ).catch((error: unknown) => assert.fail(`${error}: ${last}`));
}

async function completeReceipt({ commandId }: LocalChangeAnswer): Promise<LocalReceipt> {
  return waitFor(
    "the receipt of the region to be complete",
    async () => {
      const { status, body } = await west().operator.get(`/local-receipts/${commandId}?timeoutMs=5000`);
      if (status !== 200) return undefined;
      const { receipt } = JSON.parse(body) as { receipt?: LocalReceipt };
      return receipt?.complete === true ? receipt : undefined;
    },
    { withinMs: 100_000 },
  );
}

async function eventsOf(stream: Stream): Promise<readonly Recorded[]> {
  const status = await regions.status();
  const upTo = parsePosition(status.leader?.head.position ?? 0);
  const { found } = await regions.client("operator").history({ streams: [stream], upTo, depth: 10_000 });
  return found.flatMap(({ previous, bytes }) => decodeEvents([bytes], previous));
}

async function permitsEverywhereInWest(session: Session): Promise<void> {
  for (const proxy of [west().first, west().second])
    assert.equal((await regions.get(proxy, "app", session)).permitted, true, proxy.name);
}

test("a cut-off region revokes all sessions of a user: streams are cut, the receipt is complete and signed, healing records it once", {
  timeout: 400_000,
}, async () => {
  const { first, second, broker, other } = west();
  const [mallory, bystander] = [await regions.session("mallory"), await regions.session("bob")];
  await permitsEverywhereInWest(mallory);
  await permitsEverywhereInWest(bystander);
  const port = first.ports.address;
  const socket = await openSocket({ port, host: regions.host("app"), cookie: mallory.cookie });
  regions.wan.cut();

  const accepted = await revokeInWest(`/users/${mallory.userId}/sessions/revoke`);
  assert.deepEqual([accepted.accepted, accepted.region, accepted.ids], ["region", "west", 1]);
  const receipt = await completeReceipt(accepted);
  assert.equal((await socket.closed).code, 4401);
  for (const proxy of [first, second])
    assert.equal((await regions.getNow(proxy, "app", mallory)).permitted, false, proxy.name);
  await permitsEverywhereInWest(bystander);

  assert.deepEqual(
    receipt.brokers.map(({ stored }) => stored),
    [true, true],
  );
  const names = receipt.nodes.map(({ node }) => node);
  for (const node of ["proxy-west-1", "proxy-west-2", "authenticate-west"]) assert.ok(names.includes(node), node);
  const config = loadConfigFile(regions.authenticate.configFile);
  const keys = await receiptKeys({ cluster: config.broker.clusterName, secrets: [config.sharedSecret] });
  const checked = await checkLocalReceipt(receipt.signed, [keys]);
  assert.ok(checked.ok && checked.local.complete && checked.local.scope === "region");

  await other.kill();
  await first.kill();
  // Neither gets ready before the region is connected: a new boot holds no lease.
  const started = Promise.all([other.start(), first.start()]);
  started.catch(() => {}); // awaited below
  assert.equal((await regions.get(regions.east.proxy, "app", mallory)).permitted, true, "nothing is promised there");

  regions.wan.heal();
  await started;
  assert.equal(
    (await regions.get(first, "app", mallory)).permitted,
    false,
    "the node has it on its disk, or from the log",
  );
  await waitFor("the home region to deny the session", async () => {
    const answer = await regions.get(regions.east.proxy, "app", mallory);
    return answer.permitted ? undefined : true;
  });
  for (const each of [broker, other])
    await waitFor(`${each.name} to forget it`, async () =>
      (await measure(each, "localRevocations")) === 0 ? true : undefined,
    );
  const events = await eventsOf(sessionStream(parseSessionId(mallory.id)));
  const revocations = events.filter(({ event }) => event.type === "SessionRevoked");
  assert.equal(revocations.length, 1);
  assert.deepEqual(
    [revocations[0]?.cause, revocations[0]?.actor.startsWith("operator:test")],
    [accepted.commandId, true],
  );
  for (const proxy of [first, second])
    assert.equal((await regions.get(proxy, "app", mallory)).permitted, false, `${proxy.name} after the merge`);
  await permitsEverywhereInWest(bystander);
});

test("a restore that home makes while the region suspends the person loses, and the leader says so", {
  timeout: 300_000,
}, async () => {
  const trudy = await regions.session("trudy");
  await permitsEverywhereInWest(trudy);
  regions.wan.cut();
  const accepted = await revokeInWest(`/users/${trudy.userId}/suspend`);
  await completeReceipt(accepted);
  for (const verb of ["suspend", "restore"]) {
    const { status, body } = await regions.operator.post(`/users/${trudy.userId}/${verb}`, {});
    assert.equal(status, 200, body);
  }
  regions.wan.heal();
  const [leader] = regions.east.brokers;
  assert.ok(leader);
  await waitFor("the leader to report the restore that lost", async () =>
    (await measure(leader, "restoresOverridden")) === 1 ? true : undefined,
  );
  const types = (await eventsOf(userStream(trudy.userId))).map(({ type, cause }) => [
    type,
    cause === accepted.commandId,
  ]);
  assert.deepEqual(
    types.filter(([type]) => type !== "UserUpserted"),
    [
      ["UserSuspended", false],
      ["UserRestored", false],
      ["UserSuspended", true],
    ],
  );
});

test("while another broker of the region is down, the region accepts nothing", { timeout: 200_000 }, async () => {
  const session = await regions.session("carol");
  await permitsEverywhereInWest(session);
  await west().other.kill();
  regions.wan.cut();
  await waitFor("the region to say why", async () => {
    const { status, body } = await west().operator.post(`/sessions/${session.id}/revoke`, {});
    assert.notEqual(status, 202);
    return (JSON.parse(body) as { reason?: string }).reason === "local-broker-unreachable" ? true : undefined;
  });
  regions.wan.heal();
});
