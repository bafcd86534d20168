/**
 * Provider choice: the client at an identity provider that a sign-in uses, and the page on which a person chooses one.
 *
 * - A sign-in names the providers that its route allows. With one of them, no page is shown.
 * - Each link of the page is a signed URL that names the choice. No cookie remembers it.
 */
import type { FastifyReply } from "fastify";
import type { ChooseProviderPage } from "../../reply/page.ts";
import { type AuthDeps, currentKey, nowS, type PageCall, sendPage } from "../context.ts";
import { parseSignInUrl, type SignInRequest, signInUrl } from "./sign-in-request.ts";

/** The clients among which a sign-in may choose. Those that are no longer configured are left out, if others are. */
export function allowedIdpIds({ settings }: Pick<AuthDeps, "settings">, { idpIds }: SignInRequest): readonly string[] {
  if (idpIds.every((id) => id === "")) return settings.defaultIdpIds;
  const known = idpIds.filter((id) => settings.idpIds.has(id));
  return known.length === 0 ? idpIds.slice(0, 1) : known;
}

/** The client that a sign-in uses; undefined: the person has to choose first. */
export function chosenIdpIdOf(deps: Pick<AuthDeps, "settings">, signIn: SignInRequest): string | undefined {
  const allowed = allowedIdpIds(deps, signIn);
  const chosen = allowed.find((id) => id === signIn.chosenIdpId);
  return chosen ?? (allowed.length > 1 ? undefined : (allowed[0] ?? ""));
}

export function sendProviderChoice(call: PageCall & Readonly<{ deps: AuthDeps }>, signIn: SignInRequest): FastifyReply {
  const { deps } = call;
  const { settings } = deps;
  const providers = allowedIdpIds(deps, signIn).map((idpId) => ({
    title: settings.providerNames.get(idpId)?.title ?? "another provider",
    isDown: deps.providerOf(idpId)?.status() === "down",
    url: signInUrl(settings.authenticateUrl, { ...signIn, chosenIdpId: idpId }, currentKey(deps), nowS(deps)).href,
  }));
  const { hostname } = signIn.redirectUri;
  const host = signIn.programmatic === "programmatic" ? null : hostname;
  const page: ChooseProviderPage = { type: "choose-provider", host, providers };
  // The address of this page is a signed URL: links on it must not send it as a referrer.
  return sendPage(call, 200, page, { "referrer-policy": "no-referrer" });
}

/**
 * Where a person goes who chose on a page that lay open for too long: to the page that they wanted, where the sign-in
 * starts again. Undefined: the URL is no choice, or leads elsewhere.
 * @param url its signature is valid, and has expired
 */
export function restartOfOldChoice({ settings }: Pick<AuthDeps, "settings">, url: URL): URL | undefined {
  const signIn = parseSignInUrl(url);
  if (signIn?.chosenIdpId == null || signIn.programmatic === "programmatic") return undefined;
  return settings.isRouteOrigin(signIn.redirectUri.origin) ? signIn.redirectUri : undefined;
}
