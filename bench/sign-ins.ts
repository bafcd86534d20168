/**
 * Bench: sign-ins per second of one process with all services and SQLite, on one core, and what each step of a sign-in
 * costs it. Beside a bare relying party, which redirects, exchanges the code, checks the ID token, asks userinfo,
 * and does nothing else.
 *
 *   node bench/sign-ins.ts [--steps 1000] [--seconds 10]
 *
 * The bench plays browser and provider on the other core. Callers have many addresses, since the exchanges of one
 * network are limited.
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { parseArgs } from "node:util";
import { Agent, request } from "undici";
import { freePorts } from "../test/support/free-port.ts";
import { type BenchProvider, startBenchProvider } from "./support/bench-provider.ts";
import { type Cardea, startCardea } from "./support/cardea.ts";
import type { Pinned } from "./support/pinned.ts";
import { coreOfProxy, type Stand, withStand } from "./support/stand.ts";

const { values } = parseArgs({
  options: { steps: { type: "string", default: "1000" }, seconds: { type: "string", default: "10" } },
});
const atOnce = 16;
const addresses = 128;
const rounds = 3;

/** A browser of one person, with the address of its next request and its cookies by host. */
type Browser = {
  readonly subject: string;
  readonly agent: Agent;
  url: URL;
  readonly cookies: Map<string, Map<string, string>>;
};
type Step = Readonly<{ name: string; run: (browser: Browser) => Promise<void> }>;

await withStand(async (stand) => {
  const upstream = createServer((_request, response) => response.end("ok")).listen(0, "127.0.0.1");
  stand.atEnd(async () => void upstream.close());
  await new Promise((resolve) => upstream.once("listening", resolve));
  const provider = await startBenchProvider();
  stand.atEnd(provider.close);
  const agents = Array.from({ length: addresses }, (_, n) => agentFrom(`127.0.${1 + (n >> 7)}.${1 + (n & 127)}`));
  stand.atEnd(async () => void (await Promise.all(agents.map((agent) => agent.close()))));

  const cardea = await startCardea(stand, {
    upstreamPort: (upstream.address() as AddressInfo).port,
    store: "file",
    idp: provider.issuer,
  });
  const bare = await startBare(stand, provider);
  const newBrowser = browsers(agents);
  const steps = stepsOf(provider);
  await sustain(1_000, () => signIn(newBrowser(appOf(cardea)), steps)); // warms both up
  await sustain(1_000, () => signInBare(newBrowser(bare.url), provider));

  await printSteps(cardea, steps, () => newBrowser(appOf(cardea)));
  const forMs = (Number(values.seconds) * 1_000) / rounds;
  for (let round = 1; round <= rounds; round++) {
    const ours = await measured(cardea.pinned, forMs, () => signIn(newBrowser(appOf(cardea)), steps));
    const theirs = await measured(bare.pinned, forMs, () => signInBare(newBrowser(bare.url), provider));
    console.log(
      `round ${round}: ${ours.perSecond.toFixed(0)} sign-ins/s at ${ours.cpuMs.toFixed(2)} ms of CPU each; bare relying party ${theirs.perSecond.toFixed(0)}/s at ${theirs.cpuMs.toFixed(2)} ms; ratio ${(ours.perSecond / theirs.perSecond).toFixed(2)} by rate, ${(theirs.cpuMs / ours.cpuMs).toFixed(2)} by CPU`,
    );
  }
});

function agentFrom(localAddress: string): Agent {
  return new Agent({ connections: 4, pipelining: 1, localAddress, connect: { lookup: toLoopback } });
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

function appOf({ origin }: Cardea): URL {
  return new URL("/", origin);
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
  const { statusCode, headers, body } = await request(url, {
    dispatcher: agent,
    headers: {
      accept: "text/html",
      "sec-fetch-mode": "navigate",
      ...(jar.size === 0 ? {} : { cookie: [...jar].map(([name, value]) => `${name}=${value}`).join("; ") }),
    },
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

async function startBare(stand: Stand, { issuer }: BenchProvider): Promise<Readonly<{ pinned: Pinned; url: URL }>> {
  const [port = 0] = await freePorts(1);
  const program = new URL("support/bare-relying-party.ts", import.meta.url).pathname;
  const pinned = await stand.start(coreOfProxy, process.execPath, [program, String(port), issuer], port);
  return { pinned, url: new URL(`http://127.0.0.1:${port}/`) };
}

/** All browsers take one step before any takes the next, so the processor time of a step is known. */
async function printSteps({ pinned }: Cardea, steps: readonly Step[], newBrowser: () => Browser): Promise<void> {
  const all = Array.from({ length: Number(values.steps) }, newBrowser);
  let total = 0;
  for (const { name, run } of steps) {
    const before = pinned.cpuMs();
    await inParallel(all, run);
    const each = (pinned.cpuMs() - before) / all.length;
    total += each;
    console.log(`${each.toFixed(2).padStart(6)} ms of CPU  ${name}`);
  }
  console.log(`${total.toFixed(2).padStart(6)} ms of CPU  together`);
}

async function inParallel(all: readonly Browser[], run: Step["run"]): Promise<void> {
  const rest = [...all];
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      for (let next = rest.pop(); next !== undefined; next = rest.pop()) await run(next);
    }),
  );
}

async function measured(
  pinned: Pinned,
  forMs: number,
  run: () => Promise<void>,
): Promise<Readonly<{ perSecond: number; cpuMs: number }>> {
  const cpu = pinned.cpuMs();
  const at = performance.now();
  const done = await sustain(forMs, run);
  return { perSecond: (done * 1_000) / (performance.now() - at), cpuMs: (pinned.cpuMs() - cpu) / done };
}

/** @returns how many ended */
async function sustain(forMs: number, run: () => Promise<void>): Promise<number> {
  const until = performance.now() + forMs;
  let done = 0;
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      for (; performance.now() < until; done++) await run();
    }),
  );
  return done;
}
