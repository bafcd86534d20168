/**
 * Client certificates for policy: fingerprint, key hash and names of a certificate that the listener has verified.
 *
 * Every condition needs a valid certificate. Pomerium compares names even of an unverified certificate if the default
 * deny is switched off, but any client can write any name into a self-signed certificate.
 */
import { createHash, X509Certificate } from "node:crypto";
import { readSubjectNames, type SubjectNames } from "../../../config/index.ts";
import type { DecisionRequest } from "../decision.ts";
import { parseTextMatcher, type TextMatcher } from "../matchers.ts";
import {
  describeValue,
  isObject,
  type PolicyPath,
  type ReportPolicyProblem,
  suggestionFor,
  useOneOf,
} from "../ppl-parser.ts";

type Presented = NonNullable<DecisionRequest["clientCertificate"]>;
type Condition = (certificate: Certificate) => boolean;
/** `fingerprint`: 64 lowercase hexadecimal digits. Names by kind, as Node prints them: `DNS`, `email`, `URI`. */
type Certificate = Readonly<{ fingerprint: string; spkiHash: string; names: SubjectNames }>;

const nameKinds = { san_email: "email", san_dns: "DNS", san_uri: "URI" } as const;
const conditions = ["fingerprint", "spki_hash", "san_email", "san_dns", "san_uri"] as const;

export function parseCertificateMatcher(
  data: unknown,
  path: PolicyPath,
  report: ReportPolicyProblem,
): ((presented: Presented) => boolean) | undefined {
  if (!isObject(data) || Object.keys(data).length === 0) {
    report(
      path,
      `expected certificate conditions, found ${isObject(data) ? "an empty object" : describeValue(data)}`,
      useOneOf(conditions),
    );
    return undefined;
  }
  const parsed: Condition[] = [];
  for (const [key, value] of Object.entries(data)) {
    const condition = parseCondition(key, value, [...path, key], report);
    if (condition !== undefined) parsed.push(condition);
  }
  if (parsed.length < Object.keys(data).length) return undefined;
  const read = certificateReader();
  return (presented) => {
    if (!presented.valid) return false;
    const certificate = read(presented);
    return certificate !== undefined && parsed.every((holds) => holds(certificate));
  };
}

function parseCondition(
  key: string,
  value: unknown,
  path: PolicyPath,
  report: ReportPolicyProblem,
): Condition | undefined {
  switch (key) {
    case "fingerprint": {
      const wanted = parseHashes(
        value,
        path,
        report,
        canonicalFingerprint,
        "64 lowercase hexadecimal digits, or 32 uppercase pairs joined by colons",
      );
      return wanted && ((certificate) => wanted.has(certificate.fingerprint));
    }
    case "spki_hash": {
      const wanted = parseHashes(value, path, report, canonicalSpkiHash, "the base64 form of a SHA-256 hash");
      return wanted && ((certificate) => wanted.has(certificate.spkiHash));
    }
    case "san_email":
    case "san_dns":
    case "san_uri": {
      const matcher: TextMatcher | undefined = parseTextMatcher(value, path, report);
      return matcher && ((certificate) => certificate.names.get(nameKinds[key])?.some(matcher.matches) ?? false);
    }
    default:
      report(path, `unknown certificate condition \`${key}\``, suggestionFor(key, conditions));
      return undefined;
  }
}

function parseHashes(
  value: unknown,
  path: PolicyPath,
  report: ReportPolicyProblem,
  canonical: (text: string) => string | undefined,
  form: string,
): ReadonlySet<string> | undefined {
  const items: readonly unknown[] = Array.isArray(value) ? value : [value];
  const hashes = new Set<string>();
  let complete = true;
  items.forEach((item, index) => {
    const hash = typeof item === "string" ? canonical(item) : undefined;
    if (hash !== undefined) hashes.add(hash);
    else {
      complete = false;
      report(
        Array.isArray(value) ? [...path, index] : path,
        `${describeValue(item)} is not such a hash`,
        `write ${form}`,
      );
    }
  });
  return complete ? hashes : undefined;
}

function canonicalFingerprint(text: string): string | undefined {
  if (/^[0-9a-f]{64}$/.test(text)) return text;
  return /^[0-9A-F]{2}(:[0-9A-F]{2}){31}$/.test(text) ? text.replaceAll(":", "").toLowerCase() : undefined;
}

function canonicalSpkiHash(text: string): string | undefined {
  return Buffer.from(text, "base64").length === 32 && /^[A-Za-z0-9+/]{43}=$/.test(text) ? text : undefined;
}

/** Parses each presented certificate once: the listener keeps one object for the life of a connection. */
export function certificateReader(): (presented: Presented) => Certificate | undefined {
  const known = new WeakMap<Presented, Certificate | "unreadable">();
  return (presented) => {
    let certificate = known.get(presented);
    if (certificate === undefined) {
      certificate = readCertificate(presented.leafPem) ?? "unreadable";
      known.set(presented, certificate);
    }
    return certificate === "unreadable" ? undefined : certificate;
  };
}

function readCertificate(pem: string): Certificate | undefined {
  try {
    const x509 = new X509Certificate(pem);
    const spki = x509.publicKey.export({ type: "spki", format: "der" });
    return {
      fingerprint: x509.fingerprint256.replaceAll(":", "").toLowerCase(),
      spkiHash: createHash("sha256").update(spki).digest("base64"),
      names: readSubjectNames(x509.subjectAltName ?? ""),
    };
  } catch {
    return undefined; // a certificate that cannot be read proves nothing
  }
}
