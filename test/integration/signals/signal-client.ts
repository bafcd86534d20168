/** Signal client: the calls of a receiver to the transmitter of an installation, and what its tests share. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import type { JSONWebKeySet } from "jose";
import type { Visitor } from "../../support/visitor.ts";
import { follow, type Installation } from "../identity/installation.ts";
import { type ReceivedEvent, verifyEvent } from "./receiver.ts";

/** JSON whose form the assertions of a test check. */
export type JsonValue = ReturnType<typeof JSON.parse>;

export type SignalReply = Readonly<{
  status: number;
  header(name: string): string | null;
  /** Undefined: no JSON. */
  body: JsonValue;
}>;

export const hashOf = (secret: string): string => createHash("sha256").update(secret).digest("hex");

export type SignalClient = Readonly<{
  call(method: string, path: string, body?: unknown, headers?: Readonly<Record<string, string>>): Promise<SignalReply>;
}>;

/** @param token of the receiver; null: no credential is sent */
export function signalClient(at: Pick<Installation, "url" | "visitor">, token: string | null): SignalClient {
  const visitor = at.visitor();
  return {
    async call(method, path, body, headers = {}) {
      const url = path.startsWith("http") ? path : at.url("authenticate", path);
      const answer = await visitor.request(url, {
        method,
        headers: {
          accept: "application/json",
          ...(token === null ? {} : { authorization: `Bearer ${token}` }),
          ...(body === undefined ? {} : { "content-type": "application/json" }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
      });
      return {
        status: answer.status,
        header: (name) => answer.headers[name]?.toString() ?? null,
        body: /^[[{]/.test(answer.body) ? JSON.parse(answer.body) : undefined,
      };
    },
  };
}

/** What a receiver reads before it calls: the metadata, and the keys that it names. */
export async function discover(
  at: Pick<Installation, "url" | "visitor">,
): Promise<Readonly<{ metadata: JsonValue; jwks: JSONWebKeySet; issuer: string }>> {
  const client = signalClient(at, null);
  const { status, body: metadata } = await client.call("GET", "/.well-known/ssf-configuration");
  assert.equal(status, 200);
  const { body: jwks } = await client.call("GET", metadata.jwks_uri);
  return { metadata, jwks, issuer: metadata.issuer };
}

export type PollOptions = Readonly<{
  maxEvents?: number;
  returnImmediately?: boolean;
  ack?: readonly string[];
  setErrs?: object;
}>;

/** Polls once, and verifies what comes. */
export async function poll(
  client: SignalClient,
  endpoint: string,
  rules: Readonly<{ jwks: JSONWebKeySet; issuer: string; audience: string }>,
  options: PollOptions = {},
): Promise<Readonly<{ events: readonly ReceivedEvent[]; more: boolean }>> {
  const answer = await client.call("POST", endpoint, { returnImmediately: true, ...options });
  assert.equal(answer.status, 200, JSON.stringify(answer.body));
  const sets = Object.entries(answer.body.sets as Readonly<Record<string, string>>);
  const events = await Promise.all(sets.map(([, token]) => verifyEvent(token, rules)));
  for (const [nth, [jti]] of sets.entries()) assert.equal(events[nth]?.jti, jti);
  return { events, more: answer.body.moreAvailable === true };
}

export async function signIn(
  at: Installation,
  name: string,
  claims: Readonly<Record<string, unknown>> = {},
): Promise<Visitor> {
  const visitor = at.visitor();
  at.provider.person.name = name;
  at.provider.person.claims = claims;
  const { end } = await follow(visitor, at.url("app"));
  assert.equal(end.status, 200, end.body.slice(0, 300));
  return visitor;
}
