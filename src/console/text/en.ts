/**
 * English: all words of the pages, as functions of their values.
 *
 * - Pure. A translation is one more file with a value of the type `PageText`, listed in texts.ts.
 * - Each text is a whole sentence around its values, never joined from parts, so that a translation can reorder it.
 * - Values are isolated by the caller where they may be right-to-left.
 */
import type { DetailRow, PageCondition } from "../../auth/index.ts";
import { unreachable } from "../../events/index.ts";
import { access } from "./access.ts";
import { consoleWords } from "./console/console-words.ts";
import { requirements } from "./requirements.ts";

/** The values that the words about a condition may name. */
export type ConditionValues = Readonly<{
  /** The application: its name, or its host. Null: unknown. */
  app: string | null;
  /** Where people get help. Null: not configured. */
  support: string | null;
  /** The identity provider. Null: unknown. */
  provider: string | null;
}>;
export type ConditionWords = Readonly<{ title: string; text: string }>;

const appOf = ({ app }: ConditionValues): string => app ?? "this address";
const appFirst = ({ app }: ConditionValues): string => app ?? "This address";
const supportFirst = ({ support }: ConditionValues): string => support ?? "Your administrator";
const providerOf = ({ provider }: ConditionValues): string => provider ?? "the identity provider";
const providerFirst = ({ provider }: ConditionValues): string => provider ?? "The identity provider";

const conditions: Readonly<Record<PageCondition, (values: ConditionValues) => ConditionWords>> = {
  unauthenticated: (v) => ({
    title: "Sign in to continue",
    text: `${appFirst(v)} is for people who are signed in.`,
  }),
  unsent: () => ({
    title: "Sign in, then send it again",
    text: "You aren't signed in, so what you sent was not forwarded. It's still in this tab.",
  }),
  denied: (v) => ({
    title: `You don't have access to ${appOf(v)}`,
    text: "You're signed in, but its rules don't include your account.",
  }),
  "too-many-groups": (v) => ({
    title: "You're in too many groups",
    text: `You have access to ${appOf(v)}, but you belong to more groups than it can be sent. An administrator can select the groups that it needs.`,
  }),
  "device-unapproved": (v) => ({
    title: "This device isn't approved",
    text: `${appFirst(v)} accepts approved devices only.`,
  }),
  "device-unregistered": (v) => ({
    title: "Register a device first",
    text: `${appFirst(v)} needs one, such as a security key or a fingerprint reader.`,
  }),
  certificate: (v) => ({
    title: "Client certificate required",
    text: `Your browser didn't present a certificate that ${appOf(v)} accepts.`,
  }),
  "no-route": () => ({ title: "Page not found", text: "There's nothing at this address." }),
  upgrade: (v) => ({
    title: "Live connections are turned off",
    text: `${appFirst(v)} doesn't accept WebSockets or other upgrades.`,
  }),
  ambiguous: () => ({
    title: "Bad request",
    text: "It could be read in more than one way, so it was blocked before it reached the app.",
  }),
  method: () => ({ title: "Method not allowed", text: "This kind of request is never forwarded." }),
  "slow-request": () => ({
    title: "Request timed out",
    text: "It took too long to arrive and wasn't forwarded.",
  }),
  "request-timeout": () => ({
    title: "Request timed out",
    text: "It took too long to arrive in full. Part of it may have been forwarded.",
  }),
  "too-large": (v) => ({ title: "Upload too large", text: `It's larger than ${appOf(v)} accepts.` }),
  "address-too-long": () => ({ title: "Address too long", text: "It's longer than this server accepts." }),
  expectation: () => ({
    title: "Expectation failed",
    text: "The request asked for something that this server doesn't support.",
  }),
  "headers-too-large": () => ({
    title: "Too many cookies",
    text: "Your browser sent more than this server accepts. Clear the cookies of this site and try again.",
  }),
  lease: () => ({
    title: "Access checks are paused",
    text: "This server lost its connection to the cluster, so it can't check your access. You're still signed in.",
  }),
  behind: () => ({
    title: "One moment",
    text: "This server hasn't caught up with your sign-in yet. You're still signed in.",
  }),
  provider: (v) => ({
    title: "Can't confirm who you are",
    text: `${providerFirst(v)} isn't answering. You're still signed in.`,
  }),
  data: () => ({
    title: "Can't check your access",
    text: "Information that the rules need isn't available right now.",
  }),
  audit: (v) => ({
    title: "Can't record this visit",
    text: `${appFirst(v)} opens only when visits are recorded, and recording is down.`,
  }),
  busy: (v) => ({ title: `${appFirst(v)} is busy`, text: "It has more requests than it can handle." }),
  unhealthy: (v) => ({ title: `${appFirst(v)} is down`, text: "None of its servers is healthy." }),
  draining: () => ({ title: "Server restarting", text: "Try again to reach another one." }),
  "sign-in-paused": () => ({
    title: "You can't sign in right now",
    text: "New sign-ins can't be recorded at the moment, so you weren't sent to sign in. People who are already signed in can continue.",
  }),
  "upstream-unreachable": (v) => ({
    title: `${appFirst(v)} isn't responding`,
    text: "Cardea is working, but can't reach the service behind this address.",
  }),
  "upstream-broke": (v) => ({
    title: `${appFirst(v)} isn't responding`,
    text: "Cardea is working, but the service behind this address closed the connection before its response was complete.",
  }),
  "upstream-timeout": (v) => ({ title: `${appFirst(v)} took too long`, text: "It didn't answer in time." }),
  internal: () => ({ title: "Something went wrong", text: "Cardea hit an error. The details are in its log." }),
  "page-not-found": () => ({
    title: "Page not found",
    text: "This address belongs to Cardea, but there's no page here.",
  }),
  "handler-method": () => ({ title: "Method not allowed", text: "This address doesn't accept this kind of request." }),
  "handler-failed": () => ({ title: "Something went wrong", text: "Cardea hit an error. Access wasn't granted." }),
  "handler-unreadable": () => ({ title: "Bad request", text: "It couldn't be read." }),
  "sign-in-link": () => ({
    title: "This sign-in link doesn't work",
    text: "It has expired, or wasn't created here. Open the app again.",
  }),
  callback: () => ({
    title: "Sign-in didn't finish",
    text: "The link back from sign-in was damaged, expired or meant for another site. Start again.",
  }),
  "other-browser": () => ({
    title: "Start again in this browser",
    text: "Sign-in began elsewhere, took over 30 minutes, or cookies are blocked.",
  }),
  "used-sign-in": () => ({ title: "You've already used this sign-in", text: "Start again to continue." }),
  "wrong-provider": () => ({
    title: "Sign-in didn't finish",
    text: "The answer came from another identity provider than the one where you signed in. Start again.",
  }),
  "too-many-sign-ins": () => ({
    title: "Too many sign-ins at once",
    text: "Too many people are signing in from your network right now.",
  }),
  suspended: (v) => ({ title: "Your account is suspended", text: `${supportFirst(v)} can restore it.` }),
  "signed-out-meanwhile": () => ({
    title: "You were signed out",
    text: "Your sessions ended while you were signing in.",
  }),
  "not-recorded": () => ({
    title: "Sign-in didn't go through",
    text: "It couldn't be saved, so you're not signed in.",
  }),
  "no-provider": (v) => ({ title: "Sign-in isn't set up", text: `${supportFirst(v)} needs to finish the setup.` }),
  "needs-window": () => ({ title: "Sign in to continue", text: "Open this page in a browser tab." }),
  "provider-silent": (v) => ({
    title: `${providerFirst(v)} isn't answering`,
    text: "You're not signed in yet.",
  }),
  "provider-untrue": (v) => ({
    title: `Couldn't verify the reply from ${providerOf(v)}`,
    text: "You weren't signed in.",
  }),
  "provider-refused": (v) => ({
    title: `${providerFirst(v)} didn't sign you in`,
    text: "Nothing was changed.",
  }),
  "provider-cancelled": (v) => ({
    title: `${providerFirst(v)} didn't sign you in`,
    text: "You cancelled, or your account isn't allowed there.",
  }),
  "redirect-refused": () => ({
    title: "Redirect not allowed",
    text: "pomerium_redirect_uri must be an https URL (http for this machine itself) whose host is listed in programmatic_redirect_domain_whitelist.",
  }),
  "sign-out-elsewhere": () => ({
    title: "Sign-out wasn't started here",
    text: "Another site asked for it. Confirm to sign out.",
  }),
  "account-form": () => ({
    title: "This page is out of date",
    text: "It was open for more than five minutes, or you have signed in again since. Nothing was changed.",
  }),
  "still-signed-in": () => ({ title: "You're still signed in", text: "Sign-out couldn't be saved." }),
};

/**
 * Why a policy refused, for the person: the kind of rule that was not met, never its contents. A stranger learns no
 * group name and no network.
 */
const reasons: Readonly<Record<string, string>> = {
  reject: "This address is closed to everyone.",
  "user-unauthenticated": "Sign in first.",
  "user-unauthorized": "Your account isn't on the list for this app.",
  "email-unauthorized": "Your email address isn't on the list for this app.",
  "domain-unauthorized": "Your email domain isn't allowed.",
  "groups-unauthorized": "You're not in a group that has access.",
  "claim-unauthorized": "Your profile at the identity provider doesn't meet this app's rule.",
  "device-unauthenticated": "Use a registered device.",
  "device-unauthorized": "This device isn't approved.",
  "client-certificate-required": "Your browser didn't present a client certificate.",
  "client-certificate-unauthorized": "Your client certificate isn't allowed here.",
  "invalid-client-certificate": "Your client certificate isn't valid here.",
  "http-method-unauthorized": "This kind of request is not allowed here.",
  "http-path-unauthorized": "You don't have access to this path.",
  "source-ip-unauthorized": "Access from this network isn't allowed.",
  "non-cors-request": "Only cross-origin preflight requests are open here.",
  "mcp-tool-no-match": "You can't use this tool.",
  "mcp-not-a-tool-call": "Only tool calls are allowed here.",
  "ssh-username-unauthorized": "You can't sign in as this user.",
  "ssh-publickey-unauthorized": "This key isn't allowed.",
  "date-unauthorized": "Access isn't allowed on this date.",
  "day-of-week-unauthorized": "Access isn't allowed on this day.",
  "time-of-day-unauthorized": "Access isn't allowed at this time.",
  "record-unauthorized": "Information about you or your network doesn't meet the rule.",
  "record-unavailable": "Information about you or your network isn't available right now.",
  "encoded-separator": "The address contains an encoded slash, so another server could read it as a different address.",
  "path-parameters":
    "The address has parameters after a semicolon, so another server could read it as a different address.",
  "websocket-origin": "A page of another site tried to open this connection with your session.",
  "bearer-token-invalid": "This token is invalid, expired or revoked.",
  "revoked-by-region": "An administrator has ended your session.",
  "two-credentials": "The request has both a token and a session cookie. Send only one of them.",
  "kubernetes-nobody": "Your account has no email, which this cluster needs.",
  "route-not-found": "There's nothing at this address.",
};

/** The sign-in loop page, `<b>` marking the host and the causes. */
const loop = {
  title: "Sign-in keeps starting over",
  missing: (host: string) => `You signed in, but your browser doesn't send the sign-in cookie of ${host} back.`,
  refused: (host: string) => `You signed in, but ${host} doesn't accept the sign-in cookie that your browser sends.`,
  stopped: "Cardea stopped here, so that your browser doesn't go round in circles.",
  causes: "What may be wrong",
  domainUnknown: (host: string) => ({
    title: "The cookie's domain is wrong.",
    text: `The cookie must be set for ${host}. An administrator can check cookie_domain, and proxies in front of this server that change host names or remove cookies.`,
  }),
  domainWrong: (host: string, domain: string) => ({
    title: "The cookie's domain is wrong.",
    text: `The cookie is set for ${domain}, which doesn't cover ${host}, so browsers refuse it. An administrator has to change cookie_domain.`,
  }),
  blocked: (host: string) => ({
    title: "Cookies are blocked.",
    text: `Allow cookies for ${host} in your browser, and turn off extensions that block or delete them.`,
  }),
  clock: {
    title: "A clock is wrong.",
    text: "Compare the server time below with yours. Correct the date and time of this device if they differ.",
  },
  serverClock: {
    title: "A clock is wrong.",
    text: "Compare the server time below with yours. If the server's is wrong, an administrator has to correct it: the session looks expired there.",
  },
  oldCookie: (host: string) => ({
    title: "An old cookie hides the new one.",
    text: `Clear the cookies of ${host} and of its parent domains, then try again. They may come from another site with a wider cookie_domain.`,
  }),
  keys: {
    title: "The servers don't share their keys.",
    text: "An administrator can check that shared_secret is the same everywhere.",
  },
  next: (support: string | null) =>
    `Fix the cause, then try again. If it keeps happening, send ${support ?? "your administrator"} the request ID.`,
} as const;

/** The rest of the pages of errors and sign-in. */
const pages = {
  signedInAs: "Signed in as",
  why: "Why",
  requestId: "Request ID",
  time: "Time",
  serverTime: "Server time",
  address: "Address",
  reason: "Reason",
  details: "Details for administrators",
  cause: "Cause",
  copy: "Copy",
  copied: "Copied",
  providerSays: (provider: string | null) => `${provider ?? "The identity provider"} says:`,
  askOwner: (owner: string) => `Ask ${owner} for access.`,
  askSupport: (support: string | null) =>
    `Ask ${support ?? "your administrator"} for access, with the request ID, or switch to an account that has it.`,
  needHelp: (support: string | null) =>
    `If it keeps happening, send ${support ?? "your administrator"} the request ID.`,
  retrySoon: "Try again in a moment.",
  retryIn: (seconds: number) => (seconds === 1 ? "Try again in a second." : `Try again in ${seconds} seconds.`),
  stillSignedIn: "You're still signed in.",
  returnHere: "You'll return to this page.",
  checkTypos: "Check the address for typos.",
  newTab: "Sign in in a new tab. Then reload this tab: your browser offers to send the same data again.",
  existing: "If you're signed in on another page of this organization, continue with that sign-in.",
  requestAccess: "Request access",
  tryAgain: "Try again",
  signIn: "Sign in",
  signInNewTab: "Sign in (new tab)",
  signInAgain: "Start again",
  useExisting: "Use existing sign-in",
  switchAccount: "Switch account",
  myApps: "My apps",
  goToApps: "Go to my apps",
  signOut: "Sign out",
  continue: "Continue",
  keepAddress: "Your browser remembers the address of this page while you sign in.",
  keepAddressNoScript:
    "JavaScript is off, and the address is too long to pass along. After signing in you return to the page without the part of the address after the question mark.",
  signedIn: "You're signed in",
  returning: "Taking you back to your page.",
  choose: "Choose how to sign in",
  chooseFor: (host: string) => `to open ${host}`,
  chooseForProgram: "A program on your computer asked you to sign in.",
  notResponding: "Not responding right now",
  signOutTitle: "Sign out?",
  signOutText: "This ends your session in every app and closes what's open.",
  signOutAllTitle: "Sign out everywhere?",
  signOutAllText: (count: number) =>
    count === 1
      ? "This ends your session, and closes what's open. You have no other."
      : `This ends all ${count} of your sessions, in every browser and program, and closes what's open.`,
  signOutAll: "Sign out everywhere",
  staySignedIn: "Stay signed in",
  signedOutTitle: "You're signed out",
  signedOutText: "You can close this window.",
  signInOnceMore: "Sign in again",
} as const;

/** A row of the details for administrators. What the configuration or the log names is not translated. */
function details(row: DetailRow): Readonly<{ name: string; value: string }> {
  switch (row.type) {
    case "route":
      return { name: "Route", value: row.id };
    case "decided-at":
      return { name: "Decided at", value: `epoch ${row.epoch}, position ${row.position}` };
    case "node":
      return { name: "Node", value: row.node };
    case "configuration":
      return { name: "Configuration", value: row.hash };
    case "decided-by":
      return { name: "Decided by", value: row.rule ?? "no rule matches, so access is denied" };
    case "policy":
      return { name: row.name === "" ? "Policy" : row.name, value: row.words };
    case "rule":
      return { name: row.rule, value: `${row.met ? "met" : "not met"}: ${row.criteria.join(" ")}` };
    case "fact":
      return { name: factNames[row.fact], value: positionOf(row) };
    default:
      return unreachable(row);
  }
}

/** The name of a fact, without the value that the rules compare with and the groups that they require. */
const factNames = {
  session: "Your session",
  user: "Your account",
  group: "Your groups",
  device: "Your device",
  configuration: "This server's configuration",
  record: "External data",
} as const;

function positionOf({ position, exact }: Extract<DetailRow, { type: "fact" }>): string {
  if (position === null) return "is not in the log";
  if (position === 0) return "no event ever changed it";
  return exact ? `last set by event ${position}` : `last set at or before event ${position}`;
}

/** What a person has ended, and how far that is enforced: never more than a receipt says. */
const ended = {
  this: "You signed out.",
  one: "You signed out of a session.",
  others: (count: number) =>
    count === 1 ? "You signed out of the other session." : `You signed out of ${count} other sessions.`,
  all: (count: number) =>
    count === 1 ? "You signed out everywhere: 1 session." : `You signed out everywhere: ${count} sessions.`,
  everywhere: (time: string) => `Ended on every server at ${time}.`,
  spreading: (confirmed: number, servers: number, seconds: number) =>
    `${confirmed} of ${servers} servers have confirmed. The rest follow within ${seconds} s.`,
  region: "Ended on the servers of this region. The others are out of reach, and end it when they are connected again.",
  regionSpreading: "The servers of this region are ending it. The others are out of reach for now.",
  already: "That session had already ended.",
  unknown: "It's recorded. Which servers have confirmed isn't known right now.",
  checkAgain: "Check again",
} as const;

/** My account. */
const account = {
  title: "My account",
  lead: "Apps see these details about you.",
  notSignedIn: "You're not signed in",
  notSignedInText: "Sign in to see your account and your apps.",
  identity: "Identity",
  name: "Name",
  email: "Email",
  verified: "verified",
  unverified: "not verified",
  subject: "Subject",
  userId: "User ID",
  groups: "Groups",
  none: "None.",
  sessions: (count: number) => `Sessions (${count})`,
  sessionsNote: "Programs that you signed in from a browser, such as cardea tcp, share its session.",
  sessionsElsewhere: "All my sessions",
  olderSessions: (count: number) => (count === 1 ? "and 1 older session" : `and ${count} older sessions`),
  thisBrowser: "This browser",
  otherSession: "Another browser or device",
  tokenSession: "A program with a token",
  signedInWith: (provider: string) => `Signed in with ${provider}`,
  lastUsed: "Last used",
  signOutOne: "Sign out",
  signOutOthers: "Sign out other sessions",
  signOutHere: "Sign out here",
  signOutEverywhere: "Sign out everywhere…",
  details: "Identity details",
  session: "Session",
  sessionId: "Session ID",
  provider: "Identity provider",
  signedIn: "Signed in",
  refreshed: (provider: string) => `Last checked with ${provider}`,
  expires: "Expires",
  expired: "expired",
  withinMinute: "in less than a minute",
  inMinutes: (minutes: number) => `in ${minutes} min`,
  inHours: (hours: number, minutes: number) => `in ${hours} h ${minutes} min`,
  inDays: (days: number) => `in ${days} days`,
  apps: "Apps",
  claims: (count: number) => `Claims from the identity provider (${count})`,
} as const;

/** The routes portal. */
const portal = {
  title: "My apps",
  search: "Search apps",
  searchButton: "Search",
  tiles: "Tiles",
  list: "List",
  pinned: "Pinned",
  pin: "Pin this app",
  web: "Web",
  terminal: "Terminal",
  refused: "You can ask for access",
  owner: (owner: string) => `Owner: ${owner}`,
  more: "More apps",
  firstPage: "Back to the first apps",
  moreRefused: "More that you can ask for",
  showPermitted: "Show the apps that you can open",
  shown: (count: number) => (count === 1 ? "1 app" : `${count} apps`),
  empty: (support: string | null) =>
    `No apps yet. Ask ${support ?? "your administrator"} for access, or open the link that you were given.`,
  nothing: (text: string) => `Nothing matches “${text}”.`,
  nothingHere: "Nothing matches.",
  clear: "Clear the search",
  askFor: (support: string | null) => `Ask ${support ?? "your administrator"} for access.`,
  missing: (support: string | null) => `Something missing? Ask ${support ?? "your administrator"}.`,
} as const;

export const en = {
  language: "en",
  direction: "ltr",
  conditions,
  reasons,
  requirements,
  loop,
  pages,
  details,
  ended,
  account,
  portal,
  access,
  console: consoleWords,
} as const;
