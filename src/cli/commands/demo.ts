/**
 * `cardea demo`: only the demo identity provider and the demo app, to try a cluster.
 *
 * This provider accepts any password, so only a demonstration may trust it. It listens on loopback by default.
 */
import { readFileSync } from "node:fs";
import { createLocalFetch } from "../../auth/index.ts";
import { demoUsers, startDemoApp, startDemoProvider } from "../../dev/index.ts";
import { createLogger, openStandardOutput } from "../process/logger.ts";
import { untilStopped } from "../process/until-stopped.ts";
import { type Parsed, parse } from "../terminal/arguments.ts";
import { CannotError, type CliCommand, UsageError } from "../terminal/command.ts";

const keysTimeoutMs = 3_000;
const secretCharsMin = 16;

export const demo: CliCommand = {
  name: "demo",
  usage: "--client-secret-file FILE [--listen-host 127.0.0.1] [--issuer URL] [--authenticate-url URL] …",
  summary: "run only the demo identity provider and the demo app, to try a cluster",
  help: `  --client-secret-file FILE   the cluster's idp_client_secret; required
  --client-id cardea          the cluster's idp_client_id
  --issuer URL                the cluster's idp_provider_url; default http://idp.localhost:8080
  --authenticate-url URL      the cluster's authenticate_service_url; default http://authenticate.localhost:8080
  --app-urls URL,URL          the app's routes; the first one serves the proxy's keys;
                              default http://app.localhost:8080, eng and public
  --listen-host 127.0.0.1     --provider-port 8092     --app-port 8091
  --data-dir FOLDER           stores the provider's keys and grants; absent: in memory
  --host-aliases name=host    the address of a host that DNS does not know, to fetch the proxy's keys
Users are alice, bob and carol, with any password. Each port answers /health.`,
  async run(args) {
    const parsed = parse(args, options, { min: 0, max: 0 });
    const host = parsed.text("listen-host") ?? "127.0.0.1";
    const authenticate = urlIn(parsed, "authenticate-url", "http://authenticate.localhost:8080");
    const appUrls = (parsed.text("app-urls") ?? defaultAppUrls).split(",").map((text) => toUrl(text, "app-urls"));
    const [firstApp = authenticate] = appUrls;
    const provider = {
      issuer: urlIn(parsed, "issuer", "http://idp.localhost:8080"),
      listen: { host, port: portIn(parsed, "provider-port", 8092) },
      clientId: parsed.text("client-id") ?? "cardea",
      clientSecret: secretIn(parsed),
    };
    const app = { listen: { host, port: portIn(parsed, "app-port", 8091) } };
    const hosts = aliasesIn(parsed);
    const dataDir = parsed.text("data-dir");

    const stopped = untilStopped();
    const output = openStandardOutput();
    const logger = createLogger("info", { facts: { service: "demo", services: "demo" }, output });
    const onError = (error: unknown): void => logger.warn({ error: String(error) }, "an error in the demo");
    const keys = createLocalFetch({ timeoutMs: keysTimeoutMs, hosts });
    const runningProvider = await startDemoProvider({
      ...provider,
      clientName: "Cardea demo",
      redirectUris: [new URL("/oauth2/callback", authenticate).href],
      postLogoutRedirectUris: [new URL("/.pomerium/signed_out", authenticate).href],
      ...(dataDir === undefined ? {} : { dataDir }),
      onError,
    });
    const runningApp = await startDemoApp({
      ...app,
      jwksUrl: new URL("/.well-known/pomerium/jwks.json", firstApp),
      fetch: keys.fetch as unknown as NonNullable<Parameters<typeof startDemoApp>[0]["fetch"]>,
      links: appUrls.map((url) => ({ name: url.hostname.split(".")[0] ?? url.hostname, url: url.href })),
      onError,
    });
    const users = demoUsers.map(({ user }) => user);
    const facts = { provider: runningProvider.url.href, app: runningApp.url.href, issuer: provider.issuer.href, users };
    logger.info(facts, "the demo is running; any password opens any account");
    logger.info({ signal: await stopped }, "stopping");
    await runningApp.close();
    await runningProvider.close();
    await keys.close();
    await output.close();
    return 0;
  },
};

const defaultAppUrls = "http://app.localhost:8080,http://eng.localhost:8080,http://public.localhost:8080";

const options = {
  "listen-host": { type: "string" },
  "provider-port": { type: "string" },
  "app-port": { type: "string" },
  issuer: { type: "string" },
  "authenticate-url": { type: "string" },
  "app-urls": { type: "string" },
  "client-id": { type: "string" },
  "client-secret-file": { type: "string" },
  "data-dir": { type: "string" },
  "host-aliases": { type: "string" },
} as const;

type Option = keyof typeof options;

function toUrl(text: string, option: Option): URL {
  const url = URL.parse(text.trim());
  if (url === null || !/^https?:$/.test(url.protocol) || url.pathname !== "/" || url.search !== "")
    throw new UsageError(`--${option} ${text}: write scheme, host and port, such as http://app.localhost:8080`);
  return url;
}

function urlIn(parsed: Parsed, option: Option, otherwise: string): URL {
  return toUrl(parsed.text(option) ?? otherwise, option);
}

function portIn(parsed: Parsed, option: Option, otherwise: number): number {
  const port = Number(parsed.text(option) ?? otherwise);
  if (!Number.isInteger(port) || port < 0 || port > 65_535)
    throw new UsageError(`--${option} ${parsed.text(option)}: a number from 0 to 65535`);
  return port;
}

function secretIn(parsed: Parsed): string {
  const file = parsed.text("client-secret-file");
  if (file === undefined) throw new UsageError("--client-secret-file is missing: name the file with the client secret");
  let secret: string;
  try {
    secret = readFileSync(file, "utf8").trim();
  } catch (cause) {
    throw new CannotError(`${file} cannot be read`, { cause });
  }
  if (secret.length < secretCharsMin)
    throw new CannotError(`${file} must contain a secret of at least ${secretCharsMin} characters`);
  return secret;
}

/** `name=host,name=host` */
function aliasesIn(parsed: Parsed): Readonly<Record<string, string>> {
  const text = parsed.text("host-aliases") ?? "";
  const pairs = text.split(",").filter((pair) => pair.trim() !== "");
  return Object.fromEntries(
    pairs.map((pair) => {
      const [name = "", host = "", ...rest] = pair.trim().toLowerCase().split("=");
      if (name === "" || host === "" || rest.length > 0)
        throw new UsageError(`--host-aliases ${pair}: write name=host, such as app.localhost=load-balancer`);
      return [name, host];
    }),
  );
}
