/**
 * Demo interaction: the sign-in dialogue of the demo identity provider, over plain forms.
 *
 * Only the browser that began an interaction can answer it (its cookie). Each sign-in has its own grant, so that ending
 * one session leaves the others.
 *
 * With `quickSignIn`, `/demo/as?user=bob&to=URL` names the person of the browser's next sign-in, which shows no form:
 * a link of a guide is one click. It counts once, for a minute.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Interaction, Provider } from "oidc-provider";
import { providerNotePage, signInPage } from "./demo-pages.ts";
import { type DemoUser, demoScopes } from "./demo-users.ts";

export type InteractionDeps = Readonly<{
  provider: Provider;
  people: ReadonlyMap<string, DemoUser>;
  clientId: string;
  clientName: string;
  /** The origins to which a link of that kind may lead; null: there are no such links. */
  quickSignIn: ReadonlySet<string> | null;
}>;

export const quickSignInPath = "/demo/as";
const nextCookie = "demo_next";
const nextS = 60;

const bodyBytesMax = 8192;
const interactionPath = /^\/interaction\/([\w-]{1,100})$/;

/** Null when the path belongs to no interaction. */
export function interactionOf(path: string): string | null {
  return interactionPath.exec(path)?.[1] ?? null;
}

export function sendNote(response: ServerResponse, status: number, title: string, text: string): void {
  const { html, headers } = providerNotePage({ title, text });
  response.writeHead(status, headers).end(html);
}

export async function handleInteraction(
  deps: InteractionDeps,
  uid: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const interaction = await deps.provider.interactionDetails(request, response).catch(() => null);
  if (interaction?.uid !== uid) {
    const text = "Go back to the application and start again. It remembers the page that you requested.";
    return sendNote(response, 400, "This sign-in has expired", text);
  }
  const next = request.method === "GET" && deps.quickSignIn !== null ? nextPersonOf(deps, request) : undefined;
  if (next !== undefined) {
    const location = await signIn(deps, interaction, next, request, response);
    response.appendHeader("set-cookie", nextCookieOf("", 0));
    response.writeHead(303, { location, "cache-control": "no-store" }).end();
    return;
  }
  if (request.method === "GET" || request.method === "HEAD") return sendSignInPage(deps, interaction, null, response);
  if (request.method !== "POST") return sendNote(response, 405, "Something went wrong", "Use the form.");
  const form = await readForm(request);
  if (form === null) return sendNote(response, 413, "Something went wrong", "The form is too long.");
  if (form.has("cancel")) {
    const result = { error: "access_denied", error_description: "the person cancelled signing in" };
    return deps.provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
  }
  const name = (form.get("user") ?? "").trim().toLowerCase();
  const user = deps.people.get(name);
  if (user === undefined) return sendSignInPage(deps, interaction, name, response);
  response.writeHead(303, {
    location: await signIn(deps, interaction, user, request, response),
    "cache-control": "no-store",
  });
  response.end();
}

/** Answers a link that names the next person. */
export function handleQuickSignIn({ people, quickSignIn }: InteractionDeps, url: URL, response: ServerResponse): void {
  const person = people.get(url.searchParams.get("user") ?? "");
  const target = URL.parse(url.searchParams.get("to") ?? "");
  if (person === undefined || target === null || quickSignIn?.has(target.origin) !== true) {
    sendNote(response, 400, "Something went wrong", "The link names no account, or leads elsewhere.");
    return;
  }
  response.setHeader("set-cookie", nextCookieOf(person.user, nextS));
  response.writeHead(303, { location: target.href, "cache-control": "no-store" }).end();
}

function nextCookieOf(user: string, ageS: number): string {
  return `${nextCookie}=${user}; Max-Age=${ageS}; Path=/interaction; HttpOnly; SameSite=Lax`;
}

function nextPersonOf({ people }: InteractionDeps, { headers }: IncomingMessage): DemoUser | undefined {
  const name = (headers.cookie ?? "")
    .split(";")
    .map((pair) => pair.trim().split("=", 2))
    .find(([key]) => key === nextCookie)?.[1];
  return name === undefined ? undefined : people.get(name);
}

function sendSignInPage(
  deps: InteractionDeps,
  interaction: Interaction,
  unknown: string | null,
  response: ServerResponse,
): void {
  const { login_hint: hint } = interaction.params;
  const { html, headers } = signInPage({
    action: `/interaction/${interaction.uid}`,
    clientName: deps.clientName,
    users: [...deps.people.values()],
    current: interaction.session?.accountId ?? null,
    unknown,
    hint: typeof hint === "string" ? hint : "",
  });
  response.writeHead(unknown === null ? 200 : 422, headers).end(html);
}

/** @returns where the browser goes on */
async function signIn(
  { provider, clientId }: InteractionDeps,
  interaction: Interaction,
  user: DemoUser,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<string> {
  // First-party: a sign-in consents to every requested scope.
  const grant = new provider.Grant({ clientId, accountId: user.user });
  grant.addOIDCScope(demoScopes);
  const result = { login: { accountId: user.user }, consent: { grantId: await grant.save() } };
  const location = await provider.interactionResult(request, response, result, { mergeWithLastSubmission: false });
  const former = interaction.session;
  if (former !== undefined && former.accountId !== user.user) {
    // The package would sign the previous user out with a script in the browser; this does it at once.
    const saved = await provider.Interaction.find<Interaction>(interaction.uid);
    if (saved !== undefined) {
      delete saved.session;
      await saved.persist();
    }
    await (await provider.Session.findByUid(former.uid))?.destroy();
  }
  return location;
}

/** Null when it is too long. */
async function readForm(request: IncomingMessage): Promise<URLSearchParams | null> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.length;
    if (bytes > bodyBytesMax) return null;
    chunks.push(chunk);
  }
  return new URLSearchParams(Buffer.concat(chunks).toString("utf8"));
}
