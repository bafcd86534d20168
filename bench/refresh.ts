/**
 * Bench: the refresh of many sessions that are all due at once, by the leader of one process with all services and
 * SQLite, on one core. Prints the rate, the processor time of each refresh beside that of a session's creation, the
 * time of decisions meanwhile beside an idle process, and memory.
 *
 *   node bench/refresh.ts [--sessions 100000] [--delay 0]
 *
 * `--delay`: how long (ms) the provider takes for each answer. A refresh asks it twice: for tokens, and for userinfo.
 * The first twentieth of the sessions is not due: it shows how long the creation takes, and thus when the rest may be
 * due. A profile of the process, which has the cost of each step: `CPU_PROF=folder`.
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
const notDue = Math.ceil(sessions / 20);
const createdAtOnce = 64;
const sampledMs = 5_000;
/** As in the refresh duty. */
const beforeExpiryMs = 60_000;
const vaultReadsPerS = 5_000;
const mega = 2 ** 20;

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
  const idle = await sampled(cardea, () => delay(sampledMs));
  printTimes("decisions while idle", idle.times, idle);
  const empty = cardea.pinned.rssBytes();
  let dueAt = 0;
  const creating = await sampled(cardea, async () => {
    dueAt = await createSessions(cardea, provider);
  });
  printRate("sessions created", sessions, creating);
  const created = cardea.pinned.rssBytes();
  await delay(Math.max(0, dueAt - Date.now() - 2 * sampledMs)); // the leader reads the vault once for each session
  const waiting = await sampled(cardea, () => delay(sampledMs));
  printTimes("decisions while none is due", waiting.times, waiting);
  const cpuShare = (waiting.cpuMs / waiting.ms) * 100;
  console.log(
    `processor time while none is due: ${cpuShare.toFixed(1)} % of a core, with ${waiting.times.length} requests`,
  );
  await refreshed(provider, 1);
  const due = sessions - notDue;
  const refreshing = await sampled(cardea, () => refreshed(provider, due));
  printRate("sessions refreshed", due, refreshing);
  printTimes("decisions meanwhile", refreshing.times, refreshing);
  const perCreation = creating.cpuMs / sessions;
  console.log(
    `a refresh takes ${(refreshing.cpuMs / due / perCreation).toFixed(2)} times the processor time of a creation by command`,
  );
  const [before, then, now] = [empty, created, cardea.pinned.rssBytes()].map((bytes) => Math.round(bytes / mega));
  console.log(`memory: ${before} MB empty, ${then} MB after creation, ${now} MB after refresh`);
});

/** @returns when they are due */
async function createSessions({ config }: Cardea, provider: BenchProvider): Promise<number> {
  const client = connectBroker(config);
  const from = Date.now();
  await createEach(0, notDue, null);
  const needsMs = ((Date.now() - from) / notDue) * sessions * 1.5;
  const dueAt = Date.now() + needsMs + (sessions / vaultReadsPerS) * 1_000 + 3 * sampledMs;
  await createEach(notDue, sessions, (dueAt + beforeExpiryMs) as UnixMs);
  await client.close();
  return dueAt;

  async function createEach(first: number, end: number, accessTokenExpiresAt: UnixMs | null): Promise<void> {
    let next = first;
    await Promise.all(
      Array.from({ length: createdAtOnce }, async () => {
        for (let n = next++; n < end; n = next++) await create(n, accessTokenExpiresAt);
      }),
    );
  }

  async function create(n: number, accessTokenExpiresAt: UnixMs | null): Promise<void> {
    const person = `person-${n}`;
    const refreshToken = provider.refreshTokenFor(person);
    const tokens = { accessToken: "used up", refreshToken, idToken: null, accessTokenExpiresAt };
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
