/**
 * Autocert: orders and renews ACME certificates for the hosts of routes and keeps them in a folder.
 *
 * It checks the folder periodically and serves every certificate in it, whichever process ordered it. A missing or due
 * certificate is ordered by the process that gets the lock. A failed order is retried later, with the other challenge
 * type if there is one; meanwhile the current certificate stays in use. Nothing waits for an order.
 */
import type { X509Certificate } from "node:crypto";
import type { AutocertConfig, TlsFiles } from "../../config/index.ts";
import type { Logger } from "../../replication/index.ts";
import { type ChallengeType, createAccountKey, orderCertificate } from "./acme-client.ts";
import { AutocertFolder, type KeptPair, tryOrderLock } from "./autocert-folder.ts";

/** The part that listeners use. */
export type AcmeServing = Readonly<{
  certificates(): readonly TlsFiles[];
  /** By the host that the authority validates. */
  challengeCertificate(host: string): TlsFiles | undefined;
  /** Whether a TLS-ALPN-01 challenge is open. */
  isAsked(): boolean;
  /** Called when `certificates` has changed. */
  onChange(listener: () => void): void;
  /** Applies another configuration. Never throws: an unusable folder is logged and tried again at the next check. */
  follow(config: AutocertConfig | null): void;
}>;

export type Autocert = AcmeServing &
  Readonly<{
    challengeAnswer(token: string): string | undefined;
    /** Checks now. Resolves when everything due has been tried. */
    look(): Promise<void>;
    /** Starts no more orders, and does not wait for an open one. */
    close(): void;
  }>;

export type AutocertEvents = Readonly<{
  onOrdered(result: "issued" | "failed"): void;
}>;

/** The interval of checks while another process orders. */
const whileOrderedMs = 1_000;

type Served = Readonly<{ pair: KeptPair; due: number }>;
type Failing = Readonly<{ failures: number; until: number }>;

export function startAutocert(
  options: Readonly<{
    config: AutocertConfig | null;
    logger: Logger;
    events: AutocertEvents;
    wall: () => number;
    /** A random number from 0 to 1. */
    random: () => number;
    /** The interval of checks. */
    lookEveryMs?: number;
    /** The first delay after a failure. */
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
      folder = null; // also when the new one is unusable
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

  /** @returns whether a certificate changed */
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
      .catch((error: unknown) => logger.error({ error: String(error) }, "could not read the autocert folder"))
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
      // Another process orders; its certificate is picked up at the next check.
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
        "the certificate was not issued",
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
        logger.error(
          { error: String(error) },
          "could not apply the autocert configuration; the previous certificates stay in use",
        );
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

/** Alternates between the challenge types that can be answered, since one port may be closed. */
function challengeFor(config: AutocertConfig, failures: number): ChallengeType {
  const [first = "tls-alpn-01", ...others] = config.challenges;
  return [first, ...others][failures % config.challenges.length] ?? first;
}

/**
 * When a certificate is renewed: with a third of its lifetime left, as ACME authorities recommend, and slightly earlier
 * by a random share, so that certificates of one age are not renewed together.
 *
 * @param chance a random number from 0 to 1, fixed for the certificate
 * @returns Unix time in ms
 */
export function renewalDue(
  { validFromDate, validToDate }: Pick<X509Certificate, "validFromDate" | "validToDate">,
  chance: number,
): number {
  const [from, to] = [validFromDate.getTime(), validToDate.getTime()];
  const third = (to - from) / 3;
  return to - third - chance * (third / 6);
}

/** The delay by consecutive failures. Authorities limit failures per hour. */
const waits = [1, 2, 5, 15, 30, 60, 180, 360] as const;

/** @param chance a random number from 0 to 1 @returns milliseconds, with up to a fifth of jitter */
export function retryWait(failures: number, unitMs: number, chance: number): number {
  const wait = waits[Math.min(failures, waits.length) - 1] ?? 0;
  return wait * unitMs * (1 + chance / 5);
}
