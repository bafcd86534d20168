/**
 * Stream duty: the leader's work for one receiver. It pushes tokens, moves the cursor, declares gaps, and pauses a
 * stream whose receiver is silent. The shell of push-delivery.ts and pending-signals.ts.
 *
 * - The record in the vault is the truth. Another process may change it at any time; a write of an older version is
 *   refused, and this process then reads the record again and adds its own progress.
 * - Progress is written about once a second. What a crash loses of it is delivered again, with the same identity.
 */
import type { SignalReceiverConfig } from "../../../config/index.ts";
import type {
  CommandId,
  CommandRequest,
  CommandResult,
  Link,
  Projection,
  StoredSignalStream,
  UnixMs,
  UserId,
} from "../../../events/index.ts";
import { signalStream } from "../../../events/index.ts";
import type { PageOutcome } from "../../../replication/index.ts";
import { pushMethod } from "../../shared-signals/index.ts";
import { controlClaims, signalClaims } from "./event-claims.ts";
import { Identities } from "./identities.ts";
import { type Identity, PendingSignals, type SignalSource } from "./pending-signals.ts";
import type { PushClient } from "./push-client.ts";
import { newPush, type PushAnswer, type PushState, stepPush, type Waiting } from "./push-delivery.ts";
import type { RestoredPeople } from "./restored-people.ts";
import type { EventSigner } from "./signing-key.ts";
import { filterOf, isSameFilter } from "./stream-filter.ts";
import {
  addControl,
  type ControlEvent,
  controlJti,
  deadLettersMax,
  formatRecord,
  parseRecord,
  type SignalStream,
  type StreamRecord,
  windowMax,
  withProgress,
  withStatus,
} from "./stream-record.ts";
import { countDelivery, type TransmitMemory } from "./transmit-memory.ts";

export type TransmitContext = Readonly<{
  submit: (request: CommandRequest) => Promise<CommandResult>;
  leads: () => boolean;
  signal: AbortSignal;
  projection: Projection;
  clock: Readonly<{ monotonic: () => number; wall: () => UnixMs }>;
  profiles: (users: readonly UserId[]) => Promise<ReadonlyMap<UserId, Identity>>;
  read: (after: Link, limit: number) => Promise<PageOutcome>;
  logBase: () => Promise<Link>;
  storedSignalStream: (receiver: string) => Promise<StoredSignalStream | undefined>;
}>;

export type StreamDutyDeps = Readonly<{
  issuer: string;
  signer: EventSigner;
  post: PushClient;
  memory: TransmitMemory;
  restored: RestoredPeople;
  uuid: () => string;
  log: Readonly<{
    info(fields: object, message: string): void;
    warn(fields: object, message: string): void;
    error(fields: object, message: string): void;
  }>;
}>;

const saveEveryMs = 1_000;
const reloadEveryMs = 1_000;
/** Pages of the log read in one turn. */
const pagesMax = 20;
/** A cursor that has moved over events without signals is written after so many positions. */
const quietPositions = 10_000;
/** A verification that the receiver does not accept is dropped after this time. */
const verificationMsMax = 3_600_000;

export class StreamDuty {
  readonly #deps: StreamDutyDeps;
  readonly #receiver: SignalReceiverConfig;
  readonly #context: TransmitContext;
  #version = 0;
  #record: StreamRecord | null = null;
  #window: PendingSignals | null = null;
  readonly #identities: Identities;
  #push: PushState = newPush;
  #isDirty = false;
  #savedAt = Number.NEGATIVE_INFINITY;
  #savedPosition = 0;
  #loadedAt = Number.NEGATIVE_INFINITY;
  #loadedHead = -1;
  #mustLoad = true;
  /** Called when there may be something to do. */
  #wake: () => void = () => undefined;

  constructor(deps: StreamDutyDeps, receiver: SignalReceiverConfig, context: TransmitContext) {
    this.#deps = deps;
    this.#receiver = receiver;
    this.#context = context;
    this.#identities = new Identities(context.projection, { keepsClaims: receiver.claims.length > 0 });
  }

  /** Calls back when an answer has come. */
  onAnswer(wake: () => void): void {
    this.#wake = wake;
  }

  get isBusy(): boolean {
    return this.#push.inFlight.size > 0;
  }

  /** One look at everything. Call it at least a few times a second. */
  async turn(): Promise<void> {
    await this.#load();
    const stream = this.#record?.stream ?? null;
    if (stream !== null) {
      await this.#keepUp(stream);
      if (this.#record?.stream?.status === "enabled") await this.#scan();
      await this.#prepareIdentities();
      if (this.#record?.stream?.delivery.method === pushMethod && !this.#mustLoad) this.#schedule();
      await this.#save();
    }
    this.#report();
  }

  /** Writes what is not written yet. */
  async finish(): Promise<void> {
    if (this.#isDirty && this.#context.leads()) await this.#write();
  }

  // --- the record

  async #load(): Promise<void> {
    const { clock, projection } = this.#context;
    const head = projection.applied.position;
    const now = clock.monotonic();
    const isDue = now - this.#loadedAt >= reloadEveryMs && head !== this.#loadedHead;
    if (!this.#mustLoad && !isDue) return;
    const stored = await this.#context.storedSignalStream(this.#receiver.name);
    this.#mustLoad = false;
    this.#loadedAt = now;
    this.#loadedHead = head;
    if (stored === undefined) {
      this.#forget();
      return;
    }
    if (stored.version === this.#version) return;
    this.#version = stored.version;
    const newer = parseRecord(stored.record);
    this.#adopt(newer);
    if (stored.outdated) this.#isDirty = true; // it is written again, under the current secret
  }

  #forget(): void {
    this.#record = null;
    this.#window = null;
    this.#version = 0;
    this.#isDirty = false;
  }

  #adopt(newer: StreamRecord): void {
    const own = this.#record?.stream ?? null;
    const { stream } = newer;
    if (stream === null) {
      this.#record = newer;
      this.#window = null;
      this.#isDirty = false;
      return;
    }
    const isSame = own !== null && own.streamId === stream.streamId;
    if (!isSame) this.#push = { ...newPush, inFlight: this.#push.inFlight };
    const joined = isSame && this.#isDirty ? withProgress(stream, this.#progressOf(own)) : stream;
    this.#record = { ...newer, stream: joined };
    const filter = filterOf(this.#receiver, this.#record, joined);
    const keeps = this.#window !== null && isSameFilter(this.#window.filter, filter);
    if (keeps && this.#window?.follows(joined.cursor)) this.#window.skipTo(joined);
    else this.#window = new PendingSignals(filter, joined);
  }

  #progressOf(stream: SignalStream): SignalStream {
    const window = this.#window;
    return window === null ? stream : { ...stream, cursor: window.cursor, done: window.done };
  }

  #change(change: (stream: SignalStream) => SignalStream): void {
    const record = this.#record;
    if (record === null || record.stream === null) return;
    this.#record = { ...record, stream: change(record.stream) };
    this.#isDirty = true;
  }

  async #save(): Promise<void> {
    const stream = this.#record?.stream ?? null;
    if (stream === null) return;
    const position = this.#window?.cursor.after.position ?? 0;
    if (!this.#isDirty && position - this.#savedPosition < quietPositions) return;
    if (this.#context.clock.monotonic() - this.#savedAt < saveEveryMs) return;
    await this.#write();
  }

  async #write(): Promise<void> {
    this.#isDirty = false;
    if (!(await this.#submit((stream) => stream))) this.#isDirty = true;
  }

  /** A change that cannot be joined with that of another process: it holds only once it is written. */
  async #decide(change: (stream: SignalStream) => SignalStream): Promise<boolean> {
    if (!(await this.#submit(change))) return false;
    const record = this.#record;
    // Answers that came meanwhile are part of the present state.
    if (record !== null && record.stream !== null) this.#record = { ...record, stream: change(record.stream) };
    return true;
  }

  /** @returns false: another process has written the record, or the outcome is unknown; it is read again */
  async #submit(change: (stream: SignalStream) => SignalStream): Promise<boolean> {
    const record = this.#record;
    if (record === null || record.stream === null) return false;
    const stream = change(this.#progressOf(record.stream));
    this.#savedAt = this.#context.clock.monotonic();
    const result = await this.#context.submit({
      commandId: this.#deps.uuid() as CommandId,
      actor: "service:signals",
      command: {
        type: "writeSignalStream",
        receiver: this.#receiver.name,
        expected: this.#version,
        record: formatRecord({ ...record, stream }),
        streamId: stream.streamId,
        status: stream.status,
        delivered: stream.cursor.after.position,
      },
    });
    if (result.type === "done") {
      this.#version += 1;
      this.#savedPosition = stream.cursor.after.position;
      return true;
    }
    this.#mustLoad = true;
    return false;
  }

  // --- time

  async #keepUp(stream: SignalStream): Promise<void> {
    const now = this.#context.clock.wall();
    const { inactivityMs } = this.#receiver;
    const isExpired = ({ name, at }: ControlEvent): boolean => name === "verification" && now - at > verificationMsMax;
    if (stream.controls.some(isExpired))
      this.#change((one) => ({ ...one, controls: one.controls.filter((each) => !isExpired(each)) }));
    if (inactivityMs === null || stream.status !== "enabled" || now - stream.activeAt <= inactivityMs) return;
    const reason = "The receiver was inactive for longer than inactivity_timeout.";
    this.#deps.log.warn({ receiver: this.#receiver.name }, "a receiver of signals is inactive; its stream is paused");
    await this.#decide((one) => withStatus(one, { status: "paused", reason, at: now, by: "transmitter" }));
  }

  // --- reading

  async #scan(): Promise<void> {
    const window = this.#window;
    if (window === null) return;
    const source = this.#source();
    if (window.scanned >= source.applied()) return;
    for (let pages = 0; pages < pagesMax && !this.#context.signal.aborted; pages++) {
      const known = { stream: signalStream(this.#receiver.name), version: this.#version };
      const outcome = await window.scan(source, known);
      if (outcome === "changed") {
        this.#mustLoad = true; // before anything that follows is sent
        return;
      }
      if (outcome === "truncated" || outcome === "forked") return this.#declareGap(outcome);
      if (outcome !== "more") return;
    }
  }

  #source(): SignalSource {
    const { projection, read, profiles } = this.#context;
    return {
      read,
      applied: () => projection.applied.position,
      identities: profiles,
      stillBarred: (users, identities) => this.#deps.restored.stillBarred(users, identities),
      userOf: (sessionId) => projection.session(sessionId)?.userId ?? null,
    };
  }

  /** Retention has dropped events that the stream needed: the receiver and the operators are told. */
  async #declareGap(why: "truncated" | "forked"): Promise<void> {
    const at = why === "truncated" ? await this.#context.logBase() : this.#context.projection.applied;
    const reason =
      "Signals were dropped because they waited longer than the log is kept. Compare your accounts and sessions with the identity provider.";
    const fields = {
      receiver: this.#receiver.name,
      after: this.#window?.cursor.after.position,
      resumesAfter: at.position,
    };
    const now = this.#context.clock.wall();
    const isWritten = await this.#decide((one) => {
      const moved = { ...one, cursor: { after: at, index: 0 }, done: [], gaps: one.gaps + 1, gapAt: now };
      return addControl(moved, { at: now, name: "stream-updated", payload: { status: one.status, reason } });
    });
    const record = this.#record;
    if (!isWritten || record === null || record.stream === null) return;
    this.#deps.log.error(fields, "a stream of signals has a gap: the log no longer has what its receiver had to get");
    this.#window = new PendingSignals(filterOf(this.#receiver, record, record.stream), record.stream);
  }

  // --- push

  /** Also where nothing is sent now: the names of erased people go. */
  async #prepareIdentities(): Promise<void> {
    const stream = this.#record?.stream ?? null;
    const sends = stream?.delivery.method === pushMethod && stream.status === "enabled";
    const pending = sends && this.#window !== null ? this.#window.pending : [];
    const people = pending.map(({ signal }) => signal.userId);
    await this.#identities.prepare(people, this.#context.profiles);
  }

  #schedule(): void {
    const stream = this.#record?.stream ?? null;
    if (stream === null) return;
    const controls = stream.controls.filter(({ name }) => stream.status === "enabled" || name === "stream-updated");
    const waiting: Waiting[] = controls.map(({ seq }) => ({ jti: controlJti(stream.streamId, seq), key: "stream" }));
    if (stream.status === "enabled" && this.#window !== null) waiting.push(...this.#window.pending);
    const now = this.#context.clock.monotonic();
    const [next, effects] = stepPush(this.#push, { type: "schedule", now, waiting });
    this.#push = next;
    for (const effect of effects) if (effect.type === "post") void this.#post(stream, effect.jti);
  }

  async #post({ streamId, delivery }: SignalStream, jti: string): Promise<void> {
    let answer: PushAnswer;
    try {
      const userId = this.#window?.find(jti)?.signal.userId ?? null;
      if (userId !== null) await this.#identities.ensure(userId, this.#context.profiles);
      const claims = this.#claimsOf(jti);
      if (delivery.method !== pushMethod || claims === undefined || !this.#context.leads())
        answer = { type: "failed", reason: "the token is no longer to be sent", retryAfterMs: null };
      else {
        const token = await this.#deps.signer.sign(claims);
        const { endpoint_url: url, authorization_header: authorization } = delivery;
        answer = await this.#deps.post({ url, authorization, allowed: this.#receiver.pushUrls }, token);
      }
    } catch (error) {
      this.#deps.log.error({ err: error, receiver: this.#receiver.name }, "a signal could not be made");
      answer = { type: "failed", reason: "the token could not be made", retryAfterMs: null };
    }
    this.#answered(streamId, jti, answer);
    this.#wake();
  }

  #claimsOf(jti: string): Readonly<Record<string, unknown>> | undefined {
    const record = this.#record;
    if (record === null || record.stream === null) return undefined;
    const { streamId } = record.stream;
    const { issuer } = this.#deps;
    const control = this.#controlOf(record.stream, jti);
    if (control !== undefined) return controlClaims(control, { streamId, issuer, audience: this.#receiver.audience });
    const pending = this.#window?.find(jti);
    const { projection, clock } = this.#context;
    const identityOf = (userId: UserId): Identity | undefined => this.#identities.identityOf(userId);
    const context = { issuer, receiver: this.#receiver, salt: record.salt, projection, identityOf, now: clock.wall() };
    return pending && signalClaims(pending, context);
  }

  #controlOf({ streamId, controls }: SignalStream, jti: string): ControlEvent | undefined {
    return controls.find(({ seq }) => controlJti(streamId, seq) === jti);
  }

  #answered(streamId: string, jti: string, answer: PushAnswer): void {
    const [next, effects] = stepPush(this.#push, {
      type: "answered",
      now: this.#context.clock.monotonic(),
      jti,
      answer,
    });
    this.#push = next;
    const stream = this.#record?.stream ?? null;
    if (stream === null || stream.streamId !== streamId) return; // it was deleted or created again meanwhile
    const now = this.#context.clock.wall();
    const { name } = this.#receiver;
    for (const effect of effects) {
      switch (effect.type) {
        case "accepted":
          countDelivery(this.#deps.memory, name, "delivered");
          this.#conclude(jti, (one) => ({ ...one, delivered: one.delivered + 1, deliveredAt: now, failure: null }));
          break;
        case "deadLetter": {
          const { err, description } = effect;
          countDelivery(this.#deps.memory, name, "dead-letter");
          this.#deps.log.error({ receiver: name, jti, err }, "a receiver refused a signal; it is not sent again");
          const letter = { jti, position: this.#window?.find(jti)?.recorded.position ?? 0, at: now, err, description };
          this.#conclude(jti, (one) => withDeadLetter(one, letter));
          break;
        }
        case "failed":
          countDelivery(this.#deps.memory, name, "failed");
          this.#noteFailure(stream, effect.reason, now);
          break;
        case "post":
          break;
      }
    }
  }

  #conclude(jti: string, change: (stream: SignalStream) => SignalStream): void {
    this.#change((one) => {
      const controls = one.controls.filter(({ seq }) => controlJti(one.streamId, seq) !== jti);
      return change({ ...one, controls });
    });
    this.#window?.markDone(jti);
  }

  /** Written when the reason is new, not once per attempt. */
  #noteFailure(stream: SignalStream, reason: string, now: UnixMs): void {
    if (stream.failure?.reason === reason) return;
    this.#deps.log.warn({ receiver: this.#receiver.name, reason }, "could not deliver a signal; it is sent again");
    this.#change((one) => ({ ...one, failure: { at: now, reason } }));
  }

  // --- what operators see

  #report(): void {
    const { memory } = this.#deps;
    const { name } = this.#receiver;
    const stream = this.#record?.stream ?? null;
    if (stream === null) {
      const none = {
        pending: 0,
        oldestAt: null,
        behind: 0,
        gapAt: 0 as UnixMs,
        failing: false,
        neededAfter: null,
        heldSince: null,
      };
      memory.reports.set(name, { status: "none", method: "none", ...none });
      return;
    }
    const window = this.#window;
    const cursor = window?.cursor ?? stream.cursor;
    const [first] = window?.pending ?? [];
    const oldestAt = first?.recorded.recordedAt ?? null;
    const holds = stream.status !== "disabled";
    memory.reports.set(name, {
      status: stream.status,
      method: stream.delivery.method === pushMethod ? "push" : "poll",
      pending: Math.min(windowMax, window?.pending.length ?? 0),
      oldestAt,
      behind: Math.max(0, this.#context.projection.applied.position - cursor.after.position),
      gapAt: stream.gapAt,
      failing: stream.failure !== null,
      neededAfter: holds ? cursor.after.position : null,
      heldSince: stream.status === "paused" ? stream.statusAt : oldestAt,
    });
  }
}

export function withDeadLetter(stream: SignalStream, letter: SignalStream["deadLetters"][number]): SignalStream {
  return {
    ...stream,
    refused: stream.refused + 1,
    deadLetters: [...stream.deadLetters, letter].slice(-deadLettersMax),
  };
}
