/**
 * Seals for the commands that check and prove audit records: from an exported file, from the log's store, or from a
 * server.
 */
import {
  type EvidenceLine,
  type KeptSeal,
  type OpenedEvidence,
  openEvidence,
  parseEvidence,
  type SealEvidence,
} from "../../../audit/index.ts";
import { auditStream, decodeEvents, formatLink, type Link, linkOf } from "../../../events/index.ts";
import {
  createLogVerifier,
  LogDamagedError,
  type LogReader,
  LogUnavailableError,
  type LogVerdict,
  pageEventsMax,
} from "../../../replication/log/index.ts";
import { checkReceipt, type ReceiptKeys } from "../../../replication/wire/index.ts";
import { readLocalConfig } from "../../build/local-config.ts";
import { openNewestLog } from "../../build/newest-log.ts";
import { connectOperator, type OperatorClient } from "../../operator/operator-client.ts";
import type { Parsed } from "../../terminal/arguments.ts";
import { CannotError, type Terminal, UsageError } from "../../terminal/command.ts";
import { readTextLines } from "../../terminal/read-text.ts";

/** `log`: read from the log itself, whose chain was verified. `server`: as a server of the cluster gave them. */
export type SealOrigin = "file" | "log" | "server";

export type LoadedSeals<Seal> = Readonly<{
  seals: readonly Seal[];
  /** Those, and the ones that nothing shows to be of the cluster: the leaves of the tree that witnesses co-sign. */
  all: readonly Seal[];
  origin: SealOrigin;
  /** What a reader should know of them, one line each. */
  notes: readonly string[];
}>;

export const sealOptions = {
  seals: { type: "string", multiple: true },
  "from-server": { type: "boolean" },
} as const;

type LoadOptions<Seal> = Readonly<{
  /** For the receipts in exported files; empty: none are checked. */
  keys: readonly ReceiptKeys[];
  /** What is kept in memory of each seal. */
  keep: (seal: KeptSeal) => Seal;
}>;

export async function loadSeals<Seal>(
  parsed: Parsed,
  terminal: Terminal,
  options: LoadOptions<Seal>,
): Promise<LoadedSeals<Seal>> {
  const files = parsed.all("seals");
  if (files.length > 0) return loadFiles(files, options);
  if (parsed.flag("from-server") || parsed.text("config") === undefined) {
    const client = await connectOperator(parsed, terminal);
    try {
      const seals: Seal[] = [];
      for await (const evidence of readServerSeals(client)) keepSeal(seals, options.keep(openTrusted(evidence)));
      return { seals, all: seals, origin: "server", notes: [] };
    } finally {
      await client.close();
    }
  }
  return loadLog(parsed, terminal, options);
}

/** Newest first. */
async function* readServerSeals(client: OperatorClient): AsyncGenerator<SealEvidence> {
  for (let upTo: number | null | undefined; upTo !== null; ) {
    const query = upTo === undefined ? "" : `?upTo=${upTo}`;
    const page = (await client.get(`/audit/seals${query}`, 40_000)) as {
      seals: readonly EvidenceLine[];
      next: number | null;
    };
    for (const line of page.seals) {
      const evidence = parseEvidence(line);
      if (evidence === undefined) throw new CannotError("the server answers with something that is no seal");
      yield evidence;
    }
    if (page.next !== null && upTo !== undefined && page.next >= upTo)
      throw new CannotError("the server repeats a page of the log");
    upTo = page.next;
  }
}

async function loadLog<Seal>(
  parsed: Parsed,
  terminal: Terminal,
  { keep }: LoadOptions<Seal>,
): Promise<LoadedSeals<Seal>> {
  const path = parsed.text("config");
  if (path === undefined) throw new UsageError("name the seals with --seals, or the configuration with -c");
  const { log, heads } = await openNewestLog(readLocalConfig(path, terminal));
  try {
    const seals: Seal[] = [];
    const verdict = await readLogSeals(log, (evidence) => keepSeal(seals, keep(openTrusted(evidence))));
    if (verdict.type === "broken")
      throw new CannotError(`the log is broken at position ${verdict.position}: ${verdict.problem}`);
    const start = verdict.start.position;
    const notes = [
      `${verdict.events} events of the log verified, up to ${formatLink(verdict.last)}`,
      ...(start === 0 ? [] : [`the log begins after position ${start}: earlier seals are not in it`]),
      ...(heads?.rivals ?? []).map(({ host, why }) => `rival of the log that was read: ${host} ${why}`),
    ];
    return { seals, all: seals, origin: "log", notes };
  } catch (error) {
    if (error instanceof LogDamagedError || error instanceof LogUnavailableError)
      throw new CannotError(`cannot read the seals: ${error.message}`, { cause: error });
    throw error;
  } finally {
    await log.close();
  }
}

async function readLogSeals(log: LogReader, onSeal: (evidence: SealEvidence) => void): Promise<LogVerdict> {
  const start = await log.base();
  const verifier = createLogVerifier({ start, epochs: await log.epochs() });
  for (let after = start; ; ) {
    const outcome = await log.read(after, pageEventsMax);
    if (outcome.type !== "page") throw new CannotError(`cannot read the rest of the log: ${outcome.type}`);
    const { page } = outcome;
    if (page.entries.length === 0) return verifier.finish();
    const broken = verifier.take(page);
    if (broken !== undefined) return broken;
    let previous: Link = page.previous;
    for (const [index, recorded] of decodeEvents(page.entries, page.previous).entries()) {
      const bytes = page.entries[index];
      if (recorded.stream === auditStream && bytes !== undefined) onSeal({ previous, bytes, receipt: null });
      previous = linkOf(recorded);
    }
    after = page.last;
  }
}

/** A seal with its receipt has less than half of it. */
const lineBytesMax = 16 * 1_024 * 1_024;
/** A check of more needs too much memory. */
const sealsMax = 1_000_000;

function keepSeal<Seal>(seals: Seal[], one: Seal): void {
  if (seals.length >= sealsMax)
    throw new CannotError(`there are more than ${sealsMax} seals: check those of fewer boots`);
  seals.push(one);
}

function openTrusted(evidence: SealEvidence): KeptSeal {
  const opened = openEvidence(evidence);
  if (typeof opened === "string") throw new CannotError(`a seal of the log is refused: ${opened}`);
  return { opened, evidence };
}

async function loadFiles<Seal>(
  files: readonly string[],
  { keys, keep }: LoadOptions<Seal>,
): Promise<LoadedSeals<Seal>> {
  const seals: Seal[] = [];
  const all: Seal[] = [];
  let unconfirmed = 0;
  let receipts = 0;
  for (const path of files) {
    let number = 0;
    for await (const line of readTextLines(path, { bytesMax: lineBytesMax })) {
      number++;
      if (line.trim() === "") continue;
      const place = `${path}:${number}`;
      const read = openLine(line, place);
      const kept = keep(read);
      keepSeal(all, kept);
      if (read.evidence.receipt !== null && keys.length > 0) {
        const problem = await receiptProblem(read.opened, keys);
        if (problem !== undefined) throw new CannotError(`${place}: ${problem}`);
        receipts++;
      } else if (!read.opened.own) {
        unconfirmed++; // a stranger could have written it
        continue;
      }
      keepSeal(seals, kept);
    }
  }
  const notes = [
    ...(receipts > 0
      ? [`${receipts} seals have a receipt of the log`]
      : ["no receipt shows that the log has these seals"]),
    ...(unconfirmed > 0
      ? [`${unconfirmed} seals are by a later boot of their node, without a receipt: they are not used`]
      : []),
  ];
  return { seals, all, origin: "file", notes };
}

function openLine(line: string, place: string): KeptSeal {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new CannotError(`${place}: it is not JSON`, { cause });
  }
  const evidence = parseEvidence(value);
  if (evidence === undefined) throw new CannotError(`${place}: it is no seal`);
  const opened = openEvidence(evidence);
  if (typeof opened === "string") throw new CannotError(`${place}: the seal is refused: ${opened}`);
  return { opened, evidence };
}

/** @returns why the seal's receipt does not show that the log has it; undefined: it does */
export async function receiptProblem(
  { receipt, link, cluster }: OpenedEvidence,
  keys: readonly ReceiptKeys[],
): Promise<string | undefined> {
  if (receipt === null) return "the seal has no receipt";
  const checked = await checkReceipt(receipt, keys);
  if (!checked.ok) return `the receipt is refused (${checked.reason}): ${checked.detail}`;
  const { statement } = checked;
  if (statement.cluster !== cluster)
    return `the receipt is of the cluster ${statement.cluster}, and the seal of ${cluster}`;
  if (statement.status === "lost") return "the receipt says that the log has lost the seal";
  return statement.link === formatLink(link) ? undefined : "the receipt is of another event";
}
