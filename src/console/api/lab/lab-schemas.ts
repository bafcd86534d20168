/** Schemas of configurations and of the policy lab in the operator API. Pure. */
import * as z from "zod";

/** Longest text of a policy or of a table of cases, characters. */
export const policyCharsMax = 131_072;
export const replayLimitMax = 1_000_000;
const replayLimitDefault = 100_000;
const weekMs = 7 * 86_400_000;
/** Longest time before now that a replay begins. */
const sinceMsMax = 366 * 86_400_000;

const configHash = z.string().regex(/^[0-9a-f]{8,64}$/, "is not a hash, nor at least the first 8 characters of one");
const base = configHash.optional().meta({
  description: "The configuration that the route is of, by hash. Default: the one that this server runs.",
});
const routeName = z.string().min(1).max(2_000).meta({ description: "The route's id, name, `from` or host." });
const text = z
  .string()
  .max(policyCharsMax, `a policy has at most ${policyCharsMax} characters`)
  .meta({ description: "A policy as YAML, as in a route's `policy`." });

export const baseSchema = z.object({ route: routeName.optional(), base });
export const checkSchema = z.strictObject({ text, route: routeName.optional(), base });
export const testSchema = z.strictObject({
  text,
  cases: z
    .union([
      z.string().max(policyCharsMax, `a table has at most ${policyCharsMax} characters`),
      z.array(z.record(z.string().max(100), z.unknown())).max(5_000),
    ])
    .meta({ description: "A table of cases as YAML (docs/policy-testing.md), or its list of cases." }),
  route: routeName.optional(),
  base,
});
export const replaySchema = z
  .strictObject({
    text: text.optional(),
    configHash: configHash.optional().meta({ description: "A stored configuration, in place of `text`." }),
    route: routeName.optional().meta({ description: "Required with `text`: the route that would have the policy." }),
    base,
    facts: z.enum(["then", "now"]).default("then").meta({
      description: "The people, groups and sessions as they were at each decision, or as they are now.",
    }),
    sinceMs: z.number().int().min(1).max(sinceMsMax).default(weekMs).meta({
      description: "How long before now the first decision was made, in milliseconds. Default: a week.",
    }),
    since: z.iso
      .datetime({ offset: true })
      .optional()
      .meta({ description: "The same as a time; it is used if given." }),
    until: z.iso.datetime({ offset: true }).optional().meta({ description: "Only decisions before this time." }),
    limit: z.number().int().min(1).max(replayLimitMax).default(replayLimitDefault).meta({
      description: "The most decisions that are replayed.",
    }),
  })
  .refine(({ text: given, configHash: hash }) => (given === undefined) !== (hash === undefined), {
    message: "give either text or configHash",
  })
  .refine(({ text: given, route }) => given === undefined || route !== undefined, {
    message: "name the route that would have this policy",
    path: ["route"],
  });
export type ReplayBody = z.infer<typeof replaySchema>;

// --- answers

const place = { line: z.number(), column: z.number() };
const problem = z.object({
  ...place,
  key: z.string(),
  problem: z.string(),
  remedy: z.string(),
  severity: z.enum(["error", "warning"]),
});
/** Codes of errors, besides those of every operation. */
export const labErrorCodes = [
  "policy-invalid",
  "policy-too-costly",
  "policy-lab-busy",
  "replay-busy",
  "diff-busy",
] as const;
export const textProblem = problem;
export const checkAnswer = z.object({
  ok: z.boolean().meta({ description: "No error: the policy could be deployed." }),
  problems: z.array(problem).meta({ description: "Line 0: of the route around the policy." }),
  findings: z.array(
    z.object({
      ...place,
      kind: z.string(),
      severity: z.enum(["warning", "note"]),
      at: z.string(),
      rule: z.string().nullable(),
      finding: z.string(),
      remedy: z.string(),
    }),
  ),
  sentences: z.array(z.string()).meta({ description: "The requirements of the policy, in plain words." }),
});
export const testAnswer = z.object({
  problems: z.array(problem).meta({ description: "Why nothing was tested." }),
  notes: z.array(z.string()),
  cases: z.array(
    z.object({
      name: z.string(),
      line: z.number(),
      ok: z.boolean(),
      expected: z.looseObject({}),
      result: z.string(),
      status: z.number(),
      reasons: z.array(z.string()),
      rule: z.string().nullable(),
    }),
  ),
  unmet: z.array(z.object({ rule: z.string(), line: z.number() })).meta({ description: "Rules that no case meets." }),
  rules: z.number(),
});

const time = z.string().nullable().meta({ description: "ISO 8601." });
export const historyAnswer = z.object({
  configurations: z.array(
    z.object({
      configHash: z.string(),
      recordedAt: z.number().nullable().meta({ description: "When its text was stored; null: it is not." }),
      firstSeenAt: time,
      lastSeenAt: time.meta({ description: "When the last node left it; null: it runs, or this is not known." }),
      nodes: z.array(z.string()).meta({ description: "The nodes that run it now." }),
    }),
  ),
  nodes: z.array(
    z.object({
      node: z.string(),
      configHash: z.string().nullable(),
      since: time,
      position: z.number().nullable().meta({ description: "Of the announcement in the log." }),
    }),
  ),
  drift: z.boolean().meta({ description: "Nodes run more than one configuration." }),
  searchedTo: z.number().meta({ description: "The position after which announcements were searched." }),
});

const routeRef = z.object({ id: z.string(), name: z.string(), from: z.string() });
export const baseAnswer = z.object({
  configHash: z.string(),
  isOwn: z.boolean().meta({ description: "This server runs it." }),
  routes: z.array(routeRef),
  moreRoutes: z.number(),
  route: routeRef
    .extend({
      policy: z.string().meta({ description: "YAML; empty: the route has none." }),
      shorthands: z.array(z.string()).meta({ description: "Keys of the route that allow callers beside the policy." }),
    })
    .nullable(),
});
const effect = z.object({
  route: routeRef,
  people: z.number(),
  conditional: z.number().meta({ description: "Of them, those whose answer depends on the request." }),
  named: z.array(z.object({ userId: z.string(), email: z.string(), name: z.string() })),
});
export const diffAnswer = z.object({
  a: z.string(),
  b: z.string(),
  changes: z.array(
    z.object({
      path: z.string(),
      kind: z.enum(["added", "removed", "changed", "secret"]),
      from: z.unknown(),
      to: z.unknown(),
    }),
  ),
  moreChanges: z.number(),
  routes: z.object({
    added: z.array(routeRef),
    removed: z.array(routeRef),
    changed: z.array(routeRef.extend({ keys: z.array(z.string()) })),
  }),
  gains: z.array(effect),
  loses: z.array(effect),
  notes: z
    .array(z.object({ route: z.string(), note: z.string() }))
    .meta({ description: "Routes that are open to everyone, or whose policy cannot be evaluated." }),
  unchecked: z
    .number()
    .meta({ description: "People that were not evaluated, because that would have taken too long." }),
  applied: z.number().meta({ description: "The position of the people and groups that were evaluated." }),
});
