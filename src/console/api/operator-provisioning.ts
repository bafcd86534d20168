/**
 * Operator API for what provisions people: the tokens of SCIM clients, and directories. The server gets the hash of a
 * token's secret, never the secret.
 */
import {
  type DirectoryState,
  directoryOf,
  directoryStateUser,
  isDirectoryClient,
  isScimTokenId,
  type MembershipSource,
  newDirectoryState,
  parseDirectoryState,
  parseHash,
  parseScimToken,
  parseUnixMs,
  type ScimToken,
  type UserId,
} from "../../events/index.ts";
import type { Replica } from "../../replication/index.ts";
import { submitChange } from "./operator-changes.ts";
import { badRequest, type OperatorApiDeps, type RegisterRoute, tryParse } from "./operator-route.ts";
import { directorySyncSchema, scimTokenSchema } from "./operator-schemas.ts";
import { profileOfUser } from "./operator-views.ts";

export type ScimTokenView = Readonly<{
  id: string;
  client: string;
  scopes: readonly string[];
  status: "active" | "expired" | "revoked";
  expiresAt: string | null;
}>;

export function registerScimTokens(route: RegisterRoute, deps: OperatorApiDeps): void {
  route("GET /scim/tokens", async () => {
    const tokens = [...deps.replica.projection.serviceAccounts()]
      .map(parseScimToken)
      .filter((token) => token !== undefined)
      .map((token) => describeToken(token, deps.now()))
      .sort((a, b) => (a.client + a.id < b.client + b.id ? -1 : 1));
    return { tokens, applied: deps.replica.applied };
  });

  route("POST /scim/tokens", async (request, reply, { actor }) => {
    const body = scimTokenSchema.safeParse(request.body ?? {});
    if (!body.success) return badRequest(reply, body.error);
    const { client, tokenId, secretHash, scopes, expiresAt, replaces, ...wait } = body.data;
    const until = expiresAt === undefined ? null : tryParse(parseUnixMs, Date.parse(expiresAt));
    if (until === undefined) return reply.code(400).send({ error: "expiresAt is not a time" });
    const command = {
      type: "createScimToken",
      client,
      tokenId,
      secretHash: parseHash(secretHash),
      scopes,
      expiresAt: until,
      replaces: replaces ?? null,
    } as const;
    return submitChange(deps, request, reply, actor, command, wait);
  });

  route("POST /scim/tokens/:token/revoke", async (request, reply, { actor }) => {
    const tokenId = (request.params as { token: string }).token;
    if (!isScimTokenId(tokenId)) return reply.code(400).send({ error: "not the id of a SCIM token" });
    return submitChange(deps, request, reply, actor, { type: "revokeScimToken", tokenId });
  });
}

export type DirectoryView = Readonly<{
  name: string;
  provider: string;
  /** Seconds between runs. */
  intervalS: number;
  /** An operator has asked for a run that has not begun. */
  asked: boolean;
  /** When the run in progress began; null: none. */
  runningSince: string | null;
  last: Readonly<{
    mode: string;
    result: string;
    startedAt: string;
    endedAt: string;
    problem: string | null;
    added: number;
    removed: number;
    ended: number;
  }> | null;
  /** The last complete run: its end, and what the directory had; null: none. */
  complete: Readonly<{ at: string; people: number; groups: number; memberships: number }> | null;
}>;

/** The source of a membership. */
export type MembershipView = Readonly<{
  group: string;
  excluded: boolean;
  sources: readonly Readonly<{
    source: MembershipSource;
    /** The directory or SCIM client; null: the source has no name. */
    name: string | null;
    /** When the source last stated everything; null: it states only changes. */
    asOf: string | null;
  }>[];
}>;

export function registerDirectories(route: RegisterRoute, deps: OperatorApiDeps): void {
  route("GET /directories", async () => ({
    directories: deps.directories.map(({ name, provider, everyMs }) => ({
      name,
      provider,
      intervalS: everyMs / 1_000,
      ...describeState(directoryStateOf(deps.replica, name)),
    })),
    applied: deps.replica.applied,
  }));

  route("POST /directories/:directory/sync", async (request, reply, { actor }) => {
    const body = directorySyncSchema.safeParse(request.body ?? {});
    if (!body.success) return badRequest(reply, body.error);
    const { removals = false, ...wait } = body.data;
    const directory = (request.params as { directory: string }).directory;
    if (!deps.directories.some(({ name }) => name === directory))
      return reply.code(404).send({ error: "the configuration names no such directory" });
    const command = { type: "requestDirectorySync", directory, requestId: deps.uuid(), removals } as const;
    return submitChange(deps, request, reply, actor, command, wait);
  });
}

export function directoryStateOf(replica: Pick<Replica, "projection" | "open">, name: string): DirectoryState {
  const userId = directoryStateUser(name);
  const sealed = replica.projection.user(userId)?.profile;
  const profile = sealed === undefined || sealed === null ? undefined : replica.open(sealed, userId);
  return parseDirectoryState(profile) ?? newDirectoryState(name);
}

function describeState({
  asked,
  run,
  last,
  complete,
}: DirectoryState): Omit<DirectoryView, "name" | "provider" | "intervalS"> {
  const iso = (at: number): string => new Date(at).toISOString();
  return {
    asked: asked !== null,
    runningSince: run && iso(run.startedAt),
    last: last && { ...last, startedAt: iso(last.startedAt), endedAt: iso(last.endedAt) },
    complete: complete && {
      at: iso(complete.at),
      people: complete.people,
      groups: complete.groups,
      memberships: complete.memberships,
    },
  };
}

/** Each group of a person, with every source that gives it. */
export function describeMemberships(replica: Replica, userId: UserId): readonly MembershipView[] {
  const views: MembershipView[] = [];
  for (const [groupId, { sources, excluded }] of replica.projection.memberships(userId)) {
    const client = replica.projection.group(groupId)?.scim?.client ?? null;
    const described = sources.map((source) => describeSource(replica, { source, client, userId }));
    views.push({ group: groupId, excluded, sources: described });
  }
  return views.sort((a, b) => (a.group < b.group ? -1 : 1));
}

function describeSource(
  replica: Replica,
  { source, client, userId }: Readonly<{ source: MembershipSource; client: string | null; userId: UserId }>,
): MembershipView["sources"][number] {
  if (source === "directory" && client !== null && isDirectoryClient(client)) {
    const name = directoryOf(client);
    const at = directoryStateOf(replica, name).complete?.at;
    return { source, name, asOf: at === undefined ? null : new Date(at).toISOString() };
  }
  if (source === "scim" && client !== null && !isDirectoryClient(client)) return { source, name: client, asOf: null };
  if (source !== "idp") return { source, name: null, asOf: null };
  const issuer = profileOfUser(replica, userId)?.issuer ?? null;
  return { source, name: issuer, asOf: newestClaims(replica, userId) };
}

/** When the sign-in provider last stated claims of a live session. */
function newestClaims({ projection }: Replica, userId: UserId): string | null {
  let newest = 0;
  for (const id of projection.sessionsOf(userId)) {
    const standing = projection.sessionStatus(id);
    if (standing.status === "active") newest = Math.max(newest, standing.session.refreshedAt);
  }
  return newest === 0 ? null : new Date(newest).toISOString();
}

function describeToken({ tokenId, client, scopes, account }: ScimToken, now: number): ScimTokenView {
  const { expiresAt, revoked } = account;
  return {
    id: tokenId,
    client,
    scopes: [...scopes],
    status: revoked ? "revoked" : expiresAt !== null && expiresAt <= now ? "expired" : "active",
    expiresAt: expiresAt === null ? null : new Date(expiresAt).toISOString(),
  };
}
