/**
 * Signal transmitter: a peer of the receiver, written from OpenID SSF 1.0, RFC 8935 and RFC 8936, on loopback.
 *
 * It signs with real keys, pushes over real HTTP, holds events for polls until they are acknowledged, and manages one
 * stream per receiver.
 */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { Visitor } from "./visitor.ts";

const caep = "https://schemas.openid.net/secevent/caep/event-type/";
const risc = "https://schemas.openid.net/secevent/risc/event-type/";
const ssf = "https://schemas.openid.net/secevent/ssf/event-type/";
export const uris = {
  sessionRevoked: `${caep}session-revoked`,
  credentialChange: `${caep}credential-change`,
  claimsChange: `${caep}token-claims-change`,
  deviceChange: `${caep}device-compliance-change`,
  assuranceChange: `${caep}assurance-level-change`,
  accountDisabled: `${risc}account-disabled`,
  accountEnabled: `${risc}account-enabled`,
  accountPurged: `${risc}account-purged`,
  verification: `${ssf}verification`,
  streamUpdated: `${ssf}stream-updated`,
};

export type PushReply = Readonly<{ status: number; header(name: string): string | null; body: string }>;
type PolledEvent = Readonly<{ jti: string; token: string }>;

export type TestTransmitter = Readonly<{
  issuer: string;
  audience: string;
  /** Claims of a token about a subject; `more` replaces some of them. */
  claims(event: string, subject: object, more?: object, payload?: object): Record<string, unknown>;
  sign(claims: object, header?: Readonly<Record<string, unknown>>): Promise<string>;
  push(url: string, token: string, headers?: Readonly<Record<string, string>>): Promise<PushReply>;
  /** Puts a token into the stream that is polled. */
  queue(token: string, jti: string): void;
  /** A new key signs from now on; the old one is no longer published. */
  rotate(): Promise<void>;
  state: {
    down: boolean;
    pending: PolledEvent[];
    acknowledged: string[];
    errors: Record<string, { err: string; description: string }>;
    polls: number;
    jwksReads: number;
    stream: Record<string, unknown> | null;
    status: { status: string; reason?: string };
    subjects: object[];
    criticalMembers: string[];
    tokensIssued: number;
    /** Called before the answer to a poll that acknowledges something is made. */
    beforeAck: () => Promise<unknown>;
  };
}>;

export const clientSecret = "a client secret of the receiver";
export const staticToken = "static-access-token-of-the-receiver";

export async function startTransmitter(t: Pick<TestContext, "after">): Promise<TestTransmitter> {
  let kid = 1;
  let pair = await generateKeyPair("RS256", { extractable: true });
  let jwk = { ...(await exportJWK(pair.publicKey)), kid: "t1", alg: "RS256", use: "sig" };
  const tokens = new Set([staticToken]);
  const state: TestTransmitter["state"] = {
    ...{ down: false, pending: [], acknowledged: [], errors: {}, polls: 0, jwksReads: 0, stream: null },
    ...{ status: { status: "enabled" }, subjects: [], criticalMembers: [], tokensIssued: 0 },
    beforeAck: async () => {},
  };
  const visitor = new Visitor();
  t.after(() => visitor.close());
  const server = createServer((req, res) => {
    answer(req, res).catch((error: unknown) => {
      if (!res.headersSent) res.writeHead(500).end(String(error));
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const issuer = `${origin}/tenant`;
  const audience = "https://receiver.example.com";

  async function answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const url = new URL(req.url ?? "/", origin);
    const sent = await bodyOf(req);
    const reply = (status: number, body?: object | readonly object[]): void => {
      res.writeHead(status, { "content-type": "application/json", "cache-control": "no-store" });
      res.end(body === undefined ? undefined : JSON.stringify(body));
    };
    if (state.down) return reply(503);
    if (url.pathname === "/.well-known/ssf-configuration/tenant") return reply(200, metadata());
    if (url.pathname === "/jwks") {
      state.jwksReads += 1;
      return reply(200, { keys: [jwk] });
    }
    if (url.pathname === "/token") {
      const basic = `Basic ${Buffer.from(`receiver:${encodeURIComponent(clientSecret).replaceAll("%20", "+")}`).toString("base64")}`;
      if (req.headers.authorization !== basic) return reply(401, { error: "invalid_client" });
      const token = randomUUID();
      tokens.add(token);
      state.tokensIssued += 1;
      return reply(200, { access_token: token, token_type: "Bearer", expires_in: 3_600 });
    }
    if (!tokens.has(String(req.headers.authorization).replace(/^Bearer /, ""))) return reply(401);
    const body = sent === "" ? {} : (JSON.parse(sent) as Record<string, unknown>);
    switch (`${req.method} ${url.pathname}`) {
      case "GET /streams":
        return url.searchParams.has("stream_id")
          ? reply(200, state.stream ?? {})
          : reply(200, state.stream ? [state.stream] : []);
      case "POST /streams":
        if (state.stream !== null) return reply(409);
        state.stream = streamOf(body, randomUUID());
        return reply(201, state.stream);
      case "PATCH /streams":
        if (state.stream === null || body["stream_id"] !== state.stream["stream_id"]) return reply(404);
        state.stream = streamOf({ ...state.stream, ...body }, String(body["stream_id"]));
        return reply(200, state.stream);
      case "DELETE /streams":
        if (url.searchParams.get("stream_id") !== state.stream?.["stream_id"]) return reply(404);
        state.stream = null;
        return reply(204);
      case "GET /status":
        return reply(200, { stream_id: url.searchParams.get("stream_id"), ...state.status });
      case "POST /status":
        state.status = {
          status: String(body["status"]),
          ...(body["reason"] ? { reason: String(body["reason"]) } : {}),
        };
        return reply(200, { stream_id: body["stream_id"], ...state.status });
      case "POST /subjects/add":
        state.subjects.push(body);
        return reply(200);
      case "POST /subjects/remove":
        state.subjects.pop();
        return reply(204);
      case "POST /verify":
        reply(204);
        return verify(body);
      case "POST /poll":
        return poll(body, reply);
      default:
        return reply(404);
    }
  }

  const metadata = () => ({
    ...{ spec_version: "1_0", issuer, jwks_uri: `${origin}/jwks`, configuration_endpoint: `${origin}/streams` },
    delivery_methods_supported: ["urn:ietf:rfc:8935", "urn:ietf:rfc:8936"],
    ...{ status_endpoint: `${origin}/status`, verification_endpoint: `${origin}/verify` },
    ...{ add_subject_endpoint: `${origin}/subjects/add`, remove_subject_endpoint: `${origin}/subjects/remove` },
    ...{ critical_subject_members: state.criticalMembers, default_subjects: "ALL" },
    authorization_schemes: [{ spec_urn: "urn:ietf:rfc:6749" }],
  });

  function streamOf(body: Readonly<Record<string, unknown>>, streamId: string): Record<string, unknown> {
    const delivery = (body["delivery"] ?? { method: "urn:ietf:rfc:8936" }) as Record<string, unknown>;
    const isPoll = delivery["method"] === "urn:ietf:rfc:8936";
    return {
      ...{ stream_id: streamId, iss: issuer, aud: audience, events_requested: body["events_requested"] ?? [] },
      ...{ events_delivered: body["events_requested"] ?? [], events_supported: Object.values(uris) },
      delivery: isPoll ? { ...delivery, endpoint_url: `${origin}/poll` } : delivery,
      ...{ min_verification_interval: 0, description: body["description"] },
    };
  }

  async function verify(body: Readonly<Record<string, unknown>>): Promise<void> {
    const subject = { format: "opaque", id: body["stream_id"] };
    const claims = transmitter.claims(uris.verification, subject, {}, { state: body["state"] });
    const token = await transmitter.sign(claims);
    const {
      endpoint_url: url,
      method,
      authorization_header: header,
    } = (state.stream?.["delivery"] ?? {}) as Record<string, string>;
    if (method === "urn:ietf:rfc:8936") transmitter.queue(token, String(claims["jti"]));
    else await transmitter.push(String(url), token, header === undefined ? {} : { authorization: header });
  }

  async function poll(
    body: Readonly<Record<string, unknown>>,
    reply: (status: number, body?: object) => void,
  ): Promise<void> {
    state.polls += 1;
    const {
      ack = [],
      setErrs = {},
      maxEvents = 100,
      returnImmediately = false,
    } = body as {
      ack?: string[];
      setErrs?: TestTransmitter["state"]["errors"];
      maxEvents?: number;
      returnImmediately?: boolean;
    };
    if (ack.length > 0) await state.beforeAck();
    if (state.down) return reply(503);
    state.acknowledged.push(...ack);
    Object.assign(state.errors, setErrs);
    state.pending = state.pending.filter(({ jti }) => !ack.includes(jti) && !Object.hasOwn(setErrs, jti));
    for (let tries = 0; !returnImmediately && state.pending.length === 0 && tries < 40; tries++)
      await new Promise((resolve) => setTimeout(resolve, 25));
    const some = state.pending.slice(0, maxEvents);
    reply(200, {
      sets: Object.fromEntries(some.map(({ jti, token }) => [jti, token])),
      ...(state.pending.length > some.length ? { moreAvailable: true } : {}),
    });
  }

  const transmitter: TestTransmitter = {
    issuer,
    audience,
    state,
    claims: (event, subject, more = {}, payload = {}) => ({
      ...{ iss: issuer, aud: audience, jti: randomUUID(), iat: Math.floor(Date.now() / 1_000), txn: randomUUID() },
      ...{ sub_id: subject, events: { [event]: payload } },
      ...more,
    }),
    sign: (claims, header = {}) =>
      new SignJWT(claims as Record<string, unknown>)
        .setProtectedHeader({ alg: "RS256", kid: String(jwk.kid), typ: "secevent+jwt", ...header })
        .sign(pair.privateKey),
    async push(url, token, headers = {}) {
      const sent = { "content-type": "application/secevent+jwt", accept: "application/json", ...headers };
      const { status, headers: got, body } = await visitor.request(url, { method: "POST", body: token, headers: sent });
      return { status, header: (name) => (got[name] === undefined ? null : String(got[name])), body };
    },
    queue: (token, jti) => void state.pending.push({ jti, token }),
    async rotate() {
      kid += 1;
      pair = await generateKeyPair("RS256", { extractable: true });
      jwk = { ...(await exportJWK(pair.publicKey)), kid: `t${kid}`, alg: "RS256", use: "sig" };
    },
  };
  return transmitter;
}

async function bodyOf(req: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of req) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString("utf8");
}
