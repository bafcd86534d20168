/** Operator routes: the dependencies and helpers that the operations of the operator API share. Pure. */
import type { FastifyReply, FastifyRequest } from "fastify";
import * as z from "zod";
import type {
  Feed,
  HeardStatus,
  PastConfiguration,
  RecheckCounts,
  RecordHistory,
  RecordReaderOf,
  RecordVerifierCounts,
} from "../../audit/index.ts";
import type { IdleGate, OperatorStreams, ProvisionedFor, RoutePolicy, SignalOperations } from "../../auth/index.ts";
import type { MassChangeLimits } from "../../broker/index.ts";
import type { Config, RouteRequestAccess } from "../../config/index.ts";
import type { UnavailableCode, UnixMs } from "../../events/index.ts";
import type { Databroker, Replica } from "../../replication/index.ts";
import type { LogArchive } from "../../replication/snapshot/index.ts";
import { homeRetryAfterMs } from "../../replication/wire/index.ts";
import type { PolicyLab } from "./lab/policy-lab.ts";
import type { ListCursors } from "./lists/list-cursor.ts";
import type { AccessRecorder } from "./operator-access.ts";
import type { OperatorCaller } from "./operator-caller.ts";
import type { OperationName } from "./operator-operations.ts";
import type { LastKnownState } from "./operator-schemas.ts";
import type { KnownProviders } from "./operator-views.ts";
import type { AuthorizedCaller } from "./roles/authorize-operation.ts";
import type { RoleEntries } from "./roles/operator-roles.ts";
import type { StepUp } from "./roles/step-up.ts";

export type OperatorApiDeps = Readonly<{
  /** In the operator's role. */
  databroker: Databroker;
  replica: Replica;
  feed: Feed;
  /** The stored records behind the feed; null: none are stored. */
  history: RecordHistory | null;
  /** What the sinks of this process, and of others that report, do not have. */
  auditStatus: () => readonly HeardStatus[];
  /** Counts of the audit stream; null: this process does not follow it. */
  auditCounts: () => RecordVerifierCounts | null;
  /** Snapshots and dropped events that the brokers keep, for the past; absent: they keep none. */
  archive?: LogArchive;
  /** The checks of other nodes' decisions; absent: this process makes none. */
  rechecks?: () => RecheckCounts;
  /** Reads recorded requests as the proxy would, to decide them again; absent: they are not decided again. */
  recordReaderOf?: RecordReaderOf;
  /** The configuration that this process runs, for what-if questions; absent: it has no routes. */
  ownConfiguration?: () => PastConfiguration;
  /** Checks and tests policies that are not in force; absent: this process does not. */
  policyLab?: PolicyLab;
  /** The provisioned people that a profile correlates with; absent: no SCIM client is configured. */
  provisionedFor?: ProvisionedFor;
  /** The identity providers, and whether they answer this process; absent: none is configured. */
  signInProviders?: () => readonly object[];
  /** Those of the configuration. */
  directories: readonly Readonly<{ name: string; provider: string; everyMs: number }>[];
  /** Absent: no transmitter of signals is configured. */
  signals?: SignalOperations;
  /** The streams of our signals; absent: there are no receivers. */
  signalStreams?: OperatorStreams;
  /** Who has which role by the configuration in force. */
  roles: () => RoleEntries;
  /** The configuration in force. */
  settings: () => Pick<Config, "file" | "hash" | "settings" | "routes">;
  /** How recent a sign-in the most dangerous operations need. */
  stepUp: () => StepUp;
  /** Checks the role of the operation, too. */
  callerOf: (request: FastifyRequest) => Promise<AuthorizedCaller>;
  /** Records refused callers and reads of personal data. */
  access: AccessRecorder;
  /** The address of the caller of the request in progress; undefined: not known. */
  callerIp: () => string | undefined;
  /** Whether this node's lease is fresh. Without, it may not confirm any session. */
  fresh: () => boolean;
  now: () => UnixMs;
  /** Settles after `ms`, or earlier if the signal aborts. */
  sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  uuid: () => string;
  /** What is known of the use of sessions. */
  idle: Pick<IdleGate, "describe">;
  /** The clients at identity providers of this process. */
  providers: KnownProviders;
  /** From when on a change of groups is held; absent: the defaults. */
  massChange?: MassChangeLimits;
  /** The routes of the configuration in force, with their policies; absent: this process has no routes. */
  routePolicies?: () => readonly PolicyOfRoute[];
  /** Of the lists. */
  cursors: ListCursors;
  region: string;
  cluster: string;
  version: string;
  /** Areas of this installation that the other fields do not show. */
  capabilities?: readonly string[];
  log: Readonly<{ info(fields: object, message: string): void }>;
}>;

/** What the server gives; the role of each operation is checked by the API itself. */
export type OperatorApiOptions = Omit<OperatorApiDeps, "callerOf"> &
  Readonly<{
    callerOf: (request: FastifyRequest) => Promise<OperatorCaller>;
  }>;

export type PolicyOfRoute = Readonly<{
  id: string;
  from: string;
  policy: RoutePolicy;
  /** The groups of routes that it belongs to. */
  routeGroups: readonly string[];
  /** Absent: people know it by its address. */
  name?: string;
  /** How people who are refused may ask for it; absent or null: they cannot. */
  requestAccess?: RouteRequestAccess | null;
}>;

export type Operator = Extract<AuthorizedCaller, { type: "operator" }>;
export type RegisterRoute = (
  operation: OperationName,
  handler: (request: FastifyRequest, reply: FastifyReply, caller: Operator) => Promise<unknown>,
  options?: Readonly<{ bodyBytesMax: number }>,
) => void;

/**
 * Verifies the caller now. A body, a name or a receipt may have taken long: a caller who has lost the right meanwhile
 * changes nothing and learns nothing.
 * @returns undefined: refused, and the response is sent
 */
export async function requireOperator(
  { callerOf }: Pick<OperatorApiDeps, "callerOf">,
  request: FastifyRequest,
  reply: FastifyReply,
  onRefused?: (caller: Extract<AuthorizedCaller, { type: "refused" }>) => void,
): Promise<Operator | undefined> {
  const caller = await callerOf(request);
  if (caller.type === "operator") return caller;
  onRefused?.(caller);
  const { error, code, role, signInUrl } = caller;
  if (code === "home-unreachable") sendHomeUnreachable(reply, { error });
  else
    (caller.status === 503 ? reply.header("retry-after", "1") : reply)
      .code(caller.status)
      .send({ error, ...(code === undefined ? {} : { code }), ...(role && { role }), ...(signInUrl && { signInUrl }) });
  return undefined;
}

/** The answer of a region that is cut off, where only the leader can answer. Every retry fails until that ends. */
export function sendHomeUnreachable(
  reply: FastifyReply,
  body: Readonly<{ error: string; lastKnown?: LastKnownState }>,
): FastifyReply {
  const code: UnavailableCode = "home-unreachable";
  return reply
    .code(503)
    .header("retry-after", String(homeRetryAfterMs / 1_000))
    .send({ ...body, code });
}

/** Whether a stream may send more to this operator. A token depends on no fact, so it needs no lease. */
export function mayReceive({ fresh }: Pick<OperatorApiDeps, "fresh">, { reads }: Operator): boolean {
  return reads.length === 0 || fresh();
}

/**
 * A name from a path. Proxies refuse an escaped slash, so such names arrive as `base64url:<UTF-8>`.
 */
export function nameIn(param: string): string {
  const encoded = /^base64url:([\w-]+)$/.exec(param)?.[1];
  return encoded === undefined ? param : Buffer.from(encoded, "base64url").toString("utf8");
}

export function tryParse<T>(parser: (value: unknown) => T, value: unknown): T | undefined {
  try {
    return parser(value);
  } catch {
    return undefined;
  }
}

/**
 * A receipt for a region without nodes would be complete at once, so a name that is mistyped must not get one. True
 * also while no leader says which regions there are.
 */
export async function isKnownRegion(
  { databroker }: Pick<OperatorApiDeps, "databroker">,
  region: string,
): Promise<boolean> {
  const { regions } = await databroker.status({ nodes: "omitted" });
  return regions === undefined || regions.some((known) => known.region === region);
}

export const unknownRegion = (region: string): string => `no node of region ${JSON.stringify(region)} is known`;

export function badRequest(reply: FastifyReply, error: z.ZodError): FastifyReply {
  return reply.code(400).send({ error: z.prettifyError(error) });
}
