/**
 * OpenID Connect provider: a real one (oidc-provider) on loopback, with any number of clients and without forms. Every
 * sign-in is the person that the test has set.
 */
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from "jose";
import { createLocalFetch } from "../../src/auth/index.ts";
import { importOidcProvider } from "../../src/dev/demo-provider-server.ts";

export type ProviderClient = Readonly<{
  id: string;
  /** "": the client has none. */
  secret: string;
  redirectUris: readonly string[];
  /** More metadata, such as its own keys. */
  metadata?: Readonly<Record<string, unknown>>;
}>;
export type TestProvider = Readonly<{
  issuer: URL;
  /** The person of the next sign-in. */
  person: { name: string; claims: Readonly<Record<string, unknown>> };
  /** Paths of the requests that the provider answered. */
  requestedPaths: readonly string[];
  /**
   * The current behaviour. `hold` is awaited before a response of the token endpoint is sent, when the provider has
   * already acted.
   */
  state: { down: boolean; hold: () => Promise<unknown> };
  /** How often the token endpoint received each refresh token. */
  refreshTokenUses: ReadonlyMap<string, number>;
  /** Number of token families revoked because a refresh token was used twice. */
  reuseDetected: { families: number };
  /** Logout tokens that a client did not answer with 200. */
  logoutFailures: readonly string[];
  /** An access token for a resource (`audience`), signed by the provider (RFC 9068). */
  accessTokenFor(audience: string, claims?: JWTPayload): Promise<string>;
}>;

/** Where a provider listens with TLS, under a name of its own. */
export type ProviderSite = Readonly<{ issuer: URL; address: string; cert: string; key: string }>;

export async function startProvider(
  t: Pick<TestContext, "after">,
  clients: readonly ProviderClient[],
  /** Without a site it listens on a free port of loopback, without TLS. */
  options: Readonly<{
    refreshTokens?: "rotated";
    site?: ProviderSite;
    /** Where it reports the end of its sessions to every client; `sid`: with the session, `sub`: only the person. */
    backchannelLogout?: Readonly<{ uri: string; names: "sid" | "sub" }>;
    /** Default: idp.localhost. Cookies are kept by name, so each of several providers needs its own. */
    hostname?: string;
    /** Pushed authorization requests (RFC 9126). Absent: not offered. */
    par?: "offered" | "required";
  }> = {},
): Promise<TestProvider> {
  const oidc = await importOidcProvider();
  const { privateKey } = await generateKeyPair("RS256", { extractable: true });
  const key = { ...(await exportJWK(privateKey)), kid: "k1", alg: "RS256", use: "sig" };
  const requestedPaths: string[] = [];
  const state: TestProvider["state"] = { down: false, hold: async () => {} };
  const refreshTokenUses = new Map<string, number>();
  const reuseDetected = { families: 0 };
  const person = { name: "alice", claims: {} as Readonly<Record<string, unknown>> };
  let answer: (req: IncomingMessage, res: ServerResponse) => unknown = () => {};
  const { site, backchannelLogout } = options;
  const local = createLocalFetch({ timeoutMs: 2_000 });
  const onRequest: RequestListener = (req, res) => {
    requestedPaths.push(new URL(req.url ?? "/", "http://x").pathname);
    if (state.down) res.writeHead(500).end("down");
    else void answer(req, res);
  };
  const server = site === undefined ? createServer(onRequest) : createTlsServer(site, onRequest);
  const [port, address] = site === undefined ? [0, "127.0.0.1"] : [Number(site.issuer.port || 443), site.address];
  await new Promise<void>((resolve) => server.listen(port, address, resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
    return local.close();
  });
  const issuer =
    site?.issuer ?? new URL(`http://${options.hostname ?? "idp.localhost"}:${(server.address() as AddressInfo).port}`);
  const claimsOf = (sub: string) => ({
    sub,
    email: `${sub}@example.com`,
    email_verified: true,
    name: sub,
    ...person.claims,
  });
  const provider = new oidc.Provider(issuer.origin, {
    jwks: { keys: [key as never] },
    clients: clients.map(({ id, secret, redirectUris, metadata }) => ({
      client_id: id,
      ...(secret !== "" && { client_secret: secret }),
      redirect_uris: [...redirectUris],
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
      ...(backchannelLogout === undefined
        ? {}
        : {
            backchannel_logout_uri: backchannelLogout.uri,
            backchannel_logout_session_required: backchannelLogout.names === "sid",
          }),
      ...metadata,
    })),
    fetch: local.fetch as unknown as typeof fetch,
    claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name", "role"], groups: ["groups"] },
    scopes: ["openid", "offline_access", "email", "profile", "groups"],
    conformIdTokenClaims: false,
    enabledJWA: { clientAuthSigningAlgValues: ["RS256", "ES256", "EdDSA"] },
    cookies: { keys: ["test"] },
    features: {
      devInteractions: { enabled: false },
      backchannelLogout: { enabled: backchannelLogout !== undefined },
      pushedAuthorizationRequests: {
        enabled: options.par !== undefined,
        requirePushedAuthorizationRequests: options.par === "required",
      },
    },
    interactions: { url: () => "/interaction" },
    findAccount: (_ctx, sub) => ({ accountId: sub, claims: () => claimsOf(sub) }),
    async loadExistingGrant(ctx) {
      const { client, session } = ctx.oidc;
      const accountId = session?.accountId;
      if (client === undefined || accountId === undefined) return undefined;
      const grant = new provider.Grant({ clientId: client.clientId, accountId });
      grant.addOIDCScope("openid offline_access email profile groups");
      await grant.save();
      return grant;
    },
    ...(options.refreshTokens === "rotated" && { rotateRefreshToken: true }),
    issueRefreshToken: (_ctx, client) => client.grantTypeAllowed("refresh_token"),
    ttl: {
      AccessToken: 3_600,
      IdToken: 3_600,
      Grant: 86_400,
      Session: 86_400,
      Interaction: 3_600,
      RefreshToken: 86_400,
    },
  });
  const logoutFailures: string[] = [];
  provider.on("backchannel.error", (_ctx, error) => void logoutFailures.push(String(error)));
  const callback = provider.callback();
  provider.on("grant.revoked", () => {
    reuseDetected.families += 1;
  });
  answer = async (req, res) => {
    if (req.method === "POST" && req.url === "/token")
      await noteToken(req, res, { presented: refreshTokenUses, hold: () => state.hold() });
    if (new URL(req.url ?? "/", "http://x").pathname !== "/interaction") return callback(req, res);
    return provider.interactionFinished(req, res, { login: { accountId: person.name } });
  };
  return {
    ...{
      issuer,
      person,
      requestedPaths,
      state,
      refreshTokenUses,
      reuseDetected,
      logoutFailures,
    },
    accessTokenFor: (audience, claims = {}) =>
      new SignJWT({ sub: person.name, scope: "read", client_id: "cardea", ...claims })
        .setProtectedHeader({ alg: "RS256", kid: "k1", typ: "at+jwt" })
        .setIssuer(issuer.origin)
        .setAudience(audience)
        .setIssuedAt()
        .setExpirationTime("10m")
        .sign(privateKey),
  };
}

/** Counts the refresh token of a request, and delays the response until `hold` resolves. */
async function noteToken(
  req: IncomingMessage & { body?: unknown },
  res: ServerResponse,
  to: Readonly<{ presented: Map<string, number>; hold: () => Promise<unknown> }>,
): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of req) chunks.push(chunk as Buffer);
  req.body = Object.fromEntries(new URLSearchParams(Buffer.concat(chunks).toString()));
  const { refresh_token: token } = req.body as Readonly<Record<string, string>>;
  if (token !== undefined) to.presented.set(token, (to.presented.get(token) ?? 0) + 1);
  const end = res.end.bind(res);
  res.end = ((...rest: Parameters<typeof end>) => {
    void to.hold().then(() => end(...rest));
    return res;
  }) as typeof res.end;
}
