/**
 * Eavesdropper: an attacker on the network who reads everything, replays anything and sends forgeries, on NATS and
 * between a node and its broker, but holds no key of the cluster.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { connect } from "@nats-io/transport-node";
import { Agent, request } from "undici";
import {
  type BootId,
  type CardeaEvent,
  decode,
  decodeEvent,
  type Epoch,
  encode,
  encodeEvent,
  type Incarnation,
  type Link,
  linkOf,
  type Position,
  parseIncarnation,
  streamOf,
  uuidFromBytes,
} from "../../../src/events/index.ts";
import {
  answerHeader,
  type Batch,
  encodeMessage,
  enrolKey,
  enrolmentRoot,
  type MessageKind,
  parseBatch,
  type Role,
  type Signer,
  sealEnvelope,
  signingPairFromSeed,
} from "../../../src/replication/wire/index.ts";
import { waitFor } from "../../support/wait-for.ts";

/** The parts of an envelope; splitting and joining them needs no key. */
export type EnvelopeParts = Readonly<{
  kind: MessageKind;
  certificate: Uint8Array;
  rootSignature: Uint8Array;
  payload: Uint8Array;
  signature: Uint8Array;
}>;

export function splitEnvelope(envelope: Uint8Array): EnvelopeParts {
  const [, kind, certificate, rootSignature, payload, signature] = decode(envelope) as [
    number,
    MessageKind,
    Uint8Array,
    Uint8Array,
    Uint8Array,
    Uint8Array,
  ];
  return { kind, certificate, rootSignature, payload, signature };
}

export function joinEnvelope(parts: EnvelopeParts): Uint8Array {
  return encode([1, parts.kind, parts.certificate, parts.rootSignature, parts.payload, parts.signature]);
}

/** Enrols a new key under a root of the test's choice. */
export function enrolSigner(
  options: Readonly<{
    cluster: string;
    secret: Uint8Array;
    /** The role whose root signs the key; default: `role`. */
    rootOf?: Role;
    role: Role;
    name: string;
    boot?: string;
    epoch?: Epoch;
    incarnation?: Incarnation | "";
  }>,
): Signer {
  const { cluster, role, name, epoch = 0 as Epoch, incarnation = "" } = options;
  return enrolKey(
    { cluster, role, name, boot: (options.boot ?? randomUUID()) as BootId, epoch, incarnation },
    signingPairFromSeed(randomBytes(32)),
    enrolmentRoot(options.secret, options.rootOf ?? role),
  );
}

/** A forged batch that links correctly: one event directly after a link of the log, in the current epoch. */
export function batchAfter(previous: Link, event: CardeaEvent, of: Pick<Batch, "epoch" | "incarnation">): Batch {
  const bytes = encodeEvent({
    ...{ epoch: of.epoch, position: (previous.position + 1) as Position, eventId: uuidFromBytes(randomBytes(16)) },
    ...{ stream: streamOf(event), version: 1, recordedAt: Date.now() as never, actor: "system", cause: null, event },
  });
  return { ...of, previous, entries: [bytes], last: linkOf(decodeEvent(bytes, previous)), keys: [] };
}

export async function listenOnNats(url: string, cluster: string) {
  const connection = await connect({ servers: url });
  const received: Uint8Array[] = [];
  connection.subscribe(`${cluster}.log`, {
    callback: (_error, message) => void received.push(Uint8Array.from(message.data)),
  });
  await connection.flush();
  return {
    /** Waits for the batch that ends at this link. */
    batchEndingAt: (link: Link): Promise<Readonly<{ envelope: Uint8Array; batch: Batch }>> =>
      waitFor("a genuine batch on NATS", () => {
        const envelope = received.find((each) => {
          const { kind, payload } = splitEnvelope(each);
          return kind === "batch" && parseBatch(payload).last.hash === link.hash;
        });
        return envelope && { envelope, batch: parseBatch(splitEnvelope(envelope).payload) };
      }),
    received: received as readonly Uint8Array[],
    async send(...envelopes: readonly Uint8Array[]): Promise<void> {
      for (const envelope of envelopes) connection.publish(`${cluster}.log`, envelope);
      await connection.flush();
    },
    close: () => connection.close(),
  };
}

export type Interceptor = Readonly<{
  port: number;
  /** Lease messages of nodes, and the broker's replies to them, newest last. */
  requests: readonly Uint8Array[];
  replies: readonly Uint8Array[];
  /** From now on replaces the replies to lease messages; null: forwards the broker's replies. */
  tamperWith(tamper: Tamper | null): void;
  close(): Promise<void>;
}>;

/** @returns the bytes to send instead, and the seal for their header; default: the broker's seal */
export type Tamper = (
  genuine: Uint8Array,
  request: Readonly<{ body: Uint8Array; authorization: string }>,
) => Readonly<{ bytes: Uint8Array; seal?: string }>;

/** Starts a man in the middle between a node and a broker, without TLS. */
export async function startInterceptor(broker: string): Promise<Interceptor> {
  const agent = new Agent({ keepAliveTimeout: 1_000 });
  const requests: Uint8Array[] = [];
  const replies: Uint8Array[] = [];
  let tamper: Tamper | null = null;
  const server = createServer(async (req, res) => {
    const chunks: Buffer[] = [];
    for await (const chunk of req) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    const { host: _host, connection: _connection, "transfer-encoding": _encoding, ...headers } = req.headers;
    try {
      const answer = await request(`${broker}${req.url}`, {
        ...{ dispatcher: agent, method: req.method as "GET" | "POST", headers: headers as Record<string, string> },
        body: body.length > 0 ? body : null,
      });
      let bytes: Uint8Array = await answer.body.bytes();
      let tampered: ReturnType<Tamper> | undefined;
      if (req.url === "/v1/leases") {
        requests.push(Uint8Array.from(body));
        if (answer.statusCode === 200) {
          replies.push(bytes);
          tampered = tamper?.(bytes, { body, authorization: String(headers["authorization"]) });
          bytes = tampered?.bytes ?? bytes;
        }
      }
      const seal = tampered?.seal ?? answer.headers[answerHeader];
      res.writeHead(answer.statusCode, {
        "content-type": String(answer.headers["content-type"] ?? ""),
        ...(typeof seal === "string" && { [answerHeader]: seal }),
      });
      res.end(bytes);
    } catch {
      res.destroy();
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    ...{ port: (server.address() as AddressInfo).port, requests, replies },
    tamperWith(next) {
      tamper = next;
    },
    async close() {
      server.close();
      server.closeAllConnections();
      await agent.destroy();
    },
  };
}

/** A copy with one bit flipped in the middle. */
export function flipMiddleBit(bytes: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(bytes);
  const at = Math.floor(copy.length / 2);
  copy[at] = (copy[at] ?? 0) ^ 1;
  return copy;
}

/** The envelope of a forged batch. */
export const sealBatch = (speaker: Signer, batch: Batch): Uint8Array =>
  sealEnvelope(speaker, "batch", encodeMessage(batch));

export const randomIncarnation = (): Incarnation => parseIncarnation(randomBytes(16).toString("hex"));
