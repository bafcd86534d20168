/**
 * The OTLP sink against a receiver that decodes requests with the published definitions of the protocol
 * (test/audit/fixtures/opentelemetry, of opentelemetry-proto 1.8), in both encodings.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { gunzipSync } from "node:zlib";
import * as library from "@opentelemetry/otlp-transformer";
import protobuf from "protobufjs";
import {
  type AuditRecord,
  type AuditSink,
  createOtlpSink,
  createRecordFormatter,
  parseLine,
  toLine,
  withoutEnvelope,
} from "../../../src/audit/index.ts";
import type { OtlpLibrary } from "../../../src/audit/sinks/otlp-sink.ts";
import type { OtlpSinkConfig } from "../../../src/config/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { samples } from "../samples.ts";
import { checkSink } from "../sink-contract.ts";
import { ModelDisk } from "../spool/model-disk.ts";
import { startSpool } from "../spool/spool-support.ts";
import { batchOf, decision } from "../support.ts";
import { TestReceiver } from "./test-receiver.ts";

const fixtures = join(import.meta.dirname, "..", "fixtures");
const definitions = new protobuf.Root();
definitions.resolvePath = (_, target) => join(fixtures, target);
definitions.loadSync("opentelemetry/proto/collector/logs/v1/logs_service.proto");
const requestType = definitions.lookupType("opentelemetry.proto.collector.logs.v1.ExportLogsServiceRequest");
const responseType = definitions.lookupType("opentelemetry.proto.collector.logs.v1.ExportLogsServiceResponse");

type Any = Readonly<{
  stringValue?: string;
  intValue?: string | number;
  arrayValue?: Readonly<{ values?: readonly Any[] }>;
}>;
type KeyValue = Readonly<{ key: string; value: Any }>;
type Log = Readonly<{
  timeUnixNano: string;
  observedTimeUnixNano: string;
  severityNumber: number | string;
  severityText: string;
  eventName: string;
  body: Any;
  attributes?: readonly KeyValue[];
  traceId?: string;
  spanId?: string;
}>;
type Request = Readonly<{
  resourceLogs: readonly Readonly<{
    resource: Readonly<{ attributes: readonly KeyValue[] }>;
    scopeLogs: readonly Readonly<{ scope: Readonly<{ name: string }>; logRecords: readonly Log[] }>[];
  }>[];
}>;

/** The request as an object of the JSON encoding, but with ids in hexadecimal in both. */
function decode({ headers, body }: TestReceiver["got"][number]): Request {
  const plain = headers["content-encoding"] === "gzip" ? gunzipSync(body) : body;
  if (headers["content-type"] === "application/json") return JSON.parse(plain.toString()) as Request;
  assert.equal(headers["content-type"], "application/x-protobuf");
  const message = requestType.decode(plain);
  const decoded = requestType.toObject(message, { longs: String, bytes: Buffer, enums: Number, defaults: false });
  const hex = JSON.stringify(decoded, (key, value: unknown) =>
    key === "traceId" || key === "spanId" ? Buffer.from((value as { data: number[] }).data).toString("hex") : value,
  );
  return JSON.parse(hex) as Request;
}

const logsIn = (got: TestReceiver["got"][number]): readonly Log[] =>
  decode(got).resourceLogs.flatMap(({ scopeLogs }) => scopeLogs.flatMap(({ logRecords }) => logRecords));
const recordsIn = (got: TestReceiver["got"][number]): AuditRecord[] =>
  logsIn(got).flatMap(({ body }) => parseLine(body.stringValue ?? "") ?? []);

function plainOf({ stringValue, intValue, arrayValue }: Any): unknown {
  if (arrayValue !== undefined) return (arrayValue.values ?? []).map(plainOf);
  return intValue === undefined ? stringValue : Number(intValue);
}
const attributesOf = (list: readonly KeyValue[] = []): Record<string, unknown> =>
  Object.fromEntries(list.map(({ key, value }) => [key, plainOf(value)]));

const success = Buffer.from(responseType.encode(responseType.create({})).finish());

async function receiver(t: TestContext): Promise<TestReceiver> {
  const started = await new TestReceiver().start();
  started.answer = answerOf(success, "{}");
  t.after(() => started.stop().catch(() => undefined));
  return started;
}

const answerOf =
  (inProtobuf: Buffer, inJson: string): TestReceiver["answer"] =>
  ({ headers }, response) => {
    response.writeHead(200).end(headers["content-type"] === "application/json" ? inJson : inProtobuf);
    return undefined;
  };

function openSink(url: URL, more: Partial<OtlpSinkConfig> = {}, used: OtlpLibrary = library): AuditSink {
  const config: OtlpSinkConfig = {
    ...{ name: "otlp test", format: "json", encoding: "protobuf", compression: "gzip" },
    batch: { bytesMax: 262_144, recordsMax: 2_000, lingerMs: 5 },
    endpoint: { url, headers: {}, ca: null, tls: null, timeoutMs: 2_000 },
    ...more,
  };
  const formatRecords = createRecordFormatter({ format: config.format, cluster: "c" });
  return createOtlpSink(config, {
    ...{
      library: used,
      node: "node-1",
      cluster: "c",
      version: "1.2.3",
      formatRecords,
      authority: null,
      nowMs: () => Date.now(),
    },
  });
}

const encodings = ["protobuf", "json"] as const;
const record = (seq: number): AuditRecord => ({ kind: "decision", seq, ...decision() });

for (const encoding of encodings)
  checkSink(`otlp, ${encoding}`, async (t) => {
    const server = await receiver(t);
    return {
      open: async () => openSink(server.url, { encoding }),
      records: async () => server.got.flatMap(recordsIn),
      breakDown: () => server.stop(),
      repair: async () => {
        await server.start();
      },
    };
  });

describe("log records", () => {
  for (const encoding of encodings)
    for (const compression of ["gzip", "none"] as const)
      test(`of every kind arrive whole: ${encoding}, ${compression}`, async (t) => {
        const server = await receiver(t);
        const sink = openSink(server.url, { encoding, compression });
        const all = Object.values(samples);
        await sink.write(batchOf(...all));
        await sink.close();
        const [got] = server.got;
        assert.ok(got);
        const { resource, scopeLogs } = decode(got).resourceLogs[0] ?? { resource: { attributes: [] }, scopeLogs: [] };
        assert.deepEqual(attributesOf(resource.attributes), {
          ...{ "service.name": "cardea", "service.namespace": "c", "service.instance.id": "node-1" },
          "service.version": "1.2.3",
        });
        assert.equal(scopeLogs[0]?.scope.name, "cardea.audit");
        const logs = logsIn(got);
        assert.deepEqual(
          logs.map(({ body }) => `${body.stringValue}\n`),
          all.map(toLine),
          "the exact lines",
        );
        assert.deepEqual(
          logs.map(({ attributes }) => attributesOf(attributes)["log.record.uid"]),
          all.map(({ boot, seq }) => `${boot}:${seq}`),
        );
        assert.ok(logs.every(({ timeUnixNano }) => timeUnixNano === "1764288000000000000"));
        assert.ok(logs.every(({ spanId = "" }) => spanId === ""));
      });

  test("have the attributes of the semantic conventions, severity, trace and name", async (t) => {
    const server = await receiver(t);
    const sink = openSink(server.url);
    const { decision: full, denied, gap, refused, operator, closed } = samples;
    await sink.write(batchOf(...[full, denied, gap, refused, operator, closed].flatMap((each) => each ?? [])));
    await sink.close();
    const logs = server.got.flatMap(logsIn);
    const [first, second] = logs;
    assert.equal(first?.traceId, "4bf92f3577b34da6a3ce929d0e0e4736");
    assert.deepEqual(
      logs.map(({ severityNumber, severityText, eventName }) => `${severityNumber} ${severityText} ${eventName}`),
      [
        "9 INFO cardea.audit.decision.request",
        "13 WARN cardea.audit.decision.request",
        "17 ERROR cardea.audit.gap",
        "13 WARN cardea.audit.operator",
        "9 INFO cardea.audit.operator",
        "9 INFO cardea.audit.stream.closed",
      ],
    );
    const found = attributesOf(first?.attributes);
    const expected = {
      ...{
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "url.path": "/reports/7",
        "url.query": "page=2",
      },
      ...{ "server.address": "app.example.com", "client.address": "192.0.2.1", "user_agent.original": "curl/8" },
      ...{ "user.id": "u-1", "cardea.route.id": "app", "cardea.route.name": "Reports", "cardea.result": "permit" },
      ...{ "cardea.reasons": ["user-ok"], "cardea.boot": "boot-1", "cardea.seq": 1 },
    };
    for (const [key, value] of Object.entries(expected)) assert.deepEqual(found[key], value, key);
    const odd = attributesOf(second?.attributes);
    assert.deepEqual([odd["http.request.method"], odd["http.request.method_original"]], ["_OTHER", "BREW"]);
    assert.ok(!("client.address" in odd) && !("user.id" in odd));
  });

  test("have the body of the format that the configuration names", async (t) => {
    const server = await receiver(t);
    const sink = openSink(server.url, { format: "cloudevents" });
    await sink.write(batchOf(record(1), record(2)));
    await sink.close();
    const bodies = server.got.flatMap(logsIn).map(({ body }) => JSON.parse(body.stringValue ?? "") as unknown);
    assert.deepEqual(bodies.map(withoutEnvelope), [record(1), record(2)]);
  });
});

describe("answers", () => {
  for (const encoding of encodings)
    test(`a partial success is not sent again; its records are in the dead-letter file: ${encoding}`, async (t) => {
      const server = await receiver(t);
      const partial = { partialSuccess: { rejectedLogRecords: 2, errorMessage: "too long" } };
      const inProtobuf = Buffer.from(responseType.encode(responseType.create(partial)).finish());
      const json = '{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"too long"}}';
      server.answer = answerOf(inProtobuf, json);
      const disk = new ModelDisk();
      const batch = { bytesMax: 262_144, recordsMax: 10, lingerMs: 60_000 };
      const recorder = await startSpool(disk, [openSink(server.url, { encoding, batch })], { sleepMsMax: 60_000 });
      for (let i = 0; i < 10; i++) recorder.record(decision());
      await waitFor("the batch", () => recorder.stats().sinks[0]?.queued === 0);
      await recorder.close(1_000);
      assert.equal(server.got.length, 1);
      assert.equal(recorder.stats().sinks[0]?.deadLetters, 2);
      const name = [...disk.files.keys()].find((each) => each.startsWith("dead-letters-")) ?? "";
      assert.equal((await disk.readSmall(name))?.toString().split("\n").length, 11);
    });

  test("a warning with a success is a success, and so is an empty answer", async (t) => {
    const server = await receiver(t);
    for (const encoding of encodings) {
      const warning = { partialSuccess: { errorMessage: "be careful" } };
      const inProtobuf = Buffer.from(responseType.encode(responseType.create(warning)).finish());
      const sink = openSink(server.url, { encoding });
      for (const answer of [answerOf(inProtobuf, JSON.stringify(warning)), answerOf(Buffer.alloc(0), "")]) {
        server.answer = answer;
        await sink.write(batchOf(record(1)));
      }
      await sink.close();
    }
  });

  test("a success that is not of OTLP is none: a web page, a cut or an endless answer", async (t) => {
    const server = await receiver(t);
    const page = Buffer.from("<!doctype html><title>Welcome</title>");
    const huge = Buffer.alloc(200_000, 0x20);
    const cut: TestReceiver["answer"] = (_, response) => {
      response.writeHead(200, { "content-length": 100 });
      response.write("{", () => response.destroy());
      return undefined;
    };
    for (const encoding of encodings) {
      const sink = openSink(server.url, { encoding });
      for (const answer of [answerOf(page, page.toString()), answerOf(huge, "[1]"), cut]) {
        server.answer = answer;
        await assert.rejects(sink.write(batchOf(record(1))), { code: "ERR_AUDIT_SINK_BUSY" });
      }
      await sink.close();
    }
  });

  test("a bad record is found and put aside; a full collector says when to try again", async (t) => {
    const server = await receiver(t);
    const good = server.answer;
    server.answer = (got, response, request) =>
      recordsIn(got).some((each) => each.kind === "decision" && each.path === "/bad")
        ? 400
        : good(got, response, request);
    const recorder = await startSpool(new ModelDisk(), [openSink(server.url)]);
    for (let i = 1; i <= 20; i++) recorder.record(decision(i === 7 ? "/bad" : "/"));
    await waitFor("all records", () => recorder.stats().sinks[0]?.queued === 0, { withinMs: 20_000 });
    await recorder.close(1_000);
    assert.equal(recorder.stats().sinks[0]?.deadLetters, 1);
    server.answer = (_, response) => {
      response.writeHead(429, { "retry-after": "9" }).end();
      return undefined;
    };
    const sink = openSink(server.url);
    await assert.rejects(sink.write(batchOf(record(1))), { code: "ERR_AUDIT_SINK_BUSY", retryAfterMs: 9_000 });
    await sink.close();
  });
});

test("a large batch is converted in slices, so that other work has its turn", async (t) => {
  const server = await receiver(t);
  let [turns, atRequest] = [0, 0];
  let isOver = false;
  const count = (): void => {
    turns++;
    if (!isOver) setImmediate(count);
  };
  const { ProtobufLogsSerializer: serializer } = library;
  const serializeRequest: typeof serializer.serializeRequest = (request) => {
    atRequest = turns;
    return serializer.serializeRequest(request);
  };
  const counting = { ...library, ProtobufLogsSerializer: { ...serializer, serializeRequest } };
  const sink = openSink(server.url, {}, counting);
  setImmediate(count);
  await sink.write(batchOf(...Array.from({ length: 1_280 }, (_, n) => record(n + 1))));
  isOver = true;
  assert.ok(atRequest >= 15, `${atRequest} turns`);
});
