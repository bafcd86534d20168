/** Tokens of issuers that are not an identity provider, such as clusters and pipelines. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, get, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { decodeJwt, exportJWK, generateKeyPair, type JWTPayload, SignJWT } from "jose";
import { waitFor } from "../../support/wait-for.ts";
import { bearing, echoOf, type Installation, startInstallation } from "./installation.ts";
import { revokeSession } from "./operator.ts";

const identified = { allow_any_authenticated_user: true, pass_identity_headers: true };

async function startIssuer(
  t: TestContext,
): Promise<Readonly<{ issuer: string; sign(claims: JWTPayload): Promise<string> }>> {
  const { privateKey, publicKey } = await generateKeyPair("ES256", { extractable: true });
  const jwk = { ...(await exportJWK(publicKey)), kid: "w1", alg: "ES256", use: "sig" };
  const server = createServer((req, res) => {
    res.setHeader("content-type", "application/json");
    res.end(JSON.stringify(req.url === "/keys" ? { keys: [jwk] } : { issuer, jwks_uri: `${issuer}/keys` }));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  const issuer = `http://issuer.localhost:${(server.address() as AddressInfo).port}`;
  const sign = (claims: JWTPayload): Promise<string> => {
    const nowS = Math.floor(Date.now() / 1_000);
    const whole = { iss: issuer, aud: "cardea", sub: "build-7", iat: nowS, exp: nowS + 600, ...claims };
    return new SignJWT(whole).setProtectedHeader({ alg: "ES256", kid: "w1", typ: "JWT" }).sign(privateKey);
  };
  return { issuer, sign };
}

test("a pipeline's token identifies the pipeline, and is accepted only from an issuer that the route names", async (t) => {
  const [pipeline, cluster] = [await startIssuer(t), await startIssuer(t)];
  const at = await startInstallation(t, ({ url, upstream }) => ({
    identity_providers: {
      pipeline: { issuer: pipeline.issuer, audiences: ["cardea"] },
      cluster: { issuer: cluster.issuer, audiences: ["cardea"], jwks_url: `${cluster.issuer}/keys` },
    },
    bearer_token_format: "jwt",
    jwt_claims_headers: ["repository"],
    routes: [
      { from: url("both"), to: upstream, ...identified },
      {
        from: url("pipeline"),
        to: upstream,
        identity_providers: ["pipeline"],
        pass_identity_headers: true,
        policy: { allow: { and: [{ user: { is: "pipeline/build-7" } }, { "claim/repository": { is: "wiki" } }] } },
      },
    ],
  }));
  const cli = at.visitor();
  const token = await pipeline.sign({ repository: "wiki" });
  const { headers } = echoOf(await cli.request(at.url("pipeline"), bearing(token)));
  assert.equal(decodeJwt(String(headers["x-pomerium-jwt-assertion"])).sub, "pipeline/build-7");
  assert.equal(headers["x-pomerium-claim-repository"], "wiki");
  assert.equal(
    (await cli.request(at.url("pipeline"), bearing(await pipeline.sign({ repository: "other" })))).status,
    403,
  );

  const fromCluster = await cluster.sign({ repository: "wiki" });
  assert.equal((await cli.request(at.url("both"), bearing(fromCluster))).status, 200);
  assert.equal((await cli.request(at.url("pipeline"), bearing(fromCluster))).status, 403);
  const cases: Readonly<Record<string, JWTPayload>> = {
    "for another audience": { aud: "another-audience" },
    "that has expired": { exp: Math.floor(Date.now() / 1_000) - 600 },
    "from an issuer that is not configured": { iss: "http://issuer.localhost:1" },
    "of the other issuer, signed with the wrong key": { iss: cluster.issuer },
    "without a subject": { sub: "" },
  };
  for (const [what, claims] of Object.entries(cases)) {
    const { sub, ...rest } = claims;
    const wrong = await pipeline.sign(sub === "" ? { ...rest, sub: undefined as never } : claims);
    assert.equal((await cli.request(at.url("both"), bearing(wrong))).status, 403, what);
  }
});

/** A streaming answer of the host `both` that does not end. */
async function holdOpen(at: Installation, token: string): Promise<IncomingMessage> {
  const request = get({
    ...{ host: "127.0.0.1", port: at.port, path: "/held", agent: false },
    headers: { host: `both.localhost:${at.port}`, authorization: `Bearer ${token}` },
  });
  const [answer] = (await once(request, "response")) as [IncomingMessage];
  request.on("error", () => {}); // a cut resets the connection; tests wait for the error of the answer
  await once(answer, "data");
  return answer;
}

test("removing an issuer from a route also cuts open exchanges", async (t) => {
  const pipeline = await startIssuer(t);
  const routesOf = (at: Pick<Installation, "url">, upstream: string, format: string) => [
    { from: at.url("both"), to: upstream, bearer_token_format: format, ...identified },
  ];
  let upstreamUrl = "";
  const at = await startInstallation(t, ({ url, upstream }) => {
    upstreamUrl = upstream;
    return {
      identity_providers: { pipeline: { issuer: pipeline.issuer, audiences: ["cardea"] } },
      routes: routesOf({ url }, upstream, "jwt"),
    };
  });
  const cli = at.visitor();
  const token = await pipeline.sign({});
  assert.equal((await cli.request(at.url("both"), bearing(token))).status, 200);
  const broken = once(await holdOpen(at, token), "error");
  await at.activate({ routes: routesOf(at, upstreamUrl, "default") });
  await broken;
  await waitFor("the token to be ignored by the proxy", async () => {
    const answer = await cli.request(at.url("both"), bearing(token));
    return answer.status === 302 || answer.status === 401;
  });
});

/** Other encodings of the same token that also verify. */
function otherTextsOf(token: string): Readonly<Record<string, string>> {
  const [head = "", body = "", signature = ""] = token.split(".");
  const bytes = Buffer.from(signature, "base64url");
  const s = p256Order - BigInt(`0x${bytes.subarray(32).toString("hex")}`);
  const mirrored = Buffer.concat([bytes.subarray(0, 32), Buffer.from(s.toString(16).padStart(64, "0"), "hex")]);
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const last = alphabet[alphabet.indexOf(signature.at(-1) ?? "") ^ 1];
  return {
    "with a space in its signature": `${head}.${body}.${signature.slice(0, 9)} ${signature.slice(9)}`,
    "with padding": `${head}.${body}.${signature}==`,
    "with an unused bit set": `${head}.${body}.${signature.slice(0, -1)}${last}`,
    "with its signature mirrored on the curve": `${head}.${body}.${mirrored.toString("base64url")}`,
  };
}
const p256Order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;

test("a token whose session was revoked is refused in every encoding, and another token is still accepted", async (t) => {
  const pipeline = await startIssuer(t);
  const at = await startInstallation(t, ({ url, upstream }) => ({
    identity_providers: { pipeline: { issuer: pipeline.issuer, audiences: ["cardea"] } },
    bearer_token_format: "jwt",
    routes: [{ from: url("both"), to: upstream, ...identified }],
  }));
  const cli = at.visitor();
  const token = await pipeline.sign({});
  const { headers } = echoOf(await cli.request(at.url("both"), bearing(token)));
  await revokeSession(at, String(decodeJwt(String(headers["x-pomerium-jwt-assertion"]))["sid"]));
  assert.equal((await cli.request(at.url("both"), bearing(token))).status, 403);
  for (const [how, text] of Object.entries(otherTextsOf(token)))
    assert.equal((await cli.request(at.url("both"), bearing(text))).status, 403, how);
  assert.equal((await cli.request(at.url("both"), bearing(await pipeline.sign({ jti: "another" })))).status, 200);
});

test("removing an audience from an issuer refuses accepted tokens and cuts open exchanges; other audiences stay", async (t) => {
  const pipeline = await startIssuer(t);
  const routes: object[] = [];
  const providers = (audiences: readonly string[]) => ({ pipeline: { issuer: pipeline.issuer, audiences } });
  const at = await startInstallation(t, ({ url, upstream }) => {
    routes.push({ from: url("both"), to: upstream, bearer_token_format: "jwt", ...identified });
    return { identity_providers: providers(["cardea", "old"]), routes };
  });
  const cli = at.visitor();
  const [current, old] = [await pipeline.sign({}), await pipeline.sign({ aud: ["old", "elsewhere"] })];
  for (const token of [current, old]) assert.equal((await cli.request(at.url("both"), bearing(token))).status, 200);
  const stays = await holdOpen(at, current);
  const ended = once(await holdOpen(at, old), "error");
  await at.activate({ identity_providers: providers(["cardea"]), routes });
  await ended;
  await waitFor(
    "the audience to be refused",
    async () => (await cli.request(at.url("both"), bearing(old))).status === 403,
  );
  assert.equal((await cli.request(at.url("both"), bearing(current))).status, 200);
  assert.equal(stays.destroyed, false);
  stays.destroy();
});
