/** Value type of `signal_receivers`: the services that are told of our revocations (OpenID Shared Signals). Pure. */
import { isSignalReceiverName } from "../../events/index.ts";
import { checkUrl, parseDuration } from "./network-values.ts";
import { unknownKeyRemedy } from "./suggest.ts";
import {
  formatValue,
  isPlainObject,
  isRefused,
  parseJson,
  parseStringList,
  type Refuse,
  type RefusedValue,
  scalarText,
  type ValueType,
  valueType,
} from "./value-type.ts";

/** The events that we send, by their short names. */
export const sentSignals = [
  "session-revoked",
  "token-claims-change",
  "credential-change",
  "account-disabled",
  "account-enabled",
  "account-purged",
] as const;
export type SentSignal = (typeof sentSignals)[number];

export type SignalReceiverConfig = Readonly<{
  name: string;
  audience: string;
  /** Hexadecimal SHA-256 of a bearer token; null: none. */
  tokenHash: string | null;
  /** OAuth client credentials; null: none. `secretHash`: the SHA-256 of the secret, hexadecimal. */
  client: Readonly<{ id: string; secretHash: string }> | null;
  events: readonly SentSignal[];
  subjectFormat: "email" | "iss_sub" | "opaque";
  /** The subject of the end of a single session: the session and the person, or the person alone. */
  sessionSubject: "complex" | "user";
  /** `none`: only the subjects that the receiver adds. */
  subjects: "all" | "none";
  /** Groups whose changes are sent; null: every group. */
  groups: readonly string[] | null;
  /** Claims of a person whose values are sent when they change; empty: none. */
  claims: readonly string[];
  /** Where tokens may be pushed to: an `endpoint_url` of the receiver begins with one of them. */
  pushUrls: readonly string[];
  minVerificationMs: number;
  /** Null: a stream is not paused because its receiver is silent. */
  inactivityMs: number | null;
}>;

const receiversMax = 16;
const claimsMax = 32;
const keys = [
  "audience",
  "token_sha256",
  "client_id",
  "client_secret_sha256",
  "events",
  "subject_format",
  "session_subject",
  "subjects",
  "groups",
  "claims",
  "push_urls",
  "min_verification_interval",
  "inactivity_timeout",
];
const defaultEvents: readonly SentSignal[] = [
  "session-revoked",
  "account-disabled",
  "account-enabled",
  "account-purged",
];

export const signalReceivers = (): ValueType<readonly SignalReceiverConfig[]> =>
  valueType(
    {
      label: "mapping of name to receiver",
      json: { type: ["object", "string"], additionalProperties: { type: "object" } },
    },
    (value, refuse) => {
      const map = typeof value === "string" ? parseJson(value) : value;
      if (!isPlainObject(map))
        return refuse("is not a mapping", "write a name, and under it audience and token_sha256");
      const found: SignalReceiverConfig[] = [];
      let refused: RefusedValue | undefined;
      for (const [name, item] of Object.entries(map)) {
        const receiver = readReceiver(name, item, (problem, remedy, path = []) =>
          refuse(problem, remedy, [name, ...path]),
        );
        if (isRefused(receiver)) {
          refused = receiver;
          continue;
        }
        const twin = found.find((other) => sharesCredential(other, receiver));
        if (twin !== undefined)
          refused = refuse(`has the credential of ${twin.name}`, "give each receiver a credential of its own", [name]);
        found.push(receiver);
      }
      if (found.length > receiversMax) return refuse("has too many receivers", `keep ${receiversMax} of them`);
      return refused ?? found;
    },
  );

/** One credential must name one receiver, or one could read the stream of another. */
function sharesCredential(a: SignalReceiverConfig, b: SignalReceiverConfig): boolean {
  return (a.tokenHash !== null && a.tokenHash === b.tokenHash) || (a.client !== null && a.client.id === b.client?.id);
}

function readReceiver(name: string, item: unknown, refuse: Refuse): SignalReceiverConfig | RefusedValue {
  if (!isSignalReceiverName(name))
    return refuse(`${formatValue(name)} is not a name`, "use up to 40 lowercase letters, digits, . and -");
  if (!isPlainObject(item)) return refuse(`${formatValue(item)} is not a receiver`, "write audience and token_sha256");
  const strange = Object.keys(item).find((key) => !keys.includes(key));
  if (strange !== undefined) {
    const remedy = unknownKeyRemedy(strange, { known: keys, written: item, otherwise: `use ${keys.join(", ")}` });
    return refuse("is not a known key", remedy, [strange]);
  }
  const audience = scalarText(item["audience"]) ?? "";
  if (audience === "" || audience.length > 500)
    return refuse("names no audience", "write audience: what the receiver expects in aud", ["audience"]);
  const credentials = readCredentials(item, refuse);
  if (isRefused(credentials)) return credentials;
  const events = readEvents(item["events"], refuse);
  if (isRefused(events)) return events;
  const subjectFormat = oneOf(item, { key: "subject_format", values: ["email", "iss_sub", "opaque"], refuse });
  const sessionSubject = oneOf(item, { key: "session_subject", values: ["complex", "user"], refuse });
  const subjects = oneOf(item, { key: "subjects", values: ["all", "none"], refuse });
  if (isRefused(subjectFormat)) return subjectFormat;
  if (isRefused(sessionSubject)) return sessionSubject;
  if (isRefused(subjects)) return subjects;
  const groups = item["groups"] === undefined ? null : parseStringList(item["groups"], inside(refuse, "groups"));
  if (isRefused(groups)) return groups;
  const claims = readClaims(item["claims"] ?? [], inside(refuse, "claims"));
  if (isRefused(claims)) return claims;
  const pushUrls = readPushUrls(item["push_urls"] ?? [], inside(refuse, "push_urls"));
  if (isRefused(pushUrls)) return pushUrls;
  const minVerificationMs = readTime(item, { key: "min_verification_interval", otherwise: 60_000, refuse });
  if (isRefused(minVerificationMs)) return minVerificationMs;
  const inactivityMs = readTime(item, { key: "inactivity_timeout", otherwise: null, refuse });
  if (isRefused(inactivityMs)) return inactivityMs;
  return {
    name,
    audience,
    ...credentials,
    events,
    subjectFormat,
    sessionSubject,
    subjects,
    groups,
    claims,
    pushUrls,
    minVerificationMs: minVerificationMs ?? 60_000,
    inactivityMs,
  };
}

const inside =
  (refuse: Refuse, key: string): Refuse =>
  (problem, remedy, path = []) =>
    refuse(problem, remedy, [key, ...path]);

function readCredentials(
  item: Record<string, unknown>,
  refuse: Refuse,
): Pick<SignalReceiverConfig, "tokenHash" | "client"> | RefusedValue {
  const tokenHash = readHash(item, "token_sha256", refuse);
  const secretHash = readHash(item, "client_secret_sha256", refuse);
  if (isRefused(tokenHash)) return tokenHash;
  if (isRefused(secretHash)) return secretHash;
  const id = item["client_id"] === undefined ? null : (scalarText(item["client_id"]) ?? "");
  if (id !== null && !/^[\x21-\x39\x3b-\x7e]{1,200}$/.test(id))
    return refuse("is not a client id", "use up to 200 visible characters of ASCII without a colon", ["client_id"]);
  if ((id === null) !== (secretHash === null))
    return refuse("has only one half of the client's credentials", "write client_id and client_secret_sha256", [
      "client_id",
    ]);
  if (tokenHash === null && id === null)
    return refuse(
      "has no credential",
      "write token_sha256 (of a random token), or client_id with client_secret_sha256",
      ["token_sha256"],
    );
  return { tokenHash, client: id === null || secretHash === null ? null : { id, secretHash } };
}

/** A hash, so that the file has no secret. */
function readHash(item: Record<string, unknown>, key: string, refuse: Refuse): string | null | RefusedValue {
  if (item[key] === undefined) return null;
  const text = scalarText(item[key]) ?? "";
  if (/^[0-9a-f]{64}$/i.test(text)) return text.toLowerCase();
  return refuse("is not a SHA-256", "write the 64 hexadecimal digits that `printf %s TOKEN | sha256sum` prints", [key]);
}

function readEvents(value: unknown, refuse: Refuse): readonly SentSignal[] | RefusedValue {
  if (value === undefined) return defaultEvents;
  const named = parseStringList(value, inside(refuse, "events"));
  if (isRefused(named)) return named;
  const strange = named.find((each) => !sentSignals.some((known) => known === each));
  if (strange !== undefined || named.length === 0)
    return refuse(`${formatValue(strange)} is not an event that we send`, `write some of ${sentSignals.join(", ")}`, [
      "events",
    ]);
  return sentSignals.filter((known) => named.includes(known));
}

/** Flattened names, as policies write them. */
function readClaims(value: unknown, refuse: Refuse): readonly string[] | RefusedValue {
  const named = parseStringList(value, refuse);
  if (isRefused(named)) return named;
  if (named.length > claimsMax) return refuse(`names ${named.length} claims`, `write ${claimsMax} at most`);
  const strange = named.findIndex((name) => name === "" || name.length > 200 || name.includes(":"));
  if (strange >= 0) return refuse("is not the name of a claim", "write a name such as role", [strange]);
  return [...new Set(named)];
}

function oneOf<T extends string>(
  item: Record<string, unknown>,
  { key, values, refuse }: Readonly<{ key: string; values: readonly [T, ...T[]]; refuse: Refuse }>,
): T | RefusedValue {
  const written = item[key] ?? values[0];
  const found = values.find((each) => each === written);
  return found ?? refuse(`${formatValue(written)} cannot be used here`, `write ${values.join(" or ")}`, [key]);
}

/** TLS always: a token in clear text would name people to everyone on the path. */
function readPushUrls(value: unknown, refuse: Refuse): readonly string[] | RefusedValue {
  const list = parseStringList(value, refuse);
  if (isRefused(list)) return list;
  if (list.length > 8) return refuse(`names ${list.length} addresses`, "write 8 at most");
  const found: string[] = [];
  for (const [nth, text] of list.entries()) {
    const url = checkUrl(text, { schemes: ["https"], refuse, at: [nth] });
    if (isRefused(url)) return url;
    if (url.search !== "" || url.hash !== "")
      return refuse("has a query or a fragment", "write only the address", [nth]);
    found.push(url.href);
  }
  return found;
}

function readTime(
  item: Record<string, unknown>,
  { key, otherwise, refuse }: Readonly<{ key: string; otherwise: number | null; refuse: Refuse }>,
): number | null | RefusedValue {
  if (item[key] === undefined) return otherwise;
  const ms = typeof item[key] === "string" ? parseDuration(item[key].trim()) : undefined;
  if (ms === undefined || ms < 1_000 || ms > 366 * 86_400_000)
    return refuse(`${formatValue(item[key])} is not a duration from 1s to 8784h`, "write one such as 60s or 720h", [
      key,
    ]);
  return ms;
}
