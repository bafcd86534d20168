/** Operator errors: the body of each error of the operator API, and the status of each refusal of the log. Pure. */
import * as z from "zod";
import { missedSchema } from "./decisions/decision-schemas.ts";
import { labErrorCodes, textProblem } from "./lab/lab-schemas.ts";
import { lastKnownSchema } from "./operator-schemas.ts";
import { operatorRoles } from "./roles/operator-roles.ts";

/** The status of each refusal of a command. */
export const refusalStatus = {
  "not-found": 404,
  conflict: 409,
  suspended: 409,
  erased: 410,
  forbidden: 403,
  invalid: 400,
  "logged-out": 409,
  held: 409,
  dropped: 409,
} as const;

export const errorSchema = z.object({
  error: z.string().meta({ description: "A sentence for people." }),
  code: z
    .enum([
      ...(Object.keys(refusalStatus) as [keyof typeof refusalStatus, ...(keyof typeof refusalStatus)[]]),
      "home-unreachable",
      "cursor_unknown",
      "role-required",
      "role-changed",
      "out-of-scope",
      "sign-in-again",
      "confirm-required",
      ...labErrorCodes,
    ])
    .optional()
    .meta({
      description:
        "Why the log refused the command. `home-unreachable`, with 503: this server's region is cut off from its home region; no leader answers a retry here until that ends. `role-required`, `role-changed` and `out-of-scope`, with 403: the caller's role does not permit the operation. `sign-in-again`, with 403, and `confirm-required`, with 400: what a browser's session has to do first (docs/operator-roles.md). `policy-…`, `replay-busy` and `diff-busy`: of the policy lab (docs/policy-testing.md).",
    }),
  problems: z.array(textProblem).optional().meta({ description: "With `policy-invalid`." }),
  role: z.enum(operatorRoles).optional().meta({ description: "With `role-required`: the lowest role that suffices." }),
  signInUrl: z.string().optional().meta({
    description:
      "With `sign-in-again`: a path of this host that leads to the identity provider and back; `to` in it is the page to return to.",
  }),
  confirm: z.string().optional().meta({ description: "With `confirm-required`: the value to send as `confirm`." }),
  outcome: z.enum(["none", "unknown"]).optional().meta({
    description:
      "With `home-unreachable`: `none` if the command was not forwarded and the region has not accepted it by itself; `unknown` if it may have been made, or may be in force in the region.",
  }),
  commandId: z.string().optional().meta({ description: "With 503: repeat the command with this id." }),
  heldId: z.string().optional().meta({ description: "With `held` and `dropped`: the id of the held change." }),
  next: z.string().optional().meta({
    description: "With `cursor_unknown`: the cursor after which the oldest decisions are that this server has.",
  }),
  missed: missedSchema.optional().meta({ description: "With `cursor_unknown`." }),
  reason: z.string().optional().meta({ description: "With 503: why, as a code (docs/errors.md)." }),
  lastKnown: lastKnownSchema.optional().meta({
    description:
      "With `home-unreachable`, where a receipt was requested: what this region knows of the nodes. It is no receipt.",
  }),
});
