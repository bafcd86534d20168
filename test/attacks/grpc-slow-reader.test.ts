/**
 * A gRPC stream whose caller stops reading: grpc-js on both sides, and a relay before the caller that counts what comes
 * from the proxy. No message leaves after a cut was reported, whether the caller stops in its program or with its whole
 * process.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import {
  type Client,
  type ClientReadableStream,
  credentials,
  Metadata,
  makeGenericClientConstructor,
  Server,
  ServerCredentials,
  type ServerWritableStream,
  type ServiceError,
} from "@grpc/grpc-js";
import { cookieOf, routeTo, sessionRevoked, signedIn, startRig } from "../proxy/support.ts";
import { queuesAt, cannotReadQueues as skip } from "../support/socket-queues.ts";
import { waitFor } from "../support/wait-for.ts";

const bytes = { serialize: (value: Buffer) => value, deserialize: (value: Buffer) => value };
const methods = {
  pour: {
    path: "/feed.Feed/Pour",
    requestStream: false,
    responseStream: true,
    requestSerialize: bytes.serialize,
    requestDeserialize: bytes.deserialize,
    responseSerialize: bytes.serialize,
    responseDeserialize: bytes.deserialize,
  },
};
type Feed = Client & { pour(message: Buffer, metadata: Metadata): ClientReadableStream<Buffer> };

/** PING, WINDOW_UPDATE, RST_STREAM and a head of trailers: frames that carry nothing of a message. */
const controlBytesMax = 300;
/** Larger than what kernels hold, so that the window of the stream is never what stops the proxy. */
const windowBytes = 2 ** 30;

async function startFeed(t: TestContext): Promise<number> {
  const server = new Server();
  const message = Buffer.alloc(10_000, 97);
  server.addService(methods, {
    pour(call: ServerWritableStream<Buffer, Buffer>) {
      const more = (): void => {
        while (!call.cancelled && call.write(message));
      };
      call.on("drain", more);
      call.on("error", () => {});
      more();
    },
  });
  t.after(() => server.forceShutdown());
  return new Promise((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) =>
      error === null ? resolve(port) : reject(error),
    );
  });
}

type Poured = Readonly<{
  call: ClientReadableStream<Buffer>;
  /** Towards the proxy. */
  relay: Socket;
  /** What has left the proxy for the caller and what its kernel holds for it. */
  queues: () => Readonly<{ left: number; held: number }>;
  revoke: () => Promise<void>;
  ended: Promise<ServiceError>;
}>;

async function startPoured(t: TestContext, window: number | undefined): Promise<Poured> {
  const to = [{ url: new URL(`h2c://127.0.0.1:${await startFeed(t)}`), weight: null }];
  const rig = await startRig([{ ...routeTo(1, { timeoutMs: 0, idleTimeoutMs: 0 }), to }]);
  t.after(() => rig.close());
  await rig.apply(signedIn(1));
  const relays: Socket[] = [];
  const front = createServer((caller) => {
    const relay = connect(rig.port, "127.0.0.1");
    relays.push(relay);
    for (const socket of [caller, relay]) socket.on("error", () => {});
    caller.pipe(relay).pipe(caller);
    relay.on("close", () => caller.destroy());
    t.after(() => {
      caller.destroy();
      relay.destroy();
    });
  });
  front.listen(0, "127.0.0.1");
  await once(front, "listening");
  t.after(() => front.close());
  const FeedClient = makeGenericClientConstructor(methods, "Feed");
  const client = new FeedClient(`127.0.0.1:${(front.address() as AddressInfo).port}`, credentials.createInsecure(), {
    "grpc.default_authority": "app.localhost",
    ...(window === undefined ? {} : { "grpc-node.flow_control_window": window }),
  }) as unknown as Feed;
  t.after(() => client.close());
  const metadata = new Metadata();
  metadata.set("cookie", cookieOf(1));
  const call = client.pour(Buffer.from("go"), metadata);
  const ended = new Promise<ServiceError>((resolve) => call.once("error", resolve));
  call.once("data", () => call.pause());
  await waitFor("the stream to be answered", () => relays.length === 1 && (relays[0]?.bytesRead ?? 0) > 10_000);
  const relay = relays[0] as Socket;
  const queues: Poured["queues"] = () => {
    const { localPort = 0 } = relay;
    const held = queuesAt(rig.port, localPort).unacked ?? 0;
    return { held, left: relay.bytesRead + queuesAt(localPort, rig.port).received };
  };
  const revoke = async (): Promise<void> => void (await rig.apply(sessionRevoked(1)));
  return { call, relay, queues, revoke, ended };
}

/** Settles when neither what has left nor what is held changes any more. */
async function untilStill(what: string, queues: Poured["queues"], isEnough: () => boolean): Promise<void> {
  let last = "";
  let same = 0;
  await waitFor(
    what,
    () => {
      const now = JSON.stringify(queues());
      same = now === last && isEnough() ? same + 1 : 0;
      last = now;
      return same > 10;
    },
    { everyMs: 10, withinMs: 50_000 },
  );
}

test("a caller that stops reading messages", { skip }, async (t) => {
  const { call, queues, revoke, ended } = await startPoured(t, undefined);
  await untilStill("the window to be used up", queues, () => true);
  await revoke();
  const { left } = queues();
  call.resume();
  assert.notEqual((await ended).code, 0);
  assert.ok(queues().left <= left + controlBytesMax, `${queues().left - left} bytes came after the report`);
});

test("a caller whose process stops reading", { skip }, async (t) => {
  const { call, relay, queues, revoke, ended } = await startPoured(t, windowBytes);
  relay.pause();
  call.resume();
  await untilStill("the kernels to be full", queues, () => queues().held > 1_000);
  const { left } = queues(); // after a reset, the kernel's table has no line for what it has received
  await revoke();
  const { held } = queues();
  assert.ok(held <= controlBytesMax, `the kernel holds ${held} bytes when the cut is reported`);
  relay.resume();
  assert.notEqual((await ended).code, 0);
  assert.ok(queues().left <= left + controlBytesMax, `${queues().left - left} bytes came after the cut`);
});
