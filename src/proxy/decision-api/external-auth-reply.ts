/**
 * External auth reply: a decision in the form that the proxy in front understands.
 *
 * - Pure. A permit is 200, and no other reply is 200.
 * - nginx treats 401 and 403 as a denial. It treats any other status as a failure, which it answers with 500. A denial
 *   to nginx is one of those two, and a failure 503.
 * - Traefik and Caddy forward the reply to the caller: the same statuses with a page, or a redirect to sign-in if
 *   configured.
 * - Envoy accepts any status.
 */
import { type DetailRow, signInChallenge } from "../../auth/index.ts";
import { type UnixMs, unreachable } from "../../events/index.ts";
import { headerValue } from "../message/header-names.ts";
import { type Condition, type LocalReply, localReplyFor } from "../reply/local-reply.ts";
import { defaultReplyFormat, type ReplyFormat } from "../reply/reply-format.ts";
import { conditionOfDenial } from "../request/authorize.ts";
import { detailRowsOf, maySeeDetails, traceRowsOf } from "../request/request-context.ts";
import { type ApiDecision, statusOf } from "./api-decision.ts";
import { upstreamChanges } from "./ext-authz-headers.ts";
import type { ExternalAuthForm } from "./external-auth-request.ts";
import type { DecisionApiDeps } from "./request-decider.ts";

export type ExternalAuthReply = Readonly<{
  status: number;
  headers: readonly (readonly [string, string])[];
  body: string;
}>;

export type ExternalAuthReplyParts = Readonly<{
  form: ExternalAuthForm;
  /** Whether a browser is redirected to sign-in. */
  redirects: boolean;
  requestId: string;
  now: UnixMs;
  deps: Pick<DecisionApiDeps, "config" | "identity" | "replica" | "render" | "explain">;
}>;

/** The sign-in URL. The proxy in front redirects to it, or routes `/.pomerium/` of its host to Cardea. */
export const signInHeader = "x-cardea-sign-in";
export function externalAuthReplyOf(verdict: ApiDecision, parts: ExternalAuthReplyParts): ExternalAuthReply {
  const common: [string, string][] = [
    ["cache-control", "no-store"],
    ["x-request-id", parts.requestId],
  ];
  if (verdict.type === "permit") {
    if (parts.form !== "ext-authz") {
      const identity = verdict.identity.map(([name, value]) => [name.toLowerCase(), headerValue(value)] as const);
      return { status: 200, headers: [...common, ...identity], body: "" };
    }
    const { set, removed } = upstreamChanges(verdict, parts.deps.config);
    const said = set.map(([name, value]) => [name, headerValue(value)] as const);
    return {
      status: 200,
      headers: [...common, ...said, ["x-envoy-auth-headers-to-remove", removed.join(",")]],
      body: "",
    };
  }
  const format = askedOf(verdict);
  const url = "url" in verdict ? verdict.url : null;
  const redirects = parts.redirects && parts.form !== "auth-request";
  const made = localReplyFor(conditionOf(verdict), redirects ? format : { ...format, canSignIn: false }, {
    requestId: parts.requestId,
    at: parts.now,
    host: url?.hostname ?? null,
    authority: url?.host ?? null,
    ...(verdict.type === "deny" && verdict.principal !== null
      ? { app: verdict.route.name, owner: verdict.route.owner }
      : {}),
    url: url?.href ?? null,
    explain: verdict.type === "deny" ? parts.deps.explain(verdict.route.id) : null,
    user: userOf(verdict),
    details: detailsFor(verdict, parts),
  });
  const headers: [string, string][] = [...common];
  for (const [name, value] of Object.entries(made.headers)) {
    if (name !== "cache-control" && name !== "x-request-id") headers.push([name, value]);
  }
  if (verdict.type === "signin") {
    if (format.canSignIn) headers.push([signInHeader, signInUrl(verdict.url)]);
    if (made.signIn === "redirect") headers.push(["location", signInUrl(verdict.url)]);
    else if (!made.headers["www-authenticate"]) headers.push(["www-authenticate", signInChallenge]);
  }
  return { status: statusFor(parts, verdict, made), headers, ...bodyOf(made, parts, headers) };
}

function statusFor({ form }: ExternalAuthReplyParts, verdict: ApiDecision, made: LocalReply): number {
  if (made.signIn === "redirect") return 302;
  const status = statusOf(verdict);
  if (form === "ext-authz" || status === 503) return status;
  return verdict.type === "signin" ? 401 : 403;
}

function bodyOf(
  { body, reader }: LocalReply,
  { form, deps: { render } }: ExternalAuthReplyParts,
  headers: [string, string][],
): Pick<ExternalAuthReply, "body"> {
  if (form === "auth-request") return { body: "" }; // nginx discards it
  if (body.type === "html") {
    const rendered = render(body.page, reader);
    for (const [name, value] of Object.entries(rendered.headers))
      if (name !== "cache-control") headers.push([name, value]);
    return { body: rendered.html };
  }
  headers.push(["content-type", body.contentType]);
  return { body: body.text };
}

/** The sign-in URL on the requested host, where the callback sets the cookie. */
function signInUrl(url: URL): string {
  return `${url.origin}/.pomerium/sign_in?pomerium_redirect_uri=${encodeURIComponent(url.href)}`;
}

function askedOf(verdict: ApiDecision): ReplyFormat {
  return "format" in verdict ? verdict.format : defaultReplyFormat;
}

function detailsFor(verdict: ApiDecision, { deps }: ExternalAuthReplyParts): readonly DetailRow[] {
  if (verdict.type !== "deny" || !maySeeDetails(verdict.route, verdict.principal, deps.config)) return [];
  return [...detailRowsOf(deps, verdict.route.id), ...traceRowsOf(verdict.annotations?.trace ?? null, verdict.route)];
}

function userOf(verdict: ApiDecision): Readonly<{ name: string; email: string }> | null {
  const profile = verdict.type === "deny" ? verdict.principal?.profile : undefined;
  return profile === undefined ? null : { name: profile.name, email: profile.email };
}

function conditionOf(verdict: Exclude<ApiDecision, { type: "permit" }>): Condition {
  switch (verdict.type) {
    case "signin":
    case "deny":
      return conditionOfDenial(verdict);
    case "unavailable":
      return { type: "unknown", why: verdict.why };
    case "not_found":
      return { type: "no-route" };
    case "bad_request":
      return { type: "bad-request", status: 400 };
    case "abandoned":
      return { type: "internal" };
    default:
      return unreachable(verdict);
  }
}
