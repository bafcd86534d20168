/**
 * Fake brokers: a leader over a history in memory, as nodes see it.
 *
 * - It publishes what it commits, answers reads and grants leases. Tests can make it late, wrong or silent.
 * - It records every renewal, confirmation, goodbye and read.
 */
import type { CardeaEvent, Link, UnixMs, WrappedKey } from "../../src/events/index.ts";
import type { Fanout } from "../../src/replication/fanout/index.ts";
import type { Databroker } from "../../src/replication/index.ts";
import {
  BrokerUnavailableError,
  type Confirm,
  createBrokerOpener,
  createEnvelopeOpener,
  enrolmentRoot,
  type Goodbye,
  type Grant,
  openGrant,
  parseConfirm,
  parseGoodbye,
  parseRenew,
  type Renew,
  type Signer,
} from "../../src/replication/wire/index.ts";
import { cluster, History, leaderOf, sealMessage, secret } from "./support.ts";

export class FakeBrokers {
  log: History;
  fanout: Fanout | null;
  leader: Signer;
  readonly keys = new Map<string, WrappedKey>();
  readonly renews: Renew[] = [];
  readonly confirms: Confirm[] = [];
  readonly goodbyes: Goodbye[] = [];
  readonly reads: Readonly<{ after: Link; waitMs: number }>[] = [];
  /** How the brokers behave now; tests change it. */
  reachable = true;
  publishing = true;
  granting = true;
  lease = { deltaMs: 5_000, windowMs: 65_000 };
  grantParts: (grant: Grant) => Partial<Grant> = () => ({});
  #committed = Promise.withResolvers<void>();

  constructor(options: Readonly<{ log?: History; fanout?: Fanout | null }> = {}) {
    this.log = options.log ?? new History().open(1);
    this.fanout = options.fanout ?? null;
    this.leader = leaderOf(this.log.head.epoch, this.log.incarnation);
  }

  /** Commits the events as one batch. */
  commit(...events: readonly CardeaEvent[]): Link {
    const after = this.log.entries.length;
    for (const event of events) this.log.add(event);
    this.publish(after);
    return this.log.head;
  }

  /** Another leader takes over, with a log that has lost everything after a position. */
  failOver(options: Readonly<{ keep: number; epoch: number }>): void {
    this.log = this.log.fork(options.keep).open(options.epoch);
    this.leader = leaderOf(options.epoch, this.log.incarnation);
    this.publish(options.keep);
  }

  publish(after: number): void {
    const batch = this.log.batch(after, this.log.entries.length, [...this.keys.values()]);
    if (this.publishing) this.fanout?.publish(sealMessage(this.leader, "batch", batch));
    const committed = this.#committed;
    this.#committed = Promise.withResolvers();
    committed.resolve();
  }

  get databroker(): Databroker {
    const unused = (): never => {
      throw new Error("a replica calls only read and lease; this fake offers nothing else");
    };
    return {
      read: (after, options) => this.#read(after, options),
      lease: (envelope) => this.#lease(envelope),
      submit: unused,
      receipt: unused,
      status: unused,
      takeSnapshot: unused,
      history: unused,
      configuration: unused,
      configurations: unused,
      holdsConfiguration: unused,
      storedSignalStream: unused,
      tokens: unused,
    };
  }

  async #read(after: Link, options: Parameters<Databroker["read"]>[1]): ReturnType<Databroker["read"]> {
    this.reads.push({ after, waitMs: options.waitMs });
    const giveUpAt = performance.now() + options.waitMs;
    for (;;) {
      await new Promise((resolve) => setImmediate(resolve));
      if (!this.reachable) throw new BrokerUnavailableError("no broker answers");
      const outcome = this.log.read(after, options.limit);
      if (outcome.type !== "page") return outcome;
      const leftMs = giveUpAt - performance.now();
      if (outcome.page.entries.length > 0 || leftMs <= 0) {
        return { type: "page", page: { ...outcome.page, keys: [...this.keys.values()] } };
      }
      let timer: NodeJS.Timeout | undefined;
      const aborted = new Promise<void>((_, reject) => {
        options.signal?.addEventListener("abort", () => reject(options.signal?.reason), { once: true });
      });
      const waited = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, leftMs);
      });
      await Promise.race([this.#committed.promise, waited, aborted]).finally(() => clearTimeout(timer));
    }
  }

  async #lease(envelope: Uint8Array): Promise<Uint8Array | null> {
    await new Promise((resolve) => setImmediate(resolve));
    if (!this.reachable) throw new BrokerUnavailableError("no broker answers");
    const opened = createEnvelopeOpener({ cluster, rootOf: (role) => enrolmentRoot(secret, role).publicKey })(envelope);
    if ("refused" in opened) throw new Error(opened.refused);
    if (opened.kind === "confirm") this.confirms.push(parseConfirm(opened.payload));
    else if (opened.kind === "goodbye") this.goodbyes.push(parseGoodbye(opened.payload));
    if (opened.kind !== "renew") return null;
    const renew = parseRenew(opened.payload);
    this.renews.push(renew);
    if (!this.granting) throw new BrokerUnavailableError("no broker leads");
    return this.grant(renew);
  }

  grant(renew: Renew): Uint8Array {
    const { epoch } = this.log.head;
    const grant: Grant = {
      node: renew.node,
      boot: renew.boot,
      nonce: renew.nonce,
      epoch,
      incarnation: this.log.incarnation,
      start: this.log.start,
      head: this.log.head,
      ...this.lease,
      drift: 0.01,
      wallMs: Date.now() as UnixMs,
    };
    const granted = { ...grant, ...this.grantParts(grant) };
    const sent = sealMessage(this.leader, granted.ageMs === undefined ? "grant" : "grant-by-age", granted);
    if ("refused" in openGrant(sent, createBrokerOpener({ cluster, secrets: [secret] })))
      throw new Error("the fake made an invalid grant");
    return sent;
  }
}
