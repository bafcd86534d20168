/**
 * Autocert: certificates by ACME for the hosts of routes, kept in a folder, renewed in time.
 *
 * It looks at the folder every now and then: what is there is served, whoever ordered it; what is missing or due is ordered by whoever
 * of the processes that share the folder gets the lock. An order that fails is tried again later, with the other kind of challenge
 * where there is one, and what is there goes on being served. Nothing waits for it.
 */
import type { AutocertConfig, TlsFiles } from "../../config/index.ts";
import type { Logger } from "../../replication/index.ts";
import { type ChallengeType, createAccountKey, orderCertificate } from "./acme-client.ts";
import { AutocertFolder, type KeptPair } from "./autocert-folder.ts";
import { tryOrderLock } from "./autocert-lock.ts";
import { renewalDue, retryWait } from "./renewal.ts";

/** What listeners need of it. */
export type AcmeServing = Readonly<{
  certificates(): readonly TlsFiles[];
  /** By the host that the authority asks for. */
  challengeCertificate(host: string): TlsFiles | undefined;
  /** An authority may ask by TLS-ALPN-01 right now. */
  isAsked(): boolean;
  /** Told when `certificates` gives others. */
  onChange(listener: () => void): void;
  /** Another configuration is in force. Never throws: a folder that cannot be used is logged, and tried with the next look. */
  follow(config: AutocertConfig | null): void;
}>;

export type Autocert = AcmeServing &
  Readonly<{
    challengeAnswer(token: string): string | undefined;
    /** Looks now, and settles when everything that was due has been tried. */
    look(): Promise<void>;
    /** Nothing is begun any more; an order under way is not waited for. */
    close(): void;
  }>;

export type AutocertEvents = Readonly<{
  onOrdered(result: "issued" | "failed"): void;
}>;

/** How often the folder is looked at while another process orders. */
const whileOrderedMs = 1_000;

type Served = Readonly<{ pair: KeptPair; due: number }>;
type Failing = Readonly<{ failures: number; until: number }>;

export function startAutocert(
  options: Readonly<{
    config: AutocertConfig | null;
    logger: Logger;
    events: AutocertEvents;
    wall: () => number;
    /** From 0 to 1. */
    random: () => number;
    /** How often the folder is looked at. */
    lookEveryMs?: number;
    /** The first wait after a failure. */
    retryMs?: number;
  }>,
): Autocert {
  const { logger, wall, random, lookEveryMs = 30_000, retryMs = 60_000 } = options;
  let config: AutocertConfig | null = null;
  let folder: AutocertFolder | null = null;
  const served = new Map<string, Served>();
  const failing = new Map<string, Failing>();
  const listeners: (() => void)[] = [];
  let looking: Promise<void> | undefined;
  let closed = false;
  const timer = setInterval(() => void look(), lookEveryMs);
  timer.unref();

  function follow(next: AutocertConfig | null): void {
    const moved = next?.folder !== config?.folder || next?.directory.href !== config?.directory.href;
    config = next;
    const before = served.size;
    if (moved) {
      folder = null; // also when the new one cannot be used
      served.clear();
      failing.clear();
      openFolder();
    }
    for (const host of served.keys()) if (config?.hosts.includes(host) !== true) served.delete(host);
    if (takeWhatIsThere() || served.size !== before) announce();
    if (config !== null) setImmediate(() => void look()).unref();
  }

  function openFolder(): void {
    if (config !== null) folder ??= new AutocertFolder(config.folder, config.directory);
  }

  /** @returns whether something changed */
  function takeWhatIsThere(): boolean {
    let changed = false;
    for (const host of config?.hosts ?? []) {
      const pair = folder?.pair(host);
      if (pair === undefined || served.get(host)?.pair.cert === pair.cert) continue;
      served.set(host, { pair, due: renewalDue(pair.certificate, random()) });
      failing.delete(host);
      changed = true;
    }
    return changed;
  }

  function dueHosts(): readonly string[] {
    const now = wall();
    return (config?.hosts ?? []).filter(
      (host) => (served.get(host)?.due ?? 0) <= now && (failing.get(host)?.until ?? 0) <= now,
    );
  }

  function look(): Promise<void> {
    looking ??= lookOnce()
      .catch((error: unknown) => logger.error({ error: String(error) }, "autocert could not look at its folder"))
      .finally(() => {
        looking = undefined;
      });
    return looking;
  }

  async function lookOnce(): Promise<void> {
    openFolder();
    if (takeWhatIsThere()) announce();
    if (config === null || closed || dueHosts().length === 0) return;
    const release = tryOrderLock(config.folder);
    if (release === undefined) {
      // Another process orders, and what it gets is served here as soon.
      if (!closed) setTimeout(() => void look(), Math.min(whileOrderedMs, lookEveryMs)).unref();
      return;
    }
    try {
      folder?.forgetQuestions();
      if (takeWhatIsThere()) announce();
      for (const host of dueHosts()) {
        if (closed || config?.hosts.includes(host) !== true) continue;
        await order(host, config);
        if (takeWhatIsThere()) announce();
      }
    } finally {
      release();
    }
  }

  async function order(host: string, by: AutocertConfig): Promise<void> {
    const kept = new AutocertFolder(by.folder, by.directory);
    const failures = failing.get(host)?.failures ?? 0;
    const type = challengeFor(by, failures);
    logger.info({ host, type, authority: by.directory.host }, "ordering a certificate");
    try {
      const account = kept.account() ?? { key: await createAccountKey(), url: null };
      kept.saveAccount(account);
      const { pair, accountUrl } = await orderCertificate(by, { host, account, type, board: boardOn(kept) });
      kept.saveAccount({ ...account, url: accountUrl });
      kept.savePair(host, pair);
      options.events.onOrdered("issued");
      logger.info({ host }, "a certificate was issued");
    } catch (error) {
      const waitMs = retryWait(failures + 1, retryMs, random());
      failing.set(host, { failures: failures + 1, until: wall() + waitMs });
      options.events.onOrdered("failed");
      const expires = served.get(host)?.pair.certificate.validToDate.toISOString() ?? null;
      logger.error(
        { host, type, error: String(error), failures: failures + 1, againInMs: Math.round(waitMs), expires },
        "no certificate was issued",
      );
    }
  }

  function boardOn(kept: AutocertFolder): Parameters<typeof orderCertificate>[1]["board"] {
    return {
      offerAnswer: (token, answer) => kept.saveChallenge(token, answer),
      offerCertificate: (host, pair) => kept.saveQuestion(host, pair),
      takeBack({ token, host }) {
        kept.removeChallenge(token);
        kept.removeQuestion(host);
      },
    };
  }

  function announce(): void {
    for (const listener of listeners) listener();
  }

  follow(options.config);
  return {
    certificates: () => [...served.values()].map(({ pair: { cert, key } }) => ({ cert, key })),
    challengeCertificate: (host) => (config?.hosts.includes(host) === true ? folder?.question(host) : undefined),
    isAsked: () => folder?.isAsked() ?? false,
    onChange: (listener) => void listeners.push(listener),
    follow(next) {
      try {
        follow(next);
      } catch (error) {
        logger.error({ error: String(error) }, "autocert does not follow the configuration");
      }
    },
    challengeAnswer: (token) => folder?.challengeAnswer(token),
    look,
    close() {
      closed = true;
      clearInterval(timer);
    },
  };
}

/** By turns, where both can be answered: one way in may be closed. */
function challengeFor(config: AutocertConfig, failures: number): ChallengeType {
  const [first = "tls-alpn-01", ...others] = config.challenges;
  return [first, ...others][failures % config.challenges.length] ?? first;
}
