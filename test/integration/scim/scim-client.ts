/** SCIM test client: makes a token, raises the level, and plays recorded request sequences against an installation. */
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { mintOperatorToken, operatorApiPrefix } from "../../../src/console/index.ts";
import { formatScimToken, hashScimSecret, readsLevel, scimScopes, secretIn } from "../../../src/events/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import type { Installation } from "../identity/installation.ts";

export type ScimReply = Readonly<{
  status: number;
  header(name: string): string | null;
  body: Record<string, unknown>;
}>;
export type ScimClient = Readonly<{
  token: string;
  tokenId: string;
  request(method: string, path: string, body?: unknown, headers?: Readonly<Record<string, string>>): Promise<ScimReply>;
}>;

export const patchOf = (...Operations: readonly object[]): object => ({
  schemas: ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
  Operations,
});

/** Calls the operator API with a token minted from the installation's secret. */
export async function operate(at: Installation, path: string, body?: object): Promise<ScimReply> {
  const config = at.services.config();
  const token = await mintOperatorToken({
    secret: config.sharedSecret,
    cluster: config.broker.clusterName,
    name: "test",
    tokenId: randomUUID(),
    nowS: Math.floor(Date.now() / 1_000),
    ttlS: 60,
  });
  return send(at, at.url("authenticate", `${operatorApiPrefix}${path}`), {
    method: body === undefined ? "GET" : "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
}

export async function raiseLevel(at: Installation): Promise<void> {
  await waitFor("the level to be finalized", async () => {
    const answer = await operate(at, "/cluster/finalize", { level: readsLevel, wait: "all" });
    return answer.status === 200;
  });
}

export async function scimClient(
  at: Installation,
  client: string,
  parts: Readonly<{ scopes?: readonly string[]; expiresAt?: string }> = {},
): Promise<ScimClient> {
  const tokenId = randomBytes(6).toString("hex");
  const token = formatScimToken(tokenId, randomBytes(32));
  const made = await operate(at, "/scim/tokens", {
    client,
    tokenId,
    secretHash: hashScimSecret(secretIn(token)),
    scopes: parts.scopes ?? scimScopes,
    ...(parts.expiresAt === undefined ? {} : { expiresAt: parts.expiresAt }),
    wait: "all",
  });
  assert.equal(made.status, 200, JSON.stringify(made.body));
  return { token, tokenId, request: requester(at, token) };
}

export function requester(at: Installation, token: string): ScimClient["request"] {
  return (method, path, body, headers = {}) =>
    send(at, at.url("authenticate", `/scim/v2${path.replaceAll(" ", "%20").replaceAll('"', "%22")}`), {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        ...(body === undefined ? {} : { "content-type": "application/scim+json" }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
}

async function send(
  at: Installation,
  url: string,
  sent: Readonly<{ method: string; headers: Readonly<Record<string, string>>; body?: string }>,
): Promise<ScimReply> {
  const visitor = at.visitor();
  const { status, headers, body } = await visitor.request(url, sent);
  return {
    status,
    header: (name) => headers[name]?.toString() ?? null,
    body: body.startsWith("{") ? (JSON.parse(body) as Record<string, unknown>) : {},
  };
}

export type Step = Readonly<{
  does: string;
  method: string;
  path: string;
  body?: unknown;
  status: number;
  answer?: Readonly<Record<string, unknown>>;
  /** Attributes that the answer must not have. */
  without?: readonly string[];
  /** Names for values of the answer. */
  save?: Readonly<Record<string, string>>;
  /** The change leaves the resource's version. */
  sameVersion?: boolean;
  /** The groups of people afterwards, as an upstream sees them. */
  groups?: Readonly<Record<string, readonly string[]>>;
  /** People who cannot use a route afterwards, not even after another sign-in. */
  denied?: readonly string[];
}>;

/** Fills `${name}` in a path or body. */
export function filled<T>(value: T, saved: ReadonlyMap<string, string>): T {
  const text = JSON.stringify(value).replace(/\$\{(\w+)\}/g, (_whole, name: string) => saved.get(name) ?? `no ${name}`);
  return JSON.parse(text) as T;
}

/** Asserts that an answer has what is expected of it; lists are compared in length too. */
export function assertHas(found: unknown, expected: unknown, at: string): void {
  if (Array.isArray(expected)) {
    assert.ok(Array.isArray(found), `${at} is no list: ${JSON.stringify(found)}`);
    assert.equal(found.length, expected.length, `${at}: ${JSON.stringify(found)}`);
    for (const [n, each] of expected.entries()) assertHas(found[n], each, `${at}[${n}]`);
  } else if (typeof expected === "object" && expected !== null) {
    assert.ok(typeof found === "object" && found !== null, `${at} is no object: ${JSON.stringify(found)}`);
    for (const [name, each] of Object.entries(expected))
      assertHas((found as Record<string, unknown>)[name], each, `${at}.${name}`);
  } else assert.deepEqual(found, expected, at);
}
