/**
 * The signed identity assertion: claims, caching, signing keys and their rotation, and the size limit of identity
 * headers.
 */
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { describe, test } from "node:test";
import { createLocalJWKSet, decodeJwt, decodeProtectedHeader, jwtVerify } from "jose";
import {
  createAssertions,
  deriveKey,
  type IdentityAssertion,
  type OversizeIdentity,
} from "../../src/auth/assertion.ts";
import type { Principal } from "../../src/auth/index.ts";
import type { GroupId, UnixMs } from "../../src/events/index.ts";
import { sessionId, userId } from "../events/support.ts";

type Options = Parameters<typeof createAssertions>[0];
let ids = 0;

async function start(parts: Partial<Options> = {}) {
  const now = { ms: 1_700_000_000_000 };
  const assertions = await createAssertions({
    signingKey: null,
    sharedSecret: new Uint8Array(32).fill(1),
    claimsHeaders: { "x-email": "email", "x-groups": "groups", "x-nick": "nickname", "x-missing": "missing" },
    groupsFilter: [],
    issuerFormat: "hostOnly",
    bytesMax: 16_384,
    groupsOfPolicy: () => [],
    onOversize() {},
    groupName: (id) => (id === "g1" ? "Engineering" : undefined),
    now: () => now.ms as UnixMs,
    uuid: () => `id-${++ids}`,
    ...parts,
  });
  return { assertions, now };
}

function principal(parts: Partial<Principal> & { expiresAt?: number } = {}): Principal {
  const claims = { nickname: ["al", "ice"], groups: ["from-claim"], constructor: [] };
  return {
    session: {
      status: "active",
      sessionId: sessionId(1),
      userId: userId(1),
      expiresAt: parts.expiresAt ?? 1_700_003_600_000,
    } as unknown as Principal["session"],
    user: undefined,
    userId: userId(1),
    profile: {
      issuer: "https://idp.example",
      subject: "subject-1",
      email: "alice@example.com",
      emailVerified: true,
      name: "Alice",
      claims,
    },
    claims,
    groups: new Set(["g2", "g1"] as GroupId[]),
    ...parts,
  };
}
async function issueWithinBound(
  assertions: Awaited<ReturnType<typeof start>>["assertions"],
  ...requested: Parameters<typeof assertions.issue>
): Promise<IdentityAssertion> {
  const introduced = await assertions.issue(...requested);
  if (introduced.assertion === null) assert.fail(`${introduced.bytes} bytes exceed the bound`);
  return introduced;
}
const scope = { hostname: "app.example", mode: "cached" } as const;

test("a route may have its own issuer and name fewer groups", async () => {
  const { assertions } = await start({ groupsFilter: ["g2"] });
  const rules = { issuerFormat: "uri", groupsFilter: ["g1"] } as const;
  const claimsWith = async (more: object) => {
    const { assertion } = await issueWithinBound(assertions, principal(), { ...scope, mode: "per_request", ...more });
    const { iss, groups } = decodeJwt(assertion);
    return [iss, groups];
  };
  assert.deepEqual(await claimsWith({ rules }), ["https://app.example/", ["g1"]]);
  assert.deepEqual(await claimsWith({}), ["app.example", ["g2"]]);
});

describe("while the shared secret is rotated", () => {
  const [before, next] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)];

  test("an assertion signed with either secret verifies against the JWKS of every node", async () => {
    const nodes = [
      await start({ sharedSecret: before, sharedSecretPrevious: next }), // next only verifies
      await start({ sharedSecret: next, sharedSecretPrevious: before }),
    ];
    for (const { assertions, now } of nodes) {
      const { assertion } = await issueWithinBound(assertions, principal(), scope);
      for (const { assertions: other } of nodes)
        await jwtVerify(assertion, createLocalJWKSet({ keys: [...other.jwks.keys] }), {
          currentDate: new Date(now.ms),
        });
    }
  });

  test("a configured signing key is rotated, or replaces the derived key, in two rounds without a gap", async () => {
    const made = () =>
      String(generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ type: "pkcs8", format: "pem" }));
    const [one, two] = [made(), made()];
    const stages = [
      [{}, { signingKeyPrevious: one }, { signingKey: one, signingKeyPrevious: "derived" }, { signingKey: one }],
      [
        { signingKey: one },
        { signingKey: one, signingKeyPrevious: two },
        { signingKey: two, signingKeyPrevious: one },
        { signingKey: two },
      ],
    ];
    for (const rounds of stages) {
      const nodes = await Promise.all(rounds.map((round) => start(round)));
      assert.deepEqual(
        nodes.map(({ assertions }) => assertions.jwks.keys.length),
        [1, 2, 2, 1],
      );
      for (const [at, { assertions, now }] of nodes.entries()) {
        const { assertion } = await issueWithinBound(assertions, principal(), scope);
        const neighbours = nodes.slice(Math.max(0, at - 1), at + 2); // nodes that run side by side during one round
        for (const { assertions: other } of neighbours)
          await jwtVerify(assertion, createLocalJWKSet({ keys: [...other.jwks.keys] }), {
            currentDate: new Date(now.ms),
          });
      }
    }
  });

  test("after the rotation only the new key is published, and a configured key is always published alone", async () => {
    assert.equal((await start({ sharedSecret: next })).assertions.jwks.keys.length, 1);
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const signingKey = privateKey.export({ type: "pkcs8", format: "pem" });
    const own = await start({ signingKey: String(signingKey), sharedSecretPrevious: before });
    assert.equal(own.assertions.jwks.keys.length, 1);
  });
});

describe("the assertion", () => {
  test("verifies against the JWKS and has Pomerium's claims", async () => {
    const { assertions, now } = await start();
    const { assertion } = await issueWithinBound(assertions, principal(), scope);
    const { payload, protectedHeader } = await jwtVerify(
      assertion,
      createLocalJWKSet({ keys: [...assertions.jwks.keys] }),
      {
        currentDate: new Date(now.ms),
        issuer: "app.example",
        audience: "app.example",
      },
    );
    const { jti, ...claims } = payload;
    assert.match(String(jti), /^id-/);
    assert.deepEqual(claims, {
      iss: "app.example",
      aud: "app.example",
      iat: now.ms / 1_000,
      exp: now.ms / 1_000 + 300,
      sub: "subject-1",
      user: "subject-1",
      email: "alice@example.com",
      groups: ["g1", "g2", "Engineering"],
      sid: "session-1",
      name: "Alice",
      nickname: "al,ice",
    });
    assert.deepEqual([protectedHeader.alg, protectedHeader.typ], ["ES256", "JWT"]);
    assert.match(protectedHeader.kid ?? "", /^[0-9a-f]{64}$/);
  });
  test("never outlives the session", async () => {
    const { assertions, now } = await start();
    const claims = assertions.claimsOf(principal({ expiresAt: now.ms + 10_000 }), "app.example");
    assert.equal(claims["exp"], now.ms / 1_000 + 10);
  });
  test("takes groups from the provider's claim only if the directory has none, and keeps only those that pass the filter", async () => {
    const { assertions } = await start();
    assert.deepEqual(assertions.claimsOf(principal({ groups: new Set() }), "h")["groups"], ["from-claim"]);
    const filtered = (await start({ groupsFilter: ["Engineering"] })).assertions;
    assert.deepEqual(filtered.claimsOf(principal(), "h")["groups"], ["Engineering"]);
  });
  test("has a URL as its issuer if configured", async () => {
    const { assertions } = await start({ issuerFormat: "uri" });
    assert.equal(assertions.claimsOf(principal(), "app.example")["iss"], "https://app.example/");
  });
  test("names no user without a session, or if the profile cannot be decrypted", async () => {
    const { assertions } = await start();
    for (const who of [null, principal({ profile: undefined })]) {
      const { assertion, claimHeaders } = await issueWithinBound(assertions, who, scope);
      const { sub, email, groups, sid } = JSON.parse(
        Buffer.from(assertion.split(".")[1] ?? "", "base64url").toString(),
      );
      assert.deepEqual([sub, email, groups, sid], ["", "", [], undefined]);
      assert.deepEqual(claimHeaders, [
        ["x-email", ""],
        ["x-groups", ""],
        ["x-nick", ""],
        ["x-missing", ""],
      ]);
    }
  });
  test("comes with the claim headers; missing claims are empty", async () => {
    const { assertions } = await start();
    const { claimHeaders } = await issueWithinBound(assertions, principal(), scope);
    assert.deepEqual(claimHeaders, [
      ["x-email", "alice@example.com"],
      ["x-groups", "g1,g2,Engineering"],
      ["x-nick", "al,ice"],
      ["x-missing", ""],
    ]);
  });
});

describe("a cached assertion", () => {
  test("serves one principal and host for 30 s, synchronously, on every route", async () => {
    const { assertions, now } = await start();
    const alice = principal();
    const first = await issueWithinBound(assertions, alice, scope);
    assert.equal(assertions.issue(alice, scope), first, "no promise, no signature");
    now.ms += 29_999;
    const rules = { issuerFormat: "hostOnly", groupsFilter: [] } as const;
    assert.equal(assertions.issue(alice, { ...scope, rules }), first, "another route with equal rules");
    now.ms += 1;
    assert.notEqual((await issueWithinBound(assertions, alice, scope)).assertion, first.assertion);
  });
  test("is not used after the end of a membership that ends by itself", async () => {
    const { assertions, now } = await start();
    const alice = principal({ groupsUntil: (now.ms + 5_000) as UnixMs });
    const first = await issueWithinBound(assertions, alice, scope);
    now.ms += 4_999;
    assert.equal(assertions.issue(alice, scope), first);
    now.ms += 1;
    assert.notEqual((await issueWithinBound(assertions, alice, scope)).assertion, first.assertion);
  });
  test("serves no other host, rules or principal, not even the same user after a change", async () => {
    const { assertions } = await start();
    const alice = principal();
    const { assertion } = await issueWithinBound(assertions, alice, scope);
    const others = [
      await issueWithinBound(assertions, alice, { ...scope, hostname: "other.example" }),
      await issueWithinBound(assertions, alice, { ...scope, rules: { issuerFormat: "uri", groupsFilter: [] } }),
      await issueWithinBound(assertions, { ...alice }, scope),
      await issueWithinBound(assertions, alice, { ...scope, mode: "per_request" }),
    ];
    for (const other of others) assert.notEqual(other.assertion, assertion);
  });
  test("belongs to its host and rules, whichever was requested last", async () => {
    const { assertions } = await start();
    const alice = principal();
    const rules = { issuerFormat: "uri", groupsFilter: [] } as const;
    const scopes = [scope, { ...scope, hostname: "other.example" }, { ...scope, rules }];
    const made = await Promise.all(scopes.map((each) => assertions.issue(alice, each)));
    for (const i of [0, 0, 1, 1, 2, 2, 0, 2, 1, 0]) {
      const requested = scopes[i] ?? assert.fail();
      assert.equal(assertions.issue(alice, requested), made[i]);
    }
  });
  test("that could not be signed is signed again on the next request", async () => {
    const trouble = { left: 1 };
    const groupName = (): string => {
      if (trouble.left-- > 0) throw new Error("not now");
      return "Engineering";
    };
    const { assertions } = await start({ groupName });
    const alice = principal();
    const together = [assertions.issue(alice, scope), assertions.issue(alice, scope)];
    for (const each of together) await assert.rejects(async () => each, /not now/);
    assert.match((await issueWithinBound(assertions, alice, scope)).assertion, /^ey/);
  });
  test("occupies at most 128 KB per session, however many hosts are requested", async () => {
    const { assertions } = await start();
    const alice = principal({ groups: new Set(Array.from({ length: 200 }, (_, i) => `group-${i}` as GroupId)) });
    const hosts = Array.from({ length: 100 }, (_, i) => ({ ...scope, hostname: `host-${i}.example` }));
    let bytes = 0;
    for (const host of hosts) bytes += (await issueWithinBound(assertions, alice, host)).assertion.length;
    assert.ok(bytes > 131_072);
    const cached = hosts.toReversed().filter((host) => !(assertions.issue(alice, host) instanceof Promise));
    assert.ok(cached.length > 5 && cached.length < 50, `${cached.length} are cached`);
  });
  test("is signed once for concurrent requests", async () => {
    const { assertions } = await start();
    const alice = principal();
    const [one, two] = await Promise.all([assertions.issue(alice, scope), assertions.issue(alice, scope)]);
    assert.equal(one.assertion, two.assertion);
  });
});

const expectedD = "EM-rjhiibNibY8roNwFZ6b_Nwy7Qft-OVmAReOVWoN4";

describe("the signing key", () => {
  test("is derived from the shared secret as Pomerium derives it, and is stable", () => {
    // HKDF-SHA256(secret = 32 × 0x01, info "derived-jwt-signing-key"), 40 bytes, mod (n-1), + 1; computed
    // independently of the code.
    const jwk = deriveKey(new Uint8Array(32).fill(1)).export({ format: "jwk" });
    assert.equal(jwk.d, expectedD);
    assert.deepEqual(deriveKey(new Uint8Array(32).fill(1)).export({ format: "jwk" }), jwk);
    assert.notEqual(deriveKey(new Uint8Array(32).fill(2)).export({ format: "jwk" }).d, jwk.d);
  });
  test("may be EC or RSA, in SEC 1, PKCS#1 or PKCS#8, as PEM or base64 of PEM", async () => {
    const ec = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
    const rsa = generateKeyPairSync("rsa", { modulusLength: 2_048 }).privateKey;
    const keys: readonly (readonly [string, string])[] = [
      [String(ec.export({ type: "sec1", format: "pem" })), "ES256"],
      [String(ec.export({ type: "pkcs8", format: "pem" })), "ES256"],
      [String(rsa.export({ type: "pkcs1", format: "pem" })), "RS256"],
      [Buffer.from(String(rsa.export({ type: "pkcs8", format: "pem" }))).toString("base64"), "RS256"],
    ];
    for (const [signingKey, alg] of keys) {
      const { assertions } = await start({ signingKey });
      const { assertion } = await issueWithinBound(assertions, null, scope);
      assert.equal(decodeProtectedHeader(assertion).alg, alg);
      const [jwk] = assertions.jwks.keys;
      assert.deepEqual([jwk?.alg, jwk?.use, jwk?.d], [alg, "sig", undefined]);
    }
  });
  test("that is invalid or too weak is refused, and the error does not reveal it", async () => {
    const weak = generateKeyPairSync("ec", { namedCurve: "secp256k1" }).privateKey;
    for (const signingKey of ["nonsense", String(weak.export({ type: "pkcs8", format: "pem" }))]) {
      await assert.rejects(start({ signingKey }), (error: Error & { code?: string }) => {
        return error.code === "ERR_AUTH_SIGNING_KEY" && !error.message.includes("nonsense");
      });
    }
  });
});

describe("identity headers above their bound", () => {
  const many = Array.from({ length: 5_000 }, (_, i) => `group-${i}` as GroupId);
  const rules = { issuerFormat: "hostOnly", groupsFilter: [] as string[], routeId: "wiki" } as const;

  function bytesOf({ assertion, claimHeaders }: IdentityAssertion): number {
    const lines = [["x-pomerium-jwt-assertion", assertion], ...claimHeaders].map(
      ([name, value]) => `${name}: ${value}`,
    );
    return lines.reduce((sum, line) => sum + Buffer.byteLength(line) + 2, 0);
  }

  async function startBounded(parts: Partial<Options> = {}) {
    const oversized: OversizeIdentity[] = [];
    const started = await start({
      groupsOfPolicy: (routeId) => (routeId === "wiki" ? ["group-7", "Engineering", "not-mine"] : []),
      onOversize: (oversize) => void oversized.push(oversize),
      ...parts,
    });
    return { ...started, oversized };
  }

  test("5,000 groups are reduced to those that the route's policy names, and the assertion states how many it omits", async () => {
    const { assertions, oversized } = await startBounded({
      claimsHeaders: { "x-groups": "groups", "x-omitted": "groups_omitted" },
    });
    const alice = principal({ groups: new Set(["g1" as GroupId, ...many]) });
    const introduced = await issueWithinBound(assertions, alice, { ...scope, rules });
    const claims = decodeJwt(introduced.assertion);
    assert.deepEqual(claims["groups"], ["g1", "group-7", "Engineering"]);
    assert.equal(claims["groups_omitted"], 4_999);
    assert.deepEqual(introduced.claimHeaders, [
      ["x-groups", "g1,group-7,Engineering"],
      ["x-omitted", "4999"],
    ]);
    assert.ok(bytesOf(introduced) <= 16_384);
    assert.deepEqual(
      oversized.map(({ outcome, routeId, groupsOmitted }) => [outcome, routeId, groupsOmitted]),
      [["reduced", "wiki", 4_999]],
    );
    assert.equal(
      assertions.issue(alice, { ...scope, rules }),
      introduced,
      "the reduced assertion is cached like any other",
    );
    assert.equal(oversized.length, 1, "and is reported once");
  });

  test("routes whose policies name other groups get assertions of their own", async () => {
    const { assertions } = await startBounded();
    const alice = principal({ groups: new Set(many) });
    const other = { ...rules, routeId: "other" };
    assert.deepEqual(decodeJwt((await issueWithinBound(assertions, alice, { ...scope, rules })).assertion)["groups"], [
      "group-7",
    ]);
    assert.deepEqual(
      decodeJwt((await issueWithinBound(assertions, alice, { ...scope, rules: other })).assertion)["groups"],
      [],
    );
    const every = await issueWithinBound(assertions, alice, { ...scope, rules: other, mode: "per_request" });
    assert.deepEqual(decodeJwt(every.assertion)["groups"], []);
  });

  test("groups from the claim of the provider are reduced in the same way", async () => {
    const { assertions } = await startBounded();
    const claims = { groups: many };
    const { assertion } = await issueWithinBound(assertions, principal({ groups: new Set(), claims }), {
      ...scope,
      rules,
    });
    assert.deepEqual(decodeJwt(assertion)["groups"], ["group-7"]);
  });

  test("an assertion that exceeds the bound although a filter names its groups is refused, and the refusal is cached", async () => {
    const { assertions, oversized } = await startBounded();
    const alice = principal({ groups: new Set(many) });
    const filtered = { ...rules, groupsFilter: many };
    const refused = await assertions.issue(alice, { ...scope, rules: filtered });
    assert.equal(refused.assertion, null);
    assert.equal(assertions.issue(alice, { ...scope, rules: filtered }), refused);
    assert.deepEqual(
      oversized.map(({ outcome }) => outcome),
      ["refused"],
    );
    const few = { ...rules, groupsFilter: ["group-1"] };
    assert.deepEqual(
      decodeJwt((await issueWithinBound(assertions, alice, { ...scope, rules: few })).assertion)["groups"],
      ["group-1"],
    );
  });

  test("a claim that is too long by itself is refused", async () => {
    const { assertions, oversized } = await startBounded();
    const claims = { nickname: ["x".repeat(20_000)] };
    assert.equal((await assertions.issue(principal({ claims }), { ...scope, rules })).assertion, null);
    assert.deepEqual(
      oversized.map(({ outcome }) => outcome),
      ["refused"],
    );
  });

  test("the bound is exact: one byte less than what the headers take reduces them", async () => {
    for (const signingKey of [null, generateKeyPairSync("rsa", { modulusLength: 2_048 }).privateKey]) {
      const key = signingKey === null ? null : String(signingKey.export({ type: "pkcs8", format: "pem" }));
      const alice = principal({ groups: new Set(many.slice(0, 100)) });
      const free = await startBounded({ signingKey: key, uuid: () => "same-length" });
      const bytes = bytesOf(await issueWithinBound(free.assertions, alice, { ...scope, rules }));
      const exact = await startBounded({ signingKey: key, uuid: () => "same-length", bytesMax: bytes });
      await issueWithinBound(exact.assertions, alice, { ...scope, rules });
      assert.deepEqual(exact.oversized, []);
      const less = await startBounded({ signingKey: key, uuid: () => "same-length", bytesMax: bytes - 1 });
      await issueWithinBound(less.assertions, alice, { ...scope, rules });
      assert.deepEqual(
        less.oversized.map(({ outcome }) => outcome),
        ["reduced"],
      );
    }
  });

  test("only the headers that a route sends count", async () => {
    const { assertions, oversized } = await startBounded();
    const alice = principal({ groups: new Set(many) });
    const carriers = { assertions: 0, claimHeaders: ["x-email"], impersonation: false };
    const none = { ...rules, carriers };
    const introduced = await issueWithinBound(assertions, alice, { ...scope, rules: none });
    assert.equal(introduced.groups.length, 5_000);
    const impersonating = { ...rules, carriers: { ...carriers, impersonation: true } };
    assert.deepEqual((await issueWithinBound(assertions, alice, { ...scope, rules: impersonating })).groups, [
      "group-7",
    ]);
    assert.deepEqual(
      oversized.map(({ outcome }) => outcome),
      ["reduced"],
    );
  });

  test("a provider cannot set the claim that states how many groups are omitted", async () => {
    const { assertions } = await start({ claimsHeaders: { "x-omitted": "groups_omitted" } });
    const claims = { groups_omitted: [1] };
    const introduced = await issueWithinBound(assertions, principal({ claims }), scope);
    assert.equal(decodeJwt(introduced.assertion)["groups_omitted"], undefined);
    assert.deepEqual(introduced.claimHeaders, [["x-omitted", ""]]);
  });
});
