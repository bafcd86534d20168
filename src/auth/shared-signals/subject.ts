/**
 * Subject identifiers: the subject of a security event (RFC 9493, OpenID SSF 1.0 §3). Pure.
 *
 * Everything about them is bounded: the length of a text, the members of a complex subject, and the aliases.
 */
import { isPlainText } from "../../events/index.ts";

export type SimpleSubject = Readonly<
  | { format: "account"; uri: string }
  | { format: "email"; email: string }
  | { format: "iss_sub"; iss: string; sub: string }
  | { format: "opaque"; id: string }
  | { format: "phone_number"; phone_number: string }
  | { format: "did"; url: string }
  | { format: "uri"; uri: string }
  | { format: "jwt_id"; iss: string; jti: string }
  | { format: "saml_assertion_id"; issuer: string; assertion_id: string }
  | { format: "ip-addresses"; "ip-addresses": readonly string[] }
  /** Several identifiers of one subject. None of them is itself `aliases`. */
  | { format: "aliases"; identifiers: readonly SimpleSubject[] }
  /** A format that this build does not know. */
  | { format: "unknown"; named: string }
>;
/** Members such as `user`, `session` and `device`. All of them describe one subject. */
export type ComplexSubject = Readonly<{ format: "complex"; members: Readonly<Record<string, SimpleSubject>> }>;
export type SubjectIdentifier = SimpleSubject | ComplexSubject;

const textCharsMax = 2_000;
const membersMax = 16;
const aliasesMax = 20;
const addressesMax = 32;

/** The text members of each format of RFC 9493 §3.2 and SSF 1.0 §3.5. */
const textMembers = {
  account: ["uri"],
  email: ["email"],
  iss_sub: ["iss", "sub"],
  opaque: ["id"],
  phone_number: ["phone_number"],
  did: ["url"],
  uri: ["uri"],
  jwt_id: ["iss", "jti"],
  saml_assertion_id: ["issuer", "assertion_id"],
} as const;

type Members = Readonly<Record<string, unknown>>;

/** @returns undefined: not a subject identifier, or it exceeds a bound */
export function parseSubject(value: unknown): SubjectIdentifier | undefined {
  if (!isMap(value)) return undefined;
  if (value["format"] !== "complex") return parseSimpleSubject(value);
  const named = Object.entries(value).filter(([name]) => name !== "format");
  if (named.length === 0 || named.length > membersMax) return undefined;
  const members: [string, SimpleSubject][] = [];
  for (const [name, member] of named) {
    if (!isText(name)) return undefined;
    if (!isMap(member)) continue; // unknown members are ignored (SSF 1.0 §4.2.3)
    const subject = parseSimpleSubject(member);
    if (subject === undefined) return undefined;
    members.push([name, subject]);
  }
  return members.length === 0 ? undefined : { format: "complex", members: Object.fromEntries(members) };
}

export function parseSimpleSubject(value: unknown): SimpleSubject | undefined {
  if (!isMap(value)) return undefined;
  const { format } = value;
  if (format === "aliases") return parseAliases(value["identifiers"]);
  return parseOne(value);
}

function parseAliases(listed: unknown): SimpleSubject | undefined {
  if (!Array.isArray(listed) || listed.length === 0 || listed.length > aliasesMax) return undefined;
  const identifiers: SimpleSubject[] = [];
  for (const each of listed) {
    const subject = isMap(each) && each["format"] !== "aliases" ? parseOne(each) : undefined;
    if (subject === undefined) return undefined;
    identifiers.push(subject);
  }
  return { format: "aliases", identifiers };
}

function parseOne(value: Members): SimpleSubject | undefined {
  const { format } = value;
  if (typeof format !== "string" || !isText(format) || format === "complex") return undefined;
  if (format === "ip-addresses") {
    const listed = value[format];
    if (!Array.isArray(listed) || listed.length > addressesMax || !listed.every(isText)) return undefined;
    return { format, "ip-addresses": listed };
  }
  if (!Object.hasOwn(textMembers, format)) return { format: "unknown", named: format };
  const known = format as keyof typeof textMembers;
  const texts = textMembers[known].map((name) => [name, value[name]] as const);
  if (!texts.every(([, text]) => isText(text))) return undefined;
  return { format: known, ...Object.fromEntries(texts) } as SimpleSubject; // each member of the format, as text
}

/** The form on the wire. */
export function formatSubject(subject: SubjectIdentifier): Readonly<Record<string, unknown>> {
  if (subject.format === "complex")
    return {
      format: "complex",
      ...Object.fromEntries(Object.entries(subject.members).map(([name, member]) => [name, formatSubject(member)])),
    };
  if (subject.format === "aliases") return { format: "aliases", identifiers: subject.identifiers.map(formatSubject) };
  if (subject.format === "unknown") return { format: subject.named };
  return { ...subject };
}

/** The identifiers that a simple subject states: itself, or its aliases. */
export function identifiersOf(subject: SimpleSubject): readonly SimpleSubject[] {
  return subject.format === "aliases" ? subject.identifiers : [subject];
}

/**
 * Whether an event about one subject concerns the other: a member that one of them lacks is a wildcard (SSF 1.0
 * §8.1.3.1).
 */
export function subjectsMatch(a: SubjectIdentifier, b: SubjectIdentifier): boolean {
  if (a.format !== "complex" || b.format !== "complex") return sameSubjectIdentifier(a, b);
  return Object.entries(a.members).every(([name, member]) => {
    const other = Object.hasOwn(b.members, name) ? b.members[name] : undefined;
    return other === undefined || sameSubjectIdentifier(member, other);
  });
}

/** E-mail addresses ignore case. */
export function sameSubjectIdentifier(a: SubjectIdentifier, b: SubjectIdentifier): boolean {
  if (a.format === "email" && b.format === "email") return a.email.toLowerCase() === b.email.toLowerCase();
  return a.format !== "unknown" && canonicalForm(a) === canonicalForm(b);
}

function canonicalForm(subject: SubjectIdentifier): string {
  const sorted = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(sorted);
    if (!isMap(value)) return value;
    return Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, inner]) => [name, sorted(inner)]);
  };
  return JSON.stringify(sorted(formatSubject(subject)));
}

function isMap(value: unknown): value is Members {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isText(value: unknown): value is string {
  return typeof value === "string" && value !== "" && value.length <= textCharsMax && isPlainText(value);
}
