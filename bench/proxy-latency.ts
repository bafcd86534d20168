/**
 * Bench: how long an authorised request takes at half load, beside nginx `proxy_pass` without any authentication at
 * the same rate: over HTTP/1.1 on 64 connections, and over HTTP/2 with TLS on 8 connections with 8 streams each.
 *
 * node bench/proxy-latency.ts [--seconds 8] [--rounds 5] [--http 1,2]
 *
 * Half load is half of what this proxy handled under wrk or h2load just before. nginx gets the same rate, which is
 * less than half of its capacity, so the comparison favours nginx. `h2load --rps` keeps no fixed rate over HTTP/1.1:
 * each of its clients keeps its own rate, and all of them send in the same instant, 64 requests at once every few
 * milliseconds. It also counts from the sending, not from when a request was due. So the load is our own open loop
 * (support/open-loop.ts). Its time directly at the upstream is printed as the floor; over HTTP/2 that is the
 * upstream's nginx with TLS. `NODE_FLAGS` has flags of Node for the process that is measured.
 */
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { selfSigned } from "../test/support/certificate.ts";
import { freePorts } from "../test/support/free-port.ts";
import { peopleCount, requestsOf, writeBrowserScript } from "./support/browsers.ts";
import { reportBudgets } from "./support/budget.ts";
import { type Cardea, startCardea } from "./support/cardea.ts";
import { byH2load, writeH2People } from "./support/h2load.ts";
import { byWrk, inRounds } from "./support/load.ts";
import { helloServer, passingServer, writeNginxConf } from "./support/nginx-conf.ts";
import type { OpenLoopResult, OpenLoopSetup } from "./support/open-loop.ts";
import { coreOfLoad, coreOfProxy, withStand } from "./support/stand.ts";

const run = promisify(execFile);
const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "8" },
    rounds: { type: "string", default: "5" },
    http: { type: "string", default: "1,2" },
  },
});
const [seconds, rounds] = [Number(values.seconds), Number(values.rounds)];
const warmUpS = 2;
const p99RatioMax = 2;
/** Helper threads of the load would take its core from the upstream, and delay all subjects. */
const onOneThread = "--single-threaded-gc";
const inFlight = 64;
const streams = 8;

type Ports = Readonly<{ floor: number; nginx: number }>;

const budgets: Parameters<typeof reportBudgets>[0][number][] = [];
for (const version of values.http.split(",")) budgets.push(await measure(version === "2"));
reportBudgets(budgets);

async function measure(overHttp2: boolean): Promise<(typeof budgets)[number]> {
  let budget: (typeof budgets)[number] | undefined;
  await withStand(async (stand) => {
    const [upstream = 0, floor = 0, nginx = 0] = await freePorts(3);
    const { folder } = stand;
    const certificate = { certFile: join(folder, "cert.pem"), keyFile: join(folder, "key.pem") };
    const { cert, key } = selfSigned("DNS:app.localhost,DNS:authenticate.localhost");
    writeFileSync(certificate.certFile, cert);
    writeFileSync(certificate.keyFile, key, { mode: 0o600 });
    const tls = {
      listen: "ssl",
      server: `http2 on; ssl_certificate ${certificate.certFile}; ssl_certificate_key ${certificate.keyFile};`,
    };
    const servers = helloServer(upstream) + (overHttp2 ? helloServer(floor, tls) : "");
    await stand.start(coreOfLoad, "nginx", ["-c", writeNginxConf(folder, "upstream", servers)], upstream);
    const nginxConf = writeNginxConf(folder, "proxy", passingServer(nginx, upstream, overHttp2 ? tls : {}));
    await stand.start(coreOfProxy, "nginx", ["-c", nginxConf], nginx);
    const cardea = await startCardea(stand, {
      upstreamPort: upstream,
      people: peopleCount,
      ...(overHttp2 ? { certificate } : {}),
    });
    const full = overHttp2 ? await fullLoadOverHttp2(folder, cardea) : await fullLoad(folder, cardea);
    budget = await measureAt(Math.round(full / 2), {
      folder,
      cardea,
      overHttp2,
      floor: overHttp2 ? floor : upstream,
      nginx,
    });
  });
  if (budget === undefined) throw new Error("there is no figure");
  return budget;
}

/** @returns requests per second */
async function fullLoad(folder: string, cardea: Cardea): Promise<number> {
  const script = writeBrowserScript(folder, "browsers", cardea);
  const url = `http://127.0.0.1:${cardea.port}/`;
  const subject = { name: "cardea, full load", url, script, ...cardea };
  const [full] = await inRounds([subject], { seconds: 3, rounds: 2 }, byWrk(inFlight));
  return full?.perSecond ?? 0;
}

async function fullLoadOverHttp2(folder: string, cardea: Cardea): Promise<number> {
  const people = writeH2People(folder, "browsers", cardea);
  const subject = { name: "cardea, full load, HTTP/2", streams, people, port: cardea.port, pinned: cardea.pinned };
  const [full] = await inRounds([subject], { seconds: 3, rounds: 2 }, byH2load);
  return full?.perSecond ?? 0;
}

async function measureAt(
  perSecond: number,
  { folder, cardea, overHttp2, floor, nginx }: Ports & Readonly<{ folder: string; cardea: Cardea; overHttp2: boolean }>,
): Promise<(typeof budgets)[number]> {
  console.log(`half of it: ${perSecond.toLocaleString("en")} requests/s, evenly spaced`);
  const subjects = [
    { name: "the upstream itself (floor)", port: floor },
    { name: "nginx proxy_pass, no auth", port: nginx },
    { name: "cardea, authorised", port: cardea.port },
  ];
  const requestsFile = join(folder, "requests.json");
  writeFileSync(requestsFile, JSON.stringify(Array.from({ length: peopleCount }, (_, n) => requestsOf(n, cardea))));
  const how = overHttp2 ? { connections: inFlight / streams, streams } : { connections: inFlight, streams: 0 };
  const results = new Map<string, OpenLoopResult[]>(subjects.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const { name, ...subject } of subjects)
      results.get(name)?.push(await openLoop({ ...subject, ...how, requestsFile, perSecond, seconds, warmUpS }));
  }
  const best = subjects.map(({ name }) => ({ name, ...bestOf(results.get(name) ?? []) }));
  for (const { name, ...figure } of best) console.log(`${name.padEnd(28)} ${figureText(figure)}`);
  const [, second, third] = best;
  if (second === undefined || third === undefined) throw new Error("a subject has no figure");
  if (best.some(({ errors }) => errors > 0)) throw new Error("there were errors, so the figures are invalid");
  const ratio = third.p99 / second.p99;
  return {
    what: `p99 at half load, ${overHttp2 ? "HTTP/2 over TLS" : "HTTP/1.1"}, beside nginx without auth at the same rate`,
    result: `${ratio.toFixed(2)} × (${third.p99.toFixed(2)} and ${second.p99.toFixed(2)} ms)`,
    budget: `≤ ${p99RatioMax} ×`,
    met: ratio <= p99RatioMax,
  };
}

async function openLoop(setup: OpenLoopSetup): Promise<OpenLoopResult> {
  const program = new URL("./support/open-loop.ts", import.meta.url).pathname;
  const args = ["-c", coreOfLoad, process.execPath, onOneThread, program, JSON.stringify(setup)];
  const { stdout } = await run("taskset", args, { timeout: (setup.warmUpS + setup.seconds + 30) * 1_000 });
  return JSON.parse(stdout) as OpenLoopResult;
}

/** The round with the smallest p99, and the errors of all rounds. */
function bestOf(rounds: readonly OpenLoopResult[]): OpenLoopResult {
  const [best] = rounds.toSorted((a, b) => a.p99 - b.p99);
  if (best === undefined) throw new Error("there was no round");
  return { ...best, errors: rounds.reduce((sum, { errors }) => sum + errors, 0) };
}

function figureText({ p50, p90, p99, p999, max, lateP99, errors }: OpenLoopResult): string {
  const times = Object.entries({ p50, p90, p99, "p99.9": p999, max, "own lateness p99": lateP99 });
  return `${times.map(([name, ms]) => `${name} ${ms.toFixed(2)} ms`).join("   ")}   errors ${errors}`;
}
