/**
 * Reply format: the kind of caller a request comes from, as far as it decides the form of local replies.
 *
 * Pure. It says nothing about the caller's identity or rights.
 */
import { acceptsRedirect, bestMatch, isBrowser } from "../../auth/index.ts";
import type { CanonicalRequest } from "../message/canonical-request.ts";

/**
 * navigation: a browser going to a page · fetch: a script of a page · preflight: a browser asking for a script ·
 * upgrade: a WebSocket · grpc: gRPC or gRPC-Web · plain: anything that does not say (`Sec-Fetch-Mode` is absent)
 */
export type RequestKind = "navigation" | "fetch" | "preflight" | "upgrade" | "grpc" | "plain";

export type ReplyFormat = Readonly<{
  kind: RequestKind;
  method: string;
  path: string;
  /** The preferred one of HTML and JSON; null: neither is acceptable. */
  prefers: "html" | "json" | null;
  /**
   * The caller can be redirected to a sign-in page: a person at a browser, and neither a credential nor a body would be
   * lost. A browser follows a redirect to sign-in with GET, so only GET and HEAD are redirected. A tunnel's request has
   * no body.
   */
  canSignIn: boolean;
  /** A browser by its headers: it can show a page. */
  browser: boolean;
  /** The request carries a credential in a header or in its query, where programs put it. */
  credentialSent: boolean;
  kubernetes: boolean;
  /** `application/grpc` or `application/grpc-web`, for gRPC. */
  grpc: "grpc" | "grpc-web" | null;
  /** The content type of the reply, for gRPC; empty otherwise. */
  grpcType: string;
  /** The origin to name in CORS headers; null: not the origin of a route. */
  corsOrigin: string | null;
  /** `Accept-Language`; empty: unknown. */
  language: string;
}>;

export function replyFormatOf(
  request: CanonicalRequest,
  options: Readonly<{ upgrade: "websocket" | "tunnel" | null; isRouteOrigin: (origin: string) => boolean }>,
): ReplyFormat {
  const { headers } = request;
  const grpc = grpcKind(headers["content-type"]);
  const mode = headers["sec-fetch-mode"]?.toLowerCase();
  const origin = headers["origin"];
  const kind: RequestKind =
    options.upgrade !== null
      ? "upgrade"
      : grpc !== null
        ? "grpc"
        : isPreflight(request)
          ? "preflight"
          : mode === undefined
            ? "plain"
            : mode === "navigate"
              ? "navigation"
              : "fetch";
  const browser = kind === "navigation" || isBrowser({ accept: headers["accept"], userAgent: headers["user-agent"] });
  const credentialSent =
    headers["x-pomerium-authorization"] !== undefined ||
    /^(?:pomerium\s|bearer\s+pomerium-)/i.test(headers["authorization"] ?? "") ||
    /[?&]pomerium_session=/.test(request.search);
  const kubernetes = headers["user-agent"]?.includes("kubernetes/") ?? false;
  return {
    kind,
    method: request.method,
    path: request.path,
    prefers: preference(headers["accept"]),
    canSignIn:
      !credentialSent &&
      !kubernetes &&
      (options.upgrade === "tunnel" || request.method === "GET" || request.method === "HEAD") &&
      (kind === "navigation" ||
        (((kind === "plain" && browser) || options.upgrade === "tunnel") && acceptsRedirect(headers["accept"]))),
    browser,
    credentialSent,
    kubernetes,
    grpc,
    grpcType: grpc === null ? "" : grpcTypeOf(headers["content-type"] ?? "", grpc),
    corsOrigin: origin !== undefined && options.isRouteOrigin(origin) ? origin : null,
    language: headers["accept-language"] ?? "",
  };
}

function isPreflight({ method, headers }: CanonicalRequest): boolean {
  return method === "OPTIONS" && Boolean(headers["access-control-request-method"]) && Boolean(headers["origin"]);
}

function grpcKind(contentType: string | undefined): ReplyFormat["grpc"] {
  if (contentType === undefined) return null;
  const type = contentType.split(";", 1)[0]?.trim().toLowerCase() ?? "";
  if (/^application\/grpc-web(?:-text)?(?:\+.*)?$/.test(type)) return "grpc-web";
  return type === "application/grpc" || type.startsWith("application/grpc+") ? "grpc" : null;
}

/** That of the request, as far as it says how messages are written. */
function grpcTypeOf(contentType: string, kind: "grpc" | "grpc-web"): string {
  const type = contentType.split(";", 1)[0]?.trim().toLowerCase() ?? "";
  return /^application\/grpc(?:-web(?:-text)?)?(?:\+[a-z0-9.-]{1,40})?$/.test(type) ? type : `application/${kind}`;
}

/** For a request that was split into headers but failed validation: only `Accept` is used. */
export function replyFormatOfUnread(rawHeaders: readonly string[]): ReplyFormat {
  let accept: string | undefined;
  for (let i = 0; i < rawHeaders.length; i += 2)
    if (rawHeaders[i]?.toLowerCase() === "accept") accept ??= rawHeaders[i + 1];
  return { ...defaultReplyFormat, prefers: accept === undefined ? "json" : preference(accept) };
}

/** Nothing is known of the caller: a reply for programs. */
export const defaultReplyFormat: ReplyFormat = {
  kind: "plain",
  method: "GET",
  path: "",
  prefers: "json",
  canSignIn: false,
  browser: false,
  credentialSent: false,
  kubernetes: false,
  grpc: null,
  grpcType: "",
  corsOrigin: null,
  language: "",
};

function preference(accept: string | undefined): ReplyFormat["prefers"] {
  if (accept === undefined) return "html";
  const best = bestMatch(accept, ["text/html", "application/json"]);
  return best === "text/html" ? "html" : best === "application/json" ? "json" : null;
}
