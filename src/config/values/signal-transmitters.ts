/** Value type of `signal_transmitters`: the services whose signals are obeyed here (OpenID Shared Signals). Pure. */
import { isTransmitterName, type SignalAction, signalActions } from "../../events/index.ts";
import { checkUrl, isLoopback } from "./network-values.ts";
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

/** What follows from each event unless `actions` says otherwise. `event/value` is for one value of the event. */
export const defaultSignalActions: Readonly<Record<string, SignalAction>> = {
  "session-revoked": "revoke-sessions",
  "sessions-revoked": "revoke-sessions",
  "token-claims-change": "require-new-sign-in",
  "credential-change": "require-new-sign-in",
  "credential-change/create": "record",
  "assurance-level-change": "require-new-sign-in",
  "assurance-level-change/increase": "record",
  "device-compliance-change": "revoke-sessions",
  "device-compliance-change/compliant": "record",
  "risk-level-change": "record",
  "risk-level-change/HIGH": "require-new-sign-in",
  "session-established": "record",
  "session-presented": "record",
  "account-disabled": "suspend",
  "account-enabled": "restore",
  "account-purged": "suspend",
  "account-credential-change-required": "require-new-sign-in",
  "credential-compromise": "revoke-sessions",
  "identifier-changed": "require-new-sign-in",
  "identifier-recycled": "revoke-sessions",
  "recovery-activated": "record",
  "recovery-information-changed": "record",
  "opt-in": "record",
  "opt-out-initiated": "record",
  "opt-out-cancelled": "record",
  "opt-out-effective": "record",
};

/** How a subject is matched with the people who sign in. */
const subjectMatches = ["subject", "email"] as const;
export type SubjectMatch = (typeof subjectMatches)[number];

/** A transmitter as the file describes it; `…File` names the file of a secret. */
export type WrittenSignalTransmitter = Readonly<{
  name: string;
  /** The exact `iss` of its tokens. */
  issuer: string;
  audiences: readonly string[];
  delivery: "push" | "poll";
  /** Null: from the issuer. */
  metadataUrl: URL | null;
  /** Null: from the metadata. */
  jwksUrl: URL | null;
  /** Null: from the stream at the transmitter. */
  pollUrl: URL | null;
  streamId: string | null;
  /** Null: none, or the file has it. */
  pushToken: string | null;
  pushTokenFile: string | null;
  accessToken: string | null;
  accessTokenFile: string | null;
  client: Readonly<{
    id: string;
    secret: string | null;
    secretFile: string | null;
    tokenUrl: URL;
    scope: string | null;
  }> | null;
  match: readonly SubjectMatch[];
  /** Issuers of `iss_sub` subjects, besides the transmitter and the sign-in provider. */
  subjectIssuers: readonly string[];
  /** Complete: the default of every event that the file does not mention. */
  actions: Readonly<Record<string, SignalAction>>;
}>;

/** A transmitter of Shared Signals, with its secrets. */
export type SignalTransmitterConfig = Omit<WrittenSignalTransmitter, "pushTokenFile" | "accessTokenFile" | "client"> &
  Readonly<{
    client: Readonly<{ id: string; secret: string; tokenUrl: URL; scope: string | null }> | null;
  }>;

const transmittersMax = 16;
const keys = [
  "issuer",
  "audience",
  "delivery",
  "metadata_url",
  "jwks_url",
  "poll_url",
  "stream_id",
  "push_token",
  "push_token_file",
  "access_token",
  "access_token_file",
  "client_id",
  "client_secret",
  "client_secret_file",
  "token_url",
  "scope",
  "match",
  "subject_issuers",
  "actions",
];
/** Outside of JSON text, only these can be written in a header without escapes. */
const tokenPattern = /^[A-Za-z0-9._~+/-]+=*$/;
const tokenCharsMin = 16;
const tokenCharsMax = 4_096;

type Item = Readonly<Record<string, unknown>>;

export const signalTransmitters = (): ValueType<readonly WrittenSignalTransmitter[]> =>
  valueType(
    {
      label: "mapping of name to transmitter",
      json: { type: ["object", "string"], additionalProperties: { type: "object" } },
    },
    (value, refuse) => {
      const map = typeof value === "string" ? parseJson(value) : value;
      if (!isPlainObject(map)) return refuse("is not a mapping", "write a name, and under it issuer and audience");
      const found: WrittenSignalTransmitter[] = [];
      let refused: RefusedValue | undefined;
      for (const [name, item] of Object.entries(map)) {
        const transmitter = readTransmitter(name, item, inside(refuse, name));
        if (isRefused(transmitter)) refused = transmitter;
        else found.push(transmitter);
      }
      if (found.length > transmittersMax) return refuse("has too many transmitters", `keep ${transmittersMax} of them`);
      return refused ?? found;
    },
  );

function readTransmitter(name: string, item: unknown, refuse: Refuse): WrittenSignalTransmitter | RefusedValue {
  if (!isTransmitterName(name))
    return refuse(`${formatValue(name)} is not a name`, "use up to 40 lowercase letters, digits, . and -");
  if (!isPlainObject(item)) return refuse(`${formatValue(item)} is not a transmitter`, "write issuer and audience");
  const strange = Object.keys(item).find((key) => !keys.includes(key));
  if (strange !== undefined) {
    const remedy = unknownKeyRemedy(strange, { known: keys, written: item, otherwise: `use ${keys.join(", ")}` });
    return refuse("is not a known key", remedy, [strange]);
  }
  const issuer = readUrl(item, "issuer", refuse);
  if (isRefused(issuer)) return issuer;
  if (issuer === null) return refuse("names no issuer", "write issuer: the iss of its tokens");
  const audiences = readTexts(item, "audience", refuse);
  if (isRefused(audiences)) return audiences;
  if (audiences.length === 0)
    return refuse("names no audience, so tokens for other receivers would be accepted", "write audience", ["audience"]);
  const delivery = item["delivery"] ?? "push";
  if (delivery !== "push" && delivery !== "poll")
    return refuse(`${formatValue(delivery)} is not a way of delivery`, "write push or poll", ["delivery"]);
  const addresses = readAddresses(item, refuse);
  if (isRefused(addresses)) return addresses;
  const secrets = readSecrets(item, refuse);
  if (isRefused(secrets)) return secrets;
  const hasAccess = secrets.client !== null || secrets.accessToken !== null || secrets.accessTokenFile !== null;
  if (delivery === "poll" && !hasAccess)
    return refuse("polls without a credential", "write access_token_file, or client_id with token_url", ["delivery"]);
  const subjects = readSubjects(item, refuse);
  if (isRefused(subjects)) return subjects;
  const actions = readActions(item["actions"] ?? {}, inside(refuse, "actions"));
  if (isRefused(actions)) return actions;
  const streamId = readText(item, "stream_id", refuse);
  if (isRefused(streamId)) return streamId;
  const written = String(item["issuer"]).trim();
  return { name, issuer: written, audiences, delivery, ...addresses, streamId, ...secrets, ...subjects, actions };
}

function readAddresses(
  item: Item,
  refuse: Refuse,
): Pick<WrittenSignalTransmitter, "metadataUrl" | "jwksUrl" | "pollUrl"> | RefusedValue {
  const metadataUrl = readUrl(item, "metadata_url", refuse);
  const jwksUrl = readUrl(item, "jwks_url", refuse);
  const pollUrl = readUrl(item, "poll_url", refuse);
  if (isRefused(metadataUrl)) return metadataUrl;
  if (isRefused(jwksUrl)) return jwksUrl;
  return isRefused(pollUrl) ? pollUrl : { metadataUrl, jwksUrl, pollUrl };
}

type Secrets = Pick<
  WrittenSignalTransmitter,
  "pushToken" | "pushTokenFile" | "accessToken" | "accessTokenFile" | "client"
>;

function readSecrets(item: Item, refuse: Refuse): Secrets | RefusedValue {
  const found: Record<string, string | null> = {};
  for (const key of ["push_token", "access_token", "client_secret"]) {
    const secret = item[key] === undefined ? null : (scalarText(item[key])?.trim() ?? "");
    if (secret !== null && !(key === "client_secret" ? isClientSecret(secret) : isToken(secret)))
      return refuse("is not a secret of this kind", secretRemedy(key), [key]);
    const file = readText(item, `${key}_file`, refuse);
    if (isRefused(file)) return file;
    if (secret !== null && file !== null) return refuse(`has no effect with ${key}_file`, "keep one of them", [key]);
    found[key] = secret;
    found[`${key}_file`] = file;
  }
  const client = readClient(item, found, refuse);
  if (isRefused(client)) return client;
  const { push_token: pushToken = null, push_token_file: pushTokenFile = null } = found;
  const { access_token: accessToken = null, access_token_file: accessTokenFile = null } = found;
  if (client !== null && (accessToken !== null || accessTokenFile !== null))
    return refuse("has no effect with client_id", "keep one of them", ["access_token"]);
  return { pushToken, pushTokenFile, accessToken, accessTokenFile, client };
}

export function isToken(text: string): boolean {
  return text.length >= tokenCharsMin && text.length <= tokenCharsMax && tokenPattern.test(text);
}

/** Chosen by the transmitter. */
export function isClientSecret(text: string): boolean {
  return /^[\x20-\x7e]+$/.test(text) && text.length <= tokenCharsMax;
}

const secretRemedy = (key: string): string =>
  key === "client_secret"
    ? "write the secret that the transmitter has issued"
    : `write ${tokenCharsMin} characters or more, such as openssl rand -base64 32 prints`;

function readClient(
  item: Item,
  secrets: Readonly<Record<string, string | null>>,
  refuse: Refuse,
): WrittenSignalTransmitter["client"] | RefusedValue {
  const id = readText(item, "client_id", refuse);
  const tokenUrl = readUrl(item, "token_url", refuse);
  const scope = readText(item, "scope", refuse);
  if (isRefused(id)) return id;
  if (isRefused(tokenUrl)) return tokenUrl;
  if (isRefused(scope)) return scope;
  const { client_secret: secret = null, client_secret_file: secretFile = null } = secrets;
  const isWhole = id !== null && tokenUrl !== null && (secret !== null || secretFile !== null);
  if (isWhole) return { id, secret, secretFile, tokenUrl, scope };
  if (id === null && tokenUrl === null && secret === null && secretFile === null && scope === null) return null;
  return refuse("has only a part of the client's credentials", "write client_id, client_secret_file and token_url", [
    id === null ? "token_url" : "client_id",
  ]);
}

function readSubjects(
  item: Item,
  refuse: Refuse,
): Pick<WrittenSignalTransmitter, "match" | "subjectIssuers"> | RefusedValue {
  const named = parseStringList(item["match"] ?? [...subjectMatches], inside(refuse, "match"));
  if (isRefused(named)) return named;
  const match = subjectMatches.filter((each) => named.includes(each));
  if (match.length === 0 || match.length !== new Set(named).size)
    return refuse("has another way to match", `write some of ${subjectMatches.join(", ")}`, ["match"]);
  const subjectIssuers = readTexts(item, "subject_issuers", refuse);
  return isRefused(subjectIssuers) ? subjectIssuers : { match, subjectIssuers };
}

function readActions(value: unknown, refuse: Refuse): Readonly<Record<string, SignalAction>> | RefusedValue {
  if (!isPlainObject(value)) return refuse(`${formatValue(value)} is not a mapping`, "write event: action");
  const written: Record<string, SignalAction> = {};
  for (const [key, named] of Object.entries(value)) {
    const [event = "", part] = key.split("/", 2);
    if (!Object.hasOwn(defaultSignalActions, event) || part === "")
      return refuse("is not an event", `write one of ${eventNames().join(", ")}`, [key]);
    const action = signalActions.find((each) => each === named);
    if (action === undefined)
      return refuse(`${formatValue(named)} is not an action`, `write one of ${signalActions.join(", ")}`, [key]);
    written[key] = action;
  }
  // An event that the file names has only the values that the file names.
  const kept = Object.entries(defaultSignalActions).filter(
    ([key]) => !key.includes("/") || !Object.hasOwn(written, key.split("/", 1)[0] ?? ""),
  );
  return { ...Object.fromEntries(kept), ...written };
}

const eventNames = (): readonly string[] => Object.keys(defaultSignalActions).filter((key) => !key.includes("/"));

/** Requires TLS outside loopback: an attacker on the path could replace keys, or read the token. */
function readUrl(item: Item, key: string, refuse: Refuse): URL | null | RefusedValue {
  if (item[key] === undefined) return null;
  const url = checkUrl(item[key], { schemes: ["https", "http"], refuse, at: [key] });
  if (isRefused(url)) return url;
  if (url.protocol === "http:" && !isLoopback(url.hostname))
    return refuse("is plain HTTP, so anyone on the network path can forge signals", "use https", [key]);
  return url.hash === "" ? url : refuse("has a fragment", "write the address alone", [key]);
}

function readText(item: Item, key: string, refuse: Refuse): string | null | RefusedValue {
  if (item[key] === undefined) return null;
  const text = scalarText(item[key])?.trim() ?? "";
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
  if (text === "" || text.length > 1_000 || /[\u0000-\u001f\u007f]/.test(text))
    return refuse("is not text", "write text on one line", [key]);
  return text;
}

function readTexts(item: Item, key: string, refuse: Refuse): readonly string[] | RefusedValue {
  return parseStringList(item[key] ?? [], inside(refuse, key));
}

/** Prefixes the path of a refusal. */
function inside(refuse: Refuse, ...at: readonly string[]): Refuse {
  return (problem, remedy, path = []) => refuse(problem, remedy, [...at, ...path]);
}
