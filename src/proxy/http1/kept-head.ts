/**
 * Kept head: the bytes of a request to an upstream that is sent again and again, with another id each time.
 *
 * As text, a head is put together, made one piece and copied at each writing; as bytes only its id is written anew.
 */
import type { HeaderText } from "../message/header-lines.ts";
import type { UpstreamRequest } from "../message/upstream-call.ts";

/** Of a request without a body. */
type FirstLine = Readonly<{ method: string; path: string }>;

export class KeptHead {
  readonly #method: string;
  readonly #path: string;
  #bytes: Buffer | undefined;
  #idAt = 0;
  #idChars = 0;

  constructor({ method, path }: FirstLine) {
    this.#method = method;
    this.#path = path;
  }

  isOf({ method, path }: FirstLine): boolean {
    return this.#path === path && this.#method === method;
  }

  /**
   * @param lines always the same ones
   * @returns what is good until the next call
   */
  bytes(lines: HeaderText, requestId: string): Buffer {
    if (this.#bytes === undefined || requestId.length !== this.#idChars) {
      const text = headText({ method: this.#method, path: this.#path, requestId }, lines, "");
      this.#bytes = Buffer.allocUnsafeSlow(text.length);
      this.#bytes.write(text, "latin1");
      this.#idChars = requestId.length;
      this.#idAt = text.length - 4 - requestId.length;
    } else {
      const at = this.#idAt;
      for (let i = 0; i < requestId.length; i++) this.#bytes[at + i] = requestId.charCodeAt(i);
    }
    return this.#bytes;
  }
}

/** @param framing lines of how the body is framed */
export function headText(
  { method, path, requestId }: Pick<UpstreamRequest, "method" | "path" | "requestId">,
  lines: HeaderText,
  framing: string,
): string {
  const id = requestId === null ? "" : `x-request-id: ${requestId}\r\n`;
  return `${method} ${path} HTTP/1.1\r\n${lines.text}${framing}${id}\r\n`;
}
