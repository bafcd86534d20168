/**
 * Redact: makes a configuration safe to store and show, by replacing each secret with a keyed digest.
 *
 * - Pure.
 * - The schema lists the secrets of each key (`secretAt`) as paths in `Config`. `*` is every entry of a list or
 *   mapping, a number is one entry of a list, and a final `?` means only the part after a question mark.
 * - All other text is checked too, for private keys in PEM (a file may hold one beside a certificate) and for the query
 *   of a URL, where many services expect credentials.
 * - The schema refuses a name and password in a URL. Any that remain are replaced here.
 * - The digest is an HMAC-SHA-256 under a key derived from `shared_secret`. Equal secrets have equal digests, and
 *   without that key not even a weak secret can be guessed.
 */
import { createHmac, hkdfSync } from "node:crypto";
import { keyMeta } from "./schema/keys.ts";
import { isPlainObject, type Shape, sectionShape } from "./values/value-type.ts";

type Digest = (secret: string | Uint8Array) => string;

/** Secrets below a path, by the next step. `what`: the secret part of the value at the path; null: none. */
type SecretNode = { readonly inner: Map<string, SecretNode>; what: "all" | "query" | null };

/** The paths in `Config` of a shape's secrets, without duplicates. */
export function secretPathsIn(shape: Shape): readonly string[] {
  const paths = Object.values(shape).flatMap((schema) => {
    const inner = sectionShape(schema);
    return [...keyMeta(schema).secretAt, ...(inner === undefined ? [] : secretPathsIn(inner))];
  });
  return [...new Set(paths)];
}

export function secretDigest(sharedSecret: Uint8Array): Digest {
  const key = Buffer.from(hkdfSync("sha256", sharedSecret, new Uint8Array(), "cardea configuration digest", 32));
  return (secret) => `hmac-sha256:${createHmac("sha256", key).update(secret).digest("base64url")}`;
}

/** The value with secrets replaced by digests, and with plain data instead of URLs and sets. */
export function withoutSecrets(value: unknown, paths: readonly string[], digest: Digest): unknown {
  return redactValue(value, secretTreeOf(paths), digest);
}

function secretTreeOf(paths: readonly string[]): SecretNode {
  const root: SecretNode = { inner: new Map(), what: null };
  for (const written of paths) {
    const path = written.replace(/\?$/, "");
    let at = root;
    for (const step of path.split(".")) {
      const next: SecretNode = at.inner.get(step) ?? { inner: new Map(), what: null };
      at.inner.set(step, next);
      at = next;
    }
    at.what = path === written ? "all" : "query";
  }
  return root;
}

function redactValue(value: unknown, node: SecretNode | undefined, digest: Digest): unknown {
  if (value === null || value === undefined) return value;
  if (node?.what === "all" && (typeof value === "string" || value instanceof Uint8Array)) return digest(value);
  if (node?.what === "query" && typeof value === "string") return redactQuery(value, digest);
  if (typeof value === "string") return redactText(value, digest);
  if (value instanceof URL) return redactText(value.href, digest);
  if (value instanceof Set) return [...value].sort().map((one) => redactValue(one, undefined, digest));
  const at = (step: string): SecretNode | undefined => node?.inner.get(step) ?? node?.inner.get("*");
  if (Array.isArray(value)) return value.map((item, i) => redactValue(item, at(String(i)), digest));
  if (!isPlainObject(value) || value instanceof Uint8Array) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, redactValue(inner, at(key), digest)]));
}

const privateKey = /-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|$)/g;

function redactText(text: string, digest: Digest): string {
  if (text.includes("PRIVATE KEY-----")) return text.replaceAll(privateKey, (key) => digest(key));
  if (!/^[a-z][a-z0-9+.-]*:\/\/\S*$/i.test(text)) return text;
  const withoutName = text.replace(
    /^([^:]+:\/\/)([^/?#]*)@/,
    (_, scheme: string, who: string) => `${scheme}${digest(who)}@`,
  );
  return redactQuery(withoutName, digest);
}

function redactQuery(text: string, digest: Digest): string {
  const at = text.search(/[?#]/);
  return at < 0 || at === text.length - 1 ? text : `${text.slice(0, at + 1)}${digest(text.slice(at + 1))}`;
}
