/**
 * Directory state: what the cluster keeps about a directory between its runs, as the sealed profile of a user of its
 * own in the log (docs/adr/0048-directories-are-clients-of-the-leader.md). Pure.
 *
 * The user never signs in. Its id follows from the directory's name, so every leader finds it.
 */

import type { UserId } from "./ids.ts";
import { isPlainText } from "./plain-text.ts";
import type { Profile } from "./profile.ts";
import { asciiJson, directoryClient, provisionedUserId } from "./provisioned.ts";

/**
 * - `complete`: everything was read and applied. `partial`: something could not be read; nothing was removed.
 * - `withheld`: everything was read, but removals wait for an operator; additions were applied.
 * - `failed`: the directory could not be read, or the log did not accept the changes.
 */
export const directoryResults = ["complete", "partial", "withheld", "failed"] as const;
export type DirectoryResult = (typeof directoryResults)[number];
export const directoryModes = ["full", "delta"] as const;
export type DirectoryMode = (typeof directoryModes)[number];

/** What one run did. Times in ms, by the clock of the leader. */
export type DirectoryRunSummary = Readonly<{
  mode: DirectoryMode;
  startedAt: number;
  endedAt: number;
  result: DirectoryResult;
  /** One sentence about what went wrong or waits, without personal data; null: nothing. */
  problem: string | null;
  /** Counts: memberships added and removed, and people who lost access. */
  added: number;
  removed: number;
  ended: number;
}>;

export type DirectoryRunState = Readonly<{
  syncId: string;
  mode: DirectoryMode;
  startedAt: number;
  /** An operator lets the run take access and groups from any number of people. */
  removals: boolean;
  /** With `removals`: until when its mass changes had been allowed before, to be restored at its end; 0: not. */
  allowedBefore?: number;
}>;

/** What a directory said of one person. `cannot`: it cannot be asked about this person. `failed`: it did not answer. */
export const directoryPersonResults = ["answered", "cannot", "failed"] as const;
export type DirectoryPersonAnswer = Readonly<{
  result: (typeof directoryPersonResults)[number];
  /** One sentence without personal data. */
  said: string;
  /** Something was recorded because of it. */
  changed: boolean;
  /** Of the newest change, or of the log when nothing had to change; null: the directory did not answer. */
  position: number | null;
  answeredAt: number;
}>;
/** The request of an operator, and its answer; null: it waits. */
export type DirectoryPersonRequest = Readonly<{ id: string; userId: UserId; answer: DirectoryPersonAnswer | null }>;

export type DirectoryState = Readonly<{
  directory: string;
  /** The request of an operator that no run has answered yet. `removals`: the run may make every removal. */
  asked: Readonly<{ id: string; removals: boolean }> | null;
  /** The run in progress; a leader that finds one of an earlier epoch begins again. */
  run: DirectoryRunState | null;
  last: DirectoryRunSummary | null;
  /** When the last complete run and the last complete full run ended, and what the directory had then. */
  complete: Readonly<{
    at: number;
    fullAt: number;
    people: number;
    groups: number;
    memberships: number;
    /** A group was inside another one. Absent: not known. */
    isNested?: boolean;
  }> | null;
  /** Where the next delta begins; null: the next run is full. */
  delta: string | null;
  /** Requests about one person, the newest ones. */
  people: readonly DirectoryPersonRequest[];
}>;

const claim = "directory";
const subject = "state";
/** Of the JSON text; the delta has at most 8,192 characters. */
export const directoryStateCharsMax = 64 * 1024;
export const deltaCharsMax = 8_192;
export const problemCharsMax = 500;
/** Requests about people that a directory keeps, the answered ones included. */
export const directoryPeopleMax = 16;
export const saidCharsMax = 300;

export const directoryStateUser = (directory: string): UserId => provisionedUserId("directory state", directory);

export function newDirectoryState(directory: string): DirectoryState {
  return { directory, asked: null, run: null, last: null, complete: null, delta: null, people: [] };
}

export function directoryStateProfile(state: DirectoryState): Profile {
  return {
    issuer: directoryClient(state.directory),
    subject,
    email: "",
    emailVerified: false,
    name: "",
    claims: { [claim]: [asciiJson(state)] },
  };
}

/** Undefined: it is not the state of a directory, or not one that this build can read. */
export function parseDirectoryState(profile: Profile | undefined): DirectoryState | undefined {
  const text = profile?.subject === subject ? profile.claims[claim]?.[0] : undefined;
  if (profile === undefined || typeof text !== "string" || text.length > directoryStateCharsMax) return undefined;
  try {
    const value = JSON.parse(text) as Partial<DirectoryState>;
    const { directory, asked, run, last, complete, delta, people } = value;
    if (typeof directory !== "string" || profile.issuer !== directoryClient(directory)) return undefined;
    return {
      directory,
      asked: asked ?? null,
      run: run ?? null,
      last: last ?? null,
      complete: complete ?? null,
      delta: typeof delta === "string" && isPlainText(delta) ? delta : null,
      people: people ?? [],
    };
  } catch {
    return undefined; // not a state that this build can read: the next run is full
  }
}
