/** Criteria about the person: user, domain, claims of the identity provider, and groups. */
import type { ClaimValue, GroupId, Profile } from "../../../events/index.ts";
import type { Principal } from "../decision.ts";
import { claimOperand, parseListMatcher, parseTextMatcher, type TextMatcher, textOperand } from "../matchers.ts";
import {
  claimRequirement,
  groupsRequirement,
  peopleRequirement,
  type Requirement,
  textRequirement,
} from "../requirements.ts";
import {
  type CompileCriterion,
  type CompiledCriterion,
  type CriterionContext,
  type CriterionDescriptor,
  compiledCriterion,
  type PolicyTest,
  readsOf,
  sessionTest,
  warnIfIgnored,
} from "./criterion-parts.ts";

const userReasons = {
  ok: "user-ok",
  fail: "user-unauthorized",
} as const;

export const personCriteria: readonly CriterionDescriptor[] = [
  {
    name: "authenticated_user",
    compile: (context) => {
      warnIfIgnored(context);
      const test = sessionTest(context.reasons, context.words, (profile) => profile.subject !== "");
      return compiledCriterion(test, { type: "sign-in" }, { needsSession: true });
    },
    reasons: userReasons,
    replay: "recorded",
  },
  {
    name: "user",
    compile: profileText((profile) => profile.subject, peopleRequirement),
    reasons: userReasons,
    replay: "people",
  },
  {
    name: "email",
    compile: profileText((profile) => profile.email, peopleRequirement),
    reasons: {
      ok: "email-ok",
      fail: "email-unauthorized",
    },
    replay: "people",
  },
  {
    name: "domain",
    compile: profileText(
      (profile) => domainOf(profile.email),
      (matcher) => textRequirement("email-domain", matcher),
    ),
    reasons: {
      ok: "domain-ok",
      fail: "domain-unauthorized",
    },
    replay: "people",
  },
  {
    name: "groups",
    compile: compileGroups,
    reasons: {
      ok: "groups-ok",
      fail: "groups-unauthorized",
    },
    replay: "people",
  },
  {
    name: "claim",
    compile: compileClaim,
    reasons: {
      ok: "claim-ok",
      fail: "claim-unauthorized",
    },
    replay: "unknown",
  },
];

/** @param read undefined: the person has no such value, and nothing matches, not even `not` and `not_in` */
function profileText(
  read: (profile: Profile) => string | undefined,
  requirementOf: (matcher: TextMatcher) => Requirement,
): CompileCriterion {
  return ({ criterion, reasons, report, words }) => {
    const matcher = parseTextMatcher(criterion.data, criterion.path, report);
    if (matcher === undefined) return undefined;
    const build = (matches: (text: string) => boolean): PolicyTest =>
      sessionTest(reasons, words, (profile) => {
        const text = read(profile);
        return text !== undefined && matches(text);
      });
    return compiledCriterion(build(matcher.matches), requirementOf(matcher), {
      needsSession: true,
      people: requirementOf === peopleRequirement ? (matcher.anyOf ?? []) : [],
      anyOf: matcher.anyOf && {
        subject: criterion.name,
        values: matcher.anyOf,
        build: (values) => build((text) => values.has(text)),
        valuesOf: ({ profile }) => (profile === undefined ? undefined : read(profile)),
      },
      always: matcher.never ? false : null,
    });
  };
}

function compileGroups({ criterion, reasons, report, words }: CriterionContext): CompiledCriterion | undefined {
  const matcher = parseListMatcher(criterion.data, criterion.path, report, textOperand);
  if (matcher === undefined) return undefined;
  const [only] = matcher.anyOf ?? [];
  return compiledCriterion(
    only === undefined
      ? sessionTest(reasons, words, (_profile, { groups }) => matcher.matchesSet(groups))
      : sessionTest(reasons, words, (_profile, { groups }) => groups.has(only as GroupId)),
    groupsRequirement(matcher),
    {
      needsSession: true,
      reads: readsOf({ groups: matcher.operators.map(({ operand }) => operand) }),
      anyOf: matcher.anyOf && {
        subject: "groups",
        values: matcher.anyOf,
        build: (values) => sessionTest(reasons, words, (_profile, { groups }) => overlaps(values, groups)),
        valuesOf: ({ groups }) => groups,
      },
      always: matcher.never ? false : null,
    },
  );
}

/** Looks up each member of the smaller set in the larger one. */
function overlaps(a: ReadonlySet<ClaimValue>, b: ReadonlySet<ClaimValue>): boolean {
  const [few, many] = a.size <= b.size ? [a, b] : [b, a];
  for (const value of few) if (many.has(value)) return true;
  return false;
}

function compileClaim({ criterion, reasons, report, words }: CriterionContext): CompiledCriterion | undefined {
  const { subPath: claim, path } = criterion;
  if (claim === null || claim === "") {
    report(path, "`claim` needs the name of a claim", "write `claim/<name>: value`");
    return undefined;
  }
  // Pomerium lowercases the keys of a file, so its criterion never matches a claim with capitals.
  if (claim !== claim.toLowerCase()) {
    const lowercase = claim.toLowerCase();
    report(
      path,
      `\`claim/${claim}\` has capitals, and Pomerium reads it as \`claim/${lowercase}\`: another claim`,
      `write \`claim/${lowercase}\`, and have the identity provider send the claim under that name`,
    );
    return undefined;
  }
  const matcher = parseListMatcher(criterion.data, path, report, claimOperand);
  if (matcher === undefined) return undefined;
  const read = claimReader(claim);
  const [only] = matcher.anyOf ?? [];
  const matches =
    only === undefined ? matcher.matchesList : (values: readonly ClaimValue[]) => includesValue(only, values);
  return compiledCriterion(
    sessionTest(reasons, words, (_profile, principal) => matches(read(principal))),
    claimRequirement(claim, matcher),
    {
      needsSession: true,
      anyOf: matcher.anyOf && {
        subject: `claim/${claim}`,
        values: matcher.anyOf,
        build: (values) => sessionTest(reasons, words, (_profile, principal) => includesAny(values, read(principal))),
        valuesOf: (principal) => setOf(read(principal)),
      },
      always: matcher.never ? false : null,
    },
  );
}

/** Longest claim (values) that is searched as a list. A longer one becomes a set, cached with the session's claims. */
const listSearchMax = 8;
const sets = new WeakMap<readonly ClaimValue[], ReadonlySet<ClaimValue>>();

function setOf(values: readonly ClaimValue[]): ReadonlySet<ClaimValue> {
  const known = sets.get(values) ?? new Set(values);
  sets.set(values, known);
  return known;
}

function includesValue(value: ClaimValue, values: readonly ClaimValue[]): boolean {
  return values.length > listSearchMax ? setOf(values).has(value) : values.includes(value);
}

function includesAny(wanted: ReadonlySet<ClaimValue>, values: readonly ClaimValue[]): boolean {
  return values.length > listSearchMax ? overlaps(wanted, setOf(values)) : values.some((value) => wanted.has(value));
}

const emptyValues: readonly ClaimValue[] = [];
const segmentsMax = 5;

/**
 * Finds a claim by its exact name first, then with `/` read as the `.` that joins the names of nested claims. As in
 * Pomerium, the second form has at most five segments.
 */
export function claimReader(claim: string): (principal: Principal) => readonly ClaimValue[] {
  const nested = claim.replaceAll("/", ".");
  const names = nested !== claim && nested.split(".").length <= segmentsMax ? [claim, nested] : [claim];
  return ({ claims }) => {
    for (const name of names) if (Object.hasOwn(claims, name)) return claims[name] ?? emptyValues;
    return emptyValues;
  };
}

/**
 * The text between the first `@` and a second one, as in Pomerium; undefined: no `@`. A quoted local part may contain
 * an
 * `@`, and the text after it is not the mail domain, so such an address has no domain here.
 */
function domainOf(email: string): string | undefined {
  return email.startsWith('"') ? undefined : email.split("@", 2)[1];
}
