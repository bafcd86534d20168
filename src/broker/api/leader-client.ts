/**
 * Leader client: forwards calls that only the leader can answer, in the caller's own role, once.
 *
 * `Cardea-Forwarded` marks a forwarded call: the broker that receives it answers or sends 503, so two brokers that each
 * take the other for the leader do not forward in circles. It never retries; the caller knows its deadline.
 */

import { randomBytes } from "node:crypto";
import { Agent, request as send } from "undici";
import { type CommandRequest, type CommandResult, encode, formatLink, type Position } from "../../events/index.ts";
import type {
  Clock,
  ClusterStatus,
  Receipt,
  ReceiptOptions,
  ReceiptTarget,
  StatusOptions,
} from "../../replication/index.ts";
import type { LeaseRefusal } from "../../replication/lease/index.ts";
import { createSystemLookup } from "../../replication/runtime/index.ts";
import {
  type AnswerRefusal,
  answerHeader,
  BrokerUnavailableError,
  createBrokerOpener,
  createCallSigner,
  headerIn,
  mustBeSealed,
  parseClusterStatus,
  parseCommandResult,
  parseLeaseRefusal,
  parseReceipt,
  parseSnapshotAsked,
  refuseAnswer,
  statusPath,
} from "../../replication/wire/index.ts";
import { LeaseMessageRejectedError } from "../core/lease-message-error.ts";
import type { GossipMessage, Presence } from "../core/messages.ts";
import { parseGossip } from "./gossip-routes.ts";
import { forwardedHeader, forwardedValues, type LeaderCall } from "./leader-router.ts";

export type LeaderClientOptions = Readonly<{
  cluster: string;
  secret: Uint8Array;
  /** While the shared secret is being replaced: the leader may still answer under it. */
  previousSecret?: Uint8Array | null;
  clock: Clock;
  /** PEM: the only trusted authority. Null: the system's authorities. */
  tlsCa: string | null;
  /** Plain HTTP to hosts that are not loopback. */
  allowPlaintext: boolean;
}>;

export type LeaderClient = Readonly<{
  submit: (to: LeaderCall, request: CommandRequest) => Promise<CommandResult>;
  lease: (to: LeaderCall, envelope: Uint8Array) => Promise<Uint8Array | null>;
  receipt: (to: LeaderCall, target: ReceiptTarget, options: ReceiptOptions) => Promise<Receipt>;
  status: (to: LeaderCall, options?: StatusOptions) => Promise<ClusterStatus>;
  /** Sends gossip to another broker, leading or not. */
  sendGossip: (to: LeaderCall, presence: Presence, gossip: GossipMessage) => Promise<GossipMessage>;
  takeSnapshot: (to: LeaderCall) => Promise<Position>;
  /** The number of answers rejected as not authentic. */
  refused: () => number;
  close: () => Promise<void>;
}>;

type HttpCall = Readonly<{ method: "GET" | "POST"; path: string; body?: Uint8Array; contentType?: string }>;

const connectMsMax = 1_000;
const connectionsMax = 64;
/** Below the server's own, so that the client closes first. */
const keepAliveMs = 4_000;
const answerBytesMax = 64 * 1024 * 1024;

export function createLeaderClient(options: LeaderClientOptions): LeaderClient {
  const agent = new Agent({
    connect: {
      timeout: connectMsMax,
      lookup: createSystemLookup(),
      ...(options.tlsCa === null ? {} : { ca: options.tlsCa }),
    },
    connections: connectionsMax,
    pipelining: 1,
    keepAliveTimeout: keepAliveMs,
    keepAliveMaxTimeout: keepAliveMs,
    maxResponseSize: answerBytesMax,
  });

  const secrets = [options.secret, ...(options.previousSecret ? [options.previousSecret] : [])];
  const signCall = createCallSigner({ ...options, randomBytes });
  const openEnvelope = createBrokerOpener({ cluster: options.cluster, secrets });
  let refused = 0;

  async function callBroker(to: LeaderCall, http: HttpCall): Promise<Readonly<{ status: number; body: Uint8Array }>> {
    const base = trustedUrl(to.url);
    const { authorization, callId } = signCall(http, to.caller);
    const timeoutMs = Math.max(1, Math.ceil(to.timeoutMs));
    let refusal: AnswerRefusal | undefined;
    try {
      const { statusCode, headers, body } = await send(`${base}${http.path}`, {
        dispatcher: agent,
        method: http.method,
        headers: {
          authorization,
          accept: "application/msgpack",
          [forwardedHeader]: to.isRegional === true ? forwardedValues.regional : forwardedValues.direct,
          ...(http.contentType === undefined ? {} : { "content-type": http.contentType }),
        },
        body: http.body ?? null,
        headersTimeout: timeoutMs,
        bodyTimeout: timeoutMs,
        signal: AbortSignal.timeout(timeoutMs),
      });
      const answer = { status: statusCode, body: await body.bytes() };
      if (mustBeSealed(statusCode))
        refusal = refuseAnswer(headerIn(headers, answerHeader), openEnvelope, { ...answer, callId });
      if (refusal === undefined) return answer;
    } catch (cause) {
      throw new BrokerUnavailableError("the leader did not answer", { cause });
    }
    refused += 1;
    throw new BrokerUnavailableError(`rejected an answer that is not from the leader: ${refusal}`);
  }

  function trustedUrl(text: string): string {
    const url = URL.canParse(text) ? new URL(text) : undefined;
    const secure =
      url?.protocol === "https:" || (url?.protocol === "http:" && (options.allowPlaintext || isLoopback(url)));
    if (url === undefined || !secure)
      throw new BrokerUnavailableError("the leader's address is not an https URL, so no token is sent to it");
    return url.href.replace(/\/+$/, "");
  }

  return {
    async submit(to, request) {
      const body = encode(request);
      const answer = await callBroker(to, {
        method: "POST",
        path: "/v1/commands",
        body,
        contentType: "application/msgpack",
      });
      return parsed(answer, [200, 403, 503], parseCommandResult);
    },
    async lease(to, envelope) {
      const contentType = "application/octet-stream";
      const answer = await callBroker(to, { method: "POST", path: "/v1/leases", body: envelope, contentType });
      if (answer.status === 204) return null;
      if (answer.status === 403) throw new LeaseMessageRejectedError(refusalIn(answer.body));
      return parsed(answer, [200], (bytes) => bytes);
    },
    async receipt(to, target, { wait, timeoutMs, region, seen }) {
      const text = target.type === "command" ? `command:${target.commandId}` : `link:${formatLink(target.link)}`;
      const query = new URLSearchParams({
        wait,
        timeout: String(Math.floor(timeoutMs)),
        ...(region === undefined ? {} : { region }),
        ...(seen === undefined ? {} : { seen }),
      });
      const path = `/v1/receipts/${encodeURIComponent(text)}?${query}`;
      return parsed(await callBroker(to, { method: "GET", path }), [200], parseReceipt);
    },
    status: async (to, options) =>
      parsed(await callBroker(to, { method: "GET", path: statusPath(options) }), [200], parseClusterStatus),
    takeSnapshot: async (to) =>
      parsed(await callBroker(to, { method: "POST", path: "/v1/snapshot" }), [200], parseSnapshotAsked),
    async sendGossip(to, presence, gossip) {
      const contentType = "application/msgpack";
      const body = encode({ ...presence, ...gossip });
      return parsed(
        await callBroker(to, { method: "POST", path: "/v1/brokers", body, contentType }),
        [200],
        parseGossip,
      );
    },
    refused: () => refused,
    close: () => agent.destroy(),
  };
}

function parsed<T>(
  answer: Readonly<{ status: number; body: Uint8Array }>,
  statuses: readonly number[],
  parse: (body: Uint8Array) => T,
): T {
  if (!statuses.includes(answer.status)) throw new BrokerUnavailableError(`the leader answered ${answer.status}`);
  try {
    return parse(answer.body);
  } catch (cause) {
    throw new BrokerUnavailableError("the leader's answer does not match its API", { cause });
  }
}

/** The leader's own words: some of them call for an act of the node. */
function refusalIn(body: Uint8Array): LeaseRefusal {
  try {
    const refusal = parseLeaseRefusal(JSON.parse(Buffer.from(body).toString("utf8")));
    if (refusal !== undefined) return refusal;
  } catch {} // not JSON: no broker of this product wrote it
  return { code: "other", message: "the leader refused it" };
}

function isLoopback({ hostname }: URL): boolean {
  return (
    hostname === "localhost" ||
    hostname.endsWith(".localhost") ||
    hostname === "[::1]" ||
    /^127(\.\d{1,3}){3}$/.test(hostname)
  );
}
