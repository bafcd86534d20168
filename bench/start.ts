/**
 * Bench: the processor time that one process takes from its start until it is ready, by role: all services with the log
 * in memory, a broker with Postgres and NATS, and a proxy of that broker. Beside it a Node process that does nothing.
 *
 *   node bench/start.ts [--rounds 10] [--against MAIN] [--no-cache]
 *
 * Processes run the program that scripts/build.ts makes, with the compiled code beside it and with a filled compile
 * cache, as in tests; `--no-cache`: without the latter, as in the image. `--against` names another main file, such as
 * `src/main.ts` or another checkout's, to run in turns.
 *
 * The figure for a person who looks for the cause is a profile: `CPU_PROF=folder`.
 */
import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { Child, TemporaryFolder } from "../test/support/child.ts";
import { freePorts } from "../test/support/free-port.ts";
import { startNats } from "../test/support/nats.ts";
import { startPostgres } from "../test/support/postgres.ts";
import { waitFor } from "../test/support/wait-for.ts";
import { reportBudgets } from "./support/budget.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "10" },
    against: { type: "string" },
    "no-cache": { type: "boolean", default: false },
  },
});
const startMsMax = 400;
const root = join(import.meta.dirname, "..");
const built = join(root, ".cache", "program");
const profile = process.env["CPU_PROF"];
const profiling = profile === undefined ? [] : ["--cpu-prof", "--cpu-prof-dir", profile];
const roles = ["all", "databroker", "proxy"] as const;
type Role = (typeof roles)[number];
const titles: Readonly<Record<Role, string>> = {
  all: "all services, log in memory",
  databroker: "a broker with Postgres and NATS",
  proxy: "a proxy with NATS",
};

type Services = Readonly<{ postgres: () => Promise<string>; nats: readonly string[]; folder: string }>;
type Started = Readonly<{ child: Child; cpuMs: number; brokerPort: number }>;

const secret = randomBytes(32).toString("base64");

/** Starts a process and waits until its readiness page answers 200. */
async function start(
  program: string,
  role: Role,
  { services, brokerPort: other = 0 }: Readonly<{ services: Services; brokerPort?: number }>,
): Promise<Started> {
  const [port = 0, metricsPort = 0, brokerPort = 0] = await freePorts(3);
  const folder = join(services.folder, `${role}-${port}`);
  mkdirSync(folder);
  const path = join(folder, "cardea.yaml");
  const withOthers = role !== "all";
  const config = {
    services: role,
    address: `127.0.0.1:${port}`,
    insecure_server: true,
    metrics_address: `127.0.0.1:${metricsPort}`,
    data_dir: join(folder, "data"),
    shared_secret: secret,
    cookie_secret: secret,
    authenticate_service_url: `http://authenticate.localhost:${port}`,
    idp_provider: "oidc",
    idp_provider_url: `http://idp.localhost:${port}`,
    idp_client_id: "bench",
    idp_client_secret: "bench",
    groups_from_claim: "groups",
    databroker_storage_type: withOthers ? "postgres" : "memory",
    ...(role === "databroker" && { databroker_storage_connection_string: await services.postgres() }),
    ...(withOthers && { nats: { servers: services.nats } }),
    broker:
      role === "proxy"
        ? { urls: [`http://127.0.0.1:${other}`] }
        : { listen: `127.0.0.1:${brokerPort}`, advertised_url: `http://127.0.0.1:${brokerPort}` },
    routes: Array.from({ length: 3 }, (_, i) => ({
      from: `http://app-${i}.localhost:${port}`,
      to: "http://127.0.0.1:9",
      policy: { allow: { and: [{ groups: { has: "eng" } }] } },
    })),
  };
  writeFileSync(path, JSON.stringify(config), { mode: 0o600 });
  const child = await Child.start({
    command: process.execPath,
    args: ["--no-warnings", ...profiling, program, "run", "-c", path],
    logFile: join(folder, "log"),
    env: { NODE_COMPILE_CACHE: values["no-cache"] ? "" : join(root, ".cache", "compile"), DRAIN_DELAY: "0s" },
  });
  await waitFor(
    `${role} of ${program} to be ready`,
    async () => {
      if (!child.running) throw new Error(child.log());
      return (await fetch(`http://127.0.0.1:${metricsPort}/readyz`)).ok;
    },
    { withinMs: 60_000, everyMs: 100 },
  );
  return { child, cpuMs: cpuMs(child.pid), brokerPort };
}

/** From the scheduler's count, in nanoseconds, of all threads that are alive. */
function cpuMs(pid: number): number {
  return readdirSync(`/proc/${pid}/task`).reduce(
    (sum, task) => sum + Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, "latin1").split(" ")[0]) / 1e6,
    0,
  );
}

function bareNodeMs(): number {
  const { stdout } = spawnSync(
    process.execPath,
    ["-e", "const { user, system } = process.cpuUsage(); console.log((user + system) / 1000)"],
    { encoding: "utf8" },
  );
  return Number(stdout);
}

async function round(program: string, services: Services): Promise<Readonly<Record<Role, number>>> {
  const all = await start(program, "all", { services });
  await all.child.end("SIGTERM");
  const databroker = await start(program, "databroker", { services });
  const proxy = await start(program, "proxy", { services, brokerPort: databroker.brokerPort });
  await proxy.child.end("SIGTERM");
  await databroker.child.end("SIGTERM");
  return { all: all.cpuMs, databroker: databroker.cpuMs, proxy: proxy.cpuMs };
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN;
}

const build = spawnSync(process.execPath, ["scripts/build.ts", built], { cwd: root, stdio: "inherit" });
if (build.status !== 0) throw new Error("the build failed");
using folder = new TemporaryFolder("bench-start");
await using postgres = await startPostgres();
await using nats = await startNats({ size: 1 });
const services: Services = { postgres: () => postgres.newDatabase(), nats: nats.urls, folder: folder.path };
const programs = [join(built, "dist", "main.js"), ...(values.against === undefined ? [] : [resolve(values.against)])];
for (const program of programs) await round(program, services); // fills the compile cache
const bare: number[] = [];
const rounds: (readonly Readonly<Record<Role, number>>[])[] = [];
for (let at = 0; at < Number(values.rounds); at++) {
  const each: Readonly<Record<Role, number>>[] = [];
  for (const program of programs) each.push(await round(program, services));
  rounds.push(each);
  bare.push(bareNodeMs());
}
reportBudgets([
  {
    what: "start: Node that does nothing: processor time",
    result: `${median(bare).toFixed(0)} ms`,
    budget: "",
    met: null,
  },
  ...roles.map((role) => {
    const [own = Number.NaN, other] = programs.map((_, at) => median(rounds.map((each) => each[at]?.[role] ?? 0)));
    return {
      what: `start: ${titles[role]}: processor time until ready`,
      result: `${own.toFixed(0)} ms${other === undefined ? "" : `, the other one ${other.toFixed(0)} ms`}`,
      budget: `≤ ${startMsMax} ms`,
      met: own <= startMsMax,
    };
  }),
]);
