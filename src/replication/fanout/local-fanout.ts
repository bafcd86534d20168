/**
 * Local fan-out: the fan-out within one process. Delivers to all listeners, in order, before `publish` returns.
 */

import type { Logger } from "../runtime/logger.ts";
import type { DeliveryListener, Fanout } from "./fanout.ts";

export function createLocalFanout(options: Readonly<{ logger: Logger }>): Fanout {
  const listeners = new Set<DeliveryListener>();
  let open = true;
  let published = 0;
  let dropped = 0;
  let delivered = 0;
  return {
    publish(envelope) {
      if (!open) {
        dropped += 1;
        return;
      }
      published += 1;
      for (const listener of [...listeners]) {
        delivered += 1;
        try {
          listener(envelope, () => {}); // no stranger can publish within a process
        } catch (error) {
          options.logger.error({ err: error }, "a listener of the local fan-out failed");
        }
      }
    },
    subscribe(listener) {
      const own: DeliveryListener = (envelope, reportForgery) => listener(envelope, reportForgery);
      listeners.add(own);
      return () => listeners.delete(own);
    },
    onConnected: () => () => {}, // it is never disconnected
    status: () => ({
      healthy: open,
      detail: open ? "in process" : "closed",
      published,
      dropped,
      delivered,
      interruptions: 0,
    }),
    close: async () => {
      open = false;
      listeners.clear();
    },
  };
}
