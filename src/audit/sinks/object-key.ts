/**
 * Object key: names a file of records in object storage by its node, its hour and its records. Pure.
 *
 *   prefix/node=proxy-1/date=2026-11-30/hour=04/<boot>-000000000001-000000000950.ndjson.gz
 *
 * - The same records always have the same key, so a repeated upload replaces the object.
 * - The hour is that of the first record, by the node's clock. A batch over several hours has one object for each.
 * - `name=value` folders are what query engines read as partitions.
 */
import type { S3SinkConfig } from "../../config/index.ts";
import type { AuditBatch } from "../spool/index.ts";

export type ObjectPart = Readonly<{ hour: number; first: number; last: number; bytes: Buffer }>;

type Compression = S3SinkConfig["compression"];

const hourMs = 3_600_000;
const endings: Readonly<Record<Compression, string>> = { gzip: ".ndjson.gz", zstd: ".ndjson.zst", none: ".ndjson" };
const atStart = Buffer.from('"at":');

/**
 * The records of a batch by hour, in order. Hours never go back within a batch: a record that is slightly older than
 * the one before stays with it.
 */
export function partsByHour({ first, last, bytes }: AuditBatch): readonly ObjectPart[] {
  const parts: ObjectPart[] = [];
  let begun: Readonly<{ hour: number; first: number; from: number }> | null = null;
  let number = first;
  for (let at = 0; at < bytes.length; number++) {
    const end = bytes.indexOf(0x0a, at) + 1 || bytes.length;
    const hour: number = Math.max(begun?.hour ?? 0, hourOf(bytes.subarray(at, end)));
    if (begun !== null && hour > begun.hour) {
      parts.push({ hour: begun.hour, first: begun.first, last: number - 1, bytes: bytes.subarray(begun.from, at) });
      begun = null;
    }
    begun ??= { hour, first: number, from: at };
    at = end;
  }
  if (begun !== null) parts.push({ hour: begun.hour, first: begun.first, last, bytes: bytes.subarray(begun.from) });
  return parts;
}

/** Hours since 1970; 0: the line has no time. What precedes `at` in a line are names that no caller chooses. */
function hourOf(line: Buffer): number {
  const at = line.indexOf(atStart);
  if (at < 0) return 0;
  const digits = /^\d{1,15}/.exec(line.toString("latin1", at + atStart.length, at + atStart.length + 15))?.[0];
  return digits === undefined ? 0 : Math.floor(Number(digits) / hourMs);
}

export function objectKeyOf(
  { boot, isGap, hour, first, last }: Pick<AuditBatch, "boot" | "isGap"> & Omit<ObjectPart, "bytes">,
  { prefix, node, compression }: Readonly<{ prefix: string; node: string; compression: Compression }>,
): string {
  const records = `${encodeURIComponent(boot)}-${numberOf(first)}-${numberOf(last)}${isGap === true ? "-gap" : ""}`;
  return `${nodeFolderOf(prefix, node)}${hourFolderOf(hour)}${records}${endings[compression]}`;
}

/** So many digits sort like numbers. */
const numberOf = (number: number): string => String(number).padStart(12, "0");

export const nodesFolderOf = (prefix: string): string => `${prefix === "" ? "" : `${prefix}/`}node=`;

function nodeFolderOf(prefix: string, node: string): string {
  return `${nodesFolderOf(prefix)}${encodeURIComponent(node)}/`;
}

/** @param hour since 1970 */
export function hourFolderOf(hour: number): string {
  const [date = "", time = ""] = new Date(hour * hourMs).toISOString().split("T");
  return `date=${date}/hour=${time.slice(0, 2)}/`;
}

export const hourAt = (ms: number): number => Math.floor(ms / hourMs);

export type RecordsKey = Readonly<{ folder: string; boot: string; first: number; last: number }>;

/**
 * @returns the hour's folder, the boot as it is in the key, and the numbers; for a file of records with another name,
 * the name as its boot; undefined if it is none
 */
export function recordsKeyOf(key: string): RecordsKey | undefined {
  if (compressionOf(key) === null) return undefined;
  const end = key.lastIndexOf("/") + 1;
  const [folder, name] = [key.slice(0, end), key.slice(end)];
  const [, boot, first, last] = /^(.+)-(\d{12,15})-(\d{12,15})(?:-gap)?\.ndjson/.exec(name) ?? [];
  return boot === undefined
    ? { folder, boot: name, first: 0, last: 0 }
    : { folder, boot, first: Number(first), last: Number(last) };
}

/** @returns null if it is not the name of a file of records */
export function compressionOf(key: string): Compression | null {
  const found = Object.entries(endings).find(([, ending]) => key.endsWith(ending));
  return (found?.[0] as Compression | undefined) ?? null;
}
