/**
 * Policy lab: the checks and table tests of a policy text that is not in force. Only types and errors; the command line
 * has the engine (src/cli/build/lab/policy-lab.ts), which runs in a thread of its own.
 */
import type { RouteConfig } from "../../../config/index.ts";
import { CodedError } from "../../../events/index.ts";

/** Line and column from 1; 0: the problem is of the route around the policy. */
export type TextPlace = Readonly<{ line: number; column: number }>;
export type TextProblem = TextPlace &
  Readonly<{ key: string; problem: string; remedy: string; severity: "error" | "warning" }>;
export type TextFinding = TextPlace &
  Readonly<{
    kind: string;
    severity: "warning" | "note";
    at: string;
    rule: string | null;
    finding: string;
    remedy: string;
  }>;

export type CheckedText = Readonly<{
  /** No error: the policy could be deployed. */
  ok: boolean;
  problems: readonly TextProblem[];
  findings: readonly TextFinding[];
  /** The requirements of the policy, in plain words. */
  sentences: readonly string[];
  /** The policy as data; undefined: it cannot be read. */
  ppl: unknown;
}>;

export type TestedCase = Readonly<{
  name: string;
  line: number;
  ok: boolean;
  expected: Readonly<Record<string, unknown>>;
  result: string;
  status: number;
  reasons: readonly string[];
  rule: string | null;
}>;
export type TestedText = Readonly<{
  /** Why nothing was tested: the errors of the policy, or of the table. */
  problems: readonly TextProblem[];
  /** Unknown keys of cases, which are ignored. */
  notes: readonly string[];
  cases: readonly TestedCase[];
  /** Rules that no case meets. */
  unmet: readonly Readonly<{ rule: string; line: number }>[];
  rules: number;
}>;

export type PolicyLab = Readonly<{
  /** @param route absent: a policy by itself @throws PolicyLabError */
  check(question: Readonly<{ text: string; route: RouteConfig | null }>): Promise<CheckedText>;
  /** @param table YAML of a table of cases @throws PolicyLabError */
  test(question: Readonly<{ text: string; table: string; route: RouteConfig | null }>): Promise<TestedText>;
}>;

/** `costly`: the text took too long or too much memory. `busy`: others wait already. */
export class PolicyLabError extends CodedError<"ERR_POLICY_LAB"> {
  override readonly code = "ERR_POLICY_LAB";
  readonly why: "costly" | "busy";
  constructor(why: "costly" | "busy", message: string, options?: ErrorOptions) {
    super(message, options);
    this.why = why;
  }
}
