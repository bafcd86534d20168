/** Outside facts: what the senders of news from outside report. facts.ts has the other facts. Only types. */
import type { CommandId, Link, UserId } from "../../../src/events/index.ts";
import type { FactOf } from "../facts.ts";

/**
 * C: an authenticate node answers a SCIM client that has ended a person's access.
 * - `ended`: the link of the change.
 * - `link`: that of the answer; the sessions of people who signed in meanwhile have ended there, too.
 */
export type DeactivationAnswered = FactOf<"deactivation-answered", { person: UserId; ended: Link; link: Link }>;

/** People with whether they are active, and the members of each group. */
export type DirectoryState = Readonly<{
  people: Readonly<Record<string, boolean>>;
  groups: Readonly<Record<string, readonly string[]>>;
}>;
/** The directory has changed, or changes no more. */
export type DirectoryChanged = FactOf<"directory-changed", { state: DirectoryState }>;
/** The directory answers the first page of a run of this process. `isEmpty`: it shows nothing of what it has. */
export type DirectoryRun = FactOf<
  "directory-run",
  { run: number; mode: "full" | "delta"; isEmpty: boolean; state: DirectoryState }
>;
/** The directory answers a request for a page. `partial`: with a part missing. */
export type DirectoryPageRead = FactOf<"directory-page", { run: number; what: "page" | "last" | "failed" | "partial" }>;
/** B: a run submits a change. `run`: the last one of which this boot has read a page. */
export type DirectorySubmitted = FactOf<"directory-submitted", { run: number; commandId: CommandId }>;

/** A transmitter makes a token about a person. `commandIds`: what it means to the cluster. */
export type SignalIssued = FactOf<"signal-issued", { jti: string; commandIds: readonly CommandId[] }>;
/** The transmitter learns that the cluster has the token, and forgets it. */
export type SignalAcknowledged = FactOf<"signal-acknowledged", { jti: string }>;
/** The receiver of our signals stores a token. `content`: what it says, without its identity. */
export type SignalAccepted = FactOf<"signal-accepted", { receiver: string; jti: string; content: string }>;

export type OutsideFact =
  | DeactivationAnswered
  | DirectoryChanged
  | DirectoryRun
  | DirectoryPageRead
  | DirectorySubmitted
  | SignalIssued
  | SignalAcknowledged
  | SignalAccepted;
