/**
 * Waiting requests: requests of one HTTP/1.1 connection that arrived before the previous one was answered.
 *
 * Pure. Bounded in number and in the characters of their heads. Few programs pipeline, and those send a handful of
 * short requests.
 */
import type { RequestHead } from "../message/canonical-request.ts";

const requestsMax = 16;
const charsMax = 65_536;

type WaitingRequest = Readonly<{ head: Pick<RequestHead, "url" | "rawHeaders"> }>;

export class WaitingRequests<Request extends WaitingRequest> {
  readonly #requests: Request[] = [];
  #chars = 0;

  /** @returns false: a bound is reached, and the connection has to end */
  add(request: Request): boolean {
    const chars = this.#chars + charsOf(request);
    if (this.#requests.length >= requestsMax || chars > charsMax) return false;
    this.#chars = chars;
    this.#requests.push(request);
    return true;
  }

  shift(): Request | undefined {
    const next = this.#requests.shift();
    if (next !== undefined) this.#chars -= charsOf(next);
    return next;
  }

  clear(): void {
    this.#requests.length = 0;
    this.#chars = 0;
  }
}

function charsOf({ head }: WaitingRequest): number {
  let chars = head.url.length;
  for (const text of head.rawHeaders) chars += text.length;
  return chars;
}
