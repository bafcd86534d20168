/** Idle lifetimes: the parts that are built from a configuration. */
import { randomUUID } from "node:crypto";
import { createIdleDuty } from "../../../auth/index.ts";
import type { Duty } from "../../../broker/index.ts";
import { type Config, idleLifetimesOf } from "../../../config/index.ts";

/** It reads every session. */
const checkEveryMs = 60_000;

/** The idle lifetime of all sessions on a route; 0: none. */
export function routeIdleMs(
  { sessionIdleLifetimeMs: global }: Pick<Config, "sessionIdleLifetimeMs">,
  { sessionIdleLifetimeMs: own }: Pick<Config["routes"][number], "sessionIdleLifetimeMs">,
): number {
  return own === 0 || global === 0 ? own + global : Math.min(own, global);
}

/** The leader's duty to end sessions that are idle. @param config the configuration in force */
export function idleDutyOf(config: () => Config): Duty {
  const run = createIdleDuty({ lifetimes: () => idleLifetimesOf(config()), uuid: randomUUID });
  return { name: "idle sessions", everyMs: checkEveryMs, run };
}
