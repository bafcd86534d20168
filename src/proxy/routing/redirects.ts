/** Answers that a route makes by itself, after policy: redirects and fixed responses. Pure. */
import type { RouteConfig } from "../../config/index.ts";
import { compileRewrite, encodedPath, type Rewrite } from "../headers/rewrite.ts";
import { defaultPort } from "./route-table.ts";

type Target = Readonly<{
  scheme: "http" | "https";
  hostname: string;
  port: number | null;
  rawPath: string;
  search: string;
}>;

export type RouteAnswer = Readonly<{ status: number; headers: Readonly<Record<string, string>>; body: string }>;

/** Undefined: the route has an upstream. */
export function compileRouteAnswer(route: RouteConfig): ((target: Target) => RouteAnswer) | undefined {
  const { response, redirect } = route;
  if (response !== null) {
    const headers = { "content-type": "text/plain; charset=utf-8" };
    return () => ({ status: response.status, headers, body: response.body });
  }
  if (redirect === null) return undefined;
  const rewrite: Rewrite = compileRewrite({ ...route, prefixRewrite: redirect.prefixRewrite, regexRewrite: null });
  const newPath = redirect.pathRedirect === null ? null : encodedPath(redirect.pathRedirect);
  return (target) => {
    const scheme =
      redirect.httpsRedirect === true ? "https" : (redirect.schemeRedirect?.toLowerCase() ?? target.scheme);
    // A port that belonged to the old scheme or host says nothing about the new one.
    const moved = scheme !== target.scheme || redirect.hostRedirect !== null;
    const port = redirect.portRedirect ?? (moved ? null : (target.port ?? defaultPort(route)));
    const host = redirect.hostRedirect ?? target.hostname;
    const authority = port === null || port === (scheme === "http" ? 80 : 443) ? host : `${host}:${port}`;
    const path = newPath ?? rewrite(target.rawPath) ?? "/";
    const location = `${scheme}://${authority}${path}${redirect.stripQuery ? "" : target.search}`;
    return { status: redirect.responseCode, headers: { location }, body: "" };
  };
}
