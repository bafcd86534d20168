/**
 * gRPC through the proxy, with grpc-js as client and server: every status, kind of call, deadline and cancellation
 * passes through.
 */
import assert from "node:assert/strict";
import type { EventEmitter } from "node:events";
import { after, before, describe, test } from "node:test";
import {
  type CallOptions,
  type ChannelCredentials,
  type Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  type ClientUnaryCall,
  type ClientWritableStream,
  credentials,
  Metadata,
  makeGenericClientConstructor,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
  type ServiceError,
  type StatusObject,
  type sendUnaryData,
  status,
} from "@grpc/grpc-js";
import { Authority } from "../support/pki.ts";
import { waitFor } from "../support/wait-for.ts";
import { cookieOf, publicAccess as openRoute, type Rig, routeTo, signedIn, startRig } from "./support.ts";

const bytes = { serialize: (value: Buffer) => value, deserialize: (value: Buffer) => value };
const method = (name: string, requestStream: boolean, responseStream: boolean) => ({
  path: `/test.Echo/${name}`,
  requestStream,
  responseStream,
  requestSerialize: bytes.serialize,
  requestDeserialize: bytes.deserialize,
  responseSerialize: bytes.serialize,
  responseDeserialize: bytes.deserialize,
});
const served = {
  unary: method("Unary", false, false),
  upload: method("Upload", true, false),
  download: method("Download", false, true),
  chat: method("Chat", true, true),
};
/** `missing` is a method that the server does not implement. */
const clientMethods = {
  ...served,
  missing: method("Missing", false, false),
  missingChat: method("MissingChat", true, true),
};

type Callback = (error: ServiceError | null, reply?: Buffer) => void;
type Unary = (message: Buffer, metadata: Metadata, options: CallOptions, callback: Callback) => ClientUnaryCall;
type Chat = (metadata: Metadata, options?: CallOptions) => ClientDuplexStream<Buffer, Buffer>;
type Echo = Client & {
  unary: Unary;
  missing: Unary;
  upload(metadata: Metadata, options: CallOptions, callback: Callback): ClientWritableStream<Buffer>;
  download(message: Buffer, metadata: Metadata, options?: CallOptions): ClientReadableStream<Buffer>;
  chat: Chat;
  missingChat: Chat;
};

/** What a caller received of one call. */
type Outcome = Readonly<{
  code: number;
  details: string;
  initial: Metadata | undefined;
  trailing: Metadata;
  messages: readonly string[];
}>;

/** The cancelled calls that the server saw. */
const cancelled: string[] = [];
const underWay: string[] = [];

/** Metadata `code`: ends with that status. `after`: sends that many messages first; absent: none. */
function wanted(metadata: Metadata): Readonly<{ failure: Partial<StatusObject> | undefined; after: number }> {
  const code = Number(metadata.get("code")[0] ?? 0);
  const trailing = new Metadata();
  trailing.set("trailing", `of ${code}`);
  trailing.set("trailing-bin", Buffer.from([0, 255, 10]));
  const failure = code === 0 ? undefined : { code, details: `status ${code}: ünï%`, metadata: trailing };
  return { failure, after: Number(metadata.get("after")[0] ?? 0) };
}

function initialOf(metadata: Metadata): Metadata {
  const initial = new Metadata();
  for (const value of metadata.get("asked")) initial.add("initial", value);
  for (const value of metadata.get("asked-bin")) initial.add("initial-bin", value);
  return initial;
}

const handlers = {
  unary(call: ServerUnaryCall<Buffer, Buffer>, callback: sendUnaryData<Buffer>): void {
    const { failure } = wanted(call.metadata);
    const name = String(call.metadata.get("hang")[0] ?? "");
    if (name !== "") {
      underWay.push(name);
      call.on("cancelled", () => cancelled.push(name));
      return;
    }
    if (failure === undefined || call.metadata.get("head").length > 0) call.sendMetadata(initialOf(call.metadata));
    if (failure !== undefined) callback(failure);
    else {
      const trailing = new Metadata();
      trailing.set("trailing", "of 0");
      callback(null, call.request, trailing);
    }
  },
  upload(call: ServerReadableStream<Buffer, Buffer>, callback: sendUnaryData<Buffer>): void {
    const { failure, after: count } = wanted(call.metadata);
    if (failure !== undefined && count === 0) {
      callback(failure); // while the caller still sends
      return;
    }
    const messages: Buffer[] = [];
    call.on("data", (message: Buffer) => {
      messages.push(message);
      if (failure !== undefined && messages.length === count) callback(failure);
    });
    call.on("end", () => callback(null, Buffer.concat(messages)));
  },
  download(call: ServerWritableStream<Buffer, Buffer>): void {
    const { failure, after: count } = wanted(call.metadata);
    const name = String(call.metadata.get("hang")[0] ?? "");
    if (name !== "") {
      underWay.push(name);
      call.on("cancelled", () => cancelled.push(name));
      call.write(Buffer.from("0"));
      return;
    }
    for (let i = 0; i < count; i++) call.write(Buffer.from(String(i)));
    if (failure !== undefined) call.emit("error", failure);
    else call.end();
  },
  chat(call: ServerDuplexStream<Buffer, Buffer>): void {
    const { failure, after: count } = wanted(call.metadata);
    let seen = 0;
    const fail = (): void => void (failure === undefined ? call.end() : call.emit("error", failure));
    if (failure !== undefined && count === 0) {
      fail();
      return;
    }
    call.on("data", (message: Buffer) => {
      call.write(message);
      if (++seen === count) fail(); // while the caller still sends
    });
    call.on("end", () => {
      if (count === 0) call.end();
    });
  },
};

async function serve(
  tls: Readonly<{ cert: string; key: string }> | null,
): Promise<Readonly<{ server: Server; port: number }>> {
  const server = new Server();
  server.addService(served as unknown as ServiceDefinition, handlers as never);
  const shown =
    tls === null
      ? ServerCredentials.createInsecure()
      : ServerCredentials.createSsl(null, [{ cert_chain: Buffer.from(tls.cert), private_key: Buffer.from(tls.key) }]);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", shown, (error, bound) => (error === null ? resolve(bound) : reject(error)));
  });
  return { server, port };
}

function metadataOf(values: Readonly<Record<string, string | number | Buffer>>): Metadata {
  const metadata = new Metadata();
  metadata.set("cookie", cookieOf(1));
  for (const [name, value] of Object.entries(values))
    metadata.set(name, typeof value === "number" ? String(value) : value);
  return metadata;
}

/** A call that ends with its status, whichever kind it is. */
function outcomeOf(call: EventEmitter, messages: string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    let initial: Metadata | undefined;
    call.on("metadata", (metadata: Metadata) => {
      initial = metadata;
    });
    call.on("status", (ended: StatusObject) => {
      // The callback of a unary call may run after its status.
      setImmediate(() =>
        resolve({ code: ended.code, details: ended.details, initial, trailing: ended.metadata, messages }),
      );
    });
  });
}

function unary(
  client: Echo,
  name: "unary" | "missing",
  values: Parameters<typeof metadataOf>[0],
  options: CallOptions = {},
) {
  const messages: string[] = [];
  const call = client[name](Buffer.from("hello"), metadataOf(values), options, (_error, reply) => {
    if (reply !== undefined) messages.push(reply.toString());
  });
  return { call, outcome: outcomeOf(call, messages) };
}

function upload(client: Echo, values: Parameters<typeof metadataOf>[0]) {
  const messages: string[] = [];
  const call = client.upload(metadataOf(values), {}, (_error, reply) => {
    if (reply !== undefined) messages.push(reply.toString());
  });
  call.on("error", () => {});
  return { call, outcome: outcomeOf(call, messages) };
}

function streaming<Call extends ClientReadableStream<Buffer>>(
  call: Call,
): { call: Call; messages: string[]; outcome: Promise<Outcome> } {
  const messages: string[] = [];
  call.on("data", (message: Buffer) => messages.push(message.toString()));
  call.on("error", () => {});
  return { call, messages, outcome: outcomeOf(call, messages) };
}

const failures = Object.values(status).filter((code): code is number => typeof code === "number" && code !== status.OK);

for (const secure of [false, true])
  describe(secure ? "over TLS on both sides" : "over h2c on both sides", () => {
    let rig: Rig;
    let upstream: Awaited<ReturnType<typeof serve>>;
    let client: Echo;

    before(async () => {
      const root = secure ? await Authority.root() : null;
      const issued = root === null ? null : await root.issue({ hosts: ["app.localhost", "upstream.localhost"] });
      upstream = await serve(issued);
      const scheme = secure ? "https" : "h2c";
      const to = [{ url: new URL(`${scheme}://upstream.localhost:${upstream.port}`), weight: null }];
      const common = { skipVerify: false, serverName: null, clientCert: null, clientKey: null };
      const tls = { ...common, customCa: root?.pem ?? null, allowRenegotiation: false };
      rig = await startRig([routeTo(0, { ...openRoute, to, tls })], {
        config: issued === null ? {} : { insecureServer: false, certificates: [issued] },
      });
      await rig.apply(signedIn(1));
      const shown: ChannelCredentials =
        root === null ? credentials.createInsecure() : credentials.createSsl(Buffer.from(root.pem));
      const Connecting = makeGenericClientConstructor(clientMethods as unknown as ServiceDefinition, "test.Echo");
      client = new Connecting(`127.0.0.1:${rig.port}`, shown, {
        "grpc.default_authority": "app.localhost",
        ...(secure ? { "grpc.ssl_target_name_override": "app.localhost" } : {}),
      }) as unknown as Echo;
    });
    after(async () => {
      client.close();
      upstream.server.forceShutdown();
      await rig.close();
    });

    test("a unary call delivers its message, and the metadata before and after it", async () => {
      const { outcome } = unary(client, "unary", { asked: "abc", "asked-bin": Buffer.from([1, 0, 254]) });
      const { code, initial, trailing, messages } = await outcome;
      assert.equal(code, status.OK);
      assert.deepEqual(messages, ["hello"]);
      assert.deepEqual(initial?.get("initial"), ["abc"]);
      assert.deepEqual(initial?.get("initial-bin"), [Buffer.from([1, 0, 254])]);
      assert.deepEqual(trailing.get("trailing"), ["of 0"]);
    });

    for (const code of failures)
      test(`${status[code]} arrives with its message and metadata, both in trailers and in a headers-only response`, async () => {
        for (const more of [{}, { head: "1", asked: "abc" }]) {
          const ended = await unary(client, "unary", { code, ...more }).outcome;
          assert.deepEqual([ended.code, ended.details], [code, `status ${code}: ünï%`]);
          assert.deepEqual(ended.trailing.get("trailing"), [`of ${code}`]);
          assert.deepEqual(ended.trailing.get("trailing-bin"), [Buffer.from([0, 255, 10])]);
          assert.deepEqual(ended.messages, []);
        }
      });

    test("a method that the server does not implement is UNIMPLEMENTED, for a unary call and for a stream", async () => {
      const { code, details } = await unary(client, "missing", {}).outcome;
      assert.equal(code, status.UNIMPLEMENTED);
      assert.match(details, /Missing/);
      const { call, outcome } = streaming(client.missingChat(metadataOf({})));
      call.write(Buffer.from("a"));
      assert.equal((await outcome).code, status.UNIMPLEMENTED);
    });

    test("a client stream is answered, and its status arrives while the caller is still sending", async () => {
      const complete = upload(client, {});
      for (const text of ["a", "b", "c"]) complete.call.write(Buffer.from(text));
      complete.call.end();
      const { code, messages } = await complete.outcome;
      assert.deepEqual([code, messages], [status.OK, ["abc"]]);
      for (const count of [0, 2]) {
        const refused = upload(client, { code: status.FAILED_PRECONDITION, after: count });
        for (const text of ["a", "b"]) refused.call.write(Buffer.from(text));
        const ended = await refused.outcome;
        assert.deepEqual([ended.code, ended.details], [9, "status 9: ünï%"], `after ${count} messages`);
      }
    });

    test("a server stream delivers its messages and its status", async () => {
      for (const [code, count] of [
        [status.OK, 0],
        [status.OK, 3],
        [status.NOT_FOUND, 0],
        [status.DATA_LOSS, 2],
      ] as const) {
        const { outcome } = streaming(client.download(Buffer.from("x"), metadataOf({ code, after: count })));
        const ended = await outcome;
        assert.deepEqual([ended.code, ended.messages.length], [code, count]);
      }
    });

    test("a bidirectional stream delivers each message at once, and ends with the server's status", async () => {
      const { call, messages, outcome } = streaming(client.chat(metadataOf({})));
      for (const [i, text] of ["a", "b", "c"].entries()) {
        call.write(Buffer.from(text));
        await waitFor(`${text} to be echoed`, () => messages.length === i + 1);
      }
      call.end();
      assert.equal((await outcome).code, status.OK);
      for (const [code, count] of [
        [status.PERMISSION_DENIED, 0],
        [status.ABORTED, 1],
        [status.OK, 2],
      ] as const) {
        const cut = streaming(client.chat(metadataOf({ code, after: count })));
        for (let i = 0; i < count; i++) cut.call.write(Buffer.from("x"));
        const ended = await cut.outcome; // the caller never ends its side
        assert.deepEqual([ended.code, ended.messages.length], [code, count]);
      }
    });

    test("a deadline ends the call on both sides", async () => {
      const deadline = new Date(Date.now() + 150);
      const one = unary(client, "unary", { hang: `deadline ${secure}` }, { deadline });
      const many = streaming(
        client.download(Buffer.from(""), metadataOf({ hang: `deadlines ${secure}` }), { deadline }),
      );
      assert.equal((await one.outcome).code, status.DEADLINE_EXCEEDED);
      assert.equal((await many.outcome).code, status.DEADLINE_EXCEEDED);
      await waitFor("the server to see both cancellations", () =>
        [`deadline ${secure}`, `deadlines ${secure}`].every(
          (name) => cancelled.includes(name) || !underWay.includes(name),
        ),
      );
    });

    test("a call that its caller cancels is cancelled at the server", async () => {
      const one = unary(client, "unary", { hang: `cancel ${secure}` });
      const many = streaming(client.download(Buffer.from(""), metadataOf({ hang: `cancels ${secure}` })));
      await waitFor("both calls to be under way", () =>
        [`cancel ${secure}`, `cancels ${secure}`].every((name) => underWay.includes(name)),
      );
      one.call.cancel();
      many.call.cancel();
      assert.equal((await one.outcome).code, status.CANCELLED);
      assert.equal((await many.outcome).code, status.CANCELLED);
      await waitFor("the server to see both cancellations", () =>
        [`cancel ${secure}`, `cancels ${secure}`].every((name) => cancelled.includes(name)),
      );
    });
  });
