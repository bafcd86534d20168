/**
 * Command fields: parsers for the fields of commands that arrived over the wire. Pure.
 *
 * They never repeat a value in an error: commands carry personal data and tokens.
 */
import {
  type Claims,
  type ClaimValue,
  CodedError,
  type GroupId,
  isPlainLines,
  isPlainText,
  type MembershipSource,
  type NeededLink,
  type Profile,
  type ProviderTokens,
  parseEpoch,
  parseGroupId,
  parseHash,
  parseIncarnationTag,
  parsePosition,
  type RevocationReason,
} from "../../events/index.ts";
import { parseTokens } from "./vault.ts";

export class MalformedCommandError extends CodedError<"ERR_BROKER_MALFORMED_COMMAND"> {
  override readonly code = "ERR_BROKER_MALFORMED_COMMAND";
  constructor(problem: string, options?: ErrorOptions) {
    super(`malformed command: ${problem}`, options);
  }
}

export type Fields = Readonly<Record<string, unknown>>;

const listMax = 20_000;
const textMax = 10_000;
const claimsMax = 2_000;

export function parseProfileFields(value: unknown): Profile {
  const fields = fieldsOf(value, "profile");
  const emailVerified = fields["emailVerified"];
  if (typeof emailVerified !== "boolean") throw new MalformedCommandError("emailVerified is not a boolean");
  const issuer = textOf(fields, "issuer");
  const subject = textOf(fields, "subject");
  if (issuer === "" || subject === "") throw new MalformedCommandError("a profile has no issuer or no subject");
  return {
    issuer,
    subject,
    email: textOf(fields, "email"),
    emailVerified,
    name: textOf(fields, "name"),
    claims: parseClaims(fields["claims"]),
  };
}

export function parseClaims(value: unknown): Claims {
  const entries = Object.entries(fieldsOf(value, "claims"));
  if (entries.length > claimsMax) throw new MalformedCommandError("too many claims");
  if (!entries.every(([name]) => isPlainText(name)))
    throw new MalformedCommandError("a claim's name is not plain text");
  return Object.fromEntries(entries.map(([name, values]) => [name, listOf(values, "a claim").map(parseClaimValue)]));
}

function parseClaimValue(value: unknown): ClaimValue {
  if (typeof value === "string" && !isPlainLines(value)) throw new MalformedCommandError("a claim is not plain text");
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") return value;
  throw new MalformedCommandError("a claim is neither text, number nor boolean");
}

export function parseTokenFields(value: unknown): ProviderTokens {
  const parsed = parseTokens(value);
  if (parsed === undefined) throw new MalformedCommandError("tokens are missing or malformed");
  return parsed;
}

export const tokenVersionOf = (fields: Fields): number =>
  integerOf(fields, "tokenVersion", { min: 0, max: Number.MAX_SAFE_INTEGER });

export function parseGroupIds(value: unknown): readonly GroupId[] | null {
  return value === null ? null : listOf(value, "groupIds").map(parseGroupId);
}

const revocations: readonly RevocationReason[] = [
  "operator",
  "sign-out",
  "refresh-refused",
  "identity-provider",
  "session-limit",
  "idle",
  "reasserted",
];
const sources: readonly MembershipSource[] = ["directory", "scim", "operator", "idp"];

export function parseRevocationReason(value: unknown): RevocationReason {
  return oneOf(value, revocations, "reason");
}
export function parseMembershipSource(value: unknown): MembershipSource {
  return oneOf(value, sources, "source");
}

function oneOf<T extends string>(value: unknown, allowed: readonly T[], name: string): T {
  const found = allowed.find((each) => each === value);
  if (found === undefined) throw new MalformedCommandError(`${name} is not one of ${allowed.join(", ")}`);
  return found;
}

export function fieldsOf(value: unknown, name: string): Fields {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Fields;
  throw new MalformedCommandError(`${name} is not a map`);
}
export function textOf(fields: Fields, name: string): string {
  const value = fields[name];
  if (typeof value === "string" && value.length <= textMax && isPlainText(value)) return value;
  throw new MalformedCommandError(`${name} is not text`);
}
export function booleanOf(fields: Fields, name: string): boolean {
  const value = fields[name];
  if (typeof value === "boolean") return value;
  throw new MalformedCommandError(`${name} is not a boolean`);
}
export function integerOf(fields: Fields, name: string, { min, max }: Readonly<{ min: number; max: number }>): number {
  const value = fields[name];
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= min && value <= max) return value;
  throw new MalformedCommandError(`${name} is not an integer from ${min} to ${max}`);
}
export function listIn(fields: Fields, name: string): readonly unknown[] {
  return listOf(fields[name], name);
}
/** The link at a position that a command names. */
export function linkAt(value: unknown, position: unknown): NeededLink {
  const link = parseNeededLink(value);
  if (link.position !== position) throw new MalformedCommandError("a link is of another position");
  return link;
}
export function parseNeededLink(value: unknown): NeededLink {
  const fields = fieldsOf(value, "link");
  const { incarnation } = fields;
  return {
    epoch: parseEpoch(fields["epoch"]),
    position: parsePosition(fields["position"]),
    hash: parseHash(fields["hash"]),
    ...(incarnation === undefined ? {} : { incarnation: parseIncarnationTag(incarnation) }),
  };
}
function listOf(value: unknown, name: string): readonly unknown[] {
  if (Array.isArray(value) && value.length <= listMax) return value;
  throw new MalformedCommandError(`${name} is not a list of at most ${listMax}`);
}
