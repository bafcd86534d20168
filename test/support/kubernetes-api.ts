/**
 * Kubernetes API server: the parts that kubectl and a proxy in front of it need. It serves discovery, pods, who am I,
 * and exec over WebSocket (v5 and v4.channel.k8s.io) and over SPDY/3.1.
 *
 * - It trusts the token of a service account, and the user that the request impersonates.
 * - Without `Impersonate-User` a request acts as the service account itself, which may do everything.
 * - Only members of `eng` and `system:masters` may list pods and run programs in them.
 */
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";
import { type SpdyStream, serveSpdy } from "./spdy.ts";

export type KubernetesUser = Readonly<{ username: string; groups: readonly string[] }>;
export type KubernetesCall = Readonly<{ method: string; path: string; user: KubernetesUser; protocol: string }>;

export type KubernetesApi = Readonly<{
  port: number;
  /** Accepted bearer tokens. */
  tokens: Set<string>;
  calls: readonly KubernetesCall[];
  /** Programs that are running. */
  running: Set<Duplex>;
  close(): Promise<void>;
}>;

const serviceAccount: KubernetesUser = {
  username: "system:serviceaccount:proxy:cardea",
  groups: ["system:serviceaccounts", "system:masters"],
};

export async function startKubernetesApi(token: string): Promise<KubernetesApi> {
  const tokens = new Set([token]);
  const calls: KubernetesCall[] = [];
  const running = new Set<Duplex>();
  const sockets = new Set<Duplex>();
  const webSockets = new WebSocketServer({ noServer: true, handleProtocols: chooseProtocol });
  const server = createServer((req, res) => {
    const user = userOf(req, tokens);
    const { pathname: path } = new URL(req.url ?? "/", "http://api");
    const method = req.method ?? "";
    if (user !== undefined) calls.push({ method, path, user, protocol: "" });
    const { status, body } = user === undefined ? failure(401, "Unauthorized") : replyTo(method, path, user);
    req.resume();
    res.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
  });
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  server.on("upgrade", (req: IncomingMessage, socket: Duplex, head: Buffer) => {
    const user = userOf(req, tokens);
    const url = new URL(req.url ?? "/", "http://api");
    const protocol = (req.headers.upgrade ?? "").toLowerCase();
    const refused = whyNoExec(user, url.pathname, protocol);
    if (user === undefined || refused !== undefined) {
      socket.end(`HTTP/1.1 ${refused}\r\nContent-Length: 0\r\n\r\n`);
      return;
    }
    calls.push({ method: req.method ?? "", path: url.pathname, user, protocol });
    running.add(socket);
    socket.on("end", () => socket.end());
    socket.on("close", () => running.delete(socket));
    const [program = ""] = url.searchParams.getAll("command");
    if (protocol === "websocket")
      webSockets.handleUpgrade(req, socket, head, (webSocket) => execByWebSocket(webSocket, program));
    else execBySpdy(req, { socket, head, program });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    tokens,
    calls,
    running,
    close: () => closeAll(server, sockets),
  };
}

async function closeAll(server: Server, sockets: ReadonlySet<Duplex>): Promise<void> {
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => server.close(resolve));
}

function whyNoExec(user: KubernetesUser | undefined, path: string, protocol: string): string | undefined {
  if (user === undefined) return "401 Unauthorized";
  if (!mayUsePods(user)) return "403 Forbidden";
  if (path !== "/api/v1/namespaces/default/pods/web/exec") return "404 Not Found";
  return protocol === "websocket" || protocol === "spdy/3.1" ? undefined : "400 Bad Request";
}

/** Authenticates, then impersonates. Each line of a repeated group header is one group. */
function userOf(req: IncomingMessage, tokens: ReadonlySet<string>): KubernetesUser | undefined {
  const values = (name: string): string[] => {
    const groups: string[] = [];
    for (let i = 0; i < req.rawHeaders.length; i += 2)
      if (req.rawHeaders[i]?.toLowerCase() === name) groups.push(req.rawHeaders[i + 1] ?? "");
    return groups;
  };
  const [authorization = "", ...more] = values("authorization");
  if (more.length > 0 || !tokens.has(authorization.replace(/^Bearer /, ""))) return undefined;
  const [username] = values("impersonate-user");
  const groups = values("impersonate-group");
  if (username === undefined) return groups.length > 0 ? undefined : serviceAccount;
  return { username, groups: [...groups, "system:authenticated"] };
}

function mayUsePods({ groups }: KubernetesUser): boolean {
  return groups.includes("eng") || groups.includes("system:masters");
}

type Reply = Readonly<{ status: number; body: object }>;

const ok = (body: object, status = 200): Reply => ({ status, body });
const resource = (name: string, kind: string, of: Readonly<{ verbs: readonly string[]; namespaced: boolean }>) => ({
  ...{ name, singularName: "", kind },
  ...of,
});

function replyTo(method: string, path: string, user: KubernetesUser): Reply {
  const group = "authentication.k8s.io";
  switch (path) {
    case "/version":
      return ok({ major: "1", minor: "32", gitVersion: "v1.32.3" });
    case "/api":
      return ok({ kind: "APIVersions", versions: ["v1"], serverAddressByClientCIDRs: [] });
    case "/api/v1": {
      const pods = resource("pods", "Pod", { verbs: ["get", "list"], namespaced: true });
      const exec = resource("pods/exec", "PodExecOptions", { verbs: ["create"], namespaced: true });
      return ok({ kind: "APIResourceList", groupVersion: "v1", resources: [pods, exec] });
    }
    case "/apis": {
      const version = { groupVersion: `${group}/v1`, version: "v1" };
      const groups = [{ name: group, versions: [version], preferredVersion: version }];
      return ok({ kind: "APIGroupList", apiVersion: "v1", groups });
    }
    case `/apis/${group}/v1`: {
      const reviews = resource("selfsubjectreviews", "SelfSubjectReview", { verbs: ["create"], namespaced: false });
      return ok({ kind: "APIResourceList", apiVersion: "v1", groupVersion: `${group}/v1`, resources: [reviews] });
    }
    case `/apis/${group}/v1/selfsubjectreviews`: {
      if (method !== "POST") return failure(405, "MethodNotAllowed");
      return ok({ kind: "SelfSubjectReview", apiVersion: `${group}/v1`, status: { userInfo: user } }, 201);
    }
    case "/api/v1/namespaces/default/pods":
      if (!mayUsePods(user)) return failure(403, "Forbidden");
      return ok({ kind: "PodList", apiVersion: "v1", metadata: {}, items: [pod] });
    case "/api/v1/namespaces/default/pods/web":
      return mayUsePods(user) ? ok({ kind: "Pod", apiVersion: "v1", ...pod }) : failure(403, "Forbidden");
    default:
      return failure(404, "NotFound");
  }
}

const pod = {
  metadata: { name: "web", namespace: "default", uid: "1", creationTimestamp: "2026-01-01T00:00:00Z" },
  spec: { containers: [{ name: "web", image: "web" }] },
  status: {
    phase: "Running",
    containerStatuses: [{ name: "web", ready: true, restartCount: 0, state: { running: {} } }],
  },
};

function failure(code: number, reason: string): Reply {
  const common = { kind: "Status", apiVersion: "v1", metadata: {}, status: "Failure" };
  return { status: code, body: { ...common, message: reason, reason, code } };
}

// --- exec: `cat` echoes its input until the input ends; `hold` prints that it is ready and never ends

const success = JSON.stringify({ metadata: {}, status: "Success" });
const channels = { stdin: 0, stdout: 1, error: 3, close: 255 } as const;

/** Chooses the exec protocol (KEP-4006). @returns the newest that both sides support; false: none */
function chooseProtocol(offered: ReadonlySet<string>): string | false {
  return ["v5.channel.k8s.io", "v4.channel.k8s.io"].find((one) => offered.has(one)) ?? false;
}

function execByWebSocket(webSocket: WebSocket, program: string): void {
  const say = (channel: number, text: Buffer | string): void => {
    webSocket.send(Buffer.concat([Buffer.of(channel), Buffer.from(text)]));
  };
  webSocket.on("error", () => {});
  webSocket.on("message", (message: Buffer) => {
    if (message[0] === channels.stdin && program === "cat") say(channels.stdout, message.subarray(1));
    if (message[0] === channels.close && message[1] === channels.stdin) {
      say(channels.error, success);
      webSocket.close(1000);
    }
  });
  if (program === "hold") say(channels.stdout, "ready\n");
}

function execBySpdy(
  req: IncomingMessage,
  { socket, head, program }: Readonly<{ socket: Duplex; head: Buffer; program: string }>,
): void {
  const offered = String(req.headers["x-stream-protocol-version"] ?? "").split(/,\s*/);
  if (!offered.includes("v4.channel.k8s.io")) {
    socket.end("HTTP/1.1 403 Forbidden\r\n\r\n");
    return;
  }
  const accept = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: SPDY/3.1"];
  socket.write([...accept, "X-Stream-Protocol-Version: v4.channel.k8s.io", "\r\n"].join("\r\n"));
  const streams = new Map<string, SpdyStream>();
  let ended = false;
  const finish = (): void => {
    if (!ended || !streams.has("error") || !streams.has("stdout")) return;
    streams.get("error")?.write(success);
    for (const name of ["error", "stdout", "stderr"]) streams.get(name)?.end();
  };
  serveSpdy(socket, head, (stream) => {
    const type = stream.headers["streamtype"] ?? "";
    streams.set(type, stream);
    if (type === "stdin") {
      stream.onData = (chunk) => {
        if (program === "cat") streams.get("stdout")?.write(chunk);
      };
      stream.onEnd = () => {
        ended = true;
        finish();
      };
    }
    if (type === "stdout" && program === "hold") stream.write("ready\n");
    finish();
  });
}
