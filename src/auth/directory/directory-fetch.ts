/**
 * Directory fetch: the HTTP client of all directory sources.
 *
 * - Time: each request, body included, ends after `timeoutMs`, or when the caller's signal aborts.
 * - Size and depth: a body beyond `bytesMax`, or JSON nested deeper than 32 levels, is refused before it is parsed.
 * - Redirects are followed to the same origin alone, and only for GET: credentials never reach another host.
 * - No proxy of the environment is used, and nothing is sent again. 429, and 503 with `Retry-After`, are `limited`.
 */
import type { Agent, fetch as undiciFetch } from "undici";
import { isNestedDeeperThan } from "../authenticate/provider/issuer-fetch.ts";
import { DirectoryError } from "./directory-error.ts";

type Fetch = typeof undiciFetch;

export type DirectoryRequest = Readonly<{
  url: URL;
  /** Default: GET. */
  method?: "GET" | "POST";
  headers?: Readonly<Record<string, string>>;
  body?: string;
  signal: AbortSignal;
  /** Statuses besides 2xx that are answers to the source, such as 304 or 410. All others throw. */
  accept?: readonly number[];
}>;

export type DirectoryAnswer = Readonly<{
  status: number;
  headers: Readonly<{ get(name: string): string | null }>;
  body: Uint8Array;
  /** @throws DirectoryError `malformed` */
  json(): unknown;
}>;

/**
 * Recognizes a provider's own way to say "too many requests". @returns how long to wait, null if it does not say,
 * undefined for an answer that is not about a limit
 */
export type LimitOf = (
  answer: Readonly<{ status: number; headers: DirectoryAnswer["headers"] }>,
  now: number,
) => number | null | undefined;

export type DirectoryHttp = Readonly<{
  /** @throws DirectoryError */
  request(request: DirectoryRequest): Promise<DirectoryAnswer>;
}>;

export const answerBytesMaxDefault = 16 * 1024 * 1024;
const depthMax = 32;
const redirectsMax = 3;
const retryAfterMsMax = 3_600_000;

export function createDirectoryHttp(
  options: Readonly<{
    /** Of `createLocalFetch`, or undici's own with `dispatcher`. */
    fetch: Fetch;
    dispatcher?: Agent;
    timeoutMs: number;
    bytesMax?: number;
    /** The wall clock, for `Retry-After` with a date. */
    now: () => number;
    limitOf?: LimitOf;
  }>,
): DirectoryHttp {
  const bytesMax = options.bytesMax ?? answerBytesMaxDefault;

  async function send(request: DirectoryRequest): Promise<DirectoryAnswer> {
    const signal = AbortSignal.any([request.signal, AbortSignal.timeout(options.timeoutMs)]);
    let { url } = request;
    for (let redirects = 0; ; redirects++) {
      const response = await options.fetch(url, {
        method: request.method ?? "GET",
        headers: { accept: "application/json", ...request.headers },
        ...(request.body === undefined ? {} : { body: request.body }),
        ...(options.dispatcher === undefined ? {} : { dispatcher: options.dispatcher }),
        redirect: "manual",
        signal,
      });
      const { status, headers } = response;
      const location = headers.get("location");
      if (![301, 302, 303, 307, 308].includes(status) || location === null)
        return answerOf({ status, headers, body: await readBody(response, { bytesMax, host: url.host }) }, url);
      await response.body?.cancel();
      const target = URL.canParse(location, url) ? new URL(location, url) : null;
      if (target?.origin !== url.origin || request.body !== undefined || redirects >= redirectsMax)
        throw new DirectoryError(`${url.host} redirects to another host, or too often; not followed`, {
          kind: "malformed",
        });
      url = target;
    }
  }

  return {
    async request(request) {
      const { host } = request.url;
      let answer: DirectoryAnswer;
      try {
        answer = await send(request);
      } catch (error) {
        if (error instanceof DirectoryError) throw error;
        throw new DirectoryError(`${host} did not answer, or its answer was cut`, {
          kind: "unreachable",
          cause: error,
        });
      }
      const { status } = answer;
      const waitMs = (options.limitOf ?? (() => undefined))(answer, options.now()) ?? limitIn(answer, options.now());
      if (waitMs !== undefined) throw limited(host, waitMs);
      if ((status >= 200 && status < 300) || request.accept?.includes(status) === true) return answer;
      throw refusalOf(host, status);
    },
  };
}

function limited(host: string, waitMs: number | null): DirectoryError {
  const message = `${host} accepts no more requests for now`;
  if (waitMs === null || !Number.isFinite(waitMs)) return new DirectoryError(message, { kind: "limited" });
  return new DirectoryError(message, { kind: "limited", retryAfterMs: Math.min(retryAfterMsMax, Math.max(0, waitMs)) });
}

/** RFC 9110 §10.2.3: seconds, or a date. */
function limitIn({ status, headers }: DirectoryAnswer, now: number): number | null | undefined {
  const text = headers.get("retry-after");
  if (status !== 429 && (status !== 503 || text === null)) return undefined;
  if (text === null) return null;
  const seconds = /^\d{1,9}$/.test(text.trim()) ? Number(text) * 1_000 : Date.parse(text) - now;
  return Number.isNaN(seconds) ? null : seconds;
}

function refusalOf(host: string, status: number): DirectoryError {
  if (status === 401) return new DirectoryError(`${host} refuses the credentials (401)`, { kind: "unauthorized" });
  if (status === 403)
    return new DirectoryError(`${host} says that a permission is missing (403)`, { kind: "forbidden" });
  if (status >= 500) return new DirectoryError(`${host} answers with an error (${status})`, { kind: "unreachable" });
  return new DirectoryError(`${host} answers with the status ${status}`, { kind: "malformed" });
}

function answerOf(
  { status, headers, body }: Readonly<{ status: number; headers: DirectoryAnswer["headers"]; body: Uint8Array }>,
  { host }: URL,
): DirectoryAnswer {
  return {
    status,
    headers,
    body,
    json() {
      if (isNestedDeeperThan(body, depthMax))
        throw new DirectoryError(`the answer of ${host} is nested deeper than ${depthMax} levels`, {
          kind: "malformed",
        });
      const parsed = parseJson(body);
      if (parsed === undefined)
        throw new DirectoryError(`the answer of ${host} is not JSON, or was cut (${body.length} bytes)`, {
          kind: "malformed",
        });
      return parsed.value;
    },
  };
}

async function readBody(
  response: Awaited<ReturnType<Fetch>>,
  { bytesMax, host }: Readonly<{ bytesMax: number; host: string }>,
): Promise<Uint8Array> {
  if (response.body === null) return new Uint8Array();
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
    bytes += chunk.byteLength;
    if (bytes > bytesMax)
      throw new DirectoryError(`the answer of ${host} is larger than ${bytesMax} bytes`, { kind: "malformed" });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Undefined: it is not JSON. The parser's own message would quote the text, which has people's names. */
function parseJson(bytes: Uint8Array): Readonly<{ value: unknown }> | undefined {
  try {
    return { value: JSON.parse(Buffer.from(bytes).toString("utf8")) };
  } catch {
    return undefined;
  }
}
