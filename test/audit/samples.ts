/** One record of each kind, with every field that it may have, and the smallest of each. */
import type { ActRecord, AuditRecord } from "../../src/audit/index.ts";
import { genesis, type UnixMs } from "../../src/events/index.ts";
import { boot, decision, node } from "./support.ts";

const at = 1_764_288_000_000 as UnixMs;
const hash = "a".repeat(64);
const link = { epoch: 3, position: 1_207, hash } as never;
const reasons = ["user-ok"];

const full = decision("/reports/7", {
  at,
  routeName: "Reports",
  traceId: "4bf92f3577b34da6a3ce929d0e0e4736",
  query: "page=2",
  headers: { "x-team": "blue" },
  userAgent: "curl/8",
  sessionId: "019f0000-0000-7000-8000-000000000001" as never,
  userId: "u-1" as never,
  allow: { met: true, reasons },
  deny: { met: false, reasons: [] },
  rule: "policy[0].allow.or",
  trace: {
    rule: "policy[0].allow.or",
    rules: [{ rule: "policy[0].allow.or", met: true, criteriaMet: ["groups"], criteriaUnmet: [], criteriaMore: 0 }],
    more: 0,
    facts: [{ fact: "group:eng", criteria: ["groups"], member: true, position: 12, exact: true }],
    factsMore: 0,
  },
  shadow: { result: "deny", status: 403, reasons: ["user-unauthorized"] },
  applied: link,
  latencyMs: 0.4,
});

const act: ActRecord = {
  ...{ node, boot, region: "here", at },
  commandId: "019f0000-0000-7000-8000-000000000002",
  actor: "user:u-admin",
  command: "suspendUser",
  targets: ["user:u-1"],
  targetsMore: 0,
  reason: "left the company",
  outcome: "done",
  code: null,
  link,
  latencyMs: 4.2,
};

export const samples: Readonly<Record<string, AuditRecord>> = {
  decision: { kind: "decision", seq: 1, ...full },
  denied: {
    ...{ kind: "decision", seq: 2, ...decision("/", { at, ip: "", host: "", routeId: null, method: "BREW" }) },
    ...{ result: "not_found", status: 404, reasons: ["route-not-found"], overdueMs: null },
  },
  anonymous: { kind: "decision", seq: 3, ...decision("/", { at, result: "signin", status: 401 }) },
  redecision: {
    ...{ kind: "decision", seq: 4, ...decision("/", { at, result: "deny", status: 403, occasion: "redecision" }) },
    cutMs: 41,
  },
  closed: {
    ...{ kind: "decision", seq: 5, ...decision("/socket", { at, occasion: "closed", reasons: [] }) },
    closed: { cause: "not-permitted", link, cutMs: 41, durationMs: 61_000.5, bytes: 5_000, bytesReceived: 20 },
  },
  ended: {
    ...{ kind: "decision", seq: 6, ...decision("/socket", { at, occasion: "closed", reasons: [], method: "CONNECT" }) },
    closed: { cause: "ended", durationMs: 61_000, bytes: 5_000, bytesReceived: 20 },
  },
  operator: { kind: "operator", seq: 7, ...act },
  refused: {
    ...{ kind: "operator", seq: 8, ...act, actor: "token:t-1", command: "eraseUser", reason: null },
    ...{ outcome: "refused", code: "no-such-user", link: null },
  },
  operatorRead: {
    ...{ kind: "operator", seq: 11, ...act, command: "GET /users/:user", reason: null, link: null, latencyMs: 0 },
    ...{ ip: "192.0.2.9", count: 3 },
  },
  operatorRefused: {
    ...{ kind: "operator", seq: 12, ...act, actor: "anonymous", command: "POST /users/:user/erase", targets: [] },
    ...{ reason: null, link: null, outcome: "refused", code: "401", ip: "192.0.2.9" },
  },
  signIn: {
    ...{ kind: "authentication", seq: 9, ...act, actor: "service:authenticate", command: "createSession" },
    ...{ targets: ["session:s-1", "user:u-1", "provider:default"], reason: null, ip: "192.0.2.8" },
  },
  signOut: {
    ...{ kind: "authentication", seq: 10, ...act, actor: "service:authenticate", command: "revokeSession" },
    ...{ targets: ["session:s-1"], reason: "sign-out", outcome: "unavailable", link: null },
  },
  gap: {
    ...{ kind: "gap", seq: 20, node, boot, at, first: 11, last: 20, reason: "killed", atLeast: 0 },
    ...{ fromMs: at - 100, toMs: at, why: "the process ended before it had stored them" },
  },
};

/** As builds before this one wrote them. */
export const oldRecords: readonly unknown[] = [
  { kind: "decision", seq: 1, ...decision("/", { at, applied: genesis }) },
  { kind: "gap", seq: 3, node, boot, at, first: 2, last: 3, why: "the sink fell behind" },
  {
    ...{ kind: "gap", seq: 1, node, boot, at, first: 1, last: 1, why: "an earlier boot did not end well" },
    ended: { boot: "boot-0", written: 5, used: 7, reserved: 256 },
  },
];
