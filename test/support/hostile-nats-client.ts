/**
 * Hostile NATS client: a client that may connect to NATS but holds no secret of the cluster.
 *
 * It receives everything on the cluster's subject, copies messages, and publishes messages that cost their receivers as
 * much as possible. Tests, `bench/hostile-nats.ts` and chaos use it.
 */
import { randomBytes } from "node:crypto";
import { connect, headers, type MsgHdrs } from "@nats-io/transport-node";
import { encode } from "../../src/events/index.ts";
import { deliveryTagHeader } from "../../src/replication/fanout/delivery-tag.ts";
import { type EnvelopeParts, readEnvelopeShape } from "../../src/replication/wire/envelope-shape.ts";

export const hostileKinds = [
  "extensions",
  "extensions-in-envelope",
  "deep-nesting",
  "false-claims",
  "random-bytes",
  "small",
  "large-headers",
  "stranger-signed",
  "copied-certificate",
  "copied-signature",
  "copied-tag",
  "repeated",
] as const;
export type HostileKind = (typeof hostileKinds)[number];

export type HostileMessage = Readonly<{ data: Uint8Array; headers?: MsgHdrs }>;

/** A genuine message as the client received it. */
export type Overheard = Readonly<{ data: Uint8Array; tag: string | null }>;

const largeBytes = 500_000;

/** One message of a kind. Kinds that copy need an overheard message; without one they use random parts. */
export function hostileMessage(kind: HostileKind, overheard: Overheard | undefined): HostileMessage {
  const parts = overheard === undefined ? randomParts() : (readEnvelopeShape(overheard.data) ?? randomParts());
  switch (kind) {
    case "extensions":
      return { data: extensions(1_000_000) };
    case "extensions-in-envelope":
      return { data: envelope({ ...parts, payload: extensions(largeBytes), signature: randomBytes(64) }) };
    case "deep-nesting":
      return { data: Buffer.alloc(largeBytes, 0x91) };
    case "false-claims":
      return { data: Buffer.concat([Buffer.of(0xdd, 0xff, 0xff, 0xff, 0xff), randomBytes(64)]) };
    case "random-bytes":
      return { data: randomBytes(10_000) };
    case "small":
      return { data: randomBytes(8) };
    case "large-headers":
      return { data: envelope({ ...parts, signature: randomBytes(64) }), headers: manyHeaders() };
    case "stranger-signed":
      return { data: envelope({ ...parts, certificate: randomBytes(200), signature: randomBytes(64) }) };
    case "copied-certificate":
      return { data: envelope({ ...parts, signature: randomBytes(64) }) };
    case "copied-signature":
      return { data: envelope({ ...parts, payload: randomBytes(200) }), headers: tagHeaders(overheard?.tag) };
    case "copied-tag":
      return { data: envelope({ ...parts, signature: randomBytes(64) }), headers: tagHeaders(overheard?.tag) };
    case "repeated":
      return { data: overheard?.data ?? envelope(parts), headers: tagHeaders(overheard?.tag) };
    default:
      throw new TypeError(`unknown kind ${String(kind satisfies never)}`);
  }
}

export type HostileNatsClient = Readonly<{
  /** The newest genuine message; undefined: none received yet. */
  overheard: () => Overheard | undefined;
  /** Publishes a number of messages of a kind, each one new, and waits until the server has received them. */
  send: (kind: HostileKind, count: number) => Promise<void>;
  /** Publishes the same bytes a number of times: the cheapest flood. */
  flood: (message: HostileMessage, count: number) => Promise<void>;
  close: () => Promise<void>;
}>;

export async function startHostileNatsClient(
  of: Readonly<{ servers: readonly string[]; cluster: string }>,
): Promise<HostileNatsClient> {
  const connection = await connect({ servers: [...of.servers], name: "stranger" });
  const subject = `${of.cluster}.log`;
  const own = new Set<string>();
  let overheard: Overheard | undefined;
  connection.subscribe(subject, {
    callback: (_error, { data, headers: given }) => {
      const tag = given?.get(deliveryTagHeader);
      const id = Buffer.from(data.subarray(-64)).toString("latin1");
      if (tag && !own.has(id)) overheard = { data: Uint8Array.from(data), tag };
    },
  });
  await connection.flush();

  function publish({ data, headers: of }: HostileMessage): void {
    connection.publish(subject, data, of === undefined ? {} : { headers: of });
  }

  return {
    overheard: () => overheard,
    async send(kind, count) {
      for (let n = 0; n < count; n++) {
        const message = hostileMessage(kind, overheard);
        if (kind !== "repeated") own.add(Buffer.from(message.data.subarray(-64)).toString("latin1"));
        publish(message);
        if (n % 20 === 19) await connection.flush();
      }
      await connection.flush();
    },
    async flood(message, count) {
      for (let n = 0; n < count; n++) {
        publish(message);
        if (n % 1_000 === 999) await connection.flush();
      }
      await connection.flush();
    },
    close: () => connection.close(),
  };
}

function randomParts(): EnvelopeParts {
  return {
    kind: "batch",
    certificate: randomBytes(200),
    rootSignature: randomBytes(64),
    payload: randomBytes(200),
    signature: randomBytes(64),
  };
}

function envelope({ kind, certificate, rootSignature, payload, signature }: EnvelopeParts): Uint8Array {
  return Uint8Array.from(encode([1, kind, certificate, rootSignature, payload, signature]));
}

/** An array of extensions that a lenient decoder turns into regular expressions. */
function extensions(bytes: number): Buffer {
  const one = Buffer.of(0xd6, 0x78, 0xa1, 0x61, 0xa1, 0x67);
  const count = Math.floor((bytes - 5) / one.length);
  const all = Buffer.alloc(5 + count * one.length);
  all[0] = 0xdd;
  all.writeUInt32BE(count, 1);
  for (let at = 5; at < all.length; at += one.length) one.copy(all, at);
  return all;
}

function manyHeaders(): MsgHdrs {
  const all = headers();
  for (let n = 0; n < 20_000; n++) all.append("X-Stranger", `${n}`);
  return all;
}

function tagHeaders(tag: string | null | undefined): MsgHdrs {
  const all = headers();
  if (tag) all.set(deliveryTagHeader, tag);
  return all;
}
