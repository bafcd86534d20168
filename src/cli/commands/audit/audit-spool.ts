/**
 * `cardea audit spool`: the spools of the nodes on this machine, and the delivery of one that no process uses.
 *
 * It delivers as a later boot of the node would: to the sinks of the configuration, with the earlier boots' records
 * unchanged. What a sink does not accept stays.
 */
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { rm, rmdir } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import {
  createRecorder,
  inspectSpool,
  listSpoolFolders,
  openSpoolFolder,
  type Recorder,
  type SpoolFolder,
  spoolFolderOf,
} from "../../../audit/index.ts";
import { type Config, loadConfig } from "../../../config/index.ts";
import { type NodeId, noEpoch, parseNodeId } from "../../../events/index.ts";
import type { Logger } from "../../../replication/index.ts";
import { enrolKey, enrolmentRoot, nodeKeyFrom, sealEnvelope } from "../../../replication/wire/index.ts";
import { quietSleep } from "../../build/audit/quiet-sleep.ts";
import { sinksOf } from "../../build/audit-parts.ts";
import { localConfigOf } from "../../build/local-config.ts";
import { type Parsed, parse, parseWait } from "../../terminal/arguments.ts";
import { CannotError, type CliCommand, type ExitCode, type Terminal, UsageError } from "../../terminal/command.ts";
import { formatTable } from "../../terminal/print.ts";

const pollMs = 20;
const closeMs = 3_000;
/** For a process that looks at the folder. */
const lookMs = 2_000;
/** What is removed after the delivery; the lock is removed with the folder. */
const deliveredFiles = /^(cursor-.*\.json|seals\.json|\d+-.*\.(records|gap))$/;

export const auditSpool: CliCommand = {
  name: "audit spool",
  usage: "-c cardea.yaml [--deliver NODE] [--timeout 10m]",
  summary: "list the audit spools on this machine, and deliver one that no process uses",
  help: `Lists the folders under audit.spool_dir: the node, whether a process uses it, and the records that some sink does not have. --deliver sends the
records of a node that was renamed or removed to the sinks of this configuration, as a later process of that node would, and then removes
its folder. Records that a sink rejects stay in its dead-letter file. The roots of these records are not sealed into the log. Run it where the folder is, with the real shared_secret.
Exit 0: nothing waits, or all was delivered; 1: records wait; 3: the folder is in use or cannot be read.`,
  async run(args, terminal) {
    const options = { config: { type: "string", short: "c" }, "data-dir": { type: "string" } } as const;
    const more = { json: { type: "boolean" }, deliver: { type: "string" }, timeout: { type: "string" } } as const;
    const parsed = parse(args, { ...options, ...more }, { min: 0, max: 0 });
    const node = parsed.text("deliver");
    if (node !== undefined) return deliver(nodeOf(node), parsed, terminal);
    const folders = await listSpoolFolders(localConfigOf(parsed, terminal).audit.spoolDir, new Set());
    terminal.out(parsed.flag("json") ? `${JSON.stringify(folders)}\n` : tableOf(folders));
    return folders.some(({ state }) => state === "undelivered" || state === "unreadable") ? 1 : 0;
  },
};

function nodeOf(text: string): NodeId {
  try {
    return parseNodeId(text);
  } catch (cause) {
    throw new UsageError(`--deliver takes the name of a node, as the list shows it`, { cause });
  }
}

function tableOf(folders: readonly SpoolFolder[]): string {
  if (folders.length === 0) return "there are no audit spools\n";
  const rows = folders.map(({ node, state, records, bytes, newestMs, deadLetters, why }) => [
    node,
    why === null ? state : `${state}: ${why}`,
    records === null ? "?" : String(records),
    String(bytes),
    newestMs === 0 ? "" : new Date(newestMs).toISOString(),
    deadLetters.length === 0 ? "" : `${deadLetters.length} file(s)`,
  ]);
  return formatTable(["NODE", "STATE", "RECORDS", "BYTES", "NEWEST", "DEAD LETTERS"], rows);
}

async function deliver(node: NodeId, parsed: Parsed, terminal: Terminal): Promise<ExitCode> {
  const timeoutMs = parseWait(parsed.text("timeout"), 600_000);
  const config = realConfigOf(parsed, terminal);
  const { spoolDir } = config.audit;
  const path = spoolFolderOf(spoolDir, node);
  if (dirname(path) !== resolve(spoolDir) || !existsSync(path))
    throw new CannotError(`${spoolDir} has no spool of a node ${node}`);
  const { state, why } = await inspectSpool(path, node, { waitMs: lookMs });
  if (state === "in use") throw new CannotError(`a process uses the spool of ${node}; it delivers the records itself`);
  if (state === "unreadable") throw new CannotError(why ?? `the spool ${path} cannot be read`);
  const failures = new Map<string, string>();
  const disk = openSpoolFolder(path);
  try {
    const recorder = await startDelivery(node, { config, disk, terminal, failures });
    const until = performance.now() + timeoutMs;
    while (!recorder.isDelivered() && performance.now() < until) await quietSleep(pollMs);
    const isDelivered = recorder.isDelivered();
    await recorder.close(closeMs);
    report(recorder, { terminal, failures });
    if (!isDelivered) {
      terminal.err(`not all records of ${node} were delivered; the others stay in ${path}\n`);
      return 1;
    }
    for (const { name } of await disk.list()) if (deliveredFiles.test(name)) await disk.remove(name);
  } finally {
    disk.release();
  }
  await removeFolder(path, terminal);
  return 0;
}

/** With generated secrets, readers of the stream would refuse what is delivered. */
function realConfigOf(parsed: Parsed, terminal: Terminal): Config {
  const file = parsed.text("config");
  if (file === undefined) throw new UsageError("name the configuration with -c");
  const dataDir = parsed.text("data-dir");
  const generate = ["cookie_secret", "idp_client_secret"] as const;
  const loaded = loadConfig(file, { env: terminal.env, generate, ...(dataDir === undefined ? {} : { dataDir }) });
  if (!loaded.ok) throw new CannotError(`${file} is not valid; see cardea check -c ${file}`);
  return loaded.config;
}

async function startDelivery(
  node: NodeId,
  options: Readonly<{
    config: Config;
    disk: ReturnType<typeof openSpoolFolder>;
    terminal: Terminal;
    failures: Map<string, string>;
  }>,
): Promise<Recorder> {
  const { config, disk, terminal, failures } = options;
  const cluster = config.broker.clusterName;
  const key = nodeKeyFrom(randomBytes(32), { cluster, role: "proxy", name: node });
  const { boot } = key;
  const identity = { cluster, role: "proxy", name: node, boot, epoch: noEpoch, incarnation: "" } as const;
  const signer = enrolKey(identity, key.pair, enrolmentRoot(config.sharedSecret, "proxy"));
  const writeAll = async (bytes: Uint8Array): Promise<void> => terminal.out(Buffer.from(bytes).toString("utf8"));
  const sinks = await sinksOf(config, {
    node,
    boot,
    logger: loggerTo(terminal),
    output: { writeAll },
    seal: (payload) => Uint8Array.from(sealEnvelope(signer, "audit", payload)),
  });
  if (sinks.length === 0) throw new CannotError("audit.sinks names no sink");
  return createRecorder({
    node,
    boot,
    spool: { disk, bytesMax: Number.MAX_SAFE_INTEGER, segmentsMax: Number.MAX_SAFE_INTEGER, sinks },
    nowMs: () => Date.now(),
    monotonicMs: () => performance.now(),
    sleep: quietSleep,
    onFailure: (what, error) => failures.set(what, error instanceof Error ? error.message : String(error)),
    onDamage: ({ name, offset, bytes }) => terminal.err(`${name} is damaged: ${bytes} bytes from ${offset} on\n`),
  });
}

function report(
  recorder: Recorder,
  { terminal, failures }: Readonly<{ terminal: Terminal; failures: ReadonlyMap<string, string> }>,
): void {
  for (const { name, written, lost, deadLetters, queued } of recorder.stats().sinks) {
    const why = queued > 0 && failures.has(name) ? ` (${failures.get(name)})` : "";
    terminal.err(
      `${name}: ${written} delivered, ${lost} declared lost, ${deadLetters} rejected, ${queued} wait${why}\n`,
    );
  }
}

/** Stays if it has dead letters. */
async function removeFolder(path: string, terminal: Terminal): Promise<void> {
  await rm(join(path, "pull"), { recursive: true, force: true }); // copies, for readers that pull
  for (const name of ["lock.sqlite", "lock.sqlite-journal"]) await rm(join(path, name), { force: true });
  try {
    await rmdir(path);
  } catch {
    terminal.err(`${path} has other files, such as dead letters, and stays\n`);
  }
}

function loggerTo(terminal: Terminal): Logger {
  const show = (_facts: object, message: string): void => terminal.err(`${message}\n`);
  return { debug: () => undefined, info: () => undefined, warn: show, error: show };
}
