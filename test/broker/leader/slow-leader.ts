/**
 * A broker that leads, on the test's own clock, with a store whose commits take as long as the test says. Every count
 * and every time is exact.
 */
import assert from "node:assert/strict";
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
import { type MonotonicMs, parseBootId, parseBrokerId, type UnixMs } from "../../../src/events/index.ts";
import type { AbsentNode } from "../../../src/replication/index.ts";
import type { EventLog } from "../../../src/replication/log/index.ts";
import { rawPublicKey } from "../../../src/replication/wire/index.ts";
import { asked, cluster, createSession, type FakeNode, random, secret, sharedLog } from "../support.ts";

export const lease = { deltaMs: 5_000, drift: 0.01, beatMs: 200, windowMaxMs: 65_000 };
/** The commit time of a store whose synchronous standby is 80 ms away. */
export const commitMs = 85;
const brokerId = parseBrokerId("broker-1");

type Write = Readonly<{ id: number; call: LogCall; sentAt: number }>;
type Timed<Input> = Input extends unknown ? Omit<Input, "at"> : never;

/** Each of its writes is in flight until the test commits it. */
export class SlowLeader {
  readonly writes: string[] = [];
  readonly beatsAt: number[] = [];
  /** Appends, batches to publish and answers of commands in their order, each with the input that caused it. */
  readonly order: string[] = [];
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
  /** The nodes whose leases the leader remembers. */
  get lessees(): readonly string[] {
    return this.#core.standings(this.#moment()).map(({ node }) => node);
  }
  get absent(): readonly AbsentNode[] {
    return this.#core.absences(this.#moment()).absent;
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
    this.#feed({ type: "nodeMessage", id: this.#ids, origin: "remote", through: null, message });
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
    const at = this.#moment();
    if (input.type === "woke") this.#wakeAt = Number.POSITIVE_INFINITY;
    const [core, effects] = step(this.#core, { ...input, at } as BrokerInput);
    this.#core = core;
    for (const effect of effects) {
      const isAppend = effect.type === "log" && effect.call.op === "append";
      if (isAppend) this.order.push(`${input.type}: append`);
      if (effect.type === "publish" || effect.type === "commandAnswered")
        this.order.push(`${input.type}: ${effect.type}`);
      this.#perform(effect);
    }
  }

  #moment(): BrokerInput["at"] {
    return { monotonic: this.#now as MonotonicMs, wall: (1_700_000_000_000 + this.#now) as UnixMs };
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

export async function aLeader(): Promise<SlowLeader> {
  const leader = new SlowLeader();
  await leader.lead();
  return leader;
}

/** A node that holds a lease, so that the leader beats. */
export async function granted(leader: SlowLeader, node: FakeNode): Promise<void> {
  const id = leader.renew(node);
  for (let n = 0; leader.leases.get(id) === undefined && n < 20; n += 1) {
    await leader.advance(lease.beatMs);
    if (leader.isWriting) await leader.commit();
  }
  assert.equal(leader.leases.get(id)?.type, "granted");
  leader.writes.length = 0;
}
