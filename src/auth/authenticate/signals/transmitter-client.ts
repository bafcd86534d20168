/**
 * Transmitter client: the metadata and keys of a transmitter of Shared Signals, and authorized requests to it.
 *
 * - Metadata is read at first use and again after an hour. What is known is used for a day while the transmitter is
 *   down (document-cache.ts). Failures are paused after, so that tokens that cannot be verified cause few requests.
 *   Unknown keys are looked for at a bounded rate too (jose).
 * - Answers are read within the bounds of issuer-fetch.ts.
 * - An access token is the configured one, or one of the client credentials grant, kept until a minute before its end.
 */
import * as openid from "openid-client";
import type { SignalTransmitterConfig } from "../../../config/index.ts";
import { CodedError } from "../../../events/index.ts";
import { metadataUrlOf, parseTransmitterMetadata, type TransmitterMetadata } from "../../shared-signals/index.ts";
import { createRemoteKeySet, type RemoteKeySet } from "../credentials/key-set.ts";
import { type CachedDocument, type CacheLimits, createCachedDocument } from "../provider/document-cache.ts";
import { type IssuerFetch, issuerFetch } from "../provider/issuer-fetch.ts";

/** A transmitter did not answer, or not in a form that can be used. */
export class TransmitterError extends CodedError<"ERR_AUTH_TRANSMITTER"> {
  override readonly code = "ERR_AUTH_TRANSMITTER";
  /** Of its answer; null: there was none, or it was not usable. */
  readonly status: number | null;
  constructor(message: string, options: ErrorOptions & Readonly<{ status: number | null }>) {
    super(message, options);
    this.status = options.status;
  }
}

export type TransmitterAnswer = Readonly<{ status: number; body: unknown }>;

export type TransmitterClient = Readonly<{
  /** @throws TransmitterError */
  metadata(): Promise<TransmitterMetadata>;
  /** Members of complex subjects that the transmitter calls critical; empty where the metadata is not used. */
  criticalMembers(): Promise<readonly string[]>;
  /** @throws TransmitterError also for a few seconds after a failure */
  keys(): Promise<RemoteKeySet>;
  /** The keys could not be read. */
  noteKeyFailure(): void;
  /** An authorized request with a JSON body. @throws TransmitterError if there is no answer */
  request(
    method: "GET" | "POST" | "PATCH" | "DELETE",
    url: URL | string,
    options?: Readonly<{ body?: object; timeoutMs?: number; signal?: AbortSignal }>,
  ): Promise<TransmitterAnswer>;
}>;

const metadataLimits: CacheLimits = {
  freshMs: 3_600_000,
  usableMs: 24 * 3_600_000,
  demandedEveryMs: 60_000,
  firstPauseMs: 1_000,
  pauseMsMax: 60_000,
};
/** An access token that is requested is waited for by all callers for at most this long. */
const grantMs = 30_000;
const keyFailureMs = 5_000;
const tokenEarlyMs = 60_000;
const tokenMsMax = 3_600_000;
const timeoutMsDefault = 10_000;
const wellKnown = ["ssf-configuration", "risc-configuration"];

type Cached<T> = Readonly<{ value: Promise<T>; until: number }>;

export type TransmitterClientDeps = Readonly<{ local: IssuerFetch; nowMs: () => number; monotonic: () => number }>;

export function createTransmitterClient(
  config: SignalTransmitterConfig,
  deps: TransmitterClientDeps,
): TransmitterClient {
  return new HttpTransmitterClient(config, deps);
}

type SendOptions = Readonly<{ body?: object; timeoutMs?: number; signal?: AbortSignal }>;

class HttpTransmitterClient implements TransmitterClient {
  readonly #config: SignalTransmitterConfig;
  readonly #nowMs: () => number;
  readonly #bounded: IssuerFetch;
  readonly #metadata: CachedDocument<TransmitterMetadata>;
  #usesMetadata: boolean;
  #keySet: Readonly<{ url: string; keys: RemoteKeySet }> | undefined;
  #keysFailedUntil = Number.NEGATIVE_INFINITY;
  #token: Cached<string> | undefined;

  constructor(config: SignalTransmitterConfig, { local, nowMs, monotonic }: TransmitterClientDeps) {
    this.#config = config;
    this.#nowMs = nowMs;
    this.#bounded = issuerFetch(local);
    this.#usesMetadata = config.jwksUrl === null;
    this.#metadata = createCachedDocument(() => this.#fetchMetadata(), { limits: metadataLimits, monotonic });
  }

  metadata(): Promise<TransmitterMetadata> {
    this.#usesMetadata = true;
    return this.#metadata.read();
  }

  async criticalMembers(): Promise<readonly string[]> {
    if (!this.#usesMetadata) return [];
    return (await this.metadata()).critical_subject_members;
  }

  async keys(): Promise<RemoteKeySet> {
    if (this.#nowMs() < this.#keysFailedUntil)
      throw new TransmitterError("the transmitter's keys could not be read a moment ago", { status: null });
    const url = this.#config.jwksUrl?.href ?? (await this.metadata()).jwks_uri;
    if (this.#keySet?.url !== url) this.#keySet = { url, keys: createRemoteKeySet(new URL(url), this.#bounded) };
    return this.#keySet.keys;
  }

  noteKeyFailure(): void {
    this.#keysFailedUntil = this.#nowMs() + keyFailureMs;
  }

  async request(
    method: "GET" | "POST" | "PATCH" | "DELETE",
    url: URL | string,
    options: SendOptions = {},
  ): Promise<TransmitterAnswer> {
    const answer = await this.#sendAuthorized(method, url, options);
    if (answer.status !== 401 || this.#config.client === null || this.#token === undefined) return answer;
    this.#token = undefined; // it may have been revoked early
    return this.#sendAuthorized(method, url, options);
  }

  async #sendAuthorized(method: string, url: URL | string, options: SendOptions): Promise<TransmitterAnswer> {
    const authorization = `Bearer ${await this.#accessToken()}`;
    const type = options.body === undefined ? {} : { "content-type": "application/json" };
    return this.#send(method, url, { accept: "application/json", authorization, ...type }, options);
  }

  async #send(
    method: string,
    url: URL | string,
    headers: Readonly<Record<string, string>>,
    options: SendOptions = {},
  ): Promise<TransmitterAnswer> {
    const timeout = AbortSignal.timeout(options.timeoutMs ?? timeoutMsDefault);
    const signal = options.signal === undefined ? timeout : AbortSignal.any([options.signal, timeout]);
    const sent = options.body === undefined ? {} : { body: JSON.stringify(options.body) };
    try {
      const answer = await this.#bounded.fetch(String(url), { method, headers: { ...headers }, signal, ...sent });
      return { status: answer.status, body: await readJson(answer) };
    } catch (cause) {
      throw new TransmitterError("the transmitter does not answer", { status: null, cause });
    }
  }

  async #fetchMetadata(): Promise<TransmitterMetadata> {
    const { issuer, metadataUrl } = this.#config;
    const urls = metadataUrl === null ? wellKnown.map((name) => metadataUrlOf(issuer, name)) : [metadataUrl];
    for (const [nth, url] of urls.entries()) {
      const { status, body } = await this.#send("GET", url, { accept: "application/json" });
      if (status === 404 && nth + 1 < urls.length) continue;
      if (status !== 200) throw new TransmitterError("the metadata of the transmitter could not be read", { status });
      const parsed = parseTransmitterMetadata(body, issuer);
      if (!parsed.ok) throw new TransmitterError(parsed.problem, { status: null });
      return parsed.value;
    }
    throw new TransmitterError("the transmitter has no metadata", { status: 404 });
  }

  #accessToken(): Promise<string> {
    const { client, accessToken } = this.#config;
    if (client === null) {
      if (accessToken !== null) return Promise.resolve(accessToken);
      const message = "no access_token or client_id is configured for this transmitter";
      return Promise.reject(new TransmitterError(message, { status: null }));
    }
    const now = this.#nowMs();
    if (this.#token !== undefined && now < this.#token.until) return this.#token.value;
    const granted = this.#grantToken(client);
    const value = granted.then((grant) => grant.accessToken);
    this.#token = { value, until: now + grantMs };
    granted.then(
      ({ expiresInMs }) => {
        this.#token = { value, until: now + Math.min(tokenMsMax, Math.max(0, expiresInMs - tokenEarlyMs)) };
      },
      () => {
        this.#token = undefined;
      },
    );
    return value;
  }

  async #grantToken(
    client: NonNullable<SignalTransmitterConfig["client"]>,
  ): Promise<Readonly<{ accessToken: string; expiresInMs: number }>> {
    const { id, secret, tokenUrl, scope } = client;
    const server = { issuer: tokenUrl.origin, token_endpoint: tokenUrl.href };
    const oauth = new openid.Configuration(server, id, undefined, openid.ClientSecretBasic(secret));
    if (tokenUrl.protocol === "http:") openid.allowInsecureRequests(oauth);
    oauth[openid.customFetch] = this.#bounded.fetch as unknown as openid.CustomFetch;
    try {
      const granted = await openid.clientCredentialsGrant(oauth, scope === null ? {} : { scope });
      return { accessToken: granted.access_token, expiresInMs: (granted.expiresIn() ?? 300) * 1_000 };
    } catch (cause) {
      throw new TransmitterError("the transmitter's token endpoint gave no access token", { status: null, cause });
    }
  }
}

async function readJson(answer: Awaited<ReturnType<IssuerFetch["fetch"]>>): Promise<unknown> {
  const text = await answer.text();
  if (text.trim() === "") return null;
  try {
    return JSON.parse(text);
  } catch {
    return null; // the status says whether that matters
  }
}
