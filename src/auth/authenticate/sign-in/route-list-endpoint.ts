/**
 * Routes portal, `/.pomerium/routes`, and its list for programs, `/.pomerium/api/v1/routes` (docs/pomerium-behaviour.md
 * §2.2): the routes that a person may use.
 *
 * - Without parameters the list is Pomerium's. With `q`, `id`, `after`, `limit` or `show` it is one page of a search,
 *   whose routes also have the `picture` that this host serves.
 * - A search runs in slices of `sliceMs`, so that requests of others are served in between. Searches at once are
 *   bounded, and shared fairly between sessions.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { RouteRequirements } from "../../authorize/index.ts";
import type { RoutesPage } from "../../reply/page.ts";
import type { RouteCatalog, RouteSearch } from "../../route-catalog.ts";
import type { ListRoutesQuery } from "../../route-list.ts";
import {
  type AuthDeps,
  externalUrl,
  headersOf,
  type RequestContexts,
  type ReservedContext,
  sendBehind,
  sendPage,
  sendProblem,
} from "../context.ts";
import { FairLimiter } from "../credentials/fair-limiter.ts";
import { readOnly } from "./common-endpoints.ts";
import { readRouteSignInStatus, type SignInStatus, withFreshLease } from "./signed-in.ts";

type SendUnauthenticated = (
  deps: AuthDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  context: ReservedContext,
) => FastifyReply;

export const portalPath = "/.pomerium/routes";
const sliceMs = 3;
const searchesMax = 16;
/** A page of tiles stays below 30 KB. */
const pageRoutesMax = 40;
const listRoutesMax = 1_000;
const refusedMax = 30;
const idsMax = 100;
const idCharsMax = 200;

type Job<T> = (query: ListRoutesQuery, catalog: RouteCatalog) => Generator<undefined, T>;
type SignedIn = Extract<SignInStatus, { type: "signed-in" }>;

export function registerRouteList(
  app: FastifyInstance,
  deps: AuthDeps,
  parts: Readonly<{ contexts: RequestContexts; sendUnauthenticated: SendUnauthenticated }>,
): void {
  const { routes: catalog } = deps;
  if (catalog === null) return;
  const limiter = new FairLimiter(searchesMax);

  /** Runs a search for the person who asks, or sends the reply that says why not. */
  async function searchFor<T>(
    request: FastifyRequest,
    reply: FastifyReply,
    job: Job<T>,
    send: (result: T, asking: SignedIn, context: ReservedContext) => FastifyReply,
  ): Promise<FastifyReply> {
    const context = parts.contexts.of(request);
    const asking = await withFreshLease(deps, () => readRouteSignInStatus(deps, request, context));
    if (asking.type === "behind") return sendBehind(deps, request, reply, context);
    if (asking.type === "anonymous") return parts.sendUnauthenticated(deps, request, reply, context);
    const release = limiter.acquire(asking.principal.session.sessionId);
    if (release === undefined)
      return sendProblem(deps, request, reply, context, {
        status: 503,
        condition: "busy",
        title: "Too many requests",
        description: "Too many lists of routes are being made right now. Please try again in a moment.",
        retryUrl: request.raw.url ?? portalPath,
      });
    try {
      const result = await runInSlices(job(queryOf(deps, request, context, asking), catalog as RouteCatalog), deps);
      return send(result, asking, context);
    } finally {
      release();
    }
  }

  readOnly(app, "/.pomerium/api/v1/routes", (request, reply) => {
    reply.header("cache-control", "no-store");
    const search = searchIn(externalUrl(request, parts.contexts.of(request)), listRoutesMax);
    return search === null
      ? searchFor(
          request,
          reply,
          (query, { list }) => list(query),
          (routes) => reply.send({ routes }),
        )
      : searchFor(
          request,
          reply,
          (query, catalog) => catalog.search(query, search),
          ({ routes, next }) => {
            const pictureOf = deps.pictureUrl ?? (() => null);
            const describe = (explain: RouteRequirements | null): readonly string[] =>
              explain === null ? [] : (deps.describeRoute?.(explain) ?? []);
            return reply.send({
              routes: routes.map((route) => ({
                ...route,
                ...("explain" in route ? { explain: describe(route.explain) } : {}),
                picture: pictureOf(route.logo_url),
              })),
              next,
            });
          },
        );
  });

  readOnly(app, portalPath, (request, reply) => {
    const context = parts.contexts.of(request);
    const url = externalUrl(request, context);
    const asked = { ...anySearch, ...searchIn(url, pageRoutesMax), ids: null, limit: pageRoutesMax };
    return searchFor(
      request,
      reply,
      (query, catalog) => searchPage(query, catalog, asked),
      (result, { principal }) =>
        sendPage({ deps, request, reply, context }, 200, {
          type: "routes",
          user:
            principal.profile === undefined ? null : { name: principal.profile.name, email: principal.profile.email },
          text: asked.text,
          show: asked.show,
          isFirst: asked.after === null,
          view: url.searchParams.get("view") === "list" ? "list" : "tiles",
          ...result,
        }),
    );
  });
}

const anySearch: RouteSearch = { text: "", show: "permitted", ids: null, after: null, limit: pageRoutesMax };

/** The page, and on its first one also what the person could ask for. */
function* searchPage(
  query: ListRoutesQuery,
  catalog: RouteCatalog,
  asked: RouteSearch,
): Generator<undefined, Pick<RoutesPage, "routes" | "refused" | "next" | "moreRefused">> {
  const { routes, next } = yield* catalog.search(query, asked);
  if (asked.show === "refused") return { routes: [], refused: routes, next, moreRefused: false };
  if (asked.after !== null) return { routes, refused: [], next, moreRefused: false };
  const refused = yield* catalog.search(query, { ...asked, show: "refused", limit: refusedMax });
  return { routes, refused: refused.routes, next, moreRefused: refused.next !== null };
}

/** Null: the address has no parameter of a search. */
function searchIn({ searchParams }: URL, limitMax: number): RouteSearch | null {
  const known = ["q", "id", "after", "limit", "show"];
  if (!known.some((name) => searchParams.has(name))) return null;
  const ids = searchParams.getAll("id").filter((id) => id.length <= idCharsMax);
  const limit = Number(searchParams.get("limit") ?? limitMax);
  const after = searchParams.get("after");
  return {
    text: searchParams.get("q") ?? "",
    show: searchParams.get("show") === "refused" ? "refused" : "permitted",
    ids: searchParams.has("id") ? new Set(ids.slice(0, idsMax)) : null,
    after: after === null || after.length > idCharsMax ? null : after,
    limit: Number.isInteger(limit) && limit >= 1 ? Math.min(limit, limitMax) : limitMax,
  };
}

function queryOf(
  deps: AuthDeps,
  request: FastifyRequest,
  context: ReservedContext,
  { principal }: SignedIn,
): ListRoutesQuery {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(headersOf(request))) if (value !== undefined) headers[name] = value;
  return { principal, headers, ip: context.ip, now: deps.clock.wall(), origin: new URL(context.origin) };
}

async function runInSlices<T>(
  steps: Generator<undefined, T>,
  { clock, sleep }: Pick<AuthDeps, "clock" | "sleep">,
): Promise<T> {
  let startedAt = clock.monotonic();
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
    if (clock.monotonic() - startedAt < sliceMs) continue;
    await sleep(0);
    startedAt = clock.monotonic();
  }
}
