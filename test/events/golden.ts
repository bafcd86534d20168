/**
 * Golden events: the bytes of one event of every type and version ever written, one chain per level.
 *
 * They represent existing logs, so a file never changes once its level is released; a new level brings a new file.
 * `node test/events/golden.ts` writes the file of this build's level, and refuses to overwrite one.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { formats } from "../../src/events/formats.ts";
import {
  type CardeaEvent,
  decodeEvent,
  type Epoch,
  type EventId,
  encodeEvent,
  genesis,
  linkOf,
  type Position,
  Projection,
  parseCommandId,
  readsLevel,
  type Stream,
  streamOf,
  type UnixMs,
} from "../../src/events/index.ts";

const folder = new URL("golden/", import.meta.url);

/** `bytes`: base64. `event`: in its newest shape, with bytes as `{hex}`. */
export type GoldenEntry = Readonly<{ type: string; version: number; bytes: string; hash: string; event: unknown }>;
/** `digest`: of the projection of all of them. */
export type GoldenFile = Readonly<{ level: number; digest: string; entries: readonly GoldenEntry[] }>;

export function goldenFiles(): readonly GoldenFile[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith(".json"))
    .map((name): GoldenFile => JSON.parse(readFileSync(new URL(name, folder), "utf8")))
    .sort((a, b) => a.level - b.level);
}

/** In JSON form. */
export function plain(event: unknown): unknown {
  return JSON.parse(
    JSON.stringify(event, (_key, value: unknown) => {
      const bytes = value instanceof Uint8Array ? value : isBuffer(value) ? value.data : null;
      return bytes === null ? value : { hex: Buffer.from(bytes).toString("hex") };
    }),
  );
}

/** The form in which a replacer sees a buffer. */
function isBuffer(value: unknown): value is { data: number[] } {
  return typeof value === "object" && value !== null && "type" in value && value.type === "Buffer" && "data" in value;
}

const sealed = Uint8Array.from({ length: 40 }, (_, n) => n * 5);
const of = <T>(value: unknown): T => value as T;

/** One of every type, in an order in which each changes something. */
const events: readonly CardeaEvent[] = [
  of({ type: "EpochOpened", epoch: 1, incarnation: "00ff", brokerId: "broker-1", publicKey: "cHVibGlj" }),
  of({ type: "UserUpserted", userId: "user-1", profile: sealed }),
  of({ type: "GroupUpserted", groupId: "eng", name: "Engineering" }),
  of({
    type: "GroupMembersChanged",
    groupId: "eng",
    source: "operator",
    added: ["user-1", "user-2"],
    removed: ["user-3"],
  }),
  of({ type: "UserGroupsReplaced", userId: "user-1", source: "idp", groupIds: ["eng", "sales"] }),
  of({
    ...{ type: "SessionCreated", sessionId: "session-1", userId: "user-1", idpId: "idp" },
    ...{ issuedAt: 1_700_000_000_000, expiresAt: 1_700_000_360_000, profile: sealed },
  }),
  of({
    ...{ type: "SessionCreated", sessionId: "session-2", userId: "user-2", idpId: "idp" },
    ...{ issuedAt: 1_700_000_000_000, expiresAt: 1_700_000_360_000, profile: sealed },
  }),
  of({
    ...{ type: "SessionRefreshed", sessionId: "session-1", userId: "user-1" },
    ...{ profile: sealed.slice(4), refreshedAt: 1_700_000_100_000 },
  }),
  of({ type: "SessionRevoked", sessionId: "session-1", userId: "user-1", reason: "operator" }),
  of({ type: "SessionsExpired", sessionIds: ["session-9", "session-8"] }),
  of({ type: "UserSessionsRevoked", userId: "user-2", upTo: 6, reason: "sign-out" }),
  of({ type: "UserSessionsRevoked", userId: "user-2", upTo: null, reason: "identity-provider" }),
  of({ type: "UserSuspended", userId: "user-3", reason: "left" }),
  of({ type: "UserRestored", userId: "user-3" }),
  of({ type: "UserErased", userId: "user-4" }),
  of({ type: "GroupRemoved", groupId: "sales" }),
  of({ type: "DirectorySyncStarted", directory: "okta", syncId: "sync-1" }),
  of({ type: "DirectorySyncCompleted", directory: "okta", syncId: "sync-1", complete: true }),
  of({ type: "DeviceEnrolled", deviceId: "device-1", userId: "user-1", typeId: "any", enrolledAt: 1_700_000_000_000 }),
  of({ type: "DeviceApproved", deviceId: "device-1", userId: "user-1", approvedBy: "user-2" }),
  of({ type: "DeviceRemoved", deviceId: "device-2", userId: "user-1" }),
  of({
    ...{ type: "ServiceAccountCreated", serviceAccountId: "account-1", userId: "user-1" },
    ...{ expiresAt: null, description: "a robot" },
  }),
  of({ type: "ServiceAccountRevoked", serviceAccountId: "account-1", userId: "user-1", reason: "operator" }),
  of({ type: "ConfigurationActivated", nodeId: "proxy-1", configHash: "a".repeat(64) }),
  of({ type: "TighteningReasserted", subject: "session:session-7", of: "SessionQuarantined", lost: "b".repeat(64) }),
  of({ type: "SnapshotTaken", position: 20, manifestHash: "c".repeat(64) }),
  of({
    ...{ type: "AuditSegmentSealed", nodeId: "proxy-1", bootId: "boot-1" },
    ...{ first: 1, last: 9, root: "d".repeat(64) },
  }),
  of({ type: "UpgradeFinalized", level: readsLevel }),
  of({
    ...{ type: "AuditSegmentSealed", nodeId: "proxy-1", bootId: "boot-2" },
    ...{ first: 10, last: 12, root: "e".repeat(64), final: true, seal: sealed },
  }),
  of({ type: "NodesRetired", nodes: [{ nodeId: "proxy-9", role: "proxy", region: "ap" }] }),
  of({
    type: "GroupUpserted",
    groupId: "builders",
    name: "builders",
    scim: {
      client: "okta",
      id: "00000000-0000-4000-8000-0000000000aa",
      externalId: "00g1",
      version: 2,
      createdAt: 1_700_000_000_000,
      changedAt: 1_700_000_000_500,
    },
  }),
  of({
    ...{ type: "SessionCreated", sessionId: "session-10", userId: "user-1", idpId: "idp" },
    ...{ issuedAt: 1_700_000_000_000, expiresAt: 1_700_000_360_000, profile: sealed },
    providerSession: "00000000-0000-8000-8000-0000000000cc",
  }),
  of({ type: "SessionsSeen", sessionIds: ["session-10"], seenAt: [1_700_000_240_000], pauseMs: [120_000] }),
  of({ type: "UserRefreshRequested", userId: "user-1", requestedAt: 1_700_000_200_000 }),
  of({ type: "LogoutRecorded", logoutId: "00000000-0000-8000-8000-0000000000dd", until: 1_700_086_400_000 }),
  of({
    type: "MassChangeHeld",
    heldId: "00000000-0000-4000-8000-0000000000bb",
    source: "service:scim/okta",
    subject: "group:eng",
    template: sealed,
    base: "empty",
    added: ["user-4"],
    removed: ["user-1", "user-2"],
    people: 2,
    counted: 3,
    limit: 1,
    expiresAt: 1_700_600_000_000,
  }),
  of({
    type: "HeldChangeNarrowed",
    heldId: "00000000-0000-4000-8000-0000000000bb",
    withdrawn: ["user-2"],
  }),
  of({
    type: "HeldChangeEnded",
    heldId: "00000000-0000-4000-8000-0000000000bb",
    outcome: "dropped",
    reason: "a mistake at the directory",
  }),
  of({ type: "MassChangesAllowed", source: "service:scim/okta", until: 1_700_003_600_000, reason: "a reorganisation" }),
  of({ type: "SessionRevoked", sessionId: "session-6", userId: "user-1", reason: "reasserted" }),
  of({
    ...{ type: "GroupMembersChanged", groupId: "eng", source: "operator", added: ["user-3", "user-5"], removed: [] },
    ...{ until: 1_700_000_900_000, reason: "on call" },
  }),
  of({ type: "MembershipsExpired", groupId: "eng", userIds: ["user-3"], at: 1_700_000_900_000 }),
  of({ type: "UserSuspended", userId: "user-3", reason: "lost laptop", until: 1_700_000_900_000 }),
  of({ type: "UserSuspended", userId: "user-5", reason: "lost laptop", until: 1_700_000_800_000 }),
  of({ type: "SuspensionExpired", userId: "user-5", at: 1_700_000_800_500 }),
  of({
    ...{ type: "SignalReceived", userId: "signal:okta:hash", transmitter: "okta", event: "account-disabled" },
    ...{ action: "suspend", outcome: "enforced", issuedAt: 1_700_000_000_000, occurredAt: 1_700_000_000_000 },
  }),
  of({
    ...{ type: "SignalStreamChanged", receiver: "payroll", streamId: "stream-1" },
    ...{ status: "enabled", delivered: 20 },
  }),
  of({
    ...{ type: "AccessRequested", requestId: "00000000-0000-4000-8000-0000000000e1", userId: "user-2" },
    ...{ routeId: "route-1", groupId: "hr", durationMs: 3_600_000, reason: sealed, refusal: "refusal-1" },
    expiresAt: 1_700_600_000_000,
  }),
  of({
    ...{ type: "AccessRequested", requestId: "00000000-0000-4000-8000-0000000000e2", userId: "user-2" },
    ...{ routeId: "route-2", groupId: "eng", durationMs: 3_600_000, reason: null, refusal: null },
    expiresAt: 1_700_600_000_000,
  }),
  of({
    ...{ type: "GroupMembersChanged", groupId: "hr", source: "request", added: ["user-2"], removed: [] },
    ...{ until: 1_700_003_600_000, requestId: "00000000-0000-4000-8000-0000000000e1" },
  }),
  of({
    ...{ type: "AccessRequestDecided", requestId: "00000000-0000-4000-8000-0000000000e1", userId: "user-2" },
    ...{ decision: "approved", until: 1_700_003_600_000, note: sealed.slice(2) },
  }),
  of({
    ...{ type: "AccessRequestDecided", requestId: "00000000-0000-4000-8000-0000000000e2", userId: "user-2" },
    ...{ decision: "denied", until: null, note: null },
  }),
  of({
    ...{ type: "AccessRequested", requestId: "00000000-0000-4000-8000-0000000000e3", userId: "user-2" },
    ...{ routeId: "route-3", groupId: "eng", durationMs: 3_600_000, reason: null, refusal: null },
    expiresAt: 1_700_600_000_000,
  }),
  of({
    ...{ type: "AccessRequestEnded", requestId: "00000000-0000-4000-8000-0000000000e3", userId: "user-2" },
    outcome: "withdrawn",
  }),
];

function write(): void {
  const projection = new Projection();
  const entries: GoldenEntry[] = [];
  const versions = new Map<Stream, number>();
  let at = genesis;
  for (const event of events) {
    const stream = streamOf(event);
    const version = (versions.get(stream) ?? 0) + 1;
    versions.set(stream, version);
    const position = at.position + 1;
    const bytes = encodeEvent({
      ...{ epoch: 1 as Epoch, position: position as Position, stream, version, event },
      eventId: `00000000-0000-4000-8000-${String(position).padStart(12, "0")}` as EventId,
      recordedAt: (1_700_000_000_000 + position) as UnixMs,
      actor: position % 2 === 0 ? "operator:console" : "system",
      cause:
        position % 3 === 0 ? null : parseCommandId(`00000000-0000-4000-9000-${String(position).padStart(12, "0")}`),
    });
    const recorded = decodeEvent(bytes, at);
    projection.apply(recorded);
    at = linkOf(recorded);
    entries.push({
      ...{ type: recorded.type, version: recorded.schemaVersion, bytes: Buffer.from(bytes).toString("base64") },
      ...{ hash: recorded.hash, event: plain(recorded.event) },
    });
  }
  const missing = Object.keys(formats).filter((type) => !entries.some((entry) => entry.type === type));
  if (missing.length > 0) throw new Error(`no golden event of type ${missing.join(", ")}`);
  const file: GoldenFile = { level: readsLevel, digest: projection.digest(), entries };
  writeFileSync(new URL(`level-${readsLevel}.json`, folder), `${JSON.stringify(file, null, 2)}\n`, { flag: "wx" });
}

if (import.meta.main) write();
