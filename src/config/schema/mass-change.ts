/** Schema of mass changes: when a change of group memberships is held for an operator. */
import * as z from "zod";
import { duration } from "../values/network-values.ts";
import { fraction, integer } from "../values/value-type.ts";
import { cardea } from "./keys.ts";

export const massChangeKeys = {
  mass_change: cardea(
    z.strictObject({
      max_people: cardea(
        integer({ min: 1, max: 5_000 }).prefault(500),
        "A change that would take a group from more people is held for an operator. The changes of one SCIM client or directory count together.",
        { reload: "restart", inConfig: "value" },
      ),
      max_share: cardea(
        fraction({ min: 0.01, max: 1 }).prefault("20%"),
        "The same as a share of all people in groups; the lower one counts.",
        { reload: "restart", inConfig: "value" },
      ),
      min_people: cardea(
        integer({ min: 1, max: 5_000 }).prefault(20),
        "A change that takes a group from no more people than this is not held, whatever its share.",
        { reload: "restart", inConfig: "value" },
      ),
      window: cardea(
        duration({ min: "1m", max: "24h" }).prefault("1h"),
        "How long the changes of one SCIM client or directory count together.",
        { reload: "restart", inConfig: "milliseconds" },
      ),
      held_for: cardea(
        duration({ min: "1h", max: "720h" }).prefault("168h"),
        "A held change that no operator has released expires after this time.",
        { reload: "restart", inConfig: "milliseconds" },
      ),
    }),
    "When a change of group memberships is held for an operator. Give every broker the same values. See docs/mass-changes.md.",
    { reload: "restart" },
  ),
};
