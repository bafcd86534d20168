/** `cardea audit tail`: prints audit records of all nodes as they are made. */
import { setTimeout as sleep } from "node:timers/promises";
import { type AuditRecord, parseLine } from "../../audit/index.ts";
import { formatAuditLine, maskUnsafe } from "../operator/audit-line.ts";
import {
  connectOperator,
  type OperatorClient,
  OperatorRefusedError,
  OperatorUnreachableError,
} from "../operator/operator-client.ts";
import { operatorOptions, type Parsed, parse } from "../terminal/arguments.ts";
import { CannotError, type CliCommand, type Terminal, UsageError } from "../terminal/command.ts";

const retryMs = 1_000;
const lastDefault = 20;
/** Names of people that are remembered. */
const namesMax = 10_000;

/** Options that the server filters by, and the parameter of each. */
const filters = {
  user: "user",
  route: "route",
  result: "result",
  region: "region",
  node: "node",
  reason: "reason",
  kind: "kind",
  occasion: "occasion",
  session: "session",
} as const;

const filterOptions = Object.fromEntries(
  Object.keys(filters).map((name) => [name, { type: "string", multiple: true }]),
);

export const auditTail: CliCommand = {
  name: "audit tail",
  usage:
    "[--last N | --since TIME | --after CURSOR] [--user NAME] [--route ROUTE] [--result RESULT] [--region REGION] [--node NODE] [--reason REASON] [--kind KIND] [--ids] [--no-follow]",
  summary: "print the decisions of all nodes as they are made",
  help: "Prints the newest N records (default 20), or those since a time (2026-01-31T10:00:00Z, or 15m for 15 minutes ago), and then each new one until you interrupt it. A broken connection resumes where it stopped; what is gone meanwhile is named. At the end it prints the cursor for --after.\nA filter may be repeated, or have several values with commas: --result deny,unavailable. Other filters: --occasion, --session.\nPeople are shown by e-mail where they have one, with --ids by id. --json prints the records. Colours only on a terminal, and not with NO_COLOR.\n--no-follow stops at the newest record.",
  async run(args, terminal) {
    const parsed = parse(
      args,
      {
        ...operatorOptions,
        ...filterOptions,
        last: { type: "string" },
        since: { type: "string" },
        after: { type: "string" },
        ids: { type: "boolean" },
        "no-follow": { type: "boolean" },
      },
      { min: 0, max: 0 },
    );
    const tail: Tail = {
      query: queryOf(parsed),
      cursor: parsed.text("after") ?? null,
      show: createShow(parsed, terminal),
    };
    const client = await connectOperator(parsed, terminal);
    try {
      await (parsed.flag("no-follow") ? printStored(client, tail) : follow(client, tail, terminal));
    } finally {
      await client.close();
    }
    if (tail.cursor !== null) terminal.err(`resume with --after ${maskUnsafe(tail.cursor)}\n`);
    return 0;
  },
};

type Shown = Readonly<
  { record: AuditRecord; text: string } | { missed: unknown } | { names: Readonly<Record<string, string>> }
>;
type Tail = { readonly query: URLSearchParams; cursor: string | null; readonly show: (one: Shown) => void };

/** @throws UsageError */
function queryOf(parsed: Parsed): URLSearchParams {
  const query = new URLSearchParams();
  for (const [option, parameter] of Object.entries(filters)) {
    const values = parsed.all(option);
    if (values.length > 0) query.set(parameter, values.join(","));
  }
  const [last, since, after] = [parsed.text("last"), parsed.text("since"), parsed.text("after")];
  if ([last, since, after].filter((one) => one !== undefined).length > 1)
    throw new UsageError("--last, --since and --after exclude each other");
  if (since !== undefined) query.set("since", String(timeOf(since)));
  else if (after === undefined) {
    const count = Number(last ?? lastDefault);
    if (!Number.isSafeInteger(count) || count < 0 || count > 1_000)
      throw new UsageError("--last takes a number from 0 to 1000");
    query.set("last", String(count));
  }
  if (!parsed.flag("json") && !parsed.flag("ids")) query.set("names", "true");
  return query;
}

const unitMs = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

function timeOf(text: string): number {
  const [, amount, unit] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  const at =
    amount === undefined ? Date.parse(text) : Date.now() - Number(amount) * unitMs[unit as keyof typeof unitMs];
  if (!Number.isFinite(at)) throw new UsageError("--since takes a time such as 2026-01-31T10:00:00Z, or 15m, 2h or 3d");
  return at;
}

function createShow(parsed: Parsed, terminal: Terminal): Tail["show"] {
  const names = new Map<string, string>();
  const isJson = parsed.flag("json");
  const hasColours = (terminal.env["NO_COLOR"] ?? "") === "" && terminal.env["TERM"] !== "dumb";
  return (one) => {
    if ("names" in one) {
      for (const [id, name] of Object.entries(one.names)) {
        if (names.size >= namesMax) names.clear();
        names.set(id, name);
      }
      return;
    }
    if ("missed" in one) {
      terminal.err(`${missedText(one.missed)}\n`);
      return;
    }
    const columns = terminal.columns?.() ?? null;
    const line = isJson ? escapeControls(one.text) : formatAuditLine(one.record, { names, columns, hasColours });
    terminal.out(`${line}\n`);
  };
}

async function follow(client: OperatorClient, tail: Tail, terminal: Terminal): Promise<void> {
  const stop = new AbortController();
  const interrupt = (): void => stop.abort();
  process.once("SIGINT", interrupt);
  process.once("SIGTERM", interrupt);
  /** The problem of the last attempt; repetitions are not printed. */
  let reported = "";
  const onEvent = (data: string, id: string, type: string): void => {
    reported = "";
    if (type === "missed") tail.show({ missed: valueIn(data) });
    else if (type === "names") tail.show({ names: namesIn(valueIn(data)) });
    else if (type === "message") showLine(tail, data);
    if (id !== "") tail.cursor = id; // what it names has been printed
  };
  while (!stop.signal.aborted) {
    let why = "the server ended the stream";
    try {
      await client.stream(`/decisions?${tail.query}`, tail.cursor, onEvent, stop.signal);
    } catch (error) {
      if (stop.signal.aborted) break;
      const isBusy = error instanceof OperatorRefusedError && error.status === 503;
      if (error instanceof CannotError && !(error instanceof OperatorUnreachableError) && !isBusy) throw error;
      why = error instanceof CannotError ? error.message : "connection lost";
    }
    if (stop.signal.aborted) break;
    if (why !== reported) terminal.err(`${why}; trying again\n`);
    reported = why;
    await sleep(retryMs, undefined, { signal: stop.signal }).catch(() => undefined);
  }
}

/** Reads pages until none is left. */
async function printStored(client: OperatorClient, tail: Tail): Promise<void> {
  for (let isMore = true; isMore; ) {
    const query = new URLSearchParams(tail.query);
    if (tail.cursor !== null) query.set("after", tail.cursor);
    query.set("limit", "1000");
    const page = (await client.get(`/decisions?${query}`, 60_000)) as Readonly<{
      decisions: readonly Readonly<{ record: unknown }>[];
      next: string;
      more: boolean;
      missed: unknown;
      names?: Readonly<Record<string, string>>;
    }>;
    if (page.missed !== null) tail.show({ missed: page.missed });
    if (page.names !== undefined) tail.show({ names: namesIn(page.names) });
    for (const { record } of page.decisions) showLine(tail, JSON.stringify(record));
    isMore = page.more && page.next !== tail.cursor;
    tail.cursor = page.next;
  }
}

function showLine(tail: Tail, text: string): void {
  const record = parseLine(text);
  if (record !== undefined) tail.show({ record, text });
}

function valueIn(data: string): unknown {
  try {
    return JSON.parse(data);
  } catch {
    return null;
  }
}

function namesIn(value: unknown): Readonly<Record<string, string>> {
  if (typeof value !== "object" || value === null) return {};
  return Object.fromEntries(Object.entries(value).filter(([, name]) => typeof name === "string"));
}

const missedWhys: Readonly<Record<string, string>> = {
  removed: "they were removed to stay within the bound",
  cursor_unknown: "the server does not know where this reader was",
  not_stored: "the disk did not keep up",
};

function missedText(missed: unknown): string {
  const { reason, count } = (typeof missed === "object" && missed !== null ? missed : {}) as Record<string, unknown>;
  const many = typeof count === "number" ? `at least ${count} messages or records` : "an unknown number of records";
  return `MISSED  ${many} before the next line: ${missedWhys[String(reason)] ?? "they are gone"}`;
}

/** JSON text escapes the other control characters itself. */
export function escapeControls(json: string): string {
  return json.replace(/[\u007f-\u009f]/g, (one) => `\\u00${one.charCodeAt(0).toString(16)}`);
}
