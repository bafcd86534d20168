/**
 * Page: the content of an HTML page, as data. `Render` turns it into HTML.
 *
 * - It never holds a token, a cookie or a key.
 * - `condition` says what happened; the renderer has the words. `title` and `description` are for programs, and do not
 *   change with the words of a page.
 * - Any text in it may come from outside; the renderer escapes it.
 * - The renderer links only to paths of this host and to http(s) URLs.
 * - `Render` is an argument, so this folder never imports the console.
 *
 * Pure.
 */
import type { AccessRequest, Claims, Fact, UnixMs } from "../../events/index.ts";
import type { RouteRequirements } from "../authorize/requirements.ts";
import type { FoundRoute, RefusedRoute } from "../route-catalog.ts";
import type { PageCondition } from "./page-condition.ts";

/** The signed-in reader. Absent or null on a page: not signed in, or not shown. */
export type PageUser = Readonly<{ name: string; email: string }>;

/** A row of the details of a denial, for the route's owner. */
export type DetailRow =
  | Fact<"route", { id: string }>
  | Fact<"decided-at", { epoch: number; position: number }>
  | Fact<"node", { node: string }>
  | Fact<"configuration", { hash: string }>
  /** Null: no rule did. */
  | Fact<"decided-by", { rule: string | null }>
  /** The words of an attached policy about itself. */
  | Fact<"policy", { name: string; words: string }>
  /** The criteria by name, with + or - in front. */
  | Fact<"rule", { rule: string; met: boolean; criteria: readonly string[] }>
  | Fact<
      "fact",
      {
        fact: "session" | "user" | "group" | "device" | "configuration" | "record";
        /** The event that set it, or one before (`exact` false); 0: none did; null: it is not in the log. */
        position: number | null;
        exact: boolean;
      }
    >;

export type ErrorPage = Fact<
  "error",
  {
    status: number;
    condition: PageCondition;
    /** What programs get, a few words: "Access denied". */
    title: string;
    /** What programs get, one or two sentences without internals. */
    description: string;
    /** Sorted reason words of policy (docs/pomerium-behaviour.md §6.3). The page explains each in a sentence. */
    reasons: readonly string[];
    requestId: string;
    at: UnixMs;
    /** What the route requires; null: not shown to this reader. */
    explain: RouteRequirements | null;
    user?: PageUser | null;
    /** The requested host, as the reader knows it: `eng.example.com`. */
    host?: string | null;
    /** Name of the route; only where the reader may know it. Absent: the host stands for it. */
    app?: string | null;
    /** Who decides about access to the route: its `owner`. */
    owner?: string | null;
    /** Where the reader can ask for access; absent: nowhere here. */
    requestAccessUrl?: string | null;
    /** The routes portal; absent: this host has none. */
    appsUrl?: string | null;
    /** Sign-in URL, also for another account. */
    signInUrl?: string | null;
    signOutUrl?: string | null;
    /** Continues with a sign-in that the browser already has on another host; only where none can be started. */
    existingSignInUrl?: string | null;
    /** True: the request was a write (a form, an upload) and none of it was forwarded. Absent: false. */
    unsent?: boolean;
    /** Retry URL; only if a retry can help. */
    retryUrl?: string | null;
    /** Seconds, as in the `Retry-After` header sent with the page. */
    retryAfterS?: number | null;
    /** Rows for the route's owner, collapsed; only with `show_error_details`. */
    details?: readonly DetailRow[];
  }
>;

export type UserInfoPage = Fact<
  "user-info",
  {
    at: UnixMs;
    /** The three are null together: not signed in. */
    user: (PageUser & Readonly<{ userId: string; subject: string; emailVerified: boolean }>) | null;
    session: Readonly<{
      sessionId: string;
      /** The name of the provider that people read. */
      idpId: string;
      issuedAt: UnixMs;
      expiresAt: UnixMs;
      refreshedAt: UnixMs | null;
    }> | null;
    claims: Claims | null;
    groups: readonly Readonly<{ id: string; name: string }>[];
    routes?: readonly Readonly<{ name: string; url: string; description: string }>[];
    signInUrl?: string | null;
    signOutUrl?: string | null;
    /** The routes portal; absent: this host has none. */
    appsUrl?: string | null;
    /** The account page of the authenticate host, where a person ends sessions; absent: this is it. */
    accountUrl?: string | null;
    /** The person's sessions, only on the authenticate host. */
    sessions?: Readonly<{
      list: readonly AccountSession[];
      /** All of them; the list has the newest. */
      count: number;
      /** A form that ends all but this one; null: there is no other. */
      othersUrl: string | null;
      /** The page that asks before every session ends. */
      everywhereUrl: string;
    }>;
    /** What this browser has just ended. */
    ended?: EndedSessions | null;
  }
>;

/** One of the person's own sessions. */
export type AccountSession = Readonly<{
  isCurrent: boolean;
  /** It began with a token that a program showed. */
  isToken: boolean;
  /** The name of the provider that people read. */
  provider: string;
  issuedAt: UnixMs;
  /** Null: use is not tracked. */
  seenAt: UnixMs | null;
  expiresAt: UnixMs;
  /** A form that ends it; null: this browser's own. */
  signOutUrl: string | null;
}>;

/** Sessions that a person has ended, and how far that is enforced. */
export type EndedSessions = Readonly<{
  what: "this" | "one" | "others" | "all";
  count: number;
  reach:
    | Fact<"everywhere", { at: UnixMs }>
    /** So many of the servers can use it no more; the others within a time. */
    | Fact<"spreading", { confirmed: number; servers: number; withinMs: number }>
    /** This region is cut off, and only its servers have it. */
    | Fact<"region", { complete: boolean }>
    /** It had ended before. */
    | Fact<"already", unknown>
    /** It is recorded, and no receipt is available. */
    | Fact<"unknown", unknown>;
}>;

export type SignOutConfirmPage = Fact<
  "sign-out-confirm",
  {
    /** The signed URL that the button posts to. */
    action: string;
    user?: PageUser | null;
    /** Target of the cancel link. */
    cancelUrl?: string | null;
    /** How many sessions end; absent: this one. */
    sessions?: number;
  }
>;

export type SignedOutPage = Fact<"signed-out", { continueUrl?: string | null; ended?: EndedSessions | null }>;

/**
 * A sign-in that failed: an expired state, a refusal by the identity provider, or a provider that is down.
 */
export type SignInErrorPage = Fact<
  "sign-in-error",
  {
    status: number;
    condition: PageCondition;
    /** What programs get. */
    title: string;
    /** What programs get; the page shows it as the cause, among the details for administrators. */
    description: string;
    requestId: string;
    at: UnixMs;
    /** The identity provider's name; absent: unknown. */
    provider?: string | null;
    /** The provider's `error` and `error_description`; the page marks them as a quote. */
    providerSays?: string | null;
    /** Restarts the sign-in with the same target. */
    retryUrl?: string | null;
    /** The routes portal; absent: this host has none. */
    appsUrl?: string | null;
  }
>;

/** Sign-in succeeded several times in a row, but the route's host still gets no valid session. */
export type SignInLoopPage = Fact<
  "sign-in-loop",
  {
    status: number;
    title: string;
    /** The route's host, `app.example.com`. */
    host: string;
    /** Session cookie of the last request. */
    sessionCookie: "missing" | "refused";
    /** The configured `cookie_domain` if it does not cover the host; null: it is not the cause. */
    uncoveredBy: string | null;
    requestId: string;
    at: UnixMs;
    /** Restarts the same sign-in. */
    retryUrl: string;
  }
>;

/** Several identity providers are allowed: the person chooses one. */
export type ChooseProviderPage = Fact<
  "choose-provider",
  {
    /** The host that the person wants to reach; null: a command line signs in. */
    host: string | null;
    /** `isDown`: it did not answer when it was last asked. The person may still try. */
    providers: readonly Readonly<{ title: string; url: string; isDown: boolean }>[];
  }
>;

/** The address is too long for redirects: the browser stores it and starts a sign-in. The page runs a script. */
export type KeepAddressPage = Fact<
  "keep-address",
  {
    /** Id of the stored address, in the URL where the sign-in ends. */
    id: string;
    address: string;
    signInUrl: string;
  }
>;

/** The end of such a sign-in: sends the browser to the stored address. The page runs a script. */
export type ReturnPage = Fact<
  "return",
  {
    /** Where the link leads: for a tab without a stored address, or with a `Refresh` header beside it. */
    fallbackUrl: string;
    /** `script`: leads to the address that the tab has stored. `header`: leaves that address where it is. */
    continues: "script" | "header";
  }
>;

/** The routes portal: what a person may reach. */
export type RoutesPage = Fact<
  "routes",
  {
    user: PageUser | null;
    /** The search text; empty: none. */
    text: string;
    show: "permitted" | "refused";
    view: "tiles" | "list";
    isFirst: boolean;
    routes: readonly FoundRoute[];
    /** Discoverable routes that refuse the person. */
    refused: readonly (FoundRoute | RefusedRoute)[];
    /** The next page continues behind this route; null: this is the last. */
    next: string | null;
    moreRefused: boolean;
  }
>;

/** Why a request for access was not made or withdrawn. */
export type RequestProblem =
  | "out-of-date"
  | "duration"
  | "reason-missing"
  | "reason-long"
  | "too-many"
  | "too-many-today"
  | "unavailable";

/** Where a person asks for a route that refuses them, and what became of it. */
export type AccessRequestPage = Fact<
  "access-request",
  {
    at: UnixMs;
    /** The name of the route. */
    app: string;
    owner: string | null;
    /** The groups that decide; empty: only single people are named. */
    approvers: readonly string[];
    user: PageUser | null;
    /** The route lets the person in now. */
    isPermitted: boolean;
    /** The newest one; null: there is none. */
    request: Readonly<
      Pick<AccessRequest, "status" | "until" | "requestedAt" | "expiresAt" | "durationMs" | "decidedAt" | "endedAt"> & {
        /** What was written; null: nothing, or not for the pages of this host. */
        reason: string | null;
        note: string | null;
      }
    > | null;
    problem: RequestProblem | null;
    /** The target of the forms. */
    action: string;
    /** Null: nothing can be asked for now. */
    form: Readonly<{
      fields: Readonly<Record<string, string>>;
      durations: readonly number[];
      isReasonRequired: boolean;
      reason: string;
      reasonMax: number;
    }> | null;
    /** The fields of a form that withdraws the request; null: it does not wait. */
    withdraw: Readonly<Record<string, string>> | null;
    /** Where the route opens. */
    openUrl: string;
    /** This page. */
    checkUrl: string;
    /** What the script asks. */
    pollPath: string;
    routeId: string;
  }
>;

export type Page =
  | AccessRequestPage
  | RoutesPage
  | ChooseProviderPage
  | KeepAddressPage
  | ReturnPage
  | SignInLoopPage
  | ErrorPage
  | UserInfoPage
  | SignOutConfirmPage
  | SignedOutPage
  | SignInErrorPage;
/** The reader of a page, as far as it changes the document. */
export type PageReader = Readonly<{
  /** The requested host as in the address bar, `app.example.com:8443`. Null: unknown. */
  host: string | null;
  /** `Accept-Language`; empty: unknown. */
  language: string;
}>;

/** A complete HTML document, with the headers that belong to it: its content security policy names its style sheet. */
export type RenderedPage = Readonly<{ html: string; headers: Readonly<Record<string, string>> }>;

export type RenderPage = (page: Page, reader: PageReader) => RenderedPage;

/**
 * Headers of every page, besides its content security policy: no caching, and no framing by old browsers' rules.
 * A policy never has `form-action` on pages from which people sign in or out: Chromium applies it to the redirects
 * behind a form, and sign-out redirects to the identity provider.
 */
export const pageHeaders: Readonly<Record<string, string>> = {
  "content-type": "text/html; charset=utf-8",
  "referrer-policy": "same-origin",
  "x-content-type-options": "nosniff",
  "cache-control": "no-store",
};

/**
 * JSON form of a denial (docs/pomerium-behaviour.md §6.7 d), for a caller that prefers JSON.
 * @param signInUrl sign-in URL for a script of a page; null: the caller cannot be redirected
 */
export function denialJson(page: ErrorPage, signInUrl: string | null): string {
  const where = signInUrl === null ? {} : { sign_in_url: signInUrl };
  return JSON.stringify({ error: page.title, request_id: page.requestId, ...where });
}

/**
 * JSON form of an error in a built-in handler (docs/pomerium-behaviour.md §6.7), sent when `Accept` is exactly
 * `application/json`.
 */
export function handlerErrorJson(page: ErrorPage | SignInErrorPage): string {
  return JSON.stringify({ Status: page.status, description: page.description, RequestID: page.requestId });
}
