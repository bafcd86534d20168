/**
 * External authorization server: Envoy's `ext_authz` over gRPC (`envoy.service.auth.v3.Authorization/Check`), and the
 * gRPC health service.
 *
 * - Clients: with `decision_api.client_ca`, those with a certificate of that authority, and no others can connect.
 *   Without it, the addresses of `trusted_proxies`, and clients that send a key of `keys` as a bearer token.
 * - Every failure is a denial.
 * - A query whose deadline has passed or whose call was cancelled is abandoned.
 */
import type { handleUnaryCall, ServerUnaryCall, ServiceDefinition } from "@grpc/grpc-js";
import type { DecisionApiConfig, HostPort } from "../../config/index.ts";
import type { ApiDecision } from "./api-decision.ts";
import { type DecisionService, type DecisionServices, requestIdPattern } from "./decision-service.ts";
import {
  type CheckRequest,
  type CheckResponse,
  checkRequestForm,
  checkResponseForm,
  type Form,
  healthRequestForm,
  healthResponseForm,
} from "./ext-authz-messages.ts";
import { checkReplyOf } from "./ext-authz-reply.ts";
import { parseCheckRequest } from "./ext-authz-request.ts";

const form = "ext-authz-grpc";
/** Bytes of one query. A proxy may send request bodies in it; they are ignored. */
const messageBytesMax = 1_024 * 1_024;
const metadataBytesMax = 16 * 1_024;
/** Concurrent streams per connection; Envoy opens more connections if it needs them. */
const streamsMax = 1_000;
const keepaliveMs = 60_000;
const closeMs = 2_000;

export async function startExtAuthz(
  { tls, clientCa }: Pick<DecisionApiConfig, "tls" | "clientCa">,
  { host, port }: HostPort,
  serving: DecisionServices,
): Promise<Readonly<{ address: HostPort; close(): Promise<void> }>> {
  // Loaded here: the build keeps the library outside the program's file, which would load it at every start.
  const { Server, ServerCredentials } = await import("@grpc/grpc-js");
  const server = new Server({
    "grpc.max_receive_message_length": messageBytesMax,
    "grpc.max_metadata_size": metadataBytesMax,
    "grpc.max_concurrent_streams": streamsMax,
    "grpc.keepalive_time_ms": keepaliveMs,
    "grpc.keepalive_timeout_ms": keepaliveMs / 3,
  });
  const check: handleUnaryCall<CheckRequest, CheckResponse> = (call, answered) => {
    decide(call, { serving, byCertificate: clientCa !== null }).then(
      (answer) => answered(null, answer),
      (error: unknown) => {
        const { deps } = serving.current();
        deps.logger.error({ error: String(error) }, "could not make a decision; answered 503");
        answered(null, failed);
      },
    );
  };
  server.addService(serviceOf("envoy.service.auth.v3.Authorization", "Check", checkRequestForm, checkResponseForm), {
    Check: check,
  });
  const health: handleUnaryCall<unknown, Readonly<{ status: number }>> = (_call, answered) =>
    answered(null, { status: isServing(serving.current()) ? 1 : 2 });
  server.addService(serviceOf("grpc.health.v1.Health", "Check", healthRequestForm, healthResponseForm), {
    Check: health,
  });
  const credentials =
    tls === null
      ? ServerCredentials.createInsecure()
      : ServerCredentials.createSsl(
          clientCa === null ? null : Buffer.from(clientCa),
          [{ cert_chain: Buffer.from(tls.cert), private_key: Buffer.from(tls.key) }],
          clientCa !== null,
        );
  const bound = await new Promise<number>((resolve, reject) => {
    server.bindAsync(
      `${host.includes(":") && !host.startsWith("[") ? `[${host}]` : host}:${port}`,
      credentials,
      (error, at) => (error === null ? resolve(at) : reject(error)),
    );
  });
  return {
    address: { host, port: bound },
    close: () =>
      new Promise((resolve) => {
        const late = setTimeout(() => server.forceShutdown(), closeMs);
        server.tryShutdown(() => {
          clearTimeout(late);
          resolve();
        });
      }),
  };
}

function serviceOf<Asked, Answered>(
  service: string,
  method: string,
  asked: Form<Asked>,
  answered: Form<Answered>,
): ServiceDefinition {
  return {
    [method]: {
      path: `/${service}/${method}`,
      requestStream: false,
      responseStream: false,
      requestSerialize: asked.serialize,
      requestDeserialize: asked.deserialize,
      responseSerialize: answered.serialize,
      responseDeserialize: answered.deserialize,
    },
  };
}

async function decide(
  call: ServerUnaryCall<CheckRequest, CheckResponse>,
  { serving, byCertificate }: Readonly<{ serving: DecisionServices; byCertificate: boolean }>,
): Promise<CheckResponse> {
  const served = serving.current();
  const { deps, decider, access } = served;
  const id = serving.requestId();
  const reply = (verdict: ApiDecision, requestId: string, result: string = verdict.type): CheckResponse => {
    serving.decisions.inc({ form, result });
    return checkReplyOf(verdict, {
      requestId,
      now: deps.clock.wall(),
      deps,
      metadata: metadataOf(verdict, served),
    });
  };
  if (!(byCertificate ? hasCertificate(call) : isNamed(call, served))) {
    deps.logger.debug(
      { peer: call.getPeer(), form },
      "refused a decision query: decision_api does not name the client",
    );
    return reply({ type: "bad_request", reason: "untrusted-proxy" }, id, "untrusted");
  }
  const { isTrusted } = access;
  const read = parseCheckRequest(call.request, { isTrusted, isVerified: decider.isVerified });
  if (read.type === "refused") {
    deps.logger.warn(
      { peer: call.getPeer(), form, missing: read.reason },
      "a proxy omitted a fact about the request or sent contradictory ones; denied",
    );
    decider.recordRefused({ requestId: id, reason: read.reason });
    return reply({ type: "bad_request", reason: read.reason }, id);
  }
  const { described } = read;
  const given = idIn(described.lines);
  const requestId = given !== undefined && requestIdPattern.test(given) ? given : id;
  const until = Number(call.getDeadline());
  const abandoned = (): boolean => call.cancelled || deps.clock.wall() >= until;
  return reply(
    await decider.decide({ described, subject: "credential", requestId, withIdentity: true, isAbandoned: abandoned }),
    requestId,
  );
}

/** The handshake fails without a certificate. Checked again, because a certificate alone gives such a client access. */
function hasCertificate(call: ServerUnaryCall<CheckRequest, CheckResponse>): boolean {
  return call.getAuthContext()?.sslPeerCertificate !== undefined;
}

function isNamed(call: ServerUnaryCall<CheckRequest, CheckResponse>, { access }: DecisionService): boolean {
  const peer = call.getPeer();
  if (access.isTrusted(peer.slice(0, peer.lastIndexOf(":")))) return true;
  const [authorization, ...more] = call.metadata.get("authorization");
  return more.length === 0 && typeof authorization === "string" && access.keyNameOf(authorization) !== undefined;
}

function idIn(lines: readonly string[]): string | undefined {
  const at = lines.findIndex((name, i) => i % 2 === 0 && name.toLowerCase() === "x-request-id");
  return at < 0 ? undefined : lines[at + 1];
}

/** Contains ids and reasons only. */
function metadataOf(
  verdict: ApiDecision,
  { deps: { replica, config } }: DecisionService,
): Readonly<Record<string, string>> {
  return {
    result: verdict.type,
    ...("route" in verdict ? { route: verdict.route.id } : {}),
    ...("reasons" in verdict ? { reasons: verdict.reasons.join(" ") } : {}),
    epoch: String(replica.applied.epoch),
    position: String(replica.applied.position),
    configuration: config.hash,
  };
}

/** Whether this node can currently decide about at least one route. */
function isServing({ deps: { freshness, clock }, decider }: DecisionService): boolean {
  const overdueMs = freshness.overdueMs(clock.monotonic());
  return decider.routes.some(({ staleGraceMs }) => overdueMs <= staleGraceMs);
}

const failed: CheckResponse = {
  status: { code: 14, message: "failed" },
  deniedResponse: {
    status: { code: 503 },
    headers: [{ header: { key: "retry-after", value: "1" }, append: { value: false } }],
    body: "",
  },
  dynamicMetadata: { fields: [] },
};
