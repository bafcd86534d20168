/**
 * OpenID Connect provider of another implementation than oidc-provider (better-auth), on loopback. Its issuer has a
 * path, it signs ID tokens with EdDSA, returns `iss`, and insists on the method that a client is registered for.
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";
import { oauthProvider } from "@better-auth/oauth-provider";
import { betterAuth } from "better-auth";
import { memoryAdapter } from "better-auth/adapters/memory";
import { toNodeHandler } from "better-auth/node";
import { jwt } from "better-auth/plugins";

export type BetterAuthProvider = Readonly<{
  issuer: URL;
  clientId: string;
  clientSecret: string;
  person: Readonly<{ email: string; password: string; name: string }>;
  /** The address where a person signs in, with a JSON body. */
  signInUrl: URL;
  requestedPaths: readonly string[];
}>;

type ClientApi = Readonly<{
  adminCreateOAuthClient(
    call: Readonly<{ headers: Headers; body: object }>,
  ): Promise<Readonly<{ client_id: string; client_secret?: string }>>;
}>;

const models = "user session account verification jwks oauthClient oauthAccessToken oauthRefreshToken oauthConsent";

export async function startBetterAuth(t: Pick<TestContext, "after">, redirectUri: string): Promise<BetterAuthProvider> {
  const requestedPaths: string[] = [];
  const held: { handle: ReturnType<typeof toNodeHandler> | null } = { handle: null };
  const server = createServer((req, res) => {
    requestedPaths.push(new URL(req.url ?? "/", "http://x").pathname);
    void held.handle?.(req, res);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const origin = `http://second.localhost:${(server.address() as AddressInfo).port}`;
  const tables: Record<string, Record<string, unknown>[]> = Object.fromEntries(models.split(" ").map((m) => [m, []]));
  const auth = betterAuth({
    baseURL: origin,
    secret: Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("base64"),
    database: memoryAdapter(tables),
    emailAndPassword: { enabled: true },
    telemetry: { enabled: false },
    logger: { disabled: true },
    rateLimit: { enabled: false },
    disabledPaths: ["/token"],
    plugins: [
      jwt(),
      // Its declared types of API descriptions do not fit its own plugin type.
      oauthProvider({
        loginPage: "/login",
        consentPage: "/consent",
        scopes: ["openid", "profile", "email", "offline_access"],
        silenceWarnings: { oauthAuthServerConfig: true, openidConfig: true },
      }) as unknown as ReturnType<typeof jwt>,
    ],
  });
  held.handle = toNodeHandler(auth);
  const person = { email: "sam@second.example", password: "a long password", name: "Sam Second" };
  const signedUp = await auth.api.signUpEmail({ asResponse: true, body: person });
  const cookie = signedUp.headers.getSetCookie().map((line) => line.split(";")[0]);
  const api = auth.api as unknown as ClientApi;
  const client = await api.adminCreateOAuthClient({
    headers: new Headers({ cookie: cookie.join("; ") }),
    body: {
      client_name: "cardea",
      redirect_uris: ["https://authenticate.example.com/oauth2/callback/second"],
      token_endpoint_auth_method: "client_secret_basic",
      skip_consent: true,
      scope: "openid profile email offline_access",
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
    },
  });
  // It registers no plain HTTP outside 127.0.0.1, and the tests' hosts are below .localhost.
  for (const row of tables["oauthClient"] ?? []) row["redirectUris"] = [redirectUri];
  return {
    issuer: new URL(`${origin}/api/auth`),
    clientId: client.client_id,
    clientSecret: client.client_secret ?? "",
    person,
    signInUrl: new URL(`${origin}/api/auth/sign-in/email`),
    requestedPaths,
  };
}
