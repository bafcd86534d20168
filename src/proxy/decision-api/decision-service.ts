/** Served: what answers questions under one configuration, made once for it. Pure but for what it is given. */
import type { Counter } from "prom-client";
import type { DecisionApiConfig } from "../../config/index.ts";
import { ReachedHandles } from "../request/identify-caller.ts";
import { type Authzen, createAuthzen } from "./authzen.ts";
import { type WhoMayAsk, whoMayAsk } from "./client-access.ts";
import { createDecisionPoint, type DecisionPoint, type DecisionPorts } from "./decision-point.ts";

export type Served = Readonly<{
  ports: DecisionPorts;
  point: DecisionPoint;
  authzen: Authzen;
  mayAsk: WhoMayAsk;
  /** Names of keys. */
  listsPeople: ReadonlySet<string>;
}>;

export type Serving = Readonly<{
  /** By the configuration in force. */
  current(): Served;
  answered: Counter<"form" | "result">;
  requestId: () => string;
  close(): void;
}>;

/** An id that a question brought: it stands in records and in the answer. */
export const requestIdPattern = /^[A-Za-z0-9._:+/=@-]{1,128}$/;

export function createServing(
  options: Readonly<{
    /** What the process was started with. */
    listen: DecisionApiConfig;
    /** Of the configuration in force; the same object until it changes. */
    ports: () => DecisionPorts;
    answered: Serving["answered"];
    requestId: () => string;
    /** Lets other requests have their turn. */
    pause: () => Promise<void>;
  }>,
): Serving {
  const made = new WeakMap<DecisionPorts, Served>();
  const reached = new ReachedHandles();
  const stopListening = options.ports().replica.onChange((change) => {
    if (change.rebuilt) reached.forget();
  });
  return {
    current() {
      const ports = options.ports();
      let known = made.get(ports);
      if (known === undefined) {
        const point = createDecisionPoint(ports, reached);
        const api = ports.config.decisionApi ?? options.listen;
        known = {
          ...{
            ports,
            point,
            authzen: createAuthzen(ports, point, { api, pause: options.pause }),
            mayAsk: whoMayAsk(api),
          },
          listsPeople: new Set(api.listsPeople),
        };
        made.set(ports, known);
      }
      return known;
    },
    answered: options.answered,
    requestId: options.requestId,
    close: stopListening,
  };
}
