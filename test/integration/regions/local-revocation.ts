/**
 * A cut-off region revokes by itself, over every hop: open streams are cut, the signed receipt is complete, and the
 * broker and a node are killed before the region is connected again. The log has each revocation once at the end.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { measureName } from "../../../src/cli/process/measure-gauges.ts";
import type { LocalChangeAnswer } from "../../../src/console/index.ts";
import {
  decodeEvents,
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
import type { TwoRegions } from "./two-regions.ts";

const measure = (of: ClusterProcess, name: string) => of.metric(`cardea_broker_${measureName(name)}`);

/** Repeats a change under one command id until the region has accepted it. */
async function revokeInWest({ westAuthenticate }: TwoRegions, path: string): Promise<LocalChangeAnswer> {
  const commandId = randomUUID();
  let last = "";
  return waitFor(
    "the region to accept the revocation",
    async () => {
      const answer = await westAuthenticate?.operator.post(path, { commandId, wait: "none" });
      last = `${answer?.status} ${answer?.body}`;
      assert.notEqual(answer?.status, 200, "a cut-off region never answers that it is done");
      return answer?.status === 202 ? (JSON.parse(answer.body) as LocalChangeAnswer) : undefined;
    },
    { withinMs: 50_000 },
  ).catch((error: unknown) => assert.fail(`${error}: ${last}`));
}

async function completeReceipt({ westAuthenticate }: TwoRegions, { commandId }: LocalChangeAnswer) {
  return waitFor(
    "the receipt of the region to be complete",
    async () => {
      const answer = await westAuthenticate?.operator.get(`/local-receipts/${commandId}?timeoutMs=5000`);
      if (answer?.status !== 200) return undefined;
      const { receipt } = JSON.parse(answer.body) as { receipt?: LocalReceipt };
      return receipt?.complete === true ? receipt : undefined;
    },
    { withinMs: 100_000 },
  );
}

/** The events that a command has recorded for a person, or for a session of theirs. */
async function eventsOf(regions: TwoRegions, session: Session, commandId: string): Promise<readonly Recorded[]> {
  const { leader } = await regions.status();
  assert.ok(leader);
  const streams: readonly Stream[] = [sessionStream(parseSessionId(session.id)), userStream(session.userId)];
  const request = { streams, upTo: leader.head.position, depth: 10_000 };
  const { found } = await regions.client("operator").history(request);
  return found
    .flatMap(({ previous, bytes }) => decodeEvents([bytes], previous))
    .filter(({ cause }) => cause === commandId);
}

async function checkReceipt(regions: TwoRegions, receipt: LocalReceipt): Promise<void> {
  assert.deepEqual(
    receipt.brokers.map(({ broker, stored }) => [broker, stored]),
    [["broker-west", true]],
  );
  const names = receipt.nodes.map(({ node }) => node);
  for (const node of ["proxy-west-1", "proxy-west-2", "authenticate-west"]) assert.ok(names.includes(node), node);
  const config = loadConfigFile(regions.authenticate.configFile);
  const keys = await receiptKeys({ cluster: config.broker.clusterName, secrets: [config.sharedSecret] });
  const checked = await checkLocalReceipt(receipt.signed, [keys]);
  assert.ok(checked.ok && checked.local.complete && checked.local.scope === "region");
}

/** @param of has an authenticate service in the west, and is connected */
export function testLocalRevocations(of: () => TwoRegions): void {
  test("a cut-off region revokes by itself, over crashes, and healing records each revocation once, over a restore at home", {
    timeout: 400_000,
  }, async (t) => {
    const regions = of();
    const { broker, proxies } = regions.west;
    const [first] = proxies;
    const [leader] = regions.east.brokers;
    assert.ok(first && leader);
    const [mallory, trudy] = [await regions.session("mallory"), await regions.session("trudy")];
    const bystander = await regions.session("walter");
    for (const proxy of proxies)
      for (const session of [mallory, trudy, bystander])
        assert.equal((await regions.get(proxy, "app", session)).permitted, true, `${proxy.name} ${session.user}`);
    const socket = await openSocket({
      ...{ port: first.ports.address, host: regions.host("app"), cookie: mallory.cookie },
    });
    const overridden = await measure(leader, "restoresOverridden");
    const nothingHeld = async () => (await measure(broker, "localRevocations")) === 0;
    await waitFor("earlier revocations to be in the log", nothingHeld, { withinMs: 30_000 });

    regions.wan.cut();
    t.after(() => regions.wan.heal());
    const cutAt = performance.now();
    const revoked = await revokeInWest(regions, `/users/${mallory.userId}/sessions/revoke`);
    t.diagnostic(`accepted ${Math.round(performance.now() - cutAt)} ms after the cut`);
    assert.deepEqual([revoked.accepted, revoked.region, revoked.ids], ["region", "west", 1]);
    const suspended = await revokeInWest(regions, `/users/${trudy.userId}/suspend`);
    await checkReceipt(regions, await completeReceipt(regions, revoked));
    await completeReceipt(regions, suspended);
    t.diagnostic(`both receipts complete ${Math.round(performance.now() - cutAt)} ms after the cut`);

    assert.equal((await socket.closed).code, 4401);
    for (const proxy of proxies) {
      for (const denied of [mallory, trudy])
        assert.equal((await regions.getNow(proxy, "app", denied)).permitted, false, `${proxy.name} ${denied.user}`);
      assert.equal((await regions.get(proxy, "app", bystander)).permitted, true, proxy.name);
    }
    assert.equal((await regions.get(regions.east.proxy, "app", mallory)).permitted, true, "nothing is promised there");
    for (const verb of ["suspend", "restore"]) {
      const { status, body } = await regions.operator.post(`/users/${trudy.userId}/${verb}`, {});
      assert.equal(status, 200, body);
    }

    await Promise.all([broker.kill(), first.kill()]);
    await Promise.all([broker.launch(), first.launch()]);
    const onDisk = async () =>
      (await measure(broker, "localUnmerged")) === 2 && (await first.metric("cardea_replica_local_denials")) === 2;
    await waitFor("both to have the revocations from their disks", onDisk, { withinMs: 60_000 });
    const listens = async () => (await regions.getNow(first, "app", bystander)) !== undefined;
    await waitFor("the proxy to listen again", listens, { withinMs: 30_000 });

    regions.wan.heal();
    for (const denied of [mallory, trudy]) {
      assert.equal((await regions.get(first, "app", denied)).permitted, false, `${denied.user}, from disk or log`);
      await waitFor(
        "the home region to deny it",
        async () => !(await regions.get(regions.east.proxy, "app", denied)).permitted,
        { withinMs: 60_000 },
      );
    }
    await waitFor(
      "the broker to have brought both to the log",
      async () => (await measure(broker, "localMerged")) === 2 && (await nothingHeld()),
      { withinMs: 60_000 },
    );
    // The home region may get the command itself too: it was under way when the region was cut off. One of them counts.
    for (const [session, { commandId }] of [
      [mallory, revoked],
      [trudy, suspended],
    ] as const) {
      const events = await eventsOf(regions, session, commandId);
      assert.equal(events.length, 1, JSON.stringify(events));
      assert.match(events[0]?.actor ?? "", /^operator:test/);
    }
    await waitFor(
      "the leader to report the restore that lost",
      async () => (await measure(leader, "restoresOverridden")) === overridden + 1,
      { withinMs: 30_000 },
    );
    for (const proxy of proxies) {
      await waitFor("the node to forget them", async () => (await proxy.metric("cardea_replica_local_denials")) === 0, {
        withinMs: 30_000,
      });
      for (const denied of [mallory, trudy])
        assert.equal((await regions.get(proxy, "app", denied)).permitted, false, `${proxy.name} after the merge`);
      assert.equal((await regions.get(proxy, "app", bystander)).permitted, true, proxy.name);
    }
  });
}
