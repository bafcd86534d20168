/**
 * Fan-out: sends the batches of a leader to all copies at once.
 *
 * It is only an accelerator: it may lose, repeat, reorder or forget messages, and the only effect is delay. Nothing is
 * acknowledged or awaited, silence means nothing, and receivers check origin and links themselves.
 */
import type { DeliveryRefusal } from "./delivery-guard.ts";

/**
 * Receives one envelope; its bytes belong to the listener.
 * @param reportForgery call it, before returning, when the envelope's signatures do not verify: forgeries spend a
 * budget
 */
export type DeliveryListener = (envelope: Uint8Array, reportForgery: () => void) => void;

export type FanoutStatus = Readonly<{
  /** False while deliveries certainly do not arrive. True proves nothing: only a grant does. */
  healthy: boolean;
  /** The server it is connected to, or why it is not connected, for a person. */
  detail: string;
  published: number;
  /** Number of messages not sent: no connection, too much unsent data, or too large. */
  dropped: number;
  delivered: number;
  interruptions: number;
  /**
   * How many messages the mirror of the replay buffer in this region lags. Null: there is no mirror, or its lag is
   * unknown.
   */
  mirrorLag?: number | null;
  /** Messages dropped before they were opened, or found to be forged, by reason. Absent: only members can publish. */
  refused?: Readonly<Record<DeliveryRefusal, number>>;
  /** How often this process stopped listening for a while because a stranger flooded the subject. */
  floods?: number;
}>;

export type Fanout = Readonly<{
  /** Sends an envelope. Never waits and never throws; an envelope that cannot be sent is dropped and counted. */
  publish(envelope: Uint8Array): void;
  /** An error thrown by a listener is logged and has no other effect. */
  subscribe(listener: DeliveryListener): () => void;
  /** Calls the listener after each connection: deliveries may have been missed until then. */
  onConnected(listener: () => void): () => void;
  /**
   * Envelopes of the last `sinceMs` from the replay buffer, oldest first; the caller verifies and links them like any
   * delivery.
   */
  replay?(options: Readonly<{ sinceMs: number; limit?: number; timeoutMs?: number }>): Promise<readonly Uint8Array[]>;
  status(): FanoutStatus;
  close(): Promise<void>;
}>;
