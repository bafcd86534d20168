/**
 * Signal subjects: how a token names the person that it is about, and which subjects a stream includes. Pure.
 *
 * - `email` names a person by an e-mail that the provider has verified or a directory has stated, else by `iss_sub`.
 * - `opaque` is an id that follows from the salt of the receiver, so two receivers cannot compare theirs.
 * - An erased person has no e-mail and no subject any more. The opaque id remains: every token of a stream names it in
 *   `cardea_subject`, so a receiver that keeps it recognises the person in the later `account-purged`.
 */
import { createHmac } from "node:crypto";
import type { SignalReceiverConfig } from "../../../config/index.ts";
import { type GroupId, isProvisioned, type Profile, type SessionId, type UserId } from "../../../events/index.ts";
import { formatSubject, type SimpleSubject, type SubjectIdentifier } from "../../shared-signals/index.ts";

export type SubjectRules = Pick<SignalReceiverConfig, "subjectFormat" | "sessionSubject" | "subjects">;

export type SubjectOf = Readonly<{ userId: UserId | null; sessionId: SessionId | null; groupId: GroupId | null }>;

/** The member of a token beside those of the specification. */
export const subjectClaim = "cardea_subject";

export function opaqueId(salt: string, kind: "user" | "session" | "group", id: string): string {
  return createHmac("sha256", salt)
    .update(JSON.stringify(["cardea opaque", kind, id]))
    .digest("base64url")
    .slice(0, 27);
}

/** @param profile undefined: none is known, or the person is erased */
export function subjectFor(
  of: SubjectOf,
  profile: Profile | undefined,
  { rules, salt }: Readonly<{ rules: SubjectRules; salt: string }>,
): SubjectIdentifier {
  const { userId, sessionId, groupId } = of;
  const isOpaque = rules.subjectFormat === "opaque";
  const user = userId === null ? null : userSubject(userId, profile, { rules, salt });
  if (user === null && sessionId === null) {
    const id = groupId === null ? "" : isOpaque ? opaqueId(salt, "group", groupId) : groupId;
    return { format: "complex", members: { group: { format: "opaque", id } } };
  }
  // The `sid` of the assertion that upstreams receive is the id of the session.
  const session: SimpleSubject | null =
    sessionId === null ? null : { format: "opaque", id: isOpaque ? opaqueId(salt, "session", sessionId) : sessionId };
  if (user === null || session === null) return user ?? session ?? { format: "opaque", id: "" };
  return rules.sessionSubject === "user" ? user : { format: "complex", members: { user, session } };
}

function userSubject(
  userId: UserId,
  profile: Profile | undefined,
  { rules, salt }: Readonly<{ rules: SubjectRules; salt: string }>,
): SimpleSubject {
  const opaque = { format: "opaque", id: opaqueId(salt, "user", userId) } as const;
  if (profile === undefined || rules.subjectFormat === "opaque") return opaque;
  const { email, issuer: iss, subject: sub } = profile;
  // A provisioned person has no subject at a provider: a directory states the e-mail.
  if (isProvisioned(profile)) return email === "" ? opaque : { format: "email", email };
  if (rules.subjectFormat === "email" && email !== "" && profile.emailVerified) return { format: "email", email };
  return { format: "iss_sub", iss, sub };
}

/** Every identifier by which a receiver may have named the person. */
function identifiersFor(userId: UserId, profile: Profile | undefined, salt: string): readonly SimpleSubject[] {
  const opaque: SimpleSubject = { format: "opaque", id: opaqueId(salt, "user", userId) };
  if (profile === undefined) return [opaque];
  const { email, issuer: iss, subject: sub } = profile;
  const all: SimpleSubject[] = [opaque];
  if (email !== "") all.push({ format: "email", email });
  if (!isProvisioned(profile)) all.push({ format: "iss_sub", iss, sub });
  return all;
}

/** A subject as a stream keeps it: a hash under the salt, which reveals no address. */
export function subjectHash(subject: SimpleSubject, salt: string): string {
  const named = subject.format === "email" ? { ...subject, email: subject.email.toLowerCase() } : subject;
  const entries = Object.entries(formatSubject(named)).sort(([a], [b]) => (a < b ? -1 : 1));
  return createHmac("sha256", salt)
    .update(JSON.stringify(["cardea listed subject", entries]))
    .digest("base64url")
    .slice(0, 27);
}

/**
 * Whether a stream includes signals about the person. Where only named subjects are included, a person whose name is
 * gone is included too: the opaque id reveals nothing to a receiver that has not seen it.
 */
export function includesUser(
  userId: UserId | null,
  profile: Profile | undefined,
  { mode, listed, salt }: Readonly<{ mode: SubjectRules["subjects"]; listed: ReadonlySet<string>; salt: string }>,
): boolean {
  if (userId === null || (mode === "all" && listed.size === 0)) return true;
  const isListed = identifiersFor(userId, profile, salt).some((subject) => listed.has(subjectHash(subject, salt)));
  return mode === "all" ? !isListed : isListed || profile === undefined;
}
