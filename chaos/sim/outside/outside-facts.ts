/** Outside facts: what the senders of news from outside report. facts.ts has the other facts. Only types. */
import type { Link, UserId } from "../../../src/events/index.ts";
import type { FactOf } from "../facts.ts";

/**
 * C: an authenticate node answers a SCIM client that has ended a person's access.
 * - `ended`: the link of the change.
 * - `link`: that of the answer; the sessions of people who signed in meanwhile have ended there, too.
 */
export type DeactivationAnswered = FactOf<"deactivation-answered", { person: UserId; ended: Link; link: Link }>;
