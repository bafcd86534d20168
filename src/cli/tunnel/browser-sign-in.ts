/**
 * Browser sign-in: a person signs in with a browser, and the handle arrives at a listener on this machine
 * (docs/pomerium-behaviour.md §4.1).
 *
 * The listener accepts one response, with the random state of this sign-in; any other request gets 404. It is open only
 * during the sign-in.
 */
import { spawn } from "node:child_process";
import { randomBytes, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { RenderedPage } from "../../auth/index.ts";
import { isLoopback } from "../../config/index.ts";
import { html, renderPlainPage } from "../../console/index.ts";
import { CannotError, type Terminal } from "../terminal/command.ts";
import { fetchText, type ProxyTls } from "./proxy-client.ts";
import { isToken } from "./token-cache.ts";

const signInMsMax = 300_000;

/** @returns the handle. @throws CannotError */
export async function signInByBrowser(
  proxy: URL,
  options: Readonly<{ tls: ProxyTls; browser: string | undefined; terminal: Terminal }>,
): Promise<string> {
  const state = randomBytes(24).toString("base64url");
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const server = createServer((req, res) => {
    const { pathname, searchParams } = new URL(req.url ?? "/", "http://127.0.0.1");
    const token = searchParams.get("pomerium_jwt") ?? "";
    const ours = req.method === "GET" && pathname === "/" && isSame(searchParams.get("state") ?? "", state);
    // The address of the page has the handle: nothing on it may send it as a referrer.
    const common = { "referrer-policy": "no-referrer", connection: "close" };
    if (ours && isToken(token)) {
      const { html: document, headers } = signedInPage();
      res.writeHead(200, { ...headers, ...common }).end(document, () => resolve(token));
      return;
    }
    const plain = { "content-type": "text/plain; charset=utf-8", "cache-control": "no-store" };
    res.writeHead(404, { ...plain, ...common }).end("Not found\n");
  });
  const timer = setTimeout(
    () => reject(new CannotError("the sign-in was not completed within 5 minutes")),
    signInMsMax,
  );
  try {
    await new Promise<void>((listening, failed) => {
      server.once("error", failed);
      server.listen(0, "127.0.0.1", listening);
    });
    const { port } = server.address() as AddressInfo;
    const url = await signInUrl(proxy, `http://127.0.0.1:${port}/?state=${state}`, options.tls);
    options.terminal.err(`Sign in with your browser:\n\n${url}\n\n`);
    if (options.browser !== "none") openBrowser(url, options.browser);
    return await promise;
  } finally {
    clearTimeout(timer);
    server.close();
    server.closeAllConnections();
  }
}

function signedInPage(): RenderedPage {
  return renderPlainPage({
    page: "signed-in-terminal",
    title: "You're signed in",
    width: "narrow",
    body: html`<h1>You're signed in</h1><p>Return to your terminal. You can close this tab.</p>`,
  });
}

async function signInUrl(proxy: URL, redirectUri: string, tls: ProxyTls): Promise<string> {
  const login = new URL("/.pomerium/api/v1/login", proxy);
  login.searchParams.set("pomerium_redirect_uri", redirectUri);
  const { status, text } = await fetchText(login, tls);
  if (status === 503)
    throw new CannotError(
      `${proxy.origin} can start no sign-in at the moment, because no leader of the cluster can be reached from there; try again shortly`,
    );
  if (status !== 200)
    throw new CannotError(
      `${proxy.origin} answered ${status} to the sign-in request; check that this is the proxy's address, and that programmatic_redirect_domain_whitelist has localhost`,
    );
  const url = URL.canParse(text.trim()) ? new URL(text.trim()) : undefined;
  // A command line passes it to a browser, so it must be a web address.
  if (url === undefined || !(url.protocol === "https:" || (url.protocol === "http:" && isLoopback(url.hostname))))
    throw new CannotError(`${proxy.origin} did not answer with a sign-in address`);
  return url.href;
}

function isSame(given: string, expected: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(expected)];
  return a.length === b.length && timingSafeEqual(a, b);
}

/** Ignores a browser that does not start: the address is on the terminal. */
function openBrowser(url: string, command: string | undefined): void {
  const opener =
    command ?? (process.platform === "darwin" ? "open" : process.platform === "win32" ? "explorer.exe" : "xdg-open");
  const child = spawn(opener, [url], { stdio: "ignore", detached: true });
  child.on("error", () => {});
  child.unref();
}
