/** `cardea receipt`, `cardea receipts verify|keys`: which nodes have applied a change, and whether a receipt says so truly. */
import { writeFile } from "node:fs/promises";
import { createLocalFetch } from "../auth/index.ts";
import type { Config } from "../config/index.ts";
import { parseCommandId, parseLink } from "../events/index.ts";
import {
  type CheckedReceipt,
  checkReceipt,
  digestOfIds,
  parseReceiptKeys,
  type Receipt,
  type ReceiptKeys,
  type ReceiptStatement,
  receiptKeys,
  statementIn,
} from "../replication/index.ts";
import { operatorOptions, type Parsed, parse, parseWait, waitOptions } from "./arguments.ts";
import { saveReceipt } from "./carry-out.ts";
import { CannotError, type Command, type Terminal, UsageError } from "./command.ts";
import { readLocalConfig } from "./local-config.ts";
import { connectOperator } from "./operator-client.ts";
import { receiptText, statementText } from "./print.ts";
import { readText } from "./read-text.ts";
import { showProgress, watchReceipt } from "./watch-receipt.ts";

export const receiptShow: Command = {
  name: "receipt",
  usage: "<command id | link> [--wait [--region] [--timeout 10s]] [--output FILE]",
  summary: "which nodes have applied a change",
  help: `A change is named by its command id or by its link (epoch.position.hash), never by a bare position. With --wait each node appears as it
applies the change; with --json every change of the receipt is a line, the last one signed. --output keeps the signed form, which
anybody can check with cardea receipts verify. Exit 0 only when complete.`,
  async run(args, terminal) {
    const parsed = parse(args, { ...operatorOptions, ...waitOptions }, { min: 1, max: 1 });
    const target = targetOf(parsed.positionals[0] ?? "");
    const client = await connectOperator(parsed, terminal);
    try {
      const json = parsed.flag("json");
      const progress = showProgress(terminal);
      const line = (one: Receipt): string => `${JSON.stringify(one)}\n`;
      const receipt = await watchReceipt(client, {
        target,
        wait: parsed.flag("region") ? "region" : "all",
        timeoutMs: parsed.flag("wait") ? parseWait(parsed.text("timeout"), 10_000) : 0,
        onProgress: json ? (soFar) => terminal.out(line(soFar)) : progress.show,
      });
      progress.clear();
      await saveReceipt(receipt, parsed.text("output"));
      const said = receipt.signed === null ? undefined : statementIn(receipt.signed)?.promise;
      terminal.out(json ? line(receipt) : receiptText(receipt, said));
      return receipt.complete ? 0 : 1;
    } finally {
      await client.close();
    }
  },
};

export const receiptsVerify: Command = {
  name: "receipts verify",
  usage: "[FILE | -] --jwks FILE… | --jwks-url URL | -c cardea.yaml  [--sessions FILE] [--json]",
  summary: "check a signed receipt, offline",
  help: `Checks the signature, the form, the cluster, and whether it adds up: a receipt that calls itself complete, and names a node that
had not confirmed, is refused. Keys: a JWK set saved earlier (--jwks, several for receipts of several years), the published one
(--jwks-url https://authenticate.example.com/.well-known/cardea/receipts/jwks.json), or those that follow from a configuration.
--sessions compares the receipt with a list of session ids, one a line. Exit 0: genuine and complete; 1: refused, incomplete or lost.`,
  async run(args, terminal) {
    const options = {
      ...{ config: operatorOptions.config, json: operatorOptions.json },
      jwks: { type: "string", multiple: true },
      "jwks-url": { type: "string" },
      sessions: { type: "string" },
    } as const;
    const parsed = parse(args, options, { min: 0, max: 1 });
    const sets = await trustedKeys(parsed, terminal);
    const text = await readText(parsed.positionals[0] ?? "-");
    const list = parsed.text("sessions");
    const sessions = list === undefined ? undefined : linesOf(await readText(list));
    const checked = againstList(await checkReceipt(text, sets), sessions);
    if (parsed.flag("json")) terminal.out(`${JSON.stringify(checked)}\n`);
    else if (checked.ok) terminal.out(statementText(checked.statement, checked.kid));
    else terminal.err(`refused (${checked.reason}): ${checked.detail}\n`);
    return checked.ok && checked.statement.complete ? 0 : 1;
  },
};

export const receiptsKeys: Command = {
  name: "receipts keys",
  usage: "-c cardea.yaml | --jwks-url URL  [--output FILE]",
  summary: "the public keys of receipts, to be kept for whoever will check them",
  help: "Prints the JWK set: the current key and, while shared_secret is being replaced, the one before. Keep the set of each year: a key leaves the published set when its secret does.",
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
    else
      await writeFile(path, text).catch((cause: unknown) => {
        throw new CannotError(`${path} cannot be written`, { cause });
      });
    return 0;
  },
};

/** A genuine receipt of something else than what was asked for is no proof of it. */
function againstList(checked: CheckedReceipt, sessions: readonly string[] | undefined): CheckedReceipt {
  if (sessions === undefined || !checked.ok) return checked;
  const revoked = revokedIn(checked.statement);
  if (revoked?.idsSha256 === digestOfIds(sessions)) return checked;
  const held = revoked === undefined ? "no session" : `${revoked.count} sessions`;
  const detail = `it is genuine, but of ${held}; the list names ${new Set(sessions).size}, and they are not the same`;
  return { ok: false, reason: "contradictory", detail };
}

function revokedIn({ changes }: ReceiptStatement) {
  return changes?.find(({ type }) => type === "SessionRevoked");
}

async function trustedKeys(parsed: Parsed, terminal: Terminal): Promise<readonly ReceiptKeys[]> {
  const files = parsed.all("jwks");
  const [url, config] = [parsed.text("jwks-url"), parsed.text("config")];
  if (files.length === 0 && url === undefined && config === undefined)
    throw new UsageError("say whose keys to trust: --jwks FILE, --jwks-url URL, or -c cardea.yaml");
  return [
    ...(await Promise.all(files.map(async (path) => keysIn(await readText(path), path)))),
    ...(url === undefined ? [] : [await fetchKeys(url)]),
    ...(config === undefined ? [] : [await keysOf(readLocalConfig(config, terminal))]),
  ];
}

async function keysOf(config: Config): Promise<ReceiptKeys> {
  const { sharedSecret, sharedSecretPrevious, broker } = config;
  const secrets = [sharedSecret, ...(sharedSecretPrevious === null ? [] : [sharedSecretPrevious])];
  return receiptKeys({ cluster: broker.clusterName, secrets });
}

async function fetchKeys(text: string): Promise<ReceiptKeys> {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const local = url !== undefined && /^(127\.\d+\.\d+\.\d+|\[::1\]|([\w-]+\.)*localhost)$/.test(url.hostname);
  if (url === undefined || !(url.protocol === "https:" || (url.protocol === "http:" && local)))
    throw new UsageError(`--jwks-url ${text}: keys are fetched over https, or from this machine`);
  const { fetch, close } = createLocalFetch({ timeoutMs: 10_000 });
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(10_000) });
    if (!response.ok) throw new CannotError(`${url.href} answered ${response.status}`);
    return keysIn(await response.text(), url.href);
  } catch (cause) {
    if (cause instanceof CannotError) throw cause;
    throw new CannotError(`${url.href} does not answer`, { cause });
  } finally {
    await close();
  }
}

function keysIn(text: string, from: string): ReceiptKeys {
  try {
    const keys = parseReceiptKeys(JSON.parse(text));
    if (keys !== undefined) return keys;
  } catch {
    // not JSON either
  }
  throw new CannotError(`${from} holds no JWK set`);
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
