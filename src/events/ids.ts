/**
 * Ids: branded ids, positions and times that the compiler keeps apart.
 *
 * - Only a parser makes a branded value, so a value of the type is proof that it was checked.
 * - Positions are plain numbers: safe up to 2^53, and they pass through JSON, cookies and columns without a codec
 *   (docs/adr/0002-positions-are-numbers.md).
 */
import { CodedError } from "./coded-error.ts";

declare const brand: unique symbol;
export type Brand<Base, Name extends string> = Base & { readonly [brand]: Name };

export type Fact<Type extends string, Data> = Readonly<{ type: Type } & Data>;

/** An event's number in the log: 1, 2, 3 … without gaps. 0 is before the first event. */
export type Position = Brand<number, "Position">;
/** Grows by one whenever a broker becomes the leader. 0: no broker has ever written. */
export type Epoch = Brand<number, "Epoch">;
/** Lowercase hexadecimal SHA-256, 64 characters. */
export type Hash = Brand<string, "Hash">;
/** Milliseconds since 1970, UTC. */
export type UnixMs = Brand<number, "UnixMs">;
/** Milliseconds of a process's monotonic clock; comparable only within that process. */
export type MonotonicMs = Brand<number, "MonotonicMs">;

export type SessionId = Brand<string, "SessionId">;
export type UserId = Brand<string, "UserId">;
export type GroupId = Brand<string, "GroupId">;
export type DeviceId = Brand<string, "DeviceId">;
export type ServiceAccountId = Brand<string, "ServiceAccountId">;
export type NodeId = Brand<string, "NodeId">;
/** Random, new at each start of a process. */
export type BootId = Brand<string, "BootId">;
export type BrokerId = Brand<string, "BrokerId">;
export type EventId = Brand<string, "EventId">;
/** A UUID that the caller chooses and repeats in retries. A command id causes at most one set of events. */
export type CommandId = Brand<string, "CommandId">;
/** Random for each opened epoch. Tells apart two epochs of one number, which a restore can cause. */
export type Incarnation = Brand<string, "Incarnation">;
/** The last eight characters of an incarnation, enough to tell two of them apart where space is short. */
export type IncarnationTag = Brand<string, "IncarnationTag">;
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

/** Group ids come from directories and claims, so any well-formed text without control characters is valid. */
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
export const parseIncarnationTag = idParser<IncarnationTag>("incarnation tag", /^[A-Za-z0-9._~@/+=:-]{1,8}$/);
export const tagOf = (incarnation: Incarnation): IncarnationTag => parseIncarnationTag(incarnation.slice(-8));
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

/** No broker has written yet. */
export const noEpoch = 0 as Epoch;
export function nextEpoch(epoch: number): Epoch {
  return (epoch + 1) as Epoch;
}

/** Before the first event. */
export const noPosition = 0 as Position;
export const firstPosition = 1 as Position;
export function nextPosition(position: number): Position {
  return (position + 1) as Position;
}
/** @param position at least 1 */
export function previousPosition(position: number): Position {
  return (position - 1) as Position;
}

/** Ends a switch over a union. A new member of the union stops the build here. */
export function unreachable(value: never): never {
  throw new TypeError(`unreachable: ${JSON.stringify(value)}`);
}
