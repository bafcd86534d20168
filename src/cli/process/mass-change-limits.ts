/** Limits of mass changes, from the configuration: for the leader, and for previews of a change. */
import type { MassChangeLimits } from "../../broker/index.ts";
import type { Config } from "../../config/index.ts";

export function massChangeLimitsOf({ massChange }: Config): MassChangeLimits {
  const { maxPeople, maxShare, minPeople, windowMs, heldForMs } = massChange;
  return { peopleMax: maxPeople, shareMax: maxShare, peopleMin: minPeople, windowMs, heldMs: heldForMs };
}
