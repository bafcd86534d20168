/**
 * Page: what a person is to be shown, as data. `Render` turns one into HTML; it comes as an argument, so this room
 * never imports the console.
 *
 * Pure. A page never holds a token, a cookie or a key. Every text in it may come from outside and is escaped where it
 * is rendered; every link is followed only where it is a path of ours or an http(s) URL.
 */
import type { Claims, Fact, UnixMs } from "../../events/index.ts";

/** Whom we take the reader for. Absent or null on a page: nobody is signed in, or we do not say. */
export type PageUser = Readonly<{ name: string; email: string }>;

export type ErrorPage = Fact<
  "error",
  {
    status: number;
    /** A few words: "Access denied". */
    title: string;
    /** One or two sentences in the reader's language, without internals. */
    description: string;
    /** Sorted reason words of policy (docs/pomerium-behaviour.md §6.3); the page says in a sentence what each means. */
    reasons: readonly string[];
    requestId: string;
    at: UnixMs;
    /** What is required here, a sentence each; only what this route may show. */
    explain: readonly string[];
    user?: PageUser | null;
    /** What was asked for, as the reader knows it: `eng.example.com`. */
    host?: string | null;
    /** Whom to ask: a sentence, an address or a name. Absent: whoever runs the host. */
    contact?: string | null;
    /** Where to sign in, or to sign in as somebody else. */
    signInUrl?: string | null;
    signOutUrl?: string | null;
    /** The request was to change something (a form, an upload) and nothing of it was forwarded. Absent: it was not. */
    unsent?: boolean;
    /** Where to try the same again: only where trying again can help. */
    retryUrl?: string | null;
    /** Seconds, as in the `Retry-After` header sent with the page. */
    retryAfterS?: number | null;
    /** Rows for the route's owner, shown folded; only with `show_error_details`. */
    details?: readonly Readonly<{ name: string; value: string }>[];
  }
>;

export type UserInfoPage = Fact<
  "user-info",
  {
    at: UnixMs;
    /** The three are null together: nobody is signed in. */
    user: (PageUser & Readonly<{ userId: string; subject: string; emailVerified: boolean }>) | null;
    session: Readonly<{
      sessionId: string;
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
  }
>;

export type SignOutConfirmPage = Fact<
  "sign-out-confirm",
  {
    /** The signed URL that the button posts to. */
    action: string;
    user?: PageUser | null;
    /** Where to go for those who stay. */
    cancelUrl?: string | null;
  }
>;

export type SignedOutPage = Fact<"signed-out", { continueUrl?: string | null }>;

/**
 * Sign-in began and did not end well: an expired state, a refusal of the identity provider, a provider that is down.
 */
export type SignInErrorPage = Fact<
  "sign-in-error",
  {
    status: number;
    title: string;
    description: string;
    requestId: string;
    at: UnixMs;
    /** The identity provider's own words (`error`, `error_description`), marked as such. */
    providerSays?: string | null;
    /** Starts again towards the same place. */
    retryUrl?: string | null;
    contact?: string | null;
  }
>;

/** Sign-in succeeded several times in a row, and the route's host still does not know the visitor. */
export type SignInLoopPage = Fact<
  "sign-in-loop",
  {
    status: number;
    title: string;
    /** The route's host, `app.example.com`. */
    host: string;
    /** What the last request carried. */
    sessionCookie: "missing" | "refused";
    /** The configured `cookie_domain` if it does not cover the host; null: it is not the cause. */
    uncoveredBy: string | null;
    requestId: string;
    at: UnixMs;
    /** Begins the same sign-in again. */
    retryUrl: string;
    contact?: string | null;
  }
>;

/** The address is too long for redirects: the browser keeps it and goes to sign in. The page runs a script. */
export type KeepAddressPage = Fact<
  "keep-address",
  {
    /** Names the kept address in the URL that the sign-in ends at. */
    id: string;
    address: string;
    signInUrl: string;
  }
>;

/** The end of such a sign-in: leads to the kept address. The page runs a script. */
export type ReturnPage = Fact<
  "return",
  {
    /** A path of the same host, for a tab that kept nothing. */
    fallbackUrl: string;
  }
>;

export type Page =
  | KeepAddressPage
  | ReturnPage
  | SignInLoopPage
  | ErrorPage
  | UserInfoPage
  | SignOutConfirmPage
  | SignedOutPage
  | SignInErrorPage;
/** A page as a whole HTML document; send it with `pageHeaders`. */
export type RenderPage = (page: Page) => string;

/**
 * Goes with every page of ours but two: no scripts, nothing from elsewhere, not framed by others, never stored.
 * There is no `form-action`: Chromium applies it to the redirects behind a form, and sign-out redirects to the identity
 * provider.
 */
export const pageHeaders: Readonly<Record<string, string>> = {
  "content-type": "text/html; charset=utf-8",
  "content-security-policy":
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'self'",
  "referrer-policy": "same-origin",
  "x-content-type-options": "nosniff",
  "cache-control": "no-store",
};

/** For the pages that run a script, which is one file of the same host. */
export const scriptedPageHeaders: Readonly<Record<string, string>> = {
  ...pageHeaders,
  "content-security-policy": `${pageHeaders["content-security-policy"]}; script-src 'self'`,
};

/**
 * The JSON twin of a denial (docs/pomerium-behaviour.md §6.7 d): what a caller gets that prefers JSON.
 * @param signInUrl where a script of a page may send its visitor; null: it is nobody who could be sent anywhere
 */
export function denialJson(page: ErrorPage, signInUrl: string | null): string {
  const where = signInUrl === null ? {} : { sign_in_url: signInUrl };
  return JSON.stringify({ error: page.title, request_id: page.requestId, ...where });
}

/**
 * The JSON twin of an error in a handler of ours (docs/pomerium-behaviour.md §6.7): sent when `Accept` is exactly
 * `application/json`.
 */
export function handlerErrorJson(page: ErrorPage | SignInErrorPage): string {
  return JSON.stringify({ Status: page.status, description: page.description, RequestID: page.requestId });
}
