/**
 * Bare relying party: the yardstick of sign-ins. A Node server that does with openid-client what no relying party can
 * leave out: a redirect with PKCE, state and nonce; the exchange of the code; the check of the ID token; userinfo. It
 * has no sessions, no log and no policy.
 *
 *   node bench/support/bare-relying-party.ts PORT ISSUER
 */
import { createServer } from "node:http";
import * as openid from "openid-client";

const [, , port = "0", issuer = ""] = process.argv;
const redirectUri = `http://127.0.0.1:${port}/callback`;
const insecure = { execute: [openid.allowInsecureRequests, openid.enableNonRepudiationChecks] };
let discovered: Promise<openid.Configuration> | undefined;
const begun = new Map<string, Readonly<{ nonce: string; verifier: string }>>();

async function begin(): Promise<URL> {
  discovered ??= openid.discovery(new URL(issuer), "bench", undefined, openid.ClientSecretPost("bench"), insecure);
  const [state, nonce, verifier] = [openid.randomState(), openid.randomNonce(), openid.randomPKCECodeVerifier()];
  begun.set(state, { nonce, verifier });
  return openid.buildAuthorizationUrl(await discovered, {
    ...{ redirect_uri: redirectUri, scope: "openid profile email", state, nonce, code_challenge_method: "S256" },
    code_challenge: await openid.calculatePKCECodeChallenge(verifier),
  });
}

async function finish(url: URL): Promise<string> {
  if (discovered === undefined) throw new Error("nothing was begun");
  const configuration = await discovered;
  const state = url.searchParams.get("state") ?? "";
  const { nonce, verifier } = begun.get(state) ?? { nonce: "", verifier: "" };
  begun.delete(state);
  const tokens = await openid.authorizationCodeGrant(configuration, url, {
    ...{ expectedNonce: nonce, expectedState: state, pkceCodeVerifier: verifier, idTokenExpected: true },
  });
  const subject = tokens.claims()?.sub ?? "";
  const { email } = await openid.fetchUserInfo(configuration, tokens.access_token, subject);
  return String(email);
}

createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
  const url = new URL(request.url ?? "/", redirectUri);
  if (url.pathname !== "/callback") {
    begin().then(
      ({ href }) => response.writeHead(302, { location: href }).end(),
      (error: unknown) => response.writeHead(500).end(String(error)),
    );
    return;
  }
  finish(url).then(
    (email) => response.end(email),
    (error: unknown) => response.writeHead(500).end(String(error)),
  );
}).listen(Number(port), "127.0.0.1");
