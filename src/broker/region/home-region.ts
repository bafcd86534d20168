/**
 * Home region: the brokers of the leader's region, and whether they answer.
 *
 * Nothing is concluded from a connection that merely stands: only an answer counts. Our own renews ask every second, so while the
 * home region is away nobody else has to find out by waiting for it.
 */
import {
  BrokerUnavailableError,
  type Clock,
  type Databroker,
  LeaseRefusedError,
  type Role,
} from "../../replication/index.ts";
import { pause } from "../bell.ts";

/** Three of our own renews have gone unanswered, or nearly. */
const silentRenews = 2.5;

export class HomeRegion {
  readonly #in: (role: Role) => Databroker;
  readonly #clock: Clock;
  readonly #silentMsMax: number;
  #heardAt = Number.NEGATIVE_INFINITY;

  constructor(options: Readonly<{ home: (role: Role) => Databroker; clock: Clock; renewMs: number }>) {
    this.#in = options.home;
    this.#clock = options.clock;
    this.#silentMsMax = silentRenews * options.renewMs;
  }

  /** Null before the first answer. */
  get silentMs(): number | null {
    const silentMs = this.#clock.monotonic() - this.#heardAt;
    return Number.isFinite(silentMs) ? silentMs : null;
  }
  get answers(): boolean {
    return (this.silentMs ?? Number.POSITIVE_INFINITY) <= this.#silentMsMax;
  }

  /** Asks whatever its state, and takes note of an answer. */
  async probe<T>(role: Role, question: (home: Databroker) => Promise<T>): Promise<T> {
    try {
      const told = await question(this.#in(role));
      this.#heardAt = this.#clock.monotonic();
      return told;
    } catch (error) {
      if (error instanceof LeaseRefusedError) this.#heardAt = this.#clock.monotonic();
      throw error;
    }
  }

  /** Fails at once while the home region is away, rather than after a wait. @throws BrokerUnavailableError */
  async ask<T>(role: Role, question: (home: Databroker) => Promise<T>): Promise<T> {
    if (!this.answers) throw new BrokerUnavailableError("the home region is out of reach");
    return this.probe(role, question);
  }

  /** @returns undefined: it is away, or did not answer in time; an answer that comes later still tells that it is there */
  async askWithin<T>(ms: number, role: Role, question: (home: Databroker) => Promise<T>): Promise<T | undefined> {
    if (!this.answers) return undefined;
    const asked = this.probe(role, question);
    asked.catch(() => {});
    try {
      return await Promise.race([asked, pause(ms).then(() => undefined)]);
    } catch (error) {
      if (error instanceof BrokerUnavailableError) return undefined;
      throw error;
    }
  }
}
