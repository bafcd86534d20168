/**
 * `cardea receipt`, `cardea receipts list|verify|keys`: which nodes have applied a change, and if a receipt is genuine.
 */
import { createLocalFetch } from "../../auth/index.ts";
import type { Config } from "../../config/index.ts";
import type { ListedReceipt } from "../../console/index.ts";
import { parseCommandId, parseLink } from "../../events/index.ts";
import type { Receipt } from "../../replication/index.ts";
import {
  type CheckedLocalReceipt,
  type CheckedReceipt,
  checkLocalReceipt,
  checkReceipt,
  digestOfIds,
  isLocalReceipt,
  parseReceiptKeys,
  type ReceiptKeys,
  type ReceiptStatement,
  receiptKeys,
  type StatedChange,
} from "../../replication/wire/index.ts";
import { readLocalConfig } from "../build/local-config.ts";
import { describeConnectionProblem } from "../operator/connection-problem.ts";
import { localStatementText } from "../operator/local-change.ts";
import { authorityOf, connectOperator } from "../operator/operator-client.ts";
import { checkRegion, printLastKnown, saveReceipts, waitedFor } from "../operator/run-change.ts";
import { showProgress, watchReceipt } from "../operator/watch-receipt.ts";
import { operatorOptions, type Parsed, parse, parseWait, waitOptions } from "../terminal/arguments.ts";
import { CannotError, type CliCommand, type Terminal, UsageError } from "../terminal/command.ts";
import { formatTable, promiseIn, receiptText, statementText } from "../terminal/print.ts";
import { readText } from "../terminal/read-text.ts";
import { writeWhole } from "../terminal/text-output.ts";
import { parseTime } from "../terminal/time-box.ts";

export const receiptShow: CliCommand = {
  name: "receipt",
  usage: "<command id | link> [--wait [--region [NAME]] [--timeout 10s]] [--output FILE]",
  summary: "show which nodes have applied a change",
  help: `Name the change by its command id or its link (epoch.position.hash). A position alone does not identify it. --wait prints each node as it
applies the change. --json prints a line for each change of the receipt; the last one is signed. --output writes the signed receipt, which
cardea receipts verify checks on any machine. Exit 0 only if the receipt is complete. A server whose region is cut off from the home region
has no receipt: it prints what that region knows, which proves nothing; exit 3.`,
  async run(args, terminal) {
    const parsed = parse(args, { ...operatorOptions, ...waitOptions }, { min: 1, max: 1 });
    const target = targetOf(parsed.positionals[0] ?? "");
    const client = await connectOperator(parsed, terminal);
    try {
      await checkRegion(client, parsed);
      const json = parsed.flag("json");
      const progress = showProgress(terminal);
      const line = (one: Receipt): string => `${JSON.stringify(one)}\n`;
      const receipt = await watchReceipt(client, {
        target,
        ...waitedFor(parsed),
        timeoutMs: parsed.flag("wait") ? parseWait(parsed.text("timeout"), 10_000) : 0,
        onProgress: json ? (soFar) => terminal.out(line(soFar)) : progress.show,
      }).catch((error: unknown) => {
        progress.clear();
        printLastKnown(error, parsed, terminal);
        throw error;
      });
      progress.clear();
      const path = parsed.text("output");
      if (path !== undefined) await saveReceipts([receipt], path);
      terminal.out(json ? line(receipt) : receiptText(receipt, promiseIn(receipt)));
      return receipt.complete ? 0 : 1;
    } finally {
      await client.close();
    }
  },
};

export const receiptsList: CliCommand = {
  name: "receipts list",
  usage: "[--since TIME] [--limit 25] [--json]",
  summary: "changes that took access away, newest first, and what their receipts say now",
  help: "--since: a time with its zone; default: the last 24 hours. AFTER is the time from the record to the last confirmation, by the leader's clock.",
  async run(args, terminal) {
    const text = { type: "string" } as const;
    const parsed = parse(args, { ...operatorOptions, since: text, limit: text }, { min: 0, max: 0 });
    const since = parsed.text("since");
    const query = new URLSearchParams({ limit: parsed.text("limit") ?? "25" });
    if (since !== undefined) query.set("since", parseTime(since, "--since"));
    const client = await connectOperator(parsed, terminal);
    try {
      const { receipts } = (await client.get(`/receipts?${query}`)) as { receipts: readonly ListedReceipt[] };
      if (parsed.flag("json")) terminal.out(`${JSON.stringify(receipts)}\n`);
      else if (receipts.length === 0) terminal.out("no changes\n");
      else {
        const rows = receipts.map(({ at, text: what, status, applied, fenced, unconfirmed, enforcedMs, commandId }) => [
          ...[at, what, status],
          applied === null ? "" : `${applied} applied, ${fenced} fenced, ${unconfirmed} unconfirmed`,
          ...[enforcedMs === null ? "" : `${enforcedMs} ms`, commandId],
        ]);
        terminal.out(formatTable(["AT", "CHANGE", "STATUS", "NODES", "AFTER", "COMMAND"], rows));
      }
      return 0;
    } finally {
      await client.close();
    }
  },
};

export const receiptsVerify: CliCommand = {
  name: "receipts verify",
  usage: "[FILE… | -] --jwks FILE… | --jwks-url URL | -c cardea.yaml  [--sessions FILE] [--json]",
  summary: "check signed receipts, offline",
  help: `A file holds one receipt per line. Checks the signature, the form, the cluster and the contents: a receipt that claims to be complete but
names a node that had not confirmed is refused. Keys are a JWK set saved earlier (--jwks, repeatable), the published set
(--jwks-url https://authenticate.example.com/.well-known/cardea/receipts/jwks.json), or those derived from a configuration (-c).
A receipt of one region, which it gave while it was cut off, is checked likewise; it promises nothing of other regions.
--sessions compares a list of session ids, one per line, with all receipts together: they must cover exactly these ids, and several batches
must follow the order of the list. Exit 0: all are genuine and complete; 1: one is refused, incomplete or lost, or the list differs.`,
  async run(args, terminal) {
    const options = {
      config: operatorOptions.config,
      json: operatorOptions.json,
      jwks: { type: "string", multiple: true },
      "jwks-url": { type: "string" },
      sessions: { type: "string" },
    } as const;
    const parsed = parse(args, options, { min: 0, max: 1_000 });
    const sets = await trustedKeys(parsed, terminal);
    const checks: CheckedReceipt[] = [];
    const locals: CheckedLocalReceipt[] = [];
    for (const path of parsed.positionals.length === 0 ? ["-"] : parsed.positionals)
      for (const text of receiptsIn(await readText(path))) {
        if (isLocalReceipt(text)) locals.push(await checkLocalReceipt(text, sets));
        else checks.push(await checkReceipt(text, sets));
      }
    const list = parsed.text("sessions");
    const all = list === undefined ? checks : compareWithList(checks, linesOf(await readText(list)));
    for (const checked of all) {
      if (parsed.flag("json")) terminal.out(`${JSON.stringify(checked)}\n`);
      else if (checked.ok) terminal.out(statementText(checked.statement, checked.kid));
      else terminal.err(`refused (${checked.reason}): ${checked.detail}\n`);
    }
    for (const checked of locals) {
      if (parsed.flag("json")) terminal.out(`${JSON.stringify(checked)}\n`);
      else if (checked.ok) terminal.out(localStatementText(checked.local, checked.kid));
      else terminal.err(`refused (${checked.reason}): ${checked.detail}\n`);
    }
    const complete = all.every((checked) => checked.ok && checked.statement.complete);
    return complete && locals.every((checked) => checked.ok && checked.local.complete) ? 0 : 1;
  },
};

export const receiptsKeys: CliCommand = {
  name: "receipts keys",
  usage: "-c cardea.yaml | --jwks-url URL  [--output FILE]",
  summary: "print the public keys that verify receipts, to archive them",
  help: "Prints the JWK set: the current key and, during a rotation of shared_secret, the previous one. Archive the set once a year: a key leaves\nthe published set together with its secret.",
  async run(args, terminal) {
    const options = {
      config: operatorOptions.config,
      "jwks-url": { type: "string" },
      output: waitOptions.output,
    } as const;
    const parsed = parse(args, options, { min: 0, max: 0 });
    const [keys] = await trustedKeys(parsed, terminal);
    const text = `${JSON.stringify(keys, undefined, 2)}\n`;
    const path = parsed.text("output");
    if (path === undefined) terminal.out(text);
    else await writeWhole(path, text);
    return 0;
  },
};

/** One per line. An empty file is one malformed receipt. */
function receiptsIn(text: string): readonly string[] {
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== "");
  return lines.length === 0 ? [text] : lines;
}

/** Genuine receipts prove a list of revocations only if they cover exactly its ids. */
function compareWithList(checks: readonly CheckedReceipt[], sessions: readonly string[]): readonly CheckedReceipt[] {
  const statements = checks.flatMap((checked) => (checked.ok ? [checked.statement] : []));
  if (statements.length < checks.length) return checks;
  const revoked = statements.flatMap((statement) => revocationOf(statement) ?? []);
  const ids = [...new Set(sessions)];
  if (revoked.length === checks.length && isPartitionedBy(ids, revoked)) return checks;
  const count = revoked.reduce((sum, one) => sum + one.count, 0);
  const [it, held] = [
    checks.length === 1 ? "it is" : "they are",
    count === 0 ? "no session" : `${count} session${count === 1 ? "" : "s"}`,
  ];
  const detail = `${it} genuine, but for ${held}; the list names ${ids.length}, and they differ`;
  return [{ ok: false, reason: "contradictory", detail }];
}

/** Whether the list consists of consecutive ranges, one for each receipt: `sessions revoke` makes its batches so. */
function isPartitionedBy(
  ids: readonly string[],
  revoked: readonly Pick<StatedChange, "count" | "idsSha256">[],
): boolean {
  const left = new Set(revoked);
  let at = 0;
  while (at < ids.length) {
    const next = [...left].find(({ count, idsSha256 }) => digestOfIds(ids.slice(at, at + count)) === idsSha256);
    if (next === undefined || next.count === 0) return false;
    left.delete(next);
    at += next.count;
  }
  return left.size === 0;
}

function revocationOf({ changes }: ReceiptStatement) {
  return changes?.find(({ type }) => type === "SessionRevoked");
}

export async function trustedKeys(parsed: Parsed, terminal: Terminal): Promise<readonly ReceiptKeys[]> {
  const files = parsed.all("jwks");
  const [url, config] = [parsed.text("jwks-url"), parsed.text("config")];
  if (files.length === 0 && url === undefined && config === undefined)
    throw new UsageError("name the keys to trust: --jwks FILE, --jwks-url URL, or -c cardea.yaml");
  const own = config === undefined ? undefined : readLocalConfig(config, terminal);
  const authority = own?.certificateAuthority ?? authorityOf(terminal);
  return [
    ...(await Promise.all(files.map(async (path) => parseKeys(await readText(path), path)))),
    ...(url === undefined ? [] : [await fetchKeys(url, authority)]),
    ...(own === undefined ? [] : [await configuredKeys(own)]),
  ];
}

async function configuredKeys(config: Config): Promise<ReceiptKeys> {
  const { sharedSecret, sharedSecretPrevious, broker } = config;
  const secrets = [sharedSecret, ...(sharedSecretPrevious === null ? [] : [sharedSecretPrevious])];
  return receiptKeys({ cluster: broker.clusterName, secrets });
}

async function fetchKeys(text: string, authority: string | null): Promise<ReceiptKeys> {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const local = url !== undefined && /^(127\.\d+\.\d+\.\d+|\[::1\]|([\w-]+\.)*localhost)$/.test(url.hostname);
  if (url === undefined || !(url.protocol === "https:" || (url.protocol === "http:" && local)))
    throw new UsageError(`--jwks-url ${text}: keys are fetched only over https, or from this machine`);
  const { fetch, close } = createLocalFetch({ timeoutMs: 10_000, ...(authority === null ? {} : { ca: authority }) });
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(10_000) });
    if (!response.ok) throw new CannotError(`${url.href} answered ${response.status}`);
    return parseKeys(await response.text(), url.href);
  } catch (cause) {
    if (cause instanceof CannotError) throw cause;
    throw new CannotError(describeConnectionProblem(url, cause), { cause });
  } finally {
    await close();
  }
}

function parseKeys(text: string, from: string): ReceiptKeys {
  try {
    const keys = parseReceiptKeys(JSON.parse(text));
    if (keys !== undefined) return keys;
  } catch {
    // not JSON
  }
  throw new CannotError(`${from} contains no JWK set`);
}

function linesOf(text: string): readonly string[] {
  return text.split(/\s+/).filter((line) => line !== "");
}

function targetOf(text: string): string {
  try {
    return `command:${parseCommandId(text)}`;
  } catch {
    // not a command id: perhaps a link
  }
  try {
    parseLink(text);
    return `link:${text}`;
  } catch (cause) {
    throw new UsageError(`${text} is neither a command id (a UUID) nor a link (epoch.position.hash)`, { cause });
  }
}
