/** Several brokers on one log: takeover, deposed and paused leaders, and a log that was restored from a backup. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createLeaderClient } from "../../src/broker/api/leader-client.ts";
import {
  type Broker,
  type BrokerOptions,
  type DatabrokerServer,
  startDatabrokerServer,
} from "../../src/broker/index.ts";
import {
  type BootId,
  type BrokerId,
  type CommandResult,
  type Epoch,
  genesis,
  type Incarnation,
} from "../../src/events/index.ts";
import { createLocalFanout } from "../../src/replication/fanout/index.ts";
import { fenceAfterMs, LeaseRefusedError } from "../../src/replication/lease/index.ts";
import { createMemoryLog, type EventLog } from "../../src/replication/log/index.ts";
import { systemClock } from "../../src/replication/runtime/index.ts";
import {
  BrokerUnavailableError,
  createBrokerClient,
  encodeMessage,
  enrolKey,
  enrolmentRoot,
  sealEnvelope,
  signingPairFromSeed,
} from "../../src/replication/wire/index.ts";
import { freePort } from "../support/free-port.ts";
import { waitFor } from "../support/wait-for.ts";
import {
  asked,
  brokerOn,
  cluster,
  createSession,
  FakeNode,
  folded,
  gatedLog,
  quiet,
  random,
  revoke,
  secret,
  session,
  sharedLog,
  user,
  wrapLog,
} from "./support.ts";

const lease = { deltaMs: 500, drift: 0.01, beatMs: 50, windowMaxMs: 5_000 };

type Member = Readonly<{ broker: Broker; server: DatabrokerServer; stop: () => Promise<void> }>;

async function member(name: string, log: EventLog, parts: Partial<BrokerOptions> = {}): Promise<Member> {
  const port = await freePort();
  const broker = brokerOn(log, {
    ...{ brokerId: name as BrokerId, lease, takeoverMs: 1_500, advertisedUrl: `http://127.0.0.1:${port}` },
    ...parts,
  });
  const server = await startDatabrokerServer({
    ...{ broker, cluster, secret, listen: { host: "127.0.0.1", port }, clock: systemClock, logger: quiet },
  });
  return {
    broker,
    server,
    async stop() {
      await server.close();
      await broker.stop();
    },
  };
}

/** Brokers without gossip, as over a cut network. */
const apart = (): Pick<BrokerOptions, "leaderClient"> => ({
  leaderClient: {
    ...createLeaderClient({ cluster, secret, clock: systemClock, tlsCa: null, allowPlaintext: false }),
    sendGossip: () => Promise.reject(new BrokerUnavailableError("cut off")),
  },
});

/** A log that can be restored to its state after a number of writes, as from a backup. */
function restorableLog() {
  let store = createMemoryLog();
  const done: ((log: EventLog) => Promise<unknown>)[] = [];
  const log = wrapLog(store, {
    exclusive: false,
    observe: () => store.observe(),
    beat: (request) => store.beat(request),
    read: (after, limit) => store.read(after, limit),
    linkAt: (position) => store.linkAt(position),
    durabilityOf: (link) => store.durabilityOf(link),
    findCommand: (commandId) => store.findCommand(commandId),
    streamVersions: (streams) => store.streamVersions(streams),
    keys: (users) => store.keys(users),
    async openEpoch(request) {
      const outcome = await store.openEpoch(request);
      if (outcome.type === "opened")
        done.push((backup) => backup.openEpoch({ ...request, firstEvent: () => outcome.entry }));
      return outcome;
    },
    async append(batch) {
      const outcome = await store.append(batch);
      if (outcome.type === "appended") done.push((backup) => backup.append(batch));
      return outcome;
    },
  });
  return {
    log,
    writes: () => done.length,
    async restore(writes: number) {
      const backup = createMemoryLog();
      for (const write of done.splice(0).slice(0, writes)) await write(backup);
      store = backup;
    },
  };
}

const leads = (one: Member) => waitFor("the broker to lead", () => one.broker.leading());

describe("two brokers on one log", () => {
  test("one leads; the other forwards commands, leases, receipts and status to it", async () => {
    const log = sharedLog();
    const a = await member("a", log);
    await leads(a);
    const b = await member("b", log);
    try {
      await waitFor("b to follow", () => b.broker.ready().ready);
      const created = await b.broker.databroker("authenticate").submit(asked(createSession("s1", "alice")));
      assert.equal(created.type, "done");
      const node = new FakeNode("proxy-1");
      await node.lease(b.broker.databroker("proxy"));
      const revoked = await b.broker.databroker("operator").submit(asked(revoke("s1")));
      if (revoked.type !== "done") return assert.fail();
      await node.confirm(b.broker.databroker("proxy"), revoked.link);
      const target = { type: "command", commandId: revoked.commandId } as const;
      const receipt = await b.broker.databroker("operator").receipt(target, { wait: "all", timeoutMs: 1_000 });
      assert.deepEqual([receipt.complete, receipt.nodes.length], [true, 1]);
      const status = await b.broker.databroker("operator").status();
      assert.deepEqual(
        [status.leader?.brokerId, status.broker.brokerId, status.broker.leading, status.nodes.length],
        ["a", "b", false, 1],
      );
      const page = await b.broker.databroker("proxy").read(revoked.link, { limit: 1, waitMs: 0 });
      assert.equal(page.type, "page");
      const refused = await b.broker.databroker("proxy").submit(asked(revoke("s1")));
      assert.equal(refused.type === "refused" && refused.code, "forbidden");
      assert.equal(b.broker.leading(), false);

      // A forwarded call is not forwarded again, so two brokers that take each other for the leader do not loop.
      const handing = createLeaderClient({ cluster, secret, clock: systemClock, tlsCa: null, allowPlaintext: false });
      const at = { url: b.server.url, caller: { role: "authenticate", name: "test" }, timeoutMs: 2_000 } as const;
      const handedOn = await handing.submit(at, asked(createSession("s2", "alice")));
      assert.equal(handedOn.type, "unavailable");
      assert.equal(
        (await handing.submit({ ...at, url: a.server.url }, asked(createSession("s2", "alice")))).type,
        "done",
      );
      await handing.close();
    } finally {
      await b.stop();
      await a.stop();
    }
  });

  test("a renew that comes past the brokers of its region is refused, also when another broker forwards it", async (t) => {
    const log = sharedLog();
    const a = await member("a", log, { region: "east" });
    t.after(() => a.stop());
    await leads(a);
    const b = await member("b", log, { region: "east" });
    t.after(() => b.stop());
    await waitFor("b to follow", () => b.broker.ready().ready);
    const clientOf = (urls: readonly string[], name: string, audience: "home" | "any" = "any") => {
      const client = createBrokerClient({
        ...{ urls: urls.map((url) => new URL(url)), cluster, role: "proxy", name, secret, audience },
        ...{ clock: systemClock, randomBytes: random, logger: quiet },
      });
      t.after(() => client.close());
      return client;
    };
    const solePath = { wanted: true, retained: false, grantedIn: null };
    const west = new FakeNode("broker-west", { role: "broker" });
    const granted = await west.lease(b.broker.databroker("broker"), { region: "west", solePath });
    assert.deepEqual(granted.solePath, ["broker-west"]);

    const node = new FakeNode("proxy-west");
    for (const { server } of [a, b]) {
      const refused = node.lease(clientOf([server.url], "proxy-west"), { region: "west" });
      await assert.rejects(
        refused,
        (error) => error instanceof LeaseRefusedError && error.refusal.code === "past-region",
      );
      await node.lease(clientOf([server.url], "broker-west", "home"), { region: "west" });
    }
    const east = await new FakeNode("proxy-east").lease(clientOf([b.server.url], "proxy-east"), { region: "east" });
    assert.equal(east.solePath, undefined);
  });

  test("a paused leader is replaced; when it runs again it is fenced, and reports no success of its own", async (t) => {
    const store = createMemoryLog();
    const shared = sharedLog(store);
    const gate = gatedLog(shared);
    const a = await member("a", gate.log, { writeTimeoutMs: 60_000, commandMs: 15_000 });
    await leads(a);
    const b = await member("b", shared);
    try {
      await waitFor("b to follow", () => b.broker.ready().ready);
      await a.broker.databroker("authenticate").submit(asked(createSession("s0", "alice")));
      const node = new FakeNode("proxy-1");
      node.windowMs = 2_000;
      await node.lease(a.broker.databroker("proxy"));
      const oldEpoch = (await store.observe()).epoch;

      gate.hold();
      const stuck = Array.from({ length: 5 }, (_, n) => asked(createSession(`stuck-${n}`, "bob")));
      const answers = stuck.map((request) => a.broker.databroker("authenticate").submit(request));
      const stopped = performance.now();
      await leads(b);
      t.diagnostic(`taken over after ${Math.round(performance.now() - stopped)} ms`);

      const created = await b.broker.databroker("authenticate").submit(asked(createSession("s1", "carol")));
      assert.equal(created.type, "done");
      const revoked = await b.broker.databroker("operator").submit(asked(revoke("s0")));
      if (revoked.type !== "done") return assert.fail();

      // The old epoch's lessee is in the table: the new leader waits for it, or for its W.
      const target = { type: "link", link: revoked.link } as const;
      const early = await b.broker.databroker("operator").receipt(target, { wait: "all", timeoutMs: 0 });
      assert.deepEqual([early.complete, early.nodes[0]?.status], [false, "unconfirmed"]);
      assert.ok(early.completeInMs <= fenceAfterMs(2_000, 0.01));
      const late = await b.broker.databroker("operator").receipt(target, { wait: "all", timeoutMs: 5_000 });
      assert.deepEqual([late.complete, late.nodes[0]?.status], [true, "fenced"]);

      gate.release();
      const results: CommandResult[] = await Promise.all(answers);
      await waitFor("a to step down", () => !a.broker.leading());
      const projection = await folded(store);
      for (const [index, result] of results.entries()) {
        if (result.type !== "done") {
          assert.equal(result.type, "unavailable");
          continue;
        }
        assert.ok(result.link.epoch !== oldEpoch || result.link.position <= (await store.observe()).head.position);
        assert.deepEqual(await store.linkAt(result.link.position), result.link);
        assert.equal(projection.session(`stuck-${index}` as never)?.status, "active");
      }
      assert.equal(b.broker.leading(), true);
    } finally {
      gate.release();
      await b.stop();
      await a.stop();
    }
  });

  test("a deposed leader whose log does not answer learns of the later epoch from its successor over HTTP", async () => {
    const shared = sharedLog();
    const gate = gatedLog(shared);
    let highestEpoch = 0;
    const listening = wrapLog(gate.log, {
      heardOf: (epoch) => {
        highestEpoch = Math.max(highestEpoch, epoch);
      },
    });
    const a = await member("a", listening, { writeTimeoutMs: 300_000 });
    await leads(a);
    const b = await member("b", shared);
    try {
      await waitFor("b to follow", () => b.broker.ready().ready);
      gate.hold();
      await leads(b);
      await waitFor("a to learn of it", () => highestEpoch === b.broker.metrics()["epoch"]);
    } finally {
      gate.release();
      await b.stop();
      await a.stop();
    }
  });

  test("a deposed leader that does not know it yet confirms none of its successor's writes", async () => {
    const shared = sharedLog();
    const gate = gatedLog(shared);
    const a = await member("a", gate.log, { writeTimeoutMs: 60_000, ...apart() });
    await leads(a);
    const b = await member("b", shared, apart());
    try {
      await waitFor("b to follow", () => b.broker.ready().ready);
      const node = new FakeNode("proxy-1");
      node.windowMs = 500;
      await node.lease(a.broker.databroker("proxy"));
      gate.hold();
      await leads(b);
      await b.broker.databroker("authenticate").submit(asked(createSession("s1", "alice")));
      const renewing = setInterval(() => void node.lease(b.broker.databroker("proxy")).catch(() => undefined), 100);
      try {
        const revoked = await b.broker.databroker("operator").submit(asked(revoke("s1")));
        if (revoked.type !== "done") return assert.fail();
        await new Promise((resolve) => setTimeout(resolve, fenceAfterMs(500, 0.01) + 100));
        // For a, which still thinks it leads, the node fell silent long ago. For b it is alive and has confirmed
        // nothing.
        assert.equal(a.broker.leading(), true);
        const asking = a.broker
          .databroker("operator")
          .receipt({ type: "link", link: revoked.link }, { wait: "all", timeoutMs: 300 })
          .then(
            (receipt) => receipt.complete,
            () => false,
          );
        assert.equal(
          await Promise.race([asking, new Promise((resolve) => setTimeout(() => resolve("none"), 500))]),
          "none",
        );
        gate.release();
        assert.equal(await asking, false);
      } finally {
        clearInterval(renewing);
      }
    } finally {
      gate.release();
      await b.stop();
      await a.stop();
    }
  });

  test("a deposed leader whose store only answers reads concludes nothing from its memory", async () => {
    const shared = sharedLog();
    let cut = false;
    const refuse = async () => ({ type: "unavailable", cause: "read-only" }) as const;
    const demoted = wrapLog(shared, {
      beat: (request) => (cut ? refuse() : shared.beat(request)),
      append: (batch) => (cut ? refuse() : shared.append(batch)),
    });
    const a = await member("a", demoted, { commandMs: 1_000, ...apart() });
    await leads(a);
    const b = await member("b", shared, { takeoverMs: 400, ...apart() });
    try {
      await waitFor("b to follow", () => b.broker.ready().ready);
      const suspend = { type: "suspendUser", userId: user("alice"), reason: "test" } as const;
      await a.broker.databroker("authenticate").submit(asked(createSession("s1", "alice")));
      assert.equal((await a.broker.databroker("operator").submit(asked(suspend))).type, "done");
      cut = true;
      await leads(b);
      const operator = b.broker.databroker("operator");
      assert.equal((await operator.submit(asked({ type: "restoreUser", userId: user("alice") }))).type, "done");
      assert.equal(
        (await b.broker.databroker("authenticate").submit(asked(createSession("s2", "alice")))).type,
        "done",
      );

      // In a's memory alice is suspended and s2 does not exist.
      assert.equal(a.broker.leading(), true);
      for (const command of [suspend, revoke("s2")]) {
        const answer = await a.broker.databroker("operator").submit(asked(command));
        assert.equal(answer.type, "unavailable", JSON.stringify(answer));
      }
    } finally {
      await b.stop();
      await a.stop();
    }
  });

  test("after a restore, lost changes are neither answered as done nor in a receipt, and the new epoch is later", async () => {
    const restorable = restorableLog();
    const a = await member("a", restorable.log);
    try {
      await leads(a);
      const port = a.broker.databroker("authenticate");
      assert.equal((await port.submit(asked(createSession("s1", "alice")))).type, "done");
      const writes = restorable.writes();
      const lost = asked(createSession("s2", "bob"));
      const first = await port.submit(lost);
      if (first.type !== "done") return assert.fail(JSON.stringify(first));
      const later = await port.submit(asked(createSession("s3", "carol")));
      if (later.type !== "done") return assert.fail(JSON.stringify(later));
      const node = new FakeNode("proxy-1");
      node.windowMs = 4_000;
      await node.lease(a.broker.databroker("proxy"));

      await restorable.restore(writes);
      await waitFor("a later epoch", async () => (await restorable.log.observe()).epoch > later.link.epoch);
      await waitFor("a to lead again", () => a.broker.leading());
      for (const link of [first.link, later.link]) {
        const target = { type: "link", link } as const;
        const receipt = await a.broker.databroker("operator").receipt(target, { wait: "all", timeoutMs: 0 });
        assert.equal(receipt.status, "lost");
      }
      const again = await port.submit(lost);
      if (again.type !== "done") return assert.fail(JSON.stringify(again));
      assert.ok(again.link.epoch > first.link.epoch);
      const projection = await folded(restorable.log);
      assert.deepEqual(
        ["s1", "s2", "s3"].map((id) => projection.sessionStatus(session(id)).status),
        ["active", "active", "unknown"],
      );
      const status = await a.broker.databroker("operator").status();
      assert.equal(status.leader?.digest, projection.digest(), "the broker folded the remaining log again");
      assert.deepEqual(
        (await restorable.log.keys([user("bob")])).map(({ userId }) => userId),
        ["bob"],
        "nothing is sealed under a key that the log has lost",
      );
      const target = { type: "link", link: again.link } as const;
      const receipt = await a.broker.databroker("operator").receipt(target, { wait: "all", timeoutMs: 0 });
      assert.deepEqual(
        receipt.nodes.map(({ node: name, status }) => [name, status]),
        [["proxy-1", "unconfirmed"]],
        "a node that got a lease after the backup may still decide, though the log has lost its row",
      );
    } finally {
      await a.stop();
    }
  });

  test("a new leader of a restored log opens an epoch above all that it has folded: no epoch is opened twice", async () => {
    const restorable = restorableLog();
    const gate = gatedLog(restorable.log);
    const a = await member("a", gate.log, { writeTimeoutMs: 60_000, ...apart() });
    await leads(a);
    const b = await member("b", restorable.log, apart());
    try {
      await waitFor("b to follow", () => b.broker.ready().ready);
      const writes = restorable.writes();
      const { head } = await restorable.log.observe();
      const later = { ...head, epoch: (head.epoch + 1) as Epoch };
      await new FakeNode("proxy-1").lease(a.broker.databroker("proxy"), { applied: later }).catch(() => undefined);
      const created = await a.broker.databroker("authenticate").submit(asked(createSession("s1", "alice")));
      if (created.type !== "done") return assert.fail(JSON.stringify(created));
      const applied = async () => (await b.broker.databroker("operator").status()).broker.applied;
      await waitFor("b to have folded it", async () => (await applied()).position === created.link.position);
      gate.hold();
      await restorable.restore(writes);
      await leads(b);
      assert.ok((await restorable.log.observe()).epoch > created.link.epoch);
      assert.equal((await folded(restorable.log)).counts.sessions, 0);
    } finally {
      gate.release();
      await b.stop();
      await a.stop();
    }
  });

  test("revocations that only the broker had read return to the log after a restore to before them", async () => {
    const restorable = restorableLog();
    const a = await member("a", restorable.log);
    try {
      await leads(a);
      const port = a.broker.databroker("authenticate");
      const create = asked(createSession("lost", "bob"));
      for (const request of [createSession("kept", "alice"), createSession("cut", "carol")])
        assert.equal((await port.submit(asked(request))).type, "done");
      const writes = restorable.writes();
      assert.equal((await port.submit(create)).type, "done");
      assert.equal((await port.submit(asked(revoke("kept")))).type, "done");
      const cut = { type: "revokeUserSessions", userId: user("bob"), reason: "operator" } as const;
      assert.equal((await port.submit(asked(cut))).type, "done");
      await restorable.restore(writes);
      const standing = async (id: string) => (await folded(restorable.log)).sessionStatus(session(id)).status;
      await waitFor("the revocation to return", async () => (await standing("kept")) === "revoked");
      await waitFor("the end of a lost session to return", async () => (await standing("lost")) === "revoked");
      assert.equal(await standing("cut"), "active");
      await port.submit(create);
      assert.equal(await standing("lost"), "revoked", "a repeated sign-in does not bring it back");
    } finally {
      await a.stop();
    }
  });

  test("another incarnation that leads the same epoch makes the leader open a later one", async () => {
    const fanout = createLocalFanout({ logger: quiet });
    const a = await member("a", sharedLog(), { fanout });
    try {
      await leads(a);
      const epoch = (a.broker.metrics()["epoch"] ?? 0) as Epoch;
      const twin = enrolKey(
        { cluster, role: "broker", name: "b", boot: "b" as BootId, epoch, incarnation: "twin" as Incarnation },
        signingPairFromSeed(random(32)),
        enrolmentRoot(secret, "broker"),
      );
      const batch = {
        epoch,
        incarnation: "twin" as Incarnation,
        previous: genesis,
        entries: [],
        last: genesis,
        keys: [],
      };
      fanout.publish(sealEnvelope(twin, "batch", encodeMessage(batch)));
      await waitFor("a later epoch", () => (a.broker.metrics()["epoch"] ?? 0) > epoch && a.broker.leading());
    } finally {
      await a.stop();
    }
  });

  test("a leader that stops cleanly is replaced at once, and a command sent meanwhile is executed", async () => {
    const log = sharedLog();
    const fanout = createLocalFanout({ logger: quiet });
    const a = await member("a", log, { takeoverMs: 20_000, fanout });
    await leads(a);
    const b = await member("b", log, { takeoverMs: 20_000, fanout });
    try {
      await waitFor("b to follow", () => b.broker.ready().ready);
      const began = performance.now();
      const [result] = await Promise.all([
        b.broker.databroker("authenticate").submit(asked(createSession("s1", "alice"))),
        a.stop(),
      ]);
      await leads(b);
      assert.ok(performance.now() - began < 20_000, "not by the take-over of a silent leader");
      assert.equal(result.type, "done");
      assert.equal((await folded(log)).counts.sessions, 1);
    } finally {
      await b.stop();
    }
  });

  test("a leader that is known to be replaced is not waited for: it is fenced, and follows", async () => {
    const log = sharedLog();
    const a = await member("a", log, { takeoverMs: 60_000 });
    await leads(a);
    const { incarnation } = await log.observe();
    const b = await member("b", log, { takeoverMs: 60_000, replaced: incarnation });
    try {
      await leads(b); // within the limit of the wait, which is far shorter than the silence that it would wait for
      await waitFor("a to follow", () => !a.broker.leading());
      assert.notEqual((await log.observe()).incarnation, incarnation);
    } finally {
      await a.stop();
      await b.stop();
    }
  });

  test("of three candidates for a vacant leadership one wins, and every epoch has one writer", async () => {
    const log = sharedLog();
    const members = await Promise.all(["a", "b", "c"].map((name) => member(name, log)));
    try {
      await waitFor("one to lead", () => members.filter(({ broker }) => broker.leading()).length === 1);
      await new Promise((resolve) => setTimeout(resolve, 300));
      assert.equal(members.filter(({ broker }) => broker.leading()).length, 1);
      const submitted = members.map(({ broker }, n) =>
        broker.databroker("authenticate").submit(asked(createSession(`s${n}`, `u${n}`))),
      );
      assert.ok((await Promise.all(submitted)).every(({ type }) => type === "done"));
    } finally {
      for (const each of members) await each.stop();
    }
  });
});
