/**
 * Console words: the frame and the components that views share, and one entry for each area. Pure. An area adds its own
 * file beside this one, and its entry at the end.
 */

import { held, identity } from "./identity-words.ts";
import { configurations, lab } from "./lab-words.ts";
import { overview } from "./overview-words.ts";
import { people } from "./people-words.ts";
import { act, receipt } from "./receipt-words.ts";
import { record } from "./record-words.ts";
import { requests } from "./request-words.ts";
import { settings } from "./settings-words.ts";

const plural = (count: number, one: string, many: string): string => (count === 1 ? one : many);

const frame = {
  brand: (organization: string) => `${organization} console`,
  skip: "Skip to content",
  menu: "Menu",
  groups: { overview: "Overview", who: "Who", access: "Access", record: "Record", system: "System" },
  roles: { viewer: "Viewer", operator: "Operator", administrator: "Administrator" },
  live: (position: string) => `Live ${position}`,
  position: (position: string) => `Position ${position}`,
  paused: "Live updates paused. Reconnecting…",
  behind: (time: string, events: string) => `You're seeing ${time}, ${events} events behind.`,
  behindOne: (time: string) => `You're seeing ${time}, 1 event behind.`,
  unconfirmed:
    "This node can't confirm what it shows: it lost its connection to the cluster. Changes are off until it returns.",
  ended: "Your session ended.",
  endedText: "Sign in again to continue. What you typed stays on this page.",
  signInAgain: "Sign in again",
  who: "Signed in as",
  account: "My account",
  apps: "My apps",
  signOut: "Sign out",
  sameCommand: "The same from a terminal:",
  copy: "Copy",
  copied: "Copied",
  copyId: "Copy ID",
  copyLink: "Copy link",
  linkCopied: "Link copied",
  noneMatch: "Nothing matches these filters.",
  clearFilters: "Clear filters",
  filter: "Filter",
  apply: "Apply",
  remove: (filter: string) => `Remove the filter ${filter}`,
  next: "Next page",
  first: "First page",
  csv: "Download CSV",
  sortBy: (column: string) => `Sort by ${column}`,
  select: (row: string) => `Select ${row}`,
  selectAll: "Select all rows on this page",
  selected: (count: number) => `${count} selected`,
  clearSelection: "Clear selection",
  tryAgain: "Try again",
  failed: "Couldn't load this.",
  failedBrokers: "Couldn't load this. The brokers aren't answering; access decisions continue.",
  failedScope: "This part isn't confined to your groups of routes, so you can't see it.",
  failedRole: (role: string) => `This part needs the role ${role.toLowerCase()}.`,
  erased: (id: string) => `Erased person ${id}`,
  unknown: "Unknown",
  never: "never",
  now: "now",
  ago: (amount: number, unit: "s" | "min" | "h" | "d") => `${amount} ${unit} ago`,
  inFuture: (amount: number, unit: "s" | "min" | "h" | "d") => `in ${amount} ${unit}`,
  cancel: "Cancel",
  close: "Close",
  toReceipt: "Receipt",
  moved: (count: number) => plural(count, "1 row", `${count} rows`),
} as const;

const refusal = {
  title: "You don't have access to the console",
  text: "It's for operators of this installation, and your account isn't one.",
  role: (role: string) => `This page needs the role ${role.toLowerCase()}`,
  roleText: (mine: string) =>
    `You have the role ${mine.toLowerCase()}. An administrator of this installation can give you another one.`,
  holders: "Who has this role",
  limited: "This page isn't confined to your routes",
  limitedText: (groups: string) => `Your role is limited to these groups of routes: ${groups}.`,
  limitedViews: "What you can see",
  limitedWhy:
    "This page would show people, sessions or settings beyond your routes. An administrator of all routes can see it.",
  toOverview: "Go to the overview",
  notFound: "Page not found",
  notFoundText: "The console has no page at this address.",
} as const;

const palette = {
  open: "Search",
  hint: "People, routes, sessions, pages, or a pasted ID",
  label: "Search the console",
  none: "Nothing found.",
  failed: "Search isn't available right now.",
  pages: "Pages",
  kinds: {
    page: "Page",
    person: "Person",
    group: "Group",
    route: "Route",
    session: "Session",
    request: "Request",
    command: "Receipt",
    configuration: "Configuration",
  },
  found: (count: number) => plural(count, "1 result", `${count} results`),
} as const;

const keys = {
  title: "Keys",
  search: "Search everything",
  filter: "Go to the filter",
  list: "This list",
  close: "Close",
  rows: "Next or previous row",
  open: "Open the row",
  select: "Select the row",
  act: "Act on the selection",
  pause: "Pause or continue live updates",
  copyLink: "Copy a link to what you see",
  utc: "Show times in UTC, or in your time zone",
  goTo: (page: string) => `Go to ${page}`,
  off: "Single-key shortcuts",
  theme: "Theme",
  themes: { auto: "As the system", light: "Light", dark: "Dark" },
} as const;

export const consoleWords = {
  frame,
  keys,
  palette,
  refusal,
  receipt,
  act,
  overview,
  record,
  configurations,
  lab,
  identity,
  held,
  requests,
  settings,
  people,
} as const;
