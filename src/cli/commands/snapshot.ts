/**
 * `cardea snapshot create|list|verify|restore|keys`: snapshots of what the log comes to.
 *
 * `create` and `list` ask a running cluster. `verify`, `restore` and `keys` read this machine's data folder and the log's store
 * themselves: a log in a file belongs to one process, so stop the server first; Postgres can be read beside a running cluster.
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
import {
  type ClusterStatus,
  type EventLog,
  LogRefusedError,
  loadSnapshot,
  MalformedBatchError,
  parseWrappedKey,
  type SignedManifest,
  type SnapshotFolder,
  type SnapshotList,
  type SnapshotPlace,
} from "../../replication/index.ts";
import { localConfigOf } from "../build/local-config.ts";
import { openLog } from "../build/open-log.ts";
import { snapshotFolderOf } from "../build/snapshot-parts.ts";
import { connectOperator, type OperatorClient } from "../operator/operator-client.ts";
import { operatorOptions, parse, parseWait } from "../terminal/arguments.ts";
import { CannotError, type Command, type ExitCode, type Terminal, UsageError } from "../terminal/command.ts";
import { table } from "../terminal/print.ts";

const pollMs = 250;
const keysPerPage = 5_000;

export const snapshotCreate: Command = {
  name: "snapshot create",
  usage: "[--timeout 60s]",
  summary: "have the leading broker take a snapshot now",
  help: `Appends go on meanwhile. Waits until it is there, and prints it; exit 3 when it is not within --timeout (it may still come: see
cardea snapshot list). Snapshots lie in snapshots of the leader's data folder; the other brokers copy them.`,
  async run(args, terminal) {
    const parsed = parse(args, { ...operatorOptions, timeout: { type: "string" } }, { min: 0, max: 0 });
    const timeoutMs = parseWait(parsed.text("timeout"), 60_000);
    const client = await connectOperator(parsed, terminal);
    try {
      const { position } = (await client.post("/snapshots", {})) as { position: number };
      const place = await waitForSnapshot(client, { position, timeoutMs });
      if (place === undefined)
        throw new CannotError(`no snapshot of position ${position} or beyond is there after ${timeoutMs / 1_000} s`);
      terminal.out(parsed.flag("json") ? `${JSON.stringify(place)}\n` : snapshotTable([place]));
      return 0;
    } finally {
      await client.close();
    }
  },
};

export const snapshotList: Command = {
  name: "snapshot list",
  usage: "[--disk -c cardea.yaml]",
  summary: "the snapshots that the leading broker keeps, or those on this disk",
  help: "With --disk, those in snapshots of the data folder, also the ones that are not to be believed. Exit 1 when there is none, or a bad one.",
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

export const snapshotVerify: Command = {
  name: "snapshot verify",
  usage: "-c cardea.yaml [--against-log]",
  summary: "read every snapshot on this disk back, and compare what it holds with what it says",
  help: `Checks signature, cluster, the hash of every chunk, and the digest of all that is in it. --against-log also makes each again from the
log's own events, from the next older snapshot or the beginning, and compares chunk by chunk. Exit 1 when one is bad, or there is none;
with --against-log, 3 when not one could be compared. An older one whose events retention has dropped is whole, and said to be not compared.`,
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
        // A broker that runs may have let it go since.
        if (verdict.problem === null || (await folder.list()).snapshots.some(({ id }) => id === signed.id))
          verdicts.push(verdict);
      }
      if (parsed.flag("json")) terminal.out(`${JSON.stringify(verdicts)}\n`);
      else if (verdicts.length === 0) terminal.err(`there is no snapshot in ${folder.path}\n`);
      else for (const each of verdicts) terminal.out(`${verdictText(each)}\n`);
      if (verdicts.length === 0 || verdicts.some(({ problem }) => problem !== null)) return 1;
      if (log === null || verdicts.some(({ notCompared }) => notCompared === null)) return 0;
      terminal.err("not one could be compared with the log: have one taken (cardea snapshot create), and ask again\n");
      return 3;
    } finally {
      await log?.close();
    }
  },
};

export const snapshotRestore: Command = {
  name: "snapshot restore",
  usage: "-c cardea.yaml [--id ID] --keys FILE | --without-keys",
  summary: "begin the log anew, in an empty store, behind a snapshot of this disk",
  help: `For when the log itself is lost and no backup of it is left: the last resort, behind a backup's point-in-time restore. The store that the
configuration names must be empty, and no broker may run. The newest snapshot that is whole is taken, or the one that --id names. What
came after it is not in the new log; nodes that have applied it keep what it denied and hand that back. --keys: what cardea snapshot keys
wrote; without it, names and addresses of everybody known are lost, and people sign in anew (--without-keys says that you know).`,
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
    if (config.store.type === "memory") throw new CannotError("a log in memory is not restored");
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
        : `the log begins anew behind ${restored.link}; start the brokers: the first opens a new epoch over it\n`,
    );
    return 0;
  },
};

export const snapshotKeys: Command = {
  name: "snapshot keys",
  usage: "-c cardea.yaml --output FILE",
  summary: "save the wrapped keys of people and what configurations said, which no snapshot holds",
  help: `Keep the file apart from snapshots and let it expire soon: whoever has been erased since is still in it. It is worth something only
together with shared_secret. cardea snapshot restore --keys takes it, and leaves out whom the snapshot knows as erased.`,
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

/** What lies beside the log, and in no snapshot. */
type SavedKeys = Readonly<{ keys: readonly WrappedKey[]; configurations: readonly StoredConfiguration[] }>;

// --- a running cluster

async function snapshotsOf(client: OperatorClient): Promise<readonly SnapshotPlace[]> {
  const { leader } = (await client.get("/nodes")) as ClusterStatus;
  if (leader === null) throw new CannotError("no broker leads");
  if (leader.snapshots === undefined)
    throw new CannotError("the leading broker keeps no snapshots: its log is in memory");
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
  return table(["POSITION", "ID", "TAKEN", "BY", "SESSIONS", "CHUNKS"], rows);
}

// --- this disk

function listDisk({ snapshots, bad }: SnapshotList, terminal: Terminal, json: boolean): ExitCode {
  const places = snapshots.map(snapshotPlaceOf);
  terminal.out(json ? `${JSON.stringify({ snapshots: places, bad })}\n` : snapshotTable(places));
  if (!json) for (const { file, problem } of bad) terminal.err(`${file}: ${problem}\n`);
  return places.length === 0 || bad.length > 0 ? 1 : 0;
}

/** `notCompared`: why a whole one could not be made again from the log; null where it was, or nobody asked. */
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
      return { ...about, problem: "what is in it has another digest than it says" };
    if (from.log === null) return about;
    const comparison = await compareSnapshot(signed, { ...from, log: from.log });
    if (comparison === "log-begins-later")
      return { ...about, notCompared: "the log begins behind the one before it, so it cannot be made again" };
    if (comparison === "no-start")
      return { ...about, notCompared: "the one before it, from which it would be made again, cannot be read" };
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
    return "no-start"; // its own verdict says what is wrong with it
  }
  const never = new AbortController().signal;
  return compareWithLog(manifest, { log, from, turn: async () => void (await turn()), signal: never });
}

function comparisonText(comparison: Exclude<SnapshotComparison, "log-begins-later">): string | null {
  switch (comparison) {
    case "same":
      return null;
    case "different":
      return "the log's own events come to something else";
    case "not-in-the-log":
      return "its place is not in this log: it is of a history that was lost, or of another log";
  }
}

function verdictText({ id, position, problem, notCompared }: Verdict): string {
  const name = position === null ? id : `position ${position} (${id.slice(0, 12)})`;
  const whole = notCompared === null ? "whole" : `whole; not compared with the log: ${notCompared}`;
  return `${name}: ${problem ?? whole}`;
}

/** @throws CannotError when none is whole */
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
      terminal.err(`position ${signed.manifest.link.position}: what is in it has another digest than it says\n`);
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
      throw new CannotError(`the log cannot be begun anew: ${cause.message}`, { cause });
    throw cause;
  }
}

/** @throws CannotError */
async function readKeys(path: string): Promise<SavedKeys> {
  try {
    // An older build saved keys alone.
    const [mark, keys, configurations = []] = decode(await readFile(path)) as [unknown, unknown, unknown];
    if (mark !== keysFormat || !Array.isArray(keys) || !Array.isArray(configurations))
      throw new Error("it is not what cardea snapshot keys writes");
    return { keys: keys.map(parseWrappedKey), configurations: configurations.map(parseStoredConfiguration) };
  } catch (cause) {
    throw new CannotError(`${path}: ${messageOf(cause)}`, { cause });
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
