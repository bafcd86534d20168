/**
 * Service account file: the tokens with which the proxy calls API servers of Kubernetes, reloaded when they rotate.
 *
 * The kubelet replaces such a file well before its token expires. While the file is missing or empty the previous
 * token stays in use, and the log says so once.
 */
import { readFile, stat } from "node:fs/promises";
import type { RouteConfig } from "../../config/index.ts";
import type { Logger } from "../../replication/index.ts";
import type { KubernetesRules } from "./kubernetes.ts";

export type ServiceAccountTokens = Readonly<{
  /** Null: the route's upstream is not an API server. */
  of(route: Pick<RouteConfig, "kubernetes">): KubernetesRules | null;
  close(): void;
}>;

const checkEveryMs = 1_000;
const tokenCharsMax = 16_384;

export function openServiceAccountTokens(routes: readonly RouteConfig[], logger: Logger): ServiceAccountTokens {
  const files = new Map<string, { token: string; trouble: boolean }>();
  for (const { kubernetes } of routes)
    if (kubernetes !== null && kubernetes.tokenFile !== null)
      files.set(kubernetes.tokenFile, { token: kubernetes.token, trouble: false });

  async function reload(path: string, state: { token: string; trouble: boolean }): Promise<void> {
    const text = await readOrdinaryFile(path).catch(() => "");
    const token = text.trim();
    const good = /^[\x21-\x7e]+$/.test(token) && token.length <= tokenCharsMax;
    if (!good && !state.trouble)
      logger.warn({ path }, "cannot read a service account's token; the previous one stays in use");
    if (good && token !== state.token) logger.info({ path }, "a service account's token was replaced");
    state.trouble = !good;
    if (good) state.token = token;
  }
  const timer = setInterval(() => {
    for (const [path, state] of files) void reload(path, state);
  }, checkEveryMs);
  timer.unref();
  if (files.size === 0) clearInterval(timer);

  return {
    of({ kubernetes }) {
      if (kubernetes === null) return null;
      const file = kubernetes.tokenFile === null ? undefined : files.get(kubernetes.tokenFile);
      return { token: () => file?.token ?? kubernetes.token };
    },
    close: () => clearInterval(timer),
  };
}

/** Refuses pipes: reading one would block a thread of the process until something writes to it. */
async function readOrdinaryFile(path: string): Promise<string> {
  return (await stat(path)).isFile() ? readFile(path, "utf8") : "";
}
