/** Stream connection: one stream of an HTTP/2 connection as the caller's end of a splice. */
import type { CutReason } from "../message/close-codes.ts";
import type { PendingCut } from "../message/deliveries.ts";
import type { BodyReader, UpgradedStream } from "../message/downstream-request.ts";
import { type Abort, guardCallback } from "./error-boundary.ts";
import type { CallerEnd, SpliceEvents } from "./splice-end.ts";

/** From the end of our side to a reset: some clients lose what they have not read when a reset follows at once. */
const lingerMs = 1_000;

export class StreamConnection implements CallerEnd, BodyReader {
  readonly #stream: UpgradedStream;
  readonly #abort: Abort;
  #events: SpliceEvents | undefined;
  #isPaused = false;
  #linger: NodeJS.Timeout | undefined;

  /** @param abort ends the exchange after a throw in one of its events */
  constructor(stream: UpgradedStream, abort: Abort) {
    this.#stream = stream;
    this.#abort = abort;
  }

  begin(events: SpliceEvents): void {
    this.#events = events;
    const stream = this.#stream;
    stream.onDrain(guardCallback(() => events.onDrain(), this.#abort));
    stream.onClose(guardCallback(() => this.#onClose(), this.#abort));
    if (stream.hasBody) stream.readBody(this);
    else events.onEnd();
  }

  #onClose(): void {
    clearTimeout(this.#linger);
    this.#events?.onClose();
  }

  onChunk(bytes: Buffer): boolean {
    try {
      this.#events?.onBytes(bytes);
    } catch (error) {
      this.#abort(error);
    }
    return !this.#isPaused;
  }

  onBodyEnd(): void {
    try {
      this.#events?.onEnd();
    } catch (error) {
      this.#abort(error);
    }
    this.#stream.onTunnelRead();
  }

  /** `onClose` follows. */
  onAbort(): void {}

  get isClosed(): boolean {
    return this.#stream.closed;
  }
  get isEnded(): boolean {
    return this.#stream.ended;
  }
  get hasUnsent(): boolean {
    return this.#stream.hasUnsent;
  }

  write(bytes: Buffer): boolean {
    return this.#stream.write(Buffer.from(bytes)); // it keeps them until its windows let them pass
  }

  end(): void {
    this.#stream.end();
  }

  close(): void {
    this.#stream.end();
    this.#isPaused = false;
    this.#stream.resumeBody();
    this.#linger ??= setTimeout(() => this.#stream.onTunnelOver(), lingerMs).unref();
  }

  destroy(): void {
    if (this.#stream.ended) this.#stream.onTunnelOver();
    else this.#stream.destroy();
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#stream.resumeBody();
  }

  beginCut(): PendingCut | undefined {
    return this.#stream.beginCut();
  }

  abort(reason: CutReason): ReturnType<CallerEnd["abort"]> {
    return this.#stream.cut(reason);
  }
}
