/**
 * Messages between brokers and enforcement nodes, inside envelopes (envelope.ts).
 *
 * - Batches are sent over NATS core (`<cluster>.log`) or within the process. All other messages go to a broker over
 *   HTTP (`POST /v1/leases`), and a broker that does not lead forwards them to the leader.
 * - All payloads are MessagePack maps made by `encode`. The functions here parse them and validate every field.
 */
import {
  type BootId,
  CodedError,
  decode,
  type Epoch,
  encode,
  type Incarnation,
  isPlainText,
  type Link,
  type NodeId,
  type Position,
  parseBootId,
  parseEpoch,
  parseHash,
  parseNodeId,
  parsePosition,
  parseUserId,
  type UnixMs,
  type WrappedKey,
} from "../../events/index.ts";
import { replacementProofBytes } from "./node-key.ts";

/** Accepted only if it is authenticated and links to what the receiver has. */
export type Batch = Readonly<{
  epoch: Epoch;
  incarnation: Incarnation;
  previous: Link;
  entries: readonly Uint8Array[];
  last: Link;
  /** Keys of people who first appear in this batch: sent beside the log, never part of it. */
  keys: readonly WrappedKey[];
}>;

/** Requests a lease. Sent every second; `nonce` grows by one with each. */
export type Renew = Readonly<{
  node: NodeId;
  boot: BootId;
  nonce: number;
  region: string;
  role: "proxy" | "authorize" | "broker";
  version: string;
  /** The level up to which this build can read events. */
  reads: number;
  /** The longest time, in ms, that this node decides after a grant: Δ plus its largest `stale_grace`. */
  windowMs: number;
  applied: Link;
  /** Up to this link everything is decided again and every denied exchange is destroyed. */
  enforced: Link;
  /** Digest of the projection at `applied`. */
  digest: string;
  configHash: string;
  /**
   * The boot that this one replaces, known because this process holds the data folder lock of that boot; null: none.
   */
  replaces: BootId | null;
  /** The signature of the replaced boot (node-key.ts). Absent: none is replaced, or its id commits to no key. */
  replacementProof?: Uint8Array;
  /** The monotonic clock of the node at sending, by which the leader compares clock rates. */
  monotonicMs: number;
  /**
   * An epoch that the log must leave behind: an authentic credential names it, and the link of that credential is lost.
   */
  lostEpoch?: Epoch;
  /**
   * The addresses of the brokers that this node uses; its process's own broker has none. Absent: the node does not keep
   * local revocations (docs/adr/0039-a-cut-off-region-revokes-locally.md).
   */
  brokers?: readonly string[];
  /** As in a confirmation. */
  denials?: readonly StorePosition[];
  /** Only of a regional broker. Absent: it accepts no revocation by itself. */
  solePath?: SolePathClaim;
}>;

/**
 * What a regional broker says of the sole path (lease/region-paths.ts). With neither `retained` nor `grantedIn`, it
 * accepts no revocation by itself before the leader answers this renew or a later one.
 */
export type SolePathClaim = Readonly<{
  /** It would accept revocations by itself. */
  wanted: boolean;
  /** It holds revocations that the log may lack. */
  retained: boolean;
  /** The epoch of the grant by which it has the sole path now; null: it does not have it. */
  grantedIn: Epoch | null;
}>;

/** How far in the store of one regional broker: everything up to `seq` that it still retains. */
export type StorePosition = Readonly<{ store: string; seq: number }>;

/** The right to decide, counted from the time at which the node sent the renew named by `nonce`. */
export type Grant = Readonly<{
  node: NodeId;
  boot: BootId;
  nonce: number;
  epoch: Epoch;
  incarnation: Incarnation;
  /** The start of the epoch: the position of its EpochOpened event. */
  start: Position;
  /** The lease is valid only once the projection has reached this link, on the same chain. */
  head: Link;
  /** Δ: the duration of a lease, ms. */
  deltaMs: number;
  /** ρ: the bound on clock-rate error. */
  drift: number;
  windowMs: number;
  /** The wall clock of the leader, so that a node can notice an error of its own. */
  wallMs: UnixMs;
  /**
   * Set only in a grant by age, which a regional broker gives from its own lease (lease/regional-granter.ts). The age,
   * ms: how long before its answer the lease of that broker began, by the clock of the broker. The new lease starts
   * that long before the renew was sent.
   */
  ageMs?: number;
  /**
   * Only in a grant by age: the lease counts only once the local revocations up to here are in force at the node.
   */
  tightenedTo?: StorePosition;
  /**
   * Only in a leader's grant to a regional broker: every lease of a node of its region that may count came through one
   * of these brokers, and the leader grants no other. Absent: the broker must not revoke by itself.
   */
  solePath?: readonly string[];
  /**
   * Only in a leader's grant: the least time between two confirmations of the node, ms. Absent: none, as from a leader
   * of one node, or of an older build.
   */
  confirmPauseMs?: number;
}>;

/** Sent when `enforced` has passed a change that may alter a decision; see `confirmPauseMs`. */
export type Confirm = Readonly<{
  node: NodeId;
  boot: BootId;
  nonce: number;
  enforced: Link;
  /** The local revocations that are enforced and on the node's disk. Absent: none, or an older build. */
  denials?: readonly StorePosition[];
}>;
/** The last stream of the node is closed and the node permits nothing more. */
export type Goodbye = Readonly<{ node: NodeId; boot: BootId; nonce: number }>;

export class MalformedMessageError extends CodedError<"ERR_REPLICATION_MALFORMED_MESSAGE"> {
  override readonly code = "ERR_REPLICATION_MALFORMED_MESSAGE";
  constructor(problem: string, options?: ErrorOptions) {
    super(`malformed message: ${problem}`, options);
  }
}

export function encodeMessage(message: Batch | Renew | Grant | Confirm | Goodbye): Uint8Array {
  return encode(message);
}

export const parseBatch = parser(
  (m): Batch => ({
    epoch: parseEpoch(m["epoch"]),
    incarnation: text(m, "incarnation") as Incarnation,
    previous: parseLinkMap(m["previous"]),
    entries: list(m, "entries").map(bytes),
    last: parseLinkMap(m["last"]),
    keys: list(m, "keys").map(parseWrappedKey),
  }),
);

export const parseRenew = parser(
  (m): Renew => ({
    node: parseNodeId(m["node"]),
    boot: parseBootId(m["boot"]),
    nonce: whole(m, "nonce"),
    region: text(m, "region"),
    role: oneOf(m, "role", ["proxy", "authorize", "broker"]),
    version: text(m, "version"),
    reads: m["reads"] === undefined ? 1 : whole(m, "reads"), // builds that omit it read the first level
    windowMs: whole(m, "windowMs"),
    applied: parseLinkMap(m["applied"]),
    enforced: parseLinkMap(m["enforced"]),
    digest: text(m, "digest"),
    configHash: text(m, "configHash"),
    replaces: m["replaces"] === null ? null : parseBootId(m["replaces"]),
    ...(m["replacementProof"] === undefined ? {} : { replacementProof: proof(m["replacementProof"]) }),
    monotonicMs: finite(m, "monotonicMs"),
    ...(m["lostEpoch"] === undefined ? {} : { lostEpoch: parseEpoch(m["lostEpoch"]) }),
    ...(m["brokers"] === undefined ? {} : { brokers: parseAddresses(m["brokers"]) }),
    ...denialsField(m),
    ...(m["solePath"] === undefined ? {} : { solePath: parseClaim(m["solePath"]) }),
  }),
);

export const parseGrant = parser(
  (m): Grant => ({
    ...grantIn(m),
    ...(m["solePath"] === undefined ? {} : { solePath: parseBrokerNames(m["solePath"]) }),
    ...(m["confirmPauseMs"] === undefined ? {} : { confirmPauseMs: confirmPauseIn(m) }),
  }),
);

function grantIn(m: Fields): Grant {
  return {
    node: parseNodeId(m["node"]),
    boot: parseBootId(m["boot"]),
    nonce: whole(m, "nonce"),
    epoch: parseEpoch(m["epoch"]),
    incarnation: text(m, "incarnation") as Incarnation,
    start: parsePosition(m["start"]),
    head: parseLinkMap(m["head"]),
    deltaMs: whole(m, "deltaMs"),
    drift: finite(m, "drift"),
    windowMs: whole(m, "windowMs"),
    wallMs: whole(m, "wallMs") as UnixMs,
  };
}

function confirmPauseIn(m: Fields): number {
  return Math.min(Math.max(0, whole(m, "confirmPauseMs")), confirmPauseMsMax);
}

/** Parses a grant by age: the fields of a grant, and the age of the lease that it derives from. */
export const parseGrantByAge = parser(
  (m): Grant => ({
    ...grantIn(m),
    ageMs: finite(m, "ageMs"),
    ...(m["tightenedTo"] === undefined ? {} : { tightenedTo: parseStorePosition(m["tightenedTo"]) }),
  }),
);

export const parseConfirm = parser(
  (m): Confirm => ({
    node: parseNodeId(m["node"]),
    boot: parseBootId(m["boot"]),
    nonce: whole(m, "nonce"),
    enforced: parseLinkMap(m["enforced"]),
    ...denialsField(m),
  }),
);

export const parseGoodbye = parser(
  (m): Goodbye => ({ node: parseNodeId(m["node"]), boot: parseBootId(m["boot"]), nonce: whole(m, "nonce") }),
);

export function parseWrappedKey(value: unknown): WrappedKey {
  const m = map(value);
  return { userId: parseUserId(m["userId"]), keyId: bytes(m["keyId"]), wrapped: bytes(m["wrapped"]) };
}

/** Parses a link inside a message. @throws MalformedMessageError, InvalidIdError */
export function parseLinkMap(value: unknown): Link {
  const m = map(value);
  return { epoch: parseEpoch(m["epoch"]), position: parsePosition(m["position"]), hash: parseHash(m["hash"]) };
}

export function parseStorePosition(value: unknown): StorePosition {
  const m = map(value);
  const store = m["store"];
  if (typeof store !== "string" || !storePattern.test(store)) throw new MalformedMessageError("store is not an id");
  return { store, seq: whole(m, "seq") };
}

/** A renew says what a confirmation says, so a longer pause would save nothing. */
const confirmPauseMsMax = 60_000;
/** The addresses that a message may name, and the length of each. More of them are not sent. */
export const addressesMax = 16;
export const addressCharsMax = 200;
/** The brokers of one region that a grant may name. */
const solePathBrokersMax = 16;
/** The stores of other brokers, or of lost disks, that a node remembers. */
export const storesMax = 16;
const storePattern = /^[0-9a-f]{32}$/;

/** A list of broker addresses. @throws MalformedMessageError */
export function parseAddresses(value: unknown): readonly string[] {
  if (!Array.isArray(value) || value.length > addressesMax) throw new MalformedMessageError("too many addresses");
  return value.map((address) => {
    if (typeof address === "string" && address.length <= addressCharsMax && isPlainText(address)) return address;
    throw new MalformedMessageError("not an address");
  });
}

function parseClaim(value: unknown): SolePathClaim {
  const m = map(value);
  const { wanted, retained, grantedIn } = m;
  if (typeof wanted !== "boolean" || typeof retained !== "boolean") throw new MalformedMessageError("not a claim");
  return { wanted, retained, grantedIn: grantedIn === null ? null : parseEpoch(grantedIn) };
}

function parseBrokerNames(value: unknown): readonly string[] {
  if (!Array.isArray(value) || value.length > solePathBrokersMax) throw new MalformedMessageError("too many brokers");
  return value.map(parseNodeId);
}

function denialsField(m: Fields): Pick<Confirm, "denials"> {
  if (m["denials"] === undefined) return {};
  const stores = list(m, "denials");
  if (stores.length > storesMax) throw new MalformedMessageError("too many stores");
  return { denials: stores.map(parseStorePosition) };
}

type Fields = Readonly<Record<string, unknown>>;

function parser<T>(shape: (fields: Fields) => T): (payload: Uint8Array) => T {
  return (payload) => {
    try {
      return shape(map(decode(payload)));
    } catch (cause) {
      if (cause instanceof MalformedMessageError) throw cause;
      throw new MalformedMessageError("a field is missing or of the wrong kind", { cause });
    }
  };
}

function map(value: unknown): Fields {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Fields;
  throw new MalformedMessageError("not a map");
}
function text(m: Fields, name: string): string {
  const value = m[name];
  if (typeof value === "string" && value.length <= 1_000 && isPlainText(value)) return value;
  throw new MalformedMessageError(`${name} is not text`);
}
function finite(m: Fields, name: string): number {
  const value = m[name];
  if (typeof value === "number" && Number.isFinite(value) && value >= 0) return value;
  throw new MalformedMessageError(`${name} is not a number`);
}
function whole(m: Fields, name: string): number {
  const value = finite(m, name);
  if (Number.isSafeInteger(value)) return value;
  throw new MalformedMessageError(`${name} is not a whole number`);
}
function oneOf<T extends string>(m: Fields, name: string, values: readonly T[]): T {
  const value = m[name];
  for (const allowed of values) if (allowed === value) return allowed;
  throw new MalformedMessageError(`${name} is not one of ${values.join(", ")}`);
}
function list(m: Fields, name: string): readonly unknown[] {
  const value = m[name];
  if (Array.isArray(value)) return value;
  throw new MalformedMessageError(`${name} is not a list`);
}
function proof(value: unknown): Uint8Array {
  const given = bytes(value);
  if (given.length === replacementProofBytes) return given;
  throw new MalformedMessageError("replacementProof has another length");
}
function bytes(value: unknown): Uint8Array {
  if (value instanceof Uint8Array) return value;
  throw new MalformedMessageError("not bytes");
}
