/**
 * English: what policies require. A part of en.ts.
 *
 * Pure. A rule becomes a whole sentence here, so that a translation decides how a language builds it. An item stands
 * alone after a colon, and needs no case or gender of the words before it.
 */
import type { ConditionalRequirement, Requirement, RouteRequirements, TextSubject } from "../../auth/index.ts";
import { unreachable } from "../../events/index.ts";

/** Prepares a value for use in a sentence, whatever its text direction. */
type Isolate = (value: string) => string;

type TextOperators = Extract<Requirement, { type: "text" }>["operators"];

const subjects: Readonly<Record<TextSubject, (what: string) => string>> = {
  method: (what) => `method ${what}`,
  path: (what) => `a path ${what}`,
  "email-domain": (what) => `an email address at ${what}`,
  "mcp-tool": (what) => `a call of the tool ${what}`,
  "ssh-user": (what) => `the SSH user name ${what}`,
};
const textOperators = {
  is: "",
  in: "",
  not: "other than ",
  not_in: "other than ",
  contains: "containing ",
  starts_with: "starting with ",
  ends_with: "ending with ",
} as const;
const dayNames = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

function itemOf(requirement: Requirement, isolate: Isolate): string {
  switch (requirement.type) {
    case "text":
      return subjects[requirement.subject](textsOf(requirement.operators, isolate));
    case "people":
      return requirement.count === 1 ? "one named person" : `one of ${requirement.count} named people`;
    case "person":
      return requirement.others ? "anyone except certain people" : "a matching name or email";
    case "groups": {
      const words = { has: "group", is: "only the group", exclude: "not being in group" } as const;
      return requirement.operators
        .map(({ operator, operand }) => `${words[operator]} ${isolate(operand)}`)
        .join(" and ");
    }
    case "claim":
      return claimItem(requirement, isolate);
    case "days":
      return `a day among ${requirement.days.map((day) => dayNames[day - 1]).join(", ")}`;
    case "device":
      return requirement.approved ? "an approved device" : "a registered device";
    case "record":
      return `a record of ${isolate(requirement.recordType)}`;
    case "ssh-user-claim":
      return `a value of the claim ${isolate(requirement.claim)} as the SSH user name`;
    case "sign-in":
      return "a sign-in";
    case "nothing":
      return "nothing: it's open to everyone";
    case "impossible":
      return "something that no request has";
    case "cors-preflight":
      return "a CORS preflight request";
    case "network":
      return "an allowed network";
    case "certificate":
      return "an allowed client certificate";
    case "bad-certificate":
      return "a missing or invalid client certificate";
    case "date":
      return "a particular date";
    case "time-of-day":
      return "a particular time of day";
    case "ssh-user-email":
      return "your own email name as the SSH user name";
    case "ssh-key":
      return "a listed SSH key";
    case "ssh-authority":
      return "an SSH certificate of a listed authority";
    default:
      return unreachable(requirement);
  }
}

function textsOf(operators: TextOperators, isolate: Isolate): string {
  return operators
    .map(({ operator, operands }) => `${textOperators[operator]}${operands.map(isolate).join(" or ") || '""'}`)
    .join(" and ");
}

function claimItem({ claim, values }: Extract<Requirement, { type: "claim" }>, isolate: Isolate): string {
  if (values.every(({ value }) => value === null)) return `a particular value of ${isolate(claim)}`;
  const words = { has: "", is: "only ", exclude: "other than " } as const;
  const shown = values.map(
    ({ operator, value }) => `${words[operator]}${value === null ? "a particular value" : isolate(String(value))}`,
  );
  return `claim ${isolate(claim)}: ${shown.join(" and ")}`;
}

/** The only criterion of a rule; null: the rule has several, or one that must not be met. */
function singleOf({ operator, requirements }: ConditionalRequirement): Requirement | null {
  const [only] = requirements;
  return only !== undefined && requirements.length === 1 && (operator === "or" || operator === "and") ? only : null;
}

const sides = {
  allow: {
    or: (items: string) => `Access needs one of these: ${items}.`,
    and: (items: string) => `Access needs all of these: ${items}.`,
    not: (items: string) => `Access needs none of these: ${items}.`,
    nor: (items: string) => `Access is refused if all of these hold: ${items}.`,
  },
  alternative: {
    or: (items: string) => `Or one of these: ${items}.`,
    and: (items: string) => `Or all of these: ${items}.`,
    not: (items: string) => `Or none of these: ${items}.`,
    nor: (items: string) => `Or at least one of these missing: ${items}.`,
  },
  deny: {
    or: (items: string) => `Blocked with any of these: ${items}.`,
    and: (items: string) => `Blocked with all of these: ${items}.`,
    not: (items: string) => `Blocked without any of these: ${items}.`,
    nor: (items: string) => `Blocked without all of these: ${items}.`,
  },
} as const;

function sentenceOf(side: keyof typeof sides, rule: ConditionalRequirement, isolate: Isolate): string {
  const single = singleOf(rule);
  if (single === null) {
    const items = rule.requirements.map((requirement) => itemOf(requirement, isolate));
    return sides[side][rule.operator](items.join("; "));
  }
  if (side === "allow") return onlyWith(single, isolate);
  const item = itemOf(single, isolate);
  return side === "deny" ? `Blocked: ${item}.` : `Or: ${item}.`;
}

/** A route that one criterion opens, said as people say it. */
function onlyWith(requirement: Requirement, isolate: Isolate): string {
  switch (requirement.type) {
    case "nothing":
      return "Access is open to everyone.";
    case "impossible":
      return "No one has access.";
    case "people":
      return requirement.count === 1
        ? "Only one named person has access."
        : `Only ${requirement.count} named people have access.`;
    case "groups": {
      const [only, ...more] = requirement.operators;
      if (only?.operator === "has" && more.length === 0) return `Only members of ${isolate(only.operand)} have access.`;
      break;
    }
    case "text":
      if (requirement.subject === "email-domain")
        return `Only people with an email address at ${textsOf(requirement.operators, isolate)} have access.`;
      break;
    default:
  }
  return `Access needs ${itemOf(requirement, isolate)}.`;
}

const operatorNames = { or: "one of", and: "all of", not: "none of", nor: "not all of" } as const;

export const requirements = {
  /** What a route requires, a sentence for each of its rules. */
  ofRoute: ({ allow, deny }: RouteRequirements, isolate: Isolate): readonly string[] => [
    ...(allow.length === 0 ? ["No one has access."] : []),
    ...allow.map((rule, index) => sentenceOf(index === 0 ? "allow" : "alternative", rule, isolate)),
    ...deny.map((rule) => sentenceOf("deny", rule, isolate)),
  ],
  /** What one rule requires, for operators: `one of: group eng; one named person`. */
  ofRule: (rule: ConditionalRequirement, isolate: Isolate): string => {
    const items = rule.requirements.map((requirement) => itemOf(requirement, isolate));
    return singleOf(rule) === null ? `${operatorNames[rule.operator]}: ${items.join("; ")}` : (items[0] ?? "");
  },
} as const;
