/**
 * Operator client: uses the operator API as an operator does, and records every request and response.
 *
 * A command is sent with one command id until the answer is definite or patience ends; then its receipt is requested
 * until it is complete or patience ends. An unknown outcome is recorded as unknown.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { Pool } from "undici";
import { mintOperatorToken, operatorApiPrefix } from "../src/console/index.ts";
import { formatLink, type Link } from "../src/events/index.ts";
import { statementIn } from "../src/replication/wire/index.ts";
import type { CommandEntry, Intent, ReceiptEntry } from "./history.ts";
import type { HistoryFile } from "./history-file.ts";
import type { Random } from "./random.ts";
import type { RunClock } from "./run-clock.ts";
import { cluster } from "./world.ts";

export type CommandRun = Readonly<{
  op: string;
  outcome: "done" | "refused" | "unknown";
  link: Link | null;
  complete: boolean;
}>;
export type OperatorClient = Readonly<{
  runCommand(intent: Intent, path: string, body: object): Promise<CommandRun>;
  close(): Promise<void>;
}>;

export type OperatorClientOptions = Readonly<{
  authenticate: Readonly<{ port: number; host: string }>;
  secret: Uint8Array;
  now: RunClock;
  history: HistoryFile;
  stopping: () => boolean;
  random: Random;
}>;

const patienceMs = 40_000;
/** The longest wait for a receipt. Often too short for a paused node, so that incomplete receipts occur. */
const waitMs = { short: 700, long: 10_000 };
const againMs = 200;
const answerMs = 25_000;

type Receipt = Readonly<{
  status: "complete" | "incomplete" | "lost";
  complete: boolean;
  signed?: string;
  nodes: readonly Readonly<{ node: string; status: string; reason: string }>[];
}>;
type Answer = Readonly<{ status: number; body: Readonly<Record<string, unknown>>; problem: string }>;

export async function createOperatorClient(options: OperatorClientOptions): Promise<OperatorClient> {
  const { now, history, authenticate } = options;
  const pool = new Pool(`http://127.0.0.1:${authenticate.port}`, { connections: 24, headersTimeout: answerMs });
  const nowS = Math.floor(Date.now() / 1_000);
  const authorization = `Bearer ${await mintOperatorToken({ secret: options.secret, cluster, name: "chaos", tokenId: randomUUID(), nowS, ttlS: 3_600 })}`;
  let operations = 0;
  const someWait = (): number => (options.random.next() < 0.5 ? waitMs.short : waitMs.long);

  async function send(method: "GET" | "POST", path: string, body?: object): Promise<Answer> {
    try {
      const response = await pool.request({
        method,
        path: `${operatorApiPrefix}${path}`,
        headers: { host: authenticate.host, authorization, ...(body && { "content-type": "application/json" }) },
        ...(body !== undefined && { body: JSON.stringify(body) }),
      });
      const text = await response.body.text();
      const problem = response.statusCode === 200 ? "" : `${response.statusCode} ${text.slice(0, 200)}`;
      return { status: response.statusCode, body: parse(text), problem };
    } catch (error) {
      return { status: 0, body: {}, problem: String(error) };
    }
  }

  async function runCommand(intent: Intent, path: string, body: object): Promise<CommandRun> {
    operations += 1;
    const op = `op-${operations}`;
    const commandId = randomUUID();
    const giveUpAt = performance.now() + patienceMs;
    for (;;) {
      const begin = now();
      const answer = await send("POST", path, { ...body, commandId, wait: "all", timeoutMs: someWait() });
      const end = now();
      const outcome = answer.status === 200 ? "done" : isRefusal(answer.status) ? "refused" : "unknown";
      const link = outcome === "done" ? (answer.body["link"] as Link) : null;
      const changed = answer.body["changed"] === true;
      const entry: CommandEntry = {
        type: "command",
        op,
        intent,
        commandId,
        begin,
        end,
        outcome,
        link,
        changed,
        problem: answer.problem,
      };
      history.write(entry);
      if (link !== null) {
        const complete =
          written(op, begin, end, answer, answer.body["receipt"] as Receipt | null) ||
          (await untilComplete(op, link, giveUpAt));
        return { op, outcome, link, complete };
      }
      if (outcome === "refused" || performance.now() > giveUpAt || options.stopping())
        return { op, outcome, link, complete: false };
      await delay(againMs);
    }
  }

  async function untilComplete(op: string, link: Link, giveUpAt: number): Promise<boolean> {
    while (performance.now() < giveUpAt && !options.stopping()) {
      const begin = now();
      const answer = await send("GET", `/receipts/link:${formatLink(link)}?wait=all&timeout=${someWait()}`);
      const receipt = answer.status === 200 ? (answer.body as unknown as Receipt) : null;
      if (written(op, begin, now(), answer, receipt)) return true;
      if (receipt?.status === "lost") return false;
      await delay(againMs);
    }
    return false;
  }

  /** @returns whether the receipt is complete */
  function written(op: string, begin: number, end: number, answer: Answer, receipt: Receipt | null): boolean {
    const entry: ReceiptEntry = {
      type: "receipt",
      op,
      begin,
      end,
      complete: receipt?.complete === true,
      status: receipt?.status ?? "none",
      durability: (receipt?.signed && statementIn(receipt.signed)?.durability) || null,
      nodes: (receipt?.nodes ?? []).map(({ node, status, reason }) => ({ node, status, reason })),
      problem: answer.problem,
    };
    history.write(entry);
    return entry.complete;
  }

  return { runCommand, close: () => pool.destroy() };
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
