/** In-flight counts: how many requests are open, and whether this node is draining. Pure. */
import type { Downstream } from "../message/downstream-request.ts";
import { kindOf } from "../message/exchange-kind.ts";
import type { KindCounts } from "./exchanges.ts";

export class InFlight {
  readonly #counts = { http: 0, websocket: 0, tcp: 0, udp: 0 };
  #all = 0;
  #draining = false;
  #idle: (() => void)[] = [];

  get draining(): boolean {
    return this.#draining;
  }
  get counts(): KindCounts {
    return { ...this.#counts };
  }

  begin(downstream: Pick<Downstream, "upgrade">): void {
    this.#counts[kindOf(downstream)]++;
    this.#all++;
  }

  end(downstream: Pick<Downstream, "upgrade">): void {
    this.#counts[kindOf(downstream)]--;
    this.#all--;
    if (this.#all > 0 || this.#idle.length === 0) return;
    const waiting = this.#idle;
    this.#idle = [];
    for (const resolve of waiting) resolve();
  }

  drain(): void {
    this.#draining = true;
  }

  /** Settles when no request, WebSocket or tunnel is open. */
  whenIdle(): Promise<void> {
    return this.#all > 0 ? new Promise((resolve) => this.#idle.push(resolve)) : Promise.resolve();
  }
}
