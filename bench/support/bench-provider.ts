/**
 * Bench provider: an OpenID provider that costs little, so that a bench measures its callers. It has no pages: the
 * bench plays the browser and makes the codes. A code and each token name the person; refresh tokens rotate.
 */
import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { exportJWK, generateKeyPair, SignJWT } from "jose";

export type BenchProvider = Readonly<{
  issuer: string;
  /** The code that the provider's redirect carries. */
  codeFor(subject: string, nonce: string): string;
  /** A refresh token that it accepts. */
  refreshTokenFor(subject: string): string;
  /** How many refresh tokens it has answered. */
  refreshed(): number;
  close(): Promise<void>;
}>;

const clientId = "bench";
/** Lifetime of an access token, in seconds. */
const accessTokenS = 3_600;

type Person = Readonly<{ subject: string; nonce: string | null }>;

/** @param delayMs how long each answer takes */
export async function startBenchProvider(delayMs = 0): Promise<BenchProvider> {
  const { publicKey, privateKey } = await generateKeyPair("ES256");
  const jwks = JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: "bench", alg: "ES256", use: "sig" }] });
  let refreshes = 0;
  let issuer = "";

  async function tokensFor({ subject, nonce }: Person): Promise<object> {
    const idToken = await new SignJWT({ ...(nonce === null ? {} : { nonce }), ...claimsOf(subject) })
      .setProtectedHeader({ alg: "ES256", kid: "bench" })
      .setIssuer(issuer)
      .setAudience(clientId)
      .setIssuedAt()
      .setExpirationTime("5m")
      .sign(privateKey);
    return {
      access_token: encodePerson({ subject, nonce: null }),
      refresh_token: `${encodePerson({ subject, nonce: null })}.${randomUUID()}`,
      id_token: idToken,
      token_type: "Bearer",
      expires_in: accessTokenS,
    };
  }

  async function answer(request: IncomingMessage): Promise<object | string> {
    const { pathname } = new URL(request.url ?? "/", issuer);
    if (delayMs > 0) await delay(delayMs);
    switch (pathname) {
      case "/.well-known/openid-configuration":
        return metadataOf(issuer);
      case "/jwks":
        return jwks;
      case "/token": {
        const form = new URLSearchParams(await bodyOf(request));
        const isRefresh = form.get("grant_type") === "refresh_token";
        if (isRefresh) refreshes += 1;
        const [person = ""] = (form.get(isRefresh ? "refresh_token" : "code") ?? "").split(".");
        return tokensFor(decodePerson(person));
      }
      case "/userinfo":
        return claimsOf(decodePerson((request.headers.authorization ?? "").slice("Bearer ".length)).subject);
      default:
        return {};
    }
  }

  const server = createServer((request, response) => {
    answer(request).then(
      (body) =>
        response
          .setHeader("content-type", "application/json")
          .end(typeof body === "string" ? body : JSON.stringify(body)),
      () => response.writeHead(400).end('{"error":"invalid_request"}'),
    );
  });
  server.keepAliveTimeout = 60_000;
  server.listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    issuer,
    codeFor: (subject, nonce) => encodePerson({ subject, nonce }),
    refreshTokenFor: (subject) => `${encodePerson({ subject, nonce: null })}.first`,
    refreshed: () => refreshes,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function metadataOf(issuer: string): object {
  return {
    issuer,
    authorization_endpoint: `${issuer}/authorize`,
    token_endpoint: `${issuer}/token`,
    userinfo_endpoint: `${issuer}/userinfo`,
    jwks_uri: `${issuer}/jwks`,
    response_types_supported: ["code"],
    subject_types_supported: ["public"],
    id_token_signing_alg_values_supported: ["ES256"],
    code_challenge_methods_supported: ["S256"],
  };
}

function claimsOf(subject: string): Readonly<{ sub: string; [claim: string]: unknown }> {
  return { sub: subject, email: `${subject}@example.com`, email_verified: true, name: subject, groups: ["eng"] };
}

function encodePerson(person: Person): string {
  return Buffer.from(JSON.stringify(person)).toString("base64url");
}

function decodePerson(text: string): Person {
  return JSON.parse(Buffer.from(text, "base64url").toString()) as Person;
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}
