/**
 * A gRPC stream whose caller stops reading. grpc-js runs on both sides, and a relay in front of the caller counts the
 * bytes from the proxy. No message leaves after a cut was reported, whether the calling code or its whole process stops
 * reading.
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

/** PING, WINDOW_UPDATE, RST_STREAM and trailing HEADERS: frames that carry no part of a message. */
const controlBytesMax = 300;
/** Larger than what the kernels hold, so flow control of the stream never stops the proxy. */
const windowBytes = 2 ** 30;

async function startFeed(t: TestContext): Promise<number> {
  const server = new Server();
  const message = Buffer.alloc(10_000, 97);
  server.addService(methods, {
    pour(call: ServerWritableStream<Buffer, Buffer>) {
      const writeMore = (): void => {
        while (!call.cancelled && call.write(message));
      };
      call.on("drain", writeMore);
      call.on("error", () => {});
      writeMore();
    },
  });
  t.after(() => server.forceShutdown());
  return new Promise((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) =>
      error === null ? resolve(port) : reject(error),
    );
  });
}

type OpenStream = Readonly<{
  call: ClientReadableStream<Buffer>;
  /** The relay's connection to the proxy. */
  relay: Socket;
  /** Bytes that have left the proxy for the caller, and bytes that the proxy's kernel still holds for it. */
  queues: () => Readonly<{ left: number; heldBytes: number }>;
  revoke: () => Promise<void>;
  ended: Promise<ServiceError>;
}>;

async function openStream(t: TestContext, window: number | undefined): Promise<OpenStream> {
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
  await waitFor("the first messages", () => relays.length === 1 && (relays[0]?.bytesRead ?? 0) > 10_000);
  const relay = relays[0] as Socket;
  const queues: OpenStream["queues"] = () => {
    const { localPort = 0 } = relay;
    const heldBytes = queuesAt(rig.port, localPort).unacked ?? 0;
    return { heldBytes, left: relay.bytesRead + queuesAt(localPort, rig.port).received };
  };
  const revoke = async (): Promise<void> => void (await rig.apply(sessionRevoked(1)));
  return { call, relay, queues, revoke, ended };
}

/** Settles once both counts have stopped changing. */
async function waitUntilStable(
  description: string,
  queues: OpenStream["queues"],
  isEnough: () => boolean,
): Promise<void> {
  let last = "";
  let same = 0;
  await waitFor(
    description,
    () => {
      const now = JSON.stringify(queues());
      same = now === last && isEnough() ? same + 1 : 0;
      last = now;
      return same > 10;
    },
    { everyMs: 10, withinMs: 50_000 },
  );
}

test("after a cut, no message leaves for a caller that has stopped reading messages", { skip }, async (t) => {
  const { call, queues, revoke, ended } = await openStream(t, undefined);
  await waitUntilStable("the window to be used up", queues, () => true);
  await revoke();
  const { left } = queues();
  call.resume();
  assert.notEqual((await ended).code, 0);
  assert.ok(queues().left <= left + controlBytesMax, `${queues().left - left} bytes arrived after the report`);
});

test("after a cut, no message leaves for a caller whose process has stopped reading", { skip }, async (t) => {
  const { call, relay, queues, revoke, ended } = await openStream(t, windowBytes);
  relay.pause();
  call.resume();
  await waitUntilStable("the kernels to be full", queues, () => queues().heldBytes > 1_000);
  const { left } = queues(); // taken now: after a reset, the kernel's table no longer lists received bytes
  await revoke();
  const { heldBytes } = queues();
  assert.ok(heldBytes <= controlBytesMax, `the kernel holds ${heldBytes} bytes when the cut is reported`);
  relay.resume();
  assert.notEqual((await ended).code, 0);
  assert.ok(queues().left <= left + controlBytesMax, `${queues().left - left} bytes arrived after the cut`);
});
