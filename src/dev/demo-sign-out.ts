/**
 * Demo sign-out: how the demo identity provider ends a session (RP-Initiated Logout 1.0), without a script in any page.
 *
 * It redirects only to a registered URI. Without proof of which session is meant, a page asks.
 */
import type { KoaContextWithOIDC, Provider } from "oidc-provider";
import type { RenderedPage } from "../auth/index.ts";
import { providerNotePage, providerSignOutPage } from "./demo-pages.ts";

/** Ends the session at once if an ID token proves which one is meant. Otherwise a page asks. */
export async function signOut(ctx: KoaContextWithOIDC, provider: Provider, clientId: string): Promise<void> {
  const { session, entities } = ctx.oidc;
  if (session?.accountId === undefined) return;
  if (entities.IdTokenHint?.payload["sub"] !== session.accountId) {
    const xsrf = String(session.state?.["secret"] ?? "");
    setPage(
      ctx,
      providerSignOutPage({ action: ctx.oidc.urlFor("end_session_confirm"), xsrf, user: session.accountId }),
    );
    return;
  }
  const grantId = session.grantIdFor(clientId);
  if (grantId !== undefined) {
    await provider.RefreshToken.revokeByGrantId(grantId);
    await provider.AccessToken.revokeByGrantId(grantId);
    await (await provider.Grant.find(grantId))?.destroy();
  }
  await session.destroy();
  ctx.cookies.set(provider.cookieName("session"), null, { httpOnly: true, sameSite: "lax" });
  redirectAfterSignOut(ctx);
}

/** Without a session there is nothing to confirm, so this skips the package's confirmation page and its script. */
export async function skipConfirmationWithoutSession(
  ctx: KoaContextWithOIDC,
  next: () => Promise<void>,
): Promise<void> {
  await next();
  if (ctx.oidc?.route !== "end_session" || ctx.status !== 200 || ctx.oidc.session?.accountId !== undefined) return;
  redirectAfterSignOut(ctx);
}

export function signedOut(ctx: KoaContextWithOIDC): void {
  setPage(ctx, providerNotePage({ title: "You're signed out", text: "You can close this window." }));
}

export function setPage(ctx: Pick<KoaContextWithOIDC, "set" | "body">, { html, headers }: RenderedPage): void {
  ctx.set(headers);
  ctx.body = html;
}

/** The package has checked the URI against the registered ones, and removed it where no client was named. */
function redirectAfterSignOut(ctx: KoaContextWithOIDC): void {
  const to = ctx.oidc.params?.["post_logout_redirect_uri"];
  const state = ctx.oidc.params?.["state"];
  if (typeof to !== "string") {
    ctx.status = 200;
    signedOut(ctx);
    return;
  }
  const url = new URL(to);
  if (typeof state === "string") url.searchParams.set("state", state);
  ctx.status = 303;
  ctx.redirect(url.href);
}
