/** Criteria about the request: constants, method, path, source address and client certificate. */
import { parseCertificateMatcher } from "../client-certificates/client-certificate.ts";
import type { DecisionRequest } from "../decision.ts";
import { parseTextMatcher } from "../matchers.ts";
import { type Requirement, type TextSubject, textRequirement } from "../requirements.ts";
import { parseAddressMatcher } from "../source-ip.ts";
import {
  type CompileCriterion,
  type CriterionContext,
  type CriterionDescriptor,
  compiledCriterion,
  type PolicyTest,
  requestTest,
  warnIfIgnored,
} from "./criterion-parts.ts";

const constantReasons = { ok: "accept", fail: "reject" } as const;

export const requestCriteria: readonly CriterionDescriptor[] = [
  {
    name: "accept",
    compile: constant({ type: "nothing" }, true),
    reasons: constantReasons,
    replay: "recorded",
  },
  {
    name: "reject",
    compile: constant({ type: "impossible" }, false),
    reasons: constantReasons,
    replay: "recorded",
  },
  {
    name: "cors_preflight",
    compile: withoutData({ type: "cors-preflight" }, ({ reasons, words }) => {
      const yes = reasons.of(words.ok).met;
      const no = reasons.of(words.fail).unmet;
      return ({ method, headers }) =>
        method === "OPTIONS" && headers["access-control-request-method"] && headers["origin"] ? yes : no;
    }),
    reasons: {
      ok: "cors-request",
      fail: "non-cors-request",
    },
    replay: "unknown", // headers; but any other method is no preflight
  },
  {
    name: "http_method",
    compile: requestText((request) => request.method, "method"),
    reasons: {
      ok: "http-method-ok",
      fail: "http-method-unauthorized",
    },
    replay: "recorded",
  },
  {
    name: "http_path",
    compile: requestText((request) => request.path, "path"),
    reasons: { ok: "http-path-ok", fail: "http-path-unauthorized" },
    replay: "recorded",
  },
  {
    name: "source_ip",
    compile: ({ criterion, reasons, report, words }) => {
      const matcher = parseAddressMatcher(criterion.data, criterion.path, report);
      if (matcher === undefined) return undefined;
      const test = requestTest(reasons, words, ({ ip }) => matcher.matches(ip));
      return compiledCriterion(
        test,
        { type: "network" },
        {
          always: matcher.blocks.length === 0 ? false : null,
        },
      );
    },
    reasons: {
      ok: "source-ip-ok",
      fail: "source-ip-unauthorized",
    },
    replay: "recorded",
  },
  {
    name: "client_certificate",
    compile: ({ criterion, reasons, report, words }) => {
      const matches = parseCertificateMatcher(criterion.data, criterion.path, report);
      if (matches === undefined) return undefined;
      const test = requestTest(
        reasons,
        words,
        ({ clientCertificate }) => clientCertificate !== null && matches(clientCertificate),
      );
      return compiledCriterion(test, { type: "certificate" });
    },
    reasons: {
      ok: "client-certificate-ok",
      fail: "client-certificate-unauthorized",
    },
    replay: "unknown",
    mayRequireMore: true,
  },
  {
    // Meant for `deny`, so the reasons that refuse are those of the criterion when it is met.
    // A listener that requests no certificate has no valid one.
    name: "invalid_client_certificate",
    compile: withoutData({ type: "bad-certificate" }, ({ reasons, words }) => {
      const valid = reasons.of(words.ok).unmet;
      const missing = reasons.of("client-certificate-required").met;
      const invalid = reasons.of(words.fail).met;
      return ({ clientCertificate: presented }) =>
        presented === null || !presented.presented ? missing : presented.valid ? valid : invalid;
    }),
    reasons: {
      ok: "valid-client-certificate",
      fail: "invalid-client-certificate",
      others: ["client-certificate-required"],
    },
    replay: "unknown",
    mayRequireMore: true,
  },
];

function constant(requirement: Requirement, always: boolean): CompileCriterion {
  return (context) => {
    warnIfIgnored(context);
    const { reasons, words } = context;
    const outcome = always ? reasons.of(words.ok).met : reasons.of(words.fail).unmet;
    return compiledCriterion(() => outcome, requirement, { always });
  };
}

function withoutData(requirement: Requirement, build: (context: CriterionContext) => PolicyTest): CompileCriterion {
  return (context) => {
    warnIfIgnored(context);
    return compiledCriterion(build(context), requirement);
  };
}

function requestText(read: (request: DecisionRequest) => string, subject: TextSubject): CompileCriterion {
  return ({ criterion, reasons, report, words }) => {
    const matcher = parseTextMatcher(criterion.data, criterion.path, report);
    if (matcher === undefined) return undefined;
    const build = (matches: (text: string) => boolean): PolicyTest =>
      requestTest(reasons, words, (request) => matches(read(request)));
    return compiledCriterion(build(matcher.matches), textRequirement(subject, matcher), {
      anyOf: matcher.anyOf && {
        subject: criterion.name,
        values: matcher.anyOf,
        build: (values) => build((text) => values.has(text)),
      },
      always: matcher.never ? false : null,
    });
  };
}
