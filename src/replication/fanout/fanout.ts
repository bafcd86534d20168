/**
 * Fan-out: how a leader's batches reach the copies at once.
 *
 * An accelerator, and nothing more: it may lose, repeat, reorder or forget; that may only delay. So nothing here is
 * acknowledged or awaited, nobody concludes anything from silence, and receivers check origin and links themselves.
 */
import type { DeliveryRefusal } from "./delivery-guard.ts";

/**
 * Receives one envelope; its bytes belong to the listener.
 * @param reportForgery call it, before returning, when the envelope's signatures do not verify: forgeries spend a
 * budget
 */
export type DeliveryListener = (envelope: Uint8Array, reportForgery: () => void) => void;

export type FanoutStatus = Readonly<{
  /** False while deliveries surely do not arrive. True proves nothing: only a grant does. */
  healthy: boolean;
  /** Where it is connected, or why not, for a person. */
  detail: string;
  published: number;
  /** Not sent: no connection, too much unsent, or too big. */
  dropped: number;
  delivered: number;
  interruptions: number;
  /** How many messages this region's mirror of the replay buffer is behind; null: there is none, or nobody knows. */
  mirrorLag?: number | null;
  /** Messages dropped before they were opened, or found to be forged, by reason. Absent: only members can publish. */
  refused?: Readonly<Record<DeliveryRefusal, number>>;
  /** How often this process stopped listening for a while, because a stranger flooded the subject. */
  floods?: number;
}>;

export type Fanout = Readonly<{
  /** Hands an envelope outward. Never waits and never throws; what cannot be sent is dropped and counted. */
  publish(envelope: Uint8Array): void;
  /** What a listener throws is logged and stops nothing. */
  subscribe(listener: DeliveryListener): () => void;
  /** Called when a connection is made (again): deliveries may have been missed until now. */
  onConnected(listener: () => void): () => void;
  /** Envelopes of the last `sinceMs` from the replay buffer, oldest first; verified and linked like any delivery. */
  replay?(options: Readonly<{ sinceMs: number; limit?: number; timeoutMs?: number }>): Promise<readonly Uint8Array[]>;
  status(): FanoutStatus;
  close(): Promise<void>;
}>;
