/**
 * Configuration parser: turns the text of `cardea.yaml`, the environment and overrides into a checked `Config`.
 *
 * - It returns either the configuration or every problem that it finds, never only the first.
 * - It never throws because of what the text contains.
 * - Pure: other files and generated secrets come through functions that the caller passes.
 *
 * Steps: parse YAML with source locations; apply the environment, then the command line; check each key against its
 * schema; check the rules between keys (resolve/, check-routes.ts); compute the hash.
 */
import * as z from "zod";
import { parseNodeId } from "../events/index.ts";
import { resolveBranding } from "./branding.ts";
import { checkRoutes, type LocatedRoute } from "./check-routes.ts";
import type { Config } from "./config.ts";
import { hashConfig, type Unhashed } from "./hash.ts";
import { resolveOperators } from "./operators.ts";
import { policyPartsOf } from "./policy-parts.ts";
import { resolveAutocert } from "./resolve/autocert.ts";
import { resolveBrokers } from "./resolve/brokers.ts";
import { checkClientCertificates, resolveClientCertificates } from "./resolve/client-certificates.ts";
import { resolveDecisionApi } from "./resolve/decision-api.ts";
import { checkIdpClients, resolveDependsOn } from "./resolve/identity.ts";
import { checkIdleLifetimes } from "./resolve/idle-lifetimes.ts";
import { KeyMaterial, type ReadFile } from "./resolve/key-material.ts";
import { resolveObserving } from "./resolve/observing.ts";
import { type ProcessPart, resolveListener, resolveProcess } from "./resolve/process.ts";
import { resolveRoute } from "./resolve/route.ts";
import { type GenerateSecrets, resolveSecrets } from "./resolve/secrets.ts";
import { checkSignInHost, resolveSignIn, signInHostOf, type VisitedHost } from "./resolve/sign-in.ts";
import {
  checkRouteProviders,
  checkScimProviders,
  resolveDefaultProviders,
  resolveIdp,
  resolveSignInProviders,
  signInSecretPaths,
} from "./resolve/sign-in-providers.ts";
import { resolveSignalTransmitters } from "./resolve/signals.ts";
import { resolveTimeouts } from "./resolve/timeouts.ts";
import { configFields, keyMeta } from "./schema/keys.ts";
import { type Globals, globalKeys, globalShape, type Route, routeShape } from "./schema/schema.ts";
import { settingsOf } from "./settings.ts";
import { requiresSession } from "./sign-in-needs.ts";
import {
  applyEnvironment,
  applyOverrides,
  type ConfigSource,
  type Environment,
  environmentNames,
  type Overrides,
} from "./source/overrides.ts";
import { type MisplacedKeyHint, readSection, type Section } from "./source/read-section.ts";
import { locationOf, type Path, type PolicySource, type Problem, ProblemReporter } from "./source/source-locations.ts";
import { readYaml } from "./source/yaml-document.ts";
import { otherLogLevels } from "./values/log-fields.ts";
import { hasOperators } from "./values/operator-entries.ts";
import { formatValue, isPlainObject, type Shape, sectionShape } from "./values/value-type.ts";
import { checkWindowLimits } from "./window-limits.ts";

export type ParseOptions = Readonly<{
  env: Environment;
  readFile: ReadFile;
  /** Wall clock (ms) for checking the validity dates of certificates; absent: dates are not checked. */
  now?: number;
  /** Permission bits of the configuration file; absent: unknown, and not checked. */
  mode?: number;
  overrides?: Overrides;
  /** Generates the secrets that the file omits; absent: an omitted secret is an error. */
  generate?: GenerateSecrets;
  /**
   * Reads only the parts that decide who may use a route (policy-parts.ts). The result can evaluate policies but cannot
   * run a process.
   */
  only?: "policies";
}>;

export type ParseResult = Readonly<
  | { ok: true; config: Config; warnings: readonly Problem[] }
  /** `policies` are the policies found in the text, so the caller can report their problems in the same run. */
  | { ok: false; problems: readonly Problem[]; policies: readonly WrittenPolicy[] }
>;

/** A policy and its path in the document: `["routes", 2, "policy"]`. */
export type WrittenPolicy = Readonly<{ path: Path; policy: PolicySource }>;

const rootShape = { ...globalShape, routes: z.unknown().optional(), policy: z.unknown().optional() };

export function parseConfig(text: string, file: string, options: ParseOptions): ParseResult {
  const problems: Problem[] = [];
  const source = readSource(text, { file, options, problems });
  if (source === null) return { ok: false, problems: inOrder(problems), policies: [] };
  const report = new ProblemReporter(source.locations, { prefix: [], into: problems });
  const config = readConfig(source, { file, options, report });
  if (config === null || report.hasErrors) {
    return { ok: false, problems: inOrder(problems), policies: policiesIn(source) };
  }
  return { ok: true, config: { ...config, hash: hashConfig(config) }, warnings: inOrder(problems) };
}

/** The document with the environment and overrides applied; null when the text is not a configuration document. */
function readSource(
  text: string,
  from: Readonly<{ file: string; options: ParseOptions; problems: Problem[] }>,
): ConfigSource | null {
  const document = readYaml(text, from.file);
  from.problems.push(...document.problems);
  if (!document.readable) return null;
  const value = document.value ?? {};
  if (!isPlainObject(value)) {
    const start = { file: from.file, line: 1, column: 1 };
    from.problems.push({
      ...start,
      key: "(document)",
      problem: `${formatValue(value)} is not a configuration`,
      remedy: "write key: value, one per line",
      severity: "error",
    });
    return null;
  }
  const names = environmentNames(globalShape);
  const withEnvironment = applyEnvironment(
    { value, locations: document.locations },
    { env: from.options.env, names, problems: from.problems },
  );
  const whole = applyOverrides(withEnvironment, from.options.overrides ?? {});
  return from.options.only === "policies" ? policyPartsOf(whole) : whole;
}

type ReadContext = Readonly<{ file: string; options: ParseOptions; report: ProblemReporter }>;

function readConfig(source: ConfigSource, given: ReadContext): Unhashed | null {
  const { report, options } = given;
  const section = readSection(rootShape, source.value, { report, misplacedKeyHint: rootKeyHint(source.value) });
  const globals = section.values as unknown as Globals; // by the schema, key for key
  const { failed } = section;
  const material = new KeyMaterial(report, options.readFile, options.now);
  warnOfReadableFile(section, { ...given, mode: options.mode ?? 0 });
  const secrets = resolveSecrets(globals, { report, material, failed, generate: options.generate });
  const process = resolveProcess(globals, { report, material, failed });
  const brokers = resolveBrokers(globals, {
    report,
    material,
    failed,
    certificates: process.certificates,
    certificateAuthority: process.certificateAuthority,
  });
  const downstreamMtls = resolveClientCertificates(globals, { report, material });
  const written = readRoutes(source, { report, material, globals, process, downstreamMtls });
  const cookieDomain = globals.cookie_domain.trim() === "" ? null : globals.cookie_domain;
  const placed = resolveDependsOn(written, { report, cookieDomain });
  checkIdpClients(placed, report);
  if (brokers.audit.mode === "strict" || placed.some(({ route }) => route.audit === "strict"))
    checkStrictSinks(brokers.audit, report);
  checkIdleLifetimes(globals, { placed, report });
  checkClientCertificates(section.present, { report, routes: placed.map(({ route }) => route) });
  const hosts: VisitedHost[] = placed.map(({ route, path }) => ({ host: route.host, path: [...path, "from"] }));
  const roles = resolveOperators(globals, { report, routes: placed.map(({ route }) => route) });
  warnOfLogLevel(source, report);
  checkSignInHost(
    hosts.filter((_, i) => placed[i]?.route.tunnel === null),
    { globals, report },
  );
  const isNeeded = needsSignIn(globals, placed);
  const signIn = resolveSignIn(globals, { report, failed, hosts, isNeeded });
  const { idpClientSecret } = secrets;
  const idp = signIn.signsIn ? resolveIdp(globals, { report, failed, idpClientSecret, isNeeded }) : null;
  const providers = signIn.signsIn ? resolveSignInProviders(globals, { report, material, idp }) : [];
  const defaults = resolveDefaultProviders(globals, { report, providers });
  if (signIn.signsIn) checkScimProviders(globals, { report, providers });
  if (signIn.signsIn && !report.hasErrors)
    checkRouteProviders(placed, { report, providers, defaults, requiresSession });
  const listening = [
    ...brokers.broker.urls,
    ...(brokers.broker.advertisedUrl === null ? [] : [brokers.broker.advertisedUrl]),
  ];
  const routes = checkRoutes(
    placed,
    {
      address: process.address,
      certificates: process.certificates,
      autocert: globals.autocert,
      brokers: [
        ...(brokers.broker.listen === null ? [] : [brokers.broker.listen]),
        ...listening.map((url) => ({
          host: url.hostname,
          port: Number(url.port) || (url.protocol === "https:" ? 443 : 80),
        })),
      ],
    },
    report,
  );
  checkWindowLimits({ broker: brokers.broker, routes }, report);
  const observing = resolveObserving(globals, { report, material, failed });
  const nodeName = globals.node_name === undefined ? null : parseNodeId(globals.node_name);
  if (signIn.authenticateServiceUrl === null || secrets.sharedSecret === null || brokers.store === null) return null;
  return {
    ...configFields(globalKeys, globals),
    file: given.file,
    address: process.address,
    ...resolveListener(globals, { report }),
    downstreamMtls,
    autocert: resolveAutocert(globals, {
      report,
      material,
      routes,
      certificates: process.certificates,
      signInHost: signInHostOf(signIn.authenticateServiceUrl),
      present: section.present,
    }),
    certificates: process.certificates,
    certificateAuthority: process.certificateAuthority,
    nodeName,
    authenticateServiceUrl: signIn.authenticateServiceUrl,
    authenticateInternalServiceUrl: signIn.authenticateInternalServiceUrl,
    sharedSecret: secrets.sharedSecret,
    sharedSecretPrevious: secrets.sharedSecretPrevious,
    cookieSecret: secrets.cookieSecret ?? new Uint8Array(),
    cookieSecretPrevious: secrets.cookieSecretPrevious,
    signingKey: secrets.signingKey,
    signingKeyPrevious: secrets.signingKeyPrevious,
    cookie: signIn.cookie,
    idp,
    signInProviders: providers,
    defaultSignInProviders: defaults,
    tokenIssuers: globals.identity_providers,
    signalTransmitters: resolveSignalTransmitters(globals.signal_transmitters, { report, material }),
    ...roles,
    settings: settingsOf(source, given.file),
    stepUp: configFields(globalKeys.step_up.shape, globals.step_up),
    refreshEveryMs: globals.refresh_interval,
    identityHeadersBytesMax: globals.max_identity_headers_bytes,
    setResponseHeaders: process.responseHeaders,
    timeouts: resolveTimeouts(globals, report),
    store: brokers.store,
    nats: brokers.nats,
    broker: brokers.broker,
    massChange: configFields(globalKeys.mass_change.shape, globals.mass_change),
    audit: brokers.audit,
    ...observing,
    hotReload: globals.runtime_flags["config_hot_reload"] ?? true,
    routesPortal: globals.runtime_flags["routes_portal"] ?? true,
    jwtEndpoint: globals.runtime_flags["pomerium_jwt_endpoint"] ?? false,
    signOutToRoutes: globals.runtime_flags["allow_any_sign_out_redirect_uri"] ?? false,
    decisionApi: resolveDecisionApi(globals, { report, material }),
    branding: resolveBranding(globals, report),
    routes,
  };
}

/** Strict records are never dropped, so they need a sink that takes them off the disk. */
function checkStrictSinks(audit: Unhashed["audit"], report: ProblemReporter): void {
  const { files, nats, stdout, postgres, webhooks, otlp, s3 } = audit;
  if (files.length + webhooks.length + otlp.length + s3.length > 0 || nats || stdout !== null || postgres !== null)
    return;
  const wrong = "is empty, and a route has strict audit: its records would fill the spool";
  report.error(["audit", "sinks"], wrong, "name a sink, or write best_effort");
}

/** A broker-only process needs no sign-in, and neither does a proxy whose routes all require no session. */
function needsSignIn(globals: Globals, placed: readonly LocatedRoute[]): boolean {
  const { services } = globals;
  if (!services.has("proxy")) return services.has("authenticate");
  if (hasOperators(globals) || servesDecisions(globals)) return true;
  return placed.length === 0 || placed.some(({ route }) => requiresSession(route));
}

function servesDecisions({ decision_api: { address, grpc_address: grpc } }: Globals): boolean {
  return address !== undefined || grpc !== undefined;
}

/** Reads `policy` (the older name) first, then `routes`. */
function readRoutes(
  source: ConfigSource,
  from: Readonly<{
    report: ProblemReporter;
    material: KeyMaterial;
    globals: Globals;
    process: ProcessPart;
    downstreamMtls: Config["downstreamMtls"];
  }>,
): readonly LocatedRoute[] {
  const placed: LocatedRoute[] = [];
  for (const list of ["policy", "routes"] as const) {
    const written = source.value[list];
    if (written === undefined || written === null) continue;
    if (!Array.isArray(written)) {
      from.report.error(
        [list],
        `${formatValue(written)} is not a list of routes`,
        "write - from: URL and so on, one route after each dash",
      );
      continue;
    }
    for (const [i, raw] of (written as readonly unknown[]).entries()) {
      const path: Path = [list, i];
      const report = from.report.under(...path);
      if (!isPlainObject(raw)) {
        report.error([], `${formatValue(raw)} is not a route`, "write from, to and policy");
        continue;
      }
      const { values, present, failed } = readSection(routeShape, withoutOldNames(raw, report), {
        report,
        misplacedKeyHint: routeKeyHint(source.value),
      });
      const route = resolveRoute({
        route: values as unknown as Route, // by the schema, key for key
        present,
        failed,
        report,
        material: from.material.under(...path),
        globals: from.globals,
        matchAnyIncomingPort: from.process.matchAnyIncomingPort,
        responseHeaders: from.process.responseHeaders,
        downstreamMtls: from.downstreamMtls,
        policy: policySource(values["policy"], { source, path: [...path, "policy"] }),
        shadowPolicy: policySource(values["shadow_policy"], { source, path: [...path, "shadow_policy"] }),
      });
      if (route !== null) placed.push({ route, path, hasOwnId: present.has("id") });
    }
  }
  if (placed.length === 0 && from.globals.services.has("proxy") && !from.report.hasErrors) {
    from.report.warn(["routes"], "is missing, so the proxy serves nothing", "write a route", "key");
  }
  return placed;
}

/** Envoy's names of route keys, each with Pomerium's name for the same key. Pomerium accepts both. */
const oldRouteNames: Readonly<Record<string, string>> = { lb_policy: "load_balancing_policy" };

function withoutOldNames(
  route: Readonly<Record<string, unknown>>,
  report: ProblemReporter,
): Readonly<Record<string, unknown>> {
  const entries = Object.entries(route).flatMap(([key, value]): (readonly [string, unknown])[] => {
    const name = Object.hasOwn(oldRouteNames, key) ? oldRouteNames[key] : undefined;
    if (name === undefined) return [[key, value]];
    const isIdle = Object.hasOwn(route, name);
    report.warn(
      [key],
      isIdle ? `has no effect with ${name}` : `is Envoy's name for ${name}, and is read as that`,
      isIdle ? "remove it" : `write ${name}`,
      "key",
    );
    return isIdle ? [] : [[name, value]];
  });
  return Object.fromEntries(entries);
}

function warnOfLogLevel(source: ConfigSource, report: ProblemReporter): void {
  const written = String(source.value["log_level"] ?? "").toLowerCase();
  const [, level] = Object.entries(otherLogLevels).find(([name]) => name === written) ?? [];
  if (level !== undefined)
    report.warn(["log_level"], `${written} is not a level here, and is read as ${level}`, `write ${level}`);
}

function policiesIn(source: ConfigSource): readonly WrittenPolicy[] {
  return (["policy", "routes"] as const).flatMap((list) => {
    const written = source.value[list];
    return (Array.isArray(written) ? (written as readonly unknown[]) : []).flatMap((raw, i) =>
      (["policy", "shadow_policy"] as const).flatMap((key) => {
        const path: Path = [list, i, key];
        const ppl = isPlainObject(raw) ? raw[key] : undefined;
        const policy = isPlainObject(ppl) || Array.isArray(ppl) ? policySource(ppl, { source, path }) : null;
        return policy === null ? [] : [{ path, policy }];
      }),
    );
  });
}

function policySource(ppl: unknown, from: Readonly<{ source: ConfigSource; path: Path }>): PolicySource | null {
  if (ppl === undefined) return null;
  let locations = from.source.locations;
  for (const step of from.path) locations = locations.inner.get(step) ?? locations;
  return { ppl, location: locationOf(from.source.locations, from.path), locations };
}

function rootKeyHint(document: ConfigSource["value"]): MisplacedKeyHint {
  return (key) => {
    if (Object.hasOwn(routeShape, key)) return "it belongs inside a route, under routes";
    const found = Object.entries(globalShape).find(([, schema]) => Object.hasOwn(sectionShape(schema) ?? {}, key));
    if (found === undefined) return undefined;
    const [section] = found;
    const written = document[section];
    return isPlainObject(written) && Object.hasOwn(written, key)
      ? `remove it: ${section}.${key} is already set`
      : `it belongs inside ${section}`;
  };
}

function routeKeyHint(document: ConfigSource["value"]): MisplacedKeyHint {
  return (key) => {
    if (!Object.hasOwn(globalShape, key)) return undefined;
    return Object.hasOwn(document, key)
      ? `remove it: ${key} is already set at the top level`
      : "it belongs at the top level of the file";
  };
}

/** Warns once, about the first secret written in a configuration file that every user of the machine can read. */
function warnOfReadableFile(section: Section, given: ReadContext & Readonly<{ mode: number }>): void {
  if ((given.mode & 0o004) === 0) return;
  const written = secretKeysIn(globalKeys).filter((key) => section.present.has(key.join(".")));
  const ofProviders = signInSecretPaths((section.values as unknown as Globals).sign_in_providers);
  const [path] = [...written, ...ofProviders].filter((key) => given.report.locationOf(key).file === given.file);
  if (path === undefined) return;
  const fileKey = `${path.at(-1)}_file`;
  const chmod = `chmod 600 ${given.file}`;
  const hasFileKey = ofProviders.includes(path) || hasKey(globalShape, [...path.slice(0, -1), fileKey]);
  given.report.warn(
    path,
    `every user of this machine can read ${given.file}, and this secret in it`,
    hasFileKey ? `${chmod}, or use ${fileKey}` : chmod,
    "key",
  );
}

function hasKey(shape: Shape, [key = "", ...rest]: readonly string[]): boolean {
  const schema = shape[key];
  if (schema === undefined || rest.length === 0) return schema !== undefined;
  const inner = sectionShape(schema);
  return inner !== undefined && hasKey(inner, rest);
}

/** Paths of the keys whose value is a secret. */
function secretKeysIn(shape: Shape): readonly (readonly string[])[] {
  return Object.entries(shape).flatMap(([key, schema]) => {
    const inner = sectionShape(schema);
    if (inner !== undefined) return secretKeysIn(inner).map((path) => [key, ...path]);
    return keyMeta(schema).isSecret ? [[key]] : [];
  });
}

/** Sorts problems by source, line and column. Problems at the same location keep their order. */
function inOrder(problems: readonly Problem[]): readonly Problem[] {
  const sources = [...new Set(problems.map(({ file }) => file))];
  return problems.toSorted(
    (a, b) => sources.indexOf(a.file) - sources.indexOf(b.file) || a.line - b.line || a.column - b.column,
  );
}
