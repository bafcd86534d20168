/** `cardea audit tail`: prints decisions of all nodes as they are made. */
import { setTimeout as sleep } from "node:timers/promises";
import { type AuditRecord, parseLine, recordIdOf } from "../../audit/index.ts";
import { connectOperator, OperatorUnreachableError } from "../operator/operator-client.ts";
import { operatorOptions, parse } from "../terminal/arguments.ts";
import { CannotError, type CliCommand, UsageError } from "../terminal/command.ts";
import { maskControlCharacters } from "../terminal/print.ts";

const retryMs = 1_000;

export const auditTail: CliCommand = {
  name: "audit tail",
  usage: "[--last N] [--no-follow]",
  summary: "print the decisions of all nodes as they are made",
  help: "Prints the newest N (default 20) and then each new decision until you interrupt it. A broken connection resumes where it stopped.\n--no-follow stops after the newest N.",
  async run(args, terminal) {
    const parsed = parse(
      args,
      { ...operatorOptions, last: { type: "string" }, "no-follow": { type: "boolean" } },
      { min: 0, max: 0 },
    );
    const last = Number(parsed.text("last") ?? 20);
    if (!Number.isSafeInteger(last) || last < 0 || last > 1_000)
      throw new UsageError("--last takes a number from 0 to 1000");
    const client = await connectOperator(parsed, terminal);
    const stop = new AbortController();
    process.once("SIGINT", () => stop.abort());
    process.once("SIGTERM", () => stop.abort());
    let cursor: string | null = null;
    /** The problem of the last attempt; repetitions are not printed. */
    let reported = "";
    const show = (data: string, id: string): void => {
      if (id !== "") cursor = id; // an event about the stream itself has none
      const record = parseLine(data);
      if (record !== undefined)
        terminal.out(parsed.flag("json") ? `${escapeControls(data)}\n` : `${auditLineOf(record)}\n`);
    };
    try {
      while (!stop.signal.aborted) {
        try {
          const follow = parsed.flag("no-follow")
            ? AbortSignal.any([stop.signal, AbortSignal.timeout(1_500)])
            : stop.signal;
          await client.stream(`/decisions?last=${last}`, cursor, show, follow);
        } catch (error) {
          if (stop.signal.aborted) break;
          const isUnreachable = error instanceof OperatorUnreachableError;
          if (error instanceof CannotError && (parsed.flag("no-follow") || !isUnreachable)) throw error;
          if (parsed.flag("no-follow")) break;
          const why = isUnreachable ? error.message : "connection lost";
          if (why !== reported) terminal.err(`${why}; trying again\n`);
          reported = why;
        }
        await sleep(retryMs, undefined, { signal: stop.signal }).catch(() => undefined);
      }
      return 0;
    } finally {
      await client.close();
    }
  },
};

/** JSON text escapes the other control characters itself. */
export function escapeControls(json: string): string {
  return json.replace(/[\u007f-\u009f]/g, (one) => `\\u00${one.charCodeAt(0).toString(16)}`);
}

/** One line for a terminal, without control characters. */
export function auditLineOf(record: AuditRecord): string {
  return maskControlCharacters(lineOf(record));
}

function lineOf(record: AuditRecord): string {
  const at = new Date(record.at).toISOString();
  if (record.kind === "gap" && record.ended !== undefined) return `${at}  GAP  ${record.node}: ${record.why}`;
  if (record.kind === "gap" && record.atLeast !== undefined)
    return `${at}  GAP  ${record.node}: at least ${record.atLeast} of the records ${record.first} to ${record.last} were lost (${record.why})`;
  if (record.kind === "gap")
    return `${at}  GAP  ${record.node}: records ${record.first} to ${record.last} were lost (${record.why})`;
  if (record.kind !== "decision") return commandLineOf(record, at);
  const { closed } = record;
  if (closed !== undefined)
    return `${at}  CLOSED      ${record.status}  ${record.node}  ${record.userId ?? "anonymous"}  ${record.method} ${record.host}${record.path}  [${closed.cause}]  after ${closed.durationMs} ms, ${closed.bytes} bytes sent, ${closed.bytesReceived} received  ${recordIdOf(record)}`;
  const who = record.userId ?? "anonymous";
  const what = `${record.method} ${record.host}${record.path}`;
  return `${at}  ${record.result.padEnd(11)} ${record.status}  ${record.node}  ${who}  ${what}  [${record.reasons.join(", ")}]  @${record.applied.epoch}.${record.applied.position}  ${recordIdOf(record)}`;
}

function commandLineOf(record: Exclude<AuditRecord, { kind: "decision" | "gap" }>, at: string): string {
  const { kind, command, outcome, code, node, actor, targets, targetsMore, reason, link } = record;
  const named = `${targets.join(" ")}${targetsMore > 0 ? ` and ${targetsMore} more` : ""}`;
  const why = `${code === null ? "" : `  (${code})`}${reason === null ? "" : `  [${reason}]`}`;
  const where = link === null ? "" : `  @${link.epoch}.${link.position}`;
  const title = kind === "operator" ? "OPERATOR" : command === "createSession" ? "SIGN-IN" : "SIGN-OUT";
  return `${at}  ${title.padEnd(11)} ${outcome}  ${node}  ${actor}  ${command} ${named}${why}${where}  ${recordIdOf(record)}`;
}
