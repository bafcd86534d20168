/** Criteria about the person: who they are, what their identity provider says, which groups they are in. */
import type { ClaimValue, GroupId, Profile } from "../../../events/index.ts";
import type { Principal } from "../decision.ts";
import { claimOperand, parseListMatcher, parseTextMatcher, type TextMatcher, textOperand } from "../matchers.ts";
import { claimPhrase, groupsPhrase, peoplePhrase, textPhrase } from "../phrases.ts";
import {
  type Compile,
  type CompiledCriterion,
  type Context,
  plain,
  reading,
  sessionTest,
  type Test,
  type Words,
  warnIfIgnored,
} from "./criterion-parts.ts";

export const personCriteria: Readonly<Record<string, Compile>> = {
  authenticated_user: (context) => {
    warnIfIgnored(context);
    const words: Words = { ok: "user-ok", fail: "user-unauthorized" };
    const test = sessionTest(context.reasons, words, (profile) => profile.subject !== "");
    return plain(test, "being signed in", { ofSession: true });
  },
  user: profileText({
    words: { ok: "user-ok", fail: "user-unauthorized" },
    read: (profile) => profile.subject,
    phrase: peoplePhrase,
  }),
  email: profileText({
    words: { ok: "email-ok", fail: "email-unauthorized" },
    read: (profile) => profile.email,
    phrase: peoplePhrase,
  }),
  domain: profileText({
    words: { ok: "domain-ok", fail: "domain-unauthorized" },
    read: (profile) => domainOf(profile.email),
    phrase: (matcher) => textPhrase("an e-mail address at", matcher),
  }),
  groups: compileGroups,
  claim: compileClaim,
};

/** @param read undefined where the person has no such thing: then nothing matches, `not` and `not_in` neither */
function profileText({
  words,
  read,
  phrase,
}: Readonly<{
  words: Words;
  read: (profile: Profile) => string | undefined;
  phrase: (matcher: TextMatcher) => string;
}>): Compile {
  return ({ criterion, reasons, report }) => {
    const matcher = parseTextMatcher(criterion.data, criterion.path, report);
    if (matcher === undefined) return undefined;
    const build = (matches: (text: string) => boolean): Test =>
      sessionTest(reasons, words, (profile) => {
        const text = read(profile);
        return text !== undefined && matches(text);
      });
    return plain(build(matcher.matches), phrase(matcher), {
      ofSession: true,
      people: phrase === peoplePhrase ? (matcher.anyOf ?? []) : [],
      anyOf: matcher.anyOf && {
        subject: criterion.name,
        values: matcher.anyOf,
        build: (values) => build((text) => values.has(text)),
        held: ({ profile }) => (profile === undefined ? undefined : read(profile)),
      },
      always: matcher.never ? false : null,
    });
  };
}

function compileGroups({ criterion, reasons, report }: Context): CompiledCriterion | undefined {
  const matcher = parseListMatcher(criterion.data, criterion.path, report, textOperand);
  if (matcher === undefined) return undefined;
  const words: Words = { ok: "groups-ok", fail: "groups-unauthorized" };
  const [only] = matcher.anyOf ?? [];
  return plain(
    only === undefined
      ? sessionTest(reasons, words, (_profile, { groups }) => matcher.matchesSet(groups))
      : sessionTest(reasons, words, (_profile, { groups }) => groups.has(only as GroupId)),
    groupsPhrase(matcher),
    {
      ofSession: true,
      reads: reading({ groups: matcher.operators.map(({ operand }) => operand) }),
      anyOf: matcher.anyOf && {
        subject: "groups",
        values: matcher.anyOf,
        build: (values) => sessionTest(reasons, words, (_profile, { groups }) => overlaps(values, groups)),
        held: ({ groups }) => groups,
      },
      always: matcher.never ? false : null,
    },
  );
}

/** Looks each member of the smaller set up in the larger one. */
function overlaps(a: ReadonlySet<ClaimValue>, b: ReadonlySet<ClaimValue>): boolean {
  const [few, many] = a.size <= b.size ? [a, b] : [b, a];
  for (const value of few) if (many.has(value)) return true;
  return false;
}

function compileClaim({ criterion, reasons, report }: Context): CompiledCriterion | undefined {
  const { subPath: claim, path } = criterion;
  if (claim === null || claim === "") {
    report(path, "`claim` needs the name of a claim", "write `claim/<name>: value`");
    return undefined;
  }
  // Pomerium lowercases the keys of a file, so there this criterion never sees a claim with capitals.
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
  const words: Words = { ok: "claim-ok", fail: "claim-unauthorized" };
  const [only] = matcher.anyOf ?? [];
  const matches = only === undefined ? matcher.matchesList : (values: readonly ClaimValue[]) => isAmong(only, values);
  return plain(
    sessionTest(reasons, words, (_profile, principal) => matches(read(principal))),
    claimPhrase(claim, matcher),
    {
      ofSession: true,
      anyOf: matcher.anyOf && {
        subject: `claim/${claim}`,
        values: matcher.anyOf,
        build: (values) => sessionTest(reasons, words, (_profile, principal) => haveCommon(values, read(principal))),
        held: (principal) => setOf(read(principal)),
      },
      always: matcher.never ? false : null,
    },
  );
}

/** Beyond this many values a claim is looked through as a set, made once for as long as the session's claims are. */
const listedMax = 8;
const sets = new WeakMap<readonly ClaimValue[], ReadonlySet<ClaimValue>>();

function setOf(values: readonly ClaimValue[]): ReadonlySet<ClaimValue> {
  const known = sets.get(values) ?? new Set(values);
  sets.set(values, known);
  return known;
}

function isAmong(value: ClaimValue, values: readonly ClaimValue[]): boolean {
  return values.length > listedMax ? setOf(values).has(value) : values.includes(value);
}

function haveCommon(wanted: ReadonlySet<ClaimValue>, values: readonly ClaimValue[]): boolean {
  return values.length > listedMax ? overlaps(wanted, setOf(values)) : values.some((value) => wanted.has(value));
}

const noValues: readonly ClaimValue[] = [];
const segmentsMax = 5;

/**
 * Finds a claim by its exact name first, then with `/` read as the `.` that joins the names of nested claims. As in Pomerium,
 * the second form has at most five segments.
 */
export function claimReader(claim: string): (principal: Principal) => readonly ClaimValue[] {
  const nested = claim.replaceAll("/", ".");
  const names = nested !== claim && nested.split(".").length <= segmentsMax ? [claim, nested] : [claim];
  return ({ claims }) => {
    for (const name of names) if (Object.hasOwn(claims, name)) return claims[name] ?? noValues;
    return noValues;
  };
}

/**
 * What follows the first `@`, up to a second one, as in Pomerium; undefined without one. A quoted local part may itself hold an
 * `@`, and then what follows it is not where mail goes: such an address has no domain here.
 */
function domainOf(email: string): string | undefined {
  return email.startsWith('"') ? undefined : email.split("@", 2)[1];
}
