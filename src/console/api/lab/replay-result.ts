/** Replay result: the events of `POST /policy/replay`. Only types. */
import type { WhatIfSummary } from "../../../audit/index.ts";

/** What was asked, in terms that stay the same. */
export type ReplayBasis = Readonly<{
  /** The configuration in force, whose route has the edited policy; null: a stored configuration was replayed. */
  base: string | null;
  /** SHA-256 of the text of the policy; null: a stored configuration was replayed. */
  policy: string | null;
  configHash: string | null;
  route: string | null;
  facts: "then" | "now";
  since: string;
  until: string;
  limit: number;
}>;
export type ReplayResult = WhatIfSummary &
  Readonly<{
    type: "result";
    basis: ReplayBasis;
    read: number;
    cut: "limit" | "time" | null;
    /** Names of routes by id, and of people by user id, where they have one. */
    names: Readonly<{ routes: Readonly<Record<string, string>>; people: Readonly<Record<string, string>> }>;
    /** SHA-256 of the question and of the answer. */
    digest: string;
    /** A summary for a pull request, without names of people. */
    markdown: string;
  }>;
export type ReplayProgress = Readonly<{ type: "progress"; read: number; replayed: number }>;
export type ReplayFailure = Readonly<{ type: "failed"; error: string }>;
