/**
 * Ids: ids and positions that cannot be mixed up by accident.
 *
 * A branded value is made only by its parser, so holding one is proof that the check was done. Positions are plain
 * numbers: they are safe to 2^53 and travel through JSON, cookies and columns without a codec (docs/adr/0002-positions-are-numbers.md).
 */
import { CodedError } from "./coded-error.ts";

declare const brand: unique symbol;
export type Brand<Base, Name extends string> = Base & { readonly [brand]: Name };

export type Fact<Type extends string, Data> = Readonly<{ type: Type } & Data>;

/** A place in the log: 0 is before the first event, then 1, 2, 3 … without gaps. */
export type Position = Brand<number, "Position">;
/** Grows by one each time a broker takes over as writer. 0: no broker has ever written. */
export type Epoch = Brand<number, "Epoch">;
/** Lowercase hexadecimal SHA-256, 64 characters. */
export type Hash = Brand<string, "Hash">;
/** Milliseconds since 1970, UTC. */
export type UnixMs = Brand<number, "UnixMs">;
/** Milliseconds of a process's own monotonic clock; comparable only within that process. */
export type MonotonicMs = Brand<number, "MonotonicMs">;

export type SessionId = Brand<string, "SessionId">;
export type UserId = Brand<string, "UserId">;
export type GroupId = Brand<string, "GroupId">;
export type DeviceId = Brand<string, "DeviceId">;
export type ServiceAccountId = Brand<string, "ServiceAccountId">;
export type NodeId = Brand<string, "NodeId">;
/** Random for each start of a process. */
export type BootId = Brand<string, "BootId">;
export type BrokerId = Brand<string, "BrokerId">;
export type EventId = Brand<string, "EventId">;
/** A UUID made by the caller and kept over retries: one command id, at most one set of events. */
export type CommandId = Brand<string, "CommandId">;
/** Random for each opened epoch, so that an epoch number that repeats after a restore is told apart. */
export type Incarnation = Brand<string, "Incarnation">;
export type ConfigHash = Brand<string, "ConfigHash">;

export class InvalidIdError extends CodedError<"ERR_EVENTS_INVALID_ID"> {
  override readonly code = "ERR_EVENTS_INVALID_ID";
  readonly kind: string;
  constructor(kind: string) {
    super(`not a valid ${kind}`);
    this.kind = kind;
  }
}

const idPattern = /^[A-Za-z0-9._~@/+=:-]{1,200}$/;
const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

function idParser<Id extends string>(kind: string, pattern: RegExp): (value: unknown) => Id {
  return (value) => {
    if (typeof value !== "string" || !pattern.test(value)) throw new InvalidIdError(kind);
    return value as Id;
  };
}

/** Group ids come from outside (a directory's id, a claim's value), so any well-formed text without control characters. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
const groupPattern = /^[^\u0000-\u001f\u007f]{1,256}$/;

export const parseSessionId = idParser<SessionId>("session id", idPattern);
export const parseUserId = idParser<UserId>("user id", idPattern);
export const parseGroupId = (value: unknown): GroupId => {
  if (typeof value !== "string" || !groupPattern.test(value) || !value.isWellFormed())
    throw new InvalidIdError("group id");
  return value as GroupId;
};
export const parseNodeId = idParser<NodeId>("node id", idPattern);
export const parseBootId = idParser<BootId>("boot id", idPattern);
export const parseBrokerId = idParser<BrokerId>("broker id", idPattern);
export const parseEventId = idParser<EventId>("event id", uuidPattern);
export const parseCommandId = idParser<CommandId>("command id (a lowercase UUID)", uuidPattern);
export const parseIncarnation = idParser<Incarnation>("incarnation", idPattern);
export const parseConfigHash = idParser<ConfigHash>("configuration hash", idPattern);
export const parseHash = idParser<Hash>("hash", /^[0-9a-f]{64}$/);

function numberParser<N extends number>(kind: string): (value: unknown) => N {
  return (value) => {
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) throw new InvalidIdError(kind);
    return value as N;
  };
}
export const parsePosition = numberParser<Position>("position");
export const parseEpoch = numberParser<Epoch>("epoch");
export const parseUnixMs = numberParser<UnixMs>("time in milliseconds");

/** Marks the end of a switch over a union: a new member stops the build here. */
export function unreachable(value: never): never {
  throw new TypeError(`unreachable: ${JSON.stringify(value)}`);
}
