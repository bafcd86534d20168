/** Traces: a caller's trace context is continued and forwarded, and spans arrive at a collector. */
import assert from "node:assert/strict";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { after, describe, test } from "node:test";
import { gunzipSync } from "node:zlib";
import { Server as GrpcServer, type Metadata, ServerCredentials } from "@grpc/grpc-js";
import type { TracingConfig } from "../../../src/config/index.ts";
import { createTracing } from "../../../src/proxy/index.ts";
import { readTraceContext } from "../../../src/proxy/observe/traces.ts";
import { startOtlpReceiver } from "../../support/otlp-receiver.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type Rig, routeTo, signedIn, startRig, startUpstream, type Upstream, valuesOf } from "../support.ts";

const cleanUps: (() => Promise<unknown>)[] = [];
after(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
});

const quiet = { debug() {}, info() {}, warn() {}, error() {} };

function configFor(endpoint: string, parts: Partial<TracingConfig> = {}): TracingConfig {
  return {
    endpoint: new URL(`${endpoint}/v1/traces`),
    protocol: "http/json",
    headers: { "x-token": "let me in" },
    timeoutMs: 5_000,
    share: 1,
    resource: { "deployment.environment": "test" },
    batch: { delayMs: 20, timeoutMs: 5_000, spansMax: 100 },
    valueLengthMax: null,
    logLevel: "none",
    ...parts,
  };
}

async function start(config: TracingConfig | null): Promise<Readonly<{ rig: Rig; upstream: Upstream }>> {
  const tracing =
    config === null
      ? null
      : await createTracing(config, { version: "1", node: "node-1", region: "here", logger: quiet });
  const upstream = await startUpstream((_req, res) => res.writeHead(200).end("ok"));
  const rig = await startRig(
    [routeTo(upstream.port, { name: "the app" }), routeTo(1, { host: "gone.localhost", name: "gone" })],
    { deps: { tracing } },
  );
  await rig.apply(signedIn(1));
  cleanUps.push(
    upstream.close,
    () => rig.close(),
    async () => tracing?.close(),
  );
  return { rig, upstream };
}

const caller = { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331" };
const sampled = {
  traceparent: `00-${caller.traceId}-${caller.spanId}-01`,
  tracestate: "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
};
const contextAt = (upstream: Upstream): readonly string[] =>
  ["traceparent", "tracestate"].map((name) => valuesOf(upstream.seen.at(-1)?.rawHeaders ?? [], name).join("|"));

describe("with a collector", () => {
  test("a caller's trace continues: a span for the request, a child span for the upstream call, whose context the upstream receives", async () => {
    await using collector = await startOtlpReceiver();
    const { rig, upstream } = await start(configFor(collector.url));
    await rig.request({ session: 1, path: "/a?secret=1", headers: { ...sampled, "user-agent": "test" } });
    await waitFor("two spans", () => collector.spans.length === 2);
    assert.deepEqual(collector.complaints, []);
    const server = collector.spans.find(({ kind }) => kind === 2);
    const client = collector.spans.find(({ kind }) => kind === 3);
    assert.ok(server !== undefined && client !== undefined);
    assert.deepEqual([server.traceId, server.parentSpanId], [caller.traceId, caller.spanId]);
    assert.deepEqual([client.traceId, client.parentSpanId], [caller.traceId, server.spanId]);
    assert.deepEqual(contextAt(upstream), [`00-${caller.traceId}-${client.spanId}-01`, sampled.tracestate]);
    assert.equal(server.name, "GET the app");
    assert.equal(server.traceState, sampled.tracestate);
    const { "http.response.status_code": status, "url.path": path, "cardea.route.id": route } = server.attributes;
    assert.deepEqual([status, path, route], [200, "/a", "app.localhost/"]);
    assert.deepEqual(
      server.events.map(({ name, attributes }) => [name, attributes["cardea.decision"]]),
      [["decision", "permit"]],
    );
    assert.equal(server.resource["service.name"], "cardea");
    assert.equal(server.resource["deployment.environment"], "test");
    assert.equal(collector.headers[0]?.["x-token"], "let me in");
    assert.ok(!JSON.stringify(collector.spans).includes("secret"));
    assert.ok(server.durationMs >= client.durationMs);
  });

  test("a trace starts here if the caller sends none, or a malformed one", async () => {
    await using collector = await startOtlpReceiver();
    const { rig, upstream } = await start(configFor(collector.url));
    await rig.request({ session: 1 });
    const first = contextAt(upstream);
    await rig.request({ session: 1, headers: { traceparent: "00-nonsense", tracestate: "a=b" } });
    const second = contextAt(upstream);
    await waitFor("four spans", () => collector.spans.length === 4);
    const roots = collector.spans.filter(({ kind }) => kind === 2);
    assert.deepEqual(
      roots.map(({ parentSpanId }) => parentSpanId),
      ["", ""],
    );
    assert.notEqual(roots[0]?.traceId, roots[1]?.traceId);
    for (const [parent, state] of [first, second]) {
      assert.match(parent ?? "", /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
      assert.equal(state, "");
    }
  });

  test("an unsampled request is not recorded, but its context is still forwarded", async () => {
    await using collector = await startOtlpReceiver();
    const { rig, upstream } = await start(configFor(collector.url, { share: 0 }));
    await rig.request({ session: 1, headers: { traceparent: `00-${caller.traceId}-${caller.spanId}-00` } });
    const [unsampled = ""] = contextAt(upstream);
    assert.match(unsampled, new RegExp(`^00-${caller.traceId}-[0-9a-f]{16}-00$`));
    assert.ok(!unsampled.includes(caller.spanId));
    await rig.request({ session: 1 });
    assert.match(contextAt(upstream)[0] ?? "", /-00$/);
    await rig.request({ session: 1, headers: sampled }); // a caller's own sampling decision counts
    await waitFor("the two spans of that request", () => collector.spans.length === 2);
    assert.ok(collector.spans.every(({ traceId }) => traceId === caller.traceId));
  });

  test("a denial and an unreachable upstream are recorded, with the reason", async () => {
    await using collector = await startOtlpReceiver();
    const { rig } = await start(configFor(collector.url));
    await rig.request({});
    await rig.request({ session: 1, host: "gone.localhost" });
    await waitFor("three spans", () => collector.spans.length === 3);
    const servers = collector.spans.filter(({ kind }) => kind === 2);
    assert.deepEqual(servers.map(({ attributes, statusCode }) => [attributes["error.type"], statusCode]).sort(), [
      ["no-session", 0],
      ["upstream-unreachable", 2],
    ]);
    assert.equal(collector.spans.find(({ kind }) => kind === 3)?.statusCode, 2);
  });

  test("an unreachable collector does not affect responses", async () => {
    const { rig } = await start(configFor("http://127.0.0.1:1"));
    for (let i = 0; i < 5; i++) assert.equal((await rig.request({ session: 1 })).status, 200);
  });
});

describe("other export protocols", () => {
  test("protobuf over HTTP: the export names the service and the route, and no query", async () => {
    const bodies: Buffer[] = [];
    const headers: IncomingHttpHeaders[] = [];
    const server = createServer((req, res) => {
      const chunks: Buffer[] = [];
      req.on("data", (chunk: Buffer) => chunks.push(chunk));
      req.on("end", () => {
        const body = Buffer.concat(chunks);
        bodies.push(req.headers["content-encoding"] === "gzip" ? gunzipSync(body) : body);
        headers.push(req.headers);
        res.writeHead(200, { "content-type": "application/x-protobuf" }).end();
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    cleanUps.push(async () => server.close());
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const { rig } = await start(configFor(url, { protocol: "http/protobuf" }));
    await rig.request({ session: 1, path: "/a?secret=1" });
    await waitFor("the export", () => bodies.length > 0);
    const text = Buffer.concat(bodies).toString("latin1");
    assert.equal(headers[0]?.["content-type"], "application/x-protobuf");
    assert.equal(headers[0]?.["x-token"], "let me in");
    for (const word of ["cardea", "app.localhost/", "http.response.status_code"]) assert.ok(text.includes(word), word);
    assert.ok(!text.includes("secret"));
  });

  test("gRPC: the collector's method, with the configured headers as metadata", async () => {
    const calls: Readonly<{ message: Buffer; metadata: Metadata }>[] = [];
    const server = new GrpcServer();
    const raw = (bytes: Buffer): Buffer => bytes;
    const method = {
      path: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
      ...{ requestStream: false, responseStream: false, requestSerialize: raw, requestDeserialize: raw },
      ...{ responseSerialize: raw, responseDeserialize: raw },
    };
    server.addService(
      { export: method },
      {
        export: (
          call: Readonly<{ request: Buffer; metadata: Metadata }>,
          done: (error: Error | null, reply: Buffer) => void,
        ) => {
          calls.push({ message: call.request, metadata: call.metadata });
          done(null, Buffer.alloc(0));
        },
      },
    );
    const port = await new Promise<number>((resolve, reject) =>
      server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
        error === null ? resolve(bound) : reject(error),
      ),
    );
    cleanUps.push(async () => server.forceShutdown());
    const endpoint = new URL(`http://127.0.0.1:${port}`);
    const { rig } = await start(configFor("http://unused", { endpoint, protocol: "grpc" }));
    await rig.request({ session: 1 });
    await waitFor("the export", () => calls.length > 0);
    assert.ok(calls[0]?.message.toString("latin1").includes("app.localhost/"));
    assert.deepEqual(calls[0]?.metadata.get("x-token"), ["let me in"]);
  });
});

test("without a collector a caller's trace context is forwarded unchanged", async () => {
  const { rig, upstream } = await start(null);
  await rig.request({ session: 1, headers: sampled });
  assert.deepEqual(contextAt(upstream), [sampled.traceparent, sampled.tracestate]);
  await rig.request({ session: 1 });
  assert.deepEqual(contextAt(upstream), ["", ""]);
});

test("a traceparent is parsed strictly", () => {
  const { traceparent } = sampled;
  assert.deepEqual(readTraceContext(traceparent, "a=b"), { ...caller, sampled: true, state: "a=b" });
  assert.equal(readTraceContext(traceparent.replace(/01$/, "00"), undefined)?.sampled, false);
  assert.equal(readTraceContext(`cc${traceparent.slice(2)}-what-comes-later`, undefined)?.traceId, caller.traceId);
  assert.equal(readTraceContext(traceparent, "x".repeat(600))?.state, null);
  for (const malformed of [
    undefined,
    "",
    traceparent.toUpperCase(),
    `${traceparent}-more`,
    `ff${traceparent.slice(2)}`,
    `00-${"0".repeat(32)}-${caller.spanId}-01`,
    `00-${caller.traceId}-${"0".repeat(16)}-01`,
    `00-${caller.traceId}-${caller.spanId}`,
  ])
    assert.equal(readTraceContext(malformed, "a=b"), null, String(malformed));
});
