/**
 * Peer end timer: ends connections whose callers have left while nothing is read from them.
 *
 * A paused connection keeps unread bytes in the kernel, with the end of the caller's side behind them. The kernel knows
 * the state of each connection (enforce/send-queue-socket.ts). Where it cannot be asked, each sweep reads the system's
 * table of connections instead.
 */
import { hasPeerEnded, readsTcpState } from "../enforce/send-queue-socket.ts";
import type { PausedConnection } from "../message/connection-owner.ts";
import { readEndedPeers } from "./linux-tcp-table-file.ts";

const everyMs = 100;

export class PeerEndTimer {
  readonly #paused = new Set<PausedConnection>();
  #timer: NodeJS.Timeout | undefined;
  #isReading = false;

  /** Reading from the connection pauses. */
  add(connection: PausedConnection): void {
    if (!readsTcpState) return;
    this.#paused.add(connection);
    this.#timer ??= setInterval(() => this.#check(), everyMs).unref();
  }

  #check(): void {
    for (const connection of this.#paused) {
      connection.destroyIfPeerEnded(hasPeerEnded);
      if (!connection.readPaused) this.#paused.delete(connection);
    }
    if (this.#paused.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** @param paused all connections that are paused, also those that were not added */
  sweep(paused: readonly PausedConnection[]): void {
    if (readsTcpState) for (const connection of paused) connection.destroyIfPeerEnded(hasPeerEnded);
    else if (paused.length > 0 && !this.#isReading) void this.#checkByTable(paused);
  }

  async #checkByTable(paused: readonly PausedConnection[]): Promise<void> {
    this.#isReading = true;
    try {
      const hasEnded = await readEndedPeers();
      for (const connection of paused) connection.destroyIfPeerEnded(hasEnded);
    } finally {
      this.#isReading = false;
    }
  }
}
