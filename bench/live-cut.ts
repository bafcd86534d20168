/**
 * Bench: a live cut on one node. Ten thousand streams of four kinds are open on a whole process: WebSockets, event
 * streams, streams of HTTP/2 connections, and TCP tunnels. Sessions are revoked; the time runs from the call of the
 * command, which includes its commit, to the moment at which the callers see the last stream end.
 *
 *   node bench/live-cut.ts [--streams 10000] [--rounds 3] [--small 100] [--cuts 8]
 *
 * Each round opens all of them and waits until the collector is done with that. It revokes `--cuts` people with
 * `--small` streams each, one after another, and then one person with all others. The floor is a bare Node process that
 * resets as many sockets, without any other work. Callers and upstream share the other core, the upstream with the
 * lowest priority. Each round leaves some 8,000 closed connections to one port, which the kernel remembers for a
 * minute; more than three rounds need more ports than it has.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { type CommandId, userIdOf } from "../src/events/index.ts";
import { freePorts } from "../test/support/free-port.ts";
import { reportBudgets } from "./support/budget.ts";
import { type Cardea, connectBroker, startCardea } from "./support/cardea.ts";
import { percentile } from "./support/histogram.ts";
import type { OpenStreams, StreamAnswer, StreamKind, StreamOrder } from "./support/live-streams.ts";
import { coreOfLoad, coreOfProxy, type Stand, withStand } from "./support/stand.ts";

const { values } = parseArgs({
  options: {
    streams: { type: "string", default: "10000" },
    rounds: { type: "string", default: "3" },
    small: { type: "string", default: "100" },
    cuts: { type: "string", default: "8" },
  },
});
const [streams, rounds, small, cuts] = [values.streams, values.rounds, values.small, values.cuts].map(Number) as [
  number,
  number,
  number,
  number,
];
const lastMsMax = 50;
const kinds: readonly StreamKind[] = ["websocket", "sse", "http2", "tunnel"];
const tunnelPort = 5_432;
const settleMs = 2_000;

await withStand(async (stand) => {
  const [httpPort = 0, tcpPort = 0, barePort = 0] = await freePorts(3);
  const upstream = ["-n", "19", process.execPath, fileOf("live-upstream"), String(httpPort), String(tcpPort)];
  await stand.start(coreOfLoad, "nice", upstream, httpPort);
  const callers = startChild(stand, coreOfLoad, "live-streams", []);
  const bare = startChild(stand, coreOfProxy, "bare-streams", [String(barePort), String(tcpPort)]);
  const bounds =
    "circuit_breaker_thresholds: {max_connections: 30000, max_pending_requests: 30000, max_requests: 60000}";
  const cardea = await startCardea(stand, {
    upstreamPort: httpPort,
    people: rounds * (cuts + 1),
    routes: ({ from, to, policy }) =>
      [
        ...[`  - from: ${from}`, `    to: ${to}`, `    policy: ${policy}`, "    allow_websockets: true"],
        ...["    timeout: 0s", "    idle_timeout: 0s", `    ${bounds}`],
        ...[`  - from: tcp+http://app.localhost:${tunnelPort}`, `    to: tcp://127.0.0.1:${tcpPort}`],
        ...[`    policy: ${policy}`, `    ${bounds}`],
      ].join("\n"),
  });
  const revoke = revoker(cardea);
  const open = async (person: number, count: number): Promise<string> => {
    const group = `person-${person}`;
    for (const kind of kinds) {
      const cookie = cardea.cookies[person] ?? "";
      const each = { group, kind, cookie, count: count / kinds.length, port: cardea.port, host: cardea.host };
      await ask(callers, { type: "open", ...each, tunnelHost: `app.localhost:${tunnelPort}` } satisfies OpenStreams);
    }
    return group;
  };
  const smallMs: number[][] = [];
  const allMs: number[][] = [];
  const floorMs: number[][] = [];
  for (let round = 0; round < rounds; round++) {
    const first = round * (cuts + 1);
    for (let n = 0; n <= cuts; n++) await open(first + n, n < cuts ? small : streams - cuts * small);
    await sleep(settleMs);
    for (let n = 0; n <= cuts; n++) {
      const at = await revoke(first + n);
      const { ends } = await ask(callers, { type: "ends", group: `person-${first + n}` });
      if (n === cuts) lastByKind(ends, at);
      (n < cuts ? smallMs : allMs).push(ends.map(([, end]) => Number(BigInt(end) - at) / 1e6));
    }
    const count = Math.round((streams - cuts * small) * 0.75);
    await ask(callers, {
      type: "open",
      ...{ group: "bare", kind: "tunnel", cookie: null, count, port: barePort },
      host: "",
      tunnelHost: "",
    });
    bare.send("cut");
    const [at] = (await once(bare, "message")) as [string];
    const { ends } = await ask(callers, { type: "ends", group: "bare" });
    floorMs.push(ends.map(([, end]) => Number(BigInt(end) - BigInt(at)) / 1e6));
    await ask(callers, { type: "close" });
    console.log(
      `round ${round + 1}: ${[...smallMs.slice(-cuts), ...allMs.slice(-1), ...floorMs.slice(-1)].map(text).join("   ")}`,
    );
  }
  const lastOf = (cut: readonly (readonly number[])[]): readonly number[] => cut.map((ms) => Math.max(...ms));
  const row = (what: string, cut: readonly (readonly number[])[], isBounded: boolean) => {
    const p99 = percentile(lastOf(cut), 99);
    return {
      what,
      result: `p50 ${percentile(lastOf(cut), 50).toFixed(0)} ms, p99 ${p99.toFixed(0)} ms; half of them after ${percentile(cut.flat(), 50).toFixed(0)} ms`,
      budget: isBounded ? `p99 ≤ ${lastMsMax} ms` : "",
      met: isBounded ? p99 <= lastMsMax : null,
    };
  };
  reportBudgets([
    row(`revocation → last of ${small} streams among ${streams}`, smallMs, true),
    row(`revocation → last of ${streams - cuts * small} streams`, allMs, true),
    row("the same number of bare sockets, reset", floorMs, false),
  ]);
});

function lastByKind(ends: StreamAnswer["ends"], from: bigint): void {
  const last = kinds.map((kind) => {
    const ms = ends.flatMap(([of, end]) => (of === kind ? [Number(BigInt(end) - from) / 1e6] : []));
    return `${kind} ${Math.min(...ms).toFixed(0)}–${Math.max(...ms).toFixed(0)}`;
  });
  console.log(`first and last of each kind, ms: ${last.join(", ")}`);
}

function text(ms: readonly number[]): string {
  return `${ms.length}: ${percentile(ms, 50).toFixed(1)}/${Math.max(...ms).toFixed(1)} ms`;
}

function fileOf(name: string): string {
  return new URL(`./support/${name}.ts`, import.meta.url).pathname;
}

function startChild(stand: Stand, core: string, name: string, args: readonly string[]): ChildProcess {
  const child = spawn("taskset", ["-c", core, process.execPath, fileOf(name), ...args], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  child.once("exit", (code) => {
    if (code !== null) throw new Error(`${name} ended with ${code}`);
  });
  stand.atEnd(async () => void child.kill("SIGKILL"));
  return child;
}

async function ask(callers: ChildProcess, order: StreamOrder): Promise<StreamAnswer> {
  callers.send(order);
  const [answer] = (await once(callers, "message")) as [StreamAnswer];
  return answer;
}

/** @returns a function that revokes every session of a person, and returns when it was called */
function revoker({ config }: Cardea): (person: number) => Promise<bigint> {
  const client = connectBroker(config, "operator");
  return async (person) => {
    const userId = userIdOf("https://idp.example", `person-${person}`);
    const at = process.hrtime.bigint();
    const command = { type: "revokeUserSessions", userId, reason: "operator" } as const;
    const result = await client.submit({
      commandId: randomUUID() as string as CommandId,
      actor: "operator:bench",
      command,
    });
    if (result.type !== "done") throw new Error(`not revoked: ${result.message}`);
    return at;
  };
}
