/**
 * Token cache: the handles of a person's sign-ins, one file per proxy, readable only by that person (mode 0600).
 *
 * - A visibly expired token counts as absent. The proxy decides whether any other token is still valid.
 * - A sign-in may serve other hosts of its installation. Their names come from that installation, so no host can claim
 *   a token of another one.
 */
import { createHash } from "node:crypto";
import { chmod, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import type { Terminal } from "../terminal/command.ts";

/** A token, and the proxy at which it was issued. */
export type CachedToken = Readonly<{ token: string; issuedAt: URL }>;

export type TokenCache = Readonly<{
  /** The token of a sign-in at this proxy. */
  load(proxy: URL): Promise<string | undefined>;
  /** The same, or the token of another host of the installation that also serves this one. */
  loadForTunnel(proxy: URL): Promise<CachedToken | undefined>;
  /** @param serves other origins whose tunnels accept the token; `*` in a host matches any characters */
  store(proxy: URL, token: string, serves: readonly string[]): Promise<void>;
  forget(proxy: URL): Promise<void>;
  forgetAll(): Promise<void>;
}>;

/** The most sign-ins to search for one that serves a host. */
const sharedMax = 100;
export const servesMax = 1_000;

export function openTokenCache(env: Terminal["env"], nowMs: () => number): TokenCache {
  const folder = join(env["XDG_CACHE_HOME"] ?? join(env["HOME"] ?? homedir(), ".cache"), "cardea", "tokens");
  const nameOf = (proxy: URL): string => createHash("sha256").update(proxy.origin).digest("hex").slice(0, 32);
  const fileOf = (proxy: URL): string => join(folder, `${nameOf(proxy)}.jwt`);
  const servesFileOf = (proxy: URL): string => join(folder, `${nameOf(proxy)}.json`);
  async function load(proxy: URL): Promise<string | undefined> {
    const token = await readFile(fileOf(proxy), "utf8").catch(() => undefined);
    return token === undefined || hasExpired(token, nowMs()) ? undefined : token;
  }
  async function write(path: string, text: string): Promise<void> {
    const part = `${path}.${process.pid}`;
    await writeFile(part, text, { mode: 0o600, flag: "wx" });
    await rename(part, path);
  }
  return {
    load,
    async loadForTunnel(proxy) {
      const own = await load(proxy);
      if (own !== undefined) return { token: own, issuedAt: proxy };
      const names = await readdir(folder).catch(() => []);
      for (const name of names.filter((one) => one.endsWith(".json")).slice(0, sharedMax)) {
        const shared = parseServes(await readFile(join(folder, name), "utf8").catch(() => ""));
        if (shared === undefined || !shared.serves.some((pattern) => matches(pattern, proxy.origin))) continue;
        const token = await load(shared.issuedAt);
        if (token !== undefined) return { token, issuedAt: shared.issuedAt };
      }
      return undefined;
    },
    async store(proxy, token, serves) {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      await chmod(folder, 0o700);
      await write(fileOf(proxy), token);
      const others = serves.filter((origin) => origin !== proxy.origin).slice(0, servesMax);
      if (others.length === 0) await rm(servesFileOf(proxy), { force: true });
      else await write(servesFileOf(proxy), JSON.stringify({ issuedAt: proxy.origin, serves: others }));
    },
    async forget(proxy) {
      await rm(fileOf(proxy), { force: true });
      await rm(servesFileOf(proxy), { force: true });
    },
    forgetAll: () => rm(folder, { recursive: true, force: true }),
  };
}

type Serves = Readonly<{ issuedAt: URL; serves: readonly string[] }>;

/** Undefined: damaged or deleted meanwhile. The person then signs in at the host itself. */
function parseServes(text: string): Serves | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null || !("issuedAt" in value) || !("serves" in value)) return undefined;
    const { issuedAt, serves } = value;
    if (typeof issuedAt !== "string" || !URL.canParse(issuedAt) || !Array.isArray(serves)) return undefined;
    return { issuedAt: new URL(issuedAt), serves: serves.filter((one) => typeof one === "string") };
  } catch {
    return undefined;
  }
}

function matches(pattern: string, origin: string): boolean {
  if (!pattern.includes("*")) return pattern === origin;
  const expression = pattern.split("*").map((part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${expression.join("[a-z0-9._-]*")}$`).test(origin);
}

/** A malformed token counts as expired. */
function hasExpired(token: string, nowMs: number): boolean {
  if (!isToken(token)) return true;
  try {
    const claims: unknown = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8"));
    const exp = typeof claims === "object" && claims !== null && "exp" in claims ? claims.exp : undefined;
    return typeof exp === "number" && exp * 1_000 <= nowMs;
  } catch {
    return true;
  }
}

/** A JWT, so no character can end a header line. */
export function isToken(text: string): boolean {
  return text.length <= 16_384 && /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/.test(text);
}
