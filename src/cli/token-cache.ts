/**
 * Token cache: the handles that a person's sign-ins brought, one file a proxy, readable by that person alone.
 *
 * A token of which it can be told that it is over is none. Whether it still counts is for the proxy to say: whoever is told 401
 * forgets it here.
 */
import { createHash } from "node:crypto";
import { chmod, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import type { Terminal } from "./command.ts";

export type TokenCache = Readonly<{
  load(proxy: URL): Promise<string | undefined>;
  store(proxy: URL, token: string): Promise<void>;
  forget(proxy: URL): Promise<void>;
  forgetAll(): Promise<void>;
}>;

export function openTokenCache(env: Terminal["env"], nowMs: () => number): TokenCache {
  const folder = join(env["XDG_CACHE_HOME"] ?? join(env["HOME"] ?? homedir(), ".cache"), "cardea", "tokens");
  const fileOf = (proxy: URL): string =>
    join(folder, `${createHash("sha256").update(proxy.origin).digest("hex").slice(0, 32)}.jwt`);
  return {
    async load(proxy) {
      const token = await readFile(fileOf(proxy), "utf8").catch(() => undefined);
      return token === undefined || isOver(token, nowMs()) ? undefined : token;
    },
    async store(proxy, token) {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      await chmod(folder, 0o700);
      const part = `${fileOf(proxy)}.${process.pid}`;
      await writeFile(part, token, { mode: 0o600, flag: "wx" });
      await rename(part, fileOf(proxy));
    },
    forget: (proxy) => rm(fileOf(proxy), { force: true }),
    forgetAll: () => rm(folder, { recursive: true, force: true }),
  };
}

/** What is no token is over too. */
function isOver(token: string, nowMs: number): boolean {
  if (!isToken(token)) return true;
  try {
    const claims: unknown = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8"));
    const exp = typeof claims === "object" && claims !== null && "exp" in claims ? claims.exp : undefined;
    return typeof exp === "number" && exp * 1_000 <= nowMs;
  } catch {
    return true;
  }
}

/** Nothing that could end a header's line. */
export function isToken(text: string): boolean {
  return text.length <= 16_384 && /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/.test(text);
}
