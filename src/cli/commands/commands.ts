/** Every command, in the order of the help. */

import { directoriesList, directoriesSync } from "../operator/directories.ts";
import { policyEval } from "../policy/policy-eval.ts";
import { policyLint } from "../policy/policy-lint.ts";
import { policyReplay } from "../policy/policy-replay.ts";
import { policyTest } from "../policy/policy-test.ts";
import type { CliCommand } from "../terminal/command.ts";
import { accessWhat, accessWho } from "./access.ts";
import { auditErase } from "./audit/audit-erase.ts";
import { auditProve, auditProveConsistency, auditVerifyProof } from "./audit/audit-prove.ts";
import { auditQuery } from "./audit/audit-query.ts";
import { auditSchema } from "./audit/audit-schema.ts";
import { auditSeals } from "./audit/audit-seals.ts";
import { auditSpool } from "./audit/audit-spool.ts";
import { auditVerify } from "./audit/audit-verify.ts";
import { auditWitness } from "./audit/audit-witness.ts";
import { auditTail } from "./audit.ts";
import { auditExplain } from "./audit-explain.ts";
import { auditStatus } from "./audit-status.ts";
import { check } from "./check.ts";
import { clusterFinalize, clusterRetire, clusterStatus } from "./cluster.ts";
import { configDiff, configHistory, configList, configShow } from "./config.ts";
import { demo } from "./demo.ts";
import { dev } from "./dev.ts";
import { drillList, drillRun } from "./drill.ts";
import { health } from "./health.ts";
import { execCredential, flushCredentials } from "./kubernetes.ts";
import { logExport, logVerify } from "./log.ts";
import { groupsAdd, groupsDelete, groupsList, groupsMembers, groupsRemove, groupsShow } from "./membership/groups.ts";
import { heldAllow, heldDrop, heldList, heldRelease, heldShow } from "./membership/held.ts";
import { requestsApprove, requestsDeny, requestsEnd, requestsList, requestsShow } from "./membership/requests.ts";
import { configSettings } from "./operators/config-settings.ts";
import { operatorToken } from "./operators/operator-token.ts";
import { operatorWhoami } from "./operators/whoami.ts";
import { postgresPromote } from "./postgres.ts";
import { receiptShow, receiptsKeys, receiptsList, receiptsVerify } from "./receipts.ts";
import { activity, changes } from "./record/changes.ts";
import { clusterWatch, search } from "./record/search.ts";
import { regionMoveHome } from "./region.ts";
import { routesList } from "./routes.ts";
import { run } from "./run.ts";
import { scimTokensCreate, scimTokensList, scimTokensRevoke, scimTokensRotate } from "./scim.ts";
import { sessionsList, sessionsRevoke, sessionsShow } from "./sessions.ts";
import {
  signalStreamsDisable,
  signalStreamsEnable,
  signalStreamsList,
  signalStreamsPause,
  signalStreamsShow,
} from "./signals/streams.ts";
import {
  transmittersAddSubject,
  transmittersCreate,
  transmittersDelete,
  transmittersDisable,
  transmittersEnable,
  transmittersList,
  transmittersPause,
  transmittersRemoveSubject,
  transmittersShow,
  transmittersUpdate,
  transmittersVerify,
} from "./signals/transmitters.ts";
import { snapshotCreate, snapshotKeys, snapshotList, snapshotRestore, snapshotVerify } from "./snapshot.ts";
import { token } from "./token.ts";
import { login, sshProxy, tcp, udp } from "./tunnel.ts";
import { usersErase, usersList, usersRefresh, usersRestore, usersShow, usersSuspend } from "./users.ts";

export const commands: readonly CliCommand[] = [
  dev,
  run,
  check,
  policyEval,
  policyTest,
  policyLint,
  policyReplay,
  sessionsList,
  sessionsShow,
  sessionsRevoke,
  usersList,
  usersShow,
  usersRefresh,
  usersSuspend,
  usersRestore,
  usersErase,
  groupsList,
  groupsShow,
  groupsMembers,
  groupsAdd,
  groupsRemove,
  groupsDelete,
  requestsList,
  requestsShow,
  requestsApprove,
  requestsDeny,
  requestsEnd,
  changes,
  activity,
  search,
  accessWho,
  accessWhat,
  heldList,
  heldShow,
  heldRelease,
  heldDrop,
  heldAllow,
  directoriesList,
  directoriesSync,
  scimTokensList,
  scimTokensCreate,
  scimTokensRotate,
  scimTokensRevoke,
  transmittersList,
  transmittersShow,
  transmittersCreate,
  transmittersUpdate,
  transmittersDelete,
  transmittersEnable,
  transmittersPause,
  transmittersDisable,
  transmittersVerify,
  transmittersAddSubject,
  transmittersRemoveSubject,
  signalStreamsList,
  signalStreamsShow,
  signalStreamsPause,
  signalStreamsDisable,
  signalStreamsEnable,
  operatorWhoami,
  operatorToken,
  clusterStatus,
  clusterWatch,
  clusterFinalize,
  clusterRetire,
  configList,
  configShow,
  configHistory,
  configDiff,
  configSettings,
  receiptShow,
  receiptsList,
  receiptsVerify,
  receiptsKeys,
  auditTail,
  auditStatus,
  auditExplain,
  auditQuery,
  auditSchema,
  auditSpool,
  auditSeals,
  auditVerify,
  auditProve,
  auditProveConsistency,
  auditVerifyProof,
  auditWitness,
  auditErase,
  logVerify,
  logExport,
  snapshotCreate,
  snapshotList,
  snapshotVerify,
  snapshotRestore,
  snapshotKeys,
  postgresPromote,
  regionMoveHome,
  drillList,
  drillRun,
  login,
  token,
  tcp,
  udp,
  sshProxy,
  routesList,
  execCredential,
  flushCredentials,
  health,
  demo,
];
