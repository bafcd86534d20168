/**
 * Bench: three regions, 80 ms between each of the other two and home. The time of a revocation, a command and a sign-in
 * in each region, and of a revocation by a region that is cut off, beside a bare round trip over the same kind of link
 * in the same run.
 *
 *   node bench/regions.ts [--rounds 60] [--late 40] [--moves 3]
 *   late: the delay of each byte in each direction, in ms; moves: planned moves of the home region, over links as late
 *
 * Real processes: Postgres with a standby in each region, a NATS server in each region (leaves of the home region's),
 * brokers, authenticate and proxies. Relays between the regions deliver late. A revocation is enforced when a client
 * sees its open WebSocket cut.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { parseArgs } from "node:util";
import { parseCommandId, parseConfigHash, parseNodeId } from "../src/events/index.ts";
import { openSocket, sendUntilDecided } from "../test/integration/cluster/client.ts";
import type { Session } from "../test/integration/cluster/cluster.ts";
import { startWan } from "../test/integration/regions/wan.ts";
import { waitFor } from "../test/support/wait-for.ts";
import { reportBudgets } from "./support/budget.ts";
import { histogram, percentile } from "./support/histogram.ts";
import { measureHomeMove } from "./support/home-move.ts";
import { localRevocations } from "./support/local-revocations.ts";
import { type Region, type StandbyWait, startThreeRegions } from "./support/three-regions.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "60" },
    late: { type: "string", default: "40" },
    moves: { type: "string", default: "3" },
  },
});
const rounds = Number(values.rounds);
const lateMs = Number(values.late);
/** How much longer than one way a revocation may take until it is enforced on the last node, from the home region. */
const beyondOneWayMs = 60;
/** Rounds that do not count, in which connections open and code is compiled. */
const warmUpRounds = 3;
/** Each cut gives six of these figures and takes about a quarter of a minute. */
const localRoundsMax = 24;
/** How long a planned move of the home region may accept no change. */
const moveMsMax = 5_000;

const moveRow = "planned move of the home region: no change accepted";

const regions = await startThreeRegions({ lateMs });
const took = new Map<string, number[]>();

function note(what: string, ms: number): void {
  took.set(what, [...(took.get(what) ?? []), ms]);
}
async function time<T>(what: string, act: () => Promise<T>): Promise<T> {
  const from = performance.now();
  const result = await act();
  note(what, performance.now() - from);
  return result;
}

const lastFrom = (region: Region): string => `revoke from ${region.name} → enforced on the last node of all regions`;

try {
  await regions.waitFor("home");
  for (let n = 0; n < warmUpRounds; n++) for (const region of regions.all) await round(region, -n);
  took.clear();
  await bareRoundTrips();
  for (let n = 0; n < rounds; n++) for (const region of regions.all) await round(region, n);
  progress("revocations");
  for (const standby of ["none", "home", "other-region"] as const) await commands(standby);
  await regions.waitFor("home");
  progress("commands");
  const local = { rounds: Math.min(rounds, localRoundsMax), host: regions.host("app") };
  for (const region of regions.all) if (region.links.length > 0) await localRevocations(region, { ...local, note });
  progress("local revocations");
} finally {
  await regions.stop();
}
for (let n = 0; n < Number(values.moves); n++) {
  const { withoutChangesMs, longestChangeMs } = await measureHomeMove({ lateMs });
  note(moveRow, withoutChangesMs);
  note("planned move of the home region: longest change of a client", longestChangeMs);
}
progress("moves of the home region");
report();

/** The figures follow together at the end, some minutes later. */
function progress(what: string): void {
  console.error(`${(performance.now() / 1_000).toFixed(0).padStart(4)} s  measured: ${what}`);
}

/** A sign-in in one region, its first requests in all, then its revocation from that region. */
async function round(region: Region, n: number): Promise<void> {
  const { name } = region;
  const session = await time(`sign-in in ${name}: the session is in the log`, () =>
    region.session(`user-${name}-${n}`),
  );
  await time(`sign-in in ${name}: first request there`, () => permitted(region, session));
  const sockets = await Promise.all(
    regions.all.map(async (each) => ({ at: each, socket: await openAt(each, session) })),
  );
  const from = performance.now();
  const cut = sockets.map(async ({ at, socket }) => {
    await socket.closed;
    note(`revoke from ${name} → enforced in ${at.name}`, performance.now() - from);
  });
  const last = Promise.all(cut).then(() => note(lastFrom(region), performance.now() - from));
  await time(`revoke from ${name} → complete receipt of all regions`, () =>
    region.operator.revoke(session, { wait: "all", timeoutMs: 10_000 }),
  );
  await last;
}

/** One small event, requested from the broker of each region. */
async function commands(standby: StandbyWait): Promise<void> {
  await regions.waitFor(standby);
  const where = { none: "no standby", home: "a standby at home", "other-region": "a standby in another region" };
  for (let n = 0; n < rounds; n++)
    for (const region of regions.all) {
      const hash = parseConfigHash(randomBytes(32).toString("hex"));
      const result = await time(`command in ${region.name}, commits wait for ${where[standby]}`, () =>
        region.client.submit({
          commandId: parseCommandId(randomUUID()),
          actor: "service:bench",
          command: { type: "activateConfiguration", nodeId: parseNodeId("bench"), configHash: hash },
        }),
      );
      if (result.type !== "done") throw new Error(result.message);
    }
}

function report(): void {
  const rtt = percentile(took.get("bare round trip") ?? [], 50);
  for (const [what, all] of took) {
    const [p50, p99] = [percentile(all, 50), percentile(all, 99)];
    const ratio = (p50 / rtt).toFixed(2);
    console.log(
      `${what.padEnd(64)} p50 ${p50.toFixed(1).padStart(7)} ms   p99 ${p99.toFixed(1).padStart(7)} ms   ${ratio} × round trip`,
    );
  }
  const series = regions.all.map((region) => [`from ${region.name}`, took.get(lastFrom(region)) ?? []] as const);
  console.log(histogram(Object.fromEntries(series), "ms"));
  const [home] = regions.all;
  const p99 = home === undefined ? Number.NaN : percentile(took.get(lastFrom(home)) ?? [], 99);
  const boundMs = rtt / 2 + beyondOneWayMs;
  const moves = took.get(moveRow) ?? [];
  const longestMoveMs = Math.max(0, ...moves);
  reportBudgets([
    {
      what: `planned move of the home region: no change accepted, longest of ${moves.length}`,
      result: `${longestMoveMs.toFixed(0)} ms`,
      budget: `≤ ${moveMsMax} ms`,
      met: moves.length === 0 ? null : longestMoveMs <= moveMsMax,
    },
    {
      what: "revoke from home → last node of three regions, p99",
      result: `${p99.toFixed(1)} ms`,
      budget: `≤ one way + ${beyondOneWayMs} ms: ${boundMs.toFixed(1)} ms`,
      met: p99 <= boundMs,
    },
  ]);
}

async function permitted(region: Region, session: Session): Promise<void> {
  const answer = await sendUntilDecided({
    ...{ port: region.proxy.ports.address, host: regions.host("app"), cookie: session.cookie },
  });
  if (!answer.permitted) throw new Error(`${region.proxy.name} answered ${answer.status}`);
}

function openAt(region: Region, session: Session) {
  return openSocket({ port: region.proxy.ports.address, host: regions.host("app"), cookie: session.cookie });
}

/** One byte there and back. */
async function bareRoundTrips(): Promise<void> {
  const echo = createServer((socket) => socket.pipe(socket));
  echo.listen(0, "127.0.0.1");
  await once(echo, "listening");
  const wan = await startWan((echo.address() as AddressInfo).port, { lateMs });
  const socket = connect({ port: wan.port, host: "127.0.0.1", noDelay: true });
  await once(socket, "connect");
  await waitFor("the first echo", async () => {
    socket.write("0");
    await once(socket, "data");
    return true;
  });
  for (let n = 0; n < rounds; n++)
    await time("bare round trip", async () => {
      socket.write("1");
      await once(socket, "data");
    });
  socket.destroy();
  await wan.close();
  echo.close();
}
