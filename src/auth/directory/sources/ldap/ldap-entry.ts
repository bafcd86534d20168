/**
 * LDAP entry: reads what an entry says: texts, binary ids, names that are compared, and ranges of values. Pure.
 */
import { DirectoryError } from "../../directory-error.ts";
import { plainText } from "../../page-check.ts";

/** Values by attribute name in lowercase, options such as `;range=0-1499` included. */
export type LdapEntry = Readonly<{ dn: string; attributes: ReadonlyMap<string, readonly Buffer[]> }>;

/** The first value as text; "": none. */
export function textOf(entry: LdapEntry, attribute: string): string {
  const [value] = entry.attributes.get(attribute.toLowerCase()) ?? [];
  return value === undefined ? "" : plainText(value.toString("utf8"));
}

/** The id of an entry; "": it has none. Active Directory's GUIDs are binary. */
export function idOf(entry: LdapEntry, attribute: string): string {
  const [value] = entry.attributes.get(attribute.toLowerCase()) ?? [];
  if (value === undefined) return "";
  if (attribute.toLowerCase() !== "objectguid") return plainText(value.toString("utf8"));
  if (value.byteLength !== 16) throw malformed("an objectGUID does not have 16 bytes");
  const part = (from: number, to: number): string => value.subarray(from, to).toString("hex");
  const first = value.readUInt32LE(0).toString(16).padStart(8, "0");
  const second = value.readUInt16LE(4).toString(16).padStart(4, "0");
  const third = value.readUInt16LE(6).toString(16).padStart(4, "0");
  return `${first}-${second}-${third}-${part(8, 10)}-${part(10, 16)}`;
}

/** The value of an id in a filter; undefined: no entry can have this id. */
export function idValue(id: string, attribute: string): Buffer | undefined {
  if (attribute.toLowerCase() !== "objectguid") return Buffer.from(id, "utf8");
  const found = /^([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{12})$/.exec(id);
  if (found === null) return undefined;
  const [, first = "", second = "", third = "", fourth = "", fifth = ""] = found;
  const value = Buffer.alloc(16);
  value.writeUInt32LE(Number.parseInt(first, 16), 0);
  value.writeUInt16LE(Number.parseInt(second, 16), 4);
  value.writeUInt16LE(Number.parseInt(third, 16), 6);
  value.write(fourth + fifth, 8, "hex");
  return value;
}

/** The last number of a security identifier, by which `primaryGroupID` names a group; null: it has none. */
export function relativeIdOf(entry: LdapEntry): number | null {
  const [sid] = entry.attributes.get("objectsid") ?? [];
  if (sid === undefined || sid.byteLength < 12 || sid.byteLength !== 8 + 4 * (sid[1] ?? 0)) return null;
  return sid.readUInt32LE(sid.byteLength - 4);
}

/** The security identifier of another object of the same domain. Null: the entry has none. */
export function siblingSid(entry: LdapEntry, relativeId: number): Buffer | null {
  const [sid] = entry.attributes.get("objectsid") ?? [];
  if (sid === undefined || relativeIdOf(entry) === null || relativeId < 0 || relativeId > 0xffff_ffff) return null;
  const sibling = Buffer.from(sid);
  sibling.writeUInt32LE(relativeId, sibling.byteLength - 4);
  return sibling;
}

const unusual = /[\\;]|^ | $| {2}| [,=+]|[,=+] /;

/**
 * A distinguished name in a form in which equal names are equal (RFC 4514): without case, optional spaces, and kinds of
 * escapes. Values that are equal only by their attribute's own rule, such as telephone numbers, stay different.
 */
export function dnKey(dn: string): string {
  // Most names have nothing that can be written in two ways.
  if (!unusual.test(dn)) return dn.toLowerCase().replace(/[,=+]/g, "\u0000$&");
  let key = "";
  let spaces = 0;
  /** At the start of a type or value, where spaces do not count. */
  let isStart = true;
  for (let at = 0; at < dn.length; at++) {
    const char = dn[at] ?? "";
    if (char === " ") {
      spaces += 1;
      continue;
    }
    const isSeparator = char === "," || char === ";" || char === "=" || char === "+";
    // Spaces inside a value count once.
    if (spaces > 0 && !isStart && !isSeparator) key += " ";
    spaces = 0;
    if (isSeparator) {
      key += char === ";" ? "\u0000," : `\u0000${char}`;
      isStart = true;
      continue;
    }
    isStart = false;
    if (char !== "\\") {
      key += char;
      continue;
    }
    const escaped = escapedText(dn, at + 1);
    key += escaped.text;
    at = escaped.last;
  }
  return key.toLowerCase();
}

/** The text of one or more escapes: `\,`, or bytes of UTF-8 such as `\C3\A9`. */
function escapedText(dn: string, from: number): Readonly<{ text: string; last: number }> {
  const hex = /^[0-9a-f]{2}(?:\\[0-9a-f]{2})*/i.exec(dn.slice(from, from + 768))?.[0];
  if (hex === undefined) return { text: dn[from] ?? "", last: from };
  return { text: Buffer.from(hex.replaceAll("\\", ""), "hex").toString("utf8"), last: from + hex.length - 1 };
}

export type LdapValues = Readonly<{
  values: readonly Buffer[];
  /** The index at which the next range begins; null: there are no more values. */
  next: number | null;
}>;

/**
 * Values of an attribute, of which Active Directory sends a range at a time (`member;range=0-1499`).
 * https://learn.microsoft.com/windows/win32/adsi/enumerating-groups-that-contain-many-members
 */
export function valuesOf(entry: LdapEntry, attribute: string, from: number): LdapValues {
  const name = attribute.toLowerCase();
  for (const [key, values] of entry.attributes) {
    if (!key.startsWith(`${name};range=`)) continue;
    const found = /^(\d{1,9})-(\d{1,9}|\*)$/.exec(key.slice(name.length + 7));
    if (found === null || Number(found[1]) !== from) throw malformed("a range of members is not the one asked for");
    if (found[2] === "*") return { values, next: null };
    const next = Number(found[2]) + 1;
    if (next !== from + values.length || values.length === 0) throw malformed("a range of members has another length");
    return { values, next };
  }
  if (from > 0) throw malformed("the server did not send the range of members asked for");
  return { values: entry.attributes.get(name) ?? [], next: null };
}

/** GeneralizedTime in UTC, or a number, as text that sorts by time; "": none or another form. */
export function markOf(entry: LdapEntry, attribute: string): string {
  const text = textOf(entry, attribute);
  if (/^\d{1,19}$/.test(text)) return text.padStart(19, "0");
  return /^\d{14}(\.\d{1,6})?Z$/.test(text) ? text.slice(0, 14) : "";
}

function malformed(problem: string): DirectoryError {
  return new DirectoryError(problem, { kind: "malformed" });
}
