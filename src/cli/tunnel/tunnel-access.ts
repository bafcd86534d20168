/**
 * Tunnel access: opens tunnels with the available credential, and signs in if the proxy requires it, once for all
 * callers.
 *
 * A service account's token is used unchanged. A person's token comes from the cache or a browser. A sign-in serves
 * every host of the installation with a TCP or UDP route, until the issuing proxy stops accepting its token.
 */

import { readFileSync } from "node:fs";
import { tunnelAudience } from "../../auth/index.ts";
import { isLoopback } from "../../config/index.ts";
import { CodedError } from "../../events/index.ts";
import type { Parsed } from "../terminal/arguments.ts";
import { CannotError, type Terminal, UsageError } from "../terminal/command.ts";
import { signInByBrowser } from "./browser-sign-in.ts";
import type { Destination } from "./destination.ts";
import {
  fetchResponse,
  openTunnel,
  type ProxyResponse,
  type ProxyTls,
  readTls,
  type TunnelRefusal,
  type TunnelResult,
  tlsOptions,
} from "./proxy-client.ts";
import { isToken, openTokenCache, servesMax } from "./token-cache.ts";

export const accessOptions = {
  ...tlsOptions,
  json: { type: "boolean" },
  "proxy-url": { type: "string" },
  "browser-cmd": { type: "string" },
  "no-browser": { type: "boolean" },
  "service-account": { type: "string" },
  "service-account-file": { type: "string" },
} as const;

export const accessHelp = `--proxy-url URL or CARDEA_PROXY_URL names the proxy; the default is the destination's host on port 443.
The credential is --service-account TOKEN, --service-account-file FILE or CARDEA_SERVICE_ACCOUNT, else your last sign-in, stored in
$XDG_CACHE_HOME/cardea/tokens (readable only by you). Otherwise your browser opens (--browser-cmd CMD; --no-browser only prints the address).
--ca-cert FILE trusts another authority. --client-cert and --client-key present a certificate. --disable-tls-verification trusts any server.`;

/** Larger than the longest list of routes. */
const answerBytesMax = 16 * 1_024 * 1_024;

/** The proxy refused a tunnel, and another sign-in would not help. */
export class TunnelRefusedError extends CodedError<"ERR_CLI_TUNNEL_REFUSED"> {
  override readonly code = "ERR_CLI_TUNNEL_REFUSED";
  readonly status: number;
  constructor(proxy: URL, target: string, { status, why }: TunnelRefusal) {
    const meaning = {
      unauthenticated: "it does not accept your credential for this route; name the route's own host with --proxy-url",
      refused: "you may not use this route",
      unavailable: "the service cannot be reached right now",
      other: status === 404 || status === 405 ? "there is no such route" : "it did not understand the request",
    }[why];
    super(`${proxy.origin} refused the tunnel to ${target}: ${meaning} (${status})`);
    this.status = status;
  }
}

export type TunnelAccess = Readonly<{
  /** @throws TunnelRefusedError, CannotError */
  open(kind: "tcp" | "udp", destination: Destination): Promise<Extract<TunnelResult, { type: "open" }>>;
  /** Calls one of the proxy's own endpoints. @returns the response with any status. @throws CannotError */
  request(url: URL): Promise<ProxyResponse>;
  /**
   * A credential that the proxy accepts: the service account's, the cached one, or one from a new sign-in.
   * @returns undefined: there is none, and `signIn` is `never`
   * @throws CannotError
   */
  token(proxy: URL, options: Readonly<{ signIn: "when-needed" | "never" }>): Promise<string | undefined>;
  /** Signs in again, whatever is cached. */
  signIn(proxy: URL): Promise<void>;
}>;

export function proxyUrlOf(parsed: Parsed, terminal: Terminal): string | undefined {
  return parsed.text("proxy-url") ?? terminal.env["CARDEA_PROXY_URL"];
}

export function createAccess(parsed: Parsed, terminal: Terminal): TunnelAccess {
  const tls: ProxyTls = readTls(parsed);
  const cache = openTokenCache(terminal.env, Date.now);
  const serviceToken = serviceAccount(parsed, terminal);
  const browser = parsed.flag("no-browser") ? "none" : parsed.text("browser-cmd");
  let signingIn: Promise<string> | undefined;

  const fetchWith = (url: URL, token: string | undefined): Promise<ProxyResponse> => {
    const authorization = token === undefined ? {} : { authorization: `Bearer Pomerium-${token}` };
    const headers = { accept: "application/json", "user-agent": "cardea", ...authorization };
    return fetchResponse(url, { tls, headers, bytesMax: answerBytesMax });
  };

  async function newToken(proxy: URL): Promise<string> {
    const token = await signInByBrowser(proxy, { tls, browser, terminal });
    const listed = await fetchWith(new URL("/.pomerium/api/v1/routes", proxy), token).catch(() => undefined);
    await cache.store(proxy, token, listed?.status === 200 ? tunnelProxiesIn(listed.text, proxy) : []);
    return token;
  }
  function signInOnce(proxy: URL): Promise<string> {
    signingIn ??= newToken(proxy).finally(() => {
      signingIn = undefined;
    });
    return signingIn;
  }

  /** Whether the proxy accepts a token. A 503 does not count as a refusal. */
  async function isAccepted(proxy: URL, token: string): Promise<boolean> {
    const { status } = await fetchWith(new URL("/.pomerium/user", proxy), token);
    return status === 200 || status === 503;
  }

  /**
   * Tries the cached credential, then a new one. Replaces a credential only if its own proxy no longer accepts it: a
   * refusal by one host is no reason to sign in again.
   */
  async function openWithToken(
    proxy: URL,
    attempt: (token: string | undefined) => Promise<TunnelResult>,
  ): Promise<TunnelResult> {
    if (serviceToken !== undefined) return attempt(serviceToken);
    let cached = await cache.loadForTunnel(proxy);
    let opened = await attempt(cached?.token);
    if (!isUnauthenticated(opened)) return opened;
    // Another connection or process may have signed in.
    const now = await cache.loadForTunnel(proxy);
    if (now !== undefined && now.token !== cached?.token) {
      cached = now;
      opened = await attempt(cached.token);
      if (!isUnauthenticated(opened)) return opened;
    }
    if (
      cached?.issuedAt.origin === proxy.origin &&
      (await isAccepted(proxy, cached.token)) &&
      isForTunnels(cached.token)
    )
      return opened;
    return attempt(await signInOnce(proxy));
  }

  return {
    async open(kind, { proxy, target }) {
      const opened = await openWithToken(proxy, (token) => openTunnel({ kind, proxy, target, token, tls }));
      if (opened.type === "open") return opened;
      throw new TunnelRefusedError(proxy, target, opened);
    },
    async request(url) {
      const proxy = new URL(url.origin);
      const cached = serviceToken ?? (await cache.load(proxy));
      const first = await fetchWith(url, cached);
      return isSignInNeeded(first) && serviceToken === undefined ? fetchWith(url, await signInOnce(proxy)) : first;
    },
    async token(proxy, { signIn }) {
      if (serviceToken !== undefined) return serviceToken;
      const cached = await cache.load(proxy);
      if (cached !== undefined && (await isAccepted(proxy, cached))) return cached;
      return signIn === "never" ? undefined : signInOnce(proxy);
    },
    async signIn(proxy) {
      await signInOnce(proxy);
    },
  };
}

function isUnauthenticated(opened: TunnelResult): boolean {
  return opened.type === "refusal" && opened.why === "unauthenticated";
}

function isSignInNeeded({ status }: ProxyResponse): boolean {
  return status === 401 || (status >= 300 && status < 400);
}

/** Handles of older releases are valid on one host only; a new sign-in replaces them. */
function isForTunnels(token: string): boolean {
  const claims: unknown = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8"));
  const audience = typeof claims === "object" && claims !== null && "aud" in claims ? claims.aud : undefined;
  return [audience].flat().includes(tunnelAudience);
}

/**
 * The proxies that serve the tunnels in a list of routes. The list comes from the installation that issued the token,
 * so the token goes only where that installation sends it.
 */
export function tunnelProxiesIn(list: string, proxy: URL): readonly string[] {
  const origins = new Set<string>();
  for (const route of routesIn(list)) {
    const [, web = "", authority = "", path = ""] =
      /^(?:tcp|udp)\+(https?):\/\/([^/?#@]+)(\/.*)?$/.exec(typeof route["from"] === "string" ? route["from"] : "") ??
      [];
    // In `tcp+https://db.example.com:5432` the port is the service's; in `tcp+https://proxy.example.com:8443/…` it is
    // the proxy's.
    const host = path === "" ? authority.replace(/:\d+$/, "") : authority;
    const names = proxy.port === "" || /:\d+$/.test(host) ? [host] : [host, `${host}:${proxy.port}`];
    for (const name of names) {
      const url = URL.parse(`${web}://${name}`);
      if (url !== null && (url.protocol === "https:" || isLoopback(url.hostname))) origins.add(url.origin);
    }
  }
  return [...origins].slice(0, servesMax);
}

/** The routes in a response of `/.pomerium/api/v1/routes`; empty if it is no such list. */
function routesIn(text: string): readonly Readonly<Record<string, unknown>>[] {
  try {
    const body: unknown = JSON.parse(text);
    const routes = typeof body === "object" && body !== null && "routes" in body ? body.routes : undefined;
    return Array.isArray(routes) ? routes.filter((one) => typeof one === "object" && one !== null) : [];
  } catch {
    return [];
  }
}

/** The service account's token from the command line or the environment, if any. */
export function serviceAccount(parsed: Parsed, terminal: Terminal): string | undefined {
  const file = parsed.text("service-account-file");
  let token = parsed.text("service-account") ?? terminal.env["CARDEA_SERVICE_ACCOUNT"];
  if (file !== undefined) {
    try {
      token = readFileSync(file, "utf8").trim();
    } catch (cause) {
      throw new CannotError(`--service-account-file: ${file} cannot be read`, { cause });
    }
  }
  if (token !== undefined && !isToken(token)) throw new UsageError("the service account's token is malformed");
  return token;
}
