/**
 * Tunnel stream: one HTTP/2 stream as a duplex stream of bytes, after a CONNECT was accepted.
 *
 * Each direction ends by itself. A reset of the stream destroys this without an end, so that no side takes a part for
 * the whole.
 */
import { Duplex } from "node:stream";
import type { BodyReader, UpgradedStream } from "../message/downstream-request.ts";

type Callback = (error?: Error | null) => void;

export class TunnelStream extends Duplex implements BodyReader {
  readonly #stream: UpgradedStream;
  #onDrained: Callback | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(stream: UpgradedStream) {
    super({ allowHalfOpen: true });
    this.#stream = stream;
    stream.onDrain(() => this.#releaseWrite());
    stream.onClose(() => {
      if (!stream.ended) this.destroy();
    });
    if (stream.hasBody) stream.readBody(this);
    else this.push(null);
  }

  /** @param onIdle called when no byte was read or written for so long */
  setTimeout(ms: number, onIdle: () => void = () => {}): this {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(onIdle, ms);
    return this;
  }

  onChunk(chunk: Buffer): boolean {
    this.#timer?.refresh();
    return this.push(chunk);
  }

  onBodyEnd(): void {
    this.push(null);
    this.#stream.onTunnelRead();
  }

  onAbort(): void {
    this.destroy();
  }

  override _read(): void {
    this.#stream.resumeBody();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: Callback): void {
    this.#timer?.refresh();
    if (this.#stream.write(chunk)) callback();
    else this.#onDrained = callback;
  }

  #releaseWrite(): void {
    const callback = this.#onDrained;
    this.#onDrained = undefined;
    this.#timer?.refresh();
    callback?.();
  }

  override _final(callback: Callback): void {
    this.#stream.end();
    callback();
  }

  override _destroy(error: Error | null, callback: Callback): void {
    clearTimeout(this.#timer);
    if (this.#stream.ended) this.#stream.onTunnelOver();
    else this.#stream.destroy();
    callback(error);
  }
}
