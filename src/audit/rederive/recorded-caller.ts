/**
 * Recorded caller: who the caller of a recorded decision was, by the facts at its link, and which criteria of a policy
 * can be evaluated for the record. Pure.
 */
import {
  criterionDescriptor,
  type DecisionRecord,
  type KnownCaller,
  type RoutePolicy,
  resolveCaller,
  revokedByRegion,
  sessionIdle,
} from "../../auth/index.ts";
import type { RouteConfig } from "../../config/index.ts";
import type { Profile, Projection, Sealed, UnixMs, UserId } from "../../events/index.ts";

/** The facts at the link of the record. */
export type PastFacts = Readonly<{
  projection: Pick<Projection, "sessionStatus" | "groupsOf" | "nextEndOf">;
  /** Undefined: the person's key is gone. */
  open: (sealed: Sealed, userId: UserId) => Profile | undefined;
}>;

export type PastCaller =
  | Readonly<{
      type: "known";
      caller: KnownCaller;
      /** Why the log has no valid session, where the record names one; null: it has, or the record names none. */
      ended: string | null;
      /** The personal data of the caller can be opened, or there is no caller. */
      isReadable: boolean;
    }>
  | Readonly<{ type: "unknown"; why: string }>;

/** The caller of a recorded decision, as the log has the caller. */
export function recordedCaller(
  record: DecisionRecord,
  { projection, open }: PastFacts,
  { route, idpIds, now }: Readonly<{ route: RouteConfig; idpIds: ReadonlySet<string> | null; now: UnixMs }>,
): PastCaller {
  const { sessionId, userId } = record;
  const anonymous = (why: string): KnownCaller => ({ type: "anonymous", why, credentialInHeader: false });
  if (sessionId === null || userId === null) {
    const why = whyRefusedHere(record, { projection, route, now });
    return why === null
      ? { type: "known", caller: anonymous("no-session"), ended: null, isReadable: true }
      : { type: "unknown", why };
  }
  const found = projection.sessionStatus(sessionId);
  let isReadable = true;
  const opened = (sealed: Sealed, whose: UserId): Profile => {
    const profile = open(sealed, whose);
    if (profile === undefined) isReadable = false;
    return profile ?? unreadable;
  };
  const issuedBy = found.status === "active" ? found.session.idpId : "";
  const allowed = idpIds === null || isBearerRoute(route) ? new Set([issuedBy]) : idpIds;
  const handle = { sessionId, userId, idpId: "" };
  const caller = resolveCaller(projection, handle, { now, idpIds: allowed, credentialInHeader: false, open: opened });
  if (caller.type === "behind") return { type: "unknown", why: caller.why };
  if (caller.type === "anonymous") return { type: "known", caller, ended: caller.why, isReadable: true };
  const lifetimeMs = route.sessionLifetimeMs ?? 0;
  if (lifetimeMs > 0 && caller.principal.session.issuedAt + lifetimeMs <= now) {
    const why = "session-older-than-route-allows";
    return { type: "known", caller: anonymous(why), ended: why, isReadable: true };
  }
  if (record.occasion === "redecision" && record.result === "signin")
    return { type: "unknown", why: "the log has the session as active; the node ended it for a reason of its own" };
  return { type: "known", caller, ended: null, isReadable };
}

const unreadable: Profile = { issuer: "", subject: "-", email: "", emailVerified: false, name: "", claims: {} };
const isBearerRoute = ({ bearer }: Pick<RouteConfig, "bearer">): boolean => bearer !== null && bearer !== undefined;

/**
 * Why the node took a caller for anonymous whose session the log has as active; null: there is no such session, or the
 * record says why.
 */
function whyRefusedHere(
  { trace, reasons }: DecisionRecord,
  of: Readonly<{ projection: PastFacts["projection"]; route: RouteConfig; now: UnixMs }>,
): string | null {
  const named = trace?.facts.find(({ fact }) => fact.startsWith("session:"))?.fact.slice("session:".length);
  if (named === undefined || reasons.includes(sessionIdle) || reasons.includes(revokedByRegion)) return null;
  const found = of.projection.sessionStatus(named as never);
  if (found.status !== "active" || found.session.expiresAt <= of.now) return null;
  const lifetimeMs = of.route.sessionLifetimeMs ?? 0;
  if (lifetimeMs > 0 && found.session.issuedAt + lifetimeMs <= of.now) return null;
  return "the log has the session as active; the node refused it for a reason that the record does not have, such as another identity provider";
}

// --- criteria

export type IsKnown = ReturnType<typeof isKnownCriterion>;

/** The criteria of a policy whose input is not known. */
export function missingCriteria({ conditionals }: RoutePolicy, isKnown: IsKnown): readonly string[] {
  const names = conditionals.flatMap(({ criteria }) =>
    criteria.flatMap(({ name, needsSession }) => (isKnown(name, needsSession) ? [] : [name])),
  );
  return [...new Set(names)].sort();
}

/** What a session's provider has stated. */
const profileCriteria: ReadonlySet<string> = new Set(["user", "email", "domain", "claim"]);

/** @returns whether the criterion of this name can be evaluated again */
export function isKnownCriterion(
  of: Readonly<{
    method: string;
    /** The record has the whole path. */
    hasPath: boolean;
    /** The caller's personal data can be opened, or there is no caller. */
    isReadable: boolean;
  }>,
): (name: string, needsSession: boolean) => boolean {
  return (name) => {
    const [plain = name] = name.split("/", 1);
    const descriptor = criterionDescriptor(plain);
    if (descriptor === undefined) return false;
    if (descriptor.unsupported !== undefined) return true; // no request meets it
    if (plain === "http_path") return of.hasPath;
    if (plain === "cors_preflight") return of.method !== "OPTIONS";
    if (plain === "groups") return true;
    if (profileCriteria.has(plain)) return of.isReadable;
    return descriptor.replay === "recorded" || descriptor.replay === "time";
  };
}
