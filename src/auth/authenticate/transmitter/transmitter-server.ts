/**
 * Transmitter server: the endpoints that tell other services of our revocations, on the authenticate host (OpenID SSF
 * 1.0 §7 and §8, in the CAEP interoperability profile).
 *
 * A request is checked in this order: size, credential, scope, content. A receiver reaches its own stream alone.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { SignalReceiverConfig } from "../../../config/index.ts";
import { BrokerUnavailableError } from "../../../replication/wire/index.ts";
import { pollMethod, pushMethod } from "../../shared-signals/index.ts";
import type { AuthDeps } from "../context.ts";
import { ResourceTurns } from "../scim/scim-context.ts";
import { openIdentities } from "./node-source.ts";
import { PollServer } from "./poll-endpoint.ts";
import {
  type CredentialDeps,
  callerOf,
  issueAccessToken,
  type ReceiverCaller,
  ssfScopes,
} from "./receiver-credentials.ts";
import { RestoredPeople, recordsOfAll } from "./restored-people.ts";
import { SignalRequestError } from "./signal-request-error.ts";
import type { EventSigner } from "./signing-key.ts";
import {
  changeSubject,
  createStream,
  deleteStream,
  readStatus,
  readStream,
  requestVerification,
  type StreamAnswer,
  updateStatus,
  updateStream,
} from "./stream-endpoints.ts";
import type { TransmitterDeps } from "./transmitter-context.ts";

export const transmitterPrefix = "/ssf/v1";
const bodyBytesMax = 64 * 1_024;
const pollBytesMax = 1024 * 1_024;
/** Requests in progress, those that wait for signals included. */
const inProgressMax = 128;

export type TransmitterOptions = Readonly<{
  receivers: readonly SignalReceiverConfig[];
  signer: Promise<EventSigner>;
  /** Sign access tokens, the current one first. */
  tokenKeys: readonly Uint8Array[];
}>;

type Work = (caller: ReceiverCaller, request: FastifyRequest, reply: FastifyReply) => Promise<StreamAnswer>;

export function transmitterDepsOf(auth: AuthDeps, signer: Promise<EventSigner>): TransmitterDeps {
  const issuer = auth.settings.authenticateUrl.origin;
  const { databroker, replica, clock, sleep, log, random } = auth;
  const base = `${issuer}${transmitterPrefix}`;
  const turns = new ResourceTurns();
  const { uuid, token } = random;
  const restored = new RestoredPeople({
    // The node may be given another projection later.
    projection: { user: (id) => replica.projection.user(id), users: () => replica.projection.users() },
    recordsOf: recordsOfAll(auth.provisionedFor, auth.signalRecordsFor),
    open: (users) => openIdentities(replica, users),
    now: () => clock.wall(),
    salt: token(),
  });
  return { databroker, replica, clock, sleep, log, issuer, base, signer, turns, restored, uuid, token };
}

/** Registers nothing without receivers. */
export function registerTransmitter(app: FastifyInstance, auth: AuthDeps, options: TransmitterOptions): void {
  const { receivers, signer } = options;
  if (receivers.length === 0) return;
  const deps = transmitterDepsOf(auth, signer);
  const { issuer, base, clock } = deps;
  const credentials: CredentialDeps = {
    receivers,
    issuer,
    keys: options.tokenKeys,
    nowS: () => Math.floor(clock.wall() / 1_000),
  };
  const polls = new PollServer(deps);
  void app.register((scope, _options, done) => {
    scope.addHook("onRequest", async (_request, reply) => void reply.header("cache-control", "no-store"));
    acceptJson(scope);
    scope.setErrorHandler((error, _request, reply) => sendError(auth, reply, error));
    registerMetadata(scope, { issuer, base, signer });
    scope.post(`${transmitterPrefix}/token`, { bodyLimit: bodyBytesMax }, async (request) =>
      issueAccessToken(credentials, { authorization: request.headers.authorization, body: request.body }),
    );
    registerStreams(scope, deps, workerOf(credentials), polls);
    done();
  });
}

/** Receivers also send JSON without its type, and no body at all. */
function acceptJson(scope: FastifyInstance): void {
  const parse = scope.getDefaultJsonParser("error", "error");
  scope.removeContentTypeParser(["application/json", "text/plain"]);
  for (const type of ["application/json", "*"])
    scope.addContentTypeParser(type, { parseAs: "string" }, (request, body, done) => {
      if (body === "") return done(null, {});
      return parse(request, String(body), done);
    });
}

function registerMetadata(
  scope: FastifyInstance,
  { issuer, base, signer }: Readonly<{ issuer: string; base: string; signer: Promise<EventSigner> }>,
): void {
  const metadata = {
    spec_version: "1_0",
    issuer,
    jwks_uri: `${base}/jwks.json`,
    delivery_methods_supported: [pushMethod, pollMethod],
    configuration_endpoint: `${base}/streams`,
    status_endpoint: `${base}/status`,
    add_subject_endpoint: `${base}/subjects/add`,
    remove_subject_endpoint: `${base}/subjects/remove`,
    verification_endpoint: `${base}/verification`,
    authorization_schemes: [{ spec_urn: "urn:ietf:rfc:6749" }, { spec_urn: "urn:ietf:rfc:6750" }],
  };
  scope.get("/.well-known/ssf-configuration", async (_request, reply) =>
    reply.header("cache-control", "max-age=300").send(metadata),
  );
  scope.get(`${transmitterPrefix}/jwks.json`, async (_request, reply) =>
    reply.header("cache-control", "max-age=300").send((await signer).jwks),
  );
  // RFC 8414: where a receiver finds the token endpoint.
  scope.get("/.well-known/oauth-authorization-server", async (_request, reply) =>
    reply.header("cache-control", "max-age=300").send({
      issuer,
      token_endpoint: `${base}/token`,
      grant_types_supported: ["client_credentials"],
      response_types_supported: [],
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post"],
      scopes_supported: ssfScopes,
    }),
  );
}

function registerStreams(
  scope: FastifyInstance,
  deps: TransmitterDeps,
  { authenticate, handle }: Worker,
  polls: PollServer,
): void {
  const route = (
    method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE",
    path: string,
    work: Work,
    bodyLimit = bodyBytesMax,
  ) =>
    scope.route({
      method,
      url: `${transmitterPrefix}${path}`,
      bodyLimit,
      exposeHeadRoute: false,
      onRequest: authenticate,
      handler: handle(work),
    });
  route("POST", "/streams", (caller, { body }) => createStream(deps, caller, body));
  route("GET", "/streams", (caller, request) => readStream(deps, caller, streamIdOf(request)));
  route("PATCH", "/streams", (caller, { body }) => updateStream(deps, caller, { body, how: "change" }));
  route("PUT", "/streams", (caller, { body }) => updateStream(deps, caller, { body, how: "replace" }));
  route("DELETE", "/streams", (caller, request) => deleteStream(deps, caller, streamIdOf(request)));
  route("GET", "/status", (caller, request) => readStatus(deps, caller, streamIdOf(request)));
  route("POST", "/status", (caller, { body }) => updateStatus(deps, caller, body));
  route("POST", "/subjects/add", (caller, { body }) => changeSubject(deps, caller, { body, how: "add" }));
  route("POST", "/subjects/remove", (caller, { body }) => changeSubject(deps, caller, { body, how: "remove" }));
  route("POST", "/verification", (caller, { body }) => requestVerification(deps, caller, body));
  const poll: Work = async (caller, request, reply) => {
    const gone = new AbortController();
    reply.raw.once("close", () => gone.abort());
    const { stream: streamId } = request.params as Readonly<{ stream: string }>;
    return { status: 200, body: await polls.poll(caller, { streamId, body: request.body ?? {}, gone: gone.signal }) };
  };
  route("POST", "/poll/:stream", poll, pollBytesMax);
}

type Worker = Readonly<{
  authenticate: (request: FastifyRequest) => Promise<void>;
  handle: (work: Work) => (request: FastifyRequest, reply: FastifyReply) => Promise<FastifyReply>;
}>;

/** Authenticates before the body is read. */
function workerOf(credentials: CredentialDeps): Worker {
  const callers = new WeakMap<FastifyRequest, ReceiverCaller>();
  let inProgress = 0;
  return {
    async authenticate(request) {
      callers.set(request, await callerOf(credentials, request.headers.authorization));
    },
    handle: (work) => async (request, reply) => {
      const caller = callers.get(request);
      if (caller === undefined) throw new TypeError("a request of a receiver without its caller");
      if (inProgress >= inProgressMax)
        throw new SignalRequestError("temporarily_unavailable", "too many requests at once; try again", {
          retryAfterS: 1,
        });
      inProgress += 1;
      try {
        const { status, body } = await work(caller, request, reply);
        reply.code(status);
        return body === null ? reply.send() : reply.type("application/json").send(JSON.stringify(body));
      } finally {
        inProgress -= 1;
      }
    },
  };
}

function streamIdOf(request: FastifyRequest): string | undefined {
  const { stream_id: streamId } = request.query as Readonly<{ stream_id?: unknown }>;
  return streamId === undefined ? undefined : String(streamId);
}

function sendError({ log }: Pick<AuthDeps, "log">, reply: FastifyReply, error: unknown): FastifyReply {
  const known = knownError(error);
  if (known === undefined) {
    log.warn({ err: error }, "a request to the signal transmitter failed; answering 500");
    return reply
      .code(500)
      .type("application/json")
      .send(JSON.stringify({ error: "server_error" }));
  }
  const { error: name, message, status, retryAfterS } = known;
  if (retryAfterS !== null) reply.header("retry-after", String(retryAfterS));
  // RFC 6750 §3.1; RFC 6749 §5.2 for the token endpoint.
  if (name === "invalid_client") reply.header("www-authenticate", 'Basic realm="ssf"');
  else if (name === "invalid_token" || name === "insufficient_scope")
    reply.header("www-authenticate", `Bearer realm="ssf", error="${name}"`);
  reply.header("cache-control", "no-store").type("application/json");
  return reply.code(status).send(JSON.stringify({ error: name, error_description: message }));
}

function knownError(error: unknown): SignalRequestError | undefined {
  if (error instanceof SignalRequestError) return error;
  if (error instanceof BrokerUnavailableError)
    return new SignalRequestError("temporarily_unavailable", "no broker answers; try again", { retryAfterS: 1 });
  const status = typeof error === "object" && error !== null && "statusCode" in error ? Number(error.statusCode) : 500;
  if (!(error instanceof Error) || status < 400 || status >= 500) return undefined;
  return status === 413
    ? new SignalRequestError("payload_too_large", "the body is too large")
    : new SignalRequestError("invalid_request", error.message);
}
