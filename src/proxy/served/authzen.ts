/**
 * AuthZEN: OpenID Authorization API 1.0 over the decision point; docs/decisions.md has the mapping.
 *
 *   subject   session (id), user (Cardea's id, or with `properties.issuer` the provider's subject), credential (a handle), anonymous
 *   action    an HTTP method            resource   route, by the address that is asked for            context   ip, headers
 *
 * Pure but for the decision point. Members that are not known are ignored, as the standard says; a member that is missing or of another
 * type is an error. A subject, action or resource that is nothing here is a denial, with the reason in its context.
 */
import type { Handle } from "../../auth/index.ts";
import { parseSessionId, parseUserId, type SessionId, type UserId, userIdOf } from "../../events/index.ts";
import {
  type DecisionPoint,
  type DecisionPorts,
  type Described,
  statusOf,
  type Verdict,
  type Whose,
} from "./decision-point.ts";

export type Evaluated = Readonly<{ decision: boolean; context: Readonly<Record<string, unknown>> }>;
/** The request is none: 400, and this text. */
export class AuthzenError extends Error {
  override readonly name = "AuthzenError";
}

type Json = Readonly<Record<string, unknown>>;
type Entity = Readonly<{ type: string; id: string; properties: Json }>;
type Asked = Readonly<{ subject: Entity; action: string; resource: Entity; context: Json }>;

export const evaluationsMax = 1_000;
const pageMax = 1_000;
const methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

export type Authzen = Readonly<{
  /** @throws AuthzenError */
  evaluation(body: unknown, requestId: string): Promise<Evaluated>;
  /** One answer for each of `evaluations`, as far as they were gone through. @throws AuthzenError */
  evaluations(body: unknown, requestId: string): Promise<Evaluated | Readonly<{ evaluations: readonly Evaluated[] }>>;
  /** Methods that are permitted. @throws AuthzenError */
  searchActions(body: unknown): Promise<Found>;
  /** Routes where the action is permitted at the address that they begin at. @throws AuthzenError */
  searchResources(body: unknown): Promise<Found>;
}>;
export type Found = Readonly<{
  results: readonly Json[];
  page: Readonly<{ next_token: string; count: number; total: number }>;
}>;

export function createAuthzen(ports: DecisionPorts, point: DecisionPoint): Authzen {
  const { config, replica, clock } = ports;

  async function evaluate(asked: Asked, requestId: string, recorded?: false): Promise<Evaluated> {
    const described = describe(asked);
    if (typeof described === "string") return denied(described);
    const whose = whoIs(asked.subject);
    if (whose === "subject-type") return denied(whose);
    const traced = asked.context["trace"] === true;
    const verdict = await point.ask({
      ...{ described, whose, requestId },
      ...(recorded === false ? { recorded } : {}),
      ...(traced ? { traced } : {}),
    });
    return told(verdict, traced);
  }

  function told(verdict: Verdict, traced: boolean): Evaluated {
    const reasons =
      verdict.type === "unavailable"
        ? [verdict.why === "lease" ? "no-lease" : verdict.why]
        : verdict.type === "not_found"
          ? ["route-not-found"]
          : verdict.type === "bad_request"
            ? [verdict.reason]
            : verdict.type === "abandoned"
              ? [verdict.type]
              : verdict.reasons;
    return {
      decision: verdict.type === "permit",
      context: {
        ...{ reason: reasons.join(" "), reasons, result: verdict.type, status: statusOf(verdict) },
        ...("route" in verdict ? { route: verdict.route.id } : {}),
        ...(traced && "beside" in verdict ? { trace: verdict.beside?.trace ?? null } : {}),
        ...{ epoch: replica.applied.epoch, position: String(replica.applied.position), configuration: config.hash },
      },
    };
  }

  function whoIs({ type, id, properties }: Entity): Exclude<Whose, "credential"> | "subject-type" {
    switch (type) {
      case "anonymous":
        return null;
      case "session":
        return ofSession(id) ?? null;
      case "user":
        return ofUser(id, properties["issuer"]);
      case "credential":
        return { token: id };
      default:
        return "subject-type";
    }
  }

  function ofSession(id: string): Pick<Handle, "sessionId" | "userId"> | undefined {
    const sessionId = parsed<SessionId>(parseSessionId, id);
    const session = sessionId === undefined ? undefined : replica.projection.session(sessionId);
    const userId = session?.userId ?? null;
    return sessionId === undefined || userId === null ? undefined : { sessionId, userId };
  }

  function ofUser(id: string, issuer: unknown): Exclude<Whose, "credential"> {
    const userId = typeof issuer === "string" ? userIdOf(issuer, id) : parsed<UserId>(parseUserId, id);
    return userId === undefined ? null : { among: (idpId) => newestOf(userId, idpId) };
  }

  /** The newest of the person's sessions that are in force: policy asks what a session says. */
  function newestOf(userId: UserId, idpId: string): Pick<Handle, "sessionId" | "userId"> | undefined {
    const now = clock.wall();
    const standing = replica.projection.sessionsOf(userId).flatMap((sessionId) => {
      const found = replica.projection.standing(sessionId);
      const counts = found.standing === "active" && found.session.expiresAt > now && found.session.idpId === idpId;
      return counts ? [found.session] : [];
    });
    const newest = standing.toSorted((a, b) => b.createdAt - a.createdAt)[0];
    return newest === undefined ? undefined : { sessionId: newest.sessionId, userId };
  }

  return {
    evaluation: async (body, requestId) => evaluate(readAsked(objectOf(body, "the body")), requestId),

    async evaluations(body, requestId) {
      const { evaluations: given, options, ...defaults } = objectOf(body, "the body");
      if (given === undefined || (Array.isArray(given) && given.length === 0))
        return evaluate(readAsked(defaults), requestId);
      if (!Array.isArray(given)) throw new AuthzenError("evaluations is not a list");
      if (given.length > evaluationsMax) throw new AuthzenError(`more than ${evaluationsMax} evaluations`);
      const semantic = semanticOf(options);
      const answers: Evaluated[] = [];
      for (const one of given as readonly unknown[]) {
        const asked = readEntry({ ...defaults, ...objectOf(one, "an entry of evaluations") });
        const answer = typeof asked === "string" ? denied(asked) : await evaluate(asked, requestId);
        answers.push(answer);
        if (semantic === "deny_on_first_deny" && !answer.decision) break;
        if (semantic === "permit_on_first_permit" && answer.decision) break;
      }
      return { evaluations: answers };
    },

    async searchActions(body) {
      const given = objectOf(body, "the body");
      const permitted: Json[] = [];
      for (const name of methods) {
        const answer = await evaluate(readAsked({ ...given, action: { name } }), "", false);
        if (answer.decision) permitted.push({ name });
      }
      return pageOf(permitted, given["page"]);
    },

    async searchResources(body) {
      const given = objectOf(body, "the body");
      const resource = objectOf(given["resource"], "resource");
      if (textOf(resource["type"], "resource.type") !== "route") return pageOf([], given["page"]);
      const permitted: Json[] = [];
      for (const route of point.routes) {
        if (route.tunnel !== null || route.host.includes("*") || route.match.kind === "regex") continue;
        const id = `${route.from.origin}${route.match.value === "" ? "/" : route.match.value}`;
        const answer = await evaluate(readAsked({ ...given, resource: { type: "route", id } }), "", false);
        if (answer.decision && answer.context["route"] === route.id) permitted.push({ type: "route", id });
      }
      return pageOf(permitted, given["page"]);
    },
  };
}

/** @returns why it is nothing that could be permitted */
function describe({ action, resource, context }: Asked): Described | string {
  if (resource.type !== "route") return "resource-type";
  const [, scheme, authority, rest = ""] = /^(?:(https?):\/\/)?([^/?#]+)([^#]*)$/.exec(resource.id) ?? [];
  if (authority === undefined) return "resource-id";
  const { ip, headers = {} } = context;
  if (typeof ip !== "string" || ip === "") return "context-ip"; // a policy may ask for it, and an address must not be made up
  const lines: string[] = [];
  if (typeof headers !== "object" || headers === null || Array.isArray(headers)) return "context-headers";
  for (const [name, value] of Object.entries(headers)) {
    if (typeof value !== "string" || !/^[!#$%&'*+.^`|~0-9A-Za-z-]+$/.test(name)) return "context-headers";
    if (!/^(?:host|x-pomerium-authorization)$/i.test(name)) lines.push(name, value);
  }
  return {
    method: action,
    scheme: scheme === "http" || scheme === "https" ? scheme : null,
    authority,
    target: rest === "" ? "/" : rest,
    lines,
    ip,
  };
}

function denied(reason: string): Evaluated {
  return { decision: false, context: { reason, reasons: [reason], result: "bad_request", status: 400 } };
}

function readAsked(given: Json): Asked {
  const { context = {} } = given;
  return {
    subject: entityOf(given["subject"], "subject"),
    action: textOf(objectOf(given["action"], "action")["name"], "action.name"),
    resource: entityOf(given["resource"], "resource"),
    context: objectOf(context, "context"),
  };
}

/** In a list, what is wrong with one entry is that entry's answer. */
function readEntry(given: Json): Asked | string {
  try {
    return readAsked(given);
  } catch (error) {
    if (error instanceof AuthzenError) return error.message;
    throw error;
  }
}

function entityOf(value: unknown, name: string): Entity {
  const { type, id, properties = {} } = objectOf(value, name);
  return {
    type: textOf(type, `${name}.type`),
    id: textOf(id, `${name}.id`),
    properties: objectOf(properties, `${name}.properties`),
  };
}

function objectOf(value: unknown, name: string): Json {
  if (value === undefined) throw new AuthzenError(`${name} is missing`);
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new AuthzenError(`${name} is not an object`);
  return value as Json;
}

function textOf(value: unknown, name: string): string {
  if (value === undefined) throw new AuthzenError(`${name} is missing`);
  if (typeof value !== "string" || value === "") throw new AuthzenError(`${name} is not text`);
  return value;
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

function pageOf(results: readonly Json[], page: unknown): Found {
  const { token = "", limit = pageMax } = page === undefined ? {} : objectOf(page, "page");
  if (typeof limit !== "number" || !Number.isInteger(limit) || limit < 1)
    throw new AuthzenError("page.limit is no count");
  if (typeof token !== "string" || !/^\d{0,9}$/.test(token)) throw new AuthzenError("page.token is none of ours");
  const from = Number(token);
  const shown = results.slice(from, from + Math.min(limit, pageMax));
  const next = from + shown.length;
  return {
    results: shown,
    page: { next_token: next < results.length ? String(next) : "", count: shown.length, total: results.length },
  };
}

function parsed<Id>(parse: (text: string) => Id, text: string): Id | undefined {
  try {
    return parse(text);
  } catch {
    return undefined;
  }
}
