/** Support for the tests of re-derivation: a log with people and groups, a configuration, and records of decisions. */
import { createHash } from "node:crypto";
import { type PastConfiguration, readStoredConfiguration } from "../../../src/audit/index.ts";
import {
  compilePolicies,
  type DecisionRecord,
  type DecisionRequest,
  decide,
  explain,
  type KnownCaller,
  type Policies,
  resolveCaller,
} from "../../../src/auth/index.ts";
import { type Config, canonicalConfig, signInClientsOf } from "../../../src/config/index.ts";
import {
  type CardeaEvent,
  type ConfigHash,
  decodeEvents,
  FactPositions,
  type GroupId,
  type Link,
  type Profile,
  Projection,
  packConfigBody,
  type SessionCreated,
  type UnixMs,
  type UserId,
} from "../../../src/events/index.ts";
import { createRecordedRequestReader } from "../../../src/proxy/index.ts";
import { createMemoryLog } from "../../../src/replication/log/index.ts";
import { base, config as parseWhole } from "../../config/support.ts";
import { aSession, aUserId, LogWriter } from "../../support/log-writer.ts";
import { decision } from "../support.ts";

export const routes = `routes:
  - id: eng
    name: Engineering
    from: https://eng.example.com
    to: http://127.0.0.1:8091
    policy:
      - allow:
          or:
            - groups: {has: eng}
            - email: {is: boss@example.com}
        deny:
          or:
            - http_path: {starts_with: /secret}
  - id: open
    from: https://open.example.com
    to: http://127.0.0.1:8091
    allow_public_unauthenticated_access: true
  - id: short
    from: https://short.example.com
    to: http://127.0.0.1:8091
    session_lifetime: 10m
    allow_any_authenticated_user: true
  - id: certificate
    from: https://certificate.example.com
    to: http://127.0.0.1:8091
    policy:
      - allow:
          and:
            - groups: {has: eng}
            - client_certificate: {fingerprint: "${"ab".repeat(32)}"}
`;

export const configText = (more = routes): string => base + more;
export const at = 1_700_000_000_000 as UnixMs;

/** As a broker stores it, and as an operator's server reads it. */
export function stored(config: Config): PastConfiguration {
  const text = canonicalConfig(config);
  const configHash = createHash("sha256").update(text).digest("hex") as ConfigHash;
  return readStoredConfiguration({ configHash, body: packConfigBody(text), recordedAt: at });
}

export const readerOf = ({ routes: all }: PastConfiguration) =>
  createRecordedRequestReader([...all.values()].map(({ route }) => route));

export type LogWorld = Awaited<ReturnType<typeof logWorld>>;

/** A log with its projection, as a node folds it. */
export async function logWorld(config: Config = parseWhole(configText())) {
  const log = createMemoryLog();
  const writer = await LogWriter.open(log);
  const projection = new Projection();
  const places = new FactPositions(projection.applied.position);
  const profiles = new Map<string, Profile>();
  const erased = new Set<UserId>();
  const idpId = signInClientsOf(config).defaults.bearerIdpId;
  const compiled = compilePolicies(config.routes);
  if (!compiled.ok) throw new Error(JSON.stringify(compiled.problems));
  const policies: Policies = compiled.policies;
  const open = (sealed: Uint8Array, userId: UserId): Profile | undefined =>
    erased.has(userId) ? undefined : profiles.get(Buffer.from(sealed).toString("hex"));

  async function append(...events: readonly CardeaEvent[]): Promise<Link> {
    for (const event of events) await writer.append([{ events: [event] }]);
    const outcome = await log.read(projection.applied, 1_000);
    if (outcome.type !== "page") throw new Error(outcome.type);
    for (const recorded of decodeEvents(outcome.page.entries, outcome.page.previous)) {
      projection.apply(recorded);
      places.record(recorded);
    }
    return projection.applied;
  }

  async function signIn(email: string, parts: Partial<SessionCreated> = {}): Promise<SessionCreated> {
    const userId = parts.userId ?? aUserId();
    const expiresAt = (at + 3_600_000) as UnixMs;
    const session = aSession({ userId, idpId, issuedAt: at, expiresAt, ...parts });
    const subject = email.split("@")[0] ?? "";
    const profile = {
      issuer: "https://idp.example.com",
      subject,
      email,
      emailVerified: true,
      name: subject,
      claims: {},
    };
    profiles.set(Buffer.from(session.profile).toString("hex"), profile);
    await append(session);
    return session;
  }

  const members = (groupId: string, change: Readonly<{ added?: UserId[]; removed?: UserId[] }>) =>
    append({
      ...{ type: "GroupMembersChanged", groupId: groupId as GroupId, source: "operator" },
      ...{ added: change.added ?? [], removed: change.removed ?? [] },
    });

  /** The record of a request, as the decision makes it now. */
  function recordOf(
    routeId: string,
    session: SessionCreated | null,
    more: Partial<DecisionRecord> = {},
  ): DecisionRecord {
    const { method = "GET", path = "/", at: now = at } = more;
    const request: DecisionRequest = {
      ...{ method, host: `${routeId}.example.com`, rawPath: path, path, query: "", headers: {} },
      ...{ scheme: "https" as const, ip: "192.0.2.1", clientCertificate: null },
    };
    const handle = session === null ? undefined : { sessionId: session.sessionId, userId: session.userId, idpId };
    const options = { now, idpIds: new Set([idpId]), credentialInHeader: false, open };
    const caller = resolveCaller(projection, handle, options) as KnownCaller;
    const answer = decide({ policies, routeId, caller, request, now });
    const policy = policies.get(routeId);
    const principal = caller.type === "principal" ? caller.principal : null;
    const rule = policy === undefined ? null : explain(policy, { request, principal, now }, answer).rule;
    return decision(path, {
      ...{ at: now, routeId, host: request.host, result: answer.type, reasons: answer.reasons, method },
      status: answer.type === "permit" ? 200 : answer.type === "deny" ? answer.status : 302,
      allow: answer.outcomes?.allow.recorded,
      deny: answer.outcomes?.deny.recorded,
      ...(rule === null ? {} : { rule }),
      sessionId: principal?.session.sessionId ?? null,
      userId: principal?.userId ?? null,
      applied: projection.applied,
      ...more,
    });
  }

  return { log, writer, projection, places, open, erased, append, signIn, members, recordOf, policies, idpId, config };
}
