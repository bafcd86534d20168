/**
 * OCSF event: an audit record in the Open Cybersecurity Schema Framework, version 1.8.0. Pure.
 *
 *   decision              API Activity (6003), with the profile security_control
 *   end of a stream       Network Activity (4001)
 *   act of an operator    API Activity (6003)
 *   sign-in, sign-out     Authentication (3002)
 *   gap                   Base Event (0)
 *
 * What the framework has no attribute for is in `unmapped`, under the record's own names.
 */
import type { AuditRecord } from "./audit-record.ts";
import { recordIdOf } from "./record-id.ts";

export const ocsfVersion = "1.8.0";

type Decision = Extract<AuditRecord, { kind: "decision" }>;
type Command = Extract<AuditRecord, { kind: "operator" | "authentication" }>;
type Gap = Extract<AuditRecord, { kind: "gap" }>;
type Json = Readonly<Record<string, unknown>>;

const severity = { informational: 1, low: 2, medium: 3, high: 4 } as const;
const status = { unknown: 0, success: 1, failure: 2 } as const;
const otherActivity = 99;

export function ocsfEventOf(record: AuditRecord, cluster: string): Json {
  switch (record.kind) {
    case "decision":
      return record.occasion === "closed" ? closedEvent(record, cluster) : decisionEvent(record, cluster);
    case "operator":
      return operatorEvent(record, cluster);
    case "authentication":
      return authenticationEvent(record, cluster);
    case "gap":
      return gapEvent(record, cluster);
  }
}

/** The attributes that every class requires. */
function classified(
  record: AuditRecord,
  of: Readonly<{ category: number; class: number; activity: number; severity: number; cluster: string }>,
): Json {
  const { category, class: classUid, activity } = of;
  const correlated = record.kind === "decision" ? { correlation_uid: record.requestId } : {};
  return {
    category_uid: category,
    class_uid: classUid,
    activity_id: activity,
    type_uid: classUid * 100 + activity,
    severity_id: of.severity,
    time: record.at,
    metadata: {
      version: ocsfVersion,
      product: { name: "Cardea", vendor_name: "Cardea" },
      log_name: record.kind,
      profiles: ["security_control"],
      uid: recordIdOf(record),
      sequence: record.seq,
      log_provider: record.node,
      tenant_uid: of.cluster,
      ...correlated,
    },
  };
}

const activityOfMethod: Readonly<Record<string, number>> = {
  POST: 1,
  GET: 2,
  HEAD: 2,
  OPTIONS: 2,
  TRACE: 2,
  PUT: 3,
  PATCH: 3,
  DELETE: 4,
};
/** The methods that the framework knows. */
const methods: ReadonlySet<string> = new Set([...Object.keys(activityOfMethod), "CONNECT"]);

function decisionEvent(record: Decision, cluster: string): Json {
  const { result, reasons, method, host } = record;
  const permitted = result === "permit";
  return {
    ...classified(record, {
      category: 6,
      class: 6003,
      activity: activityOfMethod[method] ?? otherActivity,
      severity: result === "deny" ? severity.low : severity.informational,
      cluster,
    }),
    ...answerOf(record),
    actor: actorOf(record),
    api: { operation: method, ...(host === "" ? {} : { service: { name: host } }) },
    src_endpoint: endpointOf(record.ip),
    dst_endpoint: destinationOf(record),
    http_request: httpRequestOf(record),
    http_response: { code: record.status },
    ...(record.routeId === null ? {} : { resources: [routeOf(record)] }),
    ...(record.latencyMs === undefined ? {} : { duration: Math.round(record.latencyMs) }),
    message: `${permitted ? "permitted" : "refused"}: ${reasons.join(", ") || result}`,
    unmapped: unmappedOf(record),
  };
}

function answerOf({ result, status: code, reasons }: Decision): Json {
  const permitted = result === "permit";
  return {
    action_id: permitted ? 1 : 2,
    disposition_id: permitted ? 1 : 2,
    status_id: permitted ? status.success : status.failure,
    status_code: String(code),
    ...(reasons.length === 0 ? {} : { status_detail: reasons.join(", ") }),
  };
}

/** One of its attributes must be there; an anonymous caller has none of a person. */
function actorOf({ userId, sessionId, rule, routeId, result, configHash }: Decision): Json {
  const policy = rule ?? routeId;
  return {
    ...(userId === null ? {} : { user: { uid: userId } }),
    ...(sessionId === null ? {} : { session: { uid: sessionId } }),
    ...(userId === null && sessionId === null ? { app_name: "anonymous" } : {}),
    authorizations: [
      {
        decision: result,
        ...(policy === null ? {} : { policy: { uid: policy, version: configHash, is_applied: true } }),
      },
    ],
  };
}

/** A decision service may be asked without an address. */
function endpointOf(ip: string): Json {
  return ip === "" ? { name: "unknown" } : { ip };
}

function destinationOf({ host, node }: Decision): Json {
  return host === "" ? { svc_name: node } : { hostname: host };
}

function httpRequestOf({ requestId, method, host, path, query, userAgent, headers }: Decision): Json {
  const hasUrl = path !== "" || host !== "";
  return {
    uid: requestId,
    ...(methods.has(method) ? { http_method: method } : {}),
    ...(userAgent === undefined ? {} : { user_agent: userAgent }),
    ...(headers === undefined
      ? {}
      : { http_headers: Object.entries(headers).map(([name, value]) => ({ name, value })) }),
    ...(hasUrl
      ? {
          url: {
            path: path === "" ? "/" : path,
            ...(host === "" ? {} : { hostname: host }),
            ...(query === undefined ? {} : { query_string: query }),
          },
        }
      : {}),
  };
}

function routeOf({ routeId, routeName }: Decision): Json {
  return { uid: routeId, type: "route", ...(routeName === undefined ? {} : { name: routeName }) };
}

function closedEvent(record: Decision, cluster: string): Json {
  const { closed, host } = record;
  const { cause = "ended", durationMs = 0, bytes = 0, bytesReceived = 0 } = closed ?? {};
  const isEnded = cause === "ended";
  return {
    ...classified(record, {
      category: 4,
      class: 4001,
      activity: isEnded ? 2 : 3,
      severity: severity.informational,
      cluster,
    }),
    action_id: isEnded ? 1 : 2,
    status_id: isEnded ? status.success : status.failure,
    status_detail: cause,
    src_endpoint: endpointOf(record.ip),
    dst_endpoint: destinationOf(record),
    ...(host === "" ? {} : { url: { hostname: host, path: record.path === "" ? "/" : record.path } }),
    duration: Math.round(durationMs),
    start_time: record.at - Math.round(durationMs),
    end_time: record.at,
    traffic: { bytes: bytes + bytesReceived, bytes_in: bytes, bytes_out: bytesReceived },
    message: `the stream was closed: ${cause}`,
    unmapped: {
      ...unmappedOf(record),
      sessionId: record.sessionId,
      userId: record.userId,
      requestId: record.requestId,
    },
  };
}

function unmappedOf(record: Decision): Json {
  const { occasion, applied, configHash, overdueMs, allow, deny, trace, shadow, traceId, cutMs, closed, region } =
    record;
  return { occasion, region, applied, configHash, overdueMs, allow, deny, trace, shadow, traceId, cutMs, closed };
}

/** Commands that take something away are deletions, those that give are creations. */
const activityOfCommand: Readonly<Record<string, number>> = {
  createScimToken: 1,
  searchActions: 2,
  searchResources: 2,
  searchSubjects: 2,
  revokeSession: 4,
  revokeSessions: 4,
  revokeUserSessions: 4,
  revokeScimToken: 4,
  eraseUser: 4,
  removeGroup: 4,
  retireNodes: 4,
};

function operatorEvent(record: Command, cluster: string): Json {
  const failed = record.outcome === "refused" || record.outcome === "unavailable";
  return {
    ...classified(record, {
      category: 6,
      class: 6003,
      activity: activityOfCommand[record.command] ?? (record.command.startsWith("GET ") ? 2 : 3),
      severity: severity.low,
      cluster,
    }),
    ...outcomeOf(record),
    actor: commandActorOf(record),
    api: {
      operation: record.command,
      service: { name: "cardea operator API" },
      request: { uid: record.commandId },
      ...(failed && record.code !== null ? { response: { error: record.code } } : {}),
    },
    src_endpoint: record.ip === undefined ? { svc_name: record.node } : { ip: record.ip },
    ...(record.count === undefined ? {} : { count: record.count }),
    ...(record.targets.length === 0 ? {} : { resources: record.targets.map(resourceOf) }),
    duration: Math.round(record.latencyMs),
    message: `${record.command}: ${record.outcome}`,
    unmapped: unmappedCommand(record),
  };
}

function authenticationEvent(record: Command, cluster: string): Json {
  const idOf = (type: string): string | undefined =>
    record.targets.find((target) => target.startsWith(`${type}:`))?.slice(type.length + 1);
  const [userId, sessionId, provider] = [idOf("user"), idOf("session"), idOf("provider")];
  const isSignIn = record.command === "createSession";
  return {
    ...classified(record, {
      category: 3,
      class: 3002,
      activity: isSignIn ? 1 : 2,
      severity: severity.informational,
      cluster,
    }),
    ...outcomeOf(record),
    // Signing out names only the session.
    user: { uid: userId ?? `session:${sessionId ?? "unknown"}` },
    ...(sessionId === undefined
      ? {}
      : { session: { uid: sessionId, ...(provider === undefined ? {} : { issuer: provider }) } }),
    actor: commandActorOf(record),
    service: { name: "cardea authenticate" },
    ...(record.ip === undefined ? {} : { src_endpoint: { ip: record.ip } }),
    ...(isSignIn ? { auth_protocol_id: openIdConnect, is_remote: true } : {}),
    duration: Math.round(record.latencyMs),
    message: `${isSignIn ? "sign-in" : "sign-out"}: ${record.outcome}`,
    unmapped: unmappedCommand(record),
  };
}

const openIdConnect = 4;

function outcomeOf({ outcome, code }: Command): Json {
  const failed = outcome === "refused";
  return {
    action_id: failed ? 2 : outcome === "unavailable" ? 0 : 1,
    status_id: failed ? status.failure : outcome === "unavailable" ? status.unknown : status.success,
    status_code: code ?? outcome,
    status_detail: outcome,
  };
}

function commandActorOf({ actor }: Command): Json {
  const [, type = "", id = actor] = /^([^:]*):(.*)$/s.exec(actor) ?? [];
  if (type === "user") return { user: { uid: id } };
  return type === "token" ? { user: { uid: actor, type: "operator token" } } : { app_name: actor };
}

function resourceOf(target: string): Json {
  const at = target.indexOf(":");
  return { type: target.slice(0, at), uid: target.slice(at + 1) };
}

function unmappedCommand({ region, targetsMore, reason, link }: Command): Json {
  return { region, targetsMore, reason, link };
}

function gapEvent(record: Gap, cluster: string): Json {
  const { first, last, reason, atLeast, why, fromMs, toMs } = record;
  return {
    ...classified(record, { category: 0, class: 0, activity: otherActivity, severity: severity.medium, cluster }),
    activity_name: "Records lost",
    count: atLeast ?? last - first + 1,
    ...(fromMs === undefined ? {} : { start_time: fromMs }),
    ...(toMs === undefined ? {} : { end_time: toMs }),
    status_id: status.failure,
    message: why,
    unmapped: { first, last, reason, atLeast },
  };
}
