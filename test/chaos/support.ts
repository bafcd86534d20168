/** Histories for tests of the checker: one session, with times in milliseconds. */
import type { TrafficOptions } from "../../chaos/judge/check-traffic.ts";
import { checkHistory } from "../../chaos/judge/checker.ts";
import {
  type ArrivedEntry,
  type CarriedEntry,
  type CommandEntry,
  type Ending,
  type Entry,
  type FaultEntry,
  historyOf,
  type Intent,
  type LoggedEvent,
  nsPerMs,
  type ReceiptEntry,
  type ReceivedEntry,
  type RequestEntry,
  type SessionEntry,
} from "../../chaos/judge/history.ts";
import type { Check } from "../../chaos/judge/violation.ts";

const at = (ms: number): number => ms * nsPerMs;

export const options: TrafficOptions = {
  windowMsOf: () => 5_000,
  groupOf: (route) => (route === "eng" ? "eng" : null),
  isFirstMember: (_user, group) => group === "eng",
  regionOf: (node) => node.split("-")[1] ?? null,
  home: "eu",
  isStrict: (route) => route === "eng",
  operatorNodeOf: (region) => `authenticate-${region}`,
  allowanceMs: 1_000,
  kernelBytesMax: 4_000_000,
  clients: "load",
  upstream: "upstream",
};

export function session(over: Partial<SessionEntry> = {}): SessionEntry {
  return {
    type: "session",
    session: "s1",
    user: "alice",
    via: "command",
    begin: at(0),
    end: at(5),
    epoch: 1,
    position: 10,
    expiresAt: null,
    ...over,
  };
}

type RequestMs = Readonly<{ begin: number; end: number; arrived?: number; sent?: number }>;

/** Answered by the upstream if `arrived` and `sent` are given, else by the proxy with 503. */
export function request({ begin, end, arrived, sent }: RequestMs, over: Partial<RequestEntry> = {}): RequestEntry {
  const permitted = arrived !== undefined && sent !== undefined;
  return {
    type: "request",
    id: "r1",
    kind: "plain",
    node: "proxy-eu-1",
    route: "app",
    session: "s1",
    begin: at(begin),
    end: at(end),
    outcome: "answered",
    status: permitted ? 200 : 503,
    stamps: permitted ? { arrivedAt: at(arrived), sentAt: at(sent) } : null,
    problem: "",
    ...over,
  };
}

export const received = (sentMs: number, atMs: number, id = "r1"): ReceivedEntry => ({
  type: "received",
  id,
  sentAt: at(sentMs),
  at: at(atMs),
});
export const carried = (sentMs: number, atMs: number, id = "r1"): CarriedEntry => ({
  type: "carried",
  id,
  sentAt: at(sentMs),
  at: at(atMs),
});
export const arrived = (atMs: number, id = "r1"): ArrivedEntry => ({ type: "arrived", id, at: at(atMs) });

export const hashAt = (position: number): string => String(position).padStart(64, "0");

type CommandMs = Readonly<{
  op: string;
  intent: Intent;
  begin: number;
  end: number;
  position?: number;
  complete?: number;
}>;

/** A command done at a position, with a receipt that was complete at `complete`. */
export function command(
  { op, intent, begin, end, position = 20, complete }: CommandMs,
  over: Partial<CommandEntry> = {},
): Entry[] {
  const done: CommandEntry = {
    type: "command",
    op,
    intent,
    region: "eu",
    commandId: `command-${op}`,
    begin: at(begin),
    end: at(end),
    outcome: "done",
    link: { epoch: 1, position, hash: hashAt(position) },
    changed: true,
    problem: "",
    ...over,
  };
  const receipt = (end: number): ReceiptEntry => ({
    type: "receipt",
    op,
    region: "eu",
    begin: at(begin),
    end: at(end),
    complete: true,
    status: "complete",
    durability: "synchronous",
    nodes: [],
    problem: "",
  });
  return complete === undefined ? [done] : [done, receipt(complete)];
}

/** A pause of a proxy, unless the rest says otherwise. */
export function faultOf(beginMs: number, endMs: number, over: Partial<FaultEntry> = {}): FaultEntry {
  return {
    type: "fault",
    index: 0,
    what: "pause-proxy",
    target: "proxy-eu-1",
    regions: ["eu"],
    isolates: [],
    scenario: null,
    begin: at(beginMs),
    inForce: { from: at(beginMs), until: at(endMs) },
    end: at(endMs),
    clear: at(endMs),
    problem: "",
    ...over,
  };
}

export const revocation = (complete: number): Entry[] =>
  command({ op: "revoke-1", intent: { type: "revoke-session", session: "s1" }, begin: 100, end: 120, complete });

/** A log of 30 events. Each named command caused the event at its position, which ends the session. */
export function ending(
  causes: Readonly<Record<number, string>> = { 20: "command-revoke-1" },
  over: Partial<Ending> = {},
): Ending {
  const log = Array.from({ length: 30 }, (_, index): LoggedEvent => {
    const position = index + 1;
    const cause = causes[position] ?? null;
    const [type, stream] = cause === null ? ["SessionCreated", "session:other"] : ["SessionRevoked", "session:s1"];
    return { position, epoch: 1, hash: hashAt(position), type, stream, cause };
  });
  return {
    readyAfterMs: 800,
    readyBoundMs: 20_000,
    notReady: [],
    log,
    logProblem: null,
    leader: { broker: "broker-eu-1", epoch: 1, position: 30, digest: "d" },
    crashes: [],
    nodes: [{ node: "proxy-eu-1", role: "proxy", position: 30, digest: "d" }],
    audit: null,
    records: null,
    ...over,
  };
}

export function violationsOf(
  entries: readonly Entry[],
  end: Ending = ending(),
  over: Partial<TrafficOptions> = {},
): Check[] {
  return checkHistory(historyOf(entries), end, { ...options, ...over }).violations.map((violation) => violation.check);
}
