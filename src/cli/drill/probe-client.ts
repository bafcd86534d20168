/**
 * Probe client: sends the canary's requests to each proxy by its own address, and opens streams there.
 *
 * The canary's host goes into `Host` and into the TLS handshake, so no balancer chooses the proxy. Connections are kept
 * alive: a revocation must also be in force on a connection that is already open.
 */
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage, type RequestOptions } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import type { ProxyTls } from "../tunnel/proxy-client.ts";
import type { DrillFile, DrillProxy } from "./drill-file.ts";
import type { CanaryProbe, ProbeAnswer } from "./observations.ts";

const probeMsMax = 5_000;
const bodyBytesMax = 1024 * 1024;

export type CanaryStream = Readonly<{
  proxy: string;
  /** When it ended, by the clock of the run; undefined: it is open. */
  endedAt(): number | undefined;
  close(): void;
}>;

export type ProbeClient = Readonly<{
  /** Never rejects: no answer is `failed`. @param as `anonymous`: without the canary's credential */
  send(proxy: DrillProxy, as?: "canary" | "anonymous"): Promise<CanaryProbe>;
  /** @returns a refusal's status if the stream is not permitted; 0: no response */
  openStream(proxy: DrillProxy): Promise<CanaryStream | number>;
  close(): void;
}>;

export function createProbeClient(options: {
  canary: DrillFile["canary"];
  token: string;
  tls: ProxyTls;
  /** Milliseconds of the run. */
  now: () => number;
}): ProbeClient {
  const { canary, token, tls, now } = options;
  const isSecure = canary.url.protocol === "https:";
  const agent = isSecure
    ? new HttpsAgent({ keepAlive: true, maxSockets: 2, ...tls, servername: canary.url.hostname })
    : new HttpAgent({ keepAlive: true, maxSockets: 2 });

  const requestOptions = (proxy: DrillProxy, path: string, as: "canary" | "anonymous"): RequestOptions => ({
    host: proxy.host,
    port: proxy.port,
    path,
    headers: {
      host: canary.url.host,
      accept: "application/json",
      "user-agent": "cardea-drill",
      "sec-fetch-mode": "cors", // a refusal is then a status, not a redirect to sign-in
      ...(as === "canary" && { authorization: `Pomerium ${token}` }),
    },
  });

  function begin(
    proxy: DrillProxy,
    sending: Readonly<{ path: string; as: "canary" | "anonymous"; pooled: "pooled" | "own"; timeoutMs: number }>,
  ): Promise<IncomingMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const all = {
      ...requestOptions(proxy, sending.path, sending.as),
      agent: sending.pooled === "pooled" ? agent : false,
      ...(isSecure && sending.pooled === "own" && { ...tls, servername: canary.url.hostname }),
    };
    const outgoing = isSecure ? httpsRequest(all) : httpRequest(all);
    const timer = setTimeout(() => outgoing.destroy(new Error("no response in time")), sending.timeoutMs);
    outgoing.on("response", (response) => {
      clearTimeout(timer);
      resolve(response);
    });
    outgoing.on("error", (error) => {
      clearTimeout(timer);
      reject(error);
    });
    outgoing.end();
    return promise;
  }

  return {
    async send(proxy, as = "canary") {
      const sentAt = now();
      const path = `${canary.url.pathname}${canary.url.search}`;
      const base = { proxy: proxy.node, sentAt };
      try {
        const response = await begin(proxy, { path, as, pooled: "pooled", timeoutMs: probeMsMax });
        await drain(response);
        const status = response.statusCode ?? 0;
        const id = response.headers["x-request-id"];
        const requestId = typeof id === "string" ? id.slice(0, 100) : "";
        return { ...base, endedAt: now(), answer: answerOf(status), status, requestId };
      } catch {
        // Counted by the caller as a request without an answer.
        return { ...base, endedAt: now(), answer: "failed", status: 0, requestId: "" };
      }
    },
    async openStream(proxy) {
      const path = canary.stream ?? canary.url.pathname;
      let response: IncomingMessage;
      try {
        response = await begin(proxy, { path, as: "canary", pooled: "own", timeoutMs: probeMsMax });
      } catch {
        return 0; // no response: the caller reports it
      }
      const status = response.statusCode ?? 0;
      let endedAt: number | undefined;
      response.on("error", () => {}); // `close` follows
      response.on("close", () => {
        endedAt = now();
      });
      response.resume();
      if (status >= 200 && status < 300)
        return { proxy: proxy.node, endedAt: () => endedAt, close: () => response.destroy() };
      response.destroy();
      return status;
    },
    close: () => agent.destroy(),
  };
}

function answerOf(status: number): ProbeAnswer {
  if (status >= 200 && status < 300) return "permitted";
  return status >= 500 ? "unavailable" : "refused";
}

/** Reads the body to its end, so that the connection can be used again. A longer body ends the connection. */
async function drain(response: IncomingMessage): Promise<void> {
  let bytes = 0;
  const timer = setTimeout(() => response.destroy(new Error("the body did not end in time")), probeMsMax);
  try {
    for await (const chunk of response) {
      bytes += (chunk as Buffer).length;
      if (bytes > bodyBytesMax) {
        response.destroy();
        return;
      }
    }
  } finally {
    clearTimeout(timer);
  }
}
