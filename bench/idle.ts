/**
 * Bench: the resident memory of an idle process, built by `npm run build` and run as in the image: a proxy alone, with
 * and without NATS, and all services in one. Beside it a Node process that only listens, nginx with one worker, and
 * `@fastify/http-proxy`. Also the processor time of each start.
 *
 *   node bench/idle.ts [--rounds 3] [--settle 60]      settle: idle seconds before the measurement
 *
 * V8 frees what only the start needed in its first idle minute.
 */
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { freePorts } from "../test/support/free-port.ts";
import { startNats } from "../test/support/nats.ts";
import { reportBudgets } from "./support/budget.ts";
import { type Cardea, startCardea } from "./support/cardea.ts";
import { passingServer, writeNginxConf } from "./support/nginx-conf.ts";
import type { Pinned } from "./support/pinned.ts";
import { coreOfProxy, type Stand, withStand } from "./support/stand.ts";

const { values } = parseArgs({
  options: { rounds: { type: "string", default: "3" }, settle: { type: "string", default: "60" } },
});
// As in the image (Dockerfile).
process.env["MALLOC_TRIM_THRESHOLD_"] = "131072";

/** 2^20 bytes. */
const mega = 2 ** 20;
const idleMbMax = 120;
const readyMsMax = 60_000;

/** @returns the program of an installed package; in a checkout the command runs the sources */
function installed(stand: Stand): string {
  const root = join(import.meta.dirname, "..");
  const built = spawnSync(process.execPath, ["scripts/build.ts"], { cwd: root, stdio: "inherit" });
  if (built.status !== 0) throw new Error("the build failed");
  const folder = join(stand.folder, "installed");
  mkdirSync(folder);
  for (const name of ["bin", "dist", "package.json"]) cpSync(join(root, name), join(folder, name), { recursive: true });
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  return join(folder, "bin", "cardea.cjs");
}

async function untilReady({ readyUrl }: Cardea): Promise<void> {
  const giveUpAt = performance.now() + readyMsMax;
  for (;;) {
    const answer = await fetch(readyUrl).catch(() => null);
    if (answer?.ok) return;
    if (performance.now() > giveUpAt) throw new Error(`not ready: ${await answer?.text()}`);
    await sleep(50);
  }
}

type Figures = Readonly<{ mb: number; startMs: number }>;

async function round(stand: Stand, program: string, at: number): Promise<ReadonlyMap<string, Figures>> {
  const [bare = 0, plain = 0, yardstick = 0, upstreamPort = 0] = await freePorts(4);
  const listening = `require("node:net").createServer().listen(${bare}, "127.0.0.1")`;
  const conf = writeNginxConf(stand.folder, `idle-${at}`, passingServer(plain, upstreamPort));
  const proxy = new URL("./support/http-proxy-yardstick.ts", import.meta.url).pathname;
  const args = [proxy, String(yardstick), String(upstreamPort)];
  const started = new Map<string, Pinned>([
    ["Node, only listening", await stand.start(coreOfProxy, process.execPath, ["-e", listening], bare)],
    ["nginx, one worker", await stand.start(coreOfProxy, "nginx", ["-c", conf], plain)],
    ["@fastify/http-proxy", await stand.start(coreOfProxy, process.execPath, args, yardstick)],
  ]);
  await using nats = await startNats({ size: 1 });
  const natsToo = [`nats: {servers: [${nats.urls.map((url) => JSON.stringify(url)).join(", ")}]}`];
  const start = async (name: string, options: Partial<Parameters<typeof startCardea>[1]>): Promise<Cardea> => {
    const cardea = await startCardea(stand, {
      upstreamPort,
      program,
      name: `${name.replaceAll(/\W+/g, "-")}-${at}`,
      ...options,
    });
    await untilReady(cardea);
    return cardea;
  };
  const whole = await start("all services", {});
  const alone = await start("a proxy alone", { brokerOf: whole });
  const wholeNats = await start("all services, with NATS", { settings: natsToo });
  const aloneNats = await start("a proxy alone, with NATS", { brokerOf: wholeNats, settings: natsToo });
  for (const [name, { pinned }] of Object.entries({
    "a proxy alone": alone,
    "a proxy alone, with NATS": aloneNats,
    "all services": whole,
    "all services, with NATS": wholeNats,
  }))
    started.set(name, pinned);
  const startMs = new Map([...started].map(([name, pinned]) => [name, pinned.cpuMs()]));
  await sleep(Number(values.settle) * 1_000);
  const figures = new Map<string, Figures>();
  for (const [name, pinned] of started) {
    figures.set(name, { mb: pinned.rssBytes() / mega, startMs: startMs.get(name) ?? Number.NaN });
    await pinned.stop();
  }
  return figures;
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN;
}

await withStand(async (stand) => {
  const program = installed(stand);
  const rounds: ReadonlyMap<string, Figures>[] = [];
  for (let at = 0; at < Number(values.rounds); at++) rounds.push(await round(stand, program, at));
  reportBudgets(
    [...(rounds[0]?.keys() ?? [])].map((name) => {
      const all = rounds.flatMap((one) => one.get(name) ?? []);
      const mb = median(all.map((one) => one.mb));
      const startMs = median(all.map((one) => one.startMs));
      const promised = name.startsWith("a proxy alone");
      return {
        what: `idle: ${name}: resident memory, and processor time of its start`,
        result: `${mb.toFixed(0)} MB, ${startMs.toFixed(0)} ms`,
        budget: promised ? `≤ ${idleMbMax} MB` : "",
        met: promised ? mb <= idleMbMax : null,
      };
    }),
  );
});
