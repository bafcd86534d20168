/**
 * NATS look: asks a NATS server, once, for the replay buffer in a JetStream domain. For operators only: nothing rests
 * on the answer.
 */

import { credentialsIn } from "./nats-credentials-file.ts";
import type { NatsFanoutOptions } from "./nats-fanout.ts";
import { natsJetstream, natsTransport } from "./nats-modules.ts";
import { originName } from "./nats-replay-buffer.ts";

export type ReplayBufferSeen =
  | Readonly<{ type: "there"; messages: number }>
  | Readonly<{ type: "absent"; why: string }>;

const connectMsMax = 2_000;
const apiMsMax = 2_000;

/** @param domain null: the domain of the server itself */
export async function findReplayBuffer(
  options: Pick<NatsFanoutOptions, "servers" | "cluster" | "credentialsFile" | "user" | "password" | "tlsCa">,
  domain: string | null,
): Promise<ReplayBufferSeen> {
  const { connect, credsAuthenticator } = natsTransport();
  try {
    const connection = await connect({
      servers: [...options.servers],
      name: "cardea",
      timeout: connectMsMax,
      reconnect: false,
      ...(options.tlsCa && { tls: { ca: options.tlsCa } }),
      ...(options.credentialsFile && { authenticator: credsAuthenticator(credentialsIn(options.credentialsFile)) }),
      ...(options.user && { user: options.user }),
      ...(options.password && { pass: options.password }),
    });
    try {
      const api = { timeout: apiMsMax, checkAPI: false, ...(domain === null ? {} : { domain }) };
      const manager = await natsJetstream().jetstreamManager(connection, api);
      const { state } = await manager.streams.info(originName(options.cluster));
      return { type: "there", messages: state.messages };
    } finally {
      await connection.close();
    }
  } catch (error) {
    return { type: "absent", why: error instanceof Error ? error.message : String(error) };
  }
}
