/**
 * Client authentication: how our client proves itself at a provider's endpoints (OIDC Core §9): a secret, a signed
 * assertion (`private_key_jwt`, RFC 7523), or Apple's client secret, which is itself a signed token.
 */
import { createPrivateKey } from "node:crypto";
import { type CryptoKey, importPKCS8, SignJWT } from "jose";
import * as openid from "openid-client";

/** Secrets stay in memory; neither is ever in a URL. */
export type ClientCredentials = Readonly<{
  /** `client_secret`: by the method that the provider announces. */
  clientAuth: "client_secret" | "client_secret_basic" | "client_secret_post" | "private_key_jwt" | "apple";
  /** "" with a private key, and in a process that calls no provider. */
  clientSecret: string;
  /** PKCS#8 PEM. */
  privateKey: string | null;
  keyId: string | null;
  teamId: string | null;
}>;

/** Apple accepts half a year; each of these tokens is used at once. */
const appleSecretS = 300;

/** @param nowMs wall clock */
export function clientAuthOf(credentials: ClientCredentials, nowMs: () => number): openid.ClientAuth {
  const { clientAuth, clientSecret, privateKey } = credentials;
  if (privateKey === null) return bySecret(clientAuth, clientSecret);
  let imported: Promise<CryptoKey> | undefined;
  const signingKey = (): Promise<CryptoKey> => {
    imported ??= importPKCS8(privateKey, algorithmOf(privateKey));
    return imported;
  };
  return clientAuth === "apple"
    ? byAppleSecret(credentials, { signingKey, nowMs })
    : byAssertion(credentials.keyId, signingKey);
}

/** The method that the provider announces; by default HTTP Basic (OIDC Discovery §3). */
function bySecret(method: ClientCredentials["clientAuth"], secret: string): openid.ClientAuth {
  if (secret === "") return openid.None(); // it only verifies tokens, and was given none
  const post = openid.ClientSecretPost(secret);
  const basic = openid.ClientSecretBasic(secret);
  if (method === "client_secret_basic") return basic;
  if (method === "client_secret_post") return post;
  return (server, client, body, headers) => {
    const methods = server.token_endpoint_auth_methods_supported ?? ["client_secret_basic"];
    return (methods.includes("client_secret_post") ? post : basic)(server, client, body, headers);
  };
}

function byAssertion(keyId: string | null, signingKey: () => Promise<CryptoKey>): openid.ClientAuth {
  return async (server, client, body, headers) => {
    const key = await signingKey();
    const auth = openid.PrivateKeyJwt(keyId === null ? key : { key, kid: keyId });
    await auth(server, client, body, headers);
  };
}

/** Sign in with Apple, "Creating a client secret": ES256, the team issues it for the client. */
function byAppleSecret(
  { keyId, teamId }: ClientCredentials,
  { signingKey, nowMs }: Readonly<{ signingKey: () => Promise<CryptoKey>; nowMs: () => number }>,
): openid.ClientAuth {
  return async (server, client, body) => {
    const issuedAt = Math.floor(nowMs() / 1_000);
    const secret = await new SignJWT()
      .setProtectedHeader({ alg: "ES256", kid: keyId ?? "" })
      .setIssuer(teamId ?? "")
      .setSubject(client.client_id)
      .setAudience(server.issuer)
      .setIssuedAt(issuedAt)
      .setExpirationTime(issuedAt + appleSecretS)
      .sign(await signingKey());
    body.set("client_id", client.client_id);
    body.set("client_secret", secret);
  };
}

/** RSA keys sign RS256, which every provider with `private_key_jwt` accepts. The configuration has checked the key. */
function algorithmOf(pem: string): string {
  const { asymmetricKeyType, asymmetricKeyDetails } = createPrivateKey(pem);
  if (asymmetricKeyType === "rsa") return "RS256";
  if (asymmetricKeyType === "ed25519") return "EdDSA";
  const curves: Readonly<Record<string, string>> = { prime256v1: "ES256", secp384r1: "ES384", secp521r1: "ES512" };
  return curves[asymmetricKeyDetails?.namedCurve ?? ""] ?? "ES256";
}
