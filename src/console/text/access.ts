/** Words of the page on which a person asks for access. Pure. */
import type { RequestProblem } from "../../auth/index.ts";

const list = new Intl.ListFormat("en", { type: "disjunction" });

/** 90 minutes as "1 hour 30 minutes". */
function duration(ms: number): string {
  const minutes = Math.max(1, Math.round(ms / 60_000));
  const parts: readonly (readonly [count: number, unit: string])[] = [
    [Math.floor(minutes / 1_440), "day"],
    [Math.floor((minutes % 1_440) / 60), "hour"],
    [minutes % 60, "minute"],
  ];
  return parts
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}${count === 1 ? "" : "s"}`)
    .join(" ");
}

const problems: Readonly<Record<RequestProblem, string>> = {
  "out-of-date": "This page is out of date, so nothing was sent. Check below and send it again.",
  duration: "Choose how long you need access.",
  "reason-missing": "Write a reason, so that the approver knows why.",
  "reason-long": "The reason is too long. Shorten it to 300 characters.",
  "too-many": "Too many requests are waiting. Withdraw one of yours, or try again later.",
  "too-many-today": "You've made 30 requests within a day. Try again tomorrow.",
  unavailable: "It's not known whether your request was saved. Send it again: it counts once.",
};

export const access = {
  title: (app: string) => `Request access to ${app}`,
  lead: "An approver sees your name and what you write here. Access ends by itself.",
  waitingTitle: (names: readonly string[], owner: string | null) =>
    names.length > 0
      ? `Waiting for ${list.format(names)}`
      : owner === null
        ? "Waiting for an approver"
        : `Waiting for ${owner}`,
  waiting: (app: string) => `You asked for ${app}. This page opens it once your request is approved.`,
  openedTitle: (app: string) => `You have access to ${app}`,
  opened: "Open it now. The access ends by itself.",
  openedOther: "Your account is among those that may open it.",
  approvedShut: (app: string) =>
    `Your request was approved, but ${app} still refuses you. Something else is missing: ask its owner.`,
  until: "Access ends",
  over: {
    denied: "Your last request was denied.",
    withdrawn: "You withdrew your last request.",
    lapsed: "No one decided about your last request in time.",
    expired: "Your access has ended.",
    ended: "Your access was ended early.",
    replaced: "A newer request replaced this one.",
    removed: "An operator ended your access.",
  },
  note: (note: string) => `The approver wrote: ${note}`,
  reason: "Reason",
  reasonOptional: "Reason (optional)",
  reasonHint: "Who asked you, and for what. Up to 300 characters.",
  length: "For how long",
  duration,
  send: "Send request",
  again: "Ask again",
  withdraw: "Withdraw request",
  check: "Check again",
  open: (app: string) => `Open ${app}`,
  requested: "Requested",
  asked: "Asked for",
  lapses: "Lapses",
  yourReason: "Your reason",
  problems,
} as const;
