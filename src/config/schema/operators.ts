/** Schema of the keys about operators: who has which role, and when an act needs a fresh sign-in. */
import * as z from "zod";
import { duration } from "../values/network-values.ts";
import { operatorEntries } from "../values/operator-entries.ts";
import { enumValue } from "../values/value-type.ts";
import { cardea } from "./keys.ts";

export const operatorKeys = {
  administrators: cardea(
    operatorEntries().prefault([]),
    "Who may do everything in the operator API and console: `group:` and a group id, `email:` and an e-mail that the provider calls verified, or `sub:` and the provider's subject; always of the first default provider. A mapping with `who` and `route_groups` limits the role to these groups of routes (docs/operator-roles.md). A bare entry is an error; a bare e-mail beside entries that say their kind is read as `email:`, with a warning.",
  ),
  operators: cardea(
    operatorEntries().prefault([]),
    "Who may see everything in the operator API and console, and act on people and sessions: revoke, suspend, restore, change members of groups. Entries as in `administrators`.",
  ),
  viewers: cardea(
    operatorEntries().prefault([]),
    "Who may see everything in the operator API and console, e-mails and addresses of people included, and change nothing. Entries as in `administrators`.",
  ),
  step_up: cardea(
    z.strictObject({
      max_age: cardea(
        duration({ min: "0s", max: "24h" }).prefault("10m"),
        "How old a sign-in may be, by the provider's `auth_time`, for the most dangerous acts of a browser's session: erase, release a held change, retire, finalize, make a SCIM token. An older one has to sign in again. `0s`: any age.",
        { inConfig: "milliseconds" },
      ),
      auth_time: cardea(
        enumValue(["required", "if_sent"]).prefault("required"),
        "`required`: where the provider does not send `auth_time`, such acts are possible only with an operator token. `if_sent`: then the start of the session counts, which the provider may have begun without a password.",
        { inConfig: "value" },
      ),
    }),
    "When the most dangerous acts of an operator need a fresh sign-in. See docs/operator-roles.md.",
  ),
};
