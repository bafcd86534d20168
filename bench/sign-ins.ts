/**
 * Bench: sign-ins per second of one authenticate process, and what each step of a sign-in costs each process: the
 * authenticate service, a broker with SQLite, a proxy, and the bench itself, which plays browsers and provider. Beside
 * it a bare relying party, which redirects, exchanges the code, checks the ID token, asks userinfo, and does nothing
 * else.
 *
 *   node bench/sign-ins.ts [--sign-ins 1000] [--rounds 3] [--together] [--against MAIN]
 *
 * `--together`: one process with all services instead of three. `--against` names the main file of another checkout,
 * whose authenticate process and proxy take turns with ours. The authenticate process has a core to itself; the others
 * share the other one. Callers have many addresses, since the exchanges of one network are limited. Profiles of all
 * processes: `CPU_PROF=folder`.
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { Agent, request } from "undici";
import { freePorts } from "../test/support/free-port.ts";
import { type BenchProvider, startBenchProvider } from "./support/bench-provider.ts";
import { reportBudgets } from "./support/budget.ts";
import { type Cardea, startCardea } from "./support/cardea.ts";
import type { Pinned } from "./support/pinned.ts";
import { coreOfLoad, coreOfProxy, type Stand, withStand } from "./support/stand.ts";

const { values } = parseArgs({
  options: {
    "sign-ins": { type: "string", default: "1000" },
    rounds: { type: "string", default: "3" },
    together: { type: "boolean", default: false },
    against: { type: "string" },
  },
});
const signIns = Number(values["sign-ins"]);
/** 200 sign-ins per second of one process. */
const cpuMsMax = 5;
/** This process. */
const bench = { name: "browsers and provider", cpuMs: benchCpuMs };
const atOnce = 16;
const addresses = 128;

/** A browser of one person, with the address of its next request and its cookies by host. */
type Browser = {
  readonly subject: string;
  readonly agent: Agent;
  url: URL;
  readonly cookies: Map<string, Map<string, string>>;
};
/** Processor time so far (ms) of each process, the measured one first. */
type Processes = readonly Readonly<{ name: string; cpuMs: () => number }>[];
type Installation = Readonly<{ app: URL; processes: Processes }>;
type Step = Readonly<{ name: string; run: (browser: Browser) => Promise<void> }>;

await withStand(async (stand) => {
  const upstream = createServer((_request, response) => response.end("ok")).listen(0, "127.0.0.1");
  stand.atEnd(async () => void upstream.close());
  await new Promise((listening) => upstream.once("listening", listening));
  const provider = await startBenchProvider();
  stand.atEnd(provider.close);
  const agents = Array.from({ length: addresses }, (_, n) => agentFrom(`127.0.${1 + (n >> 7)}.${1 + (n & 127)}`));
  stand.atEnd(async () => void (await Promise.all(agents.map((agent) => agent.close()))));

  const upstreamPort = (upstream.address() as AddressInfo).port;
  const { installation, broker } = await startInstallation(stand, upstreamPort, provider);
  const installations = [installation];
  if (values.against !== undefined && broker !== null)
    installations.push(await startFront(stand, { upstreamPort, provider, broker, program: resolve(values.against) }));
  const bare = await startBare(stand, provider);
  const newBrowser = browsers(agents);
  const steps = stepsOf(provider);
  const signInAt = ({ app }: Installation) => signIn(newBrowser(app), steps);
  const signInAtBare = () => signInBare(newBrowser(bare.url), provider);
  for (const each of installations) await repeat(signIns, () => signInAt(each)); // warms all up
  await repeat(signIns, signInAtBare);

  await printSteps(installation, steps, () => newBrowser(installation.app));
  const measuredMs: number[][] = installations.map(() => []);
  const bareMs: number[] = [];
  for (let round = 1; round <= Number(values.rounds); round++) {
    for (const [at, each] of installations.entries()) {
      const { perSecond, cpuMs } = await measured(each.processes, () => signInAt(each));
      measuredMs[at]?.push(cpuMs[0] ?? 0);
      const figures = cpuMs.map((ms, i) => `${each.processes[i]?.name} ${ms.toFixed(2)}`).join(", ");
      console.log(`round ${round}: ${perSecond.toFixed(0)} sign-ins/s, ms of CPU each: ${figures}`);
    }
    const { perSecond, cpuMs } = await measured([bare], signInAtBare);
    bareMs.push(cpuMs[0] ?? 0);
    console.log(`round ${round}: ${perSecond.toFixed(0)}/s by the bare relying party, ${cpuMs[0]?.toFixed(2)} ms`);
  }
  const bareOwn = median(bareMs);
  const [own = Number.NaN, other] = measuredMs.map(median);
  const beside = `bare relying party ${bareOwn.toFixed(2)} ms${other === undefined ? "" : `, the other one ${other.toFixed(2)} ms`}`;
  reportBudgets([
    {
      what: `sign-in: processor time of the process with ${installation.processes[0]?.name}`,
      result: `${own.toFixed(2)} ms, ${(own / bareOwn).toFixed(1)} × (${beside})`,
      budget: values.together ? "" : `≤ ${cpuMsMax} ms`,
      met: values.together ? null : own <= cpuMsMax,
    },
  ]);
});

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN;
}

/** `broker`: null if it is part of the one process. */
async function startInstallation(
  stand: Stand,
  upstreamPort: number,
  provider: BenchProvider,
): Promise<Readonly<{ installation: Installation; broker: Cardea | null }>> {
  const common = { upstreamPort, store: "file", idp: provider.issuer } as const;
  if (values.together) {
    const { origin, pinned } = await startCardea(stand, common);
    const processes = [{ name: "all services", cpuMs: pinned.cpuMs }, bench];
    return { installation: { app: new URL("/", origin), processes }, broker: null };
  }
  const broker = await startCardea(stand, { ...common, name: "broker", service: "databroker", core: coreOfLoad });
  return { installation: await startFront(stand, { upstreamPort, provider, broker }), broker };
}

/** An authenticate process and a proxy of a broker. */
async function startFront(
  stand: Stand,
  of: Readonly<{ upstreamPort: number; provider: BenchProvider; broker: Cardea; program?: string }>,
): Promise<Installation> {
  const { upstreamPort, provider, broker, ...program } = of;
  const [route = 0, authenticate = 0] = await freePorts(2);
  const common = { ...program, upstreamPort, idp: provider.issuer, brokerOf: broker, ports: { route, authenticate } };
  const start = (service: "authenticate" | "proxy", core: string): Promise<Cardea> =>
    startCardea(stand, { ...common, service, core, name: `${service}-${route}` });
  const signing = await start("authenticate", coreOfProxy);
  const proxy = await start("proxy", coreOfLoad);
  return {
    app: new URL("/", proxy.origin),
    processes: [
      { name: "authenticate", cpuMs: signing.pinned.cpuMs },
      { name: "broker", cpuMs: broker.pinned.cpuMs },
      { name: "proxy", cpuMs: proxy.pinned.cpuMs },
      bench,
    ],
  };
}

function benchCpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}

function agentFrom(localAddress: string): Agent {
  const keepAlive = { keepAliveTimeout: 1_000, keepAliveMaxTimeout: 1_000 }; // ends before the servers close them
  return new Agent({ ...keepAlive, connections: 4, pipelining: 1, localAddress, connect: { lookup: toLoopback } });
}

/** Every name of the bench is on this machine. */
function toLoopback(
  _name: string,
  options: Readonly<{ all?: boolean | undefined }>,
  callback: (error: null, address: string | { address: string; family: number }[], family?: number) => void,
): void {
  if (options.all === true) callback(null, [{ address: "127.0.0.1", family: 4 }]);
  else callback(null, "127.0.0.1", 4);
}

function browsers(agents: readonly Agent[]): (url: URL) => Browser {
  let made = 0;
  return (url) => {
    const agent = agents[made % agents.length] as Agent;
    return { subject: `person-${made++}`, agent, url, cookies: new Map() };
  };
}

/** The five requests of a first visit. The provider's redirect is made here. */
function stepsOf(provider: BenchProvider): readonly Step[] {
  const redirected = async (browser: Browser): Promise<void> => {
    const { status, location } = await visit(browser);
    if (status !== 302 || location === null) throw new Error(`${browser.url.href}: ${status}`);
    browser.url = new URL(location, browser.url);
  };
  return [
    { name: "the app's first answer: redirect to the authenticate host", run: redirected },
    { name: "authenticate host: redirect to the provider", run: redirected },
    {
      name: "callback: code exchange, ID token, userinfo, session in the log",
      async run(browser) {
        browser.url = answerOf(provider, browser);
        await redirected(browser);
      },
    },
    { name: "callback on the app's host: sets the cookie", run: redirected },
    {
      name: "the app's page",
      async run(browser) {
        const { status } = await visit(browser);
        if (status !== 200) throw new Error(`${browser.url.href}: ${status}`);
      },
    },
  ];
}

async function signIn(browser: Browser, steps: readonly Step[]): Promise<void> {
  for (const { run } of steps) await run(browser);
}

async function signInBare(browser: Browser, provider: BenchProvider): Promise<void> {
  const { location } = await visit(browser);
  browser.url = new URL(location ?? "");
  browser.url = answerOf(provider, browser);
  const { status } = await visit(browser);
  if (status !== 200) throw new Error(`the bare relying party answered ${status}`);
}

/** The provider's redirect for the authorization request in `browser.url`. */
function answerOf(provider: BenchProvider, { url, subject }: Browser): URL {
  const asked = url.searchParams;
  const back = new URL(asked.get("redirect_uri") ?? "");
  back.searchParams.set("code", provider.codeFor(subject, asked.get("nonce") ?? ""));
  back.searchParams.set("state", asked.get("state") ?? "");
  return back;
}

async function visit({ url, agent, cookies }: Browser): Promise<Readonly<{ status: number; location: string | null }>> {
  const jar = cookies.get(url.host) ?? new Map<string, string>();
  cookies.set(url.host, jar);
  const send = () =>
    request(url, {
      dispatcher: agent,
      headers: {
        accept: "text/html",
        "sec-fetch-mode": "navigate",
        ...(jar.size === 0 ? {} : { cookie: [...jar].map(([name, value]) => `${name}=${value}`).join("; ") }),
      },
    });
  // As browsers do when a server has just closed the connection.
  const { statusCode, headers, body } = await send().catch((error: unknown) => {
    if (error instanceof Error && "code" in error && /^(ECONNRESET|UND_ERR_SOCKET)$/.test(String(error.code)))
      return send();
    throw error;
  });
  await body.dump();
  for (const line of [headers["set-cookie"] ?? []].flat()) {
    const [pair = ""] = line.split(";", 1);
    const at = pair.indexOf("=");
    if (/;\s*max-age=0/i.test(line)) jar.delete(pair.slice(0, at));
    else jar.set(pair.slice(0, at), pair.slice(at + 1));
  }
  return { status: statusCode, location: headers["location"] === undefined ? null : String(headers["location"]) };
}

async function startBare(
  stand: Stand,
  { issuer }: BenchProvider,
): Promise<Readonly<{ cpuMs: Pinned["cpuMs"]; url: URL }>> {
  const [port = 0] = await freePorts(1);
  const program = new URL("support/bare-relying-party.ts", import.meta.url).pathname;
  const pinned = await stand.start(coreOfProxy, process.execPath, [program, String(port), issuer], port);
  return { cpuMs: pinned.cpuMs, url: new URL(`http://127.0.0.1:${port}/`) };
}

/** All browsers take one step before any takes the next, so the processor time of a step is known. */
async function printSteps(
  { processes }: Installation,
  steps: readonly Step[],
  newBrowser: () => Browser,
): Promise<void> {
  const all = Array.from({ length: signIns }, newBrowser);
  const together = processes.map(() => 0);
  const print = (figures: readonly number[], what: string): void =>
    console.log(`${figures.map((ms) => ms.toFixed(2).padStart(8)).join("")}  ${what}`);
  console.log(`ms of CPU per sign-in: ${processes.map(({ name }) => name).join(", ")}`);
  for (const { name, run } of steps) {
    const before = processes.map(({ cpuMs }) => cpuMs());
    await inParallel(all, run);
    const each = processes.map(({ cpuMs }, at) => (cpuMs() - (before[at] ?? 0)) / all.length);
    for (const [at, ms] of each.entries()) together[at] = (together[at] ?? 0) + ms;
    print(each, name);
  }
  print(together, "together");
}

async function inParallel<T>(all: readonly T[], run: (one: T) => Promise<void>): Promise<void> {
  const rest = [...all];
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      while (rest.length > 0) await run(rest.pop() as T);
    }),
  );
}

async function measured(
  processes: readonly Readonly<{ cpuMs: () => number }>[],
  run: () => Promise<void>,
): Promise<Readonly<{ perSecond: number; cpuMs: readonly number[] }>> {
  const before = processes.map(({ cpuMs }) => cpuMs());
  const at = performance.now();
  await repeat(signIns, run);
  const perSecond = (signIns * 1_000) / (performance.now() - at);
  return { perSecond, cpuMs: processes.map(({ cpuMs }, i) => (cpuMs() - (before[i] ?? 0)) / signIns) };
}

function repeat(times: number, run: () => Promise<void>): Promise<void> {
  return inParallel(Array.from({ length: times }), run);
}
