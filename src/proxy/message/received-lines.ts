/**
 * Received lines: the header lines of one head as they came, with what was found out about them.
 *
 * Pure. Callers and upstreams mostly send the lines that they sent before on the same connection, first line aside. What follows from
 * the lines alone is then known already; whatever rests on anything else is kept with all that it rests on, and is made anew when that is
 * another. Lines are compared one by one and whole.
 */

import type { ResponseRules } from "../headers/downstream-headers.ts";
import type { SentLines } from "../headers/upstream-headers.ts";
import type { VerifiedHandle } from "../request/identify-caller.ts";
import type { HeaderReading } from "./canonical-request.ts";
import type { HeaderLines } from "./header-lines.ts";

/** What a caller sent. */
export class RequestLines {
  readonly raw: readonly string[];
  /** What they say by themselves; kept by message/canonical-request.ts, and only of lines that nothing is wrong with. */
  reading: HeaderReading | undefined;
  /** What an upstream was told of them last; kept by upstream-headers.ts. */
  sent: SentLines | undefined;
  /** The good handle that they show; kept by request/identify-caller.ts. */
  shown: VerifiedHandle | undefined;
  constructor(raw: readonly string[]) {
    this.raw = raw;
  }
  forgetSent(): void {
    this.sent = undefined;
  }
  static receive(raw: readonly string[]): RequestLines {
    return new RequestLines(raw);
  }
}

const none = {};

/** What an upstream sent. */
export class AnswerLines {
  readonly raw: readonly string[];
  /** What a caller was told of them last, and by which rules; kept by downstream-headers.ts. */
  told: Readonly<{ rules: ResponseRules; lines: HeaderLines }> | undefined;
  /** What they say of their connection; kept by http1/upstream-connection.ts. */
  connection: Readonly<{ idleMs: number | undefined; bodyBytes: number | undefined }> | undefined;
  /** HTTP/2: the head carried END_STREAM, so neither a body nor trailers follow. */
  readonly endsStream: boolean;
  constructor(raw: readonly string[], { endsStream = false }: Readonly<{ endsStream?: boolean }> = none) {
    this.raw = raw;
    this.endsStream = endsStream;
  }
  static receive(raw: readonly string[]): AnswerLines {
    return new AnswerLines(raw);
  }
}

/** Connections wait for their next head in great numbers, and keep no more than this for it. */
const keptCharsMax = 4_096;

/** The lines that came last on a connection. */
export class LastLines<Received extends RequestLines | AnswerLines> {
  readonly #receive: (raw: readonly string[]) => Received;
  #last: Received | undefined;

  constructor(receive: (raw: readonly string[]) => Received) {
    this.#receive = receive;
  }

  /** @returns what is known of them already where they are the same */
  next(raw: readonly string[]): Received {
    const last = this.#last;
    if (last !== undefined && areSame(last.raw, raw)) return last;
    const received = this.#receive(raw);
    this.#last = isKept(raw) ? received : undefined;
    return received;
  }

  forget(): void {
    this.#last = undefined;
  }
}

function isKept(raw: readonly string[]): boolean {
  let chars = 0;
  for (const text of raw) chars += text.length;
  return chars <= keptCharsMax;
}

function areSame(a: readonly string[], b: readonly string[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
