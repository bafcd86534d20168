/**
 * Broker presence: which other brokers are alive, and the level up to which they can read. Pure.
 *
 * Each broker sends gossip once a second. Presence is only held in memory: a leader reads it when an upgrade is to be
 * finalized.
 */
import type { BrokerId, MonotonicMs } from "../../events/index.ts";
import type { Presence } from "../core/messages.ts";
import type { StepContext } from "../core/step-context.ts";

export type Peer = Presence & Readonly<{ heardAt: MonotonicMs }>;

const gossipMs = 1_000;
/** A broker that is silent for this long counts as absent. */
export const peerSilentMsMax = 5_000;
const peersMax = 1_000;

export class BrokerPresences {
  readonly #context: StepContext;
  readonly #own: Presence;
  readonly #peers = new Map<BrokerId, Peer>();
  #sendAt = 0;

  constructor(context: StepContext, own: Presence) {
    this.#context = context;
    this.#own = own;
  }

  get own(): Presence {
    return this.#own;
  }

  /** Notes the gossip of an authenticated broker. */
  receive(presence: Presence): void {
    if (presence.brokerId === this.#own.brokerId) return;
    this.#peers.delete(presence.brokerId);
    this.#peers.set(presence.brokerId, { ...presence, heardAt: this.#context.now });
    if (this.#peers.size > peersMax) this.#peers.delete(this.#peers.keys().next().value ?? presence.brokerId);
  }

  /** The brokers that are alive now, by name. */
  get alive(): readonly Peer[] {
    return [...this.#peers.values()]
      .filter(({ heardAt }) => this.#context.now - heardAt < peerSilentMsMax)
      .sort((a, b) => (a.brokerId < b.brokerId ? -1 : 1));
  }

  get dueAt(): number {
    return this.#sendAt;
  }

  tick(): void {
    const { now } = this.#context;
    if (this.#sendAt > now) return;
    this.#sendAt = now + gossipMs;
    this.#context.emit({ type: "sendGossip", presence: this.#own });
  }
}
