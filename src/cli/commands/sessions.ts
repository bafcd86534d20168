/** `cardea sessions list|show|revoke` */
import type { LocalChangeAnswer, RevokedManyAnswer, SessionView } from "../../console/index.ts";
import { formatLink } from "../../events/index.ts";
import { listOptions, readPages } from "../operator/list-pages.ts";
import { isLocal, printLocal } from "../operator/local-change.ts";
import { connectOperator, inPath, type OperatorClient, OperatorRefusedError } from "../operator/operator-client.ts";
import { printPreviewOf } from "../operator/preview-text.ts";
import { checkRegion, postChange, printOutcome, runChange } from "../operator/run-change.ts";
import { operatorOptions, type Parsed, parse, waitOptions } from "../terminal/arguments.ts";
import { CannotError, type CliCommand, type ExitCode, type Terminal, UsageError } from "../terminal/command.ts";
import { formatTable } from "../terminal/print.ts";
import { readText } from "../terminal/read-text.ts";

export const sessionsList: CliCommand = {
  name: "sessions list",
  usage:
    "[--user NAME] [--search TEXT] [--group GROUP] [--idp ID] [--kind sign-in|token] [--issued-before TIME] [--ends-before TIME] [--status active|revoked|expired|all] [--sort ORDER] [--limit 1000]",
  summary: "list sessions",
  help: `NAME is a user id, an identity provider's subject, or an e-mail address. TEXT is a part of a person's name, e-mail, subject or id, or a whole
session id. ORDER is issued (default), expires or person; descending: --sort=-issued. LAST SEEN, IDLE AT and EXPIRES: the last known use
and who knows it, and when the session ends because it is not used (session_idle_lifetime) and at the latest.`,
  async run(args, terminal) {
    const options = { ...operatorOptions, ...listOptions, ...listFilters, status: { type: "string" } } as const;
    const parsed = parse(args, options, { min: 0, max: 0 });
    const client = await connectOperator(parsed, terminal);
    try {
      const query = new URLSearchParams({ status: parsed.text("status") ?? "active" });
      for (const [option, name] of Object.entries(filterNames)) {
        const value = parsed.text(option);
        if (value !== undefined) query.set(name, option.endsWith("-before") ? isoTime(value, `--${option}`) : value);
      }
      const sessions = await readPages<SessionView>(client, parsed, { path: "/sessions", query, key: "sessions" });
      if (parsed.flag("json")) terminal.out(`${JSON.stringify(sessions)}\n`);
      else terminal.out(sessions.length === 0 ? "no sessions\n" : sessionTable(sessions));
      return 0;
    } finally {
      await client.close();
    }
  },
};

export const sessionsShow: CliCommand = {
  name: "sessions show",
  usage: "SESSION",
  summary: "show one session",
  help: "SESSION is a session id. A session that has ended is known until it would have expired.",
  async run(args, terminal) {
    const parsed = parse(args, operatorOptions, { min: 1, max: 1 });
    const client = await connectOperator(parsed, terminal);
    try {
      const path = `/sessions/${encodeURIComponent(parsed.positionals[0] ?? "")}`;
      const { session } = (await client.get(path)) as { session: SessionView };
      terminal.out(parsed.flag("json") ? `${JSON.stringify(session)}\n` : sessionTable([session]));
      return 0;
    } finally {
      await client.close();
    }
  },
};

const filterNames = {
  user: "user",
  group: "group",
  idp: "idpId",
  kind: "kind",
  "issued-before": "issuedBefore",
  "ends-before": "endsBefore",
} as const;
const listFilters = {
  user: { type: "string" },
  group: { type: "string" },
  idp: { type: "string" },
  kind: { type: "string" },
  "issued-before": { type: "string" },
  "ends-before": { type: "string" },
} as const;

function sessionTable(sessions: readonly SessionView[]): string {
  const rows = sessions.map((s) => [
    s.id,
    s.email || s.userId || "",
    s.status,
    s.issuedAt ?? "",
    lastSeenText(s, Date.now()),
    s.idleAt ?? "",
    s.expiresAt ?? "",
    s.reason === null ? "" : `ended: ${s.reason}`,
  ]);
  return formatTable(["SESSION", "USER", "STATUS", "SIGNED IN", "LAST SEEN", "IDLE AT", "EXPIRES", ""], rows);
}

const sources = { "sign-in": "sign-in", log: "log", "this-node": "this node" } as const;

/** When a session was last used, its age, and who knows it; empty: it is not tracked. */
export function lastSeenText(
  { lastSeenAt, lastSeenBy }: Pick<SessionView, "lastSeenAt" | "lastSeenBy">,
  now: number,
): string {
  if (lastSeenAt === null || lastSeenBy === null) return "";
  return `${lastSeenAt} (${ageText(now - Date.parse(lastSeenAt))} ago, ${sources[lastSeenBy]})`;
}

function ageText(ms: number): string {
  const minutes = Math.floor(Math.max(0, ms) / 60_000);
  if (minutes === 0) return `${Math.floor(Math.max(0, ms) / 1_000)}s`;
  return minutes < 60 ? `${minutes}m` : `${Math.floor(minutes / 60)}h${minutes % 60}m`;
}

/** The most sessions in one request of the API. The receipt of the last change covers the earlier ones. */
const batchSessionsMax = 10_000;
const roundsMax = 1_000;

export const sessionsRevoke: CliCommand = {
  name: "sessions revoke",
  usage:
    "<id>… | --user NAME | --from FILE | [--group GROUP] [--idp ID] [--issued-before TIME] | --all  [--dry-run] [--wait [--region [NAME]] [--timeout 10s]] [--output FILE]",
  summary: "revoke sessions on every node: single ones, all of a user, or by a filter",
  help: `--user revokes every session of the user in one event. --from reads session ids, one per line (- for standard input). --group, --idp and
--issued-before (ISO 8601) together select among the live sessions; --all selects every live session.
--dry-run changes nothing, and prints the people, sessions and routes that it would concern.
--wait prints each enforcement node once it has applied the change or is fenced, then the receipt. A node counts as applied only after it has
closed the open connections of these sessions. --json prints a line for each change of the receipt; the last one is signed. --output writes
the signed receipt (see cardea receipts verify). With --wait or --output, exit 0 only if the receipt is complete.
A batch has up to 10,000 sessions and one receipt. With several batches the last receipt covers them all; --output writes one per line.`,
  async run(args, terminal) {
    const parsed = parse(args, { ...operatorOptions, ...waitOptions, ...selectionOptions }, { min: 0, max: 1_000 });
    const ids = await selectedIds(parsed);
    const user = parsed.text("user");
    const filter = filterOf(parsed);
    if ([ids, user, filter].filter((given) => given !== undefined).length !== 1)
      throw new UsageError(
        "name session ids, --user, --from, or a filter (--group, --idp, --issued-before, --all), and only one of them",
      );
    const client = await connectOperator(parsed, terminal);
    try {
      if (parsed.flag("dry-run"))
        return await printPreviewOf(
          client,
          parsed,
          terminal,
          user === undefined
            ? { type: "revokeSessions", ...(ids === undefined ? { filter } : { sessionIds: ids }) }
            : { type: "revokeUserSessions", user },
        );
      const [id, another] = ids ?? [];
      if (user === undefined && (id === undefined || another !== undefined))
        return await revokeMany(client, parsed, terminal, { ids, filter });
      return await runChange(client, parsed, terminal, {
        path:
          id === undefined
            ? `/users/${inPath(user ?? "")}/sessions/revoke`
            : `/sessions/${encodeURIComponent(id)}/revoke`,
        body: {},
        done: id === undefined ? `all sessions of ${user} revoked` : `session ${id} revoked`,
        unchanged: "nothing to revoke: already revoked",
      });
    } finally {
      await client.close();
    }
  },
};

const selectionOptions = {
  user: { type: "string" },
  from: { type: "string" },
  group: { type: "string" },
  idp: { type: "string" },
  "issued-before": { type: "string" },
  all: { type: "boolean" },
  "dry-run": { type: "boolean" },
} as const;

type Selection = Readonly<{ ids: readonly string[] | undefined; filter: object | undefined }>;

async function selectedIds(parsed: Parsed): Promise<readonly string[] | undefined> {
  const from = parsed.text("from");
  if (from === undefined) return parsed.positionals.length === 0 ? undefined : parsed.positionals;
  if (parsed.positionals.length > 0) throw new UsageError("name session ids or --from, not both");
  const ids = (await readText(from)).split(/\s+/).filter((id) => id !== "");
  if (ids.length === 0) throw new UsageError(`${from} names no session`);
  return [...new Set(ids)];
}

function filterOf(parsed: Parsed): object | undefined {
  const [group, idpId, issuedBefore] = [parsed.text("group"), parsed.text("idp"), parsed.text("issued-before")];
  const all = parsed.flag("all");
  if (group === undefined && idpId === undefined && issuedBefore === undefined && !all) return undefined;
  return {
    ...(group === undefined ? {} : { group }),
    ...(idpId === undefined ? {} : { idpId }),
    ...(issuedBefore === undefined ? {} : { issuedBefore: isoTime(issuedBefore, "--issued-before") }),
    ...(all ? { all } : {}),
  };
}

function isoTime(text: string, option: string): string {
  const at = Date.parse(text);
  if (Number.isNaN(at)) throw new UsageError(`${option} ${text}: write a time such as 2026-11-25T04:00:00Z`);
  return new Date(at).toISOString();
}

async function revokeMany(
  client: OperatorClient,
  parsed: Parsed,
  terminal: Terminal,
  { ids, filter }: Selection,
): Promise<ExitCode> {
  await checkRegion(client, parsed);
  const totals: Totals = { named: 0, unknown: 0, unknownIds: [] };
  let last: RevokedManyAnswer | undefined;
  const changes: RevokedManyAnswer[] = [];
  let refused: OperatorRefusedError | undefined;
  let local = false;
  const chunks = ids === undefined ? [] : chunksOf(ids, batchSessionsMax);
  for (let round = 0; round < Math.max(1, ids === undefined ? roundsMax : chunks.length); round++) {
    const chunk = chunks[round];
    const body = chunk === undefined ? { filter } : { sessionIds: chunk };
    try {
      const answer = (await postChange(client, "/sessions/revoke", body, 60_000)) as
        | RevokedManyAnswer
        | LocalChangeAnswer;
      if (isLocal(answer)) {
        await printLocal(client, parsed, terminal, answer);
        local = true;
        if (ids === undefined) break; // a filter would select the same sessions again
        continue;
      }
      last = answer;
      addToTotals(totals, last.named, last.unknown);
      if (last.changed) changes.push(last);
    } catch (error) {
      if (!(error instanceof OperatorRefusedError) || error.status !== 404 || chunk === undefined)
        throw withProgress(error, totals, last);
      refused = error; // none of this chunk is known; other chunks may be
      addToTotals(totals, chunk.length, chunk);
    }
    if (ids === undefined && last?.more !== true) break;
  }
  if (local) return 1;
  if (last === undefined) throw refused ?? new CannotError("no request was sent");
  const unknown = totals.unknown === 0 ? "" : `; unknown here: ${totals.unknownIds.slice(0, 3).join(", ")}`;
  const changed = changes.length > 0;
  const said = changed ? `${totals.named} sessions revoked${unknown}` : `nothing to revoke${unknown}`;
  return printOutcome(client, parsed, terminal, { ...last, changed }, said, changed ? changes : [last]);
}

type Totals = { named: number; unknown: number; unknownIds: readonly string[] };

function addToTotals(totals: Totals, named: number, unknown: readonly string[]): void {
  totals.named += named;
  totals.unknown += unknown.length;
  totals.unknownIds = [...totals.unknownIds, ...unknown].slice(0, 3);
}

/** Adds to a failure how many sessions earlier batches have already revoked. */
function withProgress(error: unknown, { named }: Totals, last: RevokedManyAnswer | undefined): unknown {
  if (last === undefined) return error;
  const why = error instanceof Error ? error.message : String(error);
  const done = `${named} sessions are already revoked (receipt: cardea receipt ${formatLink(last.link)} --wait)`;
  return new CannotError(`${why}; ${done}: run the command again for the others`, { cause: error });
}

function chunksOf<T>(all: readonly T[], size: number): readonly (readonly T[])[] {
  return Array.from({ length: Math.ceil(all.length / size) }, (_, at) => all.slice(at * size, (at + 1) * size));
}
