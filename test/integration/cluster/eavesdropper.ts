/**
 * Eavesdropper: somebody on the network who reads everything, repeats anything and sends what they like, but has no key
 * of the cluster: beside NATS, and between a node and its broker.
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
  enrol,
  enrolmentRoot,
  type MessageKind,
  parseBatch,
  type Role,
  type Signer,
  sealEnvelope,
  signingPairFromSeed,
} from "../../../src/replication/index.ts";
import { waitFor } from "../../support/wait-for.ts";

/** The parts of an envelope, as anybody can take them apart and put them together. */
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

/** Enrols a key of one's own under a root of one's choice. */
export function enrolSigner(
  options: Readonly<{
    cluster: string;
    secret: Uint8Array;
    /** Whose root signs it; the role's own unless named. */
    rootOf?: Role;
    role: Role;
    name: string;
    boot?: string;
    epoch?: Epoch;
    incarnation?: Incarnation | "";
  }>,
): Signer {
  const { cluster, role, name, epoch = 0 as Epoch, incarnation = "" } = options;
  return enrol(
    { cluster, role, name, boot: (options.boot ?? randomUUID()) as BootId, epoch, incarnation },
    signingPairFromSeed(randomBytes(32)),
    enrolmentRoot(options.secret, options.rootOf ?? role),
  );
}

/** A batch that links perfectly: one event of one's own behind a link of the log, in the epoch that is led. */
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
    /** The newest batch, once everything up to a link was received. */
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
  /** What nodes have said to the broker, and the broker to nodes, newest last. */
  requests: readonly Uint8Array[];
  replies: readonly Uint8Array[];
  /** From now on answers to lease messages are these; null: the broker's own. */
  tamperWith(tamper: Tamper | null): void;
  close(): Promise<void>;
}>;

/** @returns what is sent instead, and the seal in its header: the broker's own unless another is given */
export type Tamper = (
  genuine: Uint8Array,
  request: Readonly<{ body: Uint8Array; authorization: string }>,
) => Readonly<{ bytes: Uint8Array; seal?: string }>;

/** In the middle between a node and a broker, where no TLS keeps it out. */
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

/** The same bytes with one bit turned over in the middle. */
export function flipMiddleBit(bytes: Uint8Array): Uint8Array {
  const copy = Uint8Array.from(bytes);
  const at = Math.floor(copy.length / 2);
  copy[at] = (copy[at] ?? 0) ^ 1;
  return copy;
}

/** What the cluster's own messages would say of a batch, from somebody who made it up. */
export const sealBatch = (speaker: Signer, batch: Batch): Uint8Array =>
  sealEnvelope(speaker, "batch", encodeMessage(batch));

export const randomIncarnation = (): Incarnation => parseIncarnation(randomBytes(16).toString("hex"));
