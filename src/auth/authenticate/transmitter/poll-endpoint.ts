/**
 * Poll endpoint: gives a receiver the tokens of its stream, and takes what it acknowledges (RFC 8936).
 *
 * - A token is given again until it is acknowledged, so an answer that is lost costs nothing.
 * - An acknowledgement is in the log before the answer.
 * - Tokens, waiting time and waiting requests are bounded.
 */
import type { SignalReceiverConfig } from "../../../config/index.ts";
import { type PollRequest, parsePollRequest, pollMethod } from "../../shared-signals/index.ts";
import { controlClaims, signalClaims, type TokenContext } from "./event-claims.ts";
import { sourceOf } from "./node-source.ts";
import { PendingSignals } from "./pending-signals.ts";
import { type ReceiverCaller, requireScope } from "./receiver-credentials.ts";
import { badRequest, unavailable } from "./signal-request-error.ts";
import type { EventSigner } from "./signing-key.ts";
import { withDeadLetter } from "./stream-duty.ts";
import { filterOf, isSameFilter } from "./stream-filter.ts";
import { controlJti, type SignalStream, type StreamRecord } from "./stream-record.ts";
import {
  readRecord,
  type StoredRecord,
  streamIn,
  type TransmitterDeps,
  withActivity,
  writeRecord,
} from "./transmitter-context.ts";

export type PollAnswer = Readonly<{ sets: Readonly<Record<string, string>>; moreAvailable: boolean }>;

export const setsMax = 100;
const waitMsMax = 30_000;
const lookMs = 1_000;
/** Requests of one receiver that may wait; a further one is answered at once. */
const waitingMax = 4;
const attemptsMax = 8;
/** Pages of the log read for one request. */
const pagesMax = 40;

export class PollServer {
  readonly #deps: TransmitterDeps;
  /** By receiver. */
  readonly #windows = new Map<string, PendingSignals>();
  readonly #waiting = new Map<string, number>();

  constructor(deps: TransmitterDeps) {
    this.#deps = deps;
  }

  /** @param gone aborts when the receiver has closed the connection @throws SignalRequestError */
  async poll(
    caller: ReceiverCaller,
    { streamId, body, gone }: Readonly<{ streamId: string; body: unknown; gone: AbortSignal }>,
  ): Promise<PollAnswer> {
    requireScope(caller, "ssf.manage");
    const request = parsePollRequest(body);
    if (request === undefined) throw badRequest("the body is not a poll request, or names more than 1000 tokens");
    const { receiver } = caller;
    const { replica, turns } = this.#deps;
    const endsAt = this.#deps.clock.monotonic() + waitMsMax;
    let rest: PollRequest = request;
    for (;;) {
      const seen = replica.applied.position;
      const asked = rest;
      const answer = await turns.run(receiver.name, () => this.#answer(receiver, streamId, asked));
      const isEnough = Object.keys(answer.sets).length > 0 || request.returnImmediately || request.maxEvents === 0;
      if (isEnough || gone.aborted || this.#deps.clock.monotonic() >= endsAt) return answer;
      if (!(await this.#wait(receiver.name, { seen, gone, endsAt }))) return answer;
      rest = { ...request, ack: [], setErrs: {} };
    }
  }

  async #answer(receiver: SignalReceiverConfig, streamId: string, request: PollRequest): Promise<PollAnswer> {
    for (let attempts = 0; attempts < attemptsMax; attempts++) {
      const stored = await readRecord(this.#deps, receiver);
      const stream = streamIn(stored.record, streamId);
      if (stream.delivery.method !== pollMethod) throw badRequest("the stream delivers by push");
      const window = this.#windowFor(receiver, stored.record, stream);
      const isAtHead = stream.status === "enabled" ? await this.#scan(window) : true;
      const next = await this.#acknowledge(receiver, { stored, stream, window, request });
      if (next === null) continue;
      return this.#give(receiver, { stream: next, salt: stored.record.salt, window, request, isAtHead });
    }
    throw unavailable("the stream changes too often; try again");
  }

  #windowFor(receiver: SignalReceiverConfig, record: StreamRecord, stream: SignalStream): PendingSignals {
    const filter = filterOf(receiver, record, stream);
    const known = this.#windows.get(receiver.name);
    if (known !== undefined && isSameFilter(known.filter, filter) && known.follows(stream.cursor)) {
      known.skipTo(stream);
      return known;
    }
    const window = new PendingSignals(filter, stream);
    this.#windows.set(receiver.name, window);
    return window;
  }

  /** @returns false: there is more to read @throws SignalRequestError */
  async #scan(window: PendingSignals): Promise<boolean> {
    const source = sourceOf(this.#deps);
    if (window.scanned >= source.applied()) return true;
    for (let pages = 0; pages < pagesMax; pages++) {
      const outcome = await window.scan(source, null);
      if (outcome === "head") return true;
      if (outcome === "full") return false;
      // The leader declares the gap within moments, and the stream continues after it.
      if (outcome !== "more" && outcome !== "changed")
        throw unavailable("the stream has a gap that is being recorded; try again");
    }
    return false;
  }

  /** Records what the receiver has accepted or refused. @returns the stream then; null: another process was faster */
  async #acknowledge(
    receiver: SignalReceiverConfig,
    of: Readonly<{ stored: StoredRecord; stream: SignalStream; window: PendingSignals; request: PollRequest }>,
  ): Promise<SignalStream | null> {
    const { stored, stream, window, request } = of;
    const now = this.#deps.clock.wall();
    let next = withActivity(stream, receiver, now);
    const positions = new Map(window.pending.map(({ jti, recorded }) => [jti, recorded.position]));
    const controls = new Set(stream.controls.map(({ seq }) => controlJti(stream.streamId, seq)));
    const isOurs = (jti: string): boolean => positions.has(jti) || controls.has(jti);
    const refused = Object.entries(request.setErrs).filter(([jti]) => isOurs(jti));
    const accepted = new Set(request.ack.filter((jti) => isOurs(jti) && !Object.hasOwn(request.setErrs, jti)));
    if (accepted.size > 0)
      next = { ...next, delivered: next.delivered + accepted.size, deliveredAt: now, failure: null };
    for (const [jti, { err, description }] of refused) {
      const text = description.slice(0, 200).replace(/[^\x20-\x7e]/g, "?");
      next = withDeadLetter(next, { jti, position: positions.get(jti) ?? 0, at: now, err, description: text });
      next = { ...next, failure: { at: now, reason: `the receiver refuses tokens with ${err}` } };
    }
    if (next === stream) return stream;
    const concluded = new Set([...accepted, ...refused.map(([jti]) => jti)]);
    for (const jti of concluded) window.markDone(jti);
    const left = next.controls.filter(({ seq }) => !concluded.has(controlJti(stream.streamId, seq)));
    next = { ...next, controls: left, cursor: window.cursor, done: window.done };
    const record = { ...stored.record, stream: next };
    const actor = `service:signals/${receiver.name}`;
    try {
      if (await writeRecord(this.#deps, receiver, { ...stored, record, actor })) return next;
    } catch (error) {
      this.#windows.delete(receiver.name); // it has what the record may lack
      throw error;
    }
    this.#windows.delete(receiver.name);
    return null;
  }

  async #give(
    receiver: SignalReceiverConfig,
    of: Readonly<{
      stream: SignalStream;
      salt: string;
      window: PendingSignals;
      request: PollRequest;
      isAtHead: boolean;
    }>,
  ): Promise<PollAnswer> {
    const { stream, salt, window, request, isAtHead } = of;
    const { streamId } = stream;
    const limit = Math.min(setsMax, request.maxEvents ?? setsMax);
    const isEnabled = stream.status === "enabled";
    const controls = stream.controls.filter(({ name }) => isEnabled || name === "stream-updated");
    const pending = isEnabled ? window.pending : [];
    const signer = await this.#deps.signer;
    const { issuer, replica } = this.#deps;
    const given = pending.slice(0, Math.max(0, limit - controls.length));
    const people = new Set(given.map(({ signal }) => signal.userId).filter((userId) => userId !== null));
    const identities = await sourceOf(this.#deps).identities([...people]);
    const token: TokenContext = {
      issuer,
      receiver,
      salt,
      projection: replica.projection,
      identityOf: (userId) => identities.get(userId),
      now: this.#deps.clock.wall(),
    };
    const about = { streamId, issuer, audience: receiver.audience };
    const claims = [
      ...controls.slice(0, limit).map((control) => controlClaims(control, about)),
      ...given.map((each) => signalClaims(each, token)),
    ];
    const sets = await signEach(signer, claims);
    const moreAvailable = controls.length + pending.length > claims.length || (isEnabled && !isAtHead);
    return { sets, moreAvailable };
  }

  /** Waits for a change. @returns false: too many wait already */
  async #wait(
    name: string,
    { seen, gone, endsAt }: Readonly<{ seen: number; gone: AbortSignal; endsAt: number }>,
  ): Promise<boolean> {
    const waiting = this.#waiting.get(name) ?? 0;
    if (waiting >= waitingMax) return false;
    this.#waiting.set(name, waiting + 1);
    const { replica, clock } = this.#deps;
    try {
      while (replica.applied.position === seen && !gone.aborted && clock.monotonic() < endsAt)
        await this.#change(gone, Math.max(1, Math.min(lookMs, endsAt - clock.monotonic())));
      return true;
    } finally {
      this.#waiting.set(name, (this.#waiting.get(name) ?? 1) - 1);
    }
  }

  /** Settles when the node has folded something, when the receiver is gone, or after some time. */
  async #change(gone: AbortSignal, ms: number): Promise<void> {
    const { replica, sleep } = this.#deps;
    const changed = Promise.withResolvers<void>();
    const stop = (): void => changed.resolve();
    const off = replica.onChange(stop);
    gone.addEventListener("abort", stop, { once: true });
    await Promise.race([changed.promise, sleep(ms)]);
    gone.removeEventListener("abort", stop);
    off();
  }
}

async function signEach(
  signer: EventSigner,
  claims: readonly Readonly<Record<string, unknown>>[],
): Promise<Readonly<Record<string, string>>> {
  const signed = await Promise.all(claims.map(async (each) => [String(each["jti"]), await signer.sign(each)] as const));
  return Object.fromEntries(signed);
}
