/** Broker API client: sends one request with any token to one broker, and returns its first reply. */
import { randomUUID } from "node:crypto";
import { SignJWT } from "jose";
import {
  bodyDigest,
  callText,
  type Role,
  type ServiceCall,
  serviceTokenKey,
} from "../../../src/replication/wire/index.ts";
import { type HttpReply, sendRequest } from "./client.ts";
import type { Cluster } from "./cluster.ts";
import type { ClusterProcess } from "./cluster-process.ts";

export type TokenOptions = Readonly<{
  role: Role;
  /** The role whose key signs the token; default: `role`. */
  keyOf?: Role;
  secret?: Uint8Array;
  audience?: string;
  issuedAgoS?: number;
  lifeS?: number;
}>;

/** Creates a token for one call; the token names the call. */
export type ServiceToken = (call: ServiceCall) => Promise<string>;

export function serviceToken({ config }: Pick<Cluster, "config">, options: TokenOptions): ServiceToken {
  const { role, issuedAgoS = 0, lifeS = 60 } = options;
  return (call) => {
    const issuedAt = Math.floor(Date.now() / 1_000) - issuedAgoS;
    return new SignJWT({ call: callText(call), body: bodyDigest(call.body) })
      .setProtectedHeader({ alg: "HS256", kid: role })
      .setIssuer("stranger")
      .setAudience(options.audience ?? `cardea:${config.broker.clusterName}`)
      .setJti(randomUUID())
      .setIssuedAt(issuedAt)
      .setExpirationTime(issuedAt + lifeS)
      .sign(serviceTokenKey(options.secret ?? config.sharedSecret, options.keyOf ?? role));
  };
}

export type BrokerCall = Readonly<{
  path: string;
  /** A string is sent unchanged. */
  token?: ServiceToken | string;
  /** An object is sent as JSON, bytes as an envelope. */
  body?: object | Uint8Array;
  timeoutMs?: number;
}>;

export async function callBroker(
  broker: ClusterProcess,
  { path, token, body, timeoutMs }: BrokerCall,
): Promise<HttpReply> {
  const raw = body instanceof Uint8Array;
  const method = body === undefined ? "GET" : "POST";
  const bytes = body === undefined ? undefined : raw ? body : Buffer.from(JSON.stringify(body));
  const proof = typeof token === "function" ? await token({ method, path, body: bytes }) : token;
  return sendRequest({
    ...{ port: broker.ports.broker, host: `127.0.0.1:${broker.ports.broker}`, path, method },
    headers: {
      accept: "application/json",
      ...(proof !== undefined && { authorization: `Bearer ${proof}` }),
      ...(body !== undefined && { "content-type": raw ? "application/octet-stream" : "application/json" }),
    },
    ...(bytes !== undefined && { body: bytes }),
    ...(timeoutMs !== undefined && { timeoutMs }),
  });
}
