/** Idle lifetimes: warns of those that another bound makes useless. Pure. */
import type { LocatedRoute } from "../check-routes.ts";
import type { Globals } from "../schema/schema.ts";
import type { Path, ProblemReporter } from "../source/source-locations.ts";
import { formatDuration } from "../values/network-values.ts";

const key = "session_idle_lifetime";

export function checkIdleLifetimes(
  globals: Globals,
  { placed, report }: Readonly<{ placed: readonly LocatedRoute[]; report: ProblemReporter }>,
): void {
  const { session_idle_lifetime: global, cookie_expire: expireMs } = globals;
  const check = (path: Path, idleMs: number, bounds: Readonly<{ whole: number; idle: number }>): void => {
    if (idleMs === 0) return;
    if (idleMs >= bounds.whole)
      report.warn(
        path,
        `has no effect: a session ends ${formatDuration(bounds.whole)} after its sign-in anyway`,
        "write a shorter duration, or remove it",
      );
    else if (bounds.idle > 0 && idleMs >= bounds.idle)
      report.warn(
        path,
        `has no effect: the global ${key} of ${formatDuration(bounds.idle)} is not longer, and the shortest counts`,
        "write a shorter duration, or remove it",
      );
  };
  check([key], global, { whole: expireMs, idle: 0 });
  for (const { name, sessionLifetimeMs, sessionIdleLifetimeMs } of globals.sign_in_providers) {
    const whole = Math.min(expireMs, sessionLifetimeMs ?? expireMs);
    check(["sign_in_providers", name, key], sessionIdleLifetimeMs, { whole, idle: global });
  }
  for (const { route, path } of placed) {
    const { sessionLifetimeMs, sessionIdleLifetimeMs } = route;
    const whole = sessionLifetimeMs === 0 ? expireMs : Math.min(expireMs, sessionLifetimeMs);
    check([...path, key], sessionIdleLifetimeMs, { whole, idle: global });
  }
}
