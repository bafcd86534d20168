/**
 * Client load: a process full of clients that record what they see.
 *
 * Each client keeps a connection to one proxy and requests one route after another with some person's session. Some
 * download line by line, some read a large download slowly, some hold WebSockets open in both directions. Revoked
 * sessions stay in use for a while, and are tried everywhere as soon as a complete receipt arrives. A client that gives
 * up records "unknown", never "refused".
 */
import { setTimeout as delay } from "node:timers/promises";
import { Client, type Dispatcher } from "undici";
import { WebSocket } from "ws";
import { connectMain, type Message, type SessionMessage } from "../cluster/helper-process.ts";
import { type Ns, nsPerMs, type RequestEntry, type Stamps } from "../judge/history.ts";
import { openHistoryFile } from "../judge/history-file.ts";
import { runClock } from "../judge/run-clock.ts";
import { randomFrom } from "../random.ts";
import { type Route, routes, stampHeaders } from "../world.ts";
import { openSlowReader, type SlowReader } from "./slow-reader-socket.ts";

export type LoadOptions = Readonly<{
  origin: string;
  token: string;
  history: string;
  seed: number;
  nodes: readonly Readonly<{ name: string; region: string; port: number }>[];
  perSecond: number;
  plainPerNode: number;
  downloadsPerNode: number;
  socketsPerNode: number;
  slowReadersPerNode: number;
}>;
type Node = LoadOptions["nodes"][number];
type ProbeMessage = Extract<Message, { type: "probe" }>;
type ProbedRoute = Readonly<{ region: string | null; session: SessionMessage; route: Route }>;

const { options, main } = connectMain<LoadOptions>();
const now = runClock(options.origin);
const history = openHistoryFile(options.history, { process: "load", now });
const random = randomFrom(options.seed);
const sessions = new Map<string, SessionMessage>();
let keys: string[] = [];
const counts = { answered: 0, unknown: 0, sockets: 0, received: 0, slowReadersCut: 0 };
let requests = 0;
let stopping = false;

const patienceMs = { short: 2_000, long: 10_000 };
const downloadMs = 3_000;
const socketSayMs = 200;
const socketLifeMs = 20_000;
const backOffMs = 300;

function anySession(): SessionMessage | undefined {
  return keys.length === 0 ? undefined : sessions.get(random.pick(keys));
}

function anyRoute(names: readonly string[]): Route | undefined {
  const open = routes.filter((route) => names.includes(route.name));
  return open.length === 0 ? undefined : random.pick(open);
}

type Attempt = Readonly<{ node: Node; session: SessionMessage; route: Route; kind: RequestEntry["kind"] }>;
type Outcome = Pick<RequestEntry, "outcome" | "status" | "stamps" | "problem">;

function begin({ node, session, route, kind }: Attempt): Readonly<{ id: string; end(outcome: Outcome): void }> {
  requests += 1;
  const id = `r${requests}`;
  const begun = now();
  return {
    id,
    end(outcome) {
      counts[outcome.outcome] += 1;
      const { session: name } = session;
      const end = now();
      history.write({
        type: "request",
        id,
        kind,
        node: node.name,
        route: route.name,
        session: name,
        begin: begun,
        end,
        ...outcome,
      });
    },
  };
}

function answered(status: number, headers: Readonly<Record<string, string | string[] | undefined>>): Outcome {
  return { outcome: "answered", status, stamps: stampsIn(headers), problem: "" };
}

function unknown(error: unknown): Outcome {
  const problem = error instanceof Error && "code" in error ? String(error.code) : String(error);
  return { outcome: "unknown", status: 0, stamps: null, problem };
}

function stampsIn(headers: Readonly<Record<string, string | string[] | undefined>>): Stamps | null {
  if (headers[stampHeaders.token] !== options.token) return null;
  return { arrivedAt: Number(headers[stampHeaders.arrivedAt]), sentAt: Number(headers[stampHeaders.sentAt]) };
}

// --- requests

function connect(node: Node, patience: number): Client {
  return new Client(`http://127.0.0.1:${node.port}`, {
    headersTimeout: patience,
    bodyTimeout: patience,
    keepAliveTimeout: 60_000,
    connect: { timeout: patience },
  });
}

function sendRequest({ session, route }: Attempt, path: string): Dispatcher.RequestOptions {
  return { method: "GET", path, headers: { host: route.host, cookie: session.cookie, accept: "application/json" } };
}

async function plain(client: Client, attempt: Attempt): Promise<boolean> {
  const { id, end } = begin(attempt);
  try {
    const { statusCode, headers, body } = await client.request(sendRequest(attempt, `/echo?r=${id}`));
    await body.dump();
    end(answered(statusCode, headers));
    return true;
  } catch (error) {
    end(unknown(error));
    return false;
  }
}

async function download(client: Client, attempt: Attempt): Promise<boolean> {
  const { id, end } = begin(attempt);
  let opened = false;
  try {
    const response = await client.request(sendRequest(attempt, `/download?r=${id}&ms=${downloadMs}`));
    opened = true;
    end(answered(response.statusCode, response.headers));
    if (stampsIn(response.headers) === null) {
      await response.body.dump();
      return true;
    }
    let rest = "";
    for await (const bytes of response.body) rest = take(id, rest + String(bytes));
    history.write({ type: "closed", id, at: now(), code: 0 });
    return true;
  } catch (error) {
    if (opened) history.write({ type: "closed", id, at: now(), code: 1 });
    else end(unknown(error));
    return opened;
  }
}

/** Records each complete line. @returns the incomplete rest */
function take(id: string, text: string): string {
  const at = now();
  const lines = text.split("\n");
  for (const line of lines.slice(0, -1)) received(id, line, at);
  return lines.at(-1) ?? "";
}

function received(id: string, line: string, at: Ns): void {
  counts.received += 1;
  const { sentAt } = JSON.parse(line) as { sentAt: Ns };
  history.write({ type: "received", id, sentAt, at });
}

type Keeper = Readonly<{ node: Node; patience: number; everyMs: number; kind: "plain" | "download" }>;

async function keepRequesting({ node, patience, everyMs, kind }: Keeper): Promise<void> {
  const client = connect(node, patience);
  await delay(random.next() * everyMs);
  let next = now();
  while (!stopping) {
    const session = anySession();
    const route = session && anyRoute(session.routes);
    if (session !== undefined && route !== undefined) {
      const done = await (kind === "plain" ? plain : download)(client, { node, session, route, kind });
      if (!done) await delay(backOffMs);
    }
    next = Math.max(next + everyMs * nsPerMs, now() - everyMs * nsPerMs); // catch up on at most one turn
    await delay(Math.max(0, (next - now()) / nsPerMs));
  }
  await client.destroy();
}

// --- WebSockets

async function keepSocket(node: Node): Promise<void> {
  await delay(random.between(0, 1_000));
  while (!stopping) {
    const session = anySession();
    const route = session && anyRoute(session.routes);
    if (session !== undefined && route !== undefined) await hold({ node, session, route, kind: "websocket" });
    await delay(random.between(50, 400));
  }
}

function hold(attempt: Attempt): Promise<void> {
  const { node, session, route } = attempt;
  const { id, end } = begin(attempt);
  return new Promise((resolve) => {
    const socket = new WebSocket(`ws://127.0.0.1:${node.port}/clock?r=${id}`, {
      headers: { host: route.host, cookie: session.cookie },
      handshakeTimeout: patienceMs.long,
      perMessageDeflate: false,
    });
    let headers: Parameters<typeof answered>[1] = {};
    let isOpen = false;
    const sendFrame = (): void => {
      if (socket.readyState === WebSocket.OPEN) socket.send(`{"sentAt":${now()}}`);
    };
    const sendTimer = setInterval(sendFrame, socketSayMs);
    const leaving = setTimeout(() => socket.close(1000), socketLifeMs * (0.5 + random.next()));
    socket.on("upgrade", (response) => {
      headers = response.headers;
    });
    socket.on("open", () => {
      isOpen = true;
      counts.sockets += 1;
      end(answered(101, headers));
    });
    socket.on("unexpected-response", (request, response) => {
      end(answered(response.statusCode ?? 0, response.headers));
      isOpen = true; // already recorded
      response.resume();
      request.destroy();
      socket.terminate();
    });
    socket.on("message", (bytes) => received(id, String(bytes).trim(), now()));
    socket.on("error", (error) => {
      if (!isOpen) end(unknown(error));
      isOpen = true;
    });
    socket.on("close", (code) => {
      clearInterval(sendTimer);
      clearTimeout(leaving);
      history.write({ type: "closed", id, at: now(), code });
      resolve();
    });
  });
}

// --- slow readers

/** Each reads a download at one of these rates, so that the proxy's kernel holds as much as it may. */
const slowRates = [1_000, 10_000, 100_000, 1_000_000];
const slowReaderMs = 15_000;
/** How long bytes of a cut stream may still arrive before it counts as ended. */
const drainMs = 5_000;

type HeldReader = Readonly<{ id: string; node: Node; session: string; route: string; reader: SlowReader }>;
const slowReaders = new Set<HeldReader>();

async function keepReadingSlowly(node: Node, bytesPerSecond: number): Promise<void> {
  await delay(random.between(0, 1_000));
  while (!stopping) {
    const session = anySession();
    const route = session && anyRoute(session.routes);
    if (session !== undefined && route !== undefined)
      await readSlowly({ node, session, route, kind: "download" }, bytesPerSecond);
    await delay(random.between(50, 400));
  }
}

function readSlowly(attempt: Attempt, bytesPerSecond: number): Promise<void> {
  const { node, session, route } = attempt;
  const { id, end } = begin(attempt);
  let isOpen = false;
  return new Promise((resolve) => {
    const path = `/flow?r=${id}&ms=${2 * slowReaderMs}`;
    const lines = [`GET ${path} HTTP/1.1`, `host: ${route.host}`, `cookie: ${session.cookie}`, "accept: */*"];
    const reader = openSlowReader({
      ...{ port: node.port, head: `${lines.join("\r\n")}\r\n\r\n`, bytesPerSecond },
      onHead(head) {
        isOpen = true;
        end(answeredByHead(head));
        if (!head.startsWith("HTTP/1.1 200 ")) reader.close();
      },
      onEnd(error) {
        clearTimeout(leaving);
        slowReaders.delete(held);
        if (!isOpen) end(unknown(error));
        else history.write({ type: "closed", id, at: now(), code: error === null ? 0 : 1 });
        resolve();
      },
    });
    const leaving = setTimeout(() => reader.close(), slowReaderMs * (0.5 + random.next()));
    const held: HeldReader = { id, node, session: session.session, route: route.name, reader };
    slowReaders.add(held);
  });
}

function answeredByHead(head: string): Outcome {
  const [first = "", ...lines] = head.split("\r\n");
  const headers = Object.fromEntries(
    lines.map((line) => [line.slice(0, line.indexOf(":")).toLowerCase(), line.slice(line.indexOf(":") + 1).trim()]),
  );
  return answered(Number(first.split(" ")[1]), headers);
}

/** Called at a complete receipt: counts the bytes that reach these readers' machine from now on. */
async function countLateBytes({ op, region, sessions: names, routes: routeNames }: ProbeMessage): Promise<void> {
  const concerned = [...slowReaders].filter(
    ({ node, session, route, reader }) =>
      (region === null || node.region === region) &&
      reader.isOpen() &&
      names.includes(session) &&
      routeNames.includes(route),
  );
  await Promise.all(
    concerned.map(async ({ id, reader }) => {
      const at = now();
      const reached = reader.reached();
      const all = await reader.drain(drainMs);
      const arrived = reached ?? all;
      const late = all - arrived;
      history.write({ type: "late", id, op, region, at, arrived, late });
      counts.slowReadersCut += 1;
    }),
  );
}

// --- probes

const probers = options.nodes.map((node) => ({ node, clients: [1, 2, 3].map(() => connect(node, patienceMs.long)) }));
let probed = 0;

/**
 * Tries each concerned node on an open connection, where a broken promise would show first. A region that is cut off
 * decides for a few seconds more, and longest for the routes with grace, so every route is tried there.
 */
function probe({ region, sessions: names, routes: routeNames }: ProbeMessage): void {
  for (const name of names) {
    const session = sessions.get(name);
    if (session === undefined) continue;
    const open = routes.filter((each) => session.routes.includes(each.name) && routeNames.includes(each.name));
    if (open.length === 0) continue;
    for (const route of region === null ? [random.pick(open)] : open) probeRoute({ region, session, route });
  }
}

function probeRoute({ region, session, route }: ProbedRoute): void {
  for (const { node, clients } of probers.filter((each) => region === null || each.node.region === region)) {
    probed += 1;
    const client = clients[probed % clients.length];
    if (client !== undefined) void plain(client, { node, session, route, kind: "plain" });
    if (probed % 7 === 0) void hold({ node, session, route, kind: "websocket" });
  }
}

// --- the whole

const clientCount = options.nodes.length * options.plainPerNode;
const everyMs = (clientCount * 1_000) / options.perSecond;
const times = <T>(count: number, make: (i: number) => T): T[] => Array.from({ length: count }, (_, i) => make(i));

function start(): void {
  for (const node of options.nodes) {
    const patient = (i: number): number => (i % 3 === 0 ? patienceMs.short : patienceMs.long);
    times(options.plainPerNode, (i) => void keepRequesting({ node, patience: patient(i), everyMs, kind: "plain" }));
    times(options.downloadsPerNode, () => {
      void keepRequesting({ node, patience: patienceMs.long, everyMs: downloadMs + 500, kind: "download" });
    });
    times(options.socketsPerNode, () => void keepSocket(node));
    times(options.slowReadersPerNode, (i) => {
      void keepReadingSlowly(node, slowRates[i % slowRates.length] ?? 1_000);
    });
  }
}

main.onMessage((message) => {
  switch (message.type) {
    case "session":
      sessions.set(message.session, message);
      keys.push(message.session);
      return;
    case "retire":
      sessions.delete(message.session);
      keys = keys.filter((key) => key !== message.session);
      return;
    case "probe":
      void countLateBytes(message);
      return probe(message);
    case "start":
      return start();
    case "stop":
      stopping = true;
      void delay(500)
        .then(() => history.close())
        .then(() => process.exit(0));
      return;
    default:
      return;
  }
});
setInterval(() => main.send({ type: "progress", counts: { ...counts } }), 1_000);
main.send({ type: "ready", port: 0 });
