/** Criteria about an SSH login: the requested user name, the presented key, and the authority of its certificate. */
import type { UnixMs } from "../../../../events/index.ts";
import type { DecisionRequest } from "../../decision.ts";
import { parseTextMatcher } from "../../matchers.ts";
import { describeValue } from "../../ppl-parser.ts";
import { textRequirement } from "../../requirements.ts";
import { matcherOfBlocks } from "../../source-ip.ts";
import {
  type CriterionContext,
  type CriterionDescriptor,
  compiledCriterion,
  itemsOf,
  readsOf,
  requestTest,
  sessionTest,
} from "../criterion-parts.ts";
import { claimReader } from "../person.ts";
import { parseAuthorizedKey, readUserCertificate, type UserCertificate, type WireKey } from "./ssh-keys.ts";

const nameReasons = {
  ok: "ssh-username-ok",
  fail: "ssh-username-unauthorized",
} as const;
const keyReasons = {
  ok: "ssh-publickey-ok",
  fail: "ssh-publickey-unauthorized",
} as const;
/** Decision records describe HTTP requests, which are not SSH logins. */
const evalOnly = { replay: "recorded", unsupported: "this build has no SSH listener" } as const;

export const sshCriteria: readonly CriterionDescriptor[] = [
  {
    name: "ssh_username",
    compile: ({ criterion, reasons, report, words }) => {
      const matcher = parseTextMatcher(criterion.data, criterion.path, report);
      if (matcher === undefined) return undefined;
      const test = requestTest(reasons, words, ({ ssh }) => matcher.matches(ssh?.username ?? ""));
      return compiledCriterion(test, textRequirement("ssh-user", matcher), {
        always: matcher.never ? false : null,
      });
    },
    reasons: nameReasons,
    ...evalOnly,
  },
  {
    name: "ssh_username_matches_email",
    compile: ({ reasons, words }) =>
      compiledCriterion(
        sessionTest(reasons, words, ({ email }, _principal, { ssh }) => isNamed(ssh, email.split("@", 1)[0] ?? "")),
        { type: "ssh-user-email" },
        { needsSession: true },
      ),
    reasons: nameReasons,
    ...evalOnly,
  },
  {
    name: "ssh_username_matches_claim",
    compile: ({ criterion, reasons, report, words }) => {
      const { data, path } = criterion;
      if (typeof data !== "string" || data === "") {
        report(path, `${describeValue(data)} is not the name of a claim`, "write `ssh_username_matches_claim: <name>`");
        return undefined;
      }
      const read = claimReader(data);
      return compiledCriterion(
        sessionTest(reasons, words, (_profile, principal, { ssh }) =>
          read(principal).some((value) => typeof value === "string" && isNamed(ssh, value)),
        ),
        { type: "ssh-user-claim", claim: data },
        { needsSession: true },
      );
    },
    reasons: nameReasons,
    ...evalOnly,
  },
  {
    name: "ssh_publickey",
    compile: (context) => {
      const keys = parseKeys(context);
      if (keys === undefined) return undefined;
      const test = requestTest(
        context.reasons,
        context.words,
        ({ ssh }) => ssh?.publicKey != null && keys.has(ssh.publicKey),
      );
      return compiledCriterion(test, { type: "ssh-key" }, { always: keys.size === 0 ? false : null });
    },
    reasons: keyReasons,
    ...evalOnly,
  },
  {
    name: "ssh_ca",
    compile: (context) => {
      const authorities = parseKeys(context);
      if (authorities === undefined) return undefined;
      const read = certificateReader();
      const test = requestTest(context.reasons, context.words, (request, now) => {
        const certificate = read(request);
        return (
          certificate !== undefined &&
          authorities.has(certificate.authority) &&
          certificate.validFrom <= now &&
          (certificate.validUntil === null || now < certificate.validUntil) &&
          isFor(certificate, request)
        );
      });
      const boundary = (request: DecisionRequest, now: UnixMs): UnixMs | null => {
        const { validFrom = null, validUntil = null } = read(request) ?? {};
        return [validFrom, validUntil].find((at) => at !== null && at > now) ?? null;
      };
      return compiledCriterion(
        test,
        { type: "ssh-authority" },
        {
          reads: readsOf({ boundaries: [boundary] }),
          always: authorities.size === 0 ? false : null,
        },
      );
    },
    reasons: keyReasons,
    ...evalOnly,
  },
];

/** An empty name never matches: an email may have an empty local part, and other requests have no user name. */
function isNamed(ssh: DecisionRequest["ssh"], name: string): boolean {
  return name !== "" && ssh?.username === name;
}

function isFor({ principals, sourceAddresses }: UserCertificate, { ssh, ip }: DecisionRequest): boolean {
  const named = ssh != null && ssh.username !== "" && principals.includes(ssh.username);
  return named && (sourceAddresses === null || (matcherOfBlocks(sourceAddresses)?.matches(ip) ?? false));
}

function parseKeys({ criterion, report }: CriterionContext): ReadonlySet<WireKey> | undefined {
  const { data, path } = criterion;
  const keys = new Set<WireKey>();
  let complete = true;
  itemsOf(data).forEach((item, index) => {
    const key = typeof item === "string" ? parseAuthorizedKey(item) : undefined;
    if (key !== undefined) keys.add(key);
    else {
      complete = false;
      const at = Array.isArray(data) ? [...path, index] : path;
      report(
        at,
        `${describeValue(item)} is not an SSH public key`,
        "write a line of `authorized_keys`: `ssh-ed25519 AAAA…`",
      );
    }
  });
  return complete ? keys : undefined;
}

/** Parses the certificate of a request once; one login is decided repeatedly. */
function certificateReader(): (request: DecisionRequest) => UserCertificate | undefined {
  const known = new WeakMap<NonNullable<DecisionRequest["ssh"]>, UserCertificate | "none">();
  return ({ ssh }) => {
    if (ssh == null || ssh.publicKey === null) return undefined;
    let certificate = known.get(ssh);
    if (certificate === undefined) {
      certificate = readUserCertificate(ssh.publicKey) ?? "none";
      known.set(ssh, certificate);
    }
    return certificate === "none" ? undefined : certificate;
  };
}
