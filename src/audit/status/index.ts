/** Entry point of audit status: how many records the sinks of each node do not have. */
export {
  blindOf,
  createStatusBoard,
  type HeardStatus,
  type NodeAuditStatus,
  type SinkStatus,
  type StatusBoard,
  signStatus,
  statusOf,
} from "./audit-status.ts";
export { publishAuditStatus, receiveAuditStatus } from "./nats-audit-status.ts";
