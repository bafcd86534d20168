/** `cardea audit explain`: explains a past decision from its record and the events of the log. */
import {
  type DecisionEntry,
  type ExplainedFact,
  hasRecordId,
  parseLine,
  type RecordRefusal,
  recordIdOf,
} from "../../audit/index.ts";
import type { ExplainAnswer } from "../../console/index.ts";
import { formatLink } from "../../events/index.ts";
import { readLocalConfig } from "../build/local-config.ts";
import { type ReadingSource, type RecordLocation, recordSource } from "../operator/audit-records.ts";
import { connectOperator, type OperatorClient, OperatorRefusedError } from "../operator/operator-client.ts";
import { findInPlace, placesOf, type RecordPlace, recordPlaces } from "../operator/record-places.ts";
import { operatorOptions, type Parsed, parse } from "../terminal/arguments.ts";
import { type CliCommand, type ExitCode, type Terminal, UsageError } from "../terminal/command.ts";
import { formatTable, maskControlCharacters } from "../terminal/print.ts";

/** The server reads the log up to the decision, within 90 s. */
const explainMs = 120_000;
/** For records from a file, whose signatures are not checked. */
const noSecrets = { sharedSecret: new Uint8Array(), sharedSecretPrevious: null };

export const auditExplain: CliCommand = {
  name: "audit explain",
  usage: "ID [--input FILE|-] [--kept nats|postgres|files|spool|s3] [--json]",
  summary: "explain a past decision, and make it again: its rule, criteria and facts, and the events that set them",
  help: `ID is a record id (\`<boot>:<number>\`, as \`audit tail\` prints it) or a request id, as the error page of a denial shows it. If a request has
several decisions, the newest is explained and the others are listed. The record comes from the newest ones that the server holds, else
from where -c cardea.yaml stores them: the stream in NATS, Postgres, audit files with their rotated files, the spool of this machine, object
storage. They are searched in this order; --kept chooses one. Or from --input.
The events come from the log. The server then decides the request again, from the facts at the position of the record and the
configuration that it names (docs/audit-explain.md), also where retention has dropped the events, as long as the archive of the brokers
has them.
Exit 0: explained; 1: no such decision, the log contradicts the record, or the decision made again differs; 2: usage error;
3: the server did not answer, or the decision could not be made again.`,
  async run(args, terminal) {
    const parsed = parse(
      args,
      { ...operatorOptions, input: { type: "string" }, kept: { type: "string" } },
      { min: 1, max: 1 },
    );
    const [id = ""] = parsed.positionals;
    const client = await connectOperator(parsed, terminal);
    try {
      const answer = await explainById(id, { parsed, terminal, client });
      if (answer === undefined) {
        terminal.err(`there is no decision ${maskControlCharacters(id)} in the records that were searched\n`);
        return 1;
      }
      terminal.out(parsed.flag("json") ? `${JSON.stringify(answer)}\n` : textOf(answer));
      return exitCodeOf(answer);
    } finally {
      await client.close();
    }
  },
};

export function exitCodeOf({ broken, again, record }: Pick<ExplainAnswer, "broken" | "again" | "record">): ExitCode {
  if (broken.length > 0 || again.type === "different") return 1;
  return again.type === "same" || record.occasion === "closed" ? 0 : 3;
}

type ExplainContext = Readonly<{ parsed: Parsed; terminal: Terminal; client: OperatorClient }>;

async function explainById(id: string, context: ExplainContext): Promise<ExplainAnswer | undefined> {
  const { parsed, client } = context;
  if (parsed.text("input") === undefined && parsed.text("kept") === undefined) {
    try {
      return (await client.post("/explain", { id }, explainMs)) as ExplainAnswer;
    } catch (error) {
      if (!(error instanceof OperatorRefusedError && error.status === 404)) throw error;
    }
    if (parsed.text("config") === undefined) return undefined;
  }
  const found = await findStored(id, context);
  const [newest, ...others] = found.toSorted((a, b) => b.at - a.at || b.seq - a.seq);
  if (newest === undefined) return undefined;
  const answer = (await client.post("/explain", { record: newest }, explainMs)) as ExplainAnswer;
  return { ...answer, others: others.map(recordIdOf) };
}

/** In `--input`, else in each place of the configuration until one has the record. */
async function findStored(id: string, { parsed, terminal }: ExplainContext): Promise<readonly DecisionEntry[]> {
  const input = parsed.text("input");
  const kept = parsePlace(parsed.text("kept"));
  const path = parsed.text("config");
  const noLocation: RecordLocation = {
    audit: { files: [], nats: false },
    nats: null,
    broker: { clusterName: "" },
    ...noSecrets,
  };
  if (input !== undefined)
    return (await findDecisions(id, recordSource(noLocation, { input, kept: undefined, from: 0 }))).found;
  if (path === undefined) throw new UsageError("--kept needs -c, which says where records are stored");
  const config = readLocalConfig(path, terminal);
  const places = placesOf(config);
  if (kept !== undefined && !places.includes(kept))
    throw new UsageError(`${path} stores no records in ${kept}, or only in OCSF, from which none can be read back`);
  for (const place of kept === undefined ? places : [kept]) {
    try {
      const found = await findIn(id, place, { config, terminal });
      if (found.length > 0) return found;
    } catch (error) {
      if (kept !== undefined || !(error instanceof Error)) throw error;
      terminal.err(`not searched: ${place}: ${maskControlCharacters(error.message)}\n`);
    }
  }
  return [];
}

async function findIn(
  id: string,
  place: RecordPlace,
  { config, terminal }: Readonly<{ config: ReturnType<typeof readLocalConfig>; terminal: Terminal }>,
): Promise<readonly DecisionEntry[]> {
  if (place !== "nats") return findInPlace(id, place, config);
  const source = recordSource(config, { input: undefined, kept: place, from: 0 });
  const { found, refused } = await findDecisions(id, source);
  if (refused !== "") terminal.err(`refused messages of the audit stream were not searched: ${refused}\n`);
  return found;
}

function parsePlace(text: string | undefined): RecordPlace | undefined {
  const place = recordPlaces.find((one) => one === text);
  if (text !== undefined && place === undefined)
    throw new UsageError(`--kept ${text}: write ${recordPlaces.join(", ")}`);
  return place;
}

/** @returns `refused`: how many messages of the audit stream were refused, by reason; empty: none */
export async function findDecisions(
  id: string,
  source: ReadingSource,
): Promise<Readonly<{ found: readonly DecisionEntry[]; refused: string }>> {
  const found: DecisionEntry[] = [];
  const refused = new Map<RecordRefusal, number>();
  for await (const read of source.read()) {
    if ("refused" in read) refused.set(read.refused, (refused.get(read.refused) ?? 0) + 1);
    const record = "value" in read ? parseLine(JSON.stringify(read.value)) : undefined;
    if (record !== undefined && hasRecordId(record, id)) found.push(record);
  }
  return { found, refused: [...refused].map(([reason, count]) => `${count} ${reason}`).join(", ") };
}

const occasions = {
  request: "",
  redecision: ", decided again while it was open",
  closed: ", the end of its stream; the result is that of its last decision",
} as const;

/** What became of the decision when it was made again. An older server does not say. */
function againText({ again, source }: Pick<ExplainAnswer, "again" | "source">): readonly string[] {
  if (again === undefined) return ["made again: no; the server is of an older version"];
  const from =
    source === null
      ? ""
      : ` from ${source.snapshot === 0 ? "the whole log" : `the snapshot at ${source.snapshot}`}${source.erased ? "; the person was erased since" : ""}`;
  switch (again.type) {
    case "same":
      return again.uncompared.length === 0
        ? [`made again${from}: the same result, reasons and rule`]
        : [`made again${from}: the same result`, ...again.uncompared.map((what) => `  not compared: ${what}`)];
    case "different":
      return [
        `made again${from}: DIFFERENT`,
        ...again.differences.map(
          ({ field, recorded, derived }) => `  DIFFERENT ${field}: recorded ${recorded}; made again ${derived}`,
        ),
      ];
    default:
      return [`made again${from}: not possible: ${again.why}`];
  }
}

/** What would be decided now. An older server does not say. */
function nowText(now: ExplainAnswer["now"] | undefined): readonly string[] {
  if (now === undefined) return [];
  if (now.type === "open") return [`now: not known: ${now.why}`];
  const rule = now.rule === null ? "" : `, by ${now.rule}`;
  return [`now: ${now.result}${rule}${now.reasons.length === 0 ? "" : ` [${now.reasons.join(", ")}]`}`];
}

/** The line of the rule in the policy, as the stored configuration has it. */
function ruleLineText(route: ExplainAnswer["route"] | undefined): readonly string[] {
  const policy = route?.policy;
  if (policy === undefined || policy.line === null) return [];
  const shown = policy.text.split("\n").slice(policy.line - policy.firstLine, policy.line - policy.firstLine + 4);
  return [
    `  line ${policy.line} of ${policy.lines} of the policy of ${route?.name || route?.id || ""}:`,
    ...shown.map((line) => `    ${line}`),
  ];
}

export function textOf(answer: ExplainAnswer): string {
  const { record, facts, broken, open, others, again, source } = answer;
  const { trace } = record;
  const who = record.userId === null ? "not signed in" : `user ${record.userId}`;
  const lines = [
    `${new Date(record.at).toISOString()}  ${record.result} ${record.status}  ${record.method} ${record.host}${record.path}  ${who}`,
    `request ${record.requestId}${occasions[record.occasion]}, route ${record.routeId ?? "(none)"}, node ${record.node}`,
    `decided from ${formatLink(record.applied)} by configuration ${record.configHash} (cardea config show ${record.configHash.slice(0, 12)})`,
    `reasons: ${record.reasons.join(", ") || "none"}`,
  ];
  if (record.closed !== undefined) lines.push(`closed: ${record.closed.cause}`);
  if (trace === undefined)
    lines.push(
      record.rule === undefined
        ? "rule: not recorded (permits record it only with audit_trace: all)"
        : `rule: ${record.rule} (its criteria and facts are recorded only with audit_trace: all)`,
    );
  else {
    lines.push(`rule: ${trace.rule ?? "no rule allows the request"}`);
    for (const { rule, met, criteriaMet, criteriaUnmet, criteriaMore } of trace.rules) {
      const criteria = [...criteriaMet.map((name) => `+${name}`), ...criteriaUnmet.map((name) => `-${name}`)];
      lines.push(
        `  ${rule}: ${met ? "met" : "not met"}  ${criteria.join(" ")}${criteriaMore > 0 ? ` and ${criteriaMore} more` : ""}`,
      );
    }
    if (trace.more > 0) lines.push(`  and ${trace.more} more rules`);
  }
  const { shadow } = record;
  if (shadow !== undefined)
    lines.push(`shadow policy: ${shadow.result} ${shadow.status} [${shadow.reasons.join(", ")}]`);
  lines.push(...ruleLineText(answer.route), ...againText({ again, source }), ...nowText(answer.now));
  const rows = facts.map(rowOf);
  const text = [
    ...lines.map((line) => `${maskControlCharacters(line)}\n`),
    formatTable(["FACT", "USED BY", "EVENT", "WHEN", "WHO", "CAUSE", "WHAT"], rows),
    ...open.map((line) => `unknown: ${maskControlCharacters(line)}\n`),
    ...broken.map((line) => `BROKEN: ${maskControlCharacters(line)}\n`),
    ...(others.length === 0
      ? []
      : [maskControlCharacters(`other decisions about this request: ${others.join(", ")}`), "\n"]),
  ];
  return text.join("");
}

function rowOf({ fact, criteria, member, until, reason, position, exact, event }: ExplainedFact): readonly string[] {
  const end = until === undefined ? "" : `, added until ${new Date(until).toISOString()}: ${reason ?? ""}`;
  const name = member === undefined ? fact : `${fact} (${member ? "member" : "not a member"}${end})`;
  const at = position === null ? "" : position === 0 ? "none" : exact ? String(position) : `≤ ${position}`;
  if (event === null) return [name, criteria.join(" "), at, "", "", "", ""];
  const when = new Date(event.at).toISOString();
  return [
    name,
    criteria.join(" "),
    String(event.position),
    when,
    event.actor,
    event.cause ?? "",
    `${event.type}: ${event.says}`,
  ];
}
