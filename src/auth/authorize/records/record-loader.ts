/**
 * Record loader: reads each data source on its own schedule and keeps the data sets up to date.
 *
 * - A read that fails, is too long or is invalid anywhere changes nothing. Retries start fast and back off to the
 *   interval.
 * - Data older than `max_age` is dropped.
 * - The first failure is logged with the problem and the age of the data, and so is the recovery. No content is logged.
 */
import { open, stat } from "node:fs/promises";
import type { DataSource } from "../../../config/index.ts";
import { parseRecordContent, type RecordFormat } from "./record-content.ts";
import type { RecordSet } from "./records.ts";

export type RecordFetch = (
  url: string,
  init: Readonly<{ headers: Readonly<Record<string, string>>; signal: AbortSignal; redirect: "manual" }>,
) => Promise<
  Readonly<{
    status: number;
    headers: Readonly<{ get(name: string): string | null }>;
    body: AsyncIterable<Uint8Array> | null;
  }>
>;

export type RecordLoaderDeps = Readonly<{
  sources: readonly DataSource[];
  /** One set per source, by type. */
  sets: ReadonlyMap<string, RecordSet>;
  fetch: RecordFetch;
  /** Monotonic milliseconds. */
  monotonic: () => number;
  /** Called after a data set was replaced or dropped. */
  onChange: (type: string) => void;
  log: Readonly<{ info(facts: object, message: string): void; warn(facts: object, message: string): void }>;
}>;

export type RecordLoader = Readonly<{
  /** Settles once each source was tried. */
  firstAttempts: Promise<void>;
  stop(): Promise<void>;
}>;

const firstRetryMs = 1_000;
/** Interval of the age check. */
const ageCheckMs = 1_000;

export function startRecordLoader(deps: RecordLoaderDeps): RecordLoader {
  const stopping = new AbortController();
  const loaders = deps.sources.flatMap((source) => {
    const set = deps.sets.get(source.type);
    return set === undefined ? [] : [startSourceLoader(source, set, deps, stopping.signal)];
  });
  return {
    firstAttempts: Promise.all(loaders.map(({ firstAttempt }) => firstAttempt)).then(() => {}),
    async stop() {
      stopping.abort();
      await Promise.all(loaders.map(({ ended }) => ended));
    },
  };
}

/** Reads each source once. @returns problems by type */
export async function readRecordsOnce(
  { sources, sets, fetch }: Pick<RecordLoaderDeps, "sources" | "sets" | "fetch">,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, string>> {
  const problems = new Map<string, string>();
  await Promise.all(
    sources.map(async (source) => {
      const problem = await load(source, sets.get(source.type), { fetch, signal });
      if (problem !== undefined) problems.set(source.type, problem);
    }),
  );
  return problems;
}

function startSourceLoader(
  source: DataSource,
  set: RecordSet,
  { fetch, monotonic, onChange, log }: RecordLoaderDeps,
  signal: AbortSignal,
): Readonly<{ firstAttempt: Promise<void>; ended: Promise<void> }> {
  const firstAttempt = Promise.withResolvers<void>();
  let failures = 0;
  let content: string | undefined;

  async function loadOnce(): Promise<void> {
    const problem = await load(source, set, {
      fetch,
      signal,
      before: content,
      onContent: (text) => (content = text),
      onChange: () => onChange(source.type),
    });
    if (signal.aborted) return;
    if (problem === undefined) {
      set.readAt = monotonic();
      if (failures > 0) log.info({ type: source.type, failures }, "data source can be read again");
      failures = 0;
      return;
    }
    failures += 1;
    if (failures === 1)
      log.warn(
        { type: source.type, from: sourceName(source), problem, ageMs: ageMs() },
        "cannot read a data source; keeping the data that was read last",
      );
  }

  const ageMs = (): number | null => (set.readAt === undefined ? null : Math.round(monotonic() - set.readAt));

  /** Separate from reads: a read may take long, and a reload must not reset the age. */
  function clearIfOld(): void {
    const age = ageMs();
    if (!set.known || age === null || age <= source.maxAgeMs) return;
    set.clear();
    content = undefined;
    log.warn({ type: source.type, ageMs: age }, "the data of a source is older than max_age; dropping it");
    onChange(source.type);
  }

  async function run(): Promise<void> {
    if (source.maxAgeMs > 0) {
      clearIfOld();
      const watch = setInterval(clearIfOld, Math.min(ageCheckMs, source.maxAgeMs)).unref();
      signal.addEventListener("abort", () => clearInterval(watch), { once: true });
    }
    while (!signal.aborted) {
      await loadOnce();
      firstAttempt.resolve();
      const retryMs = Math.min(source.everyMs, firstRetryMs * 2 ** Math.min(failures, 20));
      await pause(failures === 0 ? source.everyMs : retryMs, signal);
    }
  }
  const ended = run().finally(() => firstAttempt.resolve());
  return { firstAttempt: firstAttempt.promise, ended };
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(done, ms);
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
    signal.addEventListener("abort", done, { once: true });
    timer.unref();
  });
}

type LoadOptions = Readonly<{
  fetch: RecordFetch;
  signal: AbortSignal;
  /** Content of the last read; equal content changes nothing. */
  before?: string | undefined;
  onContent?: (text: string) => void;
  onChange?: () => void;
}>;

/** @returns the problem; undefined: the set equals the source */
async function load(source: DataSource, set: RecordSet | undefined, options: LoadOptions): Promise<string | undefined> {
  if (set === undefined) return "there is no data set for it";
  let read: Readonly<{ text: string; format: RecordFormat }>;
  try {
    const limit = AbortSignal.any([options.signal, AbortSignal.timeout(source.timeoutMs)]);
    read =
      source.from.type === "file"
        ? await readFileOf(source, source.from.path)
        : await readUrl(source, source.from.url, options.fetch, limit);
  } catch (error) {
    return error instanceof SourceError ? error.message : reasonOf(error);
  }
  if (set.known && read.text === options.before) return undefined;
  try {
    const content = parseRecordContent(read.text, { format: read.format, recordsMax: source.recordsMax });
    if (!content.ok) return content.problem;
    set.replace(content.records);
  } catch (error) {
    return reasonOf(error); // whatever a source sends, it ends nothing but its own reading
  }
  options.onContent?.(read.text);
  options.onChange?.();
  return undefined;
}

class SourceError extends Error {}

async function readFileOf(source: DataSource, path: string): Promise<Readonly<{ text: string; format: RecordFormat }>> {
  const stats = await stat(path);
  if (!stats.isFile()) throw new SourceError("is not a file"); // a pipe or device may never end
  if (stats.size > source.bytesMax) throw new SourceError(tooLongMessage(source));
  await using file = await open(path, "r");
  // The file may have grown meanwhile: reading one byte beyond the bound detects it.
  const text = await readText(source, file.createReadStream({ end: source.bytesMax }));
  return { text, format: source.format ?? (/\.csv$/i.test(path) ? "csv" : "json") };
}

async function readUrl(
  source: DataSource,
  url: URL,
  fetch: RecordFetch,
  signal: AbortSignal,
): Promise<Readonly<{ text: string; format: RecordFormat }>> {
  const answer = await fetch(url.href, { headers: source.headers, signal, redirect: "manual" });
  if (answer.status !== 200) throw new SourceError(`answered ${answer.status}`);
  const isCsv = /^text\/csv\b/i.test(answer.headers.get("content-type") ?? "") || /\.csv$/i.test(url.pathname);
  return {
    text: await readText(source, answer.body ?? []),
    format: source.format ?? (isCsv ? "csv" : "json"),
  };
}

/** Reads a body as strict UTF-8. */
async function readText(source: DataSource, body: AsyncIterable<Uint8Array> | readonly Uint8Array[]): Promise<string> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of body) {
    length += chunk.length;
    if (length > source.bytesMax) throw new SourceError(tooLongMessage(source));
    chunks.push(chunk);
  }
  return new TextDecoder("utf8", { fatal: true }).decode(Buffer.concat(chunks));
}

function tooLongMessage({ bytesMax }: DataSource): string {
  return `is longer than ${bytesMax} bytes`;
}

/** Name of a source without its query, which may hold a secret. */
function sourceName({ from }: DataSource): string {
  return from.type === "file" ? from.path : `${from.url.origin}${from.url.pathname}`;
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return "cannot be read";
  const cause = error.cause instanceof Error ? error.cause : error;
  const code = "code" in cause && typeof cause.code === "string" ? cause.code : cause.name;
  return code === "TimeoutError"
    ? "did not answer in time"
    : code === "ENOENT"
      ? "does not exist"
      : `cannot be read: ${code}`;
}
