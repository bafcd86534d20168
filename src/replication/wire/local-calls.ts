/**
 * Local calls: the HTTP requests about the revocations that a region accepts by itself. A broker of an older build, or
 * of the home region, knows none of them. Pure.
 */
import * as z from "zod";
import {
  type CommandId,
  type CommandRequest,
  decode,
  encode,
  parseCommandId,
  parseUnixMs,
} from "../../events/index.ts";
import type { Databroker, DenialsOutcome, LocalReceiptOutcome, LocalResult } from "../databroker.ts";
import { BrokerUnavailableError } from "./broker-unavailable-error.ts";
import { MalformedMessageError, parseLinkMap, type StorePosition } from "./messages.ts";

export type LocalCall = Readonly<{
  method: "GET" | "POST";
  path: string;
  body?: Uint8Array;
  contentType?: "application/msgpack";
  answerMs: number;
  background?: true;
  signal?: AbortSignal | undefined;
}>;

/** `uncertain`: another broker, tried before, may have received the call. */
type LocalAnswer = Readonly<{ status: number; body: Uint8Array; uncertain: boolean }>;

/** How long an answer may take beyond its wait, ms. */
const graceMs = 2_000;
const exchangeMs = 2_000;
/** Longer than the broker waits for the others of its region. */
const revokeMs = 5_000;

/** @param ask throws BrokerUnavailableError when no broker answers; a 503 is an answer */
export function localCallsOver(
  ask: (call: LocalCall) => Promise<LocalAnswer>,
): Required<Pick<Databroker, "denials" | "localReceipt" | "revokeLocally">> &
  Readonly<{ exchangeRevocations(question: object): Promise<unknown> }> {
  return {
    async denials(after: StorePosition | null, { waitMs, signal }) {
      const at = after === null ? "" : `&store=${after.store}&after=${after.seq}`;
      const path = `/v1/denials?wait=${Math.floor(waitMs)}${at}`;
      const answer = await ask({ method: "GET", path, answerMs: waitMs + graceMs, background: true, signal });
      return answer.status === 404 ? { type: "none" } : parsed(answer, denialsIn);
    },
    async revokeLocally(request: CommandRequest) {
      const answer = await ask({
        method: "POST",
        path: "/v1/local-revocations",
        body: encode(request),
        contentType: "application/msgpack",
        answerMs: revokeMs,
      });
      if (answer.status === 404 && !answer.uncertain) return offAnswer(request);
      const result = parsed(answer, resultIn);
      return result.type === "unavailable" && answer.uncertain ? { ...result, outcome: "unknown" } : result;
    },
    async localReceipt(commandId: CommandId, { timeoutMs }) {
      const path = `/v1/local-receipts/${commandId}?timeout=${Math.floor(timeoutMs)}`;
      const answer = await ask({ method: "GET", path, answerMs: timeoutMs + graceMs });
      return answer.status === 404 ? { type: "unknown" } : parsed(answer, receiptIn);
    },
    async exchangeRevocations(question) {
      const answer = await ask({
        method: "POST",
        path: "/v1/region/revocations",
        body: encode(question),
        contentType: "application/msgpack",
        answerMs: exchangeMs,
      });
      return parsed(answer, (value) => value);
    },
  };
}

function parsed<T>({ status, body }: LocalAnswer, parse: (value: unknown) => T): T {
  if (status !== 200) throw new BrokerUnavailableError(`a broker answered ${status}`);
  try {
    return parse(decode(body));
  } catch (cause) {
    throw new BrokerUnavailableError("a broker's answer does not match its API", { cause });
  }
}

const parsedBy = <T>(parse: (value: unknown) => T) =>
  z.unknown().transform((value, context): T => {
    try {
      return parse(value);
    } catch (error) {
      context.addIssue({ code: "custom", message: error instanceof Error ? error.message : "not valid" });
      return z.NEVER;
    }
  });

const text = z.string().max(10_000);
const count = z.number().int().nonnegative();
const link = parsedBy(parseLinkMap);
const time = parsedBy(parseUnixMs);

const denials = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("page"),
    store: text,
    upTo: count,
    envelopes: z.array(z.instanceof(Uint8Array)).max(10_000),
    more: z.boolean(),
  }),
  z.object({ type: z.literal("none") }),
]);

const result = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("local"),
    commandId: parsedBy(parseCommandId),
    region: text,
    broker: text,
    seq: count,
    basis: link,
    ids: count,
    at: time,
  }),
  z.object({
    type: z.literal("refused"),
    commandId: parsedBy(parseCommandId),
    code: z.enum(["not-found", "conflict", "suspended", "erased", "forbidden", "invalid", "logged-out"]),
    message: text,
  }),
  z.object({
    type: z.literal("unavailable"),
    commandId: parsedBy(parseCommandId),
    code: text,
    message: text,
    outcome: z.enum(["none", "unknown"]).optional(),
  }),
]);

const receipt = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("receipt"),
    receipt: z.object({
      scope: z.literal("region"),
      region: text,
      commandId: parsedBy(parseCommandId),
      broker: text,
      seq: count,
      basis: link,
      acceptedAt: time,
      complete: z.boolean(),
      brokers: z.array(z.object({ broker: text, stored: z.boolean() })),
      nodes: z.array(
        z.object({
          node: text,
          boot: text,
          role: text,
          status: z.enum(["applied", "fenced", "unconfirmed"]),
          confirmed: count.nullable(),
          fencedInMs: z.number().nonnegative(),
          reason: text,
        }),
      ),
      completeInMs: z.number().nonnegative(),
      at: time,
      signed: z.string(),
    }),
  }),
  z.object({ type: z.literal("merged"), link }),
  z.object({ type: z.literal("unknown") }),
]);

function denialsIn(value: unknown): DenialsOutcome {
  const { data } = denials.safeParse(value);
  if (data === undefined) throw new MalformedMessageError("not a page of revocations");
  return data;
}

function resultIn(value: unknown): LocalResult {
  const { data } = result.safeParse(value);
  if (data === undefined) throw new MalformedMessageError("not an answer to a local revocation");
  return data;
}

/** A broker of the home region, or of an older build. */
function offAnswer({ commandId }: CommandRequest): LocalResult {
  return { type: "unavailable", commandId, code: "local-off", message: "this broker accepts no revocation by itself" };
}

function receiptIn(value: unknown): LocalReceiptOutcome {
  const { data } = receipt.safeParse(value);
  if (data === undefined) throw new MalformedMessageError("not a receipt of a region");
  return data;
}
