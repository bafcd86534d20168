/**
 * Bench: two regions, 80 ms apart. The time of a revocation, a command and a sign-in in the home region and in the
 * other one, beside a bare round trip over the same link in the same run.
 *
 *   node bench/regions.ts [--rounds 60] [--late 40]      late: the delay of each byte in each direction, in ms
 *
 * Real processes: Postgres, a NATS server in each region (the western one a leaf of the eastern), brokers, proxies.
 * Relays between the regions deliver late. A revocation is enforced when a client sees its open WebSocket cut.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { parseArgs } from "node:util";
import { parseCommandId, parseConfigHash, parseNodeId } from "../src/events/index.ts";
import { openSocket } from "../test/integration/cluster/client.ts";
import type { ClusterProcess } from "../test/integration/cluster/cluster-process.ts";
import { startTwoRegions } from "../test/integration/regions/two-regions.ts";
import { startWan } from "../test/integration/regions/wan.ts";
import { waitFor } from "../test/support/wait-for.ts";
import { histogram, percentile } from "./support/histogram.ts";

const { values } = parseArgs({
  options: { rounds: { type: "string", default: "60" }, late: { type: "string", default: "40" } },
});
const rounds = Number(values.rounds);
const lateMs = Number(values.late);

const regions = await startTwoRegions({ timing: "default", westProxies: 1, lateMs });
const took: Record<string, number[]> = {};

function note(what: string, ms: number): void {
  took[what] ??= [];
  took[what].push(ms);
}
async function time<T>(what: string, act: () => Promise<T>): Promise<T> {
  const from = performance.now();
  const result = await act();
  note(what, performance.now() - from);
  return result;
}

try {
  const [west] = regions.west.proxies;
  if (west === undefined) throw new Error("there is no proxy in the west");
  const { proxy: east, brokers } = regions.east;
  await bareRoundTrips();
  const western = regions.clientVia(regions.west.broker);
  const eastern = regions.clientVia(brokers[0] ?? regions.west.broker);
  for (let n = 0; n < rounds; n++) {
    const session = await time("sign-in: the session is in the log (home)", () => regions.session(`user-${n}`));
    await time("sign-in: first request at home", () => permitted(east, session));
    await time("sign-in: first request in the other region", () => permitted(west, session));
    const [here, there] = await Promise.all([east, west].map((at) => socketAt(at, session)));
    if (here === undefined || there === undefined) throw new Error("no sockets");
    const from = performance.now();
    const cut = [
      here.closed.then(() => note("revoke: enforced at home", performance.now() - from)),
      there.closed.then(() => note("revoke: enforced in the other region", performance.now() - from)),
    ];
    await time("revoke: receipt of all", () => regions.operator.revoke(session, { wait: "all", timeoutMs: 10_000 }));
    await Promise.all(cut);
    await time("append: asked at home", () => appendAt(eastern));
    await time("append: requested in the other region", () => appendAt(western));
  }
  const rtt = percentile(took["bare round trip"] ?? [], 50);
  for (const [what, all] of Object.entries(took)) {
    const [p50, p99] = [percentile(all, 50), percentile(all, 99)];
    const ratio = (p50 / rtt).toFixed(2);
    console.log(
      `${what.padEnd(48)} p50 ${p50.toFixed(1).padStart(7)} ms   p99 ${p99.toFixed(1).padStart(7)} ms   ${ratio} × round trip`,
    );
  }
  const revoked = ["revoke: enforced at home", "revoke: enforced in the other region"];
  console.log(histogram(Object.fromEntries(revoked.map((what) => [what.slice(8), took[what] ?? []])), "ms"));
} finally {
  await regions.stop();
}

type Session = Awaited<ReturnType<typeof regions.session>>;

async function permitted(at: ClusterProcess, session: Session): Promise<void> {
  const answer = await regions.get(at, "app", session);
  if (!answer.permitted) throw new Error(`${at.name} answered ${answer.status}`);
}

function socketAt(at: ClusterProcess, session: Session) {
  return openSocket({ port: at.ports.address, host: regions.host("app"), cookie: session.cookie });
}

/** One small event, requested from one broker. */
async function appendAt(client: ReturnType<typeof regions.clientVia>): Promise<void> {
  const hash = parseConfigHash(randomBytes(32).toString("hex"));
  const result = await client.submit({
    commandId: parseCommandId(randomUUID()),
    actor: "service:bench",
    command: { type: "activateConfiguration", nodeId: parseNodeId("bench"), configHash: hash },
  });
  if (result.type !== "done") throw new Error(result.message);
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
