/**
 * The order of a leader's writes: beats and appends under load, with a store whose commits take as long as the test
 * says. The clock is the test's own, so every count is exact.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type BrokerCore, newBrokerCore, step } from "../../../src/broker/broker-core.ts";
import type {
  BrokerEffect,
  BrokerInput,
  CommandAnswer,
  LeaseAnswer,
  LogCall,
} from "../../../src/broker/core/messages.ts";
import { EpochSigners } from "../../../src/broker/peers/epoch-signers.ts";
import { performLogCall } from "../../../src/broker/perform-log-call.ts";
import { parseBootId, parseBrokerId, type UnixMs } from "../../../src/events/index.ts";
import type { EventLog } from "../../../src/replication/log/index.ts";
import { rawPublicKey } from "../../../src/replication/wire/index.ts";
import { asked, cluster, createSession, FakeNode, random, secret, sharedLog } from "../support.ts";

const lease = { deltaMs: 5_000, drift: 0.01, beatMs: 200, windowMaxMs: 65_000 };
/** The commit time of a store whose synchronous standby is 80 ms away. */
const commitMs = 85;
const brokerId = parseBrokerId("broker-1");

type Write = Readonly<{ id: number; call: LogCall; sentAt: number }>;
type Timed<Input> = Input extends unknown ? Omit<Input, "at"> : never;

/** A broker that leads; each of its writes is in flight until the test commits it. */
class SlowLeader {
  readonly writes: string[] = [];
  readonly beatsAt: number[] = [];
  readonly answers = new Map<number, CommandAnswer>();
  readonly answeredAt = new Map<number, number>();
  readonly leases = new Map<number, LeaseAnswer>();
  readonly #log: EventLog = sharedLog();
  readonly #signers = new EpochSigners({ cluster, name: brokerId, boot: parseBootId("boot-1") }, secret);
  readonly #inFlight: Write[] = [];
  #reads: Promise<void>[] = [];
  #core: BrokerCore;
  #now = 1_000;
  #wakeAt = Number.POSITIVE_INFINITY;
  #ids = 0;

  constructor() {
    this.#core = newBrokerCore({
      ...{ brokerId, secrets: [secret], lease, takeoverMs: 3_000, duties: [], brokerUrl: null, exclusive: false },
      ...{ writeTimeoutMs: 10_000, version: "", expirySweepMs: 3_600_000, commandSweepMs: 3_600_000, random },
      beginsFrom: "log",
    });
  }

  async lead(): Promise<void> {
    this.#feed({ type: "started" });
    for (let n = 0; this.#core.leadership === null && n < 1_000; n += 1) {
      await this.advance(50);
      while (this.#inFlight.length > 0) await this.commit();
    }
    assert.notEqual(this.#core.leadership, null);
    this.writes.length = 0;
  }

  get isWriting(): boolean {
    return this.#inFlight.length > 0;
  }
  get now(): number {
    return this.#now;
  }

  /** Lets time pass; each write commits `commitMs` after it was sent. */
  async runUntil(end: number): Promise<void> {
    for (;;) {
      await this.#settle();
      const [write] = this.#inFlight;
      const commitAt = write === undefined ? Number.POSITIVE_INFINITY : write.sentAt + commitMs;
      const next = Math.min(commitAt, this.#wakeAt);
      if (next > end) break;
      this.#now = Math.max(this.#now, next);
      if (commitAt <= this.#now) await this.commit();
    }
    this.#now = end;
  }

  submit(name: string): number {
    this.#ids += 1;
    this.#feed({
      type: "submitted",
      id: this.#ids,
      request: asked(createSession(name, `user of ${name}`)),
      waitMs: 60_000,
    });
    return this.#ids;
  }

  renew(node: FakeNode): number {
    this.#ids += 1;
    const publicKey = rawPublicKey(node.key.pair.publicKey);
    const from = { cluster, role: "proxy", name: node.node, boot: node.boot, publicKey } as const;
    const message = { type: "renew", renew: node.renew({ monotonicMs: this.#now }), from } as const;
    this.#feed({ type: "nodeMessage", id: this.#ids, origin: "remote", message });
    return this.#ids;
  }

  /** Answers the write in flight. */
  async commit(): Promise<void> {
    const write = this.#inFlight.shift();
    if (write === undefined) throw new Error("no write is in flight");
    const outcome = await performLogCall(this.#log, write.call, this.#signers);
    this.#feed({ type: "logAnswered", id: write.id, outcome });
    await this.#settle();
  }

  async advance(ms: number): Promise<void> {
    this.#now += ms;
    await this.#settle();
  }

  async #settle(): Promise<void> {
    for (let n = 0; n < 100; n += 1) {
      const reads = this.#reads;
      this.#reads = [];
      await Promise.all(reads);
      if (this.#wakeAt <= this.#now) this.#feed({ type: "woke" });
      else if (this.#reads.length === 0) return;
    }
    throw new Error("the broker does not come to rest");
  }

  #feed(input: Timed<BrokerInput>): void {
    const at = { monotonic: this.#now, wall: (1_700_000_000_000 + this.#now) as UnixMs };
    if (input.type === "woke") this.#wakeAt = Number.POSITIVE_INFINITY;
    const [core, effects] = step(this.#core, { ...input, at } as BrokerInput);
    this.#core = core;
    for (const effect of effects) this.#perform(effect);
  }

  #perform(effect: BrokerEffect): void {
    if (effect.type === "wake") this.#wakeAt = effect.at;
    else if (effect.type === "commandAnswered") {
      this.answers.set(effect.id, effect.answer);
      this.answeredAt.set(effect.id, this.#now);
    } else if (effect.type === "leaseAnswered") this.leases.set(effect.id, effect.answer);
    else if (effect.type === "log") this.#callLog(effect);
  }

  #callLog({ id, call }: Pick<Write, "id" | "call">): void {
    if (call.op === "append" || call.op === "beat") {
      this.writes.push(call.op);
      if (call.op === "beat") this.beatsAt.push(this.#now);
      this.#inFlight.push({ id, call, sentAt: this.#now });
      return;
    }
    const answered = performLogCall(this.#log, call, this.#signers).then((outcome) =>
      this.#feed({ type: "logAnswered", id, outcome }),
    );
    this.#reads.push(answered);
  }
}

async function aLeader(): Promise<SlowLeader> {
  const leader = new SlowLeader();
  await leader.lead();
  return leader;
}

/** A node that holds a lease, so that the leader beats. */
async function granted(leader: SlowLeader, node: FakeNode): Promise<void> {
  const id = leader.renew(node);
  for (let n = 0; leader.leases.get(id) === undefined && n < 20; n += 1) {
    await leader.advance(lease.beatMs);
    if (leader.isWriting) await leader.commit();
  }
  assert.equal(leader.leases.get(id)?.type, "granted");
  leader.writes.length = 0;
}

describe("the order of a leader's writes", () => {
  test("a command that arrives while a beat is in flight is the next write", async () => {
    const leader = await aLeader();
    const node = new FakeNode("node-1");
    await granted(leader, node);
    await leader.advance(lease.beatMs);
    assert.deepEqual(leader.writes, ["beat"]);
    const command = leader.submit("s1");
    leader.renew(node);
    await leader.advance(commitMs);
    await leader.commit();
    assert.deepEqual(leader.writes, ["beat", "append"]);
    await leader.commit();
    assert.equal(leader.answers.get(command)?.type, "done");
  });

  test("no beat starts while commands wait, although commits take so long that one is always due", async () => {
    const leader = await aLeader();
    const node = new FakeNode("node-1");
    await granted(leader, node);
    leader.submit("s0");
    await leader.advance(0);
    for (let n = 1; n <= 10; n += 1) {
      leader.submit(`s${n}`);
      const renewed = leader.renew(node);
      for (const part of ["a", "b"]) {
        leader.submit(`s${n}${part}`);
        await leader.advance(3 * lease.beatMs);
        await leader.commit();
      }
      assert.equal(leader.leases.get(renewed)?.type, "granted", "an append grants the renews that arrived before it");
    }
    assert.deepEqual([...new Set(leader.writes)], ["append"]);
  });

  test("while a new boot waits for its row, beats and appends take turns", async () => {
    const leader = await aLeader();
    await granted(leader, new FakeNode("node-1"));
    const boots = ["node-2", "node-3", "node-4"].map((name) => new FakeNode(name));
    leader.submit("s0");
    for (const boot of boots) {
      const from = leader.writes.length;
      const asks = leader.renew(boot);
      for (let n = 0; leader.leases.get(asks) === undefined && n < 10; n += 1) {
        leader.submit(`${boot.node}-${n}`);
        await leader.advance(3 * lease.beatMs);
        await leader.commit();
      }
      assert.equal(leader.leases.get(asks)?.type, "granted");
      const after = leader.writes.slice(from);
      assert.ok(after.indexOf("beat") <= 1, `its beat waited for more than one append: ${after.join(" ")}`);
    }
    assert.ok(!leader.writes.join(" ").includes("beat beat"), "an append follows each beat while commands wait");
  });

  test("a caller that sends one command after the other waits for no beat", async () => {
    const leader = await aLeader();
    await granted(leader, new FakeNode("node-1"));
    for (let n = 0; n < 10; n += 1) {
      const command = leader.submit(`s${n}`);
      await leader.advance(commitMs);
      await leader.commit();
      assert.equal(leader.answers.get(command)?.type, "done");
      await leader.advance(10);
    }
    assert.deepEqual([...new Set(leader.writes)], ["append"]);
  });

  test("of the commands of a busy cluster, none waits for a beat that started after it arrived", async (t) => {
    const leader = await aLeader();
    const nodes = ["node-1", "node-2", "node-3", "node-4", "node-5"].map((name) => new FakeNode(name));
    for (const node of nodes) await granted(leader, node);
    const waits: number[] = [];
    const open = new Map<number, number>();
    let [renewAt, renews] = [leader.now, 0];
    for (let n = 0; n < 400; n += 1) {
      // Gaps from none to four commits, in an order that has no period.
      await leader.runUntil(leader.now + ((n * n * 37) % (4 * commitMs)));
      for (; renewAt <= leader.now; renewAt += 200, renews += 1)
        leader.renew(nodes[renews % nodes.length] ?? assert.fail());
      open.set(leader.submit(`s${n}`), leader.now);
      await leader.runUntil(leader.now);
      for (const [id, at] of open) {
        const answer = leader.answers.get(id);
        if (answer === undefined) continue;
        assert.equal(answer.type, "done");
        const answeredAt = leader.answeredAt.get(id) ?? assert.fail();
        assert.deepEqual(
          leader.beatsAt.filter((beatAt) => beatAt > at && beatAt < answeredAt),
          [],
        );
        waits.push(answeredAt - at);
        open.delete(id);
      }
    }
    const sorted = waits.toSorted((a, b) => a - b);
    const [mean, max] = [waits.reduce((sum, ms) => sum + ms, 0) / waits.length, sorted.at(-1) ?? 0];
    const beats = leader.writes.filter((write) => write === "beat").length;
    t.diagnostic(
      `a commit takes ${commitMs} ms; ${waits.length} commands waited ${Math.round(mean)} ms in the mean, ${max} at most; ${beats} beats`,
    );
    assert.ok(beats > 0 && waits.length > 350);
  });

  test("after the last command, a beat shows the head to the readers of standbys", async () => {
    const leader = await aLeader();
    await granted(leader, new FakeNode("node-1"));
    leader.submit("s1");
    await leader.advance(commitMs);
    await leader.commit();
    await leader.advance(lease.beatMs / 4);
    assert.deepEqual(leader.writes, ["append", "beat"]);
  });
});
