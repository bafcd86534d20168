/**
 * `cardea snapshot create|list|verify|restore|keys`: snapshots of the log's state.
 *
 * `create` and `list` use a running cluster. `verify`, `restore` and `keys` read this machine's data folder and the
 * log's store. A log in a file belongs to one process, so stop the server first; Postgres can be read while a cluster
 * runs.
 */
import { readFile, writeFile } from "node:fs/promises";
import { setTimeout as delay, setImmediate as turn } from "node:timers/promises";
import { compareWithLog, type SnapshotComparison, snapshotPlaceOf } from "../../broker/index.ts";
import {
  decode,
  encode,
  formatLink,
  type Projection,
  parseStoredConfiguration,
  type StoredConfiguration,
  type WrappedKey,
} from "../../events/index.ts";
import type { ClusterStatus, SnapshotPlace } from "../../replication/index.ts";
import { type EventLog, LogRefusedError, MalformedBatchError } from "../../replication/log/index.ts";
import {
  loadSnapshot,
  type SignedManifest,
  type SnapshotFolder,
  type SnapshotList,
} from "../../replication/snapshot/index.ts";
import { parseWrappedKey } from "../../replication/wire/index.ts";
import { localConfigOf } from "../build/local-config.ts";
import { openLog } from "../build/open-log.ts";
import { snapshotFolderOf } from "../build/snapshot-parts.ts";
import { connectOperator, type OperatorClient } from "../operator/operator-client.ts";
import { operatorOptions, parse, parseWait } from "../terminal/arguments.ts";
import { CannotError, type CliCommand, type ExitCode, type Terminal, UsageError } from "../terminal/command.ts";
import { formatTable } from "../terminal/print.ts";

const pollMs = 250;
const keysPerPage = 5_000;

export const snapshotCreate: CliCommand = {
  name: "snapshot create",
  usage: "[--timeout 60s]",
  summary: "take a snapshot on the leading broker now",
  help: `Waits for the snapshot and prints it; the log accepts events meanwhile. Exit 3: there is no snapshot within --timeout. It may still appear: see
cardea snapshot list. The leader writes it to the folder snapshots in its data folder, and the other brokers copy it.`,
  async run(args, terminal) {
    const parsed = parse(args, { ...operatorOptions, timeout: { type: "string" } }, { min: 0, max: 0 });
    const timeoutMs = parseWait(parsed.text("timeout"), 60_000);
    const client = await connectOperator(parsed, terminal);
    try {
      const { position } = (await client.post("/snapshots", {})) as { position: number };
      const place = await waitForSnapshot(client, { position, timeoutMs });
      if (place === undefined)
        throw new CannotError(`no snapshot of position ${position} or later appeared within ${timeoutMs / 1_000} s`);
      terminal.out(parsed.flag("json") ? `${JSON.stringify(place)}\n` : snapshotTable([place]));
      return 0;
    } finally {
      await client.close();
    }
  },
};

export const snapshotList: CliCommand = {
  name: "snapshot list",
  usage: "[--disk -c cardea.yaml]",
  summary: "list the snapshots of the leading broker, or those on this disk",
  help: "--disk lists the folder snapshots in the data folder, with those that fail verification. Exit 1: there is no snapshot, or a bad one.",
  async run(args, terminal) {
    const parsed = parse(args, { ...operatorOptions, disk: { type: "boolean" } }, { min: 0, max: 0 });
    const json = parsed.flag("json");
    if (parsed.flag("disk"))
      return listDisk(await snapshotFolderOf(localConfigOf(parsed, terminal)).list(), terminal, json);
    const client = await connectOperator(parsed, terminal);
    try {
      const places = await snapshotsOf(client);
      terminal.out(json ? `${JSON.stringify(places)}\n` : snapshotTable(places));
      return places.length === 0 ? 1 : 0;
    } finally {
      await client.close();
    }
  },
};

export const snapshotVerify: CliCommand = {
  name: "snapshot verify",
  usage: "-c cardea.yaml [--against-log]",
  summary: "verify every snapshot on this disk",
  help: `Checks the signature, the cluster, the hash of every chunk, and the digest of the whole contents. --against-log also rebuilds each snapshot
from the log's events, starting at the next older snapshot or the beginning, and compares chunk by chunk. If retention has dropped these
events, the output says that the snapshot is whole but not compared. Exit 1: a snapshot is bad, or there is none; with --against-log,
3: no snapshot could be compared.`,
  async run(args, terminal) {
    const parsed = parse(args, { ...diskOptions, "against-log": { type: "boolean" } }, { min: 0, max: 0 });
    const config = localConfigOf(parsed, terminal);
    const folder = snapshotFolderOf(config);
    const list = await folder.list();
    const log = parsed.flag("against-log") ? await openLog(config, undefined) : null;
    try {
      const verdicts: Verdict[] = list.bad.map(({ file, problem }) => ({
        id: file,
        position: null,
        problem,
        notCompared: null,
      }));
      for (const [at, signed] of list.snapshots.entries()) {
        const verdict = await verdictOf(signed, { folder, log, older: list.snapshots[at + 1] ?? null });
        // A running broker may have deleted it meanwhile.
        if (verdict.problem === null || (await folder.list()).snapshots.some(({ id }) => id === signed.id))
          verdicts.push(verdict);
      }
      if (parsed.flag("json")) terminal.out(`${JSON.stringify(verdicts)}\n`);
      else if (verdicts.length === 0) terminal.err(`there is no snapshot in ${folder.path}\n`);
      else for (const each of verdicts) terminal.out(`${verdictText(each)}\n`);
      if (verdicts.length === 0 || verdicts.some(({ problem }) => problem !== null)) return 1;
      if (log === null || verdicts.some(({ notCompared }) => notCompared === null)) return 0;
      terminal.err(
        "no snapshot could be compared with the log: take one (cardea snapshot create), then run this command again\n",
      );
      return 3;
    } finally {
      await log?.close();
    }
  },
};

export const snapshotRestore: CliCommand = {
  name: "snapshot restore",
  usage: "-c cardea.yaml [--id ID] --keys FILE | --without-keys",
  summary: "restore a snapshot of this disk into an empty log store",
  help: `Use this only if the log is lost and there is no backup: a point-in-time restore of a backup is always better. The store that the
configuration names must be empty, and no broker may run. Takes the newest whole snapshot, or the one that --id names. Later events are
not in the new log; nodes that have applied their revocations keep them in force and report them to the new log. --keys FILE is the output of
cardea snapshot keys. With --without-keys all names and e-mail addresses are lost, and everyone must sign in again.`,
  async run(args, terminal) {
    const parsed = parse(
      args,
      { ...diskOptions, id: { type: "string" }, keys: { type: "string" }, "without-keys": { type: "boolean" } },
      { min: 0, max: 0 },
    );
    const keysFile = parsed.text("keys");
    if ((keysFile === undefined) !== parsed.flag("without-keys"))
      throw new UsageError("give either --keys FILE or --without-keys");
    const { keys, configurations } =
      keysFile === undefined ? { keys: [], configurations: [] } : await readKeys(keysFile);
    const config = localConfigOf(parsed, terminal);
    if (config.store.type === "memory") throw new CannotError("a log in memory cannot be restored");
    const folder = snapshotFolderOf(config);
    const { signed, projection } = await chooseSnapshot(folder, { id: parsed.text("id"), terminal });
    const log = await openLog(config, undefined);
    try {
      const living = keys.filter(({ userId }) => projection.user(userId)?.status !== "erased");
      await restoreLog(log, signed, { keys: living, configurations });
    } finally {
      await log.close();
    }
    const { link } = signed.manifest;
    const counts = {
      sessions: signed.manifest.counts.sessions,
      keys: keys.length,
      configurations: configurations.length,
    };
    const restored = { link: formatLink(link), ...counts };
    terminal.out(
      parsed.flag("json")
        ? `${JSON.stringify(restored)}\n`
        : `restored: the log now begins after ${restored.link}; start the brokers, and the first one opens a new epoch\n`,
    );
    return 0;
  },
};

export const snapshotKeys: CliCommand = {
  name: "snapshot keys",
  usage: "-c cardea.yaml --output FILE",
  summary: "save the wrapped personal keys and the configuration texts, which snapshots do not contain",
  help: `Store the file apart from the snapshots and delete it soon: it still holds the keys of users who are erased later. It is useful only together
with shared_secret. cardea snapshot restore --keys reads it, and skips the users that the snapshot records as erased.`,
  async run(args, terminal) {
    const parsed = parse(args, { ...diskOptions, output: { type: "string", short: "o" } }, { min: 0, max: 0 });
    const path = parsed.text("output");
    if (path === undefined) throw new UsageError("name the file with --output");
    const log = await openLog(localConfigOf(parsed, terminal), undefined);
    try {
      const keys: WrappedKey[] = [];
      for (let last: WrappedKey | undefined; ; last = keys.at(-1)) {
        const page = await log.keysAfter(last?.userId ?? null, keysPerPage);
        keys.push(...page);
        if (page.length < keysPerPage) break;
      }
      const configurations: StoredConfiguration[] = [];
      for (const { configHash } of await log.configurations()) {
        const stored = await log.configuration(configHash);
        if (stored !== undefined) configurations.push(stored);
      }
      await writeFile(path, encode([keysFormat, keys, configurations]), { mode: 0o600, flag: "wx" }).catch(
        (cause: unknown) => {
          throw new CannotError(`${path} cannot be written: ${messageOf(cause)}`, { cause });
        },
      );
      const saved = { keys: keys.length, configurations: configurations.length };
      const words = `${saved.keys} keys and ${saved.configurations} configurations saved\n`;
      terminal.out(parsed.flag("json") ? `${JSON.stringify(saved)}\n` : words);
      return 0;
    } finally {
      await log.close();
    }
  },
};

const diskOptions = {
  config: operatorOptions.config,
  json: operatorOptions.json,
  "data-dir": operatorOptions["data-dir"],
} as const;

const keysFormat = "cardea keys 1";

/** What the store holds besides the log, and no snapshot contains. */
type SavedKeys = Readonly<{ keys: readonly WrappedKey[]; configurations: readonly StoredConfiguration[] }>;

// --- a running cluster

async function snapshotsOf(client: OperatorClient): Promise<readonly SnapshotPlace[]> {
  const { leader } = (await client.get("/nodes")) as ClusterStatus;
  if (leader === null) throw new CannotError("no broker leads at the moment");
  if (leader.snapshots === undefined)
    throw new CannotError("the leading broker takes no snapshots, because its log is in memory");
  return leader.snapshots;
}

async function waitForSnapshot(
  client: OperatorClient,
  { position, timeoutMs }: Readonly<{ position: number; timeoutMs: number }>,
): Promise<SnapshotPlace | undefined> {
  const giveUpAt = performance.now() + timeoutMs;
  for (;;) {
    const [newest] = await snapshotsOf(client);
    if (newest !== undefined && newest.position >= position) return newest;
    if (performance.now() >= giveUpAt) return undefined;
    await delay(pollMs);
  }
}

function snapshotTable(places: readonly SnapshotPlace[]): string {
  const rows = places.map(({ id, position, takenAt, by, sessions, chunks }) => [
    String(position),
    id.slice(0, 12),
    new Date(takenAt).toISOString(),
    by,
    String(sessions),
    String(chunks),
  ]);
  return formatTable(["POSITION", "ID", "TAKEN", "BY", "SESSIONS", "CHUNKS"], rows);
}

// --- this disk

function listDisk({ snapshots, bad }: SnapshotList, terminal: Terminal, json: boolean): ExitCode {
  const places = snapshots.map(snapshotPlaceOf);
  terminal.out(json ? `${JSON.stringify({ snapshots: places, bad })}\n` : snapshotTable(places));
  if (!json) for (const { file, problem } of bad) terminal.err(`${file}: ${problem}\n`);
  return places.length === 0 || bad.length > 0 ? 1 : 0;
}

/** `notCompared`: why a whole snapshot could not be rebuilt from the log; null: it was, or was not requested. */
type Verdict = Readonly<{ id: string; position: number | null; problem: string | null; notCompared: string | null }>;

async function verdictOf(
  signed: SignedManifest,
  from: Readonly<{ folder: SnapshotFolder; log: EventLog | null; older: SignedManifest | null }>,
): Promise<Verdict> {
  const { manifest, id } = signed;
  const about = { id, position: manifest.link.position, problem: null, notCompared: null };
  try {
    const projection = await loadSnapshot(manifest, (ref) => from.folder.chunk(ref, "keep"));
    if (projection.recomputedDigest() !== manifest.digest)
      return { ...about, problem: "its contents do not match its digest" };
    if (from.log === null) return about;
    const comparison = await compareSnapshot(signed, { ...from, log: from.log });
    if (comparison === "log-begins-later")
      return {
        ...about,
        notCompared: "the log begins after the previous snapshot, so the events to rebuild it are gone",
      };
    if (comparison === "no-start")
      return { ...about, notCompared: "the previous snapshot, from which it would be rebuilt, cannot be read" };
    return { ...about, problem: comparisonText(comparison) };
  } catch (error) {
    return { ...about, problem: messageOf(error) };
  }
}

async function compareSnapshot(
  { manifest }: SignedManifest,
  { folder, log, older }: Readonly<{ folder: SnapshotFolder; log: EventLog; older: SignedManifest | null }>,
): Promise<SnapshotComparison | "no-start"> {
  let from: { projection: Projection } | null = null;
  try {
    if (older !== null) from = { projection: await loadSnapshot(older.manifest, (ref) => folder.chunk(ref, "keep")) };
  } catch {
    return "no-start"; // its own verdict names the problem
  }
  const never = new AbortController().signal;
  return compareWithLog(manifest, { log, from, turn: async () => void (await turn()), signal: never });
}

function comparisonText(comparison: Exclude<SnapshotComparison, "log-begins-later">): string | null {
  switch (comparison) {
    case "same":
      return null;
    case "different":
      return "the log's events produce a different state";
    case "not-in-the-log":
      return "its link is not in this log: it comes from a lost history or from another log";
  }
}

function verdictText({ id, position, problem, notCompared }: Verdict): string {
  const name = position === null ? id : `position ${position} (${id.slice(0, 12)})`;
  const whole = notCompared === null ? "whole" : `whole; not compared with the log: ${notCompared}`;
  return `${name}: ${problem ?? whole}`;
}

/** @throws CannotError if no snapshot is whole */
async function chooseSnapshot(
  folder: SnapshotFolder,
  wanted: Readonly<{ id: string | undefined; terminal: Terminal }>,
) {
  const { snapshots } = await folder.list();
  const { id, terminal } = wanted;
  for (const signed of snapshots.filter((each) => id === undefined || each.id.startsWith(id))) {
    try {
      const projection = await loadSnapshot(signed.manifest, (ref) => folder.chunk(ref, "keep"));
      if (projection.recomputedDigest() === signed.manifest.digest) return { signed, projection };
      terminal.err(`position ${signed.manifest.link.position}: its contents do not match its digest\n`);
    } catch (error) {
      terminal.err(`position ${signed.manifest.link.position}: ${messageOf(error)}\n`);
    }
  }
  throw new CannotError(`there is no whole snapshot${id === undefined ? "" : ` ${id}`} in ${folder.path}`);
}

/** @throws CannotError */
async function restoreLog(
  log: EventLog,
  { manifest }: SignedManifest,
  { keys, configurations }: SavedKeys,
): Promise<void> {
  const epochs = manifest.epochs.flatMap(({ epoch, start, incarnation }) =>
    incarnation === null ? [] : [{ epoch, start, incarnation }],
  );
  try {
    await log.restore({ type: "begin", base: manifest.link, epochs });
    for (let at = 0; at < keys.length; at += keysPerPage)
      await log.restore({ type: "keys", keys: keys.slice(at, at + keysPerPage) });
    for (const each of configurations) await log.restore({ type: "configurations", configurations: [each] });
  } catch (cause) {
    if (cause instanceof LogRefusedError || cause instanceof MalformedBatchError)
      throw new CannotError(`cannot restore the log: ${cause.message}`, { cause });
    throw cause;
  }
}

/** @throws CannotError */
async function readKeys(path: string): Promise<SavedKeys> {
  try {
    // An older build saved keys alone.
    const [mark, keys, configurations = []] = decode(await readFile(path)) as [unknown, unknown, unknown];
    if (mark !== keysFormat || !Array.isArray(keys) || !Array.isArray(configurations))
      throw new Error("it was not written by cardea snapshot keys");
    return { keys: keys.map(parseWrappedKey), configurations: configurations.map(parseStoredConfiguration) };
  } catch (cause) {
    throw new CannotError(`${path}: ${messageOf(cause)}`, { cause });
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
