/** Support for the tests of the configuration: a small valid file, in-memory files, and problems as lines. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type Config,
  type FileContent,
  formatProblem,
  type ParseOptions,
  type ParseResult,
  parseConfig,
} from "../../src/config/index.ts";

export const sharedSecret = Buffer.from(Array.from({ length: 32 }, (_, i) => i * 7 + 3)).toString("base64");
export const cookieSecret = Buffer.from(Array.from({ length: 32 }, (_, i) => 250 - i * 5)).toString("base64");

/** Ten lines that every file needs. A test's own lines start at line 11. */
export const base = `authenticate_service_url: https://authenticate.example.com
address: 127.0.0.1:8443
insecure_server: true
shared_secret: ${sharedSecret}
cookie_secret: ${cookieSecret}
idp_provider: oidc
idp_provider_url: https://idp.example.com
idp_client_id: cardea
idp_client_secret: from-the-provider

`;
/** A valid route of six lines. */
export const goodRoute = `routes:
  - from: https://app.example.com
    to: http://127.0.0.1:8091
    policy:
      allow:
        or: [authenticated_user: true]
`;

export type Given = Readonly<{
  env?: Readonly<Record<string, string>>;
  files?: Readonly<Record<string, string | FileContent>>;
  overrides?: NonNullable<ParseOptions["overrides"]>;
  generate?: NonNullable<ParseOptions["generate"]>;
  mode?: number;
  now?: number;
}>;

export function parse(text: string, given: Given = {}): ParseResult {
  const files = given.files ?? {};
  return parseConfig(text, "c.yaml", {
    env: given.env ?? {},
    readFile: (path) => {
      const file = files[path];
      if (file === undefined) return { ok: false, reason: "it does not exist" };
      return typeof file === "string" ? { ok: true, text: file, mode: 0o600 } : file;
    },
    ...(given.mode === undefined ? {} : { mode: given.mode }),
    ...(given.now === undefined ? {} : { now: given.now }),
    ...(given.overrides === undefined ? {} : { overrides: given.overrides }),
    ...(given.generate === undefined ? {} : { generate: given.generate }),
  });
}

/** All problems, each as `severity file:line:column: key: problem; remedy`. */
export function problems(text: string, given: Given = {}): readonly string[] {
  const result = parse(text, given);
  return (result.ok ? result.warnings : result.problems).map((problem) => {
    return `${problem.severity} ${formatProblem(problem).replace(`: ${problem.severity}: `, ": ")}`;
  });
}

export const errors = (text: string, given: Given = {}): readonly string[] =>
  problems(text, given)
    .filter((line) => line.startsWith("error "))
    .map((line) => line.slice("error ".length));

export const warnings = (text: string, given: Given = {}): readonly string[] =>
  problems(text, given)
    .filter((line) => line.startsWith("warning "))
    .map((line) => line.slice("warning ".length));

export function config(text: string, given: Given = {}): Config {
  const result = parse(text, given);
  assert.ok(result.ok, result.ok ? "" : result.problems.map(formatProblem).join("\n"));
  return result.config;
}

export type Pair = Readonly<{ cert: string; key: string }>;

/** Creates a self-signed certificate for these names with openssl. */
export function certificate(names: readonly string[]): Pair {
  const folder = mkdtempSync(join(tmpdir(), "cardea-config-"));
  try {
    const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
    const subject = names.map((name) => `DNS:${name}`).join(",");
    execFileSync(
      "openssl",
      [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=test",
        "-addext",
        `subjectAltName=${subject}`,
        "-keyout",
        key,
        "-out",
        cert,
      ],
      { stdio: "ignore" },
    );
    return { cert: readFileSync(cert, "utf8"), key: readFileSync(key, "utf8") };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
