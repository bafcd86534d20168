/**
 * Identity settings of a route: the sign-in client, the accepted bearer tokens, and the policies that a console
 * attached.
 *
 * Pure. Refuses settings that could let one client's sessions pass as another's, and token issuers that are not
 * configured.
 */

import type { LocatedRoute } from "../check-routes.ts";
import type { BearerConfig, RouteConfig } from "../config.ts";
import type { ProblemReporter } from "../source/source-locations.ts";
import { readYaml } from "../source/yaml-document.ts";
import type { SubPolicyConfig } from "../values/identity-values.ts";
import type { RouteContext } from "./route-context.ts";

/** The route's own client; null: the route uses the global client. */
export function resolveIdpClient({ route, report, globals, failed }: RouteContext): RouteConfig["idpClient"] {
  const { idp_client_id: clientId, idp_client_secret: clientSecret } = route;
  if (clientId === undefined || clientId === "") {
    if (clientSecret !== undefined && !failed.has("idp_client_id"))
      report.error(
        ["idp_client_secret"],
        "is set without idp_client_id",
        "write the client's id too, or remove it",
        "key",
      );
    return null;
  }
  const speaks = globals.services.has("authenticate") || globals.services.has("databroker");
  if (clientId === globals.idp_client_id) {
    if (
      clientSecret !== undefined &&
      globals.idp_client_secret !== undefined &&
      clientSecret !== globals.idp_client_secret
    )
      report.error(
        ["idp_client_secret"],
        "differs from the global one for the same client",
        "keep the right one, at the top level of the file",
        "key",
      );
    return null;
  }
  if (clientSecret === undefined && speaks && !failed.has("idp_client_secret"))
    report.error(
      ["idp_client_secret"],
      "is missing",
      `write the secret that the identity provider issued for ${clientId}`,
      "key",
    );
  return { clientId, clientSecret: clientSecret?.trim() ?? "" };
}

export function resolveBearer({ route, report, globals, failed }: RouteContext): BearerConfig | null {
  const format = route.bearer_token_format ?? globals.bearer_token_format;
  if (route.identity_providers !== undefined && format !== "jwt" && !failed.has("bearer_token_format"))
    report.warn(
      ["identity_providers"],
      "has no effect without bearer_token_format: jwt",
      "write that too, or remove it",
      "key",
    );
  if (route.idp_access_token_allowed_audiences !== undefined && format !== "idp_access_token")
    report.warn(
      ["idp_access_token_allowed_audiences"],
      "has no effect without bearer_token_format: idp_access_token",
      "write that too, or remove it",
      "key",
    );
  const at = route.bearer_token_format === undefined ? [] : ["bearer_token_format"];
  switch (format) {
    case "default":
      return null;
    case "idp_identity_token":
      return { format };
    case "idp_access_token": {
      const audiences = route.idp_access_token_allowed_audiences ?? globals.idp_access_token_allowed_audiences ?? null;
      if (audiences === null)
        report.warn(
          at,
          "accepts every access token of the identity provider, including those issued for other applications",
          "list your audiences in idp_access_token_allowed_audiences, if its access tokens have audiences",
        );
      return { format, audiences };
    }
    case "jwt": {
      const known = globals.identity_providers.map(({ name }) => name);
      if (known.length === 0 && !failed.has("identity_providers"))
        report.error(at, "accepts tokens of issuers, and identity_providers names none", "add the issuers there");
      for (const [i, name] of (route.identity_providers ?? []).entries()) {
        if (!known.includes(name))
          report.error(
            ["identity_providers", i],
            `${name} is not an issuer in the global identity_providers`,
            known.length === 0 ? "add it there" : `write some of ${known.join(", ")}`,
          );
      }
      return { format, issuers: route.identity_providers ?? known };
    }
  }
}

/** Reads the rules from `source_ppl`, the source text of the policy; `rego` is not evaluated. */
export function resolveSubPolicies({ route, report }: RouteContext): readonly SubPolicyConfig[] {
  return route.sub_policies.map(({ sourcePpl, rego, ...sub }, i) => {
    const path = ["sub_policies", i, "source_ppl"];
    if (rego) report.warn(["sub_policies", i, "rego"], "is not evaluated: source_ppl decides", "remove it", "key");
    return {
      ...sub,
      policy:
        sourcePpl === null ? null : { ppl: readPpl(sourcePpl, { path, report }), location: report.locationOf(path) },
    };
  });
}

function readPpl(
  source: unknown,
  { path, report }: Readonly<{ path: readonly (string | number)[]; report: ProblemReporter }>,
): unknown {
  if (typeof source !== "string") return source;
  const { value, problems } = readYaml(source, "source_ppl");
  for (const { line, column, problem, remedy, severity } of problems) {
    if (severity === "error") report.error(path, `${problem} (line ${line}, column ${column} of this text)`, remedy);
  }
  return value;
}

/** Replaces each host under `depends_on` with the origin of the route that serves it. */
export function resolveDependsOn(
  placed: readonly LocatedRoute[],
  { report, cookieDomain }: Readonly<{ report: ProblemReporter; cookieDomain: string | null }>,
): readonly LocatedRoute[] {
  const patterns = placed.map(({ route }) => ({ route, fits: hostPattern(route.host) }));
  return placed.map((one) => {
    const { dependsOn, host } = one.route;
    if (dependsOn.length === 0) return one;
    if (cookieDomain !== null) {
      report.warn(
        [...one.path, "depends_on"],
        "has no effect with cookie_domain, which signs people in on all hosts at once",
        "remove it",
        "key",
      );
      return { ...one, route: { ...one.route, dependsOn: [] } };
    }
    const origins = dependsOn.flatMap((named, i): readonly string[] => {
      const [name = "", port] = splitPort(named);
      if (name === host) {
        report.warn([...one.path, "depends_on", i], "is the route's own host", "remove it");
        return [];
      }
      const found = patterns.find(
        ({ fits, route }) => fits(name) && (port === undefined || route.port === null || route.port === port),
      );
      if (found === undefined) {
        report.warn(
          [...one.path, "depends_on", i],
          `${named} is not the host of any route here, so sign-in does not pass through it`,
          "write a route for it, or correct the name; if another process serves it, people sign in there separately",
        );
        return [];
      }
      const { from, tunnel } = found.route;
      const scheme = from.protocol === "http:" ? "http" : "https";
      const at = port ?? (tunnel === null ? found.route.port : null);
      return [new URL(`${scheme}://${name}${at === null ? "" : `:${at}`}`).origin];
    });
    return { ...one, route: { ...one.route, dependsOn: [...new Set(origins)] } };
  });
}

function splitPort(host: string): readonly [string, number | undefined] {
  const found = /^(.*?)(?::(\d{1,5}))?$/.exec(host);
  return [(found?.[1] ?? "").toLowerCase(), found?.[2] === undefined ? undefined : Number(found[2])];
}

function hostPattern(host: string): (name: string) => boolean {
  if (!host.includes("*")) return (name) => name === host;
  const pattern = new RegExp(
    `^${host
      .split("*")
      .map((part) => RegExp.escape(part))
      .join(".*")}$`,
  );
  return (name) => pattern.test(name);
}

/**
 * Refuses two secrets for one client. Warns of two clients, or two choices of providers, on one host: they share one
 * session cookie.
 */
export function checkIdpClients(placed: readonly LocatedRoute[], report: ProblemReporter): void {
  const secrets = new Map<string, string>();
  const clients = new Map<string, string | null>();
  for (const { route, path } of placed) {
    const { idpClient, host } = route;
    if (idpClient !== null) {
      const known = secrets.get(idpClient.clientId);
      if (known !== undefined && known !== idpClient.clientSecret)
        report.error(
          [...path, "idp_client_secret"],
          `differs from that of an earlier route for ${idpClient.clientId}`,
          "write the same secret for the same client",
          "key",
        );
      secrets.set(idpClient.clientId, idpClient.clientSecret);
    }
    const chosen = route.signInProviders === null ? null : route.signInProviders.toSorted().join(" ");
    const client = idpClient?.clientId ?? (chosen === null ? null : `: ${chosen}`);
    const before = clients.get(host);
    const byName = [before, client].some((one) => one?.startsWith(": ") === true);
    if (before !== undefined && before !== client)
      report.warn(
        [...path, idpClient !== null ? "idp_client_id" : chosen !== null ? "sign_in_providers" : "from"],
        `${host} has routes with different ${byName ? "sign-in providers" : "clients"}, and a browser keeps one session per host: people are redirected to the identity provider each time they switch between these routes`,
        byName ? "give each choice of providers its own host" : "give each client its own host",
      );
    clients.set(host, client);
  }
}
