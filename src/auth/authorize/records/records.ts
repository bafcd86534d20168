/**
 * Records: external data about people and addresses, for the criterion `record`.
 *
 * Pure. A data set is replaced as a whole when its source has been read, and kept when a read fails. A set that was
 * never read, or whose content is too old, is unknown: a decision that rests on it is neither yes nor no
 * (`record-unavailable`).
 */
import { matcherOfRanges } from "../source-ip.ts";

/** What of a request or its user names a record. */
export const recordKeys = ["user.id", "user.email", "request.ip", "request.client_certificate.fingerprint"] as const;
export type RecordKey = (typeof recordKeys)[number];

export type DataRecord = Readonly<Record<string, unknown>>;

/** The sets that a configuration names, by record type. */
export type Records = ReadonlyMap<string, RecordSet>;
export const noRecords: Records = new Map();

type Content = Readonly<{ byId: ReadonlyMap<string, DataRecord>; byAddress: (ip: string) => DataRecord | undefined }>;

export class RecordSet {
  readonly type: string;
  readonly key: RecordKey;
  #content: Content | undefined;
  /** When its source was last read well, on a clock that only grows; the loader's to say. */
  readAt: number | undefined;

  constructor(type: string, key: RecordKey) {
    this.type = type;
    this.key = key;
  }

  get known(): boolean {
    return this.#content !== undefined;
  }

  /** @returns undefined: there is no such record. Ask `known` first. */
  find(name: string): DataRecord | undefined {
    const content = this.#content;
    return content?.byId.get(name) ?? (this.key === "request.ip" ? content?.byAddress(name) : undefined);
  }

  /** Takes the place of everything before. Of two records with one id the last counts. */
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

  /** Begins with what another one knows, which is no younger for that. */
  adopt(other: RecordSet): void {
    this.#content = other.#content;
    this.readAt = other.readAt;
  }

  /** What it holds is too old to be believed. */
  clear(): void {
    this.#content = undefined;
  }
}

/** A set for each source, with nothing read yet. */
export function recordSetsOf(sources: readonly Readonly<{ type: string; key: RecordKey }>[]): Records {
  return new Map(sources.map(({ type, key }) => [type, new RecordSet(type, key)]));
}

/**
 * Knows every type that it is asked for: where it is not known which sources there are, no policy is wrong for naming
 * one.
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
