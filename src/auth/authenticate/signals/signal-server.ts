/**
 * Signal server: the push endpoint of Shared Signals on the authenticate host (RFC 8935), one address per transmitter,
 * and the enforcement of signals about people that only such a node can match.
 *
 * - A request is checked in this order: size, transmitter, its token if one is configured, type, the SET, its claims.
 * - 202 is sent once the log has the event and the sessions that this node knows have ended; the answer names the
 *   position. With `Prefer: wait` it waits until the nodes have enforced it, and says whether they have.
 */
import { hash as digestOf, timingSafeEqual } from "node:crypto";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { type SetError, setBytesMax, setError, setMediaType } from "../../shared-signals/index.ts";
import type { AuthDeps } from "../context.ts";
import { receiptWordOf, waitMsOf } from "../receipt-preference.ts";
import { submitWithRetry } from "../sign-in/begin-session.ts";
import { type EnforcementReports, SignalEnforcement } from "./signal-enforcement.ts";
import type { SignalRecordsFor } from "./signal-plan.ts";
import { type CountSignal, type ReceiverDeps, receiveSet, type SignalTransmitter } from "./signal-receiver.ts";
import { SignalSubjects } from "./signal-subjects.ts";

export const pushPrefix = "/ssf/push";
const inProgressMax = 64;
const appliedMsMax = 5_000;

export type SignalServer = Readonly<{ register: (app: FastifyInstance) => void; close: () => void }>;

export type SignalServerOptions = Readonly<{
  transmitters: readonly SignalTransmitter[];
  recordsFor: SignalRecordsFor;
  stateKeys: readonly Uint8Array[];
  onReceived: CountSignal;
  enforcement: EnforcementReports;
  region: string;
}>;

export function createSignalServer(auth: AuthDeps, options: SignalServerOptions): SignalServer {
  const enforcement = new SignalEnforcement(auth, options.enforcement);
  const subjects = new SignalSubjects({
    replica: auth.replica,
    recordsFor: options.recordsFor,
    pause: () => auth.sleep(0),
    onDenied: (denied) => enforcement.add(denied),
    onError: (userId, err) => auth.log.warn({ err, userId }, "could not read a person for signals; leaving them out"),
  });
  subjects.start();
  const receiver: ReceiverDeps = {
    submit: (request) => submitWithRetry(auth, request),
    nowMs: () => auth.clock.wall(),
    stateKeys: options.stateKeys,
    onReceived: options.onReceived,
    log: auth.log,
  };
  return {
    register: (app) => registerPush(app, { auth, options, receiver, subjects, enforcement }),
    close() {
      subjects.close();
      enforcement.close();
    },
  };
}

type PushParts = Readonly<{
  auth: AuthDeps;
  options: SignalServerOptions;
  receiver: ReceiverDeps;
  subjects: SignalSubjects;
  enforcement: SignalEnforcement;
}>;

function registerPush(app: FastifyInstance, parts: PushParts): void {
  const { auth, options } = parts;
  const byName = new Map(
    options.transmitters.filter(({ config }) => config.delivery === "push").map((each) => [each.config.name, each]),
  );
  let inProgress = 0;
  void app.register(
    (scope, _options, done) => {
      scope.removeAllContentTypeParsers();
      scope.addContentTypeParser(setMediaType, { parseAs: "string" }, (_request, body, parsed) => parsed(null, body));
      scope.addHook("onRequest", async (request, reply) => {
        reply.header("cache-control", "no-store");
        if (Number(request.headers["content-length"] ?? 0) > setBytesMax)
          return sendError(reply, 413, setError("invalid_request", "the SET is too large"));
        const transmitter = byName.get((request.params as { name?: string }).name ?? "");
        if (transmitter === undefined)
          return sendError(reply, 404, setError("access_denied", "no transmitter pushes to this address"));
        if (!isAuthorized(transmitter, request)) {
          reply.header("www-authenticate", 'Bearer realm="signals"');
          return sendError(
            reply,
            401,
            setError("authentication_failed", "the authorization header is not the agreed one"),
          );
        }
      });
      scope.setErrorHandler((error, _request, reply) => sendFrameworkError(auth, reply, error));
      scope.post("/:name", { bodyLimit: setBytesMax }, async (request, reply) => {
        const transmitter = byName.get((request.params as { name: string }).name);
        if (transmitter === undefined) throw new TypeError("a push without its transmitter");
        if (inProgress >= inProgressMax) return sendUnavailable(reply);
        inProgress += 1;
        try {
          return await answerPush(parts, transmitter, request, reply);
        } finally {
          inProgress -= 1;
        }
      });
      done();
    },
    { prefix: pushPrefix },
  );
}

async function answerPush(
  { auth, options, receiver, subjects, enforcement }: PushParts,
  transmitter: SignalTransmitter,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const received = await receiveSet(receiver, transmitter, typeof request.body === "string" ? request.body : "");
  if (received.type === "refused") return sendError(reply, 400, received.error);
  if (received.type === "unavailable") return sendUnavailable(reply);
  let { link } = received;
  // The log has the event. If this fails, the nodes do it when they apply the record.
  if (link !== null && (await auth.replica.waitFor(link, appliedMsMax)) === "reached") {
    await subjects.settled();
    const denied = received.records.flatMap((id) => subjects.peopleOf(id)).flatMap((id) => subjects.deniedOf(id));
    const ended = await enforcement.end(denied);
    // Everything is in the log, so the token that comes again changes nothing but this.
    if (!ended.complete) return sendUnavailable(reply);
    link = ended.link ?? link;
  }
  if (link === null) return reply.code(202).send();
  reply.header("cardea-position", String(link.position));
  const waitMs = waitMsOf(request.headers["prefer"]);
  if (waitMs !== null) {
    reply.header("preference-applied", "wait");
    const { databroker } = auth;
    reply.header("cardea-receipt", await receiptWordOf({ databroker, region: options.region }, link, waitMs));
  }
  return reply.code(202).send();
}

function isAuthorized({ config: { pushToken } }: SignalTransmitter, { headers }: FastifyRequest): boolean {
  if (pushToken === null) return true;
  const presented = /^Bearer +(\S+)$/i.exec(headers.authorization ?? "")?.[1] ?? "";
  return timingSafeEqual(digestOf("sha256", presented, "buffer"), digestOf("sha256", pushToken, "buffer"));
}

/** RFC 8935 §2.3. */
function sendError(reply: FastifyReply, status: number, error: SetError): FastifyReply {
  return reply.code(status).header("content-language", "en").type("application/json").send(JSON.stringify(error));
}

function sendUnavailable(reply: FastifyReply): FastifyReply {
  return reply.code(503).header("retry-after", "5").send();
}

/** What the framework refuses: a body that is too large, or of another type. */
function sendFrameworkError({ log }: AuthDeps, reply: FastifyReply, error: unknown): FastifyReply {
  const status = typeof error === "object" && error !== null && "statusCode" in error ? Number(error.statusCode) : 500;
  if (!(error instanceof Error) || status < 400 || status >= 500) {
    log.warn({ err: error }, "a pushed signal failed; answering 500");
    return reply.code(500).send();
  }
  const description = status === 413 ? "the SET is too large" : `send one SET as ${setMediaType}`;
  return sendError(reply, status === 413 ? 413 : 400, setError("invalid_request", description));
}
