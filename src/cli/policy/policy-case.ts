/**
 * Policy case: one request by one person, written down to evaluate a policy.
 *
 * Pure. An error names the key in one line; an unknown key is reported and ignored. Claims may be nested as an identity
 * provider nests them; the user's claims override the session's.
 */
import { type DeviceCredential, parsePresentedKey } from "../../auth/index.ts";
import { type Claims, CodedError, flattenClaims } from "../../events/index.ts";
import type { DryRunRequest } from "../../proxy/index.ts";

export type CasePerson = Readonly<{
  sessionId: string;
  /** The identity provider's subject. */
  userId: string;
  email: string;
  name: string;
  claims: Claims;
  groups: readonly string[];
  devices: readonly DeviceCredential[];
  /** Null: it never expires. */
  expiresAtMs: number | null;
}>;
export type CaseCertificate = Readonly<{ presented: boolean; leaf: string; intermediates: string }>;
export type Case = Readonly<{
  /** Echoed as it is. */
  id: unknown;
  head: DryRunRequest;
  certificate: CaseCertificate | null;
  ssh: Readonly<{ username: string; publicKey: string | null }> | null;
  mcp: Readonly<{ method: string; tool: string | null }> | null;
  person: CasePerson | null;
  /** The record of this caller by type; null: there is none. */
  records: ReadonlyMap<string, Readonly<Record<string, unknown>> | null>;
  /** Null: now. */
  nowMs: number | null;
}>;

/** A case that cannot be evaluated; the message names the key. */
export class CaseError extends CodedError<"ERR_CLI_CASE"> {
  override readonly code = "ERR_CLI_CASE";
  constructor(key: string, problem: string) {
    super(`${key}: ${problem}`);
  }
}

/** Receives each unknown key. */
export type Warn = (key: string) => void;
/** Scheme and authority of a URL without a host. */
export type CaseDefaults = Readonly<{ scheme: "http" | "https"; authority: string }>;

/** @throws CaseError */
export function readCase(value: unknown, defaults: CaseDefaults, warn: Warn): Case {
  const whole = new CaseObject("", value, warn);
  const request = whole.child("request") ?? refuse("request", "is missing");
  const session = whole.child("session");
  const user = whole.child("user");
  const ssh = request.child("ssh") ?? whole.child("ssh");
  const mcp = request.child("mcp") ?? whole.child("mcp");
  const groups = whole.strings("groups");
  const found: Case = {
    id: whole.raw("id") ?? null,
    head: readHead(request, defaults),
    certificate: readCertificate(request.child("client_certificate")),
    ssh: ssh === null ? null : { username: ssh.string("username") ?? "", publicKey: readKey(ssh) },
    mcp:
      mcp === null
        ? null
        : { method: mcp.string("method") ?? "", tool: mcp.child("tool_call")?.string("name") ?? null },
    person: session === null ? null : readPerson(session, user, groups),
    records: readRecords(whole.child("records")),
    nowMs: whole.time("now"),
  };
  mcp?.raw("id");
  mcp?.child("tool_call")?.raw("arguments");
  whole.raw("expect"); // for table tests
  whole.raw("name");
  for (const part of [whole, request, session, session === null ? null : user, ssh, mcp]) part?.warnOfUnknownKeys();
  return found;
}

function refuse(key: string, problem: string): never {
  throw new CaseError(key, problem);
}

function readPerson(session: CaseObject, user: CaseObject | null, groups: readonly string[]): CasePerson | null {
  const sessionId = session.string("id") ?? refuse("session.id", "is missing");
  const userId = session.string("user_id") ?? refuse("session.user_id", "is missing");
  const expiresAtMs = session.time("expires_at");
  const devices = session.list("device_credentials").map((device) => {
    const credential = {
      id: device.string("id") ?? refuse(`${device.key}.id`, "is missing"),
      typeId: device.string("type_id") ?? refuse(`${device.key}.type_id`, "is missing"),
      approvedBy: device.string("approved_by"),
    };
    device.warnOfUnknownKeys();
    return credential;
  });
  // Ignores a user record that belongs to another user.
  const recordId = user?.string("id") ?? null;
  const own = user !== null && (recordId === null || recordId === userId) ? user : null;
  if (user !== null && own === null) {
    for (const key of ["email", "name", "claims"]) user.raw(key);
    session.warn(
      `user.id ${JSON.stringify(recordId)} differs from session.user_id ${JSON.stringify(userId)}, so the user is ignored`,
    );
  }
  const claims = mergeClaims(session.object("claims"), own?.object("claims") ?? {});
  if (sessionId === "") return null;
  return {
    sessionId,
    userId,
    email: own?.string("email") ?? "",
    name: own?.string("name") ?? "",
    claims: flattenClaims(claims),
    groups,
    devices,
    expiresAtMs,
  };
}

type Tree = Readonly<Record<string, unknown>>;
const isTree = (value: unknown): value is Tree => typeof value === "object" && value !== null && !Array.isArray(value);

/** Merges objects recursively; any other value of the user replaces the session's. */
function mergeClaims(session: Tree, user: Tree): Tree {
  const merged = new Map(Object.entries(session));
  for (const [key, value] of Object.entries(user)) {
    const before = merged.get(key);
    merged.set(key, isTree(before) && isTree(value) ? mergeClaims(before, value) : value);
  }
  return Object.fromEntries(merged);
}

const urlPattern = /^(?:(https?|tcp\+https?|udp\+https?):\/\/([^/?#]*))?((?:\/[^?#]*)?(?:\?[^#]*)?)(?:#.*)?$/i;

function readHead(request: CaseObject, defaults: CaseDefaults): DryRunRequest {
  const url = request.string("url") ?? refuse("request.url", "is missing");
  const headers = request.child("headers");
  const named = headers?.hostHeader() ?? defaults.authority;
  const match = urlPattern.exec(url);
  if (match === null || url === "")
    refuse("request.url", `${JSON.stringify(url)} is not a URL: write https://host/path`);
  const [, scheme = defaults.scheme, host = named, rest = ""] = match ?? [];
  if (host === "" || host.includes("@"))
    refuse("request.url", `${JSON.stringify(url)} must name a host, without user name or password`);
  const secure = !/http$/i.test(scheme);
  const authority = withoutDefaultPort(host, secure ? "443" : "80");
  const method = request.string("method") ?? "GET";
  if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(method))
    refuse("request.method", `${JSON.stringify(method)} is not a method`);
  const kind = /^udp/i.test(scheme) ? "udp" : /^tcp/i.test(scheme) || method === "CONNECT" ? "tcp" : null;
  const target = encodeNonAscii(rest.startsWith("/") ? rest : `/${rest}`);
  return {
    method: kind === "tcp" ? "CONNECT" : method,
    scheme: secure ? "https" : "http",
    authority: kind === null ? authority : host,
    target: kind === "tcp" ? host : target,
    headers: headers?.headerLines() ?? [],
    ip: request.string("ip") ?? "",
    tunnel: kind === null ? null : { kind, at: parseTunnelTarget(host) },
  };
}

function parseTunnelTarget(host: string): Readonly<{ host: string; port: number }> {
  const [, name, port] = /^(.+):(\d{1,5})$/.exec(host.toLowerCase()) ?? [];
  if (name === undefined) refuse("request.url", `${JSON.stringify(host)} needs a port: a tunnel has a host and a port`);
  return { host: name ?? "", port: Number(port) };
}

function withoutDefaultPort(host: string, port: string): string {
  return host.endsWith(`:${port}`) ? host.slice(0, -port.length - 1) : host;
}

/** Percent-encodes non-ASCII characters as a browser does; ASCII stays unchanged. */
function encodeNonAscii(text: string): string {
  return text.toWellFormed().replace(/[\u007f-\u{10ffff}]+/gu, encodeURIComponent);
}

function readCertificate(part: CaseObject | null): CaseCertificate | null {
  if (part === null) return null;
  const found = {
    presented: part.boolean("presented") ?? false,
    leaf: part.string("leaf") ?? "",
    intermediates: part.string("intermediates") ?? "",
  };
  part.warnOfUnknownKeys();
  return found;
}

function readKey(ssh: CaseObject): string | null {
  const text = ssh.string("publickey");
  if (text === null || text === "") return null;
  return (
    parsePresentedKey(text) ??
    refuse("ssh.publickey", "is not an SSH key: write its base64, or its line of authorized_keys")
  );
}

function readRecords(part: CaseObject | null): Case["records"] {
  const records = new Map<string, Tree | null>();
  for (const type of part?.keys ?? []) {
    const value = part?.raw(type);
    if (value !== null && !isTree(value)) refuse(`records.${type}`, "is neither an object nor null");
    records.set(type, isTree(value) ? value : null);
  }
  return records;
}

/** An object of the case, with its path and the set of keys that were read. */
class CaseObject {
  readonly key: string;
  readonly #value: Tree;
  readonly #asked = new Set<string>();
  readonly #warn: Warn;

  constructor(key: string, value: unknown, warn: Warn) {
    if (!isTree(value)) throw new CaseError(key === "" ? "(case)" : key, "is not an object");
    this.key = key;
    this.#value = value;
    this.#warn = warn;
  }

  get keys(): readonly string[] {
    return Object.keys(this.#value);
  }

  raw(key: string): unknown {
    this.#asked.add(key);
    return Object.hasOwn(this.#value, key) ? this.#value[key] : undefined;
  }
  child(key: string): CaseObject | null {
    const value = this.raw(key);
    return value === undefined || value === null ? null : new CaseObject(this.#at(key), value, this.#warn);
  }
  object(key: string): Tree {
    const value = this.raw(key) ?? {};
    return isTree(value) ? value : refuse(this.#at(key), "is not an object");
  }
  list(key: string): readonly CaseObject[] {
    const value = this.raw(key) ?? [];
    if (!Array.isArray(value)) refuse(this.#at(key), "is not a list");
    return (value as readonly unknown[]).map(
      (item, index) => new CaseObject(`${this.#at(key)}[${index}]`, item, this.#warn),
    );
  }
  strings(key: string): readonly string[] {
    const value = this.raw(key) ?? [];
    if (!Array.isArray(value) || !value.every((item) => typeof item === "string"))
      refuse(this.#at(key), "is not a list of strings");
    return value as readonly string[];
  }
  string(key: string): string | null {
    const value = this.raw(key) ?? null;
    if (value !== null && typeof value !== "string") refuse(this.#at(key), "is not a string");
    return value as string | null;
  }
  boolean(key: string): boolean | null {
    const value = this.raw(key) ?? null;
    if (value !== null && typeof value !== "boolean") refuse(this.#at(key), "is neither true nor false");
    return value as boolean | null;
  }
  /** RFC 3339, in milliseconds. */
  time(key: string): number | null {
    const text = this.string(key);
    if (text === null) return null;
    if (
      !/^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$/.test(text) ||
      Number.isNaN(Date.parse(text))
    )
      refuse(this.#at(key), `${JSON.stringify(text)} is not an RFC 3339 time, such as 2026-12-24T18:00:00Z`);
    return Date.parse(text);
  }
  /** Names and values alternate. */
  headerLines(): readonly string[] {
    return this.keys.flatMap((name) => {
      const value = this.raw(name);
      const values = Array.isArray(value) ? value : [value];
      if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name)) refuse(this.#at(name), "is not a header name");
      if (!values.every((line) => typeof line === "string"))
        refuse(this.#at(name), "is neither a string nor a list of strings");
      return name.toLowerCase() === "host" ? [] : values.flatMap((line) => [name, String(line)]);
    });
  }

  hostHeader(): string | undefined {
    const name = this.keys.find((key) => key.toLowerCase() === "host");
    const value = name === undefined ? undefined : this.raw(name);
    return typeof value === "string" ? value : undefined;
  }

  warn(problem: string): void {
    this.#warn(problem);
  }
  warnOfUnknownKeys(): void {
    for (const key of this.keys)
      if (!this.#asked.has(key)) this.#warn(`${this.#at(key)} is not a known key and is ignored`);
  }

  #at(key: string): string {
    return this.key === "" ? key : `${this.key}.${key}`;
  }
}
