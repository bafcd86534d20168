/** The webhook sink against real HTTP and TLS servers: signatures, ids, retries, bad records, and broken receivers. */
import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import { Webhook } from "standardwebhooks";
import {
  type AuditRecord,
  type AuditSink,
  createWebhookSink,
  parseLine,
  withFormat,
  withoutEnvelope,
} from "../../../src/audit/index.ts";
import type { WebhookSinkConfig } from "../../../src/config/index.ts";
import { Authority } from "../../support/pki.ts";
import { waitFor } from "../../support/wait-for.ts";
import { checkSink } from "../sink-contract.ts";
import { ModelDisk } from "../spool/model-disk.ts";
import { startSpool } from "../spool/spool-support.ts";
import { batchOf, decision } from "../support.ts";
import { TestReceiver } from "./test-receiver.ts";

const secretTexts = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDAAAAAAAA"];
const secretOf = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.slice("whsec_".length), "base64"));
const record = (seq: number, path = "/"): AuditRecord => ({ kind: "decision", seq, ...decision(path) });

function configOf(url: URL, more: Partial<WebhookSinkConfig> = {}): WebhookSinkConfig {
  return {
    ...{ name: "webhook test", format: "json", body: "lines", secrets: secretTexts.map(secretOf) },
    batch: { bytesMax: 262_144, recordsMax: 1_000, lingerMs: 5 },
    endpoint: { url, headers: {}, ca: null, tls: null, timeoutMs: 2_000 },
    ...more,
  };
}

const openSink = (config: WebhookSinkConfig, authority: string | null = null): AuditSink =>
  createWebhookSink(config, { authority, nowMs: () => Date.now() });

async function receiver(t: TestContext): Promise<TestReceiver> {
  const started = await new TestReceiver().start();
  t.after(() => started.stop().catch(() => undefined));
  return started;
}

const idOf = ({ headers }: TestReceiver["got"][number]): string => String(headers["webhook-id"]);
const numbersIn = ({ body }: TestReceiver["got"][number]): number[] =>
  body
    .toString()
    .split("\n")
    .flatMap((line) => parseLine(line)?.seq ?? []);

checkSink("webhook", async (t) => {
  const server = await receiver(t);
  return {
    open: async () => openSink(configOf(server.url)),
    records: async () =>
      server.got.flatMap(({ body }) =>
        body
          .toString()
          .split("\n")
          .flatMap((line) => parseLine(line) ?? []),
      ),
    breakDown: () => server.stop(),
    repair: async () => {
      await server.start();
    },
  };
});

describe("a batch", () => {
  test("is verified by the library of Standard Webhooks with each secret, and with no other", async (t) => {
    const server = await receiver(t);
    const sink = openSink(configOf(server.url));
    const batch = batchOf(record(1), record(2, "/ä/\u2028/😀"));
    await sink.write(batch);
    await sink.close();
    const [got] = server.got;
    assert.ok(got);
    assert.ok(got.body.equals(batch.bytes), "the exact lines of the spool");
    assert.equal(got.headers["content-type"], "application/x-ndjson");
    const verify = (secret: string, body = got.body.toString()): unknown =>
      new Webhook(secret).verify(body, got.headers as Record<string, string>, { raw: true } as never);
    // The library parses the body as JSON after it verified it; lines are not one JSON text.
    for (const secret of secretTexts) assert.throws(() => verify(secret), SyntaxError);
    assert.throws(() => verify(`whsec_${Buffer.alloc(24, 1).toString("base64")}`), /No matching signature/);
    assert.throws(() => verify(secretTexts[0] ?? "", `${got.body} `), /No matching signature/);
  });

  test("may be a JSON array, which the library returns", async (t) => {
    const server = await receiver(t);
    const sink = openSink(configOf(server.url, { body: "array" }));
    await sink.write(batchOf(record(1), record(2)));
    await sink.close();
    const [got] = server.got;
    assert.equal(got?.headers["content-type"], "application/json");
    const verified = new Webhook(secretTexts[1] ?? "").verify(
      got?.body.toString() ?? "",
      got?.headers as Record<string, string>,
    );
    assert.deepEqual(verified, [record(1), record(2)]);
  });

  test("of CloudEvents is a batch as CloudEvents defines it", async (t) => {
    const server = await receiver(t);
    const config = configOf(server.url, { format: "cloudevents", body: "array" });
    const sink = withFormat(openSink(config), { format: "cloudevents", cluster: "c" });
    assert.deepEqual(sink.batching, config.batch);
    await sink.write(batchOf(record(1)));
    await sink.close();
    const [got] = server.got;
    assert.equal(got?.headers["content-type"], "application/cloudevents-batch+json");
    const [event] = JSON.parse(got?.body.toString() ?? "") as unknown[];
    assert.deepEqual(withoutEnvelope(event), record(1));
  });

  test("has an id that names its records: the same each time, another one for a gap", async (t) => {
    const server = await receiver(t);
    for (let i = 0; i < 2; i++) {
      const sink = openSink(configOf(server.url));
      await sink.write(batchOf(record(1), record(2), record(3)));
      await sink.write(batchOf(record(4)));
      await sink.write({ ...batchOf(record(4)), isGap: true });
      await sink.close();
    }
    const ids = server.got.map(idOf);
    assert.deepEqual(ids.slice(0, 3), ["boot-1_1_3", "boot-1_4_4", "boot-1_4_4_gap"]);
    assert.deepEqual(ids.slice(3), ids.slice(0, 3));
  });
});

describe("credentials", () => {
  test("are sent as headers, and no signature without a secret", async (t) => {
    const server = await receiver(t);
    const { endpoint, ...config } = configOf(server.url);
    const headers = { authorization: "Bearer token-1", "DD-API-KEY": "key-1" };
    const sink = openSink({ ...config, secrets: [], endpoint: { ...endpoint, headers } });
    await sink.write(batchOf(record(1)));
    await sink.close();
    assert.equal(server.got[0]?.headers.authorization, "Bearer token-1");
    assert.equal(server.got[0]?.headers["dd-api-key"], "key-1");
    assert.equal(server.got[0]?.headers["webhook-signature"], undefined);
  });

  test("never reach another address: a redirect is not followed, and the message has no secret", async (t) => {
    const server = await receiver(t);
    const other = await receiver(t);
    server.answer = (_, response) => {
      response.writeHead(307, { location: other.url.href }).end();
      return undefined;
    };
    const { endpoint, ...config } = configOf(new URL(`${server.url.href}?token=secret-2`));
    const sink = openSink({ ...config, endpoint: { ...endpoint, headers: { authorization: "Bearer secret-1" } } });
    await assert.rejects(sink.write(batchOf(record(1))), (error: Error) => {
      assert.match(error.message, /status 307, which is not followed/);
      assert.doesNotMatch(error.message, /secret/);
      return true;
    });
    await sink.close();
    assert.deepEqual(other.got, []);
  });
});

describe("TLS", () => {
  async function world(t: TestContext) {
    const [servers, clients, strangers] = [await Authority.root(), await Authority.root(), await Authority.root()];
    const { cert, key } = await servers.issue({ hosts: ["localhost"] });
    const server = await new TestReceiver({
      cert,
      key,
      ca: clients.pem,
      requestCert: true,
      rejectUnauthorized: true,
    }).start();
    t.after(() => server.stop());
    const client = await clients.issue({ name: "cardea", usage: "client" });
    const { endpoint, ...config } = configOf(server.url);
    const open = (
      ca: string | null,
      tls: Readonly<{ cert: string; key: string }> | null,
      authority: string | null = null,
    ) => openSink({ ...config, endpoint: { ...endpoint, ca, tls } }, authority);
    return { servers, strangers, server, client, open };
  }

  test("trusts the given authority, and presents the client certificate", async (t) => {
    const { servers, server, client, open } = await world(t);
    for (const sink of [open(servers.pem, client), open(null, client, servers.pem)]) {
      await sink.write(batchOf(record(1)));
      await sink.close();
    }
    assert.deepEqual(
      server.got.map((each) => each.client),
      ["cardea", "cardea"],
    );
  });

  test("refuses a server of another authority, and sends nothing to it", async (t) => {
    const { strangers, servers, server, client, open } = await world(t);
    for (const sink of [open(null, client), open(strangers.pem, client), open(strangers.pem, client, servers.pem)]) {
      await assert.rejects(sink.write(batchOf(record(1))), /cannot be reached: [A-Z_]*(CERT|ISSUER|SIGNATURE)[A-Z_]*/);
      await sink.close();
    }
    assert.deepEqual(server.got, []);
  });

  test("without the client certificate that the server wants, the batch waits", async (t) => {
    const { servers, server, open } = await world(t);
    const sink = open(servers.pem, null);
    await assert.rejects(sink.write(batchOf(record(1))), { code: "ERR_AUDIT_SINK_BUSY" });
    await sink.close();
    assert.deepEqual(server.got, []);
  });
});

describe("a receiver that does not accept", () => {
  for (const status of [401, 403, 404, 405, 408, 409, 410, 429, 500, 502, 503, 504])
    test(`with ${status}: the batch waits`, async (t) => {
      const server = await receiver(t);
      server.answer = () => status;
      const sink = openSink(configOf(server.url));
      await assert.rejects(sink.write(batchOf(record(1))), { code: "ERR_AUDIT_SINK_BUSY", retryAfterMs: 0 });
      await sink.close();
    });

  test("says when to try again: in seconds, as a date, or nonsense", async (t) => {
    const server = await receiver(t);
    const sink = openSink(configOf(server.url));
    const asked = async (text: string): Promise<number> => {
      server.answer = (_, response) => {
        response.writeHead(429, { "retry-after": text }).end();
        return undefined;
      };
      const error: unknown = await sink.write(batchOf(record(1))).catch((each: unknown) => each);
      return (error as { retryAfterMs: number }).retryAfterMs;
    };
    assert.equal(await asked("7"), 7_000);
    const inTenSeconds = await asked(new Date(Date.now() + 10_000).toUTCString());
    assert.ok(inTenSeconds > 8_000 && inTenSeconds <= 10_000);
    for (const text of ["-1", "soon", "1e9", new Date(0).toUTCString()]) assert.equal(await asked(text), 0, text);
    await sink.close();
  });

  test("refuses one record: the others arrive, and the dead-letter file has that one", async (t) => {
    for (const status of [400, 413, 422]) {
      const server = await receiver(t);
      server.answer = ({ body }) => (body.includes("/bad") ? status : 200);
      const disk = new ModelDisk();
      const recorder = await startSpool(disk, [openSink(configOf(server.url))]);
      for (let i = 1; i <= 40; i++) recorder.record(decision(i === 23 ? "/bad" : "/"));
      await waitFor("all records", () => recorder.stats().sinks[0]?.queued === 0, { withinMs: 20_000 });
      await recorder.close(1_000);
      const accepted = server.got.filter(({ body }) => !body.includes("/bad")).flatMap(numbersIn);
      assert.equal(new Set(accepted).size, 39);
      assert.equal(recorder.stats().sinks[0]?.deadLetters, 1);
      const name = [...disk.files.keys()].find((each) => each.startsWith("dead-letters-")) ?? "";
      assert.match((await disk.readSmall(name))?.toString() ?? "", /"seq":23,/);
    }
  });
});

describe("a receiver that breaks", () => {
  test("after it accepted a batch, before it answered: it gets the batch again, with the same id", async (t) => {
    const server = await receiver(t);
    let left = 2;
    server.answer = (_, response) => {
      left--;
      if (left < 0) return 204;
      response.destroy();
      return undefined;
    };
    const recorder = await startSpool(new ModelDisk(), [openSink(configOf(server.url))]);
    for (let i = 0; i < 5; i++) recorder.record(decision());
    await waitFor("an attempt", () => server.got.length > 0);
    for (let i = 0; i < 5; i++) recorder.record(decision());
    await waitFor("all records", () => recorder.stats().sinks[0]?.queued === 0);
    await recorder.close(1_000);
    const [first, second, third] = server.got;
    assert.deepEqual(
      [second, third].map((each) => each && idOf(each)),
      [idOf(first as never), idOf(first as never)],
    );
    assert.ok(second?.body.equals(first?.body as Buffer));
  });

  test("answers nothing, or slowly: the batch waits, within the timeout", async (t) => {
    const server = await receiver(t);
    const { endpoint, ...config } = configOf(server.url);
    const sink = openSink({ ...config, endpoint: { ...endpoint, timeoutMs: 200 } });
    const drip = (response: Parameters<TestReceiver["answer"]>[1]): void => {
      const timer = setInterval(() => response.writableEnded || response.write(" "), 20);
      t.after(() => clearInterval(timer));
    };
    for (const answer of [
      () => undefined,
      (_: unknown, response: Parameters<TestReceiver["answer"]>[1]) => {
        response.writeHead(500);
        drip(response);
        return undefined;
      },
    ]) {
      server.answer = answer;
      const begunMs = performance.now();
      await assert.rejects(sink.write(batchOf(record(1))), { code: "ERR_AUDIT_SINK_BUSY" });
      assert.ok(performance.now() - begunMs < 1_500);
    }
    await sink.close();
  });

  test("cuts its answer, sends garbage or an endless one: the status decides", async (t) => {
    const server = await receiver(t);
    const sink = openSink(configOf(server.url));
    const answers: readonly TestReceiver["answer"][] = [
      (_, response) => {
        response.writeHead(200, { "content-length": "1000" });
        response.write("half", () => response.destroy());
        return undefined;
      },
      (_, response) => {
        response.writeHead(200).end(Buffer.alloc(300_000, 0xff));
        return undefined;
      },
    ];
    for (const answer of answers) {
      server.answer = answer;
      await sink.write(batchOf(record(1)));
    }
    server.answer = (_, __, request) => {
      request.socket.end("SSH-2.0-not-http\r\n\r\n");
      return undefined;
    };
    await assert.rejects(sink.write(batchOf(record(1))), { code: "ERR_AUDIT_SINK_BUSY" });
    await sink.close();
  });

  test("cuts the connection in the middle of the request: the batch waits", async (t) => {
    const server = await receiver(t);
    const sink = openSink(configOf(server.url));
    const records = Array.from({ length: 2_000 }, (_, i) => record(i + 1, `/${"x".repeat(2_000)}`));
    server.answer = () => 204;
    const cut = new TestReceiver();
    await cut.start();
    const { endpoint, ...config } = configOf(cut.url);
    const other = openSink({ ...config, endpoint });
    const writing = other.write(batchOf(...records));
    setImmediate(() => void cut.stop());
    await assert.rejects(writing, { code: "ERR_AUDIT_SINK_BUSY" });
    await Promise.all([sink.close(), other.close()]);
  });
});
