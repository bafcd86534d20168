/**
 * Operator operations: the table of the operator API. A handler is registered by the name of its operation, so the API
 * serves what the table says and nothing else; the description in docs/operator-api.openapi.json is generated from it.
 * Pure.
 */
import * as z from "zod";
import { changeOperations } from "./changes/change-schemas.ts";
import { auditStatusAnswer, decisionsAnswer, decisionsSchema } from "./decisions/decision-schemas.ts";
import { labOperations } from "./lab/lab-operations.ts";
import { groupSchema, groupsSchema, listOperations, sessionsSchema, usersSchema } from "./lists/list-schemas.ts";
import { liveOperations } from "./live/live-operations.ts";
import {
  accessWhatSchema,
  accessWhoSchema,
  allowSchema,
  answerSchemas,
  directorySyncSchema,
  dropSchema,
  explainSchema,
  finalizeSchema,
  groupRemovalSchema,
  manySchema,
  membersSchema,
  receiptSchema,
  releaseSchema,
  retireSchema,
  scimTokenSchema,
  suspendSchema,
  timeoutSchema,
  waitSchema,
} from "./operator-schemas.ts";
import { rechecksAnswer } from "./past/recheck-schema.ts";
import { sealsAnswer, sealsSchema } from "./past/seals-schemas.ts";
import { previewOperations } from "./preview/preview-schemas.ts";
import { askSchema } from "./provisioning/directory-schemas.ts";
import { receiptOperations } from "./receipts/receipt-schemas.ts";
import { requestOperations } from "./requests/request-schemas.ts";
import { meOperations } from "./roles/me-operations.ts";
import type { OperatorRole } from "./roles/operator-roles.ts";
import { settingsOperations } from "./roles/settings-operations.ts";
import { searchOperations } from "./search/search-operations.ts";
import { signalStatusSchema, signalStreamAnswer, signalStreamsAnswer } from "./signals/signal-schemas.ts";
import { transmitterOperations } from "./signals/transmitter-operations.ts";

export type Operation = Readonly<{
  summary: string;
  /** The lowest role that may use it. */
  role: OperatorRole;
  /**
   * The handler confines itself to the caller's groups of routes (`scope` of the caller). Absent: a caller whose role
   * is limited to some is refused.
   */
  scoped?: true;
  /** Also for approvers (`request_access` of a route) without the role: the handler confines itself to their routes. */
  approver?: true;
  /** A browser's session needs a recent sign-in. */
  stepUp?: true;
  query?: z.ZodObject;
  body?: z.ZodType;
  /** Status of success. */
  status: 200 | 202;
  /** Absent: only the event stream is answered. */
  answer?: z.ZodType;
  /** The answer with 202, when only the region of this server accepted the change. Absent: it never is. */
  accepted?: z.ZodType;
  /** Set where `Accept: text/event-stream` is answered with a stream, or nothing else is. */
  stream?: string;
  /** Error statuses besides those of every operation. */
  errors: readonly (400 | 404 | 409 | 410 | 502)[];
}>;

const list = { role: "viewer", status: 200, errors: [400] } as const;
const command = { role: "operator", body: waitSchema, status: 200, answer: answerSchemas.change } as const;
const onUser = { ...command, errors: [400, 404, 409, 410] } as const;
const accessReport = z.looseObject({ type: z.literal("report"), at: z.string() }).meta({
  description: "With `as=json`.",
});
/** A change that a region may accept by itself while it is cut off. */
const tightening = { accepted: answerSchemas.localChange } as const;

export const operatorOperations = {
  ...requestOperations,
  "GET /sessions": {
    ...list,
    query: sessionsSchema,
    summary: "List sessions",
    answer: answerSchemas.sessions,
  },
  "GET /users": { ...list, query: usersSchema, summary: "List users", answer: answerSchemas.users },
  "GET /groups": {
    ...list,
    scoped: true,
    query: groupsSchema,
    summary: "List groups and their members",
    answer: answerSchemas.groups,
  },
  ...listOperations,
  "GET /users/:user": {
    role: "viewer",
    summary: "One user, with what ends when; several if an e-mail names several",
    status: 200,
    answer: answerSchemas.user,
    errors: [404],
  },
  "GET /groups/:group": {
    scoped: true,
    role: "viewer",
    summary: "One group and its members, with what ends when",
    query: groupSchema,
    status: 200,
    answer: answerSchemas.group,
    errors: [400, 404],
  },
  "GET /nodes": {
    role: "viewer",
    summary: "Brokers, nodes, regions and identity providers: epoch, position, lag, lease, version, health",
    status: 200,
    answer: answerSchemas.nodes,
    errors: [],
  },
  ...receiptOperations,
  "GET /receipts/:target": {
    scoped: true,
    approver: true, // by the id of their own change; it names nodes and no person
    role: "viewer",
    summary: "The receipt of a change, by command id or link",
    query: receiptSchema,
    status: 200,
    answer: answerSchemas.receipt,
    stream:
      "`progress` with each change, then `receipt`, which is signed; `unavailable` if no broker leads, with `lastKnown` where the home region is out of reach.",
    errors: [400, 404],
  },
  "GET /local-receipts/:commandId": {
    role: "viewer",
    summary: "The receipt of this region, for a change that it accepted by itself",
    query: timeoutSchema,
    status: 200,
    answer: answerSchemas.localReceipt,
    errors: [400, 404],
  },
  ...previewOperations,
  "POST /sessions/:id/revoke": { ...command, ...tightening, summary: "Revoke one session", errors: [400, 404, 409] },
  "POST /sessions/revoke": {
    ...command,
    ...tightening,
    body: manySchema,
    summary: "Revoke the named sessions, or those that meet a filter",
    answer: answerSchemas.manyRevoked,
    errors: [400, 404, 409],
  },
  "POST /users/:user/sessions/revoke": { ...onUser, ...tightening, summary: "Revoke all sessions of a user" },
  "POST /users/:user/suspend": {
    ...onUser,
    ...tightening,
    body: suspendSchema,
    summary: "End a user's sessions and refuse new ones, with or without an end",
  },
  "POST /users/:user/restore": { ...onUser, summary: "Lift a suspension" },
  "POST /users/:user/refresh": { ...onUser, summary: "Ask the identity provider about a user now" },
  "POST /users/:user/ask": {
    role: "operator",
    body: askSchema,
    status: 200,
    answer: answerSchemas.asked,
    summary: "Ask every directory about a user now, and apply what it says",
    errors: [400, 404, 409],
  },
  "GET /users/:user/erasure": {
    role: "viewer",
    summary: "What erasing a user would destroy, and what it would not reach",
    status: 200,
    answer: answerSchemas.erasure,
    errors: [404, 409],
  },
  "POST /users/:user/erase": {
    ...onUser,
    role: "administrator",
    stepUp: true,
    summary: "Erase a user's personal data; this is final",
    answer: answerSchemas.erased,
  },
  "POST /cluster/finalize": {
    ...command,
    role: "administrator",
    stepUp: true,
    body: finalizeSchema,
    summary: "Raise the level of the cluster after an upgrade",
    errors: [400, 404, 409],
  },
  "POST /cluster/retire": {
    ...command,
    role: "administrator",
    stepUp: true,
    body: retireSchema,
    summary: "Retire nodes that are absent, or all of a region",
    errors: [400, 404, 409],
  },
  "POST /groups/:group/members": {
    scoped: true,
    ...command,
    answer: answerSchemas.changeOrPreview,
    body: membersSchema,
    summary: "Add and remove members of a group; an addition may have an end",
    errors: [400, 404, 409, 410],
  },
  "POST /groups/:group/remove": {
    ...command,
    role: "administrator",
    body: groupRemovalSchema,
    answer: answerSchemas.changeOrPreview,
    summary: "Remove a group",
    errors: [400, 404, 409],
  },
  "GET /held": {
    scoped: true,
    role: "viewer",
    summary: "Mass changes that wait for an operator or were dropped",
    status: 200,
    answer: answerSchemas.held,
    errors: [],
  },
  "GET /held/:held": {
    scoped: true,
    role: "viewer",
    summary: "A held change, with the people and routes that a release would concern now",
    status: 200,
    answer: answerSchemas.heldChange,
    errors: [404],
  },
  "POST /held/:held/release": {
    ...command,
    role: "administrator",
    stepUp: true,
    body: releaseSchema,
    summary: "Make a held change",
    errors: [400, 404, 409],
  },
  "POST /held/:held/drop": {
    scoped: true,
    ...command,
    body: dropSchema,
    summary: "Refuse a held change",
    errors: [400, 404, 409],
  },
  "POST /held/allow": {
    ...command,
    role: "administrator",
    stepUp: true,
    body: allowSchema,
    summary: "Let a source make mass changes for a while",
    errors: [400, 404, 409],
  },
  "GET /scim/tokens": {
    role: "viewer",
    summary: "The tokens of SCIM clients, without their secrets",
    status: 200,
    answer: answerSchemas.scimTokens,
    errors: [],
  },
  "POST /scim/tokens": {
    ...command,
    role: "administrator",
    stepUp: true,
    body: scimTokenSchema,
    summary: "Record a token of a SCIM client by the hash of its secret",
    errors: [400, 404, 409],
  },
  "POST /scim/tokens/:token/revoke": {
    ...command,
    role: "administrator",
    summary: "Revoke a token of a SCIM client",
    errors: [400, 404, 409],
  },
  ...meOperations,
  ...settingsOperations,
  ...transmitterOperations,
  ...liveOperations,
  ...searchOperations,
  "GET /directories": {
    role: "viewer",
    summary: "The directories of the configuration: the last run of each, and what it has",
    status: 200,
    answer: answerSchemas.directories,
    errors: [],
  },
  "POST /directories/:directory/sync": {
    ...command,
    body: directorySyncSchema,
    summary: "Read a directory now, and whole",
    errors: [400, 404, 409],
  },
  "GET /signals/streams": {
    role: "viewer",
    summary: "The streams of our signals: status, what waits, and what was refused",
    status: 200,
    answer: signalStreamsAnswer,
    errors: [],
  },
  "POST /signals/streams/:receiver/status": {
    role: "administrator",
    summary: "Pause, disable or enable the stream of a receiver",
    body: signalStatusSchema,
    status: 200,
    answer: signalStreamAnswer,
    errors: [400, 404],
  },
  "POST /snapshots": {
    role: "administrator",
    summary: "Request a snapshot",
    status: 202,
    answer: answerSchemas.snapshot,
    errors: [],
  },
  "GET /configurations": {
    scoped: true,
    role: "viewer",
    summary: "Known configurations by hash, and the nodes that run them",
    status: 200,
    answer: answerSchemas.configurations,
    errors: [],
  },
  "GET /configurations/:hash": {
    scoped: true,
    role: "viewer",
    summary: "One configuration without its secrets",
    status: 200,
    answer: answerSchemas.configuration,
    errors: [400, 404],
  },
  ...labOperations,
  "GET /access/who": {
    scoped: true,
    role: "viewer",
    summary: "Who could reach a route at a time, with the events that made it so",
    query: accessWhoSchema,
    status: 200,
    answer: accessReport,
    stream: "`progress` while the log is read, then `report`, or `failed` with `error`.",
    errors: [400],
  },
  "GET /access/what": {
    scoped: true,
    role: "viewer",
    summary: "Which routes a person could reach at a time, with the events that made it so",
    query: accessWhatSchema,
    status: 200,
    answer: accessReport,
    stream: "`progress` while the log is read, then `report`, or `failed` with `error`.",
    errors: [400, 404, 409],
  },
  ...changeOperations,
  "POST /explain": {
    scoped: true,
    role: "viewer",
    summary: "Why a decision was made",
    body: explainSchema,
    status: 200,
    answer: answerSchemas.explained,
    errors: [400, 404],
  },
  "GET /rechecks": {
    role: "viewer",
    summary: "Decisions of other nodes that this server decided again",
    status: 200,
    answer: rechecksAnswer,
    errors: [],
  },
  "GET /audit/seals": {
    role: "viewer",
    summary: "Seals of audit records in the log, newest first, as docs/audit-proofs.md describes them",
    query: sealsSchema,
    status: 200,
    answer: sealsAnswer,
    errors: [400],
  },
  "GET /audit/status": {
    role: "viewer",
    summary: "How many audit records each sink of each node does not have",
    status: 200,
    answer: auditStatusAnswer,
    errors: [],
  },
  "GET /decisions": {
    scoped: true,
    role: "viewer",
    summary: "Audit records from a cursor on, as they are made",
    query: decisionsSchema,
    status: 200,
    answer: decisionsAnswer,
    stream:
      "One record per event; `id` is the cursor to resume from. `cursor`: only a cursor. `missed`: records are gone. `names`: names of people by user id.",
    errors: [400, 404, 410],
  },
} as const satisfies Readonly<Record<string, Operation>>;

export type OperationName = keyof typeof operatorOperations;

/** What each parameter of a path names. */
export const pathParameters: Readonly<Record<string, string>> = {
  id: "A session id.",
  commandId: "The id of a command, a lowercase UUID.",
  user: "A user id, subject or e-mail; `base64url:` and its base64url where it has a slash.",
  group: "A group id; `base64url:` and its base64url where it has a slash.",
  token: "The id of a SCIM token.",
  transmitter: "A name in `signal_transmitters`.",
  directory: "The name of a directory in the configuration.",
  target: "`command:` and a command id, or `link:` and a link (epoch.position.hash).",
  hash: "A configuration's hash, or at least 8 characters of its start.",
  a: "The earlier configuration: its hash, or at least 8 characters of its start.",
  b: "The later configuration, in the same way.",
};
