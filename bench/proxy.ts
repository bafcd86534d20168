/**
 * Bench: one authorised HTTP request through one proxy process on one core, beside nginx `proxy_pass` and @fastify/http-proxy,
 * both without any authentication, in the same run. Session, policy, signed assertion and audit are on.
 *
 *   node bench/proxy.ts [--seconds 5] [--connections 64]
 *
 * The proxy under test has one core to itself; the upstream (nginx) and the load (wrk) share another. Rounds take turns, so
 * that a machine that grows busy slows all three. Prints requests a second, p50 and p99, and the ratios, which are what counts.
 */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { freePorts } from "../test/support/free-port.ts";
import { tellBudgets } from "./support/budget.ts";
import { startSigned, writeCardeaConfig } from "./support/cardea.ts";
import { type Pinned, startPinned } from "./support/pinned.ts";

const run = promisify(execFile);
const { values } = parseArgs({
  options: { seconds: { type: "string", default: "5" }, connections: { type: "string", default: "64" } },
});
const seconds = Number(values.seconds);
const rounds = 3;
const [coreOfProxy, coreOfLoad] = ["0", "1"] as const;

type Figure = Readonly<{ perSecond: number; p50: number; p99: number; errors: number; cpuUs: number }>;

const folder = mkdtempSync(join(tmpdir(), "cardea-bench-"));
const stops: (() => Promise<void>)[] = [];
try {
  const [upstream = 0, nginx = 0, yardstick = 0, cardea = 0, broker = 0, metrics = 0] = await freePorts(6);
  writeFileSync(
    join(folder, "upstream.conf"),
    nginxConf(
      folder,
      "upstream",
      `server { listen 127.0.0.1:${upstream}; location / { default_type text/plain; return 200 "hello from upstream\\n"; } }`,
    ),
  );
  writeFileSync(
    join(folder, "proxy.conf"),
    nginxConf(
      folder,
      "proxy",
      `upstream app { server 127.0.0.1:${upstream}; keepalive 64; }
       server { listen 127.0.0.1:${nginx}; location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; } }`,
    ),
  );
  const started = async (...args: Parameters<typeof startPinned>): Promise<Pinned> => {
    const pinned = await startPinned(...args);
    stops.push(pinned.stop);
    return pinned;
  };
  await started(coreOfLoad, "nginx", ["-c", join(folder, "upstream.conf")], upstream);
  const nginxProcess = await started(coreOfProxy, "nginx", ["-c", join(folder, "proxy.conf")], nginx);
  const yardstickProcess = await started(
    coreOfProxy,
    process.execPath,
    [new URL("./support/http-proxy-yardstick.ts", import.meta.url).pathname, String(yardstick), String(upstream)],
    yardstick,
  );
  const config = writeCardeaConfig(folder, {
    port: cardea,
    brokerPort: broker,
    metricsPort: metrics,
    upstreamPort: upstream,
  });
  const cardeaProcess = await started(
    coreOfProxy,
    process.execPath,
    [
      ...(process.env["CPU_PROF"] ? ["--cpu-prof", "--cpu-prof-dir", process.env["CPU_PROF"]] : []),
      new URL("../src/main.ts", import.meta.url).pathname,
      "run",
      "-c",
      config.path,
    ],
    cardea,
  );
  const cookie = await startSigned(config);

  const subjects = [
    { name: "nginx proxy_pass, no auth", url: `http://127.0.0.1:${nginx}/`, headers: [], pinned: nginxProcess },
    {
      name: "@fastify/http-proxy, no auth",
      url: `http://127.0.0.1:${yardstick}/`,
      headers: [],
      pinned: yardstickProcess,
    },
    {
      name: "cardea, authorised",
      url: `http://127.0.0.1:${cardea}/`,
      headers: [`Host: app.localhost:${cardea}`, `Cookie: ${cookie}`],
      pinned: cardeaProcess,
    },
  ];
  for (const subject of subjects) await load(subject, 2); // warm
  const figures = new Map<string, Figure[]>();
  for (let round = 0; round < rounds; round++) {
    for (const subject of subjects)
      figures.set(subject.name, [...(figures.get(subject.name) ?? []), await load(subject, seconds)]);
  }
  const best = subjects.map(({ name }) => ({ name, ...bestOf(figures.get(name) ?? []) }));
  for (const { name, perSecond, p50, p99, errors, cpuUs } of best) {
    console.log(
      `${name.padEnd(30)} ${Math.round(perSecond).toLocaleString("en").padStart(8)} requests/s   p50 ${p50.toFixed(2)} ms   p99 ${p99.toFixed(2)} ms   CPU ${cpuUs.toFixed(0)} µs/request   errors ${errors}`,
    );
  }
  const [first, second, third] = best;
  if (first && second && third) {
    const beside = (what: string, yardstick: number, ratioMin: number) => {
      const ratio = third.perSecond / yardstick;
      return { what, seen: `${ratio.toFixed(2)} ×`, budget: `≥ ${ratioMin} ×`, met: ratio >= ratioMin };
    };
    tellBudgets([
      beside("authorised requests, beside nginx without auth", first.perSecond, 0.6),
      beside("authorised requests, beside @fastify/http-proxy without auth", second.perSecond, 1.8),
    ]);
    if (third.errors > 0) throw new Error("cardea answered with errors: the figures mean nothing");
  }
} finally {
  for (const stop of stops.reverse()) await stop();
  rmSync(folder, { recursive: true, force: true });
}

async function load(
  subject: Readonly<{ url: string; headers: readonly string[]; pinned: Pinned }>,
  duration: number,
): Promise<Figure> {
  const args = [
    "-c",
    coreOfLoad,
    "wrk",
    "-t1",
    `-c${values.connections}`,
    `-d${duration}s`,
    "--latency",
    ...subject.headers.flatMap((h) => ["-H", h]),
    subject.url,
  ];
  const before = subject.pinned.cpuMs();
  const { stdout } = await run("taskset", args, { timeout: (duration + 30) * 1_000 });
  const errors = Number(/Non-2xx or 3xx responses: (\d+)/.exec(stdout)?.[1] ?? 0) + socketErrors(stdout);
  const requests = Number(/(\d+) requests in/.exec(stdout)?.[1] ?? Number.NaN);
  return {
    cpuUs: ((subject.pinned.cpuMs() - before) * 1_000) / requests,
    perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1] ?? Number.NaN),
    p50: milliseconds(/50%\s+([\d.]+)(us|ms|s)/.exec(stdout)),
    p99: milliseconds(/99%\s+([\d.]+)(us|ms|s)/.exec(stdout)),
    errors,
  };
}

function socketErrors(text: string): number {
  const match = /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(text);
  return match === null ? 0 : match.slice(1).reduce((sum, n) => sum + Number(n), 0);
}

function milliseconds(match: RegExpExecArray | null): number {
  const unit = { us: 0.001, ms: 1, s: 1_000 }[match?.[2] ?? "ms"] ?? 1;
  return Number(match?.[1] ?? Number.NaN) * unit;
}

function bestOf(figures: readonly Figure[]): Figure {
  const sorted = [...figures].sort((a, b) => b.perSecond - a.perSecond);
  const errors = figures.reduce((sum, f) => sum + f.errors, 0);
  return {
    ...(sorted[0] ?? { perSecond: Number.NaN, p50: Number.NaN, p99: Number.NaN }),
    errors,
    cpuUs: Math.min(...figures.map((f) => f.cpuUs)),
  };
}

function nginxConf(home: string, name: string, server: string): string {
  return `worker_processes 1; daemon off; pid ${home}/${name}.pid; error_log ${home}/${name}.log error;
events { worker_connections 4096; }
http { access_log off; keepalive_requests 1000000; client_body_temp_path ${home}/${name}-body; proxy_temp_path ${home}/${name}-proxy; fastcgi_temp_path ${home}/${name}-f; uwsgi_temp_path ${home}/${name}-u; scgi_temp_path ${home}/${name}-s;
${server} }
`;
}
