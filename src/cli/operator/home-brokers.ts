/**
 * Home brokers: asks the brokers of every region that may hold the leader, one by one, which part they play and who
 * leads. It changes nothing: the brokers change their part by themselves (src/cli/build/changing-databroker.ts).
 */
import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { Config } from "../../config/index.ts";
import { systemClock } from "../../replication/runtime/index.ts";
import { type BrokerClient, createBrokerClient } from "../../replication/wire/index.ts";

export type HomeBroker = Readonly<{
  region: string;
  url: string;
  /** `home`: it reads the log in Postgres and may lead. `region`: it serves its region. Null: it does not answer. */
  part: "home" | "region" | null;
  problem: string;
  leading: boolean;
  /** Whether it leads by itself once the Postgres primary is in its region. Null: it does not answer. */
  mayLead: boolean | null;
  /** The leader that it names. */
  leader: Readonly<{ url: string | null; epoch: number }> | null;
  /** Revocations that its region accepted by itself and that the log does not have yet; null: it names none. */
  unmerged: number | null;
  /** The mirror of the replay buffer in its region. `none`: it needs none, or does not say. */
  mirror: "follows" | "missing" | "none";
}>;

type Asked = Readonly<{ region: string; url: URL; client: BrokerClient }>;

const silent = { debug() {}, info() {}, warn() {}, error() {} };
const askMsMax = 3_000;
const pollMs = 250;
/** While no change is accepted, ms. */
const leaderPollMs = 50;

export class HomeBrokers {
  readonly #asked: readonly Asked[];

  /** Every broker of `broker.homes`. */
  constructor(config: Config) {
    this.#asked = config.broker.homes.flatMap(({ region, urls }) =>
      urls.map((url) => ({ region, url, client: clientFor(config, url) })),
    );
  }

  async ask(): Promise<readonly HomeBroker[]> {
    return Promise.all(this.#asked.map(askBroker));
  }

  /** Asks until a condition holds. @returns the last answers */
  async askUntil({
    isMet,
    withinMs,
  }: Readonly<{
    isMet: (brokers: readonly HomeBroker[]) => boolean;
    withinMs: number;
  }>): Promise<readonly HomeBroker[]> {
    const giveUpAt = performance.now() + withinMs;
    for (;;) {
      const brokers = await this.ask();
      if (isMet(brokers) || performance.now() > giveUpAt) return brokers;
      await delay(pollMs);
    }
  }

  /**
   * Asks each broker of a region until one of them leads a later epoch. One that does not answer delays no other.
   * @returns undefined: the signal has aborted before
   */
  async firstLeader(region: string, after: number, signal: AbortSignal): Promise<HomeBroker | undefined> {
    const found = new AbortController();
    const either = AbortSignal.any([signal, found.signal]);
    let first: HomeBroker | undefined;
    const watch = async (asked: Asked): Promise<void> => {
      while (!either.aborted) {
        const broker = await askBroker(asked);
        if (broker.leading && (broker.leader?.epoch ?? 0) > after) {
          first ??= broker;
          found.abort();
        }
        await delay(leaderPollMs, undefined, { signal: either }).catch(() => {});
      }
    };
    const all = Promise.all(this.#asked.filter((asked) => asked.region === region).map(watch));
    const ended = new Promise<void>((resolve) => either.addEventListener("abort", () => resolve(), { once: true }));
    await Promise.race([all, ended]);
    return first;
  }

  async close(): Promise<void> {
    await Promise.all(this.#asked.map(({ client }) => client.close()));
  }
}

function clientFor(config: Config, url: URL): BrokerClient {
  return createBrokerClient({
    role: "operator",
    urls: [url],
    cluster: config.broker.clusterName,
    name: "cardea region",
    secret: config.sharedSecret,
    previousSecret: config.sharedSecretPrevious,
    tlsCa: config.broker.tlsCa,
    allowPlaintext: true, // the configuration has refused it, or said so (grpc_insecure)
    clock: systemClock,
    randomBytes,
    logger: silent,
  });
}

async function askBroker({ client, region, url }: Asked): Promise<HomeBroker> {
  const unknown = {
    region,
    url: url.href,
    part: null,
    leading: false,
    mayLead: null,
    leader: null,
    unmerged: null,
    mirror: "none",
  } as const;
  try {
    const answer = client.status();
    answer.catch(() => {}); // it may fail after the time is up
    const status = await Promise.race([answer, delay(askMsMax, null, { ref: false })]);
    if (status === null) return { ...unknown, problem: `no answer within ${askMsMax} ms` };
    const { broker, leader } = status;
    return {
      region,
      url: url.href,
      part: broker.store === "region" ? "region" : "home",
      problem: "",
      leading: broker.leading,
      mayLead: broker.store !== "region" || broker.mayLead === true,
      leader: leader === null ? null : { url: leader.url, epoch: leader.epoch },
      unmerged: broker.localUnmerged ?? null,
      mirror: broker.mirrorLag === undefined ? "none" : broker.mirrorLag === null ? "missing" : "follows",
    };
  } catch (error) {
    return { ...unknown, problem: error instanceof Error ? error.message : String(error) };
  }
}

/** The broker of a region that leads, as a broker of that region reports; undefined: none does. */
export function leaderIn(brokers: readonly HomeBroker[], region: string): HomeBroker | undefined {
  return brokers.find((broker) => broker.region === region && broker.leading && broker.leader !== null);
}

/** The brokers of other regions that still contend for the lead. */
export function contendersBeside(brokers: readonly HomeBroker[], region: string): readonly HomeBroker[] {
  return brokers.filter((broker) => broker.region !== region && broker.part === "home");
}

/** The regions whose NATS has no mirror of the replay buffer of the home region, as each broker that answers says. */
export function withoutMirror(brokers: readonly HomeBroker[]): readonly string[] {
  const follows = new Set(brokers.filter(({ mirror }) => mirror === "follows").map(({ region }) => region));
  const missing = brokers.filter(({ mirror, region }) => mirror === "missing" && !follows.has(region));
  return [...new Set(missing.map(({ region }) => region))];
}

/**
 * What a region revoked by itself and the log does not have. Every broker of the region has each of them on its disk
 * before it counts as accepted, so the answer of one broker is enough (docs/protocol.md §6.4).
 */
export function unmergedIn(brokers: readonly HomeBroker[], region: string): number {
  return Math.max(0, ...brokers.filter((broker) => broker.region === region).map(({ unmerged }) => unmerged ?? 0));
}

/** Why a planned move to a region should not begin; null: its brokers are ready. */
export function whyNotReady(brokers: readonly HomeBroker[], region: string): string | null {
  const own = brokers.filter((broker) => broker.region === region);
  if (own.every(({ part }) => part === null)) {
    const who = own.map(({ url, problem }) => `${url}: ${problem}`).join("; ");
    return `no broker of ${region} answers (${who}), so no change would be accepted after the move`;
  }
  if (own.every(({ mayLead }) => mayLead !== true)) {
    const who = own.filter(({ part }) => part !== null).map(({ url }) => url);
    return `no broker of ${region} can lead (${who.join(", ")}), so no change would be accepted after the move. Give it the same broker.homes as this file and this build (cardea version), and start it again`;
  }
  const unmerged = unmergedIn(own, region);
  // Without a leader they cannot be recorded before the move. A broker of the region records them after it.
  if (unmerged === 0 || !brokers.some((broker) => broker.region !== region && broker.leading)) return null;
  return `${region} has revocations of its own that the log does not have yet (${unmerged}). Its brokers record them while they reach the leader: wait until this command no longer names them; if it still does, read the log of a broker of ${region}`;
}
