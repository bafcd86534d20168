/**
 * Sign-in settings: the authenticate URL and the session cookie.
 *
 * Pure. Refuses settings that would send credentials in clear or cause a redirect loop: plain HTTP outside loopback,
 * and a cookie domain that does not cover every host.
 */
import type { Config } from "../config.ts";
import type { Globals } from "../schema/schema.ts";
import type { Path, ProblemReporter } from "../source/source-locations.ts";
import { isLoopback } from "../values/network-values.ts";
import { hasOperators } from "../values/operator-entries.ts";

export type SignInPart = Readonly<{
  authenticateServiceUrl: URL | null;
  authenticateInternalServiceUrl: URL | null;
  cookie: Config["cookie"];
  /** False: no caller of this process has to sign in, so it has no provider. */
  signsIn: boolean;
}>;
/** A host that people visit, and its path in the document. */
export type VisitedHost = Readonly<{ host: string; path: Path }>;

export function resolveSignIn(
  globals: Globals,
  from: Readonly<{
    report: ProblemReporter;
    failed: ReadonlySet<string>;
    hosts: readonly VisitedHost[];
    /** False: no caller of this process has to sign in. */
    isNeeded: boolean;
  }>,
): SignInPart {
  const { report, failed } = from;
  const cookies = (hosts: readonly VisitedHost[]): Config["cookie"] => resolveCookie(globals, { report, hosts });
  const isUnnamed = globals.authenticate_service_url === undefined && !failed.has("authenticate_service_url");
  const hasProvider = globals.idp_provider !== undefined || globals.sign_in_providers.length > 0 || isAnyFailed(failed);
  if (isHosted(globals) || (isUnnamed && !hasProvider)) {
    if (from.isNeeded) refuseHosted(globals, from);
    else if (!globals.services.has("proxy")) warnOfNoRefresh(report);
    else if (globals.authenticate_service_url !== undefined)
      report.warn(["authenticate_service_url"], "has no effect: no route requires sign-in", "remove it");
    return { ...noSignIn, cookie: cookies(from.hosts) };
  }
  const authenticate = globals.authenticate_service_url ?? null;
  if (authenticate === null && !failed.has("authenticate_service_url")) {
    report.error(
      ["authenticate_service_url"],
      "is missing, and there is no hosted sign-in service",
      "write the https URL of a host that reaches this authenticate service, such as https://authenticate.example.com",
      "key",
    );
  }
  if (authenticate !== null) requireEncryption(authenticate, { report, path: ["authenticate_service_url"] });
  if (globals.signout_redirect_url?.protocol === "http:" && !isLoopback(globals.signout_redirect_url.hostname)) {
    report.warn(["signout_redirect_url"], "is plain HTTP", "use https");
  }
  const hosts =
    authenticate === null
      ? from.hosts
      : [...from.hosts, { host: authenticate.hostname, path: ["authenticate_service_url"] }];
  return {
    authenticateServiceUrl: authenticate,
    authenticateInternalServiceUrl: resolveInternal(globals, report),
    cookie: cookies(hosts),
    signsIn: true,
  };
}

function isAnyFailed(failed: ReadonlySet<string>): boolean {
  return failed.has("idp_provider") || failed.has("sign_in_providers");
}

/** Placeholder for the sign-in host when no caller has to sign in; `.invalid` never resolves (RFC 2606). */
const nowhere = new URL("https://sign-in.invalid");
const noSignIn = { authenticateServiceUrl: nowhere, authenticateInternalServiceUrl: null, signsIn: false } as const;

/** The host that needs a certificate for sign-in; null: there is no sign-in, or it uses plain HTTP. */
export function signInHostOf(url: URL): string | null {
  return url.protocol === "https:" && url.hostname !== nowhere.hostname ? url.hostname : null;
}

const hostedDomains: ReadonlySet<string> = new Set(["authenticate.pomerium.app", "authenticate.staging.pomerium.app"]);

/** Whether sign-in would use Pomerium's hosted service, which is also Pomerium's default. */
function isHosted({ authenticate_service_url: url, idp_provider: provider }: Globals): boolean {
  if (url !== undefined) return hostedDomains.has(url.hostname);
  return provider === "hosted";
}

/** Reports one error that lists everything the operator must create to replace the hosted service. */
function refuseHosted(
  { authenticate_service_url: url, idp_provider: provider }: Globals,
  { report, hosts }: Readonly<{ report: ProblemReporter; hosts: readonly VisitedHost[] }>,
): void {
  const host = `authenticate.${parentDomain(hosts) ?? "example.com"}`;
  const remedy = `create an OpenID Connect client at your identity provider with the callback URL https://${host}/oauth2/callback, point ${host} at this process, and write authenticate_service_url: https://${host}, idp_provider: oidc, idp_provider_url, idp_client_id and idp_client_secret`;
  const own = "Pomerium's own sign-in service, which signs people in for Pomerium alone";
  if (url !== undefined) report.error(["authenticate_service_url"], `${url.hostname} is ${own}`, remedy);
  else if (provider === "hosted") report.error(["idp_provider"], `hosted is ${own}`, remedy);
  else report.error(["authenticate_service_url"], "is missing, and there is no hosted sign-in service", remedy, "key");
}

export function warnOfNoRefresh(report: ProblemReporter): void {
  report.warn(
    ["idp_provider"],
    "is missing, so sessions are not refreshed with the identity provider",
    "write the same idp_ keys as for the authenticate service",
    "key",
  );
}

/** The parent domain of the first route's host; undefined if it has fewer than two labels. */
function parentDomain(hosts: readonly VisitedHost[]): string | undefined {
  const parent = hosts[0]?.host.split(".").slice(1).join(".") ?? "";
  return /^[a-z0-9-]+(?:\.[a-z0-9-]+)+$/.test(parent) ? parent : undefined;
}

/** A route on the sign-in host shares its origin, so its pages could call the operator API as sign-in's pages do. */
export function checkSignInHost(
  routes: readonly VisitedHost[],
  { globals, report }: Readonly<{ globals: Globals; report: ProblemReporter }>,
): void {
  const host = globals.authenticate_service_url?.hostname;
  const runsHere = globals.services.has("authenticate") || globals.services.has("proxy");
  for (const { path } of routes.filter((route) => runsHere && route.host === host)) {
    if (hasOperators(globals))
      report.error(
        path,
        "is the sign-in host, so scripts on this route's pages could use the operator API as an operator",
        "give the route a host of its own, or remove administrators, operators and viewers",
      );
    else
      report.warn(
        path,
        "is the sign-in host, which reserves /, /robots.txt, /oauth2/callback, /.pomerium/ and /.well-known/pomerium/",
        "give the route a host of its own",
      );
  }
}

/** Has an effect only if the authenticate service runs in another process. */
function resolveInternal(globals: Globals, report: ProblemReporter): URL | null {
  const url = globals.authenticate_internal_service_url ?? null;
  const path = ["authenticate_internal_service_url"];
  if (url === null) return null;
  if (globals.services.has("authenticate")) {
    report.warn(path, "has no effect: the authenticate service runs in this process", "remove it", "key");
    return null;
  }
  if (url.protocol === "http:" && !isLoopback(url.hostname)) {
    if (globals.grpc_insecure)
      report.warn(path, "is plain HTTP between machines", "make sure that something else encrypts this network");
    else
      report.error(
        path,
        "is plain HTTP between machines, and sign-in crosses it",
        "use https, or grpc_insecure: true where something else encrypts the network",
      );
  }
  return url;
}

/** Refuses plain HTTP outside loopback. */
export function requireEncryption(url: URL, where: Readonly<{ report: ProblemReporter; path: Path }>): void {
  if (url.protocol === "http:" && !isLoopback(url.hostname)) {
    where.report.error(where.path, "is plain HTTP, which is allowed only for loopback and *.localhost", "use https");
  }
}

function resolveCookie(
  globals: Globals,
  from: Readonly<{ report: ProblemReporter; hosts: readonly VisitedHost[] }>,
): Config["cookie"] {
  const { report } = from;
  const domain = globals.cookie_domain.trim().replace(/^\./, "").toLowerCase();
  if (domain !== "" && !/^(?=.{1,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}$/.test(domain)) {
    report.error(
      ["cookie_domain"],
      "is not a domain that browsers accept",
      "write one such as example.com, or remove it",
    );
  } else if (domain !== "") {
    const outside = from.hosts.filter(({ host }) => host !== domain && !host.endsWith(`.${domain}`));
    for (const { host, path } of outside.slice(0, 20)) {
      report.error(
        path,
        `the cookie of ${domain} (cookie_domain) would never reach ${host}, so sign-in would loop`,
        "use a host below cookie_domain, or remove cookie_domain",
      );
    }
  }
  if (domain !== "" && globals.cookie_name.startsWith("__Host-")) {
    report.error(
      ["cookie_name"],
      "begins with __Host-, which browsers refuse with cookie_domain",
      "use another name, or remove cookie_domain",
    );
  }
  if (!globals.cookie_http_only) {
    report.warn(["cookie_http_only"], "lets any script on a page read the session", "remove it");
  }
  if (globals.cookie_same_site === "none") {
    report.warn(
      ["cookie_same_site"],
      "lets every site make requests with the visitor's session",
      "write lax, unless upstreams must work inside pages of other sites",
    );
  }
  return {
    name: globals.cookie_name,
    domain: domain === "" ? null : domain,
    httpOnly: globals.cookie_http_only,
    expireMs: globals.cookie_expire,
    sameSite: globals.cookie_same_site,
  };
}
