/**
 * Simulated Shared Signals: a transmitter that is polled (RFC 8936), and a receiver to which is pushed (RFC 8935).
 *
 * - The transmitter keeps each token until it is acknowledged. It does not answer at times, and an acknowledgement may
 *   arrive although its answer gets lost.
 * - The receiver does not answer for a while, or answers after it has stored a token although the answer gets lost.
 * - After `calm` both answer.
 */

import { planSignal, type TransmitterRules } from "../../../src/auth/authenticate/signals/signal-plan.ts";
import type { PushAnswer } from "../../../src/auth/authenticate/transmitter/push-delivery.ts";
import { eventUriOf, type PollRequest, type SecurityEvent } from "../../../src/auth/shared-signals/index.ts";
import type { CommandRequest, UserId } from "../../../src/events/index.ts";
import type { Stream } from "../random.ts";
import { type World, worldStart } from "../world.ts";
import { issuer, receiverName, transmitterName } from "./provisioned-people.ts";

export const signalRules: TransmitterRules = {
  name: transmitterName,
  match: ["subject"],
  actions: { "session-revoked": "revoke-sessions", "account-disabled": "suspend", "account-enabled": "restore" },
  groupsClaim: null,
  subjectIssuers: [issuer],
};

type Token = Readonly<{ event: SecurityEvent; person: UserId }>;
const silent = 0.15;
const answerLost = 0.1;
const downMs = [500, 12_000] as const;
const downChance = 0.05;

export class SimSignals {
  readonly #world: World;
  readonly #random: Stream;
  /** Not acknowledged, oldest first. */
  readonly #waiting = new Map<string, Token>();
  #downUntil = 0;
  #isCalm = false;

  constructor(world: World) {
    this.#world = world;
    this.#random = world.random("signals");
  }

  calm(): void {
    this.#isCalm = true;
  }

  /** Something has happened to a person, about which the transmitter makes a token. */
  issue(person: UserId, by: number): void {
    const name = by < 0.7 ? "session-revoked" : by < 0.85 ? "account-disabled" : "account-enabled";
    const { now } = this.#world;
    const at = worldStart + Math.floor(now);
    const event: SecurityEvent = {
      ...{ issuer, audiences: ["cardea"], jti: this.#random.uuid(), issuedAt: at, occurredAt: at, txn: null },
      ...{ subject: { format: "iss_sub", iss: issuer, sub: person }, name, uri: eventUriOf(name), payload: {} },
    };
    this.#waiting.set(event.jti, { event, person });
    const commandIds = commandsOf({ event, person }).map(({ commandId }) => commandId);
    const { jti } = event;
    this.#world.report({ type: "signal-issued", at: now, process: "operator", jti, commandIds });
  }

  /** @returns undefined: no answer */
  poll({ ack, maxEvents }: PollRequest): readonly Token[] | undefined {
    const isBad = (chance: number): boolean => !this.#isCalm && this.#random.chance(chance);
    if (isBad(silent)) return undefined;
    for (const jti of ack) {
      if (!this.#waiting.delete(jti)) continue;
      this.#world.report({ type: "signal-acknowledged", at: this.#world.now, process: "operator", jti });
    }
    return isBad(answerLost) ? undefined : [...this.#waiting.values()].slice(0, maxEvents ?? undefined);
  }

  /** @param token the claims as text: the simulation has no signatures */
  push(token: string): PushAnswer {
    const { now } = this.#world;
    const isBad = (chance: number): boolean => !this.#isCalm && this.#random.chance(chance);
    if (isBad(downChance)) this.#downUntil = now + this.#random.within(...downMs);
    if (!this.#isCalm && now < this.#downUntil)
      return { type: "failed", reason: "no answer in time", retryAfterMs: null };
    const { jti, iat, txn, sub_id: subject, events } = JSON.parse(token) as Record<string, unknown>;
    const content = JSON.stringify([iat, txn, subject, Object.keys(events as object)]);
    const said = { receiver: receiverName, jti: String(jti), content };
    this.#world.report({ type: "signal-accepted", at: now, process: "operator", ...said });
    return isBad(answerLost)
      ? { type: "failed", reason: "no answer in time", retryAfterMs: null }
      : { type: "accepted" };
  }
}

/** What a token means, by the product's plan. People of the simulation have ids that say who they are. */
export function commandsOf({ event, person }: Token): readonly CommandRequest[] {
  return (planSignal(event, signalRules, []) ?? []).map(({ commandId, command }) => ({
    ...{ commandId, actor: `service:signals/${transmitterName}` },
    command: { ...command, people: [person] },
  }));
}
