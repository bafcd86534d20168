/**
 * Receivers of Shared Signals for tests, written from the specifications with `jose` alone: a push receiver over TLS
 * (RFC 8935) and a poll receiver (RFC 8936). They check every token as a receiver must.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";
import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from "jose";
import { Authority } from "../../support/pki.ts";

export const eventUri = (name: string): string =>
  `https://schemas.openid.net/secevent/${
    name === "verification" || name === "stream-updated" ? "ssf" : name.startsWith("account-") ? "risc" : "caep"
  }/event-type/${name}`;

/** A token as the receiver got it. */
export type ReceivedEvent = Readonly<{
  jti: string;
  token: string;
  name: string;
  subject: Readonly<Record<string, unknown>>;
  payload: Readonly<Record<string, unknown>>;
  claims: Readonly<Record<string, unknown>>;
}>;

/** Verifies a token and its form (OpenID SSF 1.0 §4). */
export async function verifyEvent(
  token: string,
  { jwks, issuer, audience }: Readonly<{ jwks: JSONWebKeySet; issuer: string; audience: string }>,
): Promise<ReceivedEvent> {
  const { payload, protectedHeader } = await jwtVerify(token, createLocalJWKSet(jwks), {
    ...{ issuer, audience, algorithms: ["RS256"], typ: "secevent+jwt" },
    requiredClaims: ["jti", "iat"],
  });
  assert.ok(protectedHeader.kid);
  assert.equal(payload.sub, undefined);
  assert.equal(payload.exp, undefined);
  assert.ok((payload.iat ?? Number.POSITIVE_INFINITY) <= Date.now() / 1_000 + 5);
  const events = Object.entries(payload["events"] as Readonly<Record<string, Record<string, unknown>>>);
  assert.equal(events.length, 1);
  const [uri = "", said = {}] = events[0] ?? [];
  const name = uri.split("/").at(-1) ?? "";
  assert.equal(uri, eventUri(name));
  if (name === "session-revoked" || name === "credential-change")
    assert.ok(String((said["reason_admin"] as Record<string, unknown>)["en"]).length > 0);
  const subject = payload["sub_id"] as Readonly<Record<string, unknown>>;
  assert.equal(typeof subject["format"], "string");
  return { jti: String(payload.jti), token, name, subject, payload: said, claims: payload };
}

/** How the receiver answers one request. Undefined: it accepts. */
export type Behaviour = (
  event: ReceivedEvent,
  request: IncomingMessage,
) =>
  | Readonly<{ status: number; body?: object; headers?: Readonly<Record<string, string>> }>
  | Promise<void>
  | undefined;

export type PushReceiver = Readonly<{
  url: string;
  ca: string;
  /** Accepted events, in the order of their arrival, repetitions included. */
  accepted: readonly ReceivedEvent[];
  /** Every request. */
  seen: readonly ReceivedEvent[];
  authorizations: readonly (string | undefined)[];
  behave(behaviour: Behaviour | null): void;
  /** Refuses connections until `listen`. */
  stop(): Promise<void>;
  listen(): Promise<void>;
}>;

export async function startPushReceiver(
  t: Pick<TestContext, "after">,
  rules: () => Promise<Readonly<{ jwks: JSONWebKeySet; issuer: string; audience: string }>>,
  authority?: Authority,
): Promise<PushReceiver> {
  const issuing = authority ?? (await Authority.root());
  const { cert, key } = await issuing.issue({ hosts: ["receiver.localhost", "localhost"], addresses: ["127.0.0.1"] });
  const accepted: ReceivedEvent[] = [];
  const seen: ReceivedEvent[] = [];
  const authorizations: (string | undefined)[] = [];
  let behaviour: Behaviour | null = null;
  let port = 0;

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    assert.equal(request.method, "POST");
    assert.equal(request.headers["content-type"], "application/secevent+jwt");
    const event = await verifyEvent(Buffer.concat(parts).toString(), await rules());
    seen.push(event);
    authorizations.push(request.headers.authorization);
    const found = await behaviour?.(event, request);
    if (found === undefined) {
      accepted.push(event);
      response.writeHead(202).end();
      return;
    }
    const { status, body, headers } = found;
    response.writeHead(status, { "content-type": "application/json", ...headers });
    response.end(body === undefined ? "" : JSON.stringify(body));
  }

  const problems: unknown[] = [];
  let server = newServer();
  function newServer() {
    return createServer({ cert, key }, (request, response) => {
      answer(request, response).catch((error: unknown) => {
        problems.push(error);
        response.writeHead(500).end();
      });
    });
  }
  async function listen(): Promise<void> {
    server = newServer();
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    port = (server.address() as AddressInfo).port;
  }
  async function stop(): Promise<void> {
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  }
  await listen();
  t.after(async () => {
    if (server.listening) await stop();
    assert.deepEqual(problems, []);
  });
  return {
    url: `https://receiver.localhost:${port}/ssf/events`,
    ca: issuing.pem,
    ...{ accepted, seen, authorizations, listen, stop },
    behave(next) {
      behaviour = next;
    },
  };
}

/** Each token once, in the order of its first arrival. */
export function distinct(events: readonly ReceivedEvent[]): readonly ReceivedEvent[] {
  return [...new Map(events.map((event) => [event.jti, event])).values()];
}
