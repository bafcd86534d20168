/**
 * Bench: 1 GB up and 1 GB down through one proxy process on one core, beside nginx `proxy_pass` without buffers on
 * disk: the time, and the growth of resident memory meanwhile. Also with a caller and an upstream that are slower than
 * the other side, where a proxy without backpressure would buffer everything.
 *
 *   node bench/proxy-bodies.ts [--megabytes 1024] [--slow-megabytes 256] [--slow-rate 64]
 */
import { execFile } from "node:child_process";
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { freePorts } from "../test/support/free-port.ts";
import { type Budget, reportBudgets } from "./support/budget.ts";
import { startCardea } from "./support/cardea.ts";
import { passingServer, writeNginxConf } from "./support/nginx-conf.ts";
import type { Pinned } from "./support/pinned.ts";
import { coreOfLoad, coreOfProxy, withStand } from "./support/stand.ts";

const run = promisify(execFile);
const { values } = parseArgs({
  options: {
    megabytes: { type: "string", default: "1024" },
    "slow-megabytes": { type: "string", default: "256" },
    "slow-rate": { type: "string", default: "64" },
  },
});
const mega = 2 ** 20;
const [whole, slow] = [Number(values.megabytes) * mega, Number(values["slow-megabytes"]) * mega];
const rate = Number(values["slow-rate"]) * mega;
/** Chunks in transit and uncollected garbage; a sixteenth of the bytes transferred. */
const growthMbMax = 64;

type Subject = Readonly<{ name: string; port: number; headers: readonly string[]; pinned: Pinned }>;
type Transfer = Readonly<{ name: string; bytes: number; direction: "up" | "down"; limit: number | null }>;
/** Resident bytes: before the transfer, and the peak until its end. */
type Figures = Readonly<{ ms: number; start: number; max: number }>;

const transfers: readonly Transfer[] = [
  { name: `${values.megabytes} MB down`, bytes: whole, direction: "down", limit: null },
  { name: `${values.megabytes} MB up`, bytes: whole, direction: "up", limit: null },
  { name: `${values["slow-megabytes"]} MB down to a slow caller`, bytes: slow, direction: "down", limit: rate },
  { name: `${values["slow-megabytes"]} MB up from a slow caller`, bytes: slow, direction: "up", limit: rate },
];

await withStand(async (stand) => {
  const { folder } = stand;
  const [upstream = 0, nginx = 0] = await freePorts(2);
  const server = new URL("./support/body-server.ts", import.meta.url).pathname;
  await stand.start(coreOfLoad, process.execPath, [server, String(upstream)], upstream);
  const streaming = "proxy_buffering off; proxy_request_buffering off;";
  const conf = writeNginxConf(folder, "proxy", passingServer(nginx, upstream, { server: streaming }));
  const nginxProcess = await stand.start(coreOfProxy, "nginx", ["-c", conf], nginx);
  const cardea = await startCardea(stand, { upstreamPort: upstream, route: ["timeout: 0s"] });

  const subjects: readonly Subject[] = [
    { name: "nginx", port: nginx, headers: [], pinned: nginxProcess },
    { name: "cardea", ...cardea },
  ];
  const budgets: Budget[] = [];
  for (const subject of subjects)
    for (const direction of ["down", "up"] as const)
      await transfer(subject, { name: "warm-up", bytes: 64 * mega, direction, limit: null }, folder);
  for (const each of transfers) {
    const figures: Record<string, Figures> = {};
    for (const subject of subjects) {
      const figure = await transfer(subject, each, folder);
      figures[subject.name] = figure;
      const megabytes = (bytes: number): string => `${(bytes / mega).toFixed(1)} MB`;
      console.log(
        `${each.name.padEnd(32)} ${subject.name.padEnd(7)} ${figure.ms.toFixed(0).padStart(6)} ms   resident ${megabytes(figure.start)} before, ${megabytes(figure.max)} peak`,
      );
    }
    const { nginx: neighbour, cardea: ours } = figures;
    if (neighbour === undefined || ours === undefined) throw new Error("a subject has no figure");
    const growth = (ours.max - ours.start) / mega;
    budgets.push({
      what: `${each.name}: resident memory, peak over start`,
      result: `${(ours.max / ours.start).toFixed(2)} × (+${growth.toFixed(0)} MB; nginx ${(neighbour.max / neighbour.start).toFixed(2)} ×)`,
      budget: `≤ +${growthMbMax} MB`,
      met: growth <= growthMbMax,
    });
    if (each.limit === null)
      budgets.push({
        what: `${each.name}: time, beside nginx`,
        result: `${(ours.ms / neighbour.ms).toFixed(2)} ×`,
        budget: "",
        met: null,
      });
  }
  reportBudgets(budgets);
});

/** Runs curl on the core of the load. @throws when the transfer is incomplete */
async function transfer({ port, headers, pinned }: Subject, wanted: Transfer, folder: string): Promise<Figures> {
  const up = wanted.direction === "up";
  const file = join(folder, "body");
  if (up) {
    writeFileSync(file, "");
    truncateSync(file, wanted.bytes);
  }
  const args = [
    ...["-sS", "--fail", "--max-time", "300", "-w", "%{stderr}%{time_total} %{size_download} %{size_upload}"],
    ...headers.flatMap((line) => ["-H", line]),
    ...(up ? ["-T", file, "-H", "Expect:"] : ["-o", "/dev/null"]),
    ...(wanted.limit === null ? [] : ["--limit-rate", String(wanted.limit)]),
    `http://127.0.0.1:${port}/${up ? "" : wanted.bytes}`,
  ];
  const start = pinned.rssBytes();
  let max = start;
  const sampler = setInterval(() => {
    max = Math.max(max, pinned.rssBytes());
  }, 20);
  try {
    const { stdout, stderr } = await run("taskset", ["-c", coreOfLoad, "curl", ...args], { timeout: 330_000 });
    const [seconds = Number.NaN, downloaded, uploaded] = stderr.split(" ").map(Number);
    const arrived = up ? Number(stdout) : downloaded;
    if (arrived !== wanted.bytes || (up && uploaded !== wanted.bytes))
      throw new Error(`${arrived} of ${wanted.bytes} bytes arrived`);
    return { ms: seconds * 1_000, start, max: Math.max(max, pinned.rssBytes()) };
  } finally {
    clearInterval(sampler);
  }
}
