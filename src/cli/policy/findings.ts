/**
 * Findings: valid policies that are surely mistakes: rules that nothing can meet, criteria without effect, routes that
 * an earlier route hides, and routes that are open to everyone.
 *
 * Pure. Reports only what it can prove: a rule without a finding may still be wrong.
 */
import type { CompiledConditional, DecisionRequest, RoutePolicy } from "../../auth/index.ts";
import type { RouteConfig, SourceLocation } from "../../config/index.ts";
import type { UnixMs } from "../../events/index.ts";

/** `note`: usually intended, but worth knowing. */
export type Finding = Readonly<{
  kind: "never-met" | "no-effect" | "nobody" | "shadowed" | "public" | "without-session";
  severity: "warning" | "note";
  at: string;
  /** Null: a policy without a route around it. */
  route: string | null;
  rule: string | null;
  finding: string;
  remedy: string;
}>;

type Criterion = CompiledConditional["criteria"][number];

export function findInPolicy(policy: RoutePolicy, route: RouteConfig | null, now: UnixMs): readonly Finding[] {
  const found: Finding[] = [];
  const report: ReportFinding = (kind, place, rule, finding, remedy) => {
    const severity = kind === "public" || kind === "without-session" ? "note" : "warning";
    found.push({ kind, severity, at: formatLocation(place), route: route?.id ?? null, rule, finding, remedy });
  };
  const outcomes: Outcomes = new Map(
    policy.conditionals.map((conditional) => [conditional, constantOutcomeOf(conditional, now)]),
  );
  findIdleParts(policy, outcomes, { now, report });
  const place = route?.location ?? policy.conditionals[0]?.place;
  if (place !== undefined) findOpenOrClosed(policy, outcomes, { now, report, place });
  return found;
}

type ReportFinding = (
  kind: Finding["kind"],
  place: SourceLocation,
  rule: string | null,
  finding: string,
  remedy: string,
) => void;
/** The outcome of each conditional, if it is the same for every request; null: it depends on the request. */
type Outcomes = ReadonlyMap<CompiledConditional, boolean | null>;

/** Finds rules that nothing can meet, and criteria without effect. */
function findIdleParts(
  policy: RoutePolicy,
  outcomes: Outcomes,
  { now, report }: Readonly<{ now: UnixMs; report: ReportFinding }>,
): void {
  for (const conditional of policy.conditionals) {
    const { place, rule, operator, criteria, action } = conditional;
    if (outcomes.get(conditional) === false)
      report("never-met", place, rule, `this ${action} rule can never be met`, remedyForNeverMet(conditional, now));
    for (const criterion of criteria) {
      const always = alwaysMet(criterion, now);
      const idle = operator === "or" || operator === "not" ? always === false : always === true;
      if (idle && criteria.length > 1)
        report(
          "no-effect",
          criterion.place,
          rule,
          `\`${criterion.name}\` is ${always === true ? "always" : "never"} met, so it has no effect here`,
          "remove or correct it",
        );
    }
    const repeated = criteria.find((one, index) => criteria.slice(0, index).some((other) => isSameLookup(one, other)));
    if (repeated !== undefined)
      report("no-effect", repeated.place, rule, `\`${repeated.name}\` repeats another criterion`, "remove it");
  }
}

/** Finds policies that no request, every request or a request without a session can meet. */
function findOpenOrClosed(
  policy: RoutePolicy,
  outcomes: Outcomes,
  { now, report, place }: Readonly<{ now: UnixMs; report: ReportFinding; place: SourceLocation }>,
): void {
  const allows = policy.conditionals.filter(({ action }) => action === "allow");
  const denies = policy.conditionals.filter(({ action }) => action === "deny");
  const denied = denies.find((conditional) => outcomes.get(conditional) === true);
  if (denied !== undefined)
    report(
      "nobody",
      denied.place,
      denied.rule,
      "this deny rule is always met, so no request gets in",
      "remove it, or the route",
    );
  else if (allows.length > 0 && allows.every((conditional) => outcomes.get(conditional) === false))
    report(
      "nobody",
      place,
      null,
      "no allow rule can be met, so no request gets in",
      "write a rule that a request can meet",
    );
  else {
    const open = allows.find((conditional) => outcomes.get(conditional) === true);
    const needsNoSession = (conditional: CompiledConditional): boolean =>
      outcomes.get(conditional) !== false && conditional.criteria.every(({ needsSession }) => !needsSession);
    const unsigned = allows.find(
      (conditional) => isOpenWithoutSession(conditional, now) || needsNoSession(conditional),
    );
    if (open !== undefined && denies.length === 0)
      report(
        "public",
        open.place,
        open.rule,
        "everyone gets in, signed in or not",
        "keep it only if the route is public",
      );
    else if (open !== undefined)
      report(
        "public",
        open.place,
        open.rule,
        "everyone gets in, except where a deny rule is met",
        "keep it only if the route is public",
      );
    else if (unsigned !== undefined)
      report(
        "without-session",
        unsigned.place,
        unsigned.rule,
        "some requests get in without a sign-in",
        "add `authenticated_user: true` if this is not intended",
      );
  }
}

/** An `or` needs only one criterion: one that needs no session is enough. */
function isOpenWithoutSession({ operator, criteria }: CompiledConditional, now: UnixMs): boolean {
  return (
    operator === "or" &&
    criteria.some(
      (criterion) =>
        !criterion.needsSession && alwaysMet(criterion, now) !== false && criterion.name !== "cors_preflight",
    )
  );
}

// --- what is the same for every request

/** True: always met. False: never. Null: depends on the request. */
function alwaysMet(criterion: Criterion, now: UnixMs): boolean | null {
  if (criterion.always !== null) return criterion.always;
  if (criterion.name !== "date") return null;
  // The last bound has passed, so the answer no longer changes.
  const [boundary] = criterion.reads.boundaries;
  return boundary?.(emptyRequest, now) === null ? criterion.test(emptyRequest, null, now).met : null;
}

function constantOutcomeOf(conditional: CompiledConditional, now: UnixMs): boolean | null {
  const each = conditional.criteria.map((criterion) => alwaysMet(criterion, now));
  if (each.length === 0) return false;
  const all =
    each.includes(false) || contradiction(conditional) !== undefined
      ? false
      : each.every((one) => one === true)
        ? true
        : null;
  const any = each.includes(true) ? true : each.every((one) => one === false) ? false : null;
  const not = (value: boolean | null): boolean | null => (value === null ? null : !value);
  switch (conditional.operator) {
    case "and":
      return all;
    case "or":
      return any;
    case "not":
      return not(any);
    case "nor":
      return not(all);
  }
}

/** Subjects with exactly one value per request or person, so two different values contradict each other. */
const singleValued: ReadonlySet<string> = new Set(["user", "email", "domain", "http_method", "http_path"]);

function contradiction({ operator, criteria }: CompiledConditional): readonly [Criterion, Criterion] | undefined {
  if (operator !== "and" && operator !== "nor") return undefined;
  for (const [index, one] of criteria.entries()) {
    for (const other of criteria.slice(0, index)) {
      const { anyOf } = one;
      if (anyOf === null || other.anyOf?.subject !== anyOf.subject || !singleValued.has(anyOf.subject)) continue;
      const values = new Set(other.anyOf.values);
      if (!anyOf.values.some((value) => values.has(value))) return [other, one];
    }
  }
  return undefined;
}

function remedyForNeverMet(conditional: CompiledConditional, now: UnixMs): string {
  const pair = contradiction(conditional);
  if (pair !== undefined && conditional.operator === "and")
    return `no value is both at once: check ${formatLocation(pair[0].place)} and ${formatLocation(pair[1].place)}, or write them under \`or\``;
  const culprit = conditional.criteria.find((criterion) => alwaysMet(criterion, now) !== null);
  return culprit === undefined ? "remove it" : `check \`${culprit.name}\` (${formatLocation(culprit.place)})`;
}

function isSameLookup(one: Criterion, other: Criterion): boolean {
  if (one.anyOf === null || one.anyOf.subject !== other.anyOf?.subject) return false;
  const values = new Set(other.anyOf.values);
  return one.anyOf.values.length === values.size && one.anyOf.values.every((value) => values.has(value));
}

const emptyRequest: DecisionRequest = {
  method: "",
  scheme: "https",
  host: "",
  rawPath: "",
  path: "",
  query: "",
  headers: {},
  ip: "",
  clientCertificate: null,
};

// --- routes that another one hides

export function findShadowed(routes: readonly RouteConfig[]): readonly Finding[] {
  return routes.flatMap((later, index): Finding[] => {
    const hiding = routes.find((earlier, at) => at !== index && hides(earlier, later, at < index));
    if (hiding === undefined) return [];
    return [
      {
        kind: "shadowed",
        severity: "warning",
        at: formatLocation(later.location),
        route: later.id,
        rule: null,
        finding: `no request reaches this route: the route at ${formatLocation(hiding.location)} matches them all`,
        remedy: "move it before that route, or remove it",
      },
    ];
  });
}

/**
 * Whether route `one` takes every request of `other`. On a host, routes with a port come first, then in written order.
 */
function hides(one: RouteConfig, other: RouteConfig, before: boolean): boolean {
  if (one.tunnel !== null || other.tunnel !== null) return before && sameTunnel(one, other);
  if (!coversHost(one.host, other.host)) return false;
  if (one.port !== null && one.port !== other.port) return false;
  if (one.port === null && other.port !== null) return false; // `other` is checked first
  return before && coversPath(one.match, other.match);
}

function sameTunnel({ tunnel: one }: RouteConfig, { tunnel: other }: RouteConfig): boolean {
  if (one === null || other === null || one.kind !== other.kind) return false;
  return other.targets.every((target) =>
    one.targets.some(({ host, port }) => host === target.host && port === target.port),
  );
}

/** Hosts with an exact route are never matched against wildcards. */
function coversHost(one: string, other: string): boolean {
  if (one === other) return true;
  if (!/^\*\.[^*]+$/.test(one) || !other.includes("*")) return false;
  return other.slice(other.lastIndexOf("*") + 1).endsWith(one.slice(1));
}

function coversPath(one: RouteConfig["match"], other: RouteConfig["match"]): boolean {
  if (one.kind === other.kind && one.value === other.value) return true;
  if (one.kind === "prefix") return one.value === "/" || (other.kind !== "regex" && other.value.startsWith(one.value));
  return one.kind === "regex" && /^\^?\/?\.\*\$?$/.test(one.value);
}

export function formatLocation({ file, line, column }: SourceLocation): string {
  return line === 0 ? file : `${file}:${line}:${column}`;
}
