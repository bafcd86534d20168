/**
 * Sign in with Apple, as far as its documentation describes it: OpenID Connect with `response_mode=form_post`, a client
 * secret that is a JWT signed with the team's ES256 key, no userinfo, and the person's name in the form of the first
 * sign-in alone.
 */
import { createHash, createPublicKey, randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";
import { exportJWK, generateKeyPair, jwtVerify, SignJWT } from "jose";

export type AppleServer = Readonly<{
  issuer: URL;
  clientId: string;
  teamId: string;
  keyId: string;
  person: { sub: string; email: string; firstName: string; lastName: string };
  /** The secrets that the token endpoint received. */
  secrets: string[];
}>;

type Grant = Readonly<{ nonce: string; challenge: string; redirectUri: string }>;
/** Apple accepts a secret for at most six months. */
const secretSMax = 15_777_000;

/** @param privateKey PEM of the team's key, of which Apple has the public half */
export async function startApple(t: Pick<TestContext, "after">, privateKey: string): Promise<AppleServer> {
  const server = createServer((req, res) => void serve(req, res));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const issuer = new URL(`http://appleid.localhost:${(server.address() as AddressInfo).port}`);
  const keys = await generateKeyPair("RS256");
  const jwk = { ...(await exportJWK(keys.publicKey)), kid: "apple-1", alg: "RS256", use: "sig" };
  const apple: AppleServer = {
    issuer,
    clientId: "com.example.sign-in",
    teamId: "DEF123GHIJ",
    keyId: "ABC123DEFG",
    person: { sub: "001234.5b3a.0001", email: "j@privaterelay.example", firstName: "Jane", lastName: "Appleseed" },
    secrets: [],
  };
  const codes = new Map<string, Grant>();
  const known = new Set<string>();
  const refreshTokens = new Set<string>();

  async function serve(req: IncomingMessage, res: ServerResponse): Promise<void> {
    let text = "";
    for await (const chunk of req) text += String(chunk);
    const url = new URL(req.url ?? "/", issuer);
    const json = (status: number, body: unknown): void => {
      res.writeHead(status, { "content-type": "application/json" });
      res.end(JSON.stringify(body));
    };
    switch (url.pathname) {
      case "/.well-known/openid-configuration":
        return json(200, metadata());
      case "/auth/keys":
        return json(200, { keys: [jwk] });
      case "/auth/authorize":
        res.writeHead(200, { "content-type": "text/html" });
        return void res.end(form(url.searchParams));
      case "/auth/token": {
        const [status, body] = await token(new URLSearchParams(text));
        return json(status, body);
      }
      default:
        return json(404, {});
    }
  }

  const metadata = () => ({
    issuer: issuer.origin,
    authorization_endpoint: `${issuer.origin}/auth/authorize`,
    token_endpoint: `${issuer.origin}/auth/token`,
    jwks_uri: `${issuer.origin}/auth/keys`,
    response_types_supported: ["code"],
    response_modes_supported: ["query", "fragment", "form_post"],
    subject_types_supported: ["pairwise"],
    id_token_signing_alg_values_supported: ["RS256"],
    scopes_supported: ["openid", "email", "name"],
    token_endpoint_auth_methods_supported: ["client_secret_post"],
  });

  /** The page whose form a browser posts by itself. */
  function form(query: URLSearchParams): string {
    if (query.get("response_mode") !== "form_post" || query.get("client_id") !== apple.clientId)
      return "invalid_request";
    const code = randomBytes(16).toString("hex");
    const redirectUri = query.get("redirect_uri") ?? "";
    codes.set(code, { nonce: query.get("nonce") ?? "", challenge: query.get("code_challenge") ?? "", redirectUri });
    const { sub, email, firstName, lastName } = apple.person;
    const fields = new URLSearchParams({ state: query.get("state") ?? "", code });
    if (!known.has(sub)) fields.set("user", JSON.stringify({ name: { firstName, lastName }, email }));
    known.add(sub);
    return `<form method="post" action="${redirectUri}" data-fields="${fields.toString().replaceAll("&", "&amp;")}">`;
  }

  async function token(body: URLSearchParams): Promise<readonly [number, object]> {
    if (!(await isOurSecret(body.get("client_secret") ?? ""))) return [400, { error: "invalid_client" }];
    if (body.get("grant_type") === "refresh_token")
      return refreshTokens.has(body.get("refresh_token") ?? "")
        ? [200, { access_token: "a", token_type: "Bearer", expires_in: 3600, id_token: await idToken(null) }]
        : [400, { error: "invalid_grant" }];
    const grant = codes.get(body.get("code") ?? "");
    codes.delete(body.get("code") ?? "");
    const hash = createHash("sha256")
      .update(body.get("code_verifier") ?? "")
      .digest("base64url");
    if (grant === undefined || hash !== grant.challenge || body.get("redirect_uri") !== grant.redirectUri)
      return [400, { error: "invalid_grant" }];
    const refreshToken = randomBytes(16).toString("hex");
    refreshTokens.add(refreshToken);
    const tokens = { access_token: "a", token_type: "Bearer", expires_in: 3600, refresh_token: refreshToken };
    return [200, { ...tokens, id_token: await idToken(grant.nonce) }];
  }

  function idToken(nonce: string | null): Promise<string> {
    const { sub, email } = apple.person;
    const claims = { email, email_verified: "true", is_private_email: "true", ...(nonce === null ? {} : { nonce }) };
    return new SignJWT({ ...claims, nonce_supported: true })
      .setProtectedHeader({ alg: "RS256", kid: "apple-1" })
      .setIssuer(issuer.origin)
      .setAudience(apple.clientId)
      .setSubject(sub)
      .setIssuedAt()
      .setExpirationTime("10m")
      .sign(keys.privateKey);
  }

  async function isOurSecret(secret: string): Promise<boolean> {
    apple.secrets.push(secret);
    try {
      const { payload, protectedHeader } = await jwtVerify(secret, createPublicKey(privateKey), {
        algorithms: ["ES256"],
        issuer: apple.teamId,
        subject: apple.clientId,
        audience: issuer.origin,
        requiredClaims: ["iat", "exp"],
      });
      return protectedHeader.kid === apple.keyId && (payload.exp ?? 0) - (payload.iat ?? 0) <= secretSMax;
    } catch {
      return false;
    }
  }

  return apple;
}
