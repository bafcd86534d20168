/**
 * Demo provider key file: the keys of the demo identity provider, created once and stored (0600), so that sign-out
 * accepts ID tokens from before a restart.
 */

import { randomBytes } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { exportJWK, generateKeyPair } from "jose";
import * as z from "zod";
import { CodedError } from "../events/index.ts";

const keysSchema = z.strictObject({
  jwks: z.strictObject({ keys: z.array(z.record(z.string(), z.string())).min(1) }),
  cookieKeys: z.array(z.string().min(32)).min(1),
});
export type DemoProviderKeys = z.infer<typeof keysSchema>;

export class DemoKeysUnreadableError extends CodedError<"ERR_DEV_KEYS_UNREADABLE"> {
  override readonly code = "ERR_DEV_KEYS_UNREADABLE";
  readonly file: string;
  constructor(file: string) {
    super(`${file} does not contain the keys of the demo identity provider; delete it to start with new ones`);
    this.file = file;
  }
}

/** @throws DemoKeysUnreadableError if the file exists and does not hold such keys */
export async function loadDemoKeys(dataDir: string | undefined): Promise<DemoProviderKeys> {
  if (dataDir === undefined) return createDemoKeys();
  const file = join(dataDir, "demo-provider-keys.json");
  const stored = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw error;
  });
  if (stored !== null) {
    const keys = parseKeys(stored);
    // Without a cause, which would quote the file: it holds private keys.
    if (keys === null) throw new DemoKeysUnreadableError(file);
    return keys;
  }
  const keys = await createDemoKeys();
  await mkdir(dataDir, { recursive: true });
  const draft = `${file}.${randomBytes(6).toString("hex")}`;
  await writeFile(draft, JSON.stringify(keys), { mode: 0o600, flag: "wx" });
  await rename(draft, file);
  return keys;
}

function parseKeys(stored: string): DemoProviderKeys | null {
  try {
    return keysSchema.parse(JSON.parse(stored));
  } catch {
    return null;
  }
}

export async function createDemoKeys(): Promise<DemoProviderKeys> {
  const { privateKey } = await generateKeyPair("RS256", { extractable: true });
  const jwk = await exportJWK(privateKey);
  const { kty, n, e, d, p, q, dp, dq, qi } = jwk;
  return keysSchema.parse({
    jwks: { keys: [{ kty, n, e, d, p, q, dp, dq, qi, use: "sig", alg: "RS256" }] },
    cookieKeys: [randomBytes(32).toString("base64url")],
  });
}
