/**
 * Broker presence: which other brokers are alive, and up to which level they can read.
 *
 * A broker tells the others of itself once a second; nothing is kept: a leader asks who is there when an upgrade is to be finalized. Pure.
 */
import type { BrokerId, Epoch, MonotonicMs } from "../../events/index.ts";
import type { StepContext } from "../core/step-context.ts";

/** What a broker says of itself. `reads`: the level up to which it can read events. */
export type Presence = Readonly<{ brokerId: BrokerId; version: string; reads: number }>;
/** The newest epoch that a broker knows of, and where brokers can be reached: itself when it speaks, others when it answers. */
export type GossipMessage = Readonly<{ epoch: Epoch; urls: readonly string[] }>;
export type Peer = Presence & Readonly<{ heardAt: MonotonicMs }>;

const announceMs = 1_000;
/** Who has been silent for so long is not there. */
export const peerSilentMsMax = 5_000;
const peersMax = 1_000;

export class BrokerPresences {
  readonly #work: StepContext;
  readonly #own: Presence;
  readonly #heard = new Map<BrokerId, Peer>();
  #announceAt = 0;

  constructor(work: StepContext, own: Presence) {
    this.#work = work;
    this.#own = own;
  }

  get own(): Presence {
    return this.#own;
  }

  /** An authenticated broker says that it is there. */
  heard(presence: Presence): void {
    if (presence.brokerId === this.#own.brokerId) return;
    this.#heard.delete(presence.brokerId);
    this.#heard.set(presence.brokerId, { ...presence, heardAt: this.#work.now });
    if (this.#heard.size > peersMax) this.#heard.delete(this.#heard.keys().next().value ?? presence.brokerId);
  }

  /** Those that are there now, by name. */
  get present(): readonly Peer[] {
    return [...this.#heard.values()]
      .filter(({ heardAt }) => this.#work.now - heardAt < peerSilentMsMax)
      .sort((a, b) => (a.brokerId < b.brokerId ? -1 : 1));
  }

  get dueAt(): number {
    return this.#announceAt;
  }

  tick(): void {
    const { now } = this.#work;
    if (this.#announceAt > now) return;
    this.#announceAt = now + announceMs;
    this.#work.emit({ type: "present", presence: this.#own });
  }
}
