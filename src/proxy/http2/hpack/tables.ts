/**
 * HPACK tables (RFC 7541 §2.3 and Appendix A): the static one, and the dynamic one of a decoder. Pure.
 *
 * An entry carries what was found out about its field, so that a field that is sent again is not checked again.
 */
import { type FieldKind, fieldKindOf, isFieldValue } from "./header-fields.ts";

export type TableEntry = Readonly<{ name: string; value: string; kind: FieldKind; isValueValid: boolean }>;

/** What an entry counts for beside its name and value (RFC 7541 §4.1). */
export const entryOverheadBytes = 32;
/** The size with which both sides begin, and the largest here. */
export const tableBytesMax = 4_096;

export function newTableEntry(name: string, value: string): TableEntry {
  return { name, value, kind: fieldKindOf(name), isValueValid: isFieldValue(value) };
}

/** A name and its value, if it has one, in each line. */
const staticTable = `
:authority
:method GET
:method POST
:path /
:path /index.html
:scheme http
:scheme https
:status 200
:status 204
:status 206
:status 304
:status 400
:status 404
:status 500
accept-charset
accept-encoding gzip, deflate
accept-language
accept-ranges
accept
access-control-allow-origin
age
allow
authorization
cache-control
content-disposition
content-encoding
content-language
content-length
content-location
content-range
content-type
cookie
date
etag
expect
expires
from
host
if-match
if-modified-since
if-none-match
if-range
if-unmodified-since
last-modified
link
location
max-forwards
proxy-authenticate
proxy-authorization
range
referer
refresh
retry-after
server
set-cookie
strict-transport-security
transfer-encoding
user-agent
vary
via
www-authenticate
`;

/** By index less one. */
export const staticEntries: readonly TableEntry[] = staticTable
  .trim()
  .split("\n")
  .map((line) => {
    const [name = "", ...value] = line.split(" ");
    return newTableEntry(name, value.join(" "));
  });

/** The first index of each name. */
export const staticNameIndexes: ReadonlyMap<string, number> = new Map(
  staticEntries.map(({ name }, n) => [name, n + 1] as const).reverse(),
);

/** A table of 4,096 bytes holds no more entries than this. */
const entriesMax = tableBytesMax / entryOverheadBytes;

/** The entries that a peer has added, in a ring. */
export class DecoderTable {
  readonly #ring: (TableEntry | undefined)[] = new Array<undefined>(entriesMax).fill(undefined);
  #added = 0;
  #count = 0;
  #bytes = 0;
  #bytesMax = tableBytesMax;

  /** @param index counts from 1, the static entries first. @returns undefined: there is no such entry */
  find(index: number): TableEntry | undefined {
    if (index <= staticEntries.length) return staticEntries[index - 1];
    const age = index - staticEntries.length; // 1: the newest
    return age <= this.#count ? this.#ring[(this.#added - age) % entriesMax] : undefined;
  }

  add(entry: TableEntry): void {
    const bytes = bytesOf(entry);
    while (this.#count > 0 && this.#bytes + bytes > this.#bytesMax) this.#evict();
    if (bytes > this.#bytesMax) return; // it empties the table (RFC 7541 §4.4)
    this.#ring[this.#added % entriesMax] = entry;
    this.#added += 1;
    this.#count += 1;
    this.#bytes += bytes;
  }

  /** @returns false: more than this side has announced */
  resize(bytesMax: number): boolean {
    if (bytesMax > tableBytesMax) return false;
    this.#bytesMax = bytesMax;
    while (this.#bytes > bytesMax) this.#evict();
    return true;
  }

  #evict(): void {
    const at = (this.#added - this.#count) % entriesMax;
    const oldest = this.#ring[at];
    this.#ring[at] = undefined;
    this.#count -= 1;
    if (oldest !== undefined) this.#bytes -= bytesOf(oldest);
  }
}

function bytesOf({ name, value }: TableEntry): number {
  return name.length + value.length + entryOverheadBytes;
}
