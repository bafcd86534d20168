/** Criteria about the request itself: nothing, method, path, address, certificates. */
import { parseCertificateMatcher } from "../client-certificates/client-certificate.ts";
import type { DecisionRequest } from "../decision.ts";
import { parseTextMatcher } from "../matchers.ts";
import { textPhrase } from "../phrases.ts";
import type { ReasonTable } from "../reasons.ts";
import { parseAddressMatcher } from "../source-ip.ts";
import {
  type CompileCriterion,
  compiledCriterion,
  type PolicyTest,
  type ReasonPair,
  requestTest,
  warnIfIgnored,
} from "./criterion-parts.ts";

export const requestCriteria: Readonly<Record<string, CompileCriterion>> = {
  accept: constant("nothing: it is open to everybody", true),
  reject: constant("something that nobody has", false),
  cors_preflight: withoutData({
    phrase: "a CORS preflight request",
    build: (reasons) => {
      const yes = reasons.of("cors-request").met;
      const no = reasons.of("non-cors-request").unmet;
      return ({ method, headers }) =>
        method === "OPTIONS" && headers["access-control-request-method"] && headers["origin"] ? yes : no;
    },
  }),
  http_method: requestText({
    words: { ok: "http-method-ok", fail: "http-method-unauthorized" },
    read: (request) => request.method,
    noun: "method",
  }),
  http_path: requestText({
    words: { ok: "http-path-ok", fail: "http-path-unauthorized" },
    read: (request) => request.path,
    noun: "a path",
  }),
  source_ip: ({ criterion, reasons, report }) => {
    const matcher = parseAddressMatcher(criterion.data, criterion.path, report);
    if (matcher === undefined) return undefined;
    const words: ReasonPair = { ok: "source-ip-ok", fail: "source-ip-unauthorized" };
    const test = requestTest(reasons, words, ({ ip }) => matcher.matches(ip));
    return compiledCriterion(test, "coming from a listed network", {
      always: matcher.blocks.length === 0 ? false : null,
    });
  },
  client_certificate: ({ criterion, reasons, report }) => {
    const matches = parseCertificateMatcher(criterion.data, criterion.path, report);
    if (matches === undefined) return undefined;
    const words: ReasonPair = { ok: "client-certificate-ok", fail: "client-certificate-unauthorized" };
    const test = requestTest(
      reasons,
      words,
      ({ clientCertificate }) => clientCertificate !== null && matches(clientCertificate),
    );
    return compiledCriterion(test, "a listed client certificate");
  },
  // Meant for `deny`. A listener that asks for no certificate has none that is valid.
  invalid_client_certificate: withoutData({
    phrase: "a missing or invalid client certificate",
    build: (reasons) => {
      const valid = reasons.of("valid-client-certificate").unmet;
      const missing = reasons.of("client-certificate-required").met;
      const invalid = reasons.of("invalid-client-certificate").met;
      return ({ clientCertificate: presented }) =>
        presented === null || !presented.presented ? missing : presented.valid ? valid : invalid;
    },
  }),
};

function constant(phrase: string, always: boolean): CompileCriterion {
  return (context) => {
    warnIfIgnored(context);
    const outcome = always ? context.reasons.of("accept").met : context.reasons.of("reject").unmet;
    return compiledCriterion(() => outcome, phrase, { always });
  };
}

function withoutData({
  phrase,
  build,
}: Readonly<{ phrase: string; build: (reasons: ReasonTable) => PolicyTest }>): CompileCriterion {
  return (context) => {
    warnIfIgnored(context);
    return compiledCriterion(build(context.reasons), phrase);
  };
}

function requestText({
  words,
  read,
  noun,
}: Readonly<{ words: ReasonPair; read: (request: DecisionRequest) => string; noun: string }>): CompileCriterion {
  return ({ criterion, reasons, report }) => {
    const matcher = parseTextMatcher(criterion.data, criterion.path, report);
    if (matcher === undefined) return undefined;
    const build = (matches: (text: string) => boolean): PolicyTest =>
      requestTest(reasons, words, (request) => matches(read(request)));
    return compiledCriterion(build(matcher.matches), textPhrase(noun, matcher), {
      anyOf: matcher.anyOf && {
        subject: criterion.name,
        values: matcher.anyOf,
        build: (values) => build((text) => values.has(text)),
      },
      always: matcher.never ? false : null,
    });
  };
}
