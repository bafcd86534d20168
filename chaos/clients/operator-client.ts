/**
 * Operator client: uses the operator API as an operator does, and records every request and response.
 *
 * A command is sent with one command id until the answer is definite or patience ends; then its receipt is requested
 * until it is complete or patience ends. An unknown outcome is recorded as unknown.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { Pool } from "undici";
import { mintOperatorToken, operatorApiPrefix } from "../../src/console/index.ts";
import { formatLink, type Link } from "../../src/events/index.ts";
import { statementIn } from "../../src/replication/wire/index.ts";
import type { CommandEntry, Intent, LocalReceiptEntry, Ns, ReceiptEntry } from "../judge/history.ts";
import type { HistoryFile } from "../judge/history-file.ts";
import type { RunClock } from "../judge/run-clock.ts";
import type { Random } from "../random.ts";
import { cluster } from "../world.ts";

export type CommandRun = Readonly<{
  op: string;
  outcome: "done" | "refused" | "unknown";
  link: Link | null;
  complete: boolean;
}>;
export type OperatorClient = Readonly<{
  /** Sends a command until its answer is definite, and requests receipts until one is complete. */
  runCommand(intent: Intent, path: string, body: object): Promise<CommandRun>;
  close(): Promise<void>;
}>;

/** The operator API of a region. */
export type OperatorDoor = Readonly<{ region: string; port: number }>;

export type OperatorClientOptions = Readonly<{
  /** The first part of the names of its operations. */
  name: string;
  /** The public name of the operator API, the same everywhere. */
  host: string;
  /** Each attempt uses the operator API of any of these regions. */
  doors: readonly OperatorDoor[];
  secret: Uint8Array;
  now: RunClock;
  history: HistoryFile;
  stopping: () => boolean;
  random: Random;
  /** Called once a region has accepted a command by itself and its receipt is complete. */
  onLocalReceipt?: (op: string, region: string, intent: Intent) => void;
}>;

const patienceMs = 40_000;
/** The longest wait for a receipt. Often too short for a paused node, so that incomplete receipts occur. */
const waitMs = { short: 700, long: 10_000 };
const againMs = 200;
const answerMs = 25_000;
/** How long to ask a region for the receipt of what it accepted by itself, before the command is sent again. */
const localPatienceMs = 6_000;
const tokenLifeS = 3_600;

/** A receipt of one region (`scope: region`). */
type ApiLocalReceipt = Readonly<{
  complete: boolean;
  basis: Readonly<{ epoch: number; position: number }>;
  nodes: ApiReceipt["nodes"];
}>;
export type ApiReceipt = Readonly<{
  status: "complete" | "incomplete" | "lost";
  complete: boolean;
  signed?: string;
  nodes: readonly Readonly<{ node: string; region?: string; status: string; reason: string }>[];
}>;
/** `status` 0: no answer. */
export type Answer = Readonly<{ status: number; body: Readonly<Record<string, unknown>>; problem: string }>;
export type ApiCall = Readonly<{ port: number; method: "GET" | "POST"; path: string; body?: object }>;

/** Calls the operator API of any region, and records nothing. */
export type OperatorApi = Readonly<{ call(call: ApiCall): Promise<Answer>; close(): Promise<void> }>;

export async function createOperatorApi({
  host,
  secret,
}: Readonly<{ host: string; secret: Uint8Array }>): Promise<OperatorApi> {
  const pools = new Map<number, Pool>();
  const nowS = Math.floor(Date.now() / 1_000);
  const token = { secret, cluster, name: "chaos", tokenId: randomUUID(), nowS, ttlS: tokenLifeS };
  const authorization = `Bearer ${await mintOperatorToken(token)}`;

  function poolAt(port: number): Pool {
    const pool = pools.get(port) ?? new Pool(`http://127.0.0.1:${port}`, { connections: 24, headersTimeout: answerMs });
    pools.set(port, pool);
    return pool;
  }

  async function call({ port, method, path, body }: ApiCall): Promise<Answer> {
    try {
      const response = await poolAt(port).request({
        method,
        path: `${operatorApiPrefix}${path}`,
        headers: { host, authorization, ...(body && { "content-type": "application/json" }) },
        ...(body !== undefined && { body: JSON.stringify(body) }),
      });
      const text = await response.body.text();
      const problem = response.statusCode < 300 ? "" : `${response.statusCode} ${text.slice(0, 200)}`;
      return { status: response.statusCode, body: parse(text), problem };
    } catch (error) {
      return { status: 0, body: {}, problem: String(error) };
    }
  }

  return { call, close: async () => void (await Promise.all([...pools.values()].map((pool) => pool.destroy()))) };
}

export async function createOperatorClient(options: OperatorClientOptions): Promise<OperatorClient> {
  const { now, history, doors, random } = options;
  const api = await createOperatorApi(options);
  let operations = 0;
  const someWait = (): number => (random.next() < 0.5 ? waitMs.short : waitMs.long);

  async function runCommand(intent: Intent, path: string, body: object): Promise<CommandRun> {
    operations += 1;
    const op = `${options.name}-${operations}`;
    const commandId = randomUUID();
    const giveUpAt = performance.now() + patienceMs;
    for (;;) {
      const begin = now();
      const { region, port } = random.pick(doors);
      const full = { ...body, commandId, wait: "all", timeoutMs: someWait() };
      const answer = await api.call({ port, method: "POST", path, body: full });
      const end = now();
      const entry = commandEntryOf({ op, intent, region, commandId, begin, end }, answer);
      const { outcome } = entry;
      const link = outcome === "done" ? (answer.body["link"] as Link) : null;
      history.write(entry);
      if (link !== null) {
        const complete =
          written({ op, region, begin, end, answer, receipt: answer.body["receipt"] as ApiReceipt | null }) ||
          (await untilComplete(op, link, giveUpAt));
        return { op, outcome: "done", link, complete };
      }
      if (outcome === "local") {
        const accepted = { op, region, port, commandId };
        const isComplete = writtenLocal(accepted, { begin, end, answer }) || (await untilLocallyComplete(accepted));
        if (isComplete) options.onLocalReceipt?.(op, region, intent);
      }
      if (outcome === "refused") return { op, outcome, link, complete: false };
      if (performance.now() > giveUpAt || options.stopping()) return { op, outcome: "unknown", link, complete: false };
      await delay(againMs);
    }
  }

  async function untilComplete(op: string, link: Link, giveUpAt: number): Promise<boolean> {
    while (performance.now() < giveUpAt && !options.stopping()) {
      const begin = now();
      const { region, port } = random.pick(doors);
      const path = `/receipts/link:${formatLink(link)}?wait=all&timeout=${someWait()}`;
      const answer = await api.call({ port, method: "GET", path });
      const receipt = answer.status === 200 ? (answer.body as unknown as ApiReceipt) : null;
      if (written({ op, region, begin, end: now(), answer, receipt })) return true;
      if (receipt?.status === "lost") return false;
      await delay(againMs);
    }
    return false;
  }

  /** Ends early when the region has no receipt of its own any more, because the log has the command. */
  async function untilLocallyComplete(accepted: Accepted): Promise<boolean> {
    const giveUpAt = performance.now() + localPatienceMs;
    while (performance.now() < giveUpAt && !options.stopping()) {
      const begin = now();
      const path = `/local-receipts/${accepted.commandId}?timeoutMs=${waitMs.short}`;
      const answer = await api.call({ port: accepted.port, method: "GET", path });
      if (writtenLocal(accepted, { begin, end: now(), answer })) return true;
      if (answer.status === 404 || (answer.status === 200 && localReceiptIn(answer) === null)) return false;
      await delay(againMs);
    }
    return false;
  }

  /** @returns whether the receipt is complete */
  function writtenLocal(
    { op, region }: Accepted,
    { begin, end, answer }: Pick<Received, "begin" | "end" | "answer">,
  ): boolean {
    const entry = localReceiptEntryOf({ op, region, begin, end }, answer);
    history.write(entry);
    return entry.complete;
  }

  /** @returns whether the receipt is complete */
  function written({ op, region, begin, end, answer, receipt }: Received): boolean {
    const entry: ReceiptEntry = {
      type: "receipt",
      op,
      region,
      begin,
      end,
      complete: receipt?.complete === true,
      status: receipt?.status ?? "none",
      durability: (receipt?.signed && statementIn(receipt.signed)?.durability) || null,
      nodes: nodesIn(receipt),
      problem: answer.problem,
    };
    history.write(entry);
    return entry.complete;
  }

  return { runCommand, close: () => api.close() };
}

type Received = Readonly<{
  op: string;
  region: string;
  begin: Ns;
  end: Ns;
  answer: Answer;
  receipt: ApiReceipt | null;
}>;

/** A command that a region accepted by itself, and the operator API that answered so. */
type Accepted = Readonly<{ op: string; region: string; port: number; commandId: string }>;

/** What a command's answer says, for the history. */
export function commandEntryOf(
  sent: Pick<CommandEntry, "op" | "intent" | "region" | "commandId" | "begin" | "end">,
  { status, body, problem }: Answer,
): CommandEntry {
  const outcome = outcomeOf(status);
  const link = outcome === "done" ? (body["link"] as Link) : null;
  return { type: "command", ...sent, outcome, link, changed: body["changed"] === true, problem };
}

/** What the receipt of a region says in an answer, for the history. */
export function localReceiptEntryOf(
  sent: Pick<LocalReceiptEntry, "op" | "region" | "begin" | "end">,
  answer: Answer,
): LocalReceiptEntry {
  const receipt = localReceiptIn(answer);
  return {
    type: "local-receipt",
    ...sent,
    complete: receipt?.complete === true,
    basis: receipt === null ? null : { epoch: receipt.basis.epoch, position: receipt.basis.position },
    nodes: nodesIn(receipt),
    problem: answer.problem,
  };
}

const localReceiptIn = ({ body }: Answer): ApiLocalReceipt | null =>
  (body["receipt"] as ApiLocalReceipt | null | undefined) ?? null;

function nodesIn(receipt: Pick<ApiReceipt, "nodes"> | null): ReceiptEntry["nodes"] {
  return (receipt?.nodes ?? []).map(({ node, status, reason }) => ({ node, status, reason }));
}

function outcomeOf(status: number): CommandEntry["outcome"] {
  if (status === 200) return "done";
  if (status === 202) return "local";
  return isRefusal(status) ? "refused" : "unknown";
}

/** A definite refusal: nothing happened, and a retry would not help. */
function isRefusal(status: number): boolean {
  return status >= 400 && status < 500 && status !== 408 && status !== 429;
}

function parse(text: string): Readonly<Record<string, unknown>> {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return {};
  }
}
