/**
 * Records: external data about people and addresses, for the criterion `record`.
 *
 * - A data set is replaced as a whole after a successful read, and kept when a read fails.
 * - A set that was never read, or is too old, is unknown. A decision that depends on it is neither yes nor no
 *   (`record-unavailable`).
 *
 * Pure.
 */
import { matcherOfRanges } from "../source-ip.ts";

/** Attributes of a request or its user that can identify a record. */
export const recordKeys = ["user.id", "user.email", "request.ip", "request.client_certificate.fingerprint"] as const;
export type RecordKey = (typeof recordKeys)[number];

export type DataRecord = Readonly<Record<string, unknown>>;

/** The configured data sets, by record type. */
export type Records = ReadonlyMap<string, RecordSet>;
export const noRecords: Records = new Map();

type Content = Readonly<{ byId: ReadonlyMap<string, DataRecord>; byAddress: (ip: string) => DataRecord | undefined }>;

export class RecordSet {
  readonly type: string;
  readonly key: RecordKey;
  #content: Content | undefined;
  /** Monotonic time of the last successful read; the loader sets it. undefined: never read. */
  readAt: number | undefined;

  constructor(type: string, key: RecordKey) {
    this.type = type;
    this.key = key;
  }

  get known(): boolean {
    return this.#content !== undefined;
  }

  /** @returns undefined: no such record. Check `known` first. */
  find(name: string): DataRecord | undefined {
    const content = this.#content;
    return content?.byId.get(name) ?? (this.key === "request.ip" ? content?.byAddress(name) : undefined);
  }

  /** Replaces all records. The last of several records with one id counts. */
  replace(records: readonly DataRecord[]): void {
    const byId = new Map<string, DataRecord>();
    const ranges: { range: string; record: DataRecord }[] = [];
    for (const record of records) {
      const range = rangeOf(record);
      if (range !== undefined) ranges.push({ range, record });
      if (record["id"] !== undefined) byId.set(String(record["id"]), record);
    }
    this.#content = { byId, byAddress: matcherOfRanges(ranges) };
  }

  /** Copies the records of another set, and their age. */
  adopt(other: RecordSet): void {
    this.#content = other.#content;
    this.readAt = other.readAt;
  }

  /** Drops all records, because they are too old. */
  clear(): void {
    this.#content = undefined;
  }
}

/** An empty set for each source. */
export function recordSetsOf(sources: readonly Readonly<{ type: string; key: RecordKey }>[]): Records {
  return new Map(sources.map(({ type, key }) => [type, new RecordSet(type, key)]));
}

/**
 * Has a set for every type. Used where the sources are unknown, so that no policy is refused for naming one.
 */
export class AnyRecords extends Map<string, RecordSet> {
  override get(type: string): RecordSet {
    const known = super.get(type);
    if (known !== undefined) return known;
    const made = new RecordSet(type, "user.id");
    this.set(type, made);
    return made;
  }
}

/** Pomerium's `{"$index": {"cidr": "10.0.0.0/8"}}`. */
export function rangeOf(record: DataRecord): string | undefined {
  const index = record["$index"];
  const range: unknown = typeof index === "object" && index !== null ? Reflect.get(index, "cidr") : undefined;
  return typeof range === "string" ? range : undefined;
}
