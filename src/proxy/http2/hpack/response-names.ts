/**
 * Field names of responses, and of requests to upstreams: what the encoder needs to know of a name, kept for names
 * that were seen before. Pure.
 *
 * It is shared by the connections of a listener or an upstream pool, and bounded in bytes
 * (message/header-name-cache.ts).
 */
import { HeaderNameCache } from "../../message/header-name-cache.ts";
import { fieldKind, fieldKindOf } from "./header-fields.ts";
import { staticNameIndexes } from "./tables.ts";
import { formatInteger, formatString } from "./text.ts";

/** Lines that frame a message of HTTP/1.1 or concern its connection. */
const omittedNames: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
]);

/** Values that differ from one message to the next, or are secrets (RFC 7541 §7.1). */
const unindexedNames: ReadonlySet<string> = new Set([
  ":path",
  "cookie",
  "proxy-authorization",
  "age",
  "content-length",
  "content-location",
  "content-range",
  "etag",
  "last-modified",
  "location",
  "expires",
  "link",
  "refresh",
  "set-cookie",
  "www-authenticate",
  "authorization",
  "x-request-id",
  "grpc-message",
  "grpc-status-details-bin",
  "traceparent",
  "tracestate",
  "x-pomerium-jwt-assertion",
]);

/** New values of a name, beyond those that were found again, until its values are no longer added to tables. */
const missesMax = 32;

export type ResponseNameUse = "plain" | "omitted" | "date" | "length" | "type";

export class ResponseName {
  readonly lower: string;
  readonly use: ResponseNameUse;
  /** The field without its value, as a literal without indexing, and with incremental indexing. */
  readonly plain: string;
  readonly indexing: string;
  readonly #isIndexed: boolean;
  #misses = 0;

  constructor(name: string) {
    const lower = name.toLowerCase();
    this.lower = lower;
    this.use = useOf(lower);
    const index = staticNameIndexes.get(lower) ?? 0;
    const text = index === 0 ? formatString(lower) : "";
    this.plain = formatInteger(index, 4, 0x00) + text;
    this.indexing = formatInteger(index, 6, 0x40) + text;
    this.#isIndexed = !unindexedNames.has(lower);
  }

  get isWritable(): boolean {
    return fieldKindOf(this.lower) !== fieldKind.invalid && !this.lower.startsWith(":");
  }

  /** A value of this name may be in a table. */
  get mayBeIndexed(): boolean {
    return this.#isIndexed;
  }

  onFound(): void {
    if (this.#misses > 0) this.#misses -= 1;
  }

  /** @returns whether a new value is added to the table: rarely, if the values of this name keep changing */
  onMissed(): boolean {
    if (!this.#isIndexed) return false;
    this.#misses += 1;
    return this.#misses <= missesMax || this.#misses % 256 === 0;
  }
}

function useOf(lower: string): ResponseNameUse {
  if (omittedNames.has(lower)) return "omitted";
  if (lower === "date") return "date";
  if (lower === "content-length") return "length";
  return lower === "content-type" ? "type" : "plain";
}

export class ResponseNames {
  readonly #cache = new HeaderNameCache<ResponseName>();

  /** @param name as its sender wrote it */
  of(name: string): ResponseName {
    const cached = this.#cache.get(name);
    if (cached !== undefined) return cached;
    const created = new ResponseName(name);
    this.#cache.add(name, created);
    return created;
  }
}
