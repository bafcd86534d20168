/**
 * Broker wire format: parses the MessagePack answers of the databroker HTTP API into validated types. Pure.
 */
import * as z from "zod";
import {
  type CommandResult,
  type ConfigurationEntry,
  decode,
  type Link,
  type Position,
  type ProviderTokens,
  parseBootId,
  parseBrokerId,
  parseCommandId,
  parseConfigHash,
  parseEpoch,
  parseHash,
  parseIncarnation,
  parseNodeId,
  parsePosition,
  parseStoredConfiguration,
  parseUnixMs,
  type StoredConfiguration,
  type StoredSignalStream,
  type UnixMs,
} from "../../events/index.ts";
import type { ClusterStatus, PageOutcome, Receipt } from "../databroker.ts";
import type { HistoryPage } from "../log/log-history.ts";
import { parseLinkMap, parseWrappedKey } from "./messages.ts";

const parsedBy = <T>(parse: (value: unknown) => T) =>
  z.unknown().transform((value, context): T => {
    try {
      return parse(value);
    } catch (error) {
      context.addIssue({ code: "custom", message: error instanceof Error ? error.message : "not valid" });
      return z.NEVER;
    }
  });

const link = parsedBy<Link>(parseLinkMap);
const node = parsedBy(parseNodeId);
const boot = parsedBy(parseBootId);
const epoch = parsedBy(parseEpoch);
const position = parsedBy(parsePosition);
const hash = parsedBy(parseHash);
const brokerId = parsedBy(parseBrokerId);
const commandId = parsedBy(parseCommandId);
const bytes = z.instanceof(Uint8Array);
const text = z.string();
const count = z.number().nonnegative();
const unixMs = parsedBy(parseUnixMs);

const commandResult = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("done"),
    commandId,
    link,
    incarnation: parsedBy(parseIncarnation).optional(),
    changed: z.boolean(),
  }),
  z.object({
    type: z.literal("refused"),
    commandId,
    code: z.enum([
      "not-found",
      "conflict",
      "suspended",
      "erased",
      "forbidden",
      "invalid",
      "logged-out",
      "held",
      "dropped",
    ]),
    message: text,
    heldId: commandId.optional(),
  }),
  z.object({
    type: z.literal("unavailable"),
    commandId,
    message: text,
    retryAfterMs: count,
    code: z.literal("home-unreachable").optional().catch(undefined), // a newer broker may add codes
    outcome: z.enum(["none", "unknown"]).optional().catch(undefined),
  }),
]);

const pageOutcome = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("page"),
    page: z.object({
      previous: link,
      entries: z.array(bytes),
      last: link,
      head: link,
      keys: z.array(parsedBy(parseWrappedKey)),
    }),
  }),
  z.object({ type: z.literal("forked"), head: link }),
  z.object({ type: z.literal("truncated"), first: position }),
]);

const receipt = z.object({
  status: z.enum(["complete", "incomplete", "lost"]),
  complete: z.boolean(),
  wait: z.enum(["all", "region", "none"]),
  region: text.nullable().default(null),
  link: link.nullable(),
  commandId: commandId.nullable(),
  epoch,
  nodes: z.array(
    z.object({
      node,
      boot,
      region: text,
      role: text,
      status: z.enum(["applied", "fenced", "unconfirmed"]),
      enforced: link.nullable().default(null),
      fencedInMs: count.nullable(),
      reason: text,
      confirmedAt: unixMs.nullish(),
    }),
  ),
  regions: z
    .array(
      z.object({
        region: text,
        applied: count,
        fenced: count,
        unconfirmed: count,
        absent: count,
        cutOff: z.boolean(),
        heardAt: unixMs.nullable(),
      }),
    )
    .optional(),
  completeInMs: count,
  at: unixMs.nullable().default(null),
  signed: text.nullable().default(null),
});

const snapshotPlace = z.object({ id: hash, position, takenAt: unixMs, by: text, sessions: count, chunks: count });

const durability = z.enum(["synchronous", "asynchronous", "local", "volatile"]);

const regions = z.array(
  z.object({
    region: text,
    brokers: count,
    nodes: count,
    fenced: count,
    absent: count,
    cutOff: z.boolean(),
    lag: z.number().nullable(),
    silentMs: z.number().nullable(),
  }),
);

const clusterStatus = z.object({
  cluster: text,
  leader: z
    .object({
      brokerId,
      url: text.nullable(),
      epoch,
      head: link,
      durability: durability.nullable().default(null),
      digest: text,
      version: text.default(""),
      reads: count.default(1),
      snapshots: z.array(snapshotPlace).optional(),
    })
    .nullable(),
  level: count.default(1),
  brokers: z.array(z.object({ brokerId, version: text, reads: count, heardAgoMs: z.number() })).default([]),
  broker: z.object({
    brokerId,
    leading: z.boolean(),
    applied: link,
    store: text,
    localUnmerged: count.optional(),
    mirrorLag: count.nullish(),
    mayLead: z.boolean().optional(),
  }),
  nodes: z.array(
    z.object({
      node,
      boot,
      region: text,
      role: text,
      version: text,
      reads: z.number().nullable().default(null),
      applied: link.nullable(),
      enforced: link.nullable(),
      lag: z.number().nullable(),
      digest: text.nullable(),
      configHash: text.nullable(),
      lastGrantAgoMs: z.number().nullable(),
      fencedInMs: z.number().nullable(),
      digestMismatch: z.boolean(),
      twin: boot.nullable().default(null),
      heardAgoMs: z.number().nullable().default(null),
      refusal: text.nullable().default(null),
    }),
  ),
  absent: z
    .array(
      z.object({
        node,
        boot,
        region: text,
        role: z.enum(["proxy", "authorize", "broker"]),
        heardAt: unixMs,
        applied: position,
        silentMs: z.number(),
      }),
    )
    .optional(),
  regions: regions.optional(),
  home: z
    .object({
      region: text,
      silentMs: z.number().nullable(),
      leasesUntil: unixMs.nullable(),
      lastKnown: z.object({ at: unixMs, head: link.nullable().optional(), regions }).nullable(),
    })
    .optional(),
});

const historyPage = z.object({
  at: link.nullable(),
  found: z.array(z.object({ previous: link, bytes: z.instanceof(Uint8Array) })),
  searchedTo: position,
  base: position,
  damagedAt: position.nullable(),
});

const configurations = z.object({
  configurations: z.array(z.object({ configHash: parsedBy(parseConfigHash), recordedAt: unixMs, bytes: count })),
});

const providerTokens = z.object({
  accessToken: text.nullable(),
  refreshToken: text.nullable(),
  idToken: text.nullable(),
  accessTokenExpiresAt: z
    .number()
    .transform((ms) => ms as UnixMs)
    .nullable(),
});

const storedSignalStream = z.object({ version: count, record: text, outdated: z.boolean() });

/** Each parser throws when the body does not match the API. */
export const parseCommandResult = (body: Uint8Array): CommandResult => commandResult.parse(decode(body));
export const parsePageOutcome = (body: Uint8Array): PageOutcome => pageOutcome.parse(decode(body));
export const parseReceipt = (body: Uint8Array): Receipt => receipt.parse(decode(body));
export const parseClusterStatus = (body: Uint8Array): ClusterStatus => clusterStatus.parse(decode(body));
export const parseProviderTokens = (body: Uint8Array): ProviderTokens => providerTokens.parse(decode(body));
export const parseStoredSignalStream = (body: Uint8Array): StoredSignalStream => storedSignalStream.parse(decode(body));
export const parseHistoryPage = (body: Uint8Array): HistoryPage => historyPage.parse(decode(body));
export const parseConfiguration = (body: Uint8Array): StoredConfiguration => parseStoredConfiguration(decode(body));
export const parseConfigurations = (body: Uint8Array): readonly ConfigurationEntry[] =>
  configurations.parse(decode(body)).configurations;
export const parseHeld = (body: Uint8Array): boolean => z.object({ held: z.boolean() }).parse(decode(body)).held;
export const parseSnapshotAsked = (body: Uint8Array): Position => z.object({ position }).parse(decode(body)).position;
