/**
 * Local replies: every response that the proxy writes itself, as one function of what happened and of the caller's
 * reply format.
 *
 *   no session  → sign-in for people, 401 for everything else     no right → 403     unknown → 503 with Retry-After
 *   (503 for people where no session can be recorded)
 *
 * Pure; test/proxy/reply/local-reply.test.ts walks the whole matrix. Always: the status depends on the condition and
 * never on our own state being late; only a person at a browser is ever redirected; a preflight, an upgrade and a
 * script never are; CORS headers name only origins of configured routes; nothing of how we work is in a body.
 */
import {
  denialJson,
  type ErrorPage,
  existingSignInPath,
  identityTooLarge,
  type PageCondition,
  type PageReader,
  type PageUser,
  type RouteRequirements,
  type SignInLoop,
  type SignInLoopPage,
  signInChallenge,
  signInHint,
  signInLoopPageOf,
  signInUnavailable,
} from "../../auth/index.ts";
import { type Fact, type UnixMs, unreachable } from "../../events/index.ts";
import type { ReplyFormat } from "./reply-format.ts";

export type Condition =
  /** The caller has no session, and the route requires one. */
  | Fact<"no-session", { reasons: readonly string[] }>
  /** Policy denied the request, with its own status (403, 450, 495, or 401 for a missing device). */
  | Fact<"no-right", { status: number; reasons: readonly string[] }>
  /**
   * The node does not know enough to decide or to forward: no lease, state that is behind, or no reply from a provider
   * or upstream. `sign-in`: the caller has no session, and a new one could not be recorded.
   */
  | Fact<
      "unknown",
      { why: "lease" | "behind" | "provider" | "data" | "audit" | "busy" | "unhealthy" | "draining" | "sign-in" }
    >
  | Fact<"no-route", unknown>
  | Fact<"upgrade-not-allowed", unknown>
  | Fact<"bad-request", { status: number }>
  /** No connection to the upstream could be made. */
  | Fact<"upstream-unreachable", unknown>
  /** The upstream was connected, but sent no response that can be forwarded. */
  | Fact<"upstream-broke", unknown>
  | Fact<"upstream-timeout", unknown>
  /** The head of the request was forwarded, but its body did not arrive in time. */
  | Fact<"request-timeout", unknown>
  /**
   * Tunnel clients keep their credential after a 503 or a 403, and discard it after any other error status of the proxy.
   */
  | Fact<"tunnel-unreachable", unknown>
  | Fact<"internal", unknown>;

/** What a page may show besides the condition. */
export type ReplyDetails = Readonly<{
  requestId: string;
  at: UnixMs;
  host: string | null;
  /** The host as in the address bar, with its port, for the page's own files; absent: unknown. */
  authority?: string | null;
  /** The route's name; only if the caller may know it. */
  app?: string | null;
  /** Who can be asked for access. */
  owner?: string | null;
  /** Where the reader can ask for access; absent or null: nowhere. */
  requestAccessUrl?: string | null;
  /** The routes portal on this host; absent: none. */
  appsUrl?: string | null;
  /** The requested URL as in the caller's address bar; null if it could not be read. */
  url: string | null;
  /** What this route requires; null: nothing to show. */
  explain: RouteRequirements | null;
  user: PageUser | null;
  details: NonNullable<ErrorPage["details"]>;
  /** The caller has returned from sign-in several times without a valid session. Absent: a redirect may help. */
  signInLoop?: SignInLoop | undefined;
  /** The address is too long for redirects, and the browser can keep it. Absent: a redirect carries it. */
  keepsAddress?: boolean;
}>;

export type Body =
  | Fact<"html", { page: ErrorPage | SignInLoopPage }>
  | Fact<"text", { contentType: string; text: string }>;
export type LocalReply = Readonly<{
  status: number;
  headers: Readonly<Record<string, string>>;
  body: Body;
  /** Who reads the page, if it is one. */
  reader: PageReader;
  /**
   * Send the caller to sign in: `Location` and the nonce cookie are the writer's to add; `keep-address`: a page in
   * place of `Location`, which keeps the address in the browser.
   */
  signIn: "redirect" | "keep-address" | null;
}>;

const retryAfterS = 1;
/** Methods that every route accepts. An upstream may know more (RFC 9110 §15.5.6). */
const allowedMethods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

export function localReplyFor(condition: Condition, asked: ReplyFormat, facts: ReplyDetails): LocalReply {
  const page = pageFor(condition, facts);
  const headers: Record<string, string> = {
    "x-pomerium-intercepted-response": "true",
    "cache-control": "no-store",
    "x-request-id": facts.requestId,
  };
  const reader: PageReader = { host: facts.authority ?? null, language: asked.language };
  if (page.retryAfterS !== undefined && page.retryAfterS !== null) headers["retry-after"] = String(page.retryAfterS);
  if (page.status === 405) headers["allow"] = allowedMethods;
  const refused = condition.type === "no-session" || condition.type === "no-right";

  if (asked.grpc !== null) return { status: page.status, signIn: null, reader, ...grpcForm(asked, page, headers) };
  if (asked.kubernetes) return { status: page.status, headers, signIn: null, reader, body: kubernetesStatus(page) };
  if (refused && asked.path === "/robots.txt" && asked.kind !== "preflight" && asked.kind !== "upgrade") {
    return { status: 200, headers, signIn: null, reader, body: text("text/plain; charset=utf-8", robots) };
  }
  if (asked.kind === "fetch" && asked.corsOrigin !== null) {
    headers["access-control-allow-origin"] = asked.corsOrigin;
    headers["access-control-allow-credentials"] = "true";
    headers["access-control-expose-headers"] = "x-pomerium-intercepted-response, x-request-id";
  }
  if (asked.kind === "fetch") headers["vary"] = "Origin";
  if (condition.type === "no-session") {
    if (asked.canSignIn && facts.signInLoop !== undefined)
      return { ...signInLoopReply(facts.signInLoop, headers, facts), reader };
    if (asked.canSignIn && facts.keepsAddress === true) {
      const own = { ...headers, "www-authenticate": signInChallenge };
      return { status: 401, headers: own, signIn: "keep-address", reader, body: text("text/plain; charset=utf-8", "") };
    }
    if (asked.canSignIn)
      return { status: 302, headers, signIn: "redirect", reader, body: text("text/plain; charset=utf-8", "") };
    headers["www-authenticate"] = signInChallenge;
    if (wantsHint(asked)) return { status: 401, headers, signIn: null, reader, body: hintFor(asked, facts) };
  }
  const wantsJson =
    asked.kind === "preflight" || asked.kind === "upgrade" || asked.kind === "fetch" || asked.prefers !== "html";
  const json = refused ? denialJson(page, signInFor(condition, asked, facts)) : localReplyJson(page);
  const body: Body = wantsJson
    ? text("application/json", json)
    : { type: "html", page: unsentPage(page, condition, asked) };
  return { status: page.status, headers, signIn: null, reader, body };
}

/** A program that prefers JSON gets JSON. */
function wantsHint({ kind, browser, prefers }: ReplyFormat): boolean {
  return kind === "plain" && !browser && prefers !== "json";
}

function hintFor({ credentialSent }: ReplyFormat, { url }: ReplyDetails): Body {
  const origin = url === null ? null : new URL(url).origin;
  return text("text/plain; charset=utf-8", signInHint(origin, credentialSent ? "refused" : "none"));
}

function signInLoopReply(
  loop: SignInLoop,
  headers: Readonly<Record<string, string>>,
  { url, host, requestId, at }: ReplyDetails,
): Omit<LocalReply, "reader"> {
  const requested = url === null ? null : new URL(url);
  const page = signInLoopPageOf(loop, { host: host ?? "this address", url: requested, requestId, at });
  const own = { ...headers, "www-authenticate": signInChallenge, "set-cookie": loop.setCookie };
  return { status: page.status, headers: own, signIn: null, body: { type: "html", page } };
}

/**
 * What a browser sent with a body is not redirected, since the redirect would lose the body: the page says how to send
 * it again.
 */
function unsentPage(page: ErrorPage, { type }: Condition, { method }: ReplyFormat): ErrorPage {
  if (type !== "no-session" || method === "GET" || method === "HEAD") return page;
  return {
    ...page,
    unsent: true,
    condition: "unsent",
    title: "Sign in, then send it again",
    description: "You aren't signed in, so what you sent was not forwarded. It is still in this tab.",
    signInUrl: "/.pomerium/sign_in",
  };
}

/**
 * A script of a page cannot follow a redirect to a provider; it can lead its visitor to where one begins, and back to
 * its page.
 */
function signInFor({ type }: Condition, { kind }: ReplyFormat, { url }: ReplyDetails): string | null {
  return type === "no-session" && kind === "fetch" && url !== null ? new URL("/.pomerium/sign_in", url).href : null;
}

const robots = "User-agent: *\nDisallow: /\n";

function text(contentType: string, content: string): Body {
  return { type: "text", contentType, text: content };
}

type ReplyWords = Readonly<{ status: number; condition: PageCondition; title: string; description: string }>;

function wordsFor(condition: Condition): ReplyWords {
  switch (condition.type) {
    case "no-session":
      return {
        status: 401,
        condition: "unauthenticated",
        title: "Unauthenticated",
        description: "Sign in to see this page.",
      };
    case "no-right":
      return { status: condition.status, ...denied(condition) };
    case "unknown":
      return {
        status: 503,
        condition: condition.why === "sign-in" ? "sign-in-paused" : condition.why,
        title: unknownTitles[condition.why] ?? "Temporarily unavailable",
        description: unknownWords[condition.why],
      };
    case "no-route":
      return {
        status: 404,
        condition: "no-route",
        title: "Not found",
        description: "Nothing is published at this address.",
      };
    case "upgrade-not-allowed":
      return {
        status: 403,
        condition: "upgrade",
        title: "Upgrade not allowed",
        description: "This address does not accept connections of this kind.",
      };
    case "bad-request":
      return { status: condition.status, ...(badRequestWords[condition.status] ?? ambiguous) };
    case "upstream-broke":
      return {
        status: 502,
        condition: "upstream-broke",
        title: "Bad gateway",
        description: "The service behind this address closed the connection before its response was complete.",
      };
    case "upstream-unreachable":
    case "tunnel-unreachable":
      return {
        status: 503,
        condition: "upstream-unreachable",
        title: "Service unavailable",
        description: "The service behind this address cannot be reached.",
      };
    case "upstream-timeout":
      return {
        status: 504,
        condition: "upstream-timeout",
        title: "Gateway timeout",
        description: "The service behind this address took too long.",
      };
    case "request-timeout":
      return {
        status: 408,
        condition: "request-timeout",
        title: "Request timeout",
        description: "The request did not arrive in full in time. Part of it may have been forwarded.",
      };
    case "internal":
      return {
        status: 500,
        condition: "internal",
        title: "Internal server error",
        description: "Something went wrong on our side.",
      };
    default:
      return unreachable(condition);
  }
}

/** Programs see only the title, so it tells the upstream's failures from the proxy's own. */
const unknownTitles: Readonly<Record<string, string>> = {
  busy: "Too many requests to this service",
  unhealthy: "No healthy upstream",
  "sign-in": signInUnavailable.title,
};

const ambiguous = {
  condition: "ambiguous",
  title: "Bad request",
  description: "The request is ambiguous or malformed, so it was not forwarded.",
} as const;
const badRequestWords: Readonly<Record<number, Omit<ReplyWords, "status">>> = {
  405: { condition: "method", title: "Method not allowed", description: "This method is not allowed here." },
  408: {
    condition: "slow-request",
    title: "Request timeout",
    description: "The request took too long to arrive, so it was not forwarded.",
  },
  413: {
    condition: "too-large",
    title: "Content too large",
    description: "The request is larger than this address accepts.",
  },
  414: {
    condition: "address-too-long",
    title: "Address too long",
    description: "The address is longer than this server accepts.",
  },
  417: {
    condition: "expectation",
    title: "Expectation failed",
    description: "The request has an expectation that this server does not support.",
  },
  431: {
    condition: "headers-too-large",
    title: "Request header fields too large",
    description:
      "The request's headers are larger than this server accepts. Cookies are the usual cause: delete those of this site and try again.",
  },
};

const unknownWords = {
  lease:
    "This node has lost contact with the cluster and cannot decide about requests. Please try again shortly; you are still signed in.",
  behind: "Your session has not reached this node yet. Please try again in a moment; you are still signed in.",
  provider: "We cannot verify your identity right now. Please try again in a moment; you are still signed in.",
  data: "We cannot read the data that decides about your access right now. Please try again in a moment.",
  audit: "Every request to this page must be recorded, and we cannot do that right now. Please try again shortly.",
  busy: "The service behind this address is overloaded. Please try again in a moment.",
  unhealthy: "No healthy server is available for this address. Please try again shortly.",
  draining: "This node is shutting down. Please try again in a moment.",
  "sign-in": signInUnavailable.description,
} as const;

function denied({ status, reasons }: Extract<Condition, { type: "no-right" }>): Omit<ReplyWords, "status"> {
  if (reasons.includes(identityTooLarge.reason)) {
    const { title, description } = identityTooLarge;
    return { condition: "too-many-groups", title, description };
  }
  if (status === 450)
    return {
      condition: "device-unapproved",
      title: "Device not authorized",
      description: "Your device is not authorized for this page.",
    };
  if (status === 495) {
    return {
      condition: "certificate",
      title: "A valid client certificate is required to access this page",
      description: "Your browser did not present a certificate that is accepted here.",
    };
  }
  if (status === 400) return ambiguous;
  if (status === 404)
    return { condition: "no-route", title: "Not found", description: "Nothing is published at this address." };
  if (status === 401)
    return {
      condition: "device-unregistered",
      title: "Device not enrolled",
      description: "Enrol a device to see this page.",
    };
  return { condition: "denied", title: "Access denied", description: "You do not have permission to see this page." };
}

function pageFor(condition: Condition, facts: ReplyDetails): ErrorPage {
  const words = wordsFor(condition);
  const signedIn = condition.type === "no-right";
  const again = words.status === 502 || words.status === 503 || words.status === 504;
  return {
    type: "error",
    ...words,
    reasons: condition.type === "no-session" || condition.type === "no-right" ? condition.reasons : [],
    requestId: facts.requestId,
    at: facts.at,
    explain: signedIn && !condition.reasons.includes(identityTooLarge.reason) ? facts.explain : null,
    host: facts.host,
    app: facts.app ?? null,
    owner: words.condition === "denied" ? (facts.owner ?? null) : null,
    requestAccessUrl: words.condition === "denied" ? (facts.requestAccessUrl ?? null) : null,
    appsUrl: facts.appsUrl ?? null,
    user: signedIn ? facts.user : null,
    signInUrl: signedIn || condition.type === "no-session" ? signInPath(facts.url) : null,
    signOutUrl: signedIn && facts.user !== null ? "/.pomerium/sign_out" : null,
    retryUrl: again ? facts.url : null,
    existingSignInUrl: isSignInPaused(condition) && facts.url !== null ? existingSignInPath(facts.url) : null,
    retryAfterS:
      condition.type !== "unknown" ? null : isSignInPaused(condition) ? signInUnavailable.retryAfterS : retryAfterS,
    details: signedIn ? facts.details : [],
  };
}

function isSignInPaused(condition: Condition): boolean {
  return condition.type === "unknown" && condition.why === "sign-in";
}

/** Our own endpoint on the same host begins a sign-in towards where the reader wanted to go. */
function signInPath(url: string | null): string {
  return url === null ? "/.pomerium/sign_in" : `/.pomerium/sign_in?pomerium_redirect_uri=${encodeURIComponent(url)}`;
}

/**
 * gRPC's "Trailers-Only": its status stands in the head, and there is no body that could be taken for messages. The
 * HTTP status stays (docs/pomerium-behaviour.md §6.7 a), which gRPC's clients take when there is a `grpc-status` too.
 */
function grpcForm(
  { grpc, grpcType, corsOrigin }: ReplyFormat,
  page: ErrorPage,
  headers: Readonly<Record<string, string>>,
): Pick<LocalReply, "headers" | "body"> {
  const cors =
    grpc === "grpc-web" && corsOrigin !== null
      ? {
          "access-control-allow-origin": corsOrigin,
          "access-control-allow-credentials": "true",
          "access-control-expose-headers": "grpc-status, grpc-message, x-request-id",
          vary: "Origin",
        }
      : {};
  const status = { "grpc-status": String(grpcStatus(page.status)), "grpc-message": percentEncode(page.title) };
  return { headers: { ...headers, ...cors, ...status }, body: text(grpcType, "") };
}

/** What Pomerium's Envoy says where policy was not asked, or could not answer (docs/pomerium-behaviour.md §6.7). */
function localReplyJson(page: ErrorPage): string {
  return JSON.stringify({ requestId: page.requestId, status: page.status, statusText: page.title });
}

/**
 * gRPC status codes of docs/pomerium-behaviour.md §6.7: INTERNAL, UNAUTHENTICATED, PERMISSION_DENIED, UNIMPLEMENTED,
 * UNAVAILABLE, UNKNOWN.
 */
export function grpcStatus(status: number): number {
  switch (status) {
    case 400:
      return 13;
    case 401:
      return 16;
    case 403:
      return 7;
    case 404:
      return 12;
    case 429:
    case 502:
    case 503:
    case 504:
      return 14;
    default:
      return 2;
  }
}

/** gRPC over HTTP/2, "Responses": printable ASCII but `%` stands for itself. */
function percentEncode(message: string): string {
  return message.replace(/[^ -$&-~]/g, (char) => encodeURIComponent(char));
}

function kubernetesStatus(page: ErrorPage): Body {
  const reasons: Readonly<Record<number, string>> = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    408: "Timeout",
    413: "RequestEntityTooLarge",
    503: "ServiceUnavailable",
    504: "Timeout",
  };
  return text(
    "application/json",
    JSON.stringify({
      kind: "Status",
      apiVersion: "v1",
      metadata: {},
      status: "Failure",
      message: page.title,
      reason: reasons[page.status] ?? (page.status >= 500 ? "InternalError" : "Forbidden"),
      code: page.status,
    }),
  );
}
