/** The drills, in the order of the list: those that change only the canary first. */
import type { Drill } from "../drill.ts";
import { groupRemoval } from "./group-removal.ts";
import { leaderRestart } from "./leader-restart.ts";
import { natsRestart } from "./nats-restart.ts";
import { proxyPause } from "./proxy-pause.ts";
import { proxyRestart } from "./proxy-restart.ts";
import { revokeSession } from "./revoke-session.ts";
import { standbyRestart } from "./standby-restart.ts";
import { suspendUser } from "./suspend-user.ts";

export const drills: readonly Drill[] = [
  groupRemoval,
  revokeSession,
  suspendUser,
  proxyRestart,
  proxyPause,
  standbyRestart,
  leaderRestart,
  natsRestart,
];
