/**
 * Provider clients: our clients at the identity providers of a configuration, at the issuers of bearer tokens, and what
 * is known of the providers' health.
 *
 * A process that serves sign-in asks each provider regularly whether it answers. So people and operators learn of an
 * outage before a sign-in fails, and the process starts whether a provider answers or not.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Gauge, type Registry } from "prom-client";
import {
  callbackPathOf,
  createGitHubClient,
  createLocalFetch,
  createOidcClient,
  createTokenIssuers,
  type LocalFetch,
  type ProviderClient,
  ProviderError,
  type ProviderStatus,
  type SignalTransmitter,
  type TokenIssuers,
} from "../../auth/index.ts";
import { type Config, defaultProviderName, type SignInClient, signInClientsOf } from "../../config/index.ts";
import type { Logger } from "../../replication/index.ts";
import { systemClock } from "../../replication/runtime/index.ts";

const providerTimeoutMs = 10_000;
/** By then this process listens, and it may be the proxy in front of a provider. */
const firstCheckMs = 5_000;
const checkEveryMs = 30_000;
/** Apple throttles clients that verify a person more often than daily. */
const appleRefreshMs = 24 * 3_600_000;

/** A provider as an operator sees it. */
export type ProviderView = Readonly<{
  name: string;
  title: string;
  provider: string;
  /** What the sessions of the provider name. */
  idpId: string;
  status: ProviderStatus;
}>;

export type ProviderClients = Readonly<{
  of(idpId: string): ProviderClient | undefined;
  issuers: TokenIssuers;
  signals: readonly SignalTransmitter[];
  /** Each configured provider, by its own client. */
  views(): readonly ProviderView[];
  close(): Promise<void>;
}>;

export function providerClientsOf(
  config: Config,
  {
    logger,
    transmittersOf,
  }: Readonly<{ logger: Logger; transmittersOf: (config: Config, local: LocalFetch) => readonly SignalTransmitter[] }>,
): ProviderClients {
  const local = createLocalFetch({
    timeoutMs: providerTimeoutMs,
    hosts: config.hostAliases,
    ...(config.certificateAuthority === null ? {} : { ca: config.certificateAuthority }),
  });
  const nowMs = (): number => systemClock.wall();
  const clients = new Map<string, ProviderClient>();
  const { all, byName } = signInClientsOf(config);
  for (const [idpId, client] of all) {
    const redirectUri = new URL(callbackPathOf(client.name), config.authenticateServiceUrl);
    clients.set(idpId, providerClientOf(client, { redirectUri, local, nowMs }));
  }
  const providers = config.signInProviders.flatMap(({ name }) => byName(name) ?? []);
  const stop = config.services.has("authenticate") ? startChecks(providers, { clients, logger }) : () => {};
  return {
    of: (idpId) => clients.get(idpId),
    issuers: createTokenIssuers(config.tokenIssuers, { local, nowMs, monotonic: systemClock.monotonic }),
    signals: transmittersOf(config, local),
    views: () =>
      providers.map(({ name, title, provider, idpId }) => {
        const status = clients.get(idpId)?.status() ?? "unknown";
        return { name, title, provider, idpId, status };
      }),
    async close() {
      stop();
      await local.close();
    },
  };
}

function providerClientOf(
  client: SignInClient,
  { redirectUri, local, nowMs }: Readonly<{ redirectUri: URL; local: LocalFetch; nowMs: () => number }>,
): ProviderClient {
  const settings = { ...client, issuer: client.url, redirectUri };
  if (client.provider === "github") return createGitHubClient(settings, local, nowMs, systemClock.monotonic);
  return createOidcClient(
    {
      ...settings,
      // Where several providers are trusted, none may choose the address of another's people.
      ...(client.name === defaultProviderName ? {} : { email: "verified" }),
      ...(client.provider === "apple" ? { behaviour: { namesOnce: true, refreshMsMin: appleRefreshMs } } : {}),
    },
    local,
    nowMs,
    systemClock.monotonic,
  );
}

/** One check of each provider at a time. @returns stops them */
function startChecks(
  providers: readonly SignInClient[],
  { clients, logger }: Readonly<{ clients: ReadonlyMap<string, ProviderClient>; logger: Logger }>,
): () => void {
  const stopped = new AbortController();
  for (const { name, idpId } of providers) {
    const client = clients.get(idpId);
    if (client !== undefined) void checkRegularly(name, client, { signal: stopped.signal, logger });
  }
  return () => stopped.abort();
}

async function checkRegularly(
  provider: string,
  client: ProviderClient,
  { signal, logger }: Readonly<{ signal: AbortSignal; logger: Logger }>,
): Promise<void> {
  let before: ProviderStatus = "unknown";
  await waitBetweenChecks(firstCheckMs, signal);
  while (!signal.aborted) {
    try {
      await client.check();
    } catch (error) {
      if (!(error instanceof ProviderError))
        logger.error({ provider, error: String(error) }, "a provider check failed");
    }
    if (signal.aborted) return;
    const status = client.status();
    if (status === "down" && before !== "down")
      logger.warn({ provider }, "an identity provider does not answer; people cannot sign in with it");
    else if (status === "up" && before === "down") logger.info({ provider }, "an identity provider answers again");
    before = status;
    // The processes of a cluster do not ask at the same moment.
    await waitBetweenChecks(checkEveryMs * (0.8 + Math.random() * 0.4), signal);
  }
}

/** Ends early, keeps no process alive, and leaves nothing at the signal, which lasts as long as the configuration. */
export async function waitBetweenChecks(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal, ref: false }).catch(() => undefined);
}

export function registerProviderMetrics(registry: Registry, views: ProviderClients["views"]): void {
  new Gauge({
    name: "cardea_sign_in_provider_up",
    registers: [registry],
    labelNames: ["provider"],
    help: "Whether an identity provider answered the last requests of this process: 1 or 0; absent: it has sent none",
    collect() {
      this.reset();
      for (const { name, status } of views())
        if (status !== "unknown") this.set({ provider: name }, status === "up" ? 1 : 0);
    },
  });
}
