/**
 * `cardea k8s`: a credential plugin for kubectl (client.authentication.k8s.io; docs/pomerium-behaviour.md §4.2).
 *
 * Standard output is only for kubectl. Messages for the person go to standard error.
 */
import { parse } from "../terminal/arguments.ts";
import { CannotError, type CliCommand, type Terminal, UsageError } from "../terminal/command.ts";
import { parseProxy } from "../tunnel/destination.ts";
import { fetchResponse, type ProxyTls, readTls } from "../tunnel/proxy-client.ts";
import { openTokenCache } from "../tunnel/token-cache.ts";
import { accessHelp, accessOptions, createAccess, proxyUrlOf, serviceAccount } from "../tunnel/tunnel-access.ts";

export const execCredential: CliCommand = {
  name: "k8s exec-credential",
  usage: "<https://kube.example.com>",
  summary: "print a credential for kubectl; signs in with your browser when needed",
  help: `In the user section of a kubeconfig write exec: {apiVersion: client.authentication.k8s.io/v1, command: cardea, args: [k8s, exec-credential, URL]}.
${accessHelp}`,
  async run(args, terminal) {
    const parsed = parse(args, accessOptions, { min: 0, max: 1 });
    const given = parsed.positionals[0] ?? proxyUrlOf(parsed, terminal);
    if (given === undefined) throw new UsageError("name the URL at which the proxy serves the API server");
    const url = parseProxy(given.includes("://") ? given : `https://${given}`);
    const own = serviceAccount(parsed, terminal);
    const token =
      own ??
      (await cachedOrNewToken(url, {
        tls: readTls(parsed),
        terminal,
        signIn: () => createAccess(parsed, terminal).signIn(url),
      }));
    terminal.out(`${JSON.stringify(credentialOf(token, terminal.env["KUBERNETES_EXEC_INFO"]))}\n`);
    return 0;
  },
};

export const flushCredentials: CliCommand = {
  name: "k8s flush-credentials",
  usage: "[https://kube.example.com]",
  summary: "delete the stored credential for one proxy, or for all",
  help: "The session itself continues. To end it, sign out in the browser or use cardea sessions revoke.",
  async run(args, terminal) {
    const parsed = parse(args, {}, { min: 0, max: 1 });
    const cache = openTokenCache(terminal.env, Date.now);
    const [given] = parsed.positionals;
    if (given === undefined) await cache.forgetAll();
    else await cache.forget(parseProxy(given.includes("://") ? given : `https://${given}`));
    return 0;
  },
};

/** The cached token while the proxy accepts it, else that of a new sign-in. */
async function cachedOrNewToken(
  url: URL,
  { tls, terminal, signIn }: Readonly<{ tls: ProxyTls; terminal: Terminal; signIn: () => Promise<void> }>,
): Promise<string> {
  const cache = openTokenCache(terminal.env, Date.now);
  const cached = await cache.load(url);
  if (cached !== undefined && (await isAccepted(url, cached, tls))) return cached;
  await cache.forget(url);
  await signIn();
  const token = await cache.load(url);
  if (token === undefined) throw new CannotError("the sign-in stored no credential");
  return token;
}

/** Only the proxy's own 401 means that the session has ended. A 401 of the API server has other causes. */
async function isAccepted(url: URL, token: string, tls: ProxyTls): Promise<boolean> {
  const headers = {
    accept: "application/json",
    authorization: `Bearer Pomerium-${token}`,
    "user-agent": "cardea kubernetes/",
  };
  const { status, headers: responseHeaders } = await fetchResponse(new URL("/version", url), { tls, headers });
  return status !== 401 || responseHeaders["x-pomerium-intercepted-response"] === undefined;
}

function credentialOf(token: string, execInfo: string | undefined): object {
  const status = { token: `Pomerium-${token}`, ...expiryOf(token) };
  return { apiVersion: requestedVersion(execInfo), kind: "ExecCredential", status };
}

/** kubectl accepts only the version that it requests. */
function requestedVersion(execInfo: string | undefined): string {
  const defaultVersion = "client.authentication.k8s.io/v1";
  try {
    const info: unknown = JSON.parse(execInfo ?? "{}");
    const requested =
      typeof info === "object" && info !== null && "apiVersion" in info ? info.apiVersion : defaultVersion;
    return requested === `${defaultVersion}beta1` ? requested : defaultVersion;
  } catch {
    return defaultVersion;
  }
}

/** Session handles carry no expiry; tokens of service accounts may. */
function expiryOf(token: string): Readonly<{ expirationTimestamp?: string }> {
  try {
    const claims: unknown = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8"));
    const exp = typeof claims === "object" && claims !== null && "exp" in claims ? claims.exp : undefined;
    return typeof exp === "number"
      ? { expirationTimestamp: new Date(exp * 1_000).toISOString().replace(/\.\d+Z$/, "Z") }
      : {};
  } catch {
    return {};
  }
}
