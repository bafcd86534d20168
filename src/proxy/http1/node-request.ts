/** Node request: a request as handlers written for `node:http` expect it, whose body its downstream pushes. */
import { IncomingMessage } from "node:http";
import type { Socket } from "node:net";

export class NodeRequest extends IncomingMessage {
  readonly #resume: () => void;
  constructor(socket: Socket, resume: () => void) {
    super(socket);
    this.#resume = resume;
  }
  takeHeaders(raw: readonly string[]): void {
    // As Node's own parser does: joins and drops lines of one name by Node's rules.
    (this as unknown as { _addHeaderLines(lines: readonly string[], n: number): void })._addHeaderLines(
      raw,
      raw.length,
    );
  }
  override _read(): void {
    this.#resume();
  }
  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    callback(error); // the connection belongs to the downstream and outlives its requests
  }
  finish(): void {
    this.complete = true;
    this.push(null);
  }
}
