/**
 * SCIM server: `/scim/v2` on the authenticate host (RFC 7644), for the clients in `scim_clients`.
 *
 * - A request is checked in this order: size, form of the credential, the lease of this node, the credential, content.
 * - A change is in the log before it is answered; the answer names its position. With `Prefer: wait` it waits until the
 *   nodes have enforced it, and says whether they have.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { ScimClientConfig } from "../../../config/index.ts";
import {
  isSecretOf,
  parseScimToken,
  provisionedFrom,
  type ScimToken,
  scimTokenIdIn,
  type UserId,
} from "../../../events/index.ts";
import type { AuthDeps } from "../context.ts";
import { receiptWordOf, waitMsOf } from "../receipt-preference.ts";
import type { ProvisionedFor } from "./correlation.ts";
import { checkShape } from "./scim-attributes.ts";
import { answerBulk, bulkOperationsMax } from "./scim-bulk.ts";
import { ResourceTurns, type ScimAnswer, type ScimCaller, type ScimDeps, submitChange } from "./scim-context.ts";
import { ScimDirectory } from "./scim-directory.ts";
import { errorBody, ScimError } from "./scim-error.ts";
import { resultsMax } from "./scim-list.ts";
import { answerScim } from "./scim-router.ts";

const prefix = "/scim/v2";
const bodyBytesMax = 2 * 1024 * 1024;
/** Of all clients, and of one, so that no client keeps the others out. */
const inProgressMax = { all: 64, client: 32 };
/** People who lack what a change gives are looked at again after this pause: the request itself may have done it. */
const correlateAfterMs = 1_000;
/** Processes with different `scim_clients` would otherwise undo each other's changes forever. */
const timesMax = 20;
const periodMs = 600_000;
const limits = { filterResults: resultsMax, bulkOperations: bulkOperationsMax, bulkBytes: bodyBytesMax };

export type ScimServer = Readonly<{ register: (app: FastifyInstance) => void; close: () => void }>;

export function createScimServer(
  auth: AuthDeps,
  options: Readonly<{ clients: readonly ScimClientConfig[]; provisionedFor: ProvisionedFor; region: string }>,
): ScimServer {
  const mismatches = new Mismatches(auth, (people) => correlateAll(deps, people));
  const directory = new ScimDirectory({
    replica: auth.replica,
    provisionedFor: options.provisionedFor,
    pause: () => auth.sleep(0),
    onMismatch: (userId) => mismatches.add(userId),
    onError: (userId, err) => auth.log.warn({ err, userId }, "could not read a person for SCIM; leaving them out"),
  });
  const deps: ScimDeps = {
    clients: new Map(options.clients.map((client) => [client.name, client])),
    directory,
    turns: new ResourceTurns(),
    searches: new Map(),
    replica: auth.replica,
    databroker: auth.databroker,
    clock: auth.clock,
    sleep: auth.sleep,
    uuid: auth.random.uuid,
    base: new URL(prefix, auth.settings.authenticateUrl).href,
    region: options.region,
    log: auth.log,
  };
  const tokens = new TokenIndex(deps);
  directory.start();
  return {
    register: (app) => registerScim(app, deps, tokens),
    close() {
      directory.close();
      tokens.close();
      mismatches.close();
    },
  };
}

function registerScim(app: FastifyInstance, deps: ScimDeps, tokens: TokenIndex): void {
  const inProgress = new Map<string, number>();
  void app.register(
    (scope, _options, done) => {
      const callers = new WeakMap<FastifyRequest, ScimCaller>();
      scope.removeAllContentTypeParsers();
      const parseJson = scope.getDefaultJsonParser("error", "error");
      scope.addContentTypeParser(["application/scim+json", "application/json"], { parseAs: "string" }, parseJson);
      scope.addHook("onRequest", async (request, reply) => {
        reply.header("cache-control", "no-store").type("application/scim+json");
        callers.set(request, callerOf(deps, tokens, request));
      });
      scope.setErrorHandler((error, _request, reply) => sendError(deps, reply, error));
      scope.setNotFoundHandler((_request, reply) => sendError(deps, reply, new ScimError(404, "no such resource")));
      const handler = async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> => {
        const caller = callers.get(request);
        if (caller === undefined) throw new TypeError("a SCIM request without its caller");
        const answer = await inTurn(inProgress, caller.client.name, () => answerOf(deps, caller, request));
        // A wait for a receipt costs nothing here, so it is no longer in progress.
        return sendAnswer(deps, request, reply, answer);
      };
      // The first is the root of the server, with and without a slash at its end.
      for (const url of ["/", "/*"])
        scope.route({ method: ["GET", "POST", "PUT", "PATCH", "DELETE"], url, bodyLimit: bodyBytesMax, handler });
      done();
    },
    { prefix },
  );
}

/** @throws ScimError 503 */
async function inTurn<T>(inProgress: Map<string, number>, client: string, job: () => Promise<T>): Promise<T> {
  const own = inProgress.get(client) ?? 0;
  const all = [...inProgress.values()].reduce((sum, each) => sum + each, 0);
  if (all >= inProgressMax.all || own >= inProgressMax.client)
    throw new ScimError(503, "too many requests at once; try again");
  inProgress.set(client, own + 1);
  try {
    return await job();
  } finally {
    const left = (inProgress.get(client) ?? 1) - 1;
    if (left === 0) inProgress.delete(client);
    else inProgress.set(client, left);
  }
}

/** @throws ScimError */
function callerOf(deps: ScimDeps, tokens: TokenIndex, request: FastifyRequest): ScimCaller {
  if (Number(request.headers["content-length"] ?? 0) > bodyBytesMax) throw new ScimError(413, "the body is too large");
  const presented = /^Bearer +(\S{1,200})$/i.exec(request.headers.authorization ?? "")?.[1];
  const tokenId = presented === undefined ? undefined : scimTokenIdIn(presented);
  if (presented === undefined || tokenId === undefined) throw new ScimError(401, "send a SCIM token as bearer");
  // A node that lags could accept a revoked token, and would answer with an old state.
  if (deps.replica.overdueMs(deps.clock.monotonic()) > 0)
    throw new ScimError(503, "this node cannot confirm the token now; try again");
  const token = tokens.find(tokenId);
  const { revoked, expiresAt } = token?.account ?? { revoked: true, expiresAt: null };
  const isValid = token !== undefined && isSecretOf(presented, token);
  if (!isValid || revoked || (expiresAt !== null && expiresAt <= deps.clock.wall()))
    throw new ScimError(401, "the token is not valid, has expired, or has been revoked");
  const client = deps.clients.get(token.client);
  if (client === undefined) throw new ScimError(403, `scim_clients does not name ${token.client}`);
  const { level } = deps.replica.projection;
  if (level < provisionedFrom)
    throw new ScimError(
      503,
      `the cluster is at level ${level}, and SCIM needs level ${provisionedFrom}: run cardea cluster finalize`,
    );
  const recheck = (): void => void callerOf(deps, tokens, request);
  return { client, actor: `service:scim/${token.client}#${tokenId}`, scopes: token.scopes, recheck };
}

async function answerOf(deps: ScimDeps, caller: ScimCaller, request: FastifyRequest): Promise<ScimAnswer> {
  checkShape(request.body);
  const [path = "", query = ""] = (request.raw.url ?? "").slice(prefix.length).split("?", 2);
  if (path.toLowerCase() === "/bulk") {
    if (request.method !== "POST") throw new ScimError(405, "this resource has no such method");
    return answerBulk(deps, caller, request.body, limits);
  }
  const { "if-match": ifMatch, "if-none-match": ifNoneMatch } = request.headers;
  const asked = {
    method: request.method,
    path,
    query: new URLSearchParams(query),
    body: request.body,
    ifMatch: ifMatch?.toString(),
    ifNoneMatch: ifNoneMatch?.toString(),
  };
  return answerScim(deps, caller, asked, limits);
}

async function sendAnswer(
  deps: ScimDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  { status, body, etag, location, link }: ScimAnswer,
): Promise<FastifyReply> {
  if (etag !== undefined) reply.header("etag", etag);
  if (location !== undefined) reply.header(status === 201 ? "location" : "content-location", location);
  if (link !== undefined) {
    reply.header("cardea-position", String(link.position));
    const waitMs = waitMsOf(request.headers["prefer"]);
    if (waitMs !== null) {
      reply.header("preference-applied", "wait");
      reply.header("cardea-receipt", await receiptWordOf(deps, link, waitMs));
    }
  }
  reply.code(status);
  return body === undefined ? reply.send() : reply.send(JSON.stringify(body));
}

function sendError({ log }: ScimDeps, reply: FastifyReply, error: unknown): FastifyReply {
  const known = error instanceof ScimError ? error : ofFramework(error);
  if (known === undefined) {
    log.warn({ err: error }, "a SCIM request failed; answering 500");
    return sendError({ log } as ScimDeps, reply, new ScimError(500, "internal error; the change may have been made"));
  }
  if (known.status === 503) reply.header("retry-after", String(known.retryAfter));
  if (known.status === 401) reply.header("www-authenticate", 'Bearer realm="scim"');
  reply.header("cache-control", "no-store").type("application/scim+json");
  return reply.code(known.status).send(JSON.stringify(errorBody(known)));
}

/** What the framework refuses: a body that is too large, of another type, or not JSON. */
function ofFramework(error: unknown): ScimError | undefined {
  const status = typeof error === "object" && error !== null && "statusCode" in error ? Number(error.statusCode) : 500;
  if (!(error instanceof Error) || status < 400 || status >= 500) return undefined;
  return new ScimError(status, error.message, status === 400 ? "invalidSyntax" : null);
}

async function correlateAll(deps: ScimDeps, people: readonly UserId[]): Promise<void> {
  await deps.directory.settled();
  if (deps.replica.projection.level < provisionedFrom) return;
  for (const userId of people) {
    if (!deps.directory.isMismatch(userId)) continue;
    const provisioned = deps.directory.correlatedWith(userId);
    try {
      await submitChange(deps, { actor: "service:scim" }, { type: "correlateUser", userId, provisioned });
    } catch (error) {
      // What the log refuses permanently is not repeated; with an unavailable leader it is.
      if (!(error instanceof ScimError) || error.status === 503) throw error;
      deps.log.warn({ userId, message: error.message }, "could not give a person what SCIM clients say");
    }
  }
}

/** People to look at again, in the background. A failure leaves them for the next round. */
class Mismatches {
  readonly #deps: Pick<AuthDeps, "sleep" | "log" | "clock">;
  readonly #correlate: (people: readonly UserId[]) => Promise<void>;
  readonly #people = new Set<UserId>();
  /** How often each person was passed on in the current period. */
  readonly #times = new Map<UserId, number>();
  #periodEndsAt = 0;
  #isRunning = false;
  #isClosed = false;

  constructor(
    deps: Pick<AuthDeps, "sleep" | "log" | "clock">,
    correlate: (people: readonly UserId[]) => Promise<void>,
  ) {
    this.#deps = deps;
    this.#correlate = correlate;
  }

  add(userId: UserId): void {
    const now = this.#deps.clock.monotonic();
    if (now >= this.#periodEndsAt) {
      this.#times.clear();
      this.#periodEndsAt = now + periodMs;
    }
    const times = (this.#times.get(userId) ?? 0) + 1;
    this.#times.set(userId, times);
    if (times > timesMax) {
      const message =
        "processes disagree about what a person has from SCIM; check that scim_clients is the same on all";
      if (times === timesMax + 1) this.#deps.log.warn({ userId }, message);
      return;
    }
    this.#people.add(userId);
    if (!this.#isRunning && !this.#isClosed) void this.#run();
  }

  close(): void {
    this.#isClosed = true;
    this.#people.clear();
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    while (this.#people.size > 0 && !this.#isClosed) {
      await this.#deps.sleep(correlateAfterMs);
      const some = [...this.#people];
      this.#people.clear();
      try {
        await this.#correlate(some);
      } catch (err) {
        for (const userId of this.#isClosed ? [] : some) this.#people.add(userId);
        this.#deps.log.warn({ err, people: some.length }, "could not give people what SCIM clients say; trying again");
      }
    }
    this.#isRunning = false;
  }
}

/** SCIM tokens by id, read again after a change of a service account. */
class TokenIndex {
  readonly #replica: ScimDeps["replica"];
  readonly #stop: () => void;
  #tokens: ReadonlyMap<string, ScimToken> | undefined;

  constructor({ replica }: ScimDeps) {
    this.#replica = replica;
    this.#stop = replica.onChange(({ touched, rebuilt }) => {
      if (rebuilt || [...touched].some((stream) => stream.startsWith("service-account:"))) this.#tokens = undefined;
    });
  }

  find(tokenId: string): ScimToken | undefined {
    this.#tokens ??= new Map(
      [...this.#replica.projection.serviceAccounts()]
        .map(parseScimToken)
        .filter((token) => token !== undefined)
        .map((token) => [token.tokenId, token]),
    );
    return this.#tokens.get(tokenId);
  }

  close(): void {
    this.#stop();
  }
}
