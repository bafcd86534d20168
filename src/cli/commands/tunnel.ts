/** `cardea tcp`, `udp`, `ssh-proxy` and `login`: a person's access to TCP and UDP services behind the proxy. */
import { createSocket, type RemoteInfo } from "node:dgram";
import { createServer, type Socket } from "node:net";
import type { Readable, Writable } from "node:stream";
import { parseHostPort } from "../../config/index.ts";
import { CapsuleReader, datagramCapsule } from "../../proxy/index.ts";
import { untilStopped } from "../process/until-stopped.ts";
import { type Parsed, parse } from "../terminal/arguments.ts";
import { CannotError, type CliCommand, type ExitCode, type Terminal, UsageError } from "../terminal/command.ts";
import { type Destination, parseDestination, parseProxy } from "../tunnel/destination.ts";
import {
  accessHelp,
  accessOptions,
  createAccess,
  proxyUrlOf,
  type TunnelAccess,
  TunnelRefusedError,
} from "../tunnel/tunnel-access.ts";

const listenOptions = { ...accessOptions, listen: { type: "string" } } as const;

export const tcp: CliCommand = {
  name: "tcp",
  usage: "<host:port | tcp+https://proxy/host:port> [--listen 127.0.0.1:0 | --listen -] [--proxy-url URL]",
  summary: "reach a TCP service behind the proxy through a port of this machine",
  help: `Carries every connection to the local port through the proxy. --listen - uses standard input and output instead of a port.
--json prints the local address as JSON.
${accessHelp}`,
  async run(args, terminal) {
    const parsed = parse(args, listenOptions, { min: 1, max: 1 });
    const destination = parseDestination(parsed.positionals[0] ?? "", "tcp", proxyUrlOf(parsed, terminal));
    const access = createAccess(parsed, terminal);
    const listen = parsed.text("listen") ?? "127.0.0.1:0";
    if (listen === "-") return overStandardStreams(access, destination, terminal);
    return listenTcp(access, destination, { parsed, listen, terminal });
  },
};

export const sshProxy: CliCommand = {
  name: "ssh-proxy",
  usage: "<host> <port> [--proxy-url URL]",
  summary: "for ssh: ProxyCommand cardea ssh-proxy %h %p",
  help: `The same as cardea tcp <host>:<port> --listen -, with the arguments that ssh passes.\n${accessHelp}`,
  async run(args, terminal) {
    const parsed = parse(args, accessOptions, { min: 2, max: 2 });
    const [host = "", port = ""] = parsed.positionals;
    const name = host.includes(":") ? `[${host}]` : host;
    const destination = parseDestination(`${name}:${port}`, "tcp", proxyUrlOf(parsed, terminal));
    return overStandardStreams(createAccess(parsed, terminal), destination, terminal);
  },
};

export const udp: CliCommand = {
  name: "udp",
  usage: "<host:port | udp+https://proxy/host:port> [--listen 127.0.0.1:0] [--proxy-url URL]",
  summary: "reach a UDP service behind the proxy through a port of this machine",
  help: `Each local sender gets its own tunnel, which closes after 10 minutes without a datagram.
--json prints the local address as JSON.
${accessHelp}`,
  async run(args, terminal) {
    const parsed = parse(args, listenOptions, { min: 1, max: 1 });
    const destination = parseDestination(parsed.positionals[0] ?? "", "udp", proxyUrlOf(parsed, terminal));
    const listen = parsed.text("listen") ?? "127.0.0.1:0";
    if (listen === "-") throw new UsageError("--listen -: UDP needs a port, not standard input");
    return listenUdp(createAccess(parsed, terminal), destination, { parsed, listen, terminal });
  },
};

export const login: CliCommand = {
  name: "login",
  usage: "<https://proxy | host> [--no-browser]",
  summary: "sign in at a proxy with your browser, for cardea tcp, udp and ssh-proxy",
  help: `Replaces the previous sign-in at that proxy. --json prints the proxy as JSON; the credential is never printed.\n${accessHelp}`,
  async run(args, terminal) {
    const parsed = parse(args, accessOptions, { min: 0, max: 1 });
    const given = parsed.positionals[0] ?? proxyUrlOf(parsed, terminal);
    if (given === undefined) throw new UsageError("name the proxy");
    const proxy = parseProxy(given.includes("://") ? given : `https://${given}`);
    await createAccess(parsed, terminal).signIn(proxy);
    terminal.out(
      parsed.flag("json")
        ? `${JSON.stringify({ proxy: proxy.origin, signedIn: true })}\n`
        : `signed in at ${proxy.origin}\n`,
    );
    return 0;
  },
};

type Listening = Readonly<{ parsed: Parsed; listen: string; terminal: Terminal }>;

function parseListen(text: string): Readonly<{ host: string; port: number }> {
  const at = parseHostPort(text);
  if (at === undefined) throw new UsageError(`--listen ${text}: write host:port, such as 127.0.0.1:2222`);
  return at;
}

function printListening(
  { parsed, terminal }: Listening,
  at: Readonly<{ address: string; port: number }>,
  target: string,
): void {
  const address = `${at.address.includes(":") ? `[${at.address}]` : at.address}:${at.port}`;
  terminal.out(
    parsed.flag("json")
      ? `${JSON.stringify({ listening: address, target })}\n`
      : `listening on ${address} for ${target}\n`,
  );
}

function printError(terminal: Terminal, error: unknown): void {
  terminal.err(`${error instanceof Error ? error.message : String(error)}\n`);
}

// --- TCP

async function listenTcp(access: TunnelAccess, destination: Destination, listening: Listening): Promise<ExitCode> {
  const { host, port } = parseListen(listening.listen);
  const open = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, (local) => {
    open.add(local);
    local.once("close", () => open.delete(local));
    local.on("error", () => {});
    access.open("tcp", destination).then(
      ({ socket, head }) => {
        if (local.destroyed) socket.destroy();
        else
          void joinStreams(socket, head, { readable: local, writable: local, breakOff: () => local.resetAndDestroy() });
      },
      (error: unknown) => {
        printError(listening.terminal, error);
        local.resetAndDestroy();
      },
    );
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host, port }, resolve);
  });
  const bound = server.address();
  if (typeof bound === "object" && bound !== null) printListening(listening, bound, destination.target);
  await untilStopped();
  server.close();
  for (const socket of open) socket.destroy();
  return 0;
}

async function overStandardStreams(
  access: TunnelAccess,
  destination: Destination,
  terminal: Terminal,
): Promise<ExitCode> {
  const { stdin, stdout } = process;
  try {
    const { socket, head } = await access.open("tcp", destination);
    const whole = await joinStreams(socket, head, { readable: stdin, writable: stdout, breakOff: () => {} });
    if (!whole) terminal.err(`the connection to ${destination.target} was cut\n`);
    return whole ? 0 : 1;
  } catch (error) {
    if (!(error instanceof TunnelRefusedError)) throw error;
    printError(terminal, error);
    return error.status === 503 ? 3 : 1;
  } finally {
    stdin.destroy();
  }
}

type Local = Readonly<{ readable: Readable; writable: Writable; breakOff: () => void }>;

/** Copies both ways with back-pressure, and passes ends on. @returns whether the remote side ended properly */
function joinStreams(remote: Socket, head: Buffer, { readable, writable, breakOff }: Local): Promise<boolean> {
  return new Promise((resolve) => {
    remote.on("error", () => {}); // `close` follows
    writable.on("error", () => remote.destroy());
    if (head.length > 0) writable.write(head);
    readable.on("data", (chunk: Buffer) => {
      if (!remote.write(chunk)) readable.pause();
    });
    remote.on("drain", () => readable.resume());
    readable.once("end", () => remote.end());
    readable.once("close", () => {
      if (!readable.readableEnded) remote.destroy();
    });
    remote.on("data", (chunk: Buffer) => {
      if (!writable.write(chunk)) remote.pause();
    });
    writable.on("drain", () => remote.resume());
    let complete = false;
    remote.once("end", () => {
      complete = true;
      if (writable !== process.stdout) writable.end();
      // Standard input may never end, and no one reads it any more.
      else remote.destroySoon();
    });
    remote.once("close", () => {
      if (!complete) breakOff();
      else if (writable !== process.stdout && !readable.readableEnded) readable.destroy();
      resolve(complete);
    });
    remote.resume();
    readable.resume();
  });
}

// --- UDP

const sendersMax = 1_024;
/** Datagrams of one sender, and their bytes, that may wait while its tunnel opens. */
const waitingMax = 64;
const waitingBytesMax = 65_536;
const senderIdleMs = 600_000;

type Sender = { socket: Socket | undefined; waiting: Buffer[]; waitingBytes: number; lastAt: number };

async function listenUdp(access: TunnelAccess, destination: Destination, listening: Listening): Promise<ExitCode> {
  const { host, port } = parseListen(listening.listen);
  const local = createSocket(host.includes(":") ? "udp6" : "udp4");
  const senders = new Map<string, Sender>();
  local.on("message", (payload, from) => {
    const key = `${from.address} ${from.port}`;
    const known = senders.get(key);
    if (known === undefined) {
      if (senders.size >= sendersMax) return;
      const sender: Sender = {
        socket: undefined,
        waiting: [payload],
        waitingBytes: payload.length,
        lastAt: Date.now(),
      };
      senders.set(key, sender);
      openFor(sender, from, key).catch((error: unknown) => {
        senders.delete(key);
        printError(listening.terminal, error);
      });
      return;
    }
    known.lastAt = Date.now();
    if (known.socket === undefined) {
      if (known.waiting.length >= waitingMax || known.waitingBytes + payload.length > waitingBytesMax) return;
      known.waiting.push(payload);
      known.waitingBytes += payload.length;
    } else if (!known.socket.writableNeedDrain) known.socket.write(datagramCapsule(payload));
  });

  async function openFor(sender: Sender, from: RemoteInfo, key: string): Promise<void> {
    const { socket, head } = await access.open("udp", destination);
    const end = (): void => {
      senders.delete(key);
      socket.destroy();
    };
    const capsules = new CapsuleReader((payload) => local.send(payload, from.port, from.address, () => {}));
    const take = (bytes: Buffer): void => {
      sender.lastAt = Date.now();
      if (capsules.take(bytes).type === "broken") end();
    };
    socket.on("error", () => {});
    socket.once("close", end);
    socket.once("end", end);
    if (head.length > 0) take(head);
    socket.on("data", take);
    socket.resume();
    sender.socket = socket;
    for (const payload of sender.waiting.splice(0)) socket.write(datagramCapsule(payload));
  }

  await new Promise<void>((resolve, reject) => {
    local.once("error", (cause) =>
      reject(new CannotError(`--listen ${listening.listen}: ${cause.message}`, { cause })),
    );
    local.bind(port, host, resolve);
  });
  local.on("error", () => {}); // a datagram could not be sent
  const sweeping = setInterval(() => {
    const before = Date.now() - senderIdleMs;
    for (const { socket, lastAt } of senders.values()) if (lastAt < before) socket?.destroy();
  }, 10_000);
  printListening(listening, local.address(), destination.target);
  await untilStopped();
  clearInterval(sweeping);
  local.close();
  for (const { socket } of senders.values()) socket?.destroy();
  return 0;
}
