/**
 * Secret settings: every required secret is present, strong, and the same in every process.
 *
 * - Pure.
 * - With `services: all`, a missing secret may be generated; the caller stores it in the data folder.
 * - Otherwise each process would generate its own, so a missing secret is an error.
 * - It warns when two secrets are the same.
 */

import type { Globals } from "../schema/schema.ts";
import type { ProblemReporter } from "../source/source-locations.ts";
import { everyService } from "../values/process-values.ts";
import type { KeyMaterial, SourcedText } from "./key-material.ts";

/** Secrets for keys that the file omits. They are requested once, and only when needed. */
export type GeneratedSecrets = Readonly<{ shared_secret?: string; cookie_secret?: string; idp_client_secret?: string }>;
export type GenerateSecrets = (
  dataDir: string,
) => Readonly<{ ok: true; secrets: GeneratedSecrets } | { ok: false; reason: string }>;

export type SecretsPart = Readonly<{
  sharedSecret: Uint8Array | null;
  sharedSecretPrevious: Uint8Array | null;
  cookieSecret: Uint8Array | null;
  cookieSecretPrevious: Uint8Array | null;
  signingKey: string | null;
  signingKeyPrevious: string | null;
  idpClientSecret: string | null;
}>;

const remedy = "make one with: openssl rand -base64 32";

export function resolveSecrets(
  globals: Globals,
  from: Readonly<{
    report: ProblemReporter;
    material: KeyMaterial;
    failed: ReadonlySet<string>;
    generate: GenerateSecrets | undefined;
  }>,
): SecretsPart {
  const { report, material } = from;
  const find = (key: string): SourcedText | null => material.textOrFile(globals, { key, secrecy: "secret" });
  const bytes = (found: SourcedText | null): Uint8Array | null => (found === null ? null : material.secretBytes(found));
  const isConfigured = (key: "shared_secret" | "cookie_secret" | "idp_client_secret"): boolean =>
    from.failed.has(key) ||
    globals[key] !== undefined ||
    globals[`${key}_file`] !== undefined ||
    from.failed.has(`${key}_file`);

  const missing = (["shared_secret", "cookie_secret", "idp_client_secret"] as const).filter(
    (key) => !isConfigured(key),
  );
  const allInOne = everyService.every((service) => globals.services.has(service));
  let generated: GeneratedSecrets = {};
  if (missing.length > 0 && allInOne && from.generate !== undefined) {
    const answer = from.generate(globals.data_dir);
    if (answer.ok) generated = answer.secrets;
    else
      report.error(
        ["data_dir"],
        `generated secrets cannot be stored there: ${answer.reason}`,
        "make the folder writable, or write shared_secret and cookie_secret down",
      );
  }
  const given = (key: keyof GeneratedSecrets): SourcedText | null => {
    const text = generated[key];
    return missing.includes(key) ? (text === undefined ? null : { text, path: [key] }) : find(key);
  };

  const shared = given("shared_secret");
  const cookie = given("cookie_secret");
  const needsCookie = globals.services.has("authenticate") || globals.services.has("proxy");
  for (const [key, needed] of [
    ["shared_secret", true],
    ["cookie_secret", needsCookie],
  ] as const) {
    if (missing.includes(key) && needed && generated[key] === undefined && !(allInOne && from.generate !== undefined)) {
      const why = allInOne ? "is missing" : "is missing, and every process needs the same one";
      report.error([key], why, remedy, "key");
    }
  }
  const sharedSecret = bytes(shared);
  const cookieSecret = bytes(cookie);
  if (
    shared !== null &&
    cookie !== null &&
    sharedSecret !== null &&
    cookieSecret !== null &&
    same(sharedSecret, cookieSecret)
  ) {
    report.warn(cookie.path, "is the same as shared_secret, so one leak exposes both", remedy);
  }
  const sharedSecretPrevious = bytes(find("shared_secret_previous"));
  if (sharedSecret !== null && sharedSecretPrevious !== null && same(sharedSecret, sharedSecretPrevious)) {
    report.warn(
      ["shared_secret_previous"],
      "is the same as shared_secret",
      "remove it once the rotation is complete",
      "key",
    );
  }
  const signing = find("signing_key");
  const signedBefore = find("signing_key_previous");
  const derived = signedBefore?.text.trim() === "derived";
  return {
    sharedSecret,
    sharedSecretPrevious,
    cookieSecret,
    cookieSecretPrevious: bytes(find("cookie_secret_previous")),
    signingKey: signing === null ? null : material.signingKey(signing),
    signingKeyPrevious: signedBefore === null ? null : derived ? "derived" : material.signingKey(signedBefore),
    idpClientSecret: given("idp_client_secret")?.text.trim() ?? null,
  };
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.from(a).equals(b);
}
