/**
 * Policy target: a bare policy document, or the routes of a configuration, compiled for `cardea policy …`; else its
 * problems.
 *
 * A bare document acts as one route that matches every URL. Its data sets come from each case.
 */

import { hash } from "node:crypto";
import { readFileSync } from "node:fs";
import { AnyRecords, compilePolicies, compilePolicy, type Policies, type Records } from "../../auth/index.ts";
import { type Config, canonicalJson, type Problem, type RouteConfig, readYaml, suggest } from "../../config/index.ts";
import {
  type CertificateChecker,
  certificateCheckerFor,
  compileRouteTable,
  createCertificateChecker,
  type RouteTable,
} from "../../proxy/index.ts";
import { readConfiguration } from "../build/load.ts";
import { generatedSecrets } from "../build/local-config.ts";
import { readRecords } from "../build/record-parts.ts";
import type { Parsed } from "../terminal/arguments.ts";
import { type Terminal, UsageError } from "../terminal/command.ts";

export type PolicyTarget = Readonly<{
  /** With `--shadow`, the `shadow_policy` of each route that has one. */
  policies: Policies;
  /** The shadow policies of routes that have one. */
  shadows: Policies;
  /** Null: a bare document. */
  config: Config | null;
  routes: RouteTable | null;
  /** The route to evaluate whatever the URL; null: the URL selects it. `unknown`: the named route does not exist. */
  route: Readonly<{ id: string; route: RouteConfig | null }> | "unknown" | null;
  /** Evaluates the client certificate of a case. */
  certificates: CertificateChecker;
  /** Identifies the policies in the facts read. */
  configuration: string;
  records: Records;
}>;

export type OpenPolicyResult = Readonly<
  { ok: true; target: PolicyTarget; warnings: readonly Problem[] } | { ok: false; problems: readonly Problem[] }
>;

/** Reads the data sources of a configuration once. An unreadable one is reported; answers that depend on it are 503. */
export async function fillRecords({ config, records }: PolicyTarget, { err }: Pick<Terminal, "err">): Promise<void> {
  if (config === null) return;
  for (const [type, problem] of await readRecords(config, records)) err(`data source ${type}: ${problem}\n`);
}

export const documentOptions = {
  policy: { type: "string" },
  config: { type: "string", short: "c" },
  route: { type: "string" },
  shadow: { type: "boolean" },
  "client-ca": { type: "string" },
} as const;

/** @throws UsageError */
export function openPolicy(parsed: Parsed, terminal: Pick<Terminal, "env" | "err">): OpenPolicyResult {
  const [document, config, route] = [parsed.text("policy"), parsed.text("config"), parsed.text("route")];
  if (document !== undefined && config !== undefined) throw new UsageError("name --policy or -c, not both");
  if (document === undefined && config === undefined)
    throw new UsageError("name a policy with --policy, or a configuration with -c");
  if (document !== undefined && route !== undefined)
    throw new UsageError("--route needs -c: a bare policy has no routes");
  if (document !== undefined && parsed.flag("shadow"))
    throw new UsageError("--shadow needs -c: a bare policy has no shadow policy");
  const pem = parsed.text("client-ca");
  if (pem !== undefined && document === undefined)
    throw new UsageError("--client-ca needs --policy: a configuration names its own");
  return document !== undefined
    ? openDocument(document, certificateCheckerFor(pem === undefined ? null : readPem(pem)))
    : openConfiguration(config ?? "", { route, terminal, shadow: parsed.flag("shadow") });
}

function readPem(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new UsageError(`--client-ca ${path} cannot be read`, { cause });
  }
}

/** The route id of a bare document. */
export const documentId = "policy";

function openDocument(file: string, certificates: CertificateChecker): OpenPolicyResult {
  const place = { file, line: 0, column: 0 };
  const refuse = (problem: string, remedy: string): OpenPolicyResult => ({
    ok: false,
    problems: [{ ...place, key: "(document)", problem, remedy, severity: "error" }],
  });
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch {
    return refuse("cannot be read", "name a file that contains a policy");
  }
  return openText(text, { file, route: null, certificates });
}

/** A policy by its text. With a route, it is evaluated as the route's, beside the shorthands of the route. */
export function openText(
  text: string,
  {
    file,
    route,
    certificates,
  }: Readonly<{ file: string; route: RouteConfig | null; certificates: CertificateChecker }>,
): OpenPolicyResult {
  const { readable, value, locations: places, problems } = readYaml(text, file);
  if (!readable || problems.some(({ severity }) => severity === "error")) return { ok: false, problems };
  const records = new AnyRecords();
  const written = { ppl: value ?? null, location: places.value, locations: places };
  const compiled =
    route === null
      ? compilePolicy(written, documentId, { records })
      : compilePolicies([{ ...route, policy: written, shadowPolicy: null }], { records });
  if (!compiled.ok) return { ok: false, problems: [...problems, ...compiled.problems] };
  const policies: Policies = "policy" in compiled ? new Map([[documentId, compiled.policy]]) : compiled.policies;
  return {
    ok: true,
    warnings: [...problems, ...compiled.warnings],
    target: {
      policies,
      shadows: new Map(),
      config: null,
      routes: null,
      route: { id: route?.id ?? documentId, route },
      certificates,
      configuration: hash("sha256", canonicalJson(value ?? null), "hex"),
      records,
    },
  };
}

function openConfiguration(
  file: string,
  {
    route,
    terminal,
    shadow,
  }: Readonly<{ route: string | undefined; terminal: Pick<Terminal, "env" | "err">; shadow: boolean }>,
): OpenPolicyResult {
  const { loaded, problems } = readPolicyParts(file, terminal);
  if (loaded === undefined) return { ok: false, problems };
  const { config, policies, shadows, records } = loaded;
  const named = route === undefined ? null : (findRoute(config, route) ?? "unknown");
  if (named === "unknown") {
    const meant = suggest(
      route ?? "",
      config.routes.flatMap(({ id, name }) => [id, name]),
    );
    terminal.err(
      `no route is called ${JSON.stringify(route)}${meant === undefined ? "" : `; did you mean ${JSON.stringify(meant)}?`}\n`,
    );
  }
  return {
    ok: true,
    warnings: problems,
    target: {
      policies: shadow ? new Map([...policies, ...shadows]) : policies,
      shadows,
      config,
      routes: compileRouteTable(config.routes),
      route: named === "unknown" || named === null ? named : { id: named.id, route: named },
      certificates: createCertificateChecker(config),
      configuration: config.hash,
      records,
    },
  };
}

/**
 * The whole configuration if it is valid, so that answers name the configuration that nodes run. Otherwise only its
 * policy parts, which need no certificates, secrets or provider.
 */
function readPolicyParts(file: string, terminal: Pick<Terminal, "env" | "err">): ReturnType<typeof readConfiguration> {
  const options = { env: terminal.env, missingSecrets: "forget", generate: generatedSecrets } as const;
  const whole = readConfiguration(file, options);
  if (whole.loaded !== undefined) return whole;
  const parts = readConfiguration(file, { ...options, only: "policies" });
  if (parts.loaded !== undefined)
    terminal.err(`${file}: the configuration is invalid; evaluating its policies only; see cardea check -c ${file}\n`);
  return parts;
}

const generatedIdPattern = /^[0-9a-f]{32}$/;

/**
 * A route as an operator names it: the id from the configuration, else its name; a generated id only without either.
 */
export function routeLabel(config: Config | null, id: string): string {
  const name = generatedIdPattern.test(id) ? config?.routes.find((route) => route.id === id)?.name : undefined;
  return name ?? id;
}

/** Finds a route by id, else by name or `from`. */
function findRoute({ routes }: Config, name: string): RouteConfig | undefined {
  return (
    routes.find(({ id }) => id === name) ??
    routes.find(
      (route) => route.name === name || route.from.href === name || route.from.origin === name || route.host === name,
    )
  );
}
