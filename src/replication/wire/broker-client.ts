/**
 * Broker client: a `Databroker` over the databroker HTTP API.
 *
 * - It tries the brokers in turn, beginning with the one that answered last. Every wait is bounded.
 * - It sends a command again with the same id until the answer is definite or the time is up, so the command takes
 *   effect at most once. It does not repeat one while the region is cut off from its home region.
 * - It speaks TLS, or plain HTTP to loopback. It never uses a proxy: it has its own dispatcher, which ignores the
 *   environment.
 */
import { setTimeout as delay } from "node:timers/promises";
import { Agent, request as send } from "undici";
import { type CommandRequest, type CommandResult, encode, formatLink } from "../../events/index.ts";
import type { Databroker, ReceiptTarget, StatusOptions } from "../databroker.ts";
import { type LeaseRefusal, LeaseRefusedError } from "../lease/lease-refusal.ts";
import type { Clock } from "../runtime/clock.ts";
import { addJitter, upTo } from "../runtime/jitter.ts";
import type { Logger } from "../runtime/logger.ts";
import { createSystemLookup } from "../runtime/system-lookup.ts";
import type { SnapshotSupply } from "../snapshot/snapshot-supply.ts";
import { AnswerNotBelievedError, BrokerRefusedError, InsecureBrokerUrlError } from "./broker-errors.ts";
import { createBrokerOpener } from "./broker-opener.ts";
import { BrokerUnavailableError } from "./broker-unavailable-error.ts";
import {
  parseClusterStatus,
  parseCommandResult,
  parseConfiguration,
  parseConfigurations,
  parseHeld,
  parseHistoryPage,
  parsePageOutcome,
  parseProviderTokens,
  parseReceipt,
  parseSnapshotAsked,
  parseStoredSignalStream,
} from "./broker-wire.ts";
import type { Role } from "./cluster-keys.ts";
import { parseLeaseRefusal } from "./lease-refusal-body.ts";
import { localCallsOver } from "./local-calls.ts";
import { createCallSigner, homeHeader } from "./service-call.ts";
import { type AnswerRefusal, answerHeader, mustBeSealed, refuseAnswer } from "./signed-answer.ts";
import { snapshotSupplyOver } from "./snapshot-calls.ts";
import { isNotHome, parseUnavailable } from "./unavailable-body.ts";

export type BrokerClientOptions = Readonly<{
  urls: readonly URL[];
  cluster: string;
  role: Role;
  /** The name of the process; the issuer of its tokens. */
  name: string;
  secret: Uint8Array;
  /** The previous shared secret, during a replacement: brokers may still sign answers with it. */
  previousSecret?: Uint8Array | null;
  /** PEM of the only trusted certificate authority. Null: those of the system. */
  tlsCa?: string | null;
  /** Allows plain HTTP to hosts that are not loopback. */
  allowPlaintext?: boolean;
  clock: Clock;
  randomBytes: (size: number) => Uint8Array;
  logger: Logger;
  /** How long the client retries a command, ms. */
  submitMs?: number;
  /** `home`: only brokers of the home region answer; a broker that serves another region refuses. Default: `any`. */
  audience?: "home" | "any";
  /** Shared by clients with the same `urls`, so that a broker which answers one of them is found by all. */
  lastGood?: LastGood;
}>;

/** The index of the broker that answered last. Changed in place. */
export type LastGood = { index: number };

export type BrokerClient = Databroker &
  Required<Pick<Databroker, "denials" | "localReceipt" | "revokeLocally">> &
  Readonly<{
    snapshots: SnapshotSupply;
    /** Count of rejected answers, by reason. */
    refused(): Readonly<Record<AnswerRefusal, number>>;
    /**
     * A question about local revocations to another broker of this broker's region (broker/region/peer-wire.ts).
     * @throws BrokerUnavailableError
     */
    exchangeRevocations(question: object): Promise<unknown>;
    /** The broker that last answered a lease message with a grant; null: none yet. */
    grantedBy(): URL | null;
    close(): Promise<void>;
  }>;

const leasePath = "/v1/leases";
const connectMsMax = 2_000;
const bodyMsMax = 5_000;
const responseBytesMax = 64 * 1024 * 1024;
const connectionsMax = 32;
/** Below the keep-alive time of the servers, ms, so that the client closes an idle connection first. */
const keepAliveMs = 4_000;
/**
 * How long one broker may take before the client tries the next, ms. A node requests a lease every second, and a lease
 * lasts five.
 */
const answerMs = { command: 5_000, lease: 1_500, read: 2_000, other: 5_000 };
const backoffMs = { first: 50, max: 1_000 };
/**
 * Maximum delay before the next broker is tried, ms. It spreads the callers of a failed broker over time. Short for
 * commands, because a person waits for them.
 */
const nextBrokerMs = { background: 250, awaited: 25 };
/** The client starts no attempt with less time left than this, ms. */
const attemptMsMin = 50;

type Ask = Readonly<{
  method: "GET" | "POST";
  path: string;
  body?: Uint8Array;
  contentType?: "application/msgpack" | "application/octet-stream";
  answerMs: number;
  /** The call that every node repeats at intervals. */
  background?: true;
  signal?: AbortSignal | undefined;
  /**
   * With one of these statuses the client tries the next broker. The status is the answer if no other broker has a
   * better one.
   */
  elsewhere?: readonly number[];
}>;
type Answer = Readonly<{
  status: number;
  body: Uint8Array;
  /** A broker of this cluster gave this answer. Others count only as failures. */
  sealed: boolean;
  /** Another broker, tried before, may have received the call. */
  uncertain: boolean;
}>;

/** @throws InsecureBrokerUrlError */
export function createBrokerClient(options: BrokerClientOptions): BrokerClient {
  const { urls, clock, logger, randomBytes } = options;
  const insecure = urls.find((url) => url.protocol !== "https:" && !(url.protocol === "http:" && isLoopback(url)));
  if (insecure !== undefined && options.allowPlaintext !== true) throw new InsecureBrokerUrlError(insecure);
  const bases = urls.map((url) => url.href.replace(/\/+$/, ""));
  const agent = new Agent({
    connect: { timeout: connectMsMax, lookup: createSystemLookup(), ...(options.tlsCa ? { ca: options.tlsCa } : {}) },
    connections: connectionsMax,
    pipelining: 1,
    keepAliveTimeout: keepAliveMs,
    keepAliveMaxTimeout: keepAliveMs,
    bodyTimeout: bodyMsMax,
    maxResponseSize: responseBytesMax,
  });
  const closing = new AbortController();
  const secrets = [options.secret, ...(options.previousSecret ? [options.previousSecret] : [])];
  const signCall = createCallSigner(options);
  const open = createBrokerOpener({ cluster: options.cluster, secrets });
  const refused: Record<AnswerRefusal, number> = { unsigned: 0, "not-authentic": 0, "another-call": 0, altered: 0 };
  const good: LastGood = options.lastGood ?? { index: 0 };
  let grantedBy: URL | null = null;

  async function attempt(base: string, ask: Ask): Promise<Answer> {
    const withinMs = Math.ceil(ask.answerMs); // both timers need integers
    // Not `AbortSignal.timeout`, whose timer goes off later for every call that was answered.
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(new Error("no answer in time")), withinMs + bodyMsMax).unref();
    const signal = AbortSignal.any([closing.signal, late.signal, ...(ask.signal ? [ask.signal] : [])]);
    try {
      return await answerTo(base, ask, { withinMs, signal });
    } finally {
      clearTimeout(timer);
    }
  }

  async function answerTo(
    base: string,
    ask: Ask,
    { withinMs, signal }: Readonly<{ withinMs: number; signal: AbortSignal }>,
  ): Promise<Answer> {
    const { authorization, callId } = signCall(ask, options);
    const { statusCode, headers, body } = await send(`${base}${ask.path}`, {
      dispatcher: agent,
      method: ask.method,
      headers: {
        authorization,
        accept: "application/msgpack",
        ...(options.audience === "home" && { [homeHeader]: "1" }),
        ...(ask.contentType !== undefined && { "content-type": ask.contentType }),
      },
      body: ask.body ?? null,
      headersTimeout: withinMs,
      signal,
    });
    const answer = { status: statusCode, body: await body.bytes() };
    const refusal = refuseAnswer(headerIn(headers, answerHeader), open, { ...answer, callId });
    if (refusal !== undefined && mustBeSealed(statusCode)) throw new AnswerNotBelievedError(refusal);
    return { ...answer, sealed: refusal === undefined, uncertain: false };
  }

  /**
   * Tries every broker once, beginning with the last good one, until one answers with a status other than 503 or 401. A
   * 401 is unsigned, so an impostor at the address of one broker must not keep the client from the others. A broker
   * outside the node's region may refuse a lease that one of the region grants.
   * @throws BrokerUnavailableError when none does, BrokerRefusedError on 401 and 403, LeaseRefusedError when a leader
   * gives a reason
   */
  async function ask(what: Ask): Promise<Answer> {
    let unavailable: Answer | undefined;
    let elsewhere: Answer | undefined;
    let unknownThere: BrokerRefusedError | undefined;
    let wrongBroker: LeaseRefusedError | undefined;
    let cause: unknown;
    let uncertain = false;
    const first = good.index;
    for (let turn = 0; turn < bases.length && !aborted(what); turn++) {
      const index = (first + turn) % bases.length;
      const base = bases[index] ?? "";
      if (turn > 0) await pause(upTo(nextBrokerMs[what.background ? "background" : "awaited"], randomBytes), what);
      if (aborted(what)) break;
      try {
        const answer = await attempt(base, what).catch((error: unknown) => {
          // The server was closing the kept connection: it read nothing of this request.
          if (!wasClosedUnderUs(error) || aborted(what)) throw error;
          uncertain = true;
          return attempt(base, what);
        });
        const refusal = answer.status === 403 ? leaseRefusal(answer) : undefined;
        if (refusal !== undefined && refusal.code !== "past-region") throw new LeaseRefusedError(refusal);
        if (refusal !== undefined) wrongBroker = new LeaseRefusedError(refusal);
        else if (answer.status === 403) throw new BrokerRefusedError(answer.status, refusalWords(answer));
        else if (answer.status === 401) unknownThere = new BrokerRefusedError(answer.status, refusalWords(answer));
        else if (what.elsewhere?.includes(answer.status) === true) elsewhere = answer;
        else if (answer.status < 500) {
          good.index = index;
          if (what.path === leasePath && answer.status === 200) grantedBy = urls[index] ?? null;
          return answer;
        } else unavailable = unavailable === undefined || isLessInformative(unavailable) ? answer : unavailable;
      } catch (error) {
        if (error instanceof BrokerRefusedError || error instanceof LeaseRefusedError) throw error;
        cause = error;
        uncertain ||= !wasNotSent(error);
        if (error instanceof AnswerNotBelievedError) {
          refused[error.refusal] += 1;
          logger.warn(
            { broker: base, refusal: error.refusal },
            "rejected an answer that is not from a broker of this cluster",
          );
        } else logger.debug({ err: error, broker: base }, "a broker did not answer");
      }
      if (good.index === index) good.index = (index + 1) % bases.length;
    }
    if (elsewhere !== undefined) return elsewhere;
    if (wrongBroker !== undefined) throw wrongBroker;
    if (unavailable?.status === 503) return { ...unavailable, uncertain }; // it authenticated the caller before
    if (unknownThere !== undefined) throw unknownThere;
    const problem = bases.length === 0 ? "no broker is configured" : "no broker answers";
    throw new BrokerUnavailableError(problem, { cause, reason: "no-answer" });
  }

  async function pause(ms: number, what: Ask): Promise<void> {
    const signals = [closing.signal, ...(what.signal ? [what.signal] : [])];
    await delay(ms, undefined, { signal: AbortSignal.any(signals) }).catch(() => {});
  }

  function aborted(what: Ask): boolean {
    return closing.signal.aborted || what.signal?.aborted === true;
  }

  /** @throws BrokerUnavailableError when the answer is not a 200, or does not match the API */
  async function get<T>(what: Ask, parse: (body: Uint8Array) => T): Promise<T> {
    return parsed(await ask(what), parse, [200]);
  }

  async function submitOnce(command: CommandRequest, leftMs: number): Promise<CommandResult> {
    const { commandId } = command;
    try {
      const answer = await ask({
        method: "POST",
        path: "/v1/commands",
        body: encode(command),
        contentType: "application/msgpack",
        answerMs: Math.max(1, Math.min(answerMs.command, leftMs)),
      });
      if (answer.status === 400 || answer.status === 413 || answer.status === 422) {
        return {
          type: "refused",
          commandId,
          code: "invalid",
          message: "the databroker does not understand the command",
        };
      }
      const result = parsed(answer, parseCommandResult, [200, 503]);
      if (result.type !== "unavailable") return result;
      const { code, outcome, ...retryable } = result;
      if (code === undefined || !answer.sealed) return retryable;
      return { ...retryable, code, outcome: answer.uncertain ? "unknown" : (outcome ?? "unknown") };
    } catch (error) {
      if (error instanceof BrokerRefusedError && error.status === 403) {
        return { type: "refused", commandId, code: "forbidden", message: error.message };
      }
      if (!(error instanceof BrokerUnavailableError)) throw error;
      return { type: "unavailable", commandId, message: error.message, retryAfterMs: 0 };
    }
  }

  return {
    async submit(command) {
      const giveUpAt = clock.monotonic() + (options.submitMs ?? 10_000);
      for (let attempts = 0; ; attempts++) {
        const result = await submitOnce(command, giveUpAt - clock.monotonic());
        if (result.type !== "unavailable" || closing.signal.aborted) return result;
        // An earlier attempt may have been accepted, whatever became of this one.
        if (result.code !== undefined) return attempts === 0 ? result : { ...result, outcome: "unknown" };
        const pauseMs = addJitter(Math.min(backoffMs.max, backoffMs.first * 2 ** attempts), randomBytes);
        const another = clock.monotonic() + pauseMs + attemptMsMin < giveUpAt;
        if (!another) return { ...result, retryAfterMs: Math.max(result.retryAfterMs, backoffMs.max) };
        await delay(pauseMs, undefined, { signal: closing.signal }).catch(() => {});
      }
    },
    async read(after, { limit, waitMs, signal }) {
      const path = `/v1/events?after=${formatLink(after)}&limit=${limit}&wait=${Math.floor(waitMs)}`;
      const answer = await ask({ method: "GET", path, answerMs: waitMs + answerMs.read, background: true, signal });
      return parsed(answer, parsePageOutcome, [200, 409, 410]);
    },
    async lease(envelope) {
      const answer = await ask({
        method: "POST",
        path: leasePath,
        body: envelope,
        contentType: "application/octet-stream",
        answerMs: answerMs.lease,
        background: true,
      });
      if (answer.status === 204) return null;
      return parsed(answer, (body) => body, [200]);
    },
    receipt: (target, { wait, timeoutMs, region, seen }) => {
      const query = new URLSearchParams({
        wait,
        timeout: String(Math.floor(timeoutMs)),
        ...(region === undefined ? {} : { region }),
        ...(seen === undefined ? {} : { seen }),
      });
      const path = `/v1/receipts/${encodeURIComponent(targetText(target))}?${query}`;
      return get({ method: "GET", path, answerMs: timeoutMs + answerMs.other }, parseReceipt);
    },
    status: (options) =>
      get({ method: "GET", path: statusPath(options), answerMs: answerMs.other }, parseClusterStatus),
    async tokens(sessionId) {
      const path = `/v1/sessions/${encodeURIComponent(sessionId)}/tokens`;
      const answer = await ask({ method: "GET", path, answerMs: answerMs.other });
      return answer.status === 404 ? undefined : parsed(answer, parseProviderTokens, [200]);
    },
    async storedSignalStream(receiver) {
      const path = `/v1/signals/${encodeURIComponent(receiver)}`;
      const answer = await ask({ method: "GET", path, answerMs: answerMs.other });
      return answer.status === 404 ? undefined : parsed(answer, parseStoredSignalStream, [200]);
    },
    async configuration(configHash) {
      const path = `/v1/configurations/${encodeURIComponent(configHash)}`;
      const answer = await ask({ method: "GET", path, answerMs: answerMs.read });
      if (answer.status === 404) return undefined;
      const stored = parsed(answer, parseConfiguration, [200]);
      return stored.configHash === configHash ? stored : undefined;
    },
    async configurations() {
      const answer = await ask({ method: "GET", path: "/v1/configurations", answerMs: answerMs.read });
      return parsed(ofThisVersion(answer), parseConfigurations, [200]);
    },
    async holdsConfiguration(configHash) {
      const path = `/v1/configurations/${encodeURIComponent(configHash)}/held`;
      return parsed(ofThisVersion(await ask({ method: "GET", path, answerMs: answerMs.other })), parseHeld, [200]);
    },
    history(request) {
      const body = encode(request);
      const contentType = "application/msgpack";
      return get({ method: "POST", path: "/v1/history", body, contentType, answerMs: answerMs.read }, parseHistoryPage);
    },
    takeSnapshot: () => get({ method: "POST", path: "/v1/snapshot", answerMs: answerMs.other }, parseSnapshotAsked),
    ...localCallsOver(ask),
    snapshots: snapshotSupplyOver(ask),
    refused: () => ({ ...refused }),
    grantedBy: () => grantedBy,
    async close() {
      closing.abort(new BrokerUnavailableError("this client is closed"));
      await agent.destroy();
    },
  };
}

function parsed<T>(answer: Answer, parse: (body: Uint8Array) => T, statuses: readonly number[]): T {
  if (!statuses.includes(answer.status)) throw unavailableAs(answer);
  try {
    return parse(answer.body);
  } catch (cause) {
    throw new BrokerUnavailableError(`a broker's answer (${answer.status}) does not match its API`, { cause });
  }
}

function unavailableAs(answer: Answer): BrokerUnavailableError {
  const { status, sealed, uncertain } = answer;
  if (sealed && isNotHome(answer.body))
    return new BrokerUnavailableError("no broker of the home region answers", { reason: "not-home" });
  if (!isCutOff(answer))
    return new BrokerUnavailableError(`a broker answered ${status}`, { reason: sealed ? "no-leader" : "no-answer" });
  const { code: reason = "no-leader", outcome = "unknown" } = parseUnavailable(answer.body);
  return new BrokerUnavailableError("the home region is unreachable", {
    reason,
    outcome: uncertain ? "unknown" : outcome,
  });
}

/** Any other answer of a broker says more: this one cannot reach the home region, or does not serve it. */
function isLessInformative(answer: Answer): boolean {
  return isCutOff(answer) || isNotHome(answer.body);
}

/** The broker's region is cut off from its home region. */
function isCutOff({ status, sealed, body }: Answer): boolean {
  return status === 503 && sealed && parseUnavailable(body).code === "home-unreachable";
}

/** @throws BrokerUnavailableError when the broker does not know the call */
function ofThisVersion(answer: Answer): Answer {
  if (answer.status !== 404) return answer;
  throw new BrokerUnavailableError("the broker runs a version that stores no configurations");
}

/** A broker of an older build ignores the query, and answers with the nodes. */
export function statusPath(options: StatusOptions | undefined): string {
  return options === undefined ? "/v1/status" : `/v1/status?nodes=${options.nodes}`;
}

function targetText(target: ReceiptTarget): string {
  return target.type === "command" ? `command:${target.commandId}` : `link:${formatLink(target.link)}`;
}

function refusalWords({ status }: Answer): string {
  return status === 401
    ? "the databroker does not accept this process's token: check shared_secret and the clock"
    : "the databroker does not allow this call in the role of this process";
}

/** The reason why a broker grants no lease. Undefined: the 403 is about the role of this process. */
function leaseRefusal({ body }: Answer): LeaseRefusal | undefined {
  try {
    const { error, ...fields }: { error?: unknown } = JSON.parse(Buffer.from(body).toString("utf8"));
    return error === "no-lease" ? parseLeaseRefusal(fields) : undefined;
  } catch {
    return undefined; // not JSON: no broker wrote it
  }
}

function isLoopback({ hostname }: URL): boolean {
  return (
    hostname === "localhost" ||
    hostname.endsWith(".localhost") ||
    hostname === "[::1]" ||
    /^127(\.\d{1,3}){3}$/.test(hostname)
  );
}

/** @returns undefined when the header is absent or occurs twice */
export function headerIn(
  headers: Readonly<Record<string, string | string[] | undefined>>,
  name: string,
): string | undefined {
  const value = headers[name];
  return typeof value === "string" ? value : undefined;
}

function wasClosedUnderUs(error: unknown): boolean {
  const code = codeOf(error);
  return code === "UND_ERR_SOCKET" || code === "ECONNRESET" || code === "EPIPE";
}

/** No connection was made, so the broker has received nothing. */
function wasNotSent(error: unknown): boolean {
  const code = codeOf(error);
  return code === "ECONNREFUSED" || code === "ENOTFOUND" || code === "UND_ERR_CONNECT_TIMEOUT";
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}
