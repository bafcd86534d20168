/**
 * Bench: how long an authorised request takes while 1,000 other callers are slow, beside the same without them, and
 * beside nginx `proxy_pass` without authentication in the same two situations.
 *
 * node bench/proxy-slow-clients.ts [--clients 1000] [--seconds 5] [--rounds 2]
 *
 * The fast callers are eight people's browsers over HTTP/2 with TLS, evenly spaced at a third of what this proxy
 * handled under h2load just before (support/open-loop.ts). The slow ones (support/slow-clients.ts) send heads and
 * bodies, and read responses of megabytes, a few bytes at a time. nginx forwards bodies as they come, as this proxy
 * does. The floor is the upstream's nginx with TLS while the slow callers use the proxy: all programs but the proxy
 * share one core. Resident memory is that of the proxy, its highest meanwhile.
 */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs, promisify } from "node:util";
import { selfSigned } from "../test/support/certificate.ts";
import { freePorts } from "../test/support/free-port.ts";
import { peopleCount, requestsOf } from "./support/browsers.ts";
import { reportBudgets, whole } from "./support/budget.ts";
import { type Cardea, startCardea } from "./support/cardea.ts";
import { byH2load, writeH2People } from "./support/h2load.ts";
import { inRounds } from "./support/load.ts";
import { helloServer, writeNginxConf } from "./support/nginx-conf.ts";
import type { OpenLoopResult, OpenLoopSetup } from "./support/open-loop.ts";
import type { Pinned } from "./support/pinned.ts";
import type { SlowClientsResult, SlowClientsSetup } from "./support/slow-clients.ts";
import { coreOfLoad, coreOfProxy, withStand } from "./support/stand.ts";

const run = promisify(execFile);
const { values } = parseArgs({
  options: {
    clients: { type: "string", default: "1000" },
    seconds: { type: "string", default: "5" },
    rounds: { type: "string", default: "2" },
  },
});
const [clients, seconds, rounds] = [Number(values.clients), Number(values.seconds), Number(values.rounds)];
const p99RatioMax = 2;
/** Helper threads of the load would take its core from the upstream, and delay all subjects. */
const onOneThread = "--single-threaded-gc";
const mega = 2 ** 20;
const streams = 8;

type Subject = Readonly<{ name: string; port: number; pinned: Pinned }>;
type Round = Readonly<{ alone: OpenLoopResult; beside: OpenLoopResult; floor: OpenLoopResult; rssMax: number }>;

await withStand(async (stand) => {
  const { folder } = stand;
  const [hello = 0, bodies = 0, floor = 0, nginx = 0] = await freePorts(4);
  const certificate = { certFile: join(folder, "cert.pem"), keyFile: join(folder, "key.pem") };
  const { cert, key } = selfSigned("DNS:app.localhost,DNS:authenticate.localhost");
  writeFileSync(certificate.certFile, cert);
  writeFileSync(certificate.keyFile, key, { mode: 0o600 });
  const tls = `http2 on; ssl_certificate ${certificate.certFile}; ssl_certificate_key ${certificate.keyFile};`;
  const upstreams = helloServer(hello) + helloServer(floor, { listen: "ssl", server: tls });
  await stand.start(coreOfLoad, "nginx", ["-c", writeNginxConf(folder, "upstream", upstreams)], hello);
  const server = new URL("./support/body-server.ts", import.meta.url).pathname;
  await stand.start(coreOfLoad, process.execPath, [onOneThread, server, String(bodies)], bodies);
  const location = (path: string, to: number): string =>
    `location ${path} { proxy_pass http://127.0.0.1:${to}/; proxy_http_version 1.1; proxy_set_header Connection "";
proxy_buffering off; proxy_request_buffering off; }`;
  const conf = `server { listen 127.0.0.1:${nginx} ssl; ${tls} ${location("/", hello)} ${location("/slow/", bodies)} }`;
  const nginxProcess = await stand.start(coreOfProxy, "nginx", ["-c", writeNginxConf(folder, "proxy", conf)], nginx);
  const routes = ({ from, policy }: Readonly<{ from: string; policy: string }>): string =>
    [
      [bodies, "prefix: /slow/", "prefix_rewrite: /", "timeout: 0s"],
      [hello, "prefix: /"],
    ]
      .map(([to, ...lines]) =>
        [`  - from: ${from}`, `to: http://127.0.0.1:${to}`, ...lines, `policy: ${policy}`].join("\n    "),
      )
      .join("\n");
  const cardea = await startCardea(stand, { upstreamPort: hello, certificate, people: peopleCount, routes });

  const people = writeH2People(folder, "browsers", cardea);
  const full = { name: "cardea, full load, HTTP/2", streams, people, port: cardea.port, pinned: cardea.pinned };
  const [figure] = await inRounds([full], { seconds: 3, rounds: 1 }, byH2load);
  const perSecond = Math.round((figure?.perSecond ?? 0) / 3);
  console.log(`a third of it: ${whole(perSecond)} requests/s, evenly spaced; ${clients} slow clients`);
  const requestsFile = join(folder, "requests.json");
  writeFileSync(requestsFile, JSON.stringify(Array.from({ length: peopleCount }, (_, n) => requestsOf(n, cardea))));
  const fast = (port: number): Promise<OpenLoopResult> =>
    openLoop({ port, requestsFile, perSecond, seconds, warmUpS: 1, connections: peopleCount, streams });

  const subjects = [
    { name: "nginx", port: nginx, pinned: nginxProcess },
    { name: "cardea", port: cardea.port, pinned: cardea.pinned },
  ];
  const best = new Map<string, Round>();
  for (let n = 0; n < rounds; n++)
    for (const subject of subjects) {
      const round = await measure(subject, cardea, { fast, floor });
      const before = best.get(subject.name);
      if (before === undefined || round.beside.p99 / round.alone.p99 < before.beside.p99 / before.alone.p99)
        best.set(subject.name, round);
    }
  reportBudgets(
    [...best].map(([name, { alone, beside, rssMax }]) => {
      const ratio = beside.p99 / alone.p99;
      const text = `${ratio.toFixed(2)} × (${beside.p99.toFixed(2)} and ${alone.p99.toFixed(2)} ms; ${Math.round(rssMax / mega)} MB)`;
      const isBudget = name === "cardea";
      return {
        what: `${name}: p99 of fast callers beside ${clients} slow ones, and alone`,
        result: text,
        budget: isBudget ? `≤ ${p99RatioMax} ×` : "",
        met: isBudget ? ratio <= p99RatioMax : null,
      };
    }),
  );
});

async function measure(
  { name, port, pinned }: Subject,
  { host, cookies }: Cardea,
  { fast, floor }: Readonly<{ fast: (port: number) => Promise<OpenLoopResult>; floor: number }>,
): Promise<Round> {
  const alone = await fast(port);
  const before = pinned.rssBytes();
  const program = new URL("./support/slow-clients.ts", import.meta.url).pathname;
  const setup: SlowClientsSetup = { port, host, cookies, clients };
  const slow = spawn("taskset", ["-c", coreOfLoad, process.execPath, onOneThread, program, JSON.stringify(setup)], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines = createInterface({ input: slow.stdout });
  await Promise.race([
    once(lines, "line"),
    once(slow, "exit").then(() => Promise.reject(new Error("no slow clients"))),
  ]);
  let rssMax = pinned.rssBytes();
  const sampling = setInterval(() => {
    rssMax = Math.max(rssMax, pinned.rssBytes());
  }, 100);
  const [cpuBefore, startedAt] = [pinned.cpuMs(), performance.now()];
  const beside = await fast(port);
  const busy = ((pinned.cpuMs() - cpuBefore) / (performance.now() - startedAt)) * 100;
  const atFloor = await fast(floor);
  clearInterval(sampling);
  const moved = once(lines, "line");
  slow.stdin.end();
  const [text] = (await moved) as [string];
  const { sent, received, lost } = JSON.parse(text) as SlowClientsResult;
  if (lost > 0) throw new Error(`${name}: ${lost} slow clients lost their connection`);
  if (alone.errors + beside.errors > 0) throw new Error(`${name}: there were errors, so the figures are invalid`);
  const times = (r: OpenLoopResult): string =>
    `p50 ${r.p50.toFixed(2)} p99 ${r.p99.toFixed(2)} p99.9 ${r.p999.toFixed(2)} max ${r.max.toFixed(1)} ms (own lateness p99 ${r.lateP99.toFixed(2)})`;
  console.log(`  ${name}: alone   ${times(alone)}`);
  console.log(`  ${name}: beside  ${times(beside)}; the proxy used ${busy.toFixed(0)} % of its core`);
  console.log(`  ${name}: floor   ${times(atFloor)}`);
  console.log(
    `  ${name}: slow clients sent ${whole(sent / 1_024)} KB and received ${whole(received / 1_024)} KB; resident ${Math.round(before / mega)} MB before, ${Math.round(rssMax / mega)} MB at most`,
  );
  return { alone, beside, floor: atFloor, rssMax };
}

async function openLoop(setup: OpenLoopSetup): Promise<OpenLoopResult> {
  const program = new URL("./support/open-loop.ts", import.meta.url).pathname;
  const args = ["-c", coreOfLoad, process.execPath, onOneThread, program, JSON.stringify(setup)];
  const { stdout } = await run("taskset", args, { timeout: (setup.warmUpS + setup.seconds + 30) * 1_000 });
  return JSON.parse(stdout) as OpenLoopResult;
}
