/** Envoy support: decision servers over gRPC, and check requests as Envoy writes them. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { type ChannelCredentials, credentials } from "@grpc/grpc-js";
import { Registry } from "prom-client";
import type { DecisionApiConfig } from "../../../src/config/index.ts";
import { type DecisionApiDeps, type DecisionServer, startDecisionServer } from "../../../src/proxy/index.ts";
import { type Attributes, type Checked, EnvoyClient, type HttpRequest } from "../../support/envoy-client.ts";
import { cookieOf, decisionApiConfig } from "../support.ts";

/** The servers and clients that a test file has started. `end` closes them. */
export class Started {
  readonly #cleanUps: (() => unknown)[] = [];
  /** @param deps the dependencies under the current configuration */
  async serve(deps: () => DecisionApiDeps, parts: Partial<DecisionApiConfig> = {}): Promise<DecisionServer> {
    const started = await startDecisionServer({
      listen: decisionApiConfig({
        ...{ grpcAddress: { host: "127.0.0.1", port: 0 }, trustedProxies: ["127.0.0.1", "10.9.0.0/16"] },
        ...parts,
      }),
      deps,
      registry: new Registry(),
      requestId: randomUUID,
    });
    this.onEnd(() => started.close());
    return started;
  }

  clientOf(at: DecisionServer, channel: ChannelCredentials = credentials.createInsecure()): EnvoyClient {
    const client = new EnvoyClient(at.grpcAddress?.port ?? 0, channel);
    this.onEnd(() => client.close());
    return client;
  }

  onEnd(cleanUp: () => unknown): void {
    this.#cleanUps.push(cleanUp);
  }
  async end(): Promise<void> {
    for (const cleanUp of this.#cleanUps.reverse()) await cleanUp();
  }
}

export type CheckRequest = HttpRequest & { session?: number; ip?: string; certificate?: string };
/** A check request as Envoy writes it, with the pseudo-headers among the headers. */
export function about({ session, ip = "203.0.113.9", certificate, headers, ...http }: CheckRequest = {}): Attributes {
  const request = { method: "GET", path: "/", host: "app.localhost", scheme: "http", ...http };
  const pseudo = {
    ":method": request.method,
    ":path": request.path,
    ":authority": request.host,
    ":scheme": request.scheme,
  };
  const cookie: Record<string, string> = session === undefined ? {} : { cookie: cookieOf(session) };
  return {
    source: {
      address: { socketAddress: { address: ip, portValue: 40_000 } },
      ...(certificate === undefined ? {} : { certificate: encodeURIComponent(certificate) }),
    },
    request: { http: { ...request, ...(http.headerMap ? {} : { headers: { ...pseudo, ...cookie, ...headers } }) } },
  };
}

/** The status that Envoy would send to its caller; 200: it forwards the request. */
export function statusOf({ status: { code }, deniedResponse }: Checked): number {
  assert.equal(code === 0, deniedResponse === undefined, "only code 0 is a permit");
  return deniedResponse?.status.code ?? 200;
}
