/** `cardea dev`: everything in one process, with a demo identity provider and a demo app, on loopback. */
import { randomUUID } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { signInUrl } from "../../auth/index.ts";
import { type Config, type LoadOptions, signInClientsOf } from "../../config/index.ts";
import { mintOperatorToken } from "../../console/index.ts";
import { type DemoGuideOptions, demoUsers, startDemoApp, startDemoProvider } from "../../dev/index.ts";
import { unreachable, userIdOf } from "../../events/index.ts";
import { authKeys } from "../build/auth-keys.ts";
import { loadOrReport, readConfiguration } from "../build/load.ts";
import { startServices } from "../build/services.ts";
import { operatorFile } from "../operator/operator-client.ts";
import { problemOfGcSetting } from "../process/gc/gc-threads.ts";
import { createLogger, openStandardOutput } from "../process/logger.ts";
import { startReloading } from "../process/reloading.ts";
import { untilStopped } from "../process/until-stopped.ts";
import { parse } from "../terminal/arguments.ts";
import { CannotError, type CliCommand, UsageError } from "../terminal/command.ts";
import { packageFile } from "../terminal/package-file.ts";

/** The ports in cardea.dev.yaml; `--port` moves them together. */
const port = { main: 8080, app: 8091, idp: 8092, metrics: 8093 };
/** In a checkout the command is an npm script; an installed package has the command `cardea`. */
const cardea = import.meta.url.endsWith(".ts") ? "npm run cardea --" : "cardea";
const tokenTtlS = 24 * 3_600;
const tokenRenewMs = 3_600_000;

export const dev: CliCommand = {
  name: "dev",
  usage: "[--port 8080] [--data-dir data] [--memory]",
  summary: "run everything in one process, with a demo identity provider and app, for a first try",
  help: `Reads cardea.dev.yaml and listens on loopback only. Users are alice, bob and carol, with any password. The data folder stores the secrets
and the log; --memory keeps the log in memory, so people must sign in again after a restart. --port moves all ports (port, +11, +12, +13).`,
  async run(args, terminal) {
    const parsed = parse(
      args,
      {
        config: { type: "string", short: "c" },
        port: { type: "string" },
        "data-dir": { type: "string" },
        memory: { type: "boolean" },
      },
      { min: 0, max: 0 },
    );
    const wrong = problemOfGcSetting(terminal.env);
    if (wrong !== null) throw new UsageError(wrong);
    const main = parsePort(parsed.text("port"));
    const path = parsed.text("config") ?? fileURLToPath(packageFile("cardea.dev.yaml"));
    const options: Omit<LoadOptions, "env"> = {
      dataDir: parsed.text("data-dir") ?? "data",
      generate: ["shared_secret", "cookie_secret", "idp_client_secret"],
      missingSecrets: "keep",
      overrides: {
        ports: { [port.main]: main, [port.app]: main + 11, [port.idp]: main + 12, [port.metrics]: main + 13 },
        values: {
          drain_delay: "0s",
          drain_timeout: "1s", // a first try should not wait
          ...(parsed.flag("memory") ? { databroker_storage_type: "memory" } : {}),
        },
      },
    };
    const { loaded, files } = loadOrReport(path, terminal, options);
    if (loaded === undefined) return 1;
    const { config } = loaded;
    if (config.idp === null) throw new CannotError(`${path} names no identity provider`);
    const output = openStandardOutput();
    const logger = createLogger(config.logLevel, { facts: { service: "dev", services: "dev" }, output });
    const onError = (error: unknown): void => logger.warn({ error: String(error) }, "an error in the demo");
    const origin = (name: string): string => `http://${name}.localhost:${main}`;
    await using parts = new AsyncDisposableStack(); // also if a later part fails to start
    parts.defer(() => output.close());
    const provider = await startDemoProvider({
      issuer: config.idp?.url ?? new URL(origin("idp")),
      listen: { host: "127.0.0.1", port: main + 12 },
      clientId: config.idp?.clientId ?? "cardea",
      clientSecret: config.idp?.clientSecret ?? "",
      clientName: "Cardea demo",
      redirectUris: [new URL("/oauth2/callback", config.authenticateServiceUrl).href],
      postLogoutRedirectUris: [new URL("/.pomerium/signed_out", config.authenticateServiceUrl).href],
      dataDir: config.dataDir,
      quickSignIn: [origin("app"), origin("eng"), config.authenticateServiceUrl.origin],
      onError,
    });
    parts.defer(() => provider.close());
    const app = await startDemoApp({
      listen: { host: "127.0.0.1", port: main + 11 },
      jwksUrl: new URL("/.well-known/pomerium/jwks.json", origin("app")),
      links: ["app", "eng", "public", "start"].map((name) => ({ name, url: `${origin(name)}/` })),
      guide: guideOf(config, { origin, command: `${cardea} sessions revoke --user bob --wait${dataFlag(config)}` }),
      onError,
    });
    parts.defer(() => app.close());
    const services = await startServices(loaded, { logger, output });
    parts.defer(() => services.stop());
    const read = () => readConfiguration(path, { env: terminal.env, ...options });
    parts.defer(startReloading(process, { files, services, logger, watchesFiles: config.hotReload, read }));
    const renewal = await maintainOperatorFile(config);
    parts.defer(() => clearInterval(renewal));
    terminal.out(welcome(config, main));
    await untilStopped();
    return 0;
  },
};

function parsePort(text: string | undefined): number {
  if (text === undefined) return port.main;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 65_500)
    throw new UsageError(`--port ${text}: a number from 1 to 65500`);
  return value;
}

/**
 * Writes an operator token into the data folder (0600) for `cardea sessions …`, and renews it while the process runs.
 */
async function maintainOperatorFile(config: Config): Promise<NodeJS.Timeout> {
  const write = async (): Promise<void> => {
    const token = await mintOperatorToken({
      secret: config.sharedSecret,
      cluster: config.broker.clusterName,
      name: "dev",
      tokenId: randomUUID(),
      nowS: Math.floor(Date.now() / 1_000),
      ttlS: tokenTtlS,
    });
    mkdirSync(config.dataDir, { recursive: true, mode: 0o700 });
    const text = `${JSON.stringify({ url: config.authenticateServiceUrl.origin, token })}\n`;
    writeFileSync(join(config.dataDir, operatorFile), text, { mode: 0o600 });
  };
  await write();
  const renewal = setInterval(() => void write(), tokenRenewMs);
  renewal.unref();
  return renewal;
}

/** The steps of the start page: Bob uses an app, and Alice, an administrator, revokes his session. */
function guideOf(
  config: Config,
  { origin, command }: Readonly<{ origin: (name: string) => string; command: string }>,
): DemoGuideOptions {
  const { authenticateServiceUrl: authenticate } = config;
  const issuer = config.idp?.url ?? new URL(origin("idp"));
  /** Signs a person in without a form on the way to an address that starts a sign-in. */
  const as = (user: string, to: URL): URL => {
    const url = new URL("/demo/as", issuer);
    url.search = new URLSearchParams({ user, to: to.href }).toString();
    return url;
  };
  const bobAt = (host: string, path: string): URL => {
    const url = new URL("/.pomerium/sign_in", origin(host));
    url.searchParams.set("pomerium_account", "another");
    url.searchParams.set("pomerium_redirect_uri", new URL(path, origin(host)).href);
    return as("bob", url);
  };
  const bobsPage = `/people/${userIdOf(issuer.origin, "bob")}`;
  const consoleOfAlice = (): URL => {
    const [key] = authKeys(config).urls;
    if (key === undefined) throw new TypeError("no key signs addresses");
    const request = {
      redirectUri: new URL(`/.pomerium/admin${bobsPage}`, authenticate),
      callbackUri: null,
      idpIds: signInClientsOf(config).defaults.idpIds.slice(0, 1),
      additionalHosts: [],
      trace: null,
      programmatic: "browser",
      nonceHash: "",
      returns: 0,
      chosenIdpId: null,
      account: "another",
      seen: null,
    } as const;
    return as("alice", signInUrl(authenticate, request, key, Math.floor(Date.now() / 1_000)));
  };
  return {
    host: new URL(origin("start")).hostname,
    email: "bob@example.com",
    command,
    urlOf(target) {
      switch (target) {
        case "app":
          return bobAt("app", "/");
        case "portal":
          return bobAt("app", "/.pomerium/routes");
        case "refused":
          return bobAt("eng", "/");
        case "console":
          return consoleOfAlice();
        default:
          return unreachable(target);
      }
    },
  };
}

function dataFlag({ dataDir }: Config): string {
  return dataDir === "data" ? "" : ` --data-dir ${dataDir}`;
}

function welcome(config: Config, main: number): string {
  const users = demoUsers.map((u) => `${u.user} (${u.groups.join(", ")})`).join("; ");
  const flag = dataFlag(config);
  return `
Cardea is running, everything in one process, on loopback only. Open

  http://start.localhost:${main}    the first minute: an app, the console, and a revocation in three steps

  http://app.localhost:${main}      the demo app, for everyone who is signed in
  http://eng.localhost:${main}      the same, for members of the group eng
  http://public.localhost:${main}   the same, for everyone
  http://app.localhost:${main}/.pomerium/routes          the portal: your apps
  http://authenticate.localhost:${main}/.pomerium/admin/  the console, for alice

Sign in with any password as: ${users}

In a shell: sign in as alice, watch the clock, then in another terminal
  ${cardea} sessions list${flag}
  ${cardea} sessions revoke --user alice --wait${flag}
The clock stops, and the next click asks you to sign in. As bob, open eng: a page says why you are refused.
  ${cardea} groups add eng bob${flag}    and   ${cardea} audit tail${flag}

${config.store.type === "memory" ? "Log: in memory; secrets" : "Log and secrets"}: ${config.dataDir}.   Metrics: ${config.metricsAddress === null ? "off" : `http://${config.metricsAddress.host}:${config.metricsAddress.port}/metrics`}.   Ctrl-C stops.

`;
}
