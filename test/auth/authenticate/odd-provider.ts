/**
 * A scriptable identity provider for tests of responses that the demo provider never gives, including malicious ones.
 */
import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";
import { exportJWK, generateKeyPair, SignJWT, UnsecuredJWT } from "jose";
import { createLocalFetch, createOidcClient, type ProviderClient } from "../../../src/auth/index.ts";

type Answer = Readonly<{ status?: number; headers?: Record<string, string>; body: unknown }>;
type Claims = Record<string, unknown>;

export type OddProvider = {
  readonly issuer: string;
  readonly client: ProviderClient;
  /** The claims of its ID tokens. */
  claims: Claims;
  userinfo: Claims;
  /** Used refresh tokens: each is valid once. */
  readonly usedRefreshTokens: Set<string>;
  /** Requests by path. */
  readonly seen: { path: string; authorization: string | undefined; body: URLSearchParams }[];
  /** Replaces the response to a request; undefined keeps the usual one. */
  instead: (path: string, body: URLSearchParams) => Answer | undefined | Promise<Answer | undefined>;
  signing: "good" | "another key" | "none";
  /** Whether a refresh response includes an ID token. */
  refreshedIdToken: "with" | "without";
  metadata: Record<string, unknown>;
  /** Signs with a new key, and publishes no other. */
  rotateKeys(): Promise<void>;
  count(path: string): number;
  /** Stops accepting connections. */
  close(): void;
};

export const redirectUri = new URL("http://authenticate.localhost:1/oauth2/callback");

export async function startOddProvider(
  t: TestContext,
  metadata: Record<string, unknown> = {},
  /** The clock of the client's caches (ms). */
  monotonic: () => number = () => performance.now(),
): Promise<OddProvider> {
  let good = await generateKeyPair("RS256");
  const bad = await generateKeyPair("RS256");
  let jwk = { ...(await exportJWK(good.publicKey)), kid: "k1", alg: "RS256", use: "sig" };

  const server = createServer((req, res) => void answer(req, res));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  const { port } = server.address() as AddressInfo;
  const issuer = `http://127.0.0.1:${port}`;
  const local = createLocalFetch({ timeoutMs: 3_000 });
  t.after(async () => {
    server.closeAllConnections();
    server.close();
    await local.close();
  });

  const provider: OddProvider = {
    issuer,
    client: createOidcClient(
      {
        issuer: new URL(issuer),
        clientId: "cardea",
        clientSecret: "s:e/c r&e+t",
        scopes: ["openid"],
        requestParams: { prompt: "select_account", state: "not for them to say" },
        redirectUri,
        timeoutS: 2,
        refreshMsMax: 4_000,
      },
      local,
      () => Date.now(),
      monotonic,
    ),
    claims: { sub: "alice", name: "From the ID token", groups: ["eng"], sid: "s1" },
    userinfo: { sub: "alice", name: "From userinfo" },
    usedRefreshTokens: new Set(),
    seen: [],
    instead: () => undefined,
    async rotateKeys() {
      good = await generateKeyPair("RS256");
      jwk = { ...(await exportJWK(good.publicKey)), kid: `k${Number(jwk.kid.slice(1)) + 1}`, alg: "RS256", use: "sig" };
    },
    signing: "good",
    refreshedIdToken: "with",
    metadata,
    close() {
      server.closeAllConnections();
      server.close();
    },
    count: (path) => provider.seen.filter((each) => each.path === path).length,
  };

  async function answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
    let text = "";
    for await (const chunk of req) text += String(chunk);
    const path = (req.url ?? "/").split("?", 1)[0] ?? "/";
    const body = new URLSearchParams(text);
    provider.seen.push({ path, authorization: req.headers.authorization, body });
    const made = (await provider.instead(path, body)) ?? (await usual(path, body));
    const isText = typeof made.body === "string";
    res.writeHead(made.status ?? 200, { "content-type": isText ? "text/html" : "application/json", ...made.headers });
    res.end(isText ? made.body : JSON.stringify(made.body));
  }

  async function usual(path: string, body: URLSearchParams): Promise<Answer> {
    switch (path) {
      case "/.well-known/openid-configuration":
        return {
          body: {
            issuer,
            authorization_endpoint: `${issuer}/authorize`,
            token_endpoint: `${issuer}/token`,
            jwks_uri: `${issuer}/jwks`,
            userinfo_endpoint: `${issuer}/userinfo`,
            revocation_endpoint: `${issuer}/revoke`,
            id_token_signing_alg_values_supported: ["RS256"],
            token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post"],
            ...provider.metadata,
          },
        };
      case "/jwks":
        return { body: { keys: [jwk] } };
      case "/userinfo":
        return { body: provider.userinfo };
      case "/token": {
        const old = body.get("refresh_token");
        if (old !== null) {
          if (provider.usedRefreshTokens.has(old)) return { status: 400, body: { error: "invalid_grant" } };
          provider.usedRefreshTokens.add(old);
        }
        const idToken = old === null || provider.refreshedIdToken === "with" ? { id_token: await idTokenOf() } : {};
        const tokens = {
          access_token: randomUUID(),
          refresh_token: randomUUID(),
          token_type: "Bearer",
          expires_in: 300,
        };
        return { body: { ...tokens, ...idToken } };
      }
      default:
        return { body: {} };
    }
  }

  async function idTokenOf(): Promise<string> {
    const now = Math.floor(Date.now() / 1_000);
    const claims = {
      iss: issuer,
      aud: "cardea",
      jti: randomUUID(),
      iat: now,
      exp: now + 300,
      nonce: "nonce-1",
      ...provider.claims,
    };
    if (provider.signing === "none") return new UnsecuredJWT(claims).encode();
    const key = provider.signing === "good" ? good.privateKey : bad.privateKey;
    return new SignJWT(claims).setProtectedHeader({ alg: "RS256", kid: jwk.kid }).sign(key);
  }

  return provider;
}

/** Completes a sign-in, as if the browser had returned from the provider. */
export const finish = (provider: OddProvider): ReturnType<ProviderClient["finish"]> =>
  provider.client.finish("?code=c1&state=state-1", { state: "state-1", nonce: "nonce-1", verifier: "v".repeat(43) });
