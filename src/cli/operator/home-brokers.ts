/**
 * Home brokers: asks the brokers of every region that may hold the leader, one by one, which part they play and who
 * leads. It changes nothing: the brokers change their part by themselves (src/cli/build/changing-databroker.ts).
 */
import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { Config } from "../../config/index.ts";
import { systemClock } from "../../replication/runtime/index.ts";
import { createBrokerClient } from "../../replication/wire/index.ts";

export type HomeBroker = Readonly<{
  region: string;
  url: string;
  /** `home`: it reads the log in Postgres and may lead. `region`: it serves its region. Null: it does not answer. */
  part: "home" | "region" | null;
  problem: string;
  leading: boolean;
  /** The leader that it names. */
  leader: Readonly<{ url: string | null; epoch: number }> | null;
}>;

const silent = { debug() {}, info() {}, warn() {}, error() {} };
const askMsMax = 3_000;
const pollMs = 250;

/** Asks every broker of `broker.homes`. */
export async function askHomeBrokers(config: Config): Promise<readonly HomeBroker[]> {
  const each = config.broker.homes.flatMap(({ region, urls }) => urls.map((url) => ({ region, url })));
  return Promise.all(each.map(({ region, url }) => askBroker(config, region, url)));
}

async function askBroker(config: Config, region: string, url: URL): Promise<HomeBroker> {
  const client = createBrokerClient({
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
  const unknown = { region, url: url.href, part: null, leading: false, leader: null } as const;
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
      leader: leader === null ? null : { url: leader.url, epoch: leader.epoch },
    };
  } catch (error) {
    return { ...unknown, problem: error instanceof Error ? error.message : String(error) };
  } finally {
    await client.close();
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

/** Asks until a condition holds. @returns the last answers */
export async function askUntil(
  config: Config,
  { isMet, withinMs }: Readonly<{ isMet: (brokers: readonly HomeBroker[]) => boolean; withinMs: number }>,
): Promise<readonly HomeBroker[]> {
  const giveUpAt = performance.now() + withinMs;
  for (;;) {
    const brokers = await askHomeBrokers(config);
    if (isMet(brokers) || performance.now() > giveUpAt) return brokers;
    await delay(pollMs);
  }
}
