/**
 * Policy compiler: turns the shorthands and the policy of every route into one closure per route.
 *
 * - All or nothing: one error refuses the whole configuration, so no node runs half of a new policy. Every problem is
 *   reported.
 * - It never throws because of what a source contains.
 * - A route without rules permits no request.
 */
import {
  formatPath,
  locationIn,
  type PolicySource,
  type Problem,
  type RouteConfig,
  type SourceLocation,
  type WrittenPolicy,
} from "../../config/index.ts";
import { combineCriteria } from "./combine.ts";
import { CompileCache } from "./compile-cache.ts";
import { compileCriterion, criterionDescriptor } from "./criteria/criteria.ts";
import {
  type CompiledCriterion,
  type CriterionReads,
  noReads,
  type PolicyContext,
  type PolicyTest,
} from "./criteria/criterion-parts.ts";
import {
  type Criterion,
  type PolicyAction,
  type PolicyOperator,
  type PolicyPath,
  parsePolicy,
  type ReportPolicyProblem,
  type Rule,
} from "./ppl-parser.ts";
import { ReasonTable } from "./reasons.ts";
import { noRecords } from "./records/records.ts";
import { type ConditionalRequirement, conditionalRequirement, type RouteRequirements } from "./requirements.ts";
import { compileRuleSet } from "./rule-set.ts";

export type RoutePolicy = Readonly<{
  routeId: string;
  /** All allow rules, and all deny rules, as one closure each. */
  allow: PolicyTest;
  deny: PolicyTest;
  /** What the route requires. It names no person. */
  requirements: RouteRequirements;
  /** The facts that the rules read. */
  reads: CriterionReads;
  /** The groups that the rules name, by criterion `groups` or `claim/groups`. */
  groupsNamed: readonly string[];
  /** The device type that a person without a device has to register; null: no rule requires a device. */
  deviceType: string | null;
  /** The parts of the two closures, for explanations. Evaluating them costs more than a decision. */
  conditionals: readonly CompiledConditional[];
}>;
/**
 * One `and`, `or`, `not` or `nor` with its list of criteria: the smallest part of a policy that decides by itself.
 */
export type CompiledConditional = Readonly<{
  action: PolicyAction;
  operator: PolicyOperator;
  /** As it is written: `policy[0].allow.or`; `shorthands` for the shorthands. */
  rule: string;
  place: SourceLocation;
  test: PolicyTest;
  requirement: ConditionalRequirement;
  criteria: readonly (CompiledCriterion & Readonly<{ name: string; key: string; place: SourceLocation }>)[];
}>;
/** By route id. */
export type Policies = ReadonlyMap<string, RoutePolicy>;

export type CompiledPolicies =
  /** `shadows` holds the `shadow_policy` of each route that has one. */
  | Readonly<{ ok: true; policies: Policies; shadows: Policies; warnings: readonly Problem[] }>
  | Readonly<{ ok: false; problems: readonly Problem[] }>;

const noContext: PolicyContext = { records: noRecords };

export function compilePolicies(
  routes: readonly RouteConfig[],
  policyContext: PolicyContext = noContext,
): CompiledPolicies {
  const reasons = new ReasonTable();
  const cache = new CompileCache();
  const policies = new Map<string, RoutePolicy>();
  const shadows = new Map<string, RoutePolicy>();
  const problems: Problem[] = [];
  routes.forEach((route, index) => {
    const key: PolicyPath = ["routes", index];
    if (policies.has(route.id)) {
      const report = reporter(problems, key, () => route.location);
      report([], `another route has the same id \`${route.id}\``, "give each route its own `id:`");
    }
    const making = { key, reasons, cache, problems, policyContext };
    policies.set(route.id, compileRoute(route, { ...making, written: "policy" }));
    if (route.shadowPolicy !== null)
      shadows.set(route.id, compileRoute(route, { ...making, written: "shadow_policy" }));
  });
  problems.sort((a, b) => a.line - b.line || a.column - b.column);
  return problems.some(({ severity }) => severity === "error")
    ? { ok: false, problems }
    : { ok: true, policies, shadows, warnings: problems };
}

/** One policy without a route around it. Its rules are named from its own root: `[0].allow.or`. */
export function compilePolicy(
  policy: PolicySource,
  routeId: string,
  policyContext: PolicyContext = noContext,
): Readonly<
  { ok: true; policy: RoutePolicy; warnings: readonly Problem[] } | { ok: false; problems: readonly Problem[] }
> {
  const problems: Problem[] = [];
  const report = reporter(problems, [], (path) => locationIn(policy, path));
  const source: RuleSource = {
    rules: parsePolicy(policy.ppl, report),
    report,
    place: (path) => locationIn(policy, path),
    root: [],
  };
  const compiled = compileSources([source], routeId, {
    reasons: new ReasonTable(),
    cache: new CompileCache(),
    ...policyContext,
  });
  problems.sort((a, b) => a.line - b.line || a.column - b.column);
  return problems.some(({ severity }) => severity === "error")
    ? { ok: false, problems }
    : { ok: true, policy: compiled, warnings: problems };
}

/** The problems in the policies of a configuration that was already refused, and so has no routes to compile. */
export function checkPolicies(
  written: readonly WrittenPolicy[],
  policyContext: PolicyContext = noContext,
): readonly Problem[] {
  const reasons = new ReasonTable();
  const problems: Problem[] = [];
  for (const { path, policy } of written) {
    const report = reporter(problems, path, (inside) => locationIn(policy, inside));
    for (const rule of parsePolicy(policy.ppl, report)) {
      for (const { criteria } of rule.conditionals) {
        for (const criterion of criteria) compileCriterion({ criterion, reasons, report, ...policyContext });
      }
    }
  }
  return problems;
}

/** What a route requires, for the page of a person who was denied; null: there is no such route. */
export function requirementsOf(policies: Policies, routeId: string): RouteRequirements | null {
  return policies.get(routeId)?.requirements ?? null;
}

type CompileRouteContext = Readonly<{
  key: PolicyPath;
  reasons: ReasonTable;
  cache: CompileCache;
  problems: Problem[];
  policyContext: PolicyContext;
  /** Which of the route's two policies. The shorthands and `sub_policies` apply to both. */
  written: "policy" | "shadow_policy";
}>;
/** Rules, the source location of each of their paths, and the prefix of those paths. */
type RuleSource = Readonly<{
  rules: readonly Rule[];
  report: ReportPolicyProblem;
  place: (path: PolicyPath) => SourceLocation;
  root: PolicyPath;
}>;

function compileRoute(
  route: RouteConfig,
  { key, reasons, cache, problems, policyContext, written }: CompileRouteContext,
): RoutePolicy {
  const problemsBefore = problems.length;
  const place = (): SourceLocation => route.location;
  // Problems of the shorthands are reported once, with the live policy.
  const shorthandProblems = written === "policy" ? problems : [];
  const report = reporter(shorthandProblems, key, place);
  const sources: RuleSource[] = [{ rules: shorthandRules(route), report, place, root: [] }];
  const policy = written === "policy" ? route.policy : route.shadowPolicy;
  if (policy !== null) {
    const report = reporter(problems, [...key, written], (path) => locationIn(policy, path));
    const rules = parsePolicy(policy.ppl, report);
    sources.push({ rules, report, place: (path) => locationIn(policy, path), root: [written] });
  }
  for (const [i, { policy: attached }] of route.subPolicies.entries()) {
    if (attached === null) continue;
    const root: PolicyPath = ["sub_policies", i];
    const report = reporter(shorthandProblems, [...key, ...root], (path) => locationIn(attached, path));
    const rules = parsePolicy(attached.ppl, report);
    sources.push({ rules, report, place: (path) => locationIn(attached, path), root });
  }
  const compiled = compileSources(sources, route.id, { reasons, cache, ...policyContext });
  for (const { action, operator, criteria } of compiled.conditionals) {
    // The criterion is false on every request, so a deny rule with `and` or `or` denies no request, and one with `not`
    // or `nor` denies every request.
    const protectsNothing = action === "deny" && (operator === "and" || operator === "or");
    for (const { key: at, name, place: placed } of criteria) {
      const why = criterionDescriptor(name)?.unsupported;
      if (why === undefined) continue;
      const report = reporter(problems, key, () => placed);
      if (protectsNothing && name !== "device" && policyContext.facts !== "any")
        report(
          [at],
          `this \`deny\` can never fire: ${why}`,
          `remove it from the rule, and deny by criteria that are known here, such as \`http_path\` or \`groups\``,
        );
      else
        report(
          [at],
          `no request can meet \`${name}\` yet: ${why}`,
          "remove it, or keep it for a later version",
          "warning",
        );
    }
  }
  const wantsCertificate = compiled.conditionals
    .flatMap(({ action, criteria }) => (action === "deny" ? criteria : []))
    .find(({ name }) => name === "invalid_client_certificate");
  if (wantsCertificate !== undefined && route.clientCa === null)
    reporter(problems, key, () => wantsCertificate.place)(
      [wantsCertificate.key],
      "this route requests no client certificate, so this rule denies every request (in Pomerium it denies none)",
      "name an authority with `downstream_mtls` or `tls_downstream_client_ca`, or remove the rule",
      "warning",
    );
  const allows = compiled.conditionals.some(({ action }) => action === "allow");
  // Without an `allow` rule every request is denied anyway.
  for (const { operator, criteria, place: placed } of compiled.conditionals.filter(({ action }) => action === "deny")) {
    const constant = allows && policyContext.facts !== "any" ? constantCriterionOf(operator, criteria) : undefined;
    if (constant === undefined) continue;
    const report = reporter(problems, key, () => constant.place ?? placed);
    const why = `\`${constant.name}\` is ${constant.always === true ? "always" : "never"} met, so \`${operator}\` is not`;
    report(
      [constant.key],
      `this \`deny\` can never fire: ${why}`,
      "write `accept: true` below `or` to deny every request, or remove the rule",
    );
  }
  // The configuration parser has already reported a route without any policy.
  if (!allows && policy !== null && problems.length === problemsBefore) {
    const report = reporter(problems, key, () => policy.location);
    const remedy = "add an `allow` rule, or remove the route";
    report([written], "no rule allows any request, so the route lets no one in", remedy, "warning");
  }
  return compiled;
}

/** The criterion for which a conditional is unmet on every request; undefined: requests can meet it. */
function constantCriterionOf(
  operator: CompiledConditional["operator"],
  criteria: CompiledConditional["criteria"],
): CompiledConditional["criteria"][number] | undefined {
  const wanted = operator === "not" || operator === "nor";
  const constants = criteria.filter(({ always }) => always === wanted);
  const isUnmet = operator === "and" || operator === "not" || constants.length === criteria.length;
  return isUnmet ? constants[0] : undefined;
}

function compileSources(
  sources: readonly RuleSource[],
  routeId: string,
  { cache, ...around }: PolicyContext & Readonly<{ reasons: ReasonTable; cache: CompileCache }>,
): RoutePolicy {
  const { reasons } = around;
  const conditionals = sources.flatMap((source) =>
    source.rules.flatMap((rule) =>
      rule.conditionals.map((conditional): CompiledConditional => {
        const criteria = conditional.criteria.flatMap((criterion) => {
          const compiled = cache.criterion(criterion, source.report, (report) =>
            compileCriterion({ criterion, report, ...around }),
          );
          const key = formatPath([...source.root, ...criterion.path]);
          return compiled === undefined
            ? []
            : [{ ...compiled, name: nameOf(criterion), key, place: source.place(criterion.path) }];
        });
        return {
          action: rule.action,
          operator: conditional.operator,
          rule: formatPath([...source.root, ...conditional.path]),
          place: source.place(conditional.path),
          test: cache.getOrCreate(
            conditional.operator,
            criteria.map(({ test }) => test),
            () => combineCriteria(conditional.operator, criteria, reasons),
          ),
          requirement: conditionalRequirement(conditional.operator, criteria),
          criteria,
        };
      }),
    ),
  );
  const conditionalsOf = (action: PolicyAction) => conditionals.filter((conditional) => conditional.action === action);
  const [allow, deny] = [conditionalsOf("allow"), conditionalsOf("deny")];
  const testOf = (of: typeof allow): PolicyTest =>
    cache.getOrCreate(
      "side",
      of.map(({ test }) => test),
      () => compileRuleSet(of, reasons),
    );
  const reads = cache.getOrCreate(
    "reads",
    conditionals.flatMap(({ criteria }) => criteria.map(({ test }) => test)),
    () => mergeReads(conditionals.flatMap(({ criteria }) => criteria.map((criterion) => criterion.reads))),
  );
  const deviceTypes = (of: typeof allow): readonly string[] =>
    of.flatMap(({ criteria }) => criteria.flatMap((criterion) => criterion.reads.deviceTypes));
  return {
    routeId,
    allow: testOf(allow),
    deny: testOf(deny),
    requirements: {
      allow: allow.map(({ requirement }) => requirement),
      deny: deny.map(({ requirement }) => requirement),
    },
    reads,
    groupsNamed: groupsNamedBy(conditionals, reads),
    deviceType: deviceTypes(allow).at(-1) ?? deviceTypes(deny).at(-1) ?? null,
    conditionals,
  };
}

function groupsNamedBy(conditionals: readonly CompiledConditional[], reads: CriterionReads): readonly string[] {
  const claimed = conditionals
    .flatMap(({ criteria }) => criteria)
    .flatMap(({ name, anyOf }) => (name === "claim/groups" ? (anyOf?.values ?? []) : []));
  return claimed.length === 0 ? reads.groups : [...new Set([...reads.groups, ...claimed.map(String)])].sort();
}

function nameOf({ name, subPath }: Criterion): string {
  return subPath === null ? name : `${name}/${subPath}`;
}

/** Most policies read no facts of most kinds. They share one empty list, which costs one memory access. */
function mergeReads(all: readonly CriterionReads[]): CriterionReads {
  const distinct = (of: (reads: CriterionReads) => readonly string[]): readonly string[] => {
    const found = [...new Set(all.flatMap(of))].sort();
    return found.length === 0 ? noReads.groups : found;
  };
  const boundaries = all.flatMap((reads) => reads.boundaries);
  return {
    groups: distinct(({ groups }) => groups),
    deviceTypes: distinct(({ deviceTypes }) => deviceTypes),
    recordTypes: distinct(({ recordTypes }) => recordTypes),
    boundaries: boundaries.length === 0 ? noReads.boundaries : boundaries,
  };
}

/**
 * Turns the shorthands into one allow rule with `or`, before the rules of the policy (docs/pomerium-behaviour.md §6.5).
 * A route that requires certificates gets one deny rule.
 */
function shorthandRules(route: RouteConfig): readonly Rule[] {
  const criteria: Criterion[] = [];
  const add = (key: string, name: string, data: unknown, subPath: string | null = null): void => {
    criteria.push({ path: [key], name, subPath, data });
  };
  if (route.allowPublicUnauthenticatedAccess) add("allow_public_unauthenticated_access", "accept", true);
  if (route.corsAllowPreflight) add("cors_allow_preflight", "cors_preflight", true);
  if (route.allowAnyAuthenticatedUser) add("allow_any_authenticated_user", "authenticated_user", true);
  for (const domain of route.allowedDomains) add("allowed_domains", "domain", { is: domain });
  for (const [claim, values] of Object.entries(route.allowedIdpClaims)) {
    for (const value of values) add("allowed_idp_claims", "claim", { has: value }, claim);
  }
  for (const user of route.allowedUsers) {
    add("allowed_users", "user", { is: user });
    add("allowed_users", "email", { is: user });
  }
  const certificate: Criterion = {
    path: ["downstream_mtls"],
    name: "invalid_client_certificate",
    subPath: null,
    data: true,
  };
  return [
    ...(criteria.length === 0 ? [] : [ruleOf("allow", "shorthands", criteria)]),
    ...(route.requiresClientCertificate ? [ruleOf("deny", "downstream_mtls", [certificate])] : []),
  ];
}

function ruleOf(action: PolicyAction, name: string, criteria: readonly Criterion[]): Rule {
  return { path: [], action, conditionals: [{ path: [name], operator: "or", criteria }] };
}

function reporter(
  problems: Problem[],
  key: PolicyPath,
  locate: (path: PolicyPath) => SourceLocation,
): ReportPolicyProblem {
  return (path, problem, remedy, severity = "error") => {
    const at = [...key, ...path];
    // A policy outside a route may have a problem at its root.
    problems.push({
      ...locate(path),
      key: at.length === 0 ? "(document)" : formatPath(at),
      problem,
      remedy,
      severity,
    });
  };
}
