/**
 * Parse: what came over the wire as `unknown` becomes a command, or is refused whole. Pure; trusts nothing, keeps only the
 * fields it knows, and never repeats what it was given: commands carry personal data and tokens.
 */
import {
  type Claims,
  type ClaimValue,
  CodedError,
  type Command,
  type CommandRequest,
  type GroupId,
  isPlainLines,
  isPlainText,
  type LostTightening,
  type MembershipSource,
  type Profile,
  type ProviderTokens,
  parseCommandId,
  parseConfigBody,
  parseConfigHash,
  parseEpoch,
  parseGroupId,
  parseHash,
  parseNodeId,
  parsePosition,
  parseSessionId,
  parseUnixMs,
  parseUserId,
  type RevocationReason,
  type Stream,
} from "../../events/index.ts";
import { parseTokens } from "./vault.ts";

export class MalformedCommandError extends CodedError<"ERR_BROKER_MALFORMED_COMMAND"> {
  override readonly code = "ERR_BROKER_MALFORMED_COMMAND";
  constructor(problem: string, options?: ErrorOptions) {
    super(`malformed command: ${problem}`, options);
  }
}

type Fields = Readonly<Record<string, unknown>>;

const listMax = 20_000;
const textMax = 10_000;
const claimsMax = 2_000;
const sessionsPerUserMax = 1_000_000;
const levelMax = 1_000_000;

/** @throws MalformedCommandError */
export function parseCommandRequest(value: unknown): CommandRequest {
  try {
    const request = fieldsOf(value, "request");
    return {
      commandId: parseCommandId(request["commandId"]),
      actor: actor(request["actor"]),
      command: parseCommand(fieldsOf(request["command"], "command")),
    };
  } catch (cause) {
    if (cause instanceof MalformedCommandError) throw cause;
    throw new MalformedCommandError(cause instanceof Error ? cause.message : "not a command", { cause });
  }
}

function parseCommand(c: Fields): Command {
  switch (c["type"]) {
    case "createSession":
      return {
        type: "createSession",
        sessionId: parseSessionId(c["sessionId"]),
        userId: parseUserId(c["userId"]),
        idpId: text(c, "idpId"),
        issuedAt: parseUnixMs(c["issuedAt"]),
        expiresAt: parseUnixMs(c["expiresAt"]),
        profile: profile(c["profile"]),
        tokens: tokens(c["tokens"]),
        groupIds: groups(c["groupIds"]),
        maxSessionsPerUser: whole(c, "maxSessionsPerUser", { min: 1, max: sessionsPerUserMax }),
      };
    case "refreshSession":
      return {
        type: "refreshSession",
        sessionId: parseSessionId(c["sessionId"]),
        profile: profile(c["profile"]),
        tokens: tokens(c["tokens"]),
        groupIds: groups(c["groupIds"]),
        refreshedAt: parseUnixMs(c["refreshedAt"]),
        ...(c["tokenVersion"] === undefined ? {} : { tokenVersion: version(c) }),
      };
    case "startRefresh":
      return {
        type: "startRefresh",
        sessionId: parseSessionId(c["sessionId"]),
        tokens: tokens(c["tokens"]),
        tokenVersion: version(c),
        obtainedIn: c["obtainedIn"] === null ? null : parseEpoch(c["obtainedIn"]),
        deadline: parseUnixMs(c["deadline"]),
      };
    case "keepTokens":
      return {
        type: "keepTokens",
        sessionId: parseSessionId(c["sessionId"]),
        tokens: tokens(c["tokens"]),
        tokenVersion: version(c),
        obtainedIn: c["obtainedIn"] === null ? null : parseEpoch(c["obtainedIn"]),
      };
    case "revokeSession":
      return { type: "revokeSession", sessionId: parseSessionId(c["sessionId"]), reason: revocation(c["reason"]) };
    case "revokeSessions":
      return {
        type: "revokeSessions",
        sessionIds: list(c, "sessionIds").map(parseSessionId),
        reason: revocation(c["reason"]),
      };
    case "revokeUserSessions":
      return { type: "revokeUserSessions", userId: parseUserId(c["userId"]), reason: revocation(c["reason"]) };
    case "suspendUser":
      return { type: "suspendUser", userId: parseUserId(c["userId"]), reason: text(c, "reason") };
    case "restoreUser":
      return { type: "restoreUser", userId: parseUserId(c["userId"]) };
    case "eraseUser":
      return { type: "eraseUser", userId: parseUserId(c["userId"]) };
    case "changeGroupMembers":
      return {
        type: "changeGroupMembers",
        groupId: parseGroupId(c["groupId"]),
        source: source(c["source"]),
        added: list(c, "added").map(parseUserId),
        removed: list(c, "removed").map(parseUserId),
      };
    case "removeGroup":
      return { type: "removeGroup", groupId: parseGroupId(c["groupId"]) };
    case "expireSessions":
      return { type: "expireSessions", sessionIds: list(c, "sessionIds").map(parseSessionId) };
    case "activateConfiguration":
      return activation(c);
    case "recordSnapshot":
      return {
        type: "recordSnapshot",
        position: parsePosition(c["position"]),
        manifestHash: parseHash(c["manifestHash"]),
      };
    case "finalizeUpgrade":
      return { type: "finalizeUpgrade", level: whole(c, "level", { min: 1, max: levelMax }) };
    case "reassertTightenings":
      return { type: "reassertTightenings", events: list(c, "events").map(lost) };
    default:
      throw new MalformedCommandError("no command of ours");
  }
}

/** An older build says nothing of a body. */
function activation(c: Fields): Command {
  const nodeId = parseNodeId(c["nodeId"]);
  const configHash = parseConfigHash(c["configHash"]);
  const activates = { type: "activateConfiguration", nodeId, configHash } as const;
  return c["body"] === undefined ? activates : { ...activates, body: parseConfigBody(c["body"], configHash) };
}

const streamPattern = /^(session|user|device|service-account|group|configuration|cluster):./;

function lost(value: unknown): LostTightening {
  const event = fieldsOf(value, "event");
  const at = fieldsOf(event["link"], "link");
  const stream = text(event, "stream");
  if (!streamPattern.test(stream)) throw new MalformedCommandError("no stream of ours");
  return {
    link: { epoch: parseEpoch(at["epoch"]), position: parsePosition(at["position"]), hash: parseHash(at["hash"]) },
    stream: stream as Stream,
    type: text(event, "type"),
    userId: event["userId"] === null ? null : parseUserId(event["userId"]),
    recordedAt: parseUnixMs(event["recordedAt"]),
  };
}

function profile(value: unknown): Profile {
  const p = fieldsOf(value, "profile");
  const emailVerified = p["emailVerified"];
  if (typeof emailVerified !== "boolean") throw new MalformedCommandError("emailVerified is not a truth value");
  const issuer = text(p, "issuer");
  const subject = text(p, "subject");
  if (issuer === "" || subject === "") throw new MalformedCommandError("a profile without an issuer or a subject");
  return {
    issuer,
    subject,
    email: text(p, "email"),
    emailVerified,
    name: text(p, "name"),
    claims: claims(p["claims"]),
  };
}

function claims(value: unknown): Claims {
  const entries = Object.entries(fieldsOf(value, "claims"));
  if (entries.length > claimsMax) throw new MalformedCommandError("too many claims");
  if (!entries.every(([name]) => isPlainText(name))) throw new MalformedCommandError("a claim's name is no plain text");
  return Object.fromEntries(entries.map(([name, values]) => [name, listOf(values, "a claim").map(claimValue)]));
}

function claimValue(value: unknown): ClaimValue {
  if (typeof value === "string" && !isPlainLines(value)) throw new MalformedCommandError("a claim is no plain text");
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") return value;
  throw new MalformedCommandError("a claim that is neither text, number nor truth");
}

function tokens(value: unknown): ProviderTokens {
  const parsed = parseTokens(value);
  if (parsed === undefined) throw new MalformedCommandError("tokens are missing or of the wrong kind");
  return parsed;
}

const version = (fields: Fields): number => whole(fields, "tokenVersion", { min: 0, max: Number.MAX_SAFE_INTEGER });

function groups(value: unknown): readonly GroupId[] | null {
  return value === null ? null : listOf(value, "groupIds").map(parseGroupId);
}

const revocations: readonly RevocationReason[] = [
  "operator",
  "sign-out",
  "refresh-refused",
  "identity-provider",
  "session-limit",
  "reasserted",
];
const sources: readonly MembershipSource[] = ["directory", "scim", "operator", "idp"];

function revocation(value: unknown): RevocationReason {
  return oneOf(value, revocations, "reason");
}
function source(value: unknown): MembershipSource {
  return oneOf(value, sources, "source");
}

function oneOf<T extends string>(value: unknown, allowed: readonly T[], name: string): T {
  const found = allowed.find((each) => each === value);
  if (found === undefined) throw new MalformedCommandError(`${name} is none of ${allowed.join(", ")}`);
  return found;
}

const actorPattern = /^(system|(user|operator|service):[^\s]{1,200})$/;

function actor(value: unknown): string {
  if (typeof value === "string" && actorPattern.test(value) && isPlainText(value)) return value;
  throw new MalformedCommandError("the actor is not `user:…`, `operator:…`, `service:…` or `system`");
}

function fieldsOf(value: unknown, name: string): Fields {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Fields;
  throw new MalformedCommandError(`${name} is not a map`);
}
function text(fields: Fields, name: string): string {
  const value = fields[name];
  if (typeof value === "string" && value.length <= textMax && isPlainText(value)) return value;
  throw new MalformedCommandError(`${name} is not text`);
}
function whole(fields: Fields, name: string, { min, max }: Readonly<{ min: number; max: number }>): number {
  const value = fields[name];
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= min && value <= max) return value;
  throw new MalformedCommandError(`${name} is not a whole number from ${min} to ${max}`);
}
function list(fields: Fields, name: string): readonly unknown[] {
  return listOf(fields[name], name);
}
function listOf(value: unknown, name: string): readonly unknown[] {
  if (Array.isArray(value) && value.length <= listMax) return value;
  throw new MalformedCommandError(`${name} is not a list of at most ${listMax}`);
}
