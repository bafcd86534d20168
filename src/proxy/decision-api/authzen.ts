/**
 * AuthZEN: OpenID Authorization API 1.0 over the request decider; docs/authzen.md has the mapping.
 *
 *   subject    session (id), user and identity (Cardea's id, or the provider's subject), credential (a handle),
 *              anonymous
 *   action     an HTTP method, or a name in `decision_api.resources`
 *   resource   a route, or a type named in `decision_api.resources`
 *   context    ip, headers
 *
 * Pure except for the decider. An unknown subject, action or resource is a denial, with the reason in its context.
 */
import type { SessionHandle } from "../../auth/index.ts";
import type { DecisionApiConfig } from "../../config/index.ts";
import { parseSessionId, parseUserId, type SessionId, type UserId, userIdOf } from "../../events/index.ts";
import { type ApiDecision, reasonsOf, type SubjectSource, statusOf } from "./api-decision.ts";
import {
  AuthzenError,
  type AuthzenRequest,
  AuthzenUnavailableError,
  type Entity,
  type Json,
  objectOf,
  parseAuthzenRequest,
} from "./authzen-parser.ts";
import { type AuthzenSearch, createAuthzenSearch, decidedAtOnce } from "./authzen-search.ts";
import type { DescribedRequest } from "./described-request.ts";
import type { DecisionApiDeps, RequestDecider } from "./request-decider.ts";
import { resourceAddressOf } from "./resource-request.ts";
import { createSearchRecorder } from "./search-record.ts";

export type Evaluation = Readonly<{ decision: boolean; context: Readonly<Record<string, unknown>> }>;

export const evaluationsMax = 1_000;

export type Authzen = Readonly<{
  /** @throws AuthzenError */
  evaluation(body: unknown, requestId: string): Promise<Evaluation>;
  /** One result for each entry of `evaluations` that was evaluated, in order. @throws AuthzenError */
  evaluations(body: unknown, requestId: string): Promise<Evaluation | Readonly<{ evaluations: readonly Evaluation[] }>>;
  search: AuthzenSearch;
}>;

export function createAuthzen(
  deps: DecisionApiDeps,
  decider: RequestDecider,
  parts: Readonly<{
    api: Pick<DecisionApiConfig, "resources" | "subjectIssuer">;
    /** Lets other requests run. */
    pause: () => Promise<void>;
  }>,
): Authzen {
  const { config, replica, clock } = deps;
  const { resources: words, subjectIssuer: issuer } = parts.api;

  async function evaluate(asked: AuthzenRequest, requestId: string): Promise<Evaluation> {
    const described = describe(asked);
    if (typeof described === "string") return refuse(described, requestId);
    const whose = whoIs(asked.subject);
    if (whose === "subject-type") return refuse(whose, requestId);
    const traced = asked.context["trace"] === true;
    const verdict = await decider.decide({ described, subject: whose, requestId, ...(traced ? { traced } : {}) });
    return told(verdict, traced);
  }

  function refuse(reason: string, requestId: string): Evaluation {
    decider.recordRefused({ requestId, reason });
    return denied(reason);
  }

  const search = createAuthzenSearch(replica, {
    ...parts,
    decider,
    recorded: createSearchRecorder(deps),
    decide: (asked) => find(asked, whoIs(asked.subject)),
    decideFor: (userId, asked) => find(asked, { among: (idpIds) => newestOf(userId, idpIds) }),
  });

  async function find(
    asked: Omit<AuthzenRequest, "subject">,
    whose: Exclude<SubjectSource, "credential"> | "subject-type",
  ): Promise<ApiDecision | null> {
    const described = describe(asked);
    if (typeof described === "string" || whose === "subject-type") return null;
    const verdict = await decider.decide({ described, subject: whose, requestId: "", recorded: false });
    if (verdict.type === "unavailable") throw new AuthzenUnavailableError(reasonsOf(verdict).join(" "));
    return verdict;
  }

  function told(verdict: ApiDecision, traced: boolean): Evaluation {
    const reasons = reasonsOf(verdict);
    return {
      decision: verdict.type === "permit",
      context: {
        reason: reasons.join(" "),
        reasons,
        result: verdict.type,
        status: statusOf(verdict),
        ...("route" in verdict ? { route: verdict.route.id } : {}),
        ...(traced && "annotations" in verdict ? { trace: verdict.annotations?.trace ?? null } : {}),
        epoch: replica.applied.epoch,
        position: String(replica.applied.position),
        configuration: config.hash,
      },
    };
  }

  function whoIs({ type, id, properties }: Entity): Exclude<SubjectSource, "credential"> | "subject-type" {
    switch (type) {
      case "anonymous":
        return null;
      case "session":
        return ofSession(id) ?? null;
      case "user":
      case "identity":
        return ofUser(id, properties["issuer"] ?? issuer, type);
      case "credential":
        return { token: id };
      default:
        return "subject-type";
    }
  }

  function ofSession(id: string): Pick<SessionHandle, "sessionId" | "userId"> | undefined {
    const sessionId = parsed<SessionId>(parseSessionId, id);
    const session = sessionId === undefined ? undefined : replica.projection.session(sessionId);
    const userId = session?.userId ?? null;
    return sessionId === undefined || userId === null ? undefined : { sessionId, userId };
  }

  function ofUser(id: string, from: unknown, type: "user" | "identity"): Exclude<SubjectSource, "credential"> {
    const ours = type === "user" ? parsed<UserId>(parseUserId, id) : undefined;
    const userId = typeof from === "string" ? userIdOf(from, id) : from === null ? ours : undefined;
    return userId === undefined ? null : { among: (idpIds) => newestOf(userId, idpIds) };
  }

  /** The newest of the person's active sessions, because policy reads a session. */
  function newestOf(
    userId: UserId,
    idpIds: ReadonlySet<string>,
  ): Pick<SessionHandle, "sessionId" | "userId"> | undefined {
    const now = clock.wall();
    const standing = replica.projection.sessionsOf(userId).flatMap((sessionId) => {
      const found = replica.projection.sessionStatus(sessionId);
      const counts = found.status === "active" && found.session.expiresAt > now && idpIds.has(found.session.idpId);
      return counts ? [found.session] : [];
    });
    const newest = standing.toSorted((a, b) => b.createdAt - a.createdAt)[0];
    return newest === undefined ? undefined : { sessionId: newest.sessionId, userId };
  }

  return {
    evaluation: async (body, requestId) => evaluate(parseAuthzenRequest(objectOf(body, "the body")), requestId),

    async evaluations(body, requestId) {
      const { evaluations: given, options, ...defaults } = objectOf(body, "the body");
      if (given === undefined || (Array.isArray(given) && given.length === 0))
        return evaluate(parseAuthzenRequest(defaults), requestId);
      if (!Array.isArray(given)) throw new AuthzenError("evaluations is not a list");
      if (given.length > evaluationsMax) throw new AuthzenError(`more than ${evaluationsMax} evaluations`);
      const semantic = semanticOf(options);
      const answers: Evaluation[] = [];
      for (const [i, one] of (given as readonly unknown[]).entries()) {
        if (i % decidedAtOnce === decidedAtOnce - 1) await parts.pause();
        const entry = readEntry({ ...defaults, ...objectOf(one, "an entry of evaluations") });
        const answer = typeof entry === "string" ? refuse(entry, requestId) : await evaluate(entry, requestId);
        answers.push(answer);
        if (semantic === "deny_on_first_deny" && !answer.decision) break;
        if (semantic === "permit_on_first_permit" && answer.decision) break;
      }
      return { evaluations: answers };
    },
    search,
  };

  function describe({ context, ...asked }: Omit<AuthzenRequest, "subject">): DescribedRequest | string {
    const place = resourceAddressOf(asked, words);
    if (typeof place === "string") return place;
    const { ip = null, headers = {} } = context;
    if (ip !== null && (typeof ip !== "string" || ip === "")) return "context-ip";
    const lines: string[] = [];
    if (typeof headers !== "object" || headers === null || Array.isArray(headers)) return "context-headers";
    for (const [name, value] of Object.entries(headers)) {
      if (typeof value !== "string" || !/^[!#$%&'*+.^`|~0-9A-Za-z-]+$/.test(name)) return "context-headers";
      if (!/^(?:host|x-pomerium-authorization)$/i.test(name)) lines.push(name, value);
    }
    return { ...place, lines, ip };
  }
}

function denied(reason: string): Evaluation {
  return { decision: false, context: { reason, reasons: [reason], result: "bad_request", status: 400 } };
}

/** Parses an entry of a list. Returns its error as text, which becomes the result of that entry. */
function readEntry(given: Json): AuthzenRequest | string {
  try {
    return parseAuthzenRequest(given);
  } catch (error) {
    if (error instanceof AuthzenError) return error.message;
    throw error;
  }
}

type Semantic = "execute_all" | "deny_on_first_deny" | "permit_on_first_permit";
function semanticOf(options: unknown): Semantic {
  const semantic = options === undefined ? undefined : objectOf(options, "options")["evaluations_semantic"];
  switch (semantic) {
    case undefined:
    case "execute_all":
      return "execute_all";
    case "deny_on_first_deny":
    case "permit_on_first_permit":
      return semantic;
    default:
      throw new AuthzenError("options.evaluations_semantic is not known");
  }
}

function parsed<Id>(parse: (text: string) => Id, text: string): Id | undefined {
  try {
    return parse(text);
  } catch {
    return undefined;
  }
}
