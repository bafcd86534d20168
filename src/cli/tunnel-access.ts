/**
 * Tunnel access: opens tunnels with the credential that there is, and asks for one when the proxy wants it: once, for all that wait.
 *
 * A service account's token is used as it is. A person's comes from the cache, or from a browser; a proxy that does not take it any
 * more makes it forgotten, and one sign-in later the tunnel is tried once more.
 */
import { readFileSync } from "node:fs";
import type { Parsed } from "./arguments.ts";
import { signInByBrowser } from "./browser-sign-in.ts";
import { CannotError, type Terminal, UsageError } from "./command.ts";
import type { Destination } from "./destination.ts";
import {
  type Fetched,
  fetchAnswer,
  type Opened,
  openTunnel,
  type ProxyTls,
  type Refusal,
  readTls,
  tlsOptions,
} from "./proxy-client.ts";
import { isToken, openTokenCache } from "./token-cache.ts";

export const accessOptions = {
  ...tlsOptions,
  json: { type: "boolean" },
  "proxy-url": { type: "string" },
  "browser-cmd": { type: "string" },
  "no-browser": { type: "boolean" },
  "service-account": { type: "string" },
  "service-account-file": { type: "string" },
} as const;

export const accessHelp = `--proxy-url URL or CARDEA_PROXY_URL names the proxy where it is not the destination's own host on port 443.
Who you are: --service-account TOKEN, --service-account-file FILE or CARDEA_SERVICE_ACCOUNT; else the last sign-in at that proxy, kept in
$XDG_CACHE_HOME/cardea/tokens (readable by you alone); else your browser is opened (--browser-cmd CMD; --no-browser only prints the address).
--ca-cert FILE trusts one more authority, --client-cert and --client-key show a certificate, --disable-tls-verification trusts anybody.`;

/** More than the longest list. */
const answerBytesMax = 16 * 1_024 * 1_024;

/** The proxy said no, in a way that signing in does not change. */
export class TunnelRefusedError extends Error {
  readonly code = "ERR_CLI_TUNNEL_REFUSED";
  readonly status: number;
  constructor(proxy: URL, target: string, { status, why }: Refusal) {
    const meaning = {
      unauthenticated: "your sign-in is not taken",
      refused: "you may not use it",
      unavailable: "it cannot be reached right now",
      other: status === 404 || status === 405 ? "there is no such route" : "it was not understood",
    }[why];
    super(`${proxy.origin} does not lead to ${target}: ${meaning} (${status})`);
    this.name = "TunnelRefusedError";
    this.status = status;
  }
}

export type Access = Readonly<{
  /** @throws TunnelRefusedError, CannotError */
  open(kind: "tcp" | "udp", destination: Destination): Promise<Extract<Opened, { type: "open" }>>;
  /** Asks one of the proxy's own endpoints. @returns its answer, of whatever status. @throws CannotError */
  ask(url: URL): Promise<Fetched>;
  /** Signs in anew, whatever is in the cache. */
  signIn(proxy: URL): Promise<void>;
}>;

export function proxyUrlOf(parsed: Parsed, terminal: Terminal): string | undefined {
  return parsed.text("proxy-url") ?? terminal.env["CARDEA_PROXY_URL"];
}

export function createAccess(parsed: Parsed, terminal: Terminal): Access {
  const tls: ProxyTls = readTls(parsed);
  const cache = openTokenCache(terminal.env, Date.now);
  const own = serviceAccount(parsed, terminal);
  const browser = parsed.flag("no-browser") ? "none" : parsed.text("browser-cmd");
  let signingIn: Promise<string> | undefined;

  async function newToken(proxy: URL): Promise<string> {
    const token = await signInByBrowser(proxy, { tls, browser, terminal });
    await cache.store(proxy, token);
    return token;
  }
  function signedIn(proxy: URL): Promise<string> {
    signingIn ??= newToken(proxy).finally(() => {
      signingIn = undefined;
    });
    return signingIn;
  }

  /** Tries with the credential that there is, and once more with a new one where that is not taken. */
  async function withToken<Outcome>(
    proxy: URL,
    attempt: (token: string | undefined) => Promise<Outcome>,
    isRefused: (outcome: Outcome) => boolean,
  ): Promise<Outcome> {
    const held = own ?? (await cache.load(proxy));
    const first = await attempt(held);
    if (!isRefused(first) || own !== undefined) return first;
    // Somebody else of this process may have signed in meanwhile.
    const now = await cache.load(proxy);
    if (now === held) await cache.forget(proxy);
    const second = await attempt(now !== undefined && now !== held ? now : await signedIn(proxy));
    if (isRefused(second)) await cache.forget(proxy);
    return second;
  }

  return {
    async open(kind, { proxy, target }) {
      const opened = await withToken<Opened>(
        proxy,
        (token) => openTunnel({ kind, proxy, target, token, tls }),
        (outcome) => outcome.type === "refusal" && outcome.why === "unauthenticated",
      );
      if (opened.type === "open") return opened;
      throw new TunnelRefusedError(proxy, target, opened);
    },
    ask(url) {
      const common = { accept: "application/json", "user-agent": "cardea" };
      return withToken(
        new URL(url.origin),
        (token) => {
          const headers = token === undefined ? common : { ...common, authorization: `Bearer Pomerium-${token}` };
          return fetchAnswer(url, { tls, headers, bytesMax: answerBytesMax });
        },
        ({ status }) => status === 401 || (status >= 300 && status < 400),
      );
    },
    async signIn(proxy) {
      await signedIn(proxy);
    },
  };
}

/** What was given on the command line or in the environment, instead of a person's sign-in. */
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
  if (token !== undefined && !isToken(token)) throw new UsageError("the service account's token is no token");
  return token;
}
