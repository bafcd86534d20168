/**
 * Rule text: the policy of a route as written in the configuration, and the line of the rule that decided. Pure.
 *
 * The stored configuration has the policies as data, so the text is written anew: its lines are those of this text, not
 * of the file.
 */
import { isMap, isScalar, isSeq, LineCounter, type Node, parseDocument, stringify } from "yaml";
import type { RouteConfig } from "../../../config/index.ts";

export type RuleText = Readonly<{
  text: string;
  /** The number of its first line within the whole policy; 1: it begins with it. */
  firstLine: number;
  /** The line of the rule within the whole policy. Null: no rule decided, or it is not in this policy. */
  line: number | null;
  /** Lines of the whole policy. */
  lines: number;
}>;

const linesMax = 400;
const lineCharsMax = 2_000;
const contextLines = 40;

export function ruleTextOf(route: RouteConfig, rule: string | null): RuleText {
  const whole = stringify(writtenPolicy(route), { lineWidth: 0 }).trimEnd();
  const all = whole.split("\n").map((each) => each.slice(0, lineCharsMax));
  const line = rule === null ? null : lineOf(whole, rule);
  if (all.length <= linesMax) return { text: all.join("\n"), firstLine: 1, line, lines: all.length };
  const first = Math.max(0, (line ?? 1) - 1 - contextLines);
  const shown = all.slice(first, first + linesMax);
  return { text: shown.join("\n"), firstLine: first + 1, line, lines: all.length };
}

/** The keys of a route that decide about access, as a file has them. */
function writtenPolicy(route: RouteConfig): object {
  const written = (key: string, value: unknown): object => {
    const isEmpty =
      value === undefined ||
      value === null ||
      value === false ||
      (typeof value === "object" && Object.keys(value).length === 0);
    return isEmpty ? {} : { [key]: value };
  };
  const sub = (route.subPolicies ?? []).map(({ policy }) => policy?.ppl ?? null);
  return {
    ...written("allow_public_unauthenticated_access", route.allowPublicUnauthenticatedAccess),
    ...written("cors_allow_preflight", route.corsAllowPreflight),
    ...written("allow_any_authenticated_user", route.allowAnyAuthenticatedUser),
    ...written("allowed_domains", route.allowedDomains),
    ...written("allowed_idp_claims", route.allowedIdpClaims),
    ...written("allowed_users", route.allowedUsers),
    ...written("policy", route.policy?.ppl),
    ...written("sub_policies", sub.length === 0 ? null : sub.map((policy) => ({ policy }))),
  };
}

/** @param rule as a trace names it: `policy[0].allow.or`, `shorthands` */
function lineOf(text: string, rule: string): number | null {
  if (rule === "shorthands") return 1;
  const path = [...rule.matchAll(/\[(\d+)\]|([^.[\]]+)/g)].map(([, index, key]) =>
    index === undefined ? (key ?? "") : Number(index),
  );
  const counter = new LineCounter();
  let node: unknown = parseDocument(text, { lineCounter: counter }).contents;
  let at: number | null = null;
  for (const part of path) {
    if (isSeq(node) && typeof part === "number") {
      node = node.items[part];
      at = startOf(node) ?? at;
    } else if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(part));
      if (pair === undefined) return null;
      at = startOf(pair.key) ?? at;
      node = pair.value;
    } else return null;
  }
  return at === null ? null : counter.linePos(at).line;
}

const startOf = (node: unknown): number | undefined => (node as Node | undefined)?.range?.[0];
