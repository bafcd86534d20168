/**
 * Bench: the refresh of many sessions that are all due, by the leader of one process with all services and SQLite, on
 * one core. Prints the rate, the processor time of each refresh beside that of a session's creation, and the time of
 * decisions meanwhile beside an idle process.
 *
 *   node bench/refresh.ts [--sessions 100000] [--delay 0]
 *
 * `--delay`: how long (ms) the provider takes for each answer. A refresh asks it twice: for tokens, and for userinfo.
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import type { UnixMs } from "../src/events/index.ts";
import { type BenchProvider, startBenchProvider } from "./support/bench-provider.ts";
import { type Cardea, connectBroker, newSession, startCardea } from "./support/cardea.ts";
import { printTimes, type Sampled, sampled } from "./support/sampled-decisions.ts";
import { withStand } from "./support/stand.ts";

const { values } = parseArgs({
  options: { sessions: { type: "string", default: "100000" }, delay: { type: "string", default: "0" } },
});
const sessions = Number(values.sessions);
const createdAtOnce = 64;

await withStand(async (stand) => {
  const upstream = createServer((_request, response) => response.end("ok")).listen(0, "127.0.0.1");
  stand.atEnd(async () => void upstream.close());
  await new Promise((resolve) => upstream.once("listening", resolve));
  const provider = await startBenchProvider(Number(values.delay));
  stand.atEnd(provider.close);
  const cardea = await startCardea(stand, {
    upstreamPort: (upstream.address() as AddressInfo).port,
    store: "file",
    idp: provider.issuer,
  });
  const idle = await sampled(cardea, () => delay(3_000));
  printTimes("decisions while idle", idle.times, idle);
  const creating = await sampled(cardea, () => createSessions(cardea, provider));
  printRate("sessions created", sessions, creating);
  await refreshed(provider, 1);
  const refreshing = await sampled(cardea, () => refreshed(provider, sessions));
  printRate("sessions refreshed", sessions, refreshing);
  printTimes("decisions meanwhile", refreshing.times, refreshing);
  console.log(
    `a refresh takes ${(refreshing.cpuMs / creating.cpuMs).toFixed(2)} times the processor time of a creation by command`,
  );
});

/** Each is due ten seconds after its creation. */
async function createSessions({ config }: Cardea, provider: BenchProvider): Promise<void> {
  const client = connectBroker(config);
  let next = 0;
  await Promise.all(
    Array.from({ length: createdAtOnce }, async () => {
      for (let n = next++; n < sessions; n = next++) await create(n);
    }),
  );
  await client.close();

  async function create(n: number): Promise<void> {
    const person = `person-${n}`;
    const tokens = {
      accessToken: "used up",
      refreshToken: provider.refreshTokenFor(person),
      idToken: null,
      accessTokenExpiresAt: Date.now() as UnixMs,
    };
    const request = newSession(config, { person, issuer: provider.issuer, tokens });
    for (;;) {
      const result = await client.submit(request);
      if (result.type === "done") return;
      if (result.type === "refused") throw new Error(result.message);
      await delay(result.retryAfterMs);
    }
  }
}

async function refreshed(provider: BenchProvider, count: number): Promise<void> {
  while (provider.refreshed() < count) await delay(20);
}

function printRate(what: string, count: number, { ms, cpuMs }: Sampled): void {
  const perSecond = Math.round((count * 1_000) / ms);
  console.log(
    `${count} ${what} in ${(ms / 1_000).toFixed(1)} s: ${perSecond}/s, ${(cpuMs / count).toFixed(2)} ms of CPU each`,
  );
}
