/**
 * Delivery guard: decides which NATS messages reach the envelope openers. Anyone who can connect to NATS can publish.
 *
 * - Checks size, then shape, then repetition, then the tag (delivery-tag.ts), cheapest first. Copies and decodes
 *   nothing.
 * - A message with a genuine tag passes. A message without one (from a publisher of an older version, or a stranger)
 *   passes while the budget of failed verifications lasts. A listener reports each forgery, which is charged by its
 *   size.
 * - A signature passes once. Repetitions, and forgeries that copy a signature, cost one set look-up.
 * - Too many refusals in one second are a flood: the fan-out then stops listening for a while (`isFlood`).
 *
 * NATS is an accelerator: a broker supplies every message dropped here. Pure; times are arguments.
 */
import type { KeyObject } from "node:crypto";
import { readEnvelopeShape, signatureBytes } from "../wire/envelope-shape.ts";
import { checkDeliveryTag } from "./delivery-tag.ts";

/** Upper bound of a message. A batch is split at 256 KiB; a larger single event is read from a broker. */
export const deliveryBytesMax = 512 * 1024;
/** Upper bound of the headers. The client library parses foreign headers, so their size is checked first. */
const headerBytesMax = 2_048;
/** Maximum age of a tag. The age check refuses a repetition of an older message. */
const ageMsMax = 60_000;
/** Number of remembered signatures: a minute of batches at 270 per second. */
const signaturesMax = 16_384;
/**
 * The budget of failed verifications of messages without a tag: 50 a second, or fewer large ones. A unit is one
 * signature, or the hashing of 32 KiB for it, about 100 µs: together half a percent of a core.
 */
const forgeriesPerSecond = 50;
const forgeriesBurst = 100;
const bytesPerUnit = 32 * 1024;
/** More refusals than this are a flood. Each refusal costs a few microseconds, and the bytes have to be read. */
const floodPerSecond = { messages: 10_000, bytes: 32 * 1024 * 1024 };

export const deliveryRefusals = [
  "too-large",
  "not-an-envelope",
  "repeated",
  "outdated",
  "over-budget",
  "forged",
] as const;
export type DeliveryRefusal = (typeof deliveryRefusals)[number];

export type IncomingDelivery = Readonly<{
  /** A view; not kept. */
  data: Uint8Array;
  /** Subject, reply subject and headers. */
  overheadBytes: number;
  /** Called only for a message of acceptable size and shape, because parsing headers costs time. */
  tag: () => string | undefined;
}>;

export type GuardMoment = Readonly<{ monotonicMs: number; wallMs: number }>;

export class DeliveryGuard {
  readonly #keys: readonly KeyObject[];
  readonly #signatures = new Set<string>();
  readonly #refused: Record<DeliveryRefusal, number> = {
    "too-large": 0,
    "not-an-envelope": 0,
    repeated: 0,
    outdated: 0,
    "over-budget": 0,
    forged: 0,
  };
  #budget = forgeriesBurst;
  #budgetAtMs = Number.NEGATIVE_INFINITY;
  /** The second being counted. */
  #second = { startMs: Number.NEGATIVE_INFINITY, messages: 0, bytes: 0 };

  /** @param keys the tag keys: from the shared secret, then from the previous one while it is being replaced */
  constructor(keys: readonly KeyObject[]) {
    this.#keys = keys;
  }

  /** @returns why the message is dropped; undefined when it may be opened */
  refuse(delivery: IncomingDelivery, now: GuardMoment): DeliveryRefusal | undefined {
    const refusal = this.#judge(delivery, now);
    if (refusal !== undefined) this.#count(refusal, delivery.data.length + delivery.overheadBytes, now);
    return refusal;
  }

  /** Reports that a message that passed was not from a member of the cluster. */
  reportForgery(bytes: number, now: GuardMoment): void {
    this.#budget = this.#budgetAt(now) - 1 - bytes / bytesPerUnit;
    this.#count("forged", bytes, now);
  }

  /** True while the second being counted holds more refusals than a process can afford. */
  get isFlood(): boolean {
    return this.#second.messages > floodPerSecond.messages || this.#second.bytes > floodPerSecond.bytes;
  }

  /** Resets the flood state. The caller calls it before it listens again. */
  forgetFlood(): void {
    this.#second = { startMs: Number.NEGATIVE_INFINITY, messages: 0, bytes: 0 };
  }

  get refused(): Readonly<Record<DeliveryRefusal, number>> {
    return { ...this.#refused };
  }

  #judge({ data, overheadBytes, tag }: IncomingDelivery, now: GuardMoment): DeliveryRefusal | undefined {
    if (data.length > deliveryBytesMax || overheadBytes > headerBytesMax) return "too-large";
    if (readEnvelopeShape(data) === undefined) return "not-an-envelope";
    const key = signatureKey(data);
    if (this.#signatures.has(key)) return "repeated";
    const publishedAtMs = checkDeliveryTag(tag(), data, this.#keys);
    if (publishedAtMs === undefined && this.#budgetAt(now) < 1) return "over-budget";
    if (publishedAtMs !== undefined && Math.abs(now.wallMs - publishedAtMs) > ageMsMax) return "outdated";
    this.#remember(key);
    return undefined;
  }

  #remember(signature: string): void {
    this.#signatures.add(signature);
    if (this.#signatures.size <= signaturesMax) return;
    const [oldest] = this.#signatures;
    if (oldest !== undefined) this.#signatures.delete(oldest);
  }

  #budgetAt({ monotonicMs }: GuardMoment): number {
    const elapsedMs = Math.max(0, monotonicMs - this.#budgetAtMs);
    this.#budget = Math.min(forgeriesBurst, this.#budget + (elapsedMs / 1_000) * forgeriesPerSecond);
    this.#budgetAtMs = monotonicMs;
    return this.#budget;
  }

  #count(refusal: DeliveryRefusal, bytes: number, { monotonicMs }: GuardMoment): void {
    this.#refused[refusal] += 1;
    if (monotonicMs - this.#second.startMs >= 1_000) this.#second = { startMs: monotonicMs, messages: 0, bytes: 0 };
    this.#second.messages += 1;
    this.#second.bytes += bytes;
  }
}

function signatureKey(data: Uint8Array): string {
  const at = data.byteOffset + data.length - signatureBytes;
  return Buffer.from(data.buffer, at, signatureBytes).toString("latin1");
}

/**
 * The number of untagged messages that one reading of the replay buffer accepts, from publishers of an older version.
 */
const untaggedPerReplayMax = 200;

/** The same checks for one reading of the replay buffer, where genuine messages are up to a day old. */
export class ReplayFilter {
  readonly #keys: readonly KeyObject[];
  readonly #signatures = new Set<string>();
  #untaggedLeft = untaggedPerReplayMax;

  constructor(keys: readonly KeyObject[]) {
    this.#keys = keys;
  }

  accepts({ data, overheadBytes, tag }: IncomingDelivery): boolean {
    if (data.length > deliveryBytesMax || overheadBytes > headerBytesMax) return false;
    if (readEnvelopeShape(data) === undefined) return false;
    const key = signatureKey(data);
    if (this.#signatures.has(key)) return false;
    this.#signatures.add(key);
    if (checkDeliveryTag(tag(), data, this.#keys) !== undefined) return true;
    this.#untaggedLeft -= 1;
    return this.#untaggedLeft >= 0;
  }
}
