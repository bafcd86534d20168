/**
 * Demo provider server: an OpenID provider for demonstrations, built on the package oidc-provider with our sign-in
 * page. Any password opens any account, so it must never be a real identity provider.
 *
 * - Every URL that it issues is under the configured issuer, whatever Host or X-Forwarded-* a request carries, so it
 *   works the same behind the proxy and when called directly.
 * - It shows the form at every sign-in: a revoked session must not return by itself, and another user can sign in. The
 *   links of a guide are the exception, and each counts for one sign-in.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type * as OidcProvider from "oidc-provider";
import type { Configuration, interactionPolicy, Provider } from "oidc-provider";
import { createLocalFetch } from "../auth/index.ts";
import { startDemoControl } from "./demo-control-server.ts";
import { handleInteraction, handleQuickSignIn, interactionOf, quickSignInPath, sendNote } from "./demo-interaction.ts";
import { providerNotePage } from "./demo-pages.ts";
import { type DemoProviderKeys, loadDemoKeys } from "./demo-provider-key-file.ts";
import { openDemoStore } from "./demo-provider-sqlite.ts";
import { setPage, signedOut, signOut, skipConfirmationWithoutSession } from "./demo-sign-out.ts";
import { claimsOf, type DemoUser, demoClaims, demoScopes, demoUsers, UnknownDemoUserError } from "./demo-users.ts";
import { type ListenAddress, listenServer } from "./listen-server.ts";

export type DemoProviderOptions = Readonly<{
  /** Where browsers and clients find it: an origin, without a path. */
  issuer: URL;
  /** Port 0: any free one. */
  listen: ListenAddress;
  clientId: string;
  clientSecret: string;
  clientName?: string;
  redirectUris: readonly string[];
  postLogoutRedirectUris: readonly string[];
  /** Where it reports the end of its sessions (OpenID Connect Back-Channel Logout); absent: nowhere. */
  backchannelLogoutUri?: string;
  /** Stores keys, grants and tokens over restarts; absent: in memory. */
  dataDir?: string;
  /** Absent: those of the data folder, or new ones. Creating them takes longer than everything else here. */
  keys?: DemoProviderKeys;
  users?: readonly DemoUser[];
  /** A listener on loopback that changes people's groups; absent: there is none. */
  control?: ListenAddress;
  /** Origins to which a link that signs a person in without a form may lead; absent: there are no such links. */
  quickSignIn?: readonly string[];
  /** Lifetime of access tokens in seconds: clients refresh, and see changed groups, about this often. Default 300. */
  accessTokenS?: number;
  /** Called with internal errors; absent: dropped. */
  onError?: (error: unknown) => void;
}>;

export type DemoProvider = Readonly<{
  /** Where it listens, which is not the issuer. */
  url: URL;
  /** Null without `control`. */
  controlUrl: URL | null;
  /**
   * Changes the groups claim from the next sign-in or refresh on, until a restart.
   * @throws UnknownDemoUserError
   */
  setGroups: (user: string, groups: readonly string[]) => void;
  close: () => Promise<void>;
}>;

const reportMsMax = 2_000;
const signInS = 14 * 3600;
const grantS = 14 * 24 * 3600;

export async function startDemoProvider(options: DemoProviderOptions): Promise<DemoProvider> {
  if (options.issuer.pathname !== "/") throw new TypeError("the demo issuer is an origin, without a path");
  const people = new Map((options.users ?? demoUsers).map((user) => [user.user, user]));
  const keys = options.keys ?? (await loadDemoKeys(options.dataDir));
  const store = openDemoStore(options.dataDir, () => Math.floor(Date.now() / 1000));
  const clientName = options.clientName ?? "Cardea";
  const onError = options.onError ?? (() => {});

  const oidc = await importOidcProvider();
  const { backchannelLogoutUri } = options;
  const local = createLocalFetch({ timeoutMs: reportMsMax });
  const provider: Provider = new oidc.Provider(options.issuer.origin, {
    adapter: store.adapter,
    jwks: keys.jwks,
    clients: [
      {
        client_id: options.clientId,
        client_secret: options.clientSecret,
        client_name: clientName,
        redirect_uris: [...options.redirectUris],
        post_logout_redirect_uris: [...options.postLogoutRedirectUris],
        grant_types: ["authorization_code", "refresh_token"],
        response_types: ["code"],
        ...(backchannelLogoutUri === undefined
          ? {}
          : { backchannel_logout_uri: backchannelLogoutUri, backchannel_logout_session_required: true }),
      },
    ],
    fetch: local.fetch as unknown as typeof fetch, // undici's own types of the same fetch
    claims: demoClaims,
    scopes: demoScopes,
    conformIdTokenClaims: false,
    cookies: { keys: keys.cookieKeys },
    pkce: { required: () => true },
    features: {
      devInteractions: { enabled: false },
      backchannelLogout: { enabled: backchannelLogoutUri !== undefined },
      revocation: { enabled: true, allowedPolicy: (_ctx, client, token) => token.clientId === client.clientId },
      rpInitiatedLogout: {
        enabled: true,
        logoutSource: (ctx) => signOut(ctx, provider, options.clientId),
        postLogoutSuccessSource: signedOut,
      },
    },
    interactions: {
      policy: promptAlways(oidc.interactionPolicy),
      url: (_ctx, interaction) => `/interaction/${interaction.uid}`,
    },
    findAccount(_ctx, sub) {
      const user = people.get(sub);
      return user && { accountId: sub, claims: () => claimsOf(user) };
    },
    // The provider would otherwise drop offline access that was not consented to page by page.
    issueRefreshToken: (_ctx, client) => client.grantTypeAllowed("refresh_token"),
    expiresWithSession: () => false,
    clientBasedCORS: () => false,
    ttl: {
      AccessToken: options.accessTokenS ?? 300,
      IdToken: options.accessTokenS ?? 300,
      AuthorizationCode: 60,
      Interaction: 3600,
      Session: signInS,
      Grant: grantS,
      RefreshToken: grantS,
    },
    renderError(ctx, out) {
      const text = "Go back to the application and start again.";
      const code = `${out.error}: ${out.error_description ?? ""}`;
      setPage(ctx, providerNotePage({ title: "Something went wrong", text, code }));
    },
  } satisfies Configuration);
  provider.proxy = true;
  provider.on("server_error", (_ctx, error) => onError(error));
  provider.on("backchannel.error", (_ctx, error) => onError(error));
  provider.use(skipConfirmationWithoutSession);

  const answer = provider.callback();
  const quickSignIn = options.quickSignIn === undefined ? null : new Set(options.quickSignIn);
  const deps = { provider, people, clientId: options.clientId, clientName, quickSignIn };
  const server = createServer((request, response) => {
    addressToIssuer(request, options.issuer);
    handle(request, response).catch((error: unknown) => {
      onError(error);
      if (response.headersSent) response.destroy();
      else sendNote(response, 500, "This did not work", "Go back to the application and start again.");
    });
  });

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = (request.url ?? "/").split("?", 1)[0] ?? "/";
    const uid = interactionOf(path);
    if (uid !== null) return handleInteraction(deps, uid, request, response);
    if (path === quickSignInPath && quickSignIn !== null)
      return handleQuickSignIn(deps, new URL(request.url ?? "/", options.issuer), response);
    if (path === "/health") return void response.writeHead(200, { "content-type": "text/plain" }).end("OK\n");
    if (path !== "/") return answer(request, response);
    const names = [...people.values()].map((user) => `${user.user} (${user.groups.join(", ") || "no groups"})`);
    return sendNote(response, 200, "Demo identity provider", `Any password opens these accounts: ${names.join("; ")}.`);
  }

  const setGroups = (name: string, groups: readonly string[]): void => {
    const user = people.get(name);
    if (user === undefined) throw new UnknownDemoUserError(name);
    people.set(name, { ...user, groups: [...groups] });
  };

  const open: (() => void | Promise<void>)[] = [store.close, local.close];
  const close = async (): Promise<void> => {
    for (const end of open.splice(0).reverse()) await end();
  };
  try {
    const listening = await listenServer(server, options.listen);
    open.push(listening.close);
    if (options.control === undefined) return { url: listening.url, controlUrl: null, setGroups, close };
    const control = await startDemoControl({
      listen: options.control,
      setGroups,
      users: () => [...people.values()],
    });
    open.push(control.close);
    return { url: listening.url, controlUrl: control.url, setGroups, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Shows the form at every sign-in, even with a session here. `prompt=none` still uses the session. */
function promptAlways({ base, Check }: typeof interactionPolicy): interactionPolicy.DefaultPolicy {
  const policy = base();
  const check = new Check("ask_always", "every sign-in shows the form", (ctx) =>
    ctx.oidc.result?.login === undefined && !ctx.oidc.prompts.has("none")
      ? Check.REQUEST_PROMPT
      : Check.NO_NEED_TO_PROMPT,
  );
  policy.get("login")?.checks.add(check);
  return policy;
}

/** Makes the request look as if it was sent to the issuer. */
function addressToIssuer(request: IncomingMessage, issuer: URL): void {
  request.headers.host = issuer.host;
  request.headers["x-forwarded-proto"] = issuer.protocol.slice(0, -1);
  delete request.headers["x-forwarded-host"];
}

/**
 * Loads oidc-provider when a provider starts, and only then.
 *
 * The package warns on the console while the running Node has no LTS name yet. That line is dropped: Cardea itself
 * logs which Node it runs on.
 */
export async function importOidcProvider(): Promise<typeof OidcProvider> {
  const { warn } = console;
  console.warn = (...line: unknown[]) => {
    if (!String(line[0]).includes("oidc-provider WARNING: Unsupported runtime")) warn(...line);
  };
  try {
    return await import("oidc-provider");
  } finally {
    console.warn = warn;
  }
}
