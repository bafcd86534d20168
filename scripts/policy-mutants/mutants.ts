/**
 * Mutants of the policy evaluator: each removes one rule of the language, and a test must notice. Pure data.
 *
 * Each names the code that keeps the rule and its replacement. When that code changes, the mutant refuses to run
 * (test/auth/authorize/mutants.test.ts).
 */
export type PolicyMutant = Readonly<{ file: string; take: string; put: string; meaning: string }>;

const at = (name: string): string => `src/auth/authorize/${name}.ts`;

export const policyMutants: Readonly<Record<string, PolicyMutant>> = {
  "allow-beats-deny": {
    file: at("decide"),
    meaning: "an allow rule that is met beats a deny rule that is",
    take: "  if (deny.met) return denyResult(deny.reasons.words, outcomes);\n",
    put: "",
  },
  "permit-by-default": {
    file: at("decide"),
    meaning: "every caller is permitted where no rule allows",
    take: "  return denyResult(allow.reasons.words, outcomes);",
    put: '  return { type: "permit", status: 200, reasons: allow.reasons.words, sides };',
  },
  "certificate-after-sign-in": {
    file: at("decide"),
    meaning: "a caller without a certificate is sent to sign in first",
    take: "  if (deny.reasons.requiresCertificate) return denyResult(deny.reasons.words, outcomes);\n",
    put: "",
  },
  "sign-in-by-allow-alone": {
    file: at("decide"),
    meaning: "a deny rule that needs to know the caller does not lead to sign-in",
    take: "if (allow.reasons.requiresSignIn || deny.reasons.requiresSignIn)",
    put: "if (allow.reasons.requiresSignIn)",
  },
  "device-by-deny-alone": {
    file: at("decide"),
    meaning: "an allow rule that requires a device does not request one",
    take: "if (allow.reasons.requiresDevice || deny.reasons.requiresDevice)",
    put: "if (deny.reasons.requiresDevice)",
  },
  "unknown-data-denies-nothing": {
    file: at("decide"),
    meaning: "a deny rule over data that could not be read counts as not met",
    take: "if (deny.reasons.recordsUnavailable || (!deny.met && allow.reasons.recordsUnavailable))",
    put: "if (!deny.met && allow.reasons.recordsUnavailable)",
  },
  "unknown-data-allows": {
    file: at("decide"),
    meaning: "an allow rule over data that could not be read counts as met",
    take: "if (deny.reasons.recordsUnavailable || (!deny.met && allow.reasons.recordsUnavailable))",
    put: "if (deny.reasons.recordsUnavailable)",
  },
  "expired-sessions-count": {
    file: at("decide"),
    meaning: "a session past its expiry counts",
    take: "caller.principal.session.expiresAt > now ? caller.principal : null",
    put: "caller.principal.session.expiresAt > 0 ? caller.principal : null",
  },
  "session-not-read": {
    file: at("decide"),
    meaning: "a decision does not list its session among its facts",
    take: "? streamsOf(caller.principal) :",
    put: "? streamsOf(caller.principal).slice(1) :",
  },
  "bounds-forgotten": {
    file: at("decide"),
    meaning: "a decision does not state when time alone changes it",
    take: "if (at !== null && (until === null || at < until)) until = at;",
    put: "if (at !== null && until !== null && at < until) until = at;",
  },
  "device-not-authorized-is-403": {
    file: at("decide"),
    meaning: "a device that may not be used gets the same answer as any other denial",
    take: '  if (reasons.includes("device-unauthorized")) return 450;\n',
    put: "",
  },
  "anonymous-caller-has-own-reason": {
    file: at("criteria/criterion-parts"),
    meaning: "a session criterion without a session is unmet for its own reason, so that `not` makes it met",
    take: "if (principal === null || principal.profile === undefined) return unauthenticated;",
    put: "if (principal === null || principal.profile === undefined) return unmet;",
  },
  "closed-data-is-open": {
    file: at("criteria/criterion-parts"),
    meaning: "personal data that cannot be opened is ignored",
    take: "if (principal === null || principal.profile === undefined) return unauthenticated;",
    put: "if (principal === null) return unauthenticated;\n    if (principal.profile === undefined) return met;",
  },
  "and-is-or": {
    file: at("combine"),
    meaning: "`and` is met when one of its criteria is",
    take: "    return isUnmet ? unmet.unmet : met.met;",
    put: "    return isUnmet && met === reasons.none ? unmet.unmet : met.met;",
  },
  "or-gives-all-reasons": {
    file: at("combine"),
    meaning: "an `or` that is met also gives the reasons of its unmet criteria",
    take: "    return isMet ? met.met : unmet.unmet;",
    put: "    return isMet ? reasons.union(met, unmet).met : unmet.unmet;",
  },
  "either-gives-both-reasons": {
    file: at("combine"),
    meaning: "an `or` of two criteria with one met also gives the reasons of the other",
    take: "if (one.met !== other.met) return one.met ? one : other;",
    put: "if (one.met !== other.met) return reasons.union(one.reasons, other.reasons).met;",
  },
  "and-gives-all-reasons": {
    file: at("combine"),
    meaning: "an unmet `and` also gives the reasons of its met criteria",
    take: "    return isUnmet ? unmet.unmet : met.met;",
    put: "    return isUnmet ? reasons.union(met, unmet).unmet : met.met;",
  },
  "empty-not-is-met": {
    file: at("combine"),
    meaning: "`not` over nothing is met",
    take: "  if (criteria.length === 0) return () => reasons.none.unmet;",
    put: '  if (criteria.length === 0) return () => (operator === "not" ? reasons.none.met : reasons.none.unmet);',
  },
  "nor-is-not": {
    file: at("combine"),
    meaning: "`nor` is met only when none of its criteria is",
    take: `    case "nor":
      return inverse(
        allOf(`,
    put: `    case "nor":
      return inverse(
        anyOf(`,
  },
  "half-a-generation": {
    file: at("compile"),
    meaning: "routes with a valid policy are accepted although another route's policy is invalid",
    take: `  return problems.some(({ severity }) => severity === "error")
    ? { ok: false, problems }
    : { ok: true, policies, shadows, warnings: problems };`,
    put: "  return { ok: true, policies, shadows, warnings: problems };",
  },
  "shorthands-alone": {
    file: at("compile"),
    meaning: "the policy's own rules do not count where there are shorthands",
    take: "    sources.push({ rules, report, place: (path) => locationIn(policy, path)",
    put: "    if (sources[0]?.rules.length === 0) sources.push({ rules, report, place: (path) => locationIn(policy, path)",
  },
  "every-and-is-flat": {
    file: at("rule-set"),
    meaning: "an `and` of two criteria counts as two rules of one criterion",
    take: '(operator === "and" && criteria.length === 1)',
    put: '(operator === "and" && criteria.length <= 2)',
  },
  "index-finds-the-first": {
    file: at("rule-set"),
    meaning: "only the first of the rules that match the caller's values is evaluated",
    take: "    for (const number of numbers ?? noRules) {",
    put: "    for (const number of numbers?.slice(0, 1) ?? noRules) {",
  },
  "index-finds-by-few": {
    file: at("rule-set"),
    meaning: "a caller with more values than there are rules matches none of them",
    take: "      for (const [value, numbers] of this.#byValue) if (has.has(value)) this.#evaluateRules(numbers, asked);",
    put: "",
  },
  "index-gives-no-reasons": {
    file: at("rule-set"),
    meaning: "rules that the index skips give no reasons, so an anonymous caller is not sent to sign in",
    take: "      unmet = this.#reasons.union(unmet, rule.criterion.test(...asked).reasons);\n",
    put: "",
  },
  "index-forgets-the-rest": {
    file: at("rule-set"),
    meaning: "rules that the index skips do not give the reasons of their other criteria",
    take: "        if (!outcome.met) unmet = this.#reasons.union(unmet, outcome.reasons);",
    put: "        if (outcome.met) unmet = this.#reasons.union(unmet, outcome.reasons);",
  },
  "long-claims-have-nothing": {
    file: at("criteria/person"),
    meaning: "a claim of many values has none of them",
    take: "return values.length > listSearchMax ? setOf(values).has(value) : values.includes(value);",
    put: "return values.length <= listSearchMax && values.includes(value);",
  },
  "shared-by-name": {
    file: at("compile-cache"),
    meaning: "criteria with one name are one criterion, whatever their values",
    take: "return JSON.stringify([name, subPath, data], (_key, value: unknown) => {",
    put: "return JSON.stringify([name, subPath], (_key, value: unknown) => {",
  },
  "is-ignores-case": {
    file: at("matchers"),
    meaning: "upper and lower case are equal",
    take: "      return (text) => text === operand;",
    put: "      return (text) => text.toLowerCase() === operand.toLowerCase();",
  },
  "is-among-several": {
    file: at("matchers"),
    meaning: "`is` on a list means `has`",
    take: "      return (values) => values.length === 1 && values[0] === operand;",
    put: "      return (values) => values.includes(operand);",
  },
  "first-operator-alone": {
    file: at("matchers"),
    meaning: "only the first of several operators has to hold",
    take: "tests.length === 1 && only !== undefined ? only",
    put: "only !== undefined ? only",
  },
  "last-at-sign": {
    file: at("criteria/person"),
    meaning: "the domain is the part after the last @",
    take: 'email.split("@", 2)[1]',
    put: 'email.split("@").slice(1).at(-1)',
  },
  "quoted-domain": {
    file: at("criteria/person"),
    meaning: "an @ in a quoted local part starts the domain",
    take: "return email.startsWith('\"') ? undefined : ",
    put: "return ",
  },
  "inherited-claims": {
    file: at("criteria/person"),
    meaning: "properties that every object inherits count as claims",
    take: "if (Object.hasOwn(claims, name)) return claims[name] ?? emptyValues;",
    put: "if (name in claims) return claims[name] ?? emptyValues;",
  },
  "claims-with-capitals": {
    file: at("criteria/person"),
    meaning: "a claim name with capitals is accepted, though Pomerium reads another claim",
    take: "if (claim !== claim.toLowerCase()) {",
    put: 'if (claim === "") {',
  },
  "empty-subject": {
    file: at("criteria/person"),
    meaning: "a session with an empty subject belongs to a person",
    take: 'profile.subject !== ""',
    put: "profile !== undefined",
  },
  "unverified-certificates": {
    file: at("client-certificates/client-certificate"),
    meaning: "a certificate that was not verified counts",
    take: "    if (!presented.valid) return false;\n",
    put: "",
  },
  "one-certificate-condition": {
    file: at("client-certificates/client-certificate"),
    meaning: "one of several conditions is enough",
    take: "parsed.every((holds) => holds(certificate))",
    put: "parsed.some((holds) => holds(certificate))",
  },
  "unapproved-without-device": {
    file: at("criteria/device"),
    meaning: "`approved: false` holds for a caller without a device",
    take: "if (credential === undefined) return noDevice;",
    put: "if (credential === undefined) return wantsApproval === false ? met : noDevice;",
  },
  "any-device": {
    file: at("criteria/device"),
    meaning: "the type of a device does not count",
    take: "principal.devices?.find(({ typeId }) => typeId === type)",
    put: "principal.devices?.[0]",
  },
  "bounds-are-in": {
    file: at("criteria/time"),
    meaning: "`before` holds at the bound itself",
    take: "(before === undefined || time < before)",
    put: "(before === undefined || time <= before)",
  },
  "no-summer-time": {
    file: at("criteria/time"),
    meaning: "an answer stays valid across a clock change",
    take: "if (jump !== null) moments.push(jump.epochMilliseconds);",
    put: "",
  },
  "clock-passes-once": {
    file: at("criteria/time"),
    meaning: "a bound that a clock passes twice counts once",
    take: 'for (const disambiguation of ["earlier", "later"] as const)',
    put: 'for (const disambiguation of ["earlier"] as const)',
  },
  "old-stretch": {
    file: at("criteria/time"),
    meaning: "a looked-up value never expires",
    take: "now >= since && (period.until === null || now < period.until)",
    put: "now >= since",
  },
  "missing-record-matches": {
    file: at("criteria/record"),
    meaning: "`exists` holds whether there is a record or not",
    take: "(record !== undefined) === exists",
    put: "record !== undefined || exists",
  },
  "records-for-anonymous-callers": {
    file: at("criteria/record"),
    meaning: "an anonymous caller has the record with an empty key",
    take: "if (needsSession && (principal === null || principal.profile === undefined)) return unauthenticated;",
    put: "",
  },
  "wide-ranges-first": {
    file: at("source-ip"),
    meaning: "the widest range that contains an address counts",
    take: "sort(([a], [b]) => b - a)",
    put: "sort(([a], [b]) => a - b)",
  },
  "mapped-addresses": {
    file: at("source-ip"),
    meaning: "an IPv4-mapped IPv6 address differs from the IPv4 address",
    take: 'canonical.startsWith("::ffff:") ? canonical.slice("::ffff:".length) : ""',
    put: '""',
  },
  "unsigned-ssh-certificates": {
    file: at("criteria/eval-only/ssh-keys"),
    meaning: "an SSH certificate needs no signature",
    take: "  if (!isSignedBy(authority, signed, signature)) return undefined;\n",
    put: "",
  },
  "ssh-for-every-name": {
    file: at("criteria/eval-only/ssh"),
    meaning: "an SSH certificate is valid for every name",
    take: "principals.includes(ssh.username)",
    put: "principals.length > 0",
  },
  "ssh-never-expires": {
    file: at("criteria/eval-only/ssh"),
    meaning: "an SSH certificate never expires",
    take: "(certificate.validUntil === null || now < certificate.validUntil)",
    put: "certificate.validFrom !== null",
  },
  "unknown-ssh-option": {
    file: at("criteria/eval-only/ssh-keys"),
    meaning: "an unknown critical option is ignored",
    take: '    if (name !== "source-address") return undefined;\n',
    put: '    if (name !== "source-address") continue;\n',
  },
  "tool-by-any-method": {
    file: at("criteria/eval-only/mcp-tool"),
    meaning: "a message that calls no tool is compared as a call",
    take: 'if (mcp?.method !== "tools/call") return noCall;',
    put: "if (mcp == null) return noCall;",
  },
  "every-valid-leaf": {
    file: at("client-certificates/verify-certificate"),
    meaning: "a leaf can be an authority",
    take: "return issuer.ca && certificate",
    put: "return certificate",
  },
};
