/**
 * Proxy client: connects `cardea tcp`, `udp` and `ssh-proxy` to a proxy, by CONNECT and CONNECT-UDP over HTTP/1.1.
 *
 * - It verifies the proxy's certificate unless the person has turned that off.
 * - A response head that is too long or malformed ends the connection.
 * - Bytes after a successful head are passed on unchanged.
 */
import { readFileSync } from "node:fs";
import { request as httpRequest, type IncomingHttpHeaders } from "node:http";
import { request as httpsRequest } from "node:https";
import { connect as connectPlain, isIP, type LookupFunction, type Socket } from "node:net";
import { type ConnectionOptions, connect as connectTls, getCACertificates } from "node:tls";
import { createLocalLookup } from "../../auth/index.ts";
import type { Parsed } from "../terminal/arguments.ts";
import { CannotError, UsageError } from "../terminal/command.ts";

export type ProxyTls = Pick<ConnectionOptions, "ca" | "cert" | "key" | "rejectUnauthorized">;

export const tlsOptions = {
  "ca-cert": { type: "string" },
  "client-cert": { type: "string" },
  "client-key": { type: "string" },
  "disable-tls-verification": { type: "boolean" },
} as const;

export function readTls(parsed: Parsed): ProxyTls {
  const read = (name: string): string | undefined => {
    const path = parsed.text(name);
    if (path === undefined) return undefined;
    try {
      return readFileSync(path, "utf8");
    } catch (cause) {
      throw new CannotError(`--${name}: ${path} cannot be read`, { cause });
    }
  };
  const [ca, cert, key] = [read("ca-cert"), read("client-cert"), read("client-key")];
  if ((cert === undefined) !== (key === undefined)) throw new UsageError("--client-cert and --client-key go together");
  return {
    rejectUnauthorized: !parsed.flag("disable-tls-verification"),
    ...(ca === undefined ? {} : { ca: [...getCACertificates(), ca] }),
    ...(cert === undefined || key === undefined ? {} : { cert, key }),
  };
}

const lookup: LookupFunction = createLocalLookup({});
const headBytesMax = 65_536;
const responseMsMax = 30_000;

/**
 * unauthenticated: sign in and retry · refused: signed in without access · unavailable: retry later · other: anything
 * else
 */
export type TunnelRefusal = Readonly<{ why: "unauthenticated" | "refused" | "unavailable" | "other"; status: number }>;
export type TunnelResult =
  | Readonly<{ type: "open"; socket: Socket; head: Buffer }>
  | (TunnelRefusal & Readonly<{ type: "refusal" }>);

export type ProxyTunnelRequest = Readonly<{
  kind: "tcp" | "udp";
  proxy: URL;
  target: string;
  token: string | undefined;
  tls: ProxyTls;
}>;

/** @throws CannotError when the proxy does not answer */
export async function openTunnel(opening: ProxyTunnelRequest): Promise<TunnelResult> {
  const socket = connectTo(opening.proxy, opening.tls);
  try {
    socket.write(headOf(opening), "latin1");
    const { status, rest } = await readHead(socket);
    const good = opening.kind === "tcp" ? status === 200 : status === 200 || status === 101;
    if (good) return { type: "open", socket, head: rest };
    socket.destroy();
    return { type: "refusal", status, why: whyOf(status) };
  } catch (cause) {
    socket.destroy();
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new CannotError(`cannot use ${opening.proxy.origin}: ${why}`, { cause });
  }
}

function whyOf(status: number): TunnelRefusal["why"] {
  if (status === 401 || [301, 302, 303, 307, 308].includes(status)) return "unauthenticated";
  return status === 403 ? "refused" : status === 503 ? "unavailable" : "other";
}

function headOf({ kind, target, token }: ProxyTunnelRequest): string {
  const lines = ["User-Agent: cardea", ...(token === undefined ? [] : [`Authorization: Pomerium ${token}`])];
  if (kind === "tcp") return [`CONNECT ${target} HTTP/1.1`, `Host: ${target}`, ...lines, "\r\n"].join("\r\n");
  const at = target.lastIndexOf(":");
  const host = encodeURIComponent(target.slice(0, at).replace(/^\[|\]$/g, ""));
  const first = `GET /.well-known/masque/udp/${host}/${target.slice(at + 1)}/`;
  const upgrade = ["Connection: Upgrade", "Upgrade: connect-udp", "Capsule-Protocol: ?1"];
  return [`${first} HTTP/1.1`, `Host: ${target}`, ...upgrade, ...lines, "\r\n"].join("\r\n");
}

function connectTo(proxy: URL, tls: ProxyTls): Socket {
  const host = proxy.hostname.replace(/^\[|\]$/g, "");
  const secure = proxy.protocol === "https:";
  const port = Number(proxy.port) || (secure ? 443 : 80);
  const common = {
    host,
    port,
    lookup,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: 60_000,
    allowHalfOpen: true,
  };
  if (!secure) return connectPlain(common);
  return connectTls({
    ...common,
    ...tls,
    ALPNProtocols: ["http/1.1"],
    ...(isIP(host) === 0 ? { servername: host } : {}),
  });
}

/** Reads the response head, and leaves the socket paused. */
function readHead(socket: Socket): Promise<Readonly<{ status: number; rest: Buffer }>> {
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0);
    const done = (): void => {
      socket.setTimeout(0);
      socket.off("data", onData);
      socket.off("error", onError);
      socket.off("close", onClose);
      socket.off("timeout", onTimeout);
      socket.pause();
    };
    const fail = (error: Error): void => {
      done();
      socket.on("error", () => {});
      reject(error);
    };
    const onData = (chunk: Buffer): void => {
      received = Buffer.concat([received, chunk]);
      const end = received.indexOf("\r\n\r\n");
      if (end < 0) {
        if (received.length > headBytesMax) fail(new Error("its response is too long"));
        return;
      }
      const status = /^HTTP\/1\.[01] ([1-5]\d\d)(?: |\r)/.exec(received.subarray(0, end + 2).toString("latin1"))?.[1];
      if (status === undefined) fail(new Error("its response is not HTTP/1.1"));
      else {
        done();
        resolve({ status: Number(status), rest: received.subarray(end + 4) });
      }
    };
    const onError = (error: Error): void => fail(error);
    const onClose = (): void => fail(new Error("it closed the connection"));
    const onTimeout = (): void => fail(new Error(`it did not answer within ${responseMsMax / 1_000} s`));
    socket.setTimeout(responseMsMax);
    socket.on("data", onData);
    socket.on("error", onError);
    socket.on("close", onClose);
    socket.on("timeout", onTimeout);
  });
}

/** Fetches a small response of the proxy's own endpoints. @throws CannotError */
export function fetchText(url: URL, tls: ProxyTls): Promise<Readonly<{ status: number; text: string }>> {
  return fetchResponse(url, { tls, headers: { accept: "*/*", "user-agent": "cardea" } });
}

export type ProxyResponse = Readonly<{ status: number; text: string; headers: IncomingHttpHeaders }>;

/** @throws CannotError */
export function fetchResponse(
  url: URL,
  {
    tls,
    headers,
    bytesMax = headBytesMax,
    silentMsMax = 10_000,
  }: Readonly<{ tls: ProxyTls; headers: Readonly<Record<string, string>>; bytesMax?: number; silentMsMax?: number }>,
): Promise<ProxyResponse> {
  return new Promise((resolve, reject) => {
    const cannot = (cause: Error): void =>
      reject(new CannotError(`${url.origin} does not answer: ${cause.message}`, { cause }));
    const common = {
      lookup,
      agent: false as const,
      timeout: silentMsMax,
      headers,
    };
    const request = url.protocol === "https:" ? httpsRequest(url, { ...common, ...tls }) : httpRequest(url, common);
    request.on("timeout", () => request.destroy(new Error(`it took longer than ${silentMsMax / 1_000} s`)));
    request.on("error", cannot);
    request.on("response", (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        text += chunk;
        if (text.length > bytesMax) request.destroy(new Error("its response is too long"));
      });
      response.on("error", cannot);
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text, headers: response.headers }));
    });
    request.end();
  });
}
