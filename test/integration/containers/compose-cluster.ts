/**
 * Compose cluster: the cluster of docker-compose.yml under its own project name, and a person with a browser without
 * scripts.
 *
 * Its one port is published on a free port of loopback. Every connection to `*.localhost:8080` goes there. Its images
 * have their own tag, because another build may run at the same time.
 */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { Agent, buildConnector, request } from "undici";
import { WebSocket } from "ws";
import { reap } from "../../support/child.ts";
import { freePort } from "../../support/free-port.ts";

const root = join(import.meta.dirname, "..", "..", "..");
const composeFile = join(root, "docker-compose.yml");
const configPath = "/etc/cardea/cardea.yaml";
const hopsMax = 12;
const requestTimeoutMs = 10_000;

export type CommandOutput = Readonly<{ code: number | null; out: string; err: string }>;
export type PageVisit = Readonly<{ url: URL; status: number; body: string }>;
export type Person = Readonly<{
  /** Follows redirects. */
  go(url: string): Promise<PageVisit>;
  /** Opens the URL and signs in when the identity provider asks for it. */
  signIn(url: string, user: string): Promise<PageVisit>;
  /** Opens the live connection of the demo app. @returns once it ticks */
  openClock(url: string): Promise<Clock>;
}>;
/** `closed` settles with the close code. */
export type Clock = Readonly<{ ticks(): number; closed: Promise<number>; close(): void }>;
export type NodeRow = Readonly<{ node: string; region: string; role: string; digest: string | null }>;
export type Status = Readonly<{
  leader: Readonly<{ brokerId: string; epoch: number; digest: string }> | null;
  nodes: readonly NodeRow[];
}>;

export class ComposeCluster {
  readonly #tag = `test-${randomBytes(3).toString("hex")}`;
  readonly #project = `cardea-${this.#tag}`;
  readonly #images = ["cardea", "cardea-init", "cardea-load-balancer"].map((name) => `${name}:${this.#tag}`);
  readonly #port: number;
  readonly #agent: Agent;

  private constructor(port: number) {
    this.#port = port;
    const connector = buildConnector({ timeout: requestTimeoutMs });
    this.#agent = new Agent({
      connect: (target, callback) => connector({ ...target, hostname: "127.0.0.1", port: String(port) }, callback),
    });
  }

  /** @throws Error with the output of compose if the cluster is not healthy in time; everything is removed then */
  static async start(): Promise<ComposeCluster> {
    const cluster = new ComposeCluster(await freePort());
    reap({ type: "compose", project: cluster.#project, file: composeFile, images: cluster.#images });
    const built = await cluster.compose("build", "--progress", "plain");
    if (built.code !== 0) {
      await cluster.down();
      throw new Error(`docker compose build ended with ${built.code}: ${(built.out + built.err).slice(-4_000)}`);
    }
    const up = await cluster.compose("up", "--detach", "--wait", "--wait-timeout", "150");
    if (up.code === 0) return cluster;
    const logs = await cluster.logs();
    await cluster.down();
    throw new Error(`docker compose up ended with ${up.code}: ${up.err.slice(-4_000)}\n${logs}`);
  }

  compose(...args: string[]): Promise<CommandOutput> {
    const files = ["--file", composeFile, "--project-name", this.#project];
    const env = { CARDEA_PORT: String(this.#port), CARDEA_TAG: this.#tag };
    return run("docker", ["compose", "--progress", "quiet", ...files, ...args], env);
  }

  /** `cardea …` in the container of a service, with its configuration. */
  cardea(service: string, ...args: string[]): Promise<CommandOutput> {
    return this.compose("exec", "--no-TTY", service, "cardea", ...args, "-c", configPath);
  }

  async status(): Promise<Status> {
    const output = await this.cardea("authenticate", "cluster", "status", "--json");
    if (output.out === "") throw new Error(`cluster status: ${output.err}`);
    return JSON.parse(output.out) as Status;
  }

  /** The last log lines of every container. */
  async logs(): Promise<string> {
    return (await this.compose("logs", "--no-color", "--tail", "25")).out.slice(-20_000);
  }

  async down(): Promise<void> {
    await this.#agent.destroy();
    await this.compose("down", "--volumes", "--remove-orphans", "--timeout", "2");
    await run("docker", ["image", "rm", "--no-prune", ...this.#images]);
    reap({ type: "composeEnded", project: this.#project });
  }

  newPerson(): Person {
    const jar = new Map<string, Map<string, string>>();
    const go = async (start: string, user: string | null): Promise<PageVisit> => {
      let url = new URL(start);
      let form: URLSearchParams | null = null;
      for (let hop = 0; hop < hopsMax; hop++) {
        const answer = await request(url, {
          dispatcher: this.#agent,
          method: form === null ? "GET" : "POST",
          headers: headersFor(url, jar.get(url.hostname), form),
          headersTimeout: requestTimeoutMs,
          bodyTimeout: requestTimeoutMs,
          ...(form === null ? {} : { body: form.toString() }),
        });
        const body = await answer.body.text();
        for (const line of [answer.headers["set-cookie"] ?? []].flat()) storeCookie(jar, url.hostname, line);
        const { location } = answer.headers;
        if (typeof location === "string") {
          url = new URL(location, url);
          form = null;
        } else if (user !== null && form === null && url.pathname.startsWith("/interaction/")) {
          form = new URLSearchParams({ user, password: "any" });
        } else return { url, status: answer.statusCode, body };
      }
      throw new Error(`more than ${hopsMax} redirects, the last to ${url.host}${url.pathname}`);
    };
    return {
      go: (url) => go(url, null),
      signIn: go,
      openClock: (url) => openClock(new URL(url), { port: this.#port, cookies: jar.get(new URL(url).hostname) }),
    };
  }
}

type Cookies = ReadonlyMap<string, string> | undefined;

const cookieHeader = (cookies: Cookies): string => [...(cookies ?? [])].map((pair) => pair.join("=")).join("; ");

function headersFor(url: URL, cookies: Cookies, form: URLSearchParams | null): Record<string, string> {
  const cookie = cookieHeader(cookies);
  return {
    accept: "text/html",
    "sec-fetch-mode": "navigate",
    ...(cookie === "" ? {} : { cookie }),
    ...(form === null ? {} : { origin: url.origin, "content-type": "application/x-www-form-urlencoded" }),
  };
}

function storeCookie(jar: Map<string, Map<string, string>>, host: string, line: string): void {
  const [pair = ""] = line.split(";", 1);
  const at = pair.indexOf("=");
  const cookies = jar.get(host) ?? new Map<string, string>();
  jar.set(host, cookies);
  const [name, value] = [pair.slice(0, at).trim(), pair.slice(at + 1).trim()];
  if (value === "" || /max-age=0(?:;|$)|expires=thu, 01 jan 1970/i.test(line)) cookies.delete(name);
  else cookies.set(name, value);
}

async function openClock(url: URL, to: Readonly<{ port: number; cookies: Cookies }>): Promise<Clock> {
  const headers = { host: url.host, origin: url.origin, cookie: cookieHeader(to.cookies) };
  const socket = new WebSocket(`ws://127.0.0.1:${to.port}/clock`, { headers, handshakeTimeout: requestTimeoutMs });
  let ticks = 0;
  const closed = new Promise<number>((resolve) => socket.once("close", (code) => resolve(code)));
  await new Promise<void>((resolve, reject) => {
    socket.on("message", () => {
      ticks += 1;
      resolve();
    });
    socket.on("error", reject);
    socket.once("close", (code) => reject(new Error(`closed with ${code}`)));
  });
  return { ticks: () => ticks, closed, close: () => socket.close() };
}

function run(
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<CommandOutput> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const output = { out: "", err: "" };
    child.stdout.on("data", (chunk: Buffer) => {
      output.out += chunk.toString();
    });
    child.stderr.on("data", (chunk: Buffer) => {
      output.err += chunk.toString();
    });
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, ...output }));
  });
}
