/**
 * Decision service: everything that answers queries under one configuration, built once for it. Pure except for the
 * dependencies passed in.
 */
import type { Counter } from "prom-client";
import type { DecisionApiConfig } from "../../config/index.ts";
import { ReachedHandles } from "../request/identify-caller.ts";
import { type Authzen, createAuthzen } from "./authzen.ts";
import { type ClientAccess, createClientAccess } from "./client-access.ts";
import { createRequestDecider, type DecisionApiDeps, type RequestDecider } from "./request-decider.ts";

export type DecisionService = Readonly<{
  deps: DecisionApiDeps;
  decider: RequestDecider;
  authzen: Authzen;
  access: ClientAccess;
  /** Names of the keys that may list people. */
  listsPeople: ReadonlySet<string>;
}>;

export type DecisionServices = Readonly<{
  /** The service of the configuration in force. */
  current(): DecisionService;
  decisions: Counter<"form" | "result">;
  requestId: () => string;
  close(): void;
}>;

/** Request ids accepted from a query, for records and the reply. */
export const requestIdPattern = /^[A-Za-z0-9._:+/=@-]{1,128}$/;

export function createDecisionServices(
  options: Readonly<{
    /** The configuration with which the process started. */
    listen: DecisionApiConfig;
    /** The dependencies of the configuration in force; the same object until it changes. */
    deps: () => DecisionApiDeps;
    answered: DecisionServices["decisions"];
    requestId: () => string;
    /** Lets other requests run. */
    pause: () => Promise<void>;
  }>,
): DecisionServices {
  const made = new WeakMap<DecisionApiDeps, DecisionService>();
  const reached = new ReachedHandles();
  const stopListening = options.deps().replica.onChange((change) => {
    if (change.rebuilt) reached.forget();
  });
  return {
    current() {
      const deps = options.deps();
      let known = made.get(deps);
      if (known === undefined) {
        const decider = createRequestDecider(deps, reached);
        const api = deps.config.decisionApi ?? options.listen;
        known = {
          deps,
          decider,
          authzen: createAuthzen(deps, decider, { api, pause: options.pause }),
          access: createClientAccess(api),
          listsPeople: new Set(api.listsPeople),
        };
        made.set(deps, known);
      }
      return known;
    },
    decisions: options.answered,
    requestId: options.requestId,
    close: stopListening,
  };
}
