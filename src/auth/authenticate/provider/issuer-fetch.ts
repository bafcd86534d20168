/**
 * Issuer fetch: reads responses of identity providers and token issuers within bounds, before any parser sees them.
 *
 * - Size: reading stops once a body exceeds `answerBytesMax`.
 * - Depth: JSON nested deeper than `answerDepthMax` is not parsed.
 * - Time: the caller's fetch bounds the whole response, body included.
 */
import { CodedError } from "../../../events/index.ts";
import type { LocalFetch } from "./local-fetch.ts";

/** Typical sizes: discovery document 5 KB, key set 20 KB, userinfo with thousands of groups 200 KB. */
export const answerBytesMax = 1024 * 1024;
export const answerDepthMax = 32;

export type IssuerFetch = Pick<LocalFetch, "fetch">;
type Answer = Awaited<ReturnType<LocalFetch["fetch"]>>;

/** An issuer's response exceeded a bound. */
export class IssuerAnswerError extends CodedError<"ERR_AUTH_ISSUER_ANSWER"> {
  override readonly code = "ERR_AUTH_ISSUER_ANSWER";
}

export function issuerFetch(local: IssuerFetch): IssuerFetch {
  return { fetch: async (input, init) => readAnswer(await local.fetch(input, init)) };
}

/** @throws IssuerAnswerError */
export async function readAnswer(answer: Answer): Promise<Answer> {
  const { status, statusText, headers } = answer;
  const body = await readBody(answer);
  if (body !== null && isNestedDeeperThan(body, answerDepthMax))
    throw new IssuerAnswerError(`an issuer's answer is nested deeper than ${answerDepthMax} levels`);
  const copied = new Response(body as Uint8Array<ArrayBuffer> | null, { status, statusText, headers: [...headers] });
  Object.defineProperty(copied, "url", { value: answer.url }); // the constructor leaves it empty
  return copied as unknown as Answer; // Node's own class of the same standard
}

async function readBody({ body, headers, status }: Answer): Promise<Uint8Array | null> {
  const bodiless = status === 204 || status === 205 || status === 304;
  if (body === null || bodiless) return null;
  const tooLarge = (): IssuerAnswerError =>
    new IssuerAnswerError(`an issuer's answer is larger than ${answerBytesMax} bytes`);
  if (Number(headers.get("content-length") ?? 0) > answerBytesMax) {
    await body.cancel();
    throw tooLarge();
  }
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of body as AsyncIterable<Uint8Array>) {
    bytes += chunk.byteLength;
    if (bytes > answerBytesMax) throw tooLarge(); // leaving the loop cancels the body
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

const quote = 0x22;
const backslash = 0x5c;

/** Counts brackets outside of strings. Text that is not JSON may be refused too. */
export function isNestedDeeperThan(text: Uint8Array, depthMax: number): boolean {
  let depth = 0;
  let inString = false;
  for (let at = 0; at < text.length; at++) {
    const byte = text[at];
    if (inString) {
      if (byte === backslash) at++;
      else if (byte === quote) inString = false;
    } else if (byte === quote) inString = true;
    else if (byte === 0x5b || byte === 0x7b) {
      if (++depth > depthMax) return true;
    } else if (byte === 0x5d || byte === 0x7d) depth--;
  }
  return false;
}
