/**
 * Oracle: compares what two real upstreams received with what the proxy decided.
 *
 * The upstreams are a Node server in its most lenient mode, which records every byte, and nginx, which logs how it
 * parsed each request. After every attack, whatever was sent:
 * - each request that an upstream read belongs to exactly one permit, identified by its request id
 * - its method, host and path are those of the decision record
 * - the identity that it carries is the one in the record
 * - no other header name could be mistaken for one of the proxy's own
 * - it contains no session credential
 * - the connection carries nothing but requests
 */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { type DecisionRecord, readCredential, type SessionHandle } from "../../src/auth/index.ts";
import type { RouteConfig } from "../../src/config/index.ts";
import { foldName, isReservedName } from "../../src/proxy/message/header-names.ts";
import { sessionId, userId } from "../events/support.ts";
import { engOnly, publicAccess, type Rig, routeTo, signedIn, startRig } from "../proxy/support.ts";
import { selfSigned } from "../support/certificate.ts";
import { type Nginx, startNginx } from "../support/nginx.ts";
import { readRequests, type StrictMessage, valuesIn } from "../support/strict-http1.ts";
import { waitFor } from "../support/wait-for.ts";

/** The session handle of the `n`th user: long enough to search for in raw bytes. */
export const handleOf = (n: number): string => `SESSION-HANDLE-${n}-OF-THE-USER`;
const handlePattern = /SESSION-HANDLE-(\d+)-OF-THE-USER/i;

export type Transport = "plain" | "tls";
export type UpstreamKind = "node" | "nginx";

export type Arena = Readonly<{
  rig: Rig;
  upstream: UpstreamKind;
  transport: Transport;
  connect(protocols?: readonly string[]): Socket;
  /**
   * Compares what the upstream has received since the last call with what the proxy has decided since then.
   * @param atLeast waits for this many requests
   * @returns the complete requests, in the order of their permits
   */
  verify(atLeast?: number): Promise<readonly Seen[]>;
  close(): Promise<void>;
}>;
export type Seen = Readonly<{
  method: string;
  target: string;
  host: string;
  body: string;
  lines: StrictMessage["lines"];
}>;

/** `app` requires a session, `eng` a group that has no members, and `public` nothing. */
function routesTo(port: number, parts: Partial<RouteConfig>): RouteConfig[] {
  const common = { passIdentityHeaders: true, preserveHostHeader: true, allowWebsockets: true, ...parts };
  return [
    routeTo(port, { ...common, host: "eng.localhost", ...engOnly }),
    routeTo(port, { ...common, host: "public.localhost", ...publicAccess }),
    routeTo(port, { ...common, id: "admin", match: { kind: "prefix", value: "/admin" }, ...engOnly }),
    routeTo(port, common),
  ];
}

export async function startArena(
  options: Readonly<{
    upstream: UpstreamKind;
    transport: Transport;
    route?: Partial<RouteConfig>;
    config?: NonNullable<Parameters<typeof startRig>[1]>["config"];
  }>,
): Promise<Arena> {
  const { transport } = options;
  const upstream = options.upstream === "node" ? await startNodeUpstream() : await startNginxUpstream();
  const tls = transport === "tls" ? { insecureServer: false, certificates: [certificateFor()] } : {};
  const routes = routesTo(upstream.port, options.route ?? {});
  const rig = await startRig(routes, {
    config: { ...tls, ...options.config },
    deps: { credentials: credentialsFor(routes.map(({ host }) => host)) },
  });
  await rig.apply(signedIn(1), signedIn(2));
  let verifiedRecords = 0;
  return {
    rig,
    upstream: options.upstream,
    transport,
    connect(protocols) {
      const { port } = rig;
      if (transport === "plain") return connect({ port, host: "127.0.0.1" });
      const servername = "app.localhost";
      return connectTls({
        port,
        host: "127.0.0.1",
        servername,
        rejectUnauthorized: false,
        ALPNProtocols: [...(protocols ?? ["http/1.1"])],
      });
    },
    async verify(atLeast = 0) {
      await waitFor("every request to finish", () => rig.proxy.stats().inFlight.http === 0, { everyMs: 1 });
      const records = rig.records.slice(verifiedRecords);
      verifiedRecords = rig.records.length;
      const permits = records.filter(({ result, occasion }) => result === "permit" && occasion === "request");
      return upstream.verify(permits, atLeast);
    },
    async close() {
      await rig.close();
      await upstream.stop();
    },
  };
}

let pair: ReturnType<typeof selfSigned> | undefined;
function certificateFor() {
  pair ??= selfSigned("DNS:app.localhost,DNS:*.localhost");
  return pair as never;
}

function credentialsFor(audience: readonly string[]) {
  const handles = new Map<number, SessionHandle>();
  return {
    read: (headers: Readonly<Record<string, string | undefined>>, query: string) =>
      readCredential(headers, query, "_pomerium"),
    verify(tokenOfCaller: string): SessionHandle | "invalid" {
      const n = Number(new RegExp(`^${handlePattern.source}$`).exec(tokenOfCaller)?.[1] ?? 0);
      if (n === 0) return "invalid";
      const handle = handles.get(n) ?? {
        sessionId: sessionId(n),
        userId: userId(n),
        idpId: "idp",
        needs: null,
        audience,
      };
      handles.set(n, handle);
      return handle;
    },
  };
}

type RecordingUpstream = Readonly<{
  port: number;
  verify(permits: readonly DecisionRecord[], atLeast: number): Promise<readonly Seen[]>;
  stop(): Promise<void>;
}>;

// --- Node

async function startNodeUpstream(): Promise<RecordingUpstream> {
  const connections: { bytes: string; read: number; closed: boolean }[] = [];
  /** The requests as Node's own parser read them. */
  const read: { method: string; target: string; id: string }[] = [];
  const sockets = new Set<Socket>();
  const lenient = { insecureHTTPParser: true, requireHostHeader: false, maxHeaderSize: 262_144 };
  const server = createServer(lenient, (req, res) => {
    const id = String(req.headers["x-request-id"]);
    read.push({ method: req.method ?? "", target: req.url ?? "", id });
    req.resume();
    req.on("end", () => {
      res.setHeader("x-answer-to", id);
      res.end(`you requested ${req.url}`);
    });
  });
  server.on("connection", (socket) => {
    const connection = { bytes: "", read: 0, closed: false };
    connections.push(connection);
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("data", (chunk: Buffer) => {
      connection.bytes += chunk.toString("latin1");
    });
    socket.on("close", () => {
      sockets.delete(socket);
      connection.closed = true;
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));

  return {
    port: (server.address() as AddressInfo).port,
    async verify(permits) {
      const lenientlyRead = read.splice(0);
      const fresh = connections.splice(0).map((connection) => {
        if (!connection.closed) connections.push(connection);
        const { bytes } = connection;
        connection.bytes = "";
        return { connection, bytes };
      });
      const parsed: StrictMessage[] = [];
      for (const { connection, bytes } of fresh) {
        const { messages, problem } = readRequests(bytes);
        // A caller that aborts in the middle of a body makes the proxy close the upstream connection as well.
        if (problem !== null) {
          assert.equal(problem, "incomplete body", `an upstream received bytes that are not a request: ${bytes}`);
          await waitFor("the aborted connection to close", () => connection.closed);
        }
        for (const message of messages) verifyRequest(message, permits);
        parsed.push(...messages);
      }
      const ids = parsed.map(({ lines }) => valuesIn(lines, "x-request-id")[0] ?? "");
      assert.deepEqual(
        lenientlyRead.map(({ method, target, id }) => [method, target, id]).sort(),
        parsed.map(({ method, target }, i) => [method, target, ids[i]]).sort(),
        "the lenient server reads the same requests as the strict parser",
      );
      assert.equal(new Set(ids).size, ids.length, "no permit is used twice");
      const order = permits.map(({ requestId }) => requestId);
      return parsed
        .filter(({ complete }) => complete)
        .map((message) => ({
          ...message,
          host: valuesIn(message.lines, "host")[0] ?? "",
          id: valuesIn(message.lines, "x-request-id")[0] ?? "",
        }))
        .sort((a, b) => order.indexOf(a.id) - order.indexOf(b.id));
    },
    stop() {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

const ownNames: ReadonlySet<string> = new Set([
  "x-request-id",
  "x-forwarded-proto",
  "x-forwarded-for",
  "x-forwarded-host",
  "x-envoy-external-address",
  "x-pomerium-jwt-assertion",
  "x-pomerium-claim-email",
  "x-pomerium-claim-groups",
  "x-nick",
  "x-pomerium-routing-key",
]);

function verifyRequest(request: StrictMessage, permits: readonly DecisionRecord[]): void {
  const text = JSON.stringify(request);
  const one = (name: string): string => {
    const values = valuesIn(request.lines, name);
    assert.equal(values.length, 1, `one line of ${name}: ${text}`);
    return values[0] ?? "";
  };
  const permit = permits.find(({ requestId }) => requestId === one("x-request-id"));
  assert.ok(permit !== undefined, `no permit covers ${text}`);
  verifyTarget({ ...request, host: one("host") }, permit);

  for (const [name] of request.lines) {
    const lower = name.toLowerCase();
    const folded = foldName(name);
    const mistakable = isReservedName(folded) || [...ownNames].some((each) => foldName(each) === folded);
    assert.ok(
      !mistakable || ownNames.has(lower),
      `a name that could be mistaken for one of the proxy: ${name} in ${text}`,
    );
    assert.ok(!lower.includes("_"), `a name with an underscore: ${text}`);
  }
  for (const name of [
    "content-length",
    "transfer-encoding",
    "connection",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-envoy-external-address",
    "x-nick",
  ])
    assert.ok(valuesIn(request.lines, name).length <= 1, `more than one line of ${name}: ${text}`);
  verifyIdentity(permit, one("x-pomerium-claim-email"), one("x-pomerium-jwt-assertion"));
  assert.doesNotMatch(text, handlePattern, "a session credential reached the upstream");
  assert.doesNotMatch(
    decodeURIComponent(text.replace(/%(?![0-9A-Fa-f]{2})/g, "%25").replace(/%[89A-Fa-f]/g, "%25")),
    handlePattern,
  );
}

function verifyTarget(seen: Readonly<{ method: string; target: string; host: string }>, permit: DecisionRecord): void {
  assert.equal(seen.method, permit.method);
  assert.equal(seen.target.split("?", 1)[0], permit.path);
  assert.equal(seen.host.replace(/:\d+$/, ""), permit.host);
}

function verifyIdentity(permit: DecisionRecord, email: string, assertion: string): void {
  const n = /^user-(\d+)$/.exec(permit.userId ?? "")?.[1];
  const expected = n === undefined ? "" : `user${n}@example.com`;
  assert.equal(email, expected);
  const claims = JSON.parse(Buffer.from(assertion.split(".")[1] ?? "", "base64url").toString()) as Record<
    string,
    string
  >;
  assert.equal(claims["email"] ?? "", expected);
  assert.equal(claims["aud"], permit.host);
}

// --- nginx

async function startNginxUpstream(): Promise<RecordingUpstream> {
  const nginx: Nginx = await startNginx();
  let read = 0;
  return {
    port: nginx.port,
    async verify(permits, atLeast) {
      // nginx logs a request only after it has answered it.
      const fresh = await waitFor("nginx to log the requests", () => {
        const all = nginx.requests().slice(read);
        return all.length >= Math.min(atLeast, permits.length) && all;
      });
      read += fresh.length;
      for (const request of fresh) {
        if (request.status === "499" || request.method === "") continue; // the caller aborted it
        assert.equal(request.status, "200", `nginx could not read ${JSON.stringify(request)}`);
        const permit = permits.find(({ requestId }) => requestId === request.requestId);
        assert.ok(permit !== undefined, `no permit covers ${JSON.stringify(request)}`);
        verifyTarget({ method: request.method, target: request.uri, host: request.host }, permit);
        assert.equal(request.path, decodeURIComponent(permit.path), "the path as nginx parsed it");
        verifyIdentity(permit, request.email, request.assertion);
        assert.doesNotMatch(JSON.stringify(request), handlePattern);
      }
      const order = permits.map(({ requestId }) => requestId);
      return fresh
        .filter(({ status }) => status === "200")
        .sort((a, b) => order.indexOf(a.requestId) - order.indexOf(b.requestId))
        .map(({ method, uri, host }) => ({ method, target: uri, host, body: "", lines: [] }));
    },
    stop: () => nginx.stop(),
  };
}
