/**
 * Operator schemas: what the operator API takes and answers. The handlers check requests with them, and the API's
 * description is generated from them (operator-openapi.ts). Pure.
 */
import * as z from "zod";
import { retiredAtOnceMax, scimScopes, type UnixMs } from "../../events/index.ts";
import { at, link, listAnswers, more, user } from "./lists/list-schemas.ts";
import { askAnswer, directory, memberships } from "./provisioning/directory-schemas.ts";

/** The most sessions per command. With several commands the last receipt covers the earlier ones. */
export const sessionsAtOnceMax = 10_000;
const timeoutMsMax = 120_000;
const timeoutMsDefault = 10_000;
const oldName = { deprecated: true, description: "The old name of `timeoutMs`, which is used where both are given." };
const waitMeta = { description: "The nodes that the receipt waits for: all, those of one region, or none." };
const timeoutMeta = { description: `How long to wait for the receipt, in milliseconds. Default: ${timeoutMsDefault}.` };

/** Both spellings of the timeout; handlers use `timeoutMsOf`. */
type Timeouts = Readonly<{ timeoutMs?: number | undefined; timeout?: number | undefined }>;

export function timeoutMsOf({ timeoutMs, timeout }: Timeouts): number {
  return timeoutMs ?? timeout ?? timeoutMsDefault;
}

// --- requests

const queryTimeout = z.coerce.number().int().min(0).max(timeoutMsMax).optional();
const regionName = z.string().min(1).max(200).optional().meta({
  description: "With wait=region: the region whose nodes the receipt waits for. Default: this server's.",
});
export const receiptSchema = z.object({
  wait: z.enum(["all", "region", "none"]).default("all").meta(waitMeta),
  region: regionName,
  timeoutMs: queryTimeout.meta(timeoutMeta),
  timeout: queryTimeout.meta(oldName),
});
export const timeoutSchema = receiptSchema.omit({ wait: true });
const accessAt = {
  as: z.enum(["json", "stream"]).default("stream").meta({
    description: "`json`: one answer without progress, for a report that is ready within 30 seconds.",
  }),
  at: z.iso.datetime({ offset: true }).optional().meta({ description: "The time, with its zone. Default: now." }),
  config: z
    .string()
    .regex(/^[0-9a-f]{8,64}$/)
    .optional()
    .meta({ description: "Only this configuration: its hash, or at least 8 characters of its start." }),
};
export const accessWhoSchema = z.object({
  route: z.string().min(1).max(2_000).meta({ description: "The route's id, name, or `from`." }),
  ...accessAt,
  limit: z.coerce.number().int().min(1).max(10_000).default(1_000).meta({
    description: "The maximum number of people per configuration.",
  }),
});
export const accessWhatSchema = z.object({
  user: z.string().min(1).max(1_000).meta({ description: "A user id, subject or e-mail." }),
  ...accessAt,
});

const bodyTimeout = z.number().int().min(0).max(timeoutMsMax).optional();
export const waitSchema = z.strictObject({
  wait: z.enum(["all", "region", "none"]).default("none").meta(waitMeta),
  region: regionName,
  timeoutMs: bodyTimeout.meta(timeoutMeta),
  timeout: bodyTimeout.meta(oldName),
  commandId: z
    .string()
    .optional()
    .meta({ description: "A lowercase UUID. A repeated id gets the first answer and changes nothing twice." }),
  confirm: z.string().max(1_000).optional().meta({
    description: "What the person has typed, where the server asks a browser's session for it (`confirm-required`).",
  }),
});
const namesOf = (description: string) => z.array(z.string().max(1_000)).max(10_000).default([]).meta({ description });
const timeBoxFields = {
  until: z.iso
    .datetime({ offset: true })
    .optional()
    .meta({ description: "The end, with a time zone. Level 5 of the cluster and later." }),
  forMs: z
    .number()
    .int()
    .min(1)
    .max(Number.MAX_SAFE_INTEGER / 4)
    .optional()
    .meta({ description: "The end, counted in milliseconds from now by this server's clock, in place of `until`." }),
  reason: z
    .string()
    .min(1)
    .max(200)
    .optional()
    .meta({ description: "Recorded in the log in clear and forever: name no person. Required with an end." }),
};
export const membersSchema = waitSchema.extend({
  add: namesOf("User ids, subjects or verified e-mails."),
  remove: namesOf("User ids, subjects or e-mails."),
  ...timeBoxFields,
  dryRun: z
    .boolean()
    .optional()
    .meta({ description: "True: changes nothing, and answers which people and routes the change would concern." }),
});
export const suspendSchema = waitSchema.extend(timeBoxFields);

/** The end that a body names, by this server's clock where it gives a duration. @returns text: a problem */
export function timeBoxEnd(
  { until, forMs }: Readonly<{ until: string | undefined; forMs: number | undefined }>,
  now: UnixMs,
): Readonly<{ until?: UnixMs }> | string {
  if (until !== undefined && forMs !== undefined) return "give either until or forMs";
  if (until !== undefined) return { until: Date.parse(until) as UnixMs };
  return forMs === undefined ? {} : { until: (now + forMs) as UnixMs };
}
const dryRun = z
  .boolean()
  .optional()
  .meta({ description: "True: changes nothing, and answers which people and routes the change would concern." });
const operatorReason = z
  .string()
  .min(1)
  .max(500)
  .meta({ description: "Recorded in the log in clear and forever: name no person." });
const heldVersion = z
  .number()
  .int()
  .min(1)
  .meta({ description: "The version of the held change that the operator has seen." });
const dayMs = 24 * 3_600_000;
export const groupRemovalSchema = waitSchema.extend({ dryRun });
export const dropSchema = waitSchema.extend({ version: heldVersion, reason: operatorReason });
export const releaseSchema = dropSchema.extend({
  allowForMs: z
    .number()
    .int()
    .min(1)
    .max(dayMs)
    .optional()
    .meta({ description: "For how long its source may make further mass changes. Default: not." }),
});
export const allowSchema = waitSchema.extend({
  source: z.string().min(1).max(200).meta({ description: "As `GET /held` shows it, such as `service:scim/okta`." }),
  forMs: z.number().int().min(0).max(dayMs).meta({ description: "From now on, in milliseconds; 0 ends it." }),
  reason: operatorReason,
});
export const finalizeSchema = waitSchema.extend({ level: z.number().int().min(1).max(1_000_000) });

export const retireSchema = waitSchema
  .extend({
    nodes: z.array(z.string().max(200)).max(retiredAtOnceMax).default([]).meta({ description: "Names of nodes." }),
    region: z
      .string()
      .min(1)
      .max(200)
      .optional()
      .meta({
        description: `Every node and regional broker of this region, at most ${retiredAtOnceMax}; repeat for the others.`,
      }),
  })
  .meta({ description: "Either `nodes` or `region`." });

export const directorySyncSchema = waitSchema.extend({
  removals: z
    .boolean()
    .optional()
    .meta({ description: "Let the run make every removal, also of many people at once." }),
});
export const scimTokenSchema = waitSchema.extend({
  client: z
    .string()
    .regex(/^[a-z0-9][a-z0-9.-]{0,39}$/)
    .meta({ description: "A client of `scim_clients`." }),
  tokenId: z
    .string()
    .regex(/^[a-z0-9]{8,32}$/)
    .meta({ description: "A new id, part of the token: `cardea_scim_ID_SECRET`." }),
  secretHash: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .meta({
      description: "SHA-256 of the token's secret, in hexadecimal. The secret is base64url of 32 random bytes.",
    }),
  scopes: z.array(z.enum(scimScopes)).min(1).max(scimScopes.length),
  expiresAt: z.iso.datetime({ offset: true }).optional(),
  replaces: z
    .string()
    .regex(/^[a-z0-9]{8,32}$/)
    .optional()
    .meta({ description: "A token of the client that is revoked together with the creation." }),
});

export const filterSchema = z.strictObject({
  group: z.string().max(1_000).optional().meta({ description: "Sessions of members of this group." }),
  idpId: z.string().max(1_000).optional().meta({ description: "Sessions of this identity provider." }),
  issuedBefore: z.iso.datetime({ offset: true }).optional(),
  all: z.literal(true).optional().meta({ description: "Required if no other field is given." }),
});
export const manySchema = waitSchema
  .extend({
    sessionIds: z.array(z.string().max(200)).min(1).max(sessionsAtOnceMax).optional(),
    filter: filterSchema.optional(),
  })
  .meta({ description: "Either `sessionIds` or `filter`." });

const text = z.string().max(4_096);
const position = z.int().min(0);
const record = z.looseObject({
  node: text,
  boot: text,
  requestId: text,
  result: text,
  configHash: text,
  at: z.number(),
  sessionId: text.nullable(),
  userId: text.nullable(),
  applied: z.strictObject({ epoch: position, position, hash: text }),
  trace: z
    .looseObject({
      facts: z
        .array(
          z.looseObject({
            fact: text,
            criteria: z.array(text).max(1_000),
            position: position.nullable(),
            exact: z.boolean(),
          }),
        )
        .max(200),
    })
    .optional(),
});
export const explainSchema = z.union([z.strictObject({ id: text }), z.strictObject({ record })]);

// --- answers

const configuration = z.object({
  configHash: z.string(),
  recordedAt: z.number().nullable(),
  bytes: z.number().nullable(),
  nodes: z.array(z.string()),
});
const receipt = z.looseObject({}).meta({ description: "docs/receipts.md describes a receipt." });
const receiptOfTime = z
  .looseObject({
    recordedAt: at.optional().meta({ description: "ISO 8601. When the change was recorded; null: not known now." }),
  })
  .meta({ description: "docs/receipts.md describes a receipt." });
const change = z.object({
  commandId: z.string().nullable(),
  changed: z.boolean(),
  promise: z.string().meta({ description: "What a complete receipt of this change means." }),
  link,
  receipt: receipt.nullable(),
});
const erasure = z.object({
  people: z.array(
    z.object({
      userId: z.string(),
      kind: z.enum(["person", "scim-record"]),
      client: z.string().nullable(),
      key: z.enum(["destroyed", "destroyed-before", "to-be-destroyed"]),
      sessions: z.number(),
      memberships: z.number(),
    }),
  ),
  configurations: z
    .array(z.string())
    .meta({ description: "Stored configurations that name the e-mail or the subject." }),
  unsearched: z.number().meta({ description: "Stored configurations that were not searched." }),
  kept: z
    .array(z.object({ place: z.string(), holds: z.string(), remedy: z.string() }))
    .meta({ description: "What the erasure does not reach (docs/erasure.md)." }),
});
/** The answer of a region that is cut off from the leader. */
const localChange = z.object({
  accepted: z.literal("region"),
  commandId: z.string(),
  region: z.string(),
  broker: z.string(),
  seq: z.number(),
  ids: z.number().meta({ description: "How many sessions or users it denies." }),
  promise: z.string(),
  receipt: receipt.nullable(),
});
const localReceipt = z.looseObject({ type: z.enum(["receipt", "merged"]) });

const radius = z.object({
  people: z.number().meta({ description: "How many people would lose a group or their access now." }),
  named: z
    .array(z.object({ userId: z.string(), email: z.string() }))
    .meta({ description: "The first thousand of them." }),
  groups: z.array(z.string()),
  routes: z
    .array(z.string())
    .meta({ description: "Routes of this server's configuration whose policies name one of the groups." }),
  lost: z
    .object({
      routes: z
        .array(z.object({ route: z.string(), people: z.number(), conditional: z.number() }))
        .meta({ description: "The route of most people first; conditional: who would keep it in some requests." }),
      moreRoutes: z.number(),
      people: z.array(
        z.object({ userId: z.string(), email: z.string(), routes: z.array(z.string()), more: z.number() }),
      ),
      morePeople: z.number(),
      unchecked: z.number().meta({ description: "People that were not evaluated, because it took too long." }),
    })
    .meta({ description: "Who would lose which routes of this server's configuration, as their policies say." }),
  refusal: z.string().nullable().meta({ description: "Why the change would be refused now; null: it would not." }),
});
const held = z.object({
  id: z.string(),
  version: z.number(),
  status: z.enum(["held", "dropped"]),
  source: z.string(),
  actor: z.string(),
  subject: z.string(),
  people: z.number().meta({ description: "From how many people it would have taken a group when it was held." }),
  counted: z.number().meta({ description: "The same with the others of its source within the window." }),
  limit: z.number(),
  heldAt: z.string(),
  expiresAt: z.string(),
});
export const answerSchemas = {
  ...listAnswers,
  user: z.object({ users: z.array(user.extend({ memberships })), applied: link }),
  directories: z.object({ directories: z.array(directory), applied: link }),
  asked: askAnswer,
  nodes: z.looseObject({
    nodes: z.array(z.looseObject({})),
    regions: z.array(z.looseObject({})),
    signInProviders: z
      .array(z.looseObject({}))
      .meta({ description: "The identity providers, and whether they answer this process." }),
  }),
  receipt: receiptOfTime,
  change,
  erasure,
  erased: change.extend({
    erasure,
    recordLinks: z.array(link).meta({ description: "The erasures of what SCIM clients had recorded." }),
  }),
  localChange,
  localReceipt,
  manyRevoked: change.extend({ named: z.number(), unknown: z.array(z.string()), more }),
  held: z.object({
    held: z.array(held),
    allowed: z.array(z.object({ source: z.string(), until: z.string() })),
    applied: link,
  }),
  heldChange: held.extend({ now: radius, applied: link }),
  /** With `dryRun` the radius, else the change. */
  changeOrPreview: z.union([
    change,
    radius.extend({ dryRun: z.literal(true), held: z.boolean(), counted: z.number(), limit: z.number() }),
  ]),
  scimTokens: z.object({
    tokens: z.array(
      z.object({
        id: z.string(),
        client: z.string(),
        scopes: z.array(z.string()),
        status: z.enum(["active", "expired", "revoked"]),
        expiresAt: at,
      }),
    ),
    applied: link,
  }),
  snapshot: z.object({ position: z.number() }),
  configurations: z.object({ configurations: z.array(configuration) }),
  configuration: configuration.extend({ configuration: z.unknown() }),
  explained: z.looseObject({ others: z.array(z.string()) }),
} as const;

const describe = (description: string) => ({ description });
const ms = z.number();
/** What a region that is cut off knows of the nodes, in place of a receipt (last-known.ts). */
export const lastKnownSchema = z.object({
  status: z.literal("unknown"),
  complete: z.literal(false),
  region: z.string().meta(describe("The region of this server.")),
  at: ms.meta(describe("The time of the answer, by the clock of this server.")),
  homeSilentMs: ms
    .nullable()
    .meta(describe("Time (ms) since the leader answered; null: it has not since this one started.")),
  leasesUntil: ms.nullable().meta(describe("When the last lease by age of the region ends; null: there is none.")),
  broker: z
    .object({ brokerId: z.string(), applied: link })
    .meta(describe("The regional broker that answered, and how far its copy of the log reaches.")),
  nodes: z
    .array(
      z.object({
        node: z.string(),
        boot: z.string(),
        role: z.string(),
        enforced: link.nullable().meta(describe("The newest link that it has confirmed to this broker as enforced.")),
        lastGrantAgoMs: ms.nullable().meta(describe("Time (ms) since its newest grant; null: this broker saw none.")),
        fencedInMs: ms.nullable().meta(describe("Time (ms) until no grant by age counts any more.")),
      }),
    )
    .meta(describe("The nodes that renew through that broker.")),
  reported: z
    .object({
      at: ms.meta(describe("The time of the report, by the clock of the regional broker.")),
      ageMs: ms,
      head: link.nullable().meta(describe("The head of the log at that time.")),
      regions: z.array(
        z.object({
          region: z.string(),
          brokers: z.number(),
          nodes: z.number(),
          fenced: z.number(),
          absent: z.number(),
          cutOff: z.boolean(),
          applied: z
            .number()
            .nullable()
            .meta(describe("The position that its slowest node had reported; null: not known.")),
        }),
      ),
    })
    .nullable()
    .meta(describe("The leader's last report about all regions; null: this broker has had none since it started.")),
});
export type LastKnownState = z.infer<typeof lastKnownSchema>;
