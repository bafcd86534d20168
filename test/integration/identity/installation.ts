/**
 * Test installation: one process with every service, or a separate proxy, with a real identity provider and a real
 * upstream.
 *
 * The upstream answers with the request that it received.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, type TestContext } from "node:test";
import { readConfiguration } from "../../../src/cli/build/load.ts";
import { type Services, startServices } from "../../../src/cli/build/services.ts";
import { openOutput } from "../../../src/cli/terminal/output.ts";
import { formatProblem } from "../../../src/config/index.ts";
import type { Logger } from "../../../src/replication/index.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { freePorts } from "../../support/free-port.ts";
import { startProvider, type TestProvider } from "../../support/oidc-provider.ts";
import { Visitor, type VisitorRequest, type VisitorResponse } from "../../support/visitor.ts";

export type Installation = Readonly<{
  services: Services;
  provider: TestProvider;
  port: number;
  /** Another free port for the configuration of a test. */
  sparePort: number;
  url(host: string, path?: string): string;
  visitor(): Visitor;
  /** Activates the configuration with these changes. */
  activate(more: Readonly<Record<string, unknown>>): Promise<void>;
  /** Logged lines, newest last. */
  logged: readonly Readonly<{ message: string; fields: Readonly<Record<string, unknown>> }>[];
  /** Audit records of the process, or of the proxy. */
  auditFile: string;
}>;

export type Parts = (
  at: Readonly<{ url: Installation["url"]; upstream: string; sparePort: number }>,
) => Readonly<Record<string, unknown>> | Promise<Readonly<Record<string, unknown>>>;

const secret = (byte: number): string =>
  Buffer.from(Array.from({ length: 32 }, (_, i) => (i * 7 + byte) % 251)).toString("base64");

/**
 * @param parts the configuration beside the common part
 * @param form `split`: the proxy runs apart from the other services, over the network, and without any client secret
 */
export async function startInstallation(
  t: Pick<TestContext, "after">,
  parts: Parts,
  form: "whole" | "split" = "whole",
  providerOptions: Readonly<{
    logoutNames?: "sid" | "sub";
    /** With `split`: a second proxy at the spare port. */
    otherProxy?: true;
  }> = {},
): Promise<Installation> {
  const folder = new TemporaryFolder("identity");
  const [port = 0, controlPort = 0, brokerPort = 0, sparePort = 0] = await freePorts(4);
  const url = (host: string, path = "/"): string => `http://${host}.localhost:${port}${path}`;
  const provider = await startProvider(
    t,
    ["cardea", "second"].map((id) => ({
      ...{ id, secret: `the client secret of ${id}` },
      redirectUris: [url("authenticate", "/oauth2/callback")],
    })),
    providerOptions.logoutNames === undefined
      ? {}
      : {
          backchannelLogout: {
            uri: url("authenticate", "/.pomerium/backchannel_logout"),
            names: providerOptions.logoutNames,
          },
        },
  );
  const upstream = createServer((req, res) => {
    res.setHeader("content-type", "application/json");
    if (req.url === "/held") return void res.write("held"); // until the test ends it
    res.end(JSON.stringify({ url: req.url, headers: req.headers }));
  });
  upstream.listen(0, "127.0.0.1");
  await once(upstream, "listening");
  const upstreamUrl = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`;
  const ownParts = await parts({ url, upstream: upstreamUrl, sparePort });
  const load = (more: Readonly<Record<string, unknown>>, of: "all" | "proxy" | "control" | "other-proxy" = "all") => {
    const path = join(folder.path, `${of}.yaml`);
    const config = {
      authenticate_service_url: url("authenticate"),
      address: `127.0.0.1:${port}`,
      insecure_server: true,
      metrics_address: "off",
      databroker_storage_type: "memory",
      data_dir: join(folder.path, of),
      node_name: of,
      shared_secret: secret(3),
      cookie_secret: secret(5),
      idp_provider: "oidc",
      idp_provider_url: provider.issuer.href,
      idp_client_id: "cardea",
      idp_client_secret: "the client secret of cardea",
      idp_scopes: ["openid", "email", "profile", "groups", "offline_access"],
      drain_delay: "0s",
      drain_timeout: "1s",
      ...ownParts,
      ...more,
      ...(of === "control" && {
        services: ["authenticate", "databroker"],
        address: `127.0.0.1:${controlPort}`,
        databroker_storage_type: "file",
        broker: { listen: `127.0.0.1:${brokerPort}` },
      }),
      ...((of === "proxy" || of === "other-proxy") && {
        services: ["proxy"],
        ...(of === "other-proxy" && { address: `127.0.0.1:${sparePort}` }),
        authenticate_internal_service_url: `http://127.0.0.1:${controlPort}`,
        databroker_service_url: `http://127.0.0.1:${brokerPort}`,
      }),
    };
    const withoutClientSecret = (key: string, value: unknown): unknown =>
      of.endsWith("proxy") && (key === "idp_client_secret" || key === "client_secret") ? undefined : value;
    writeFileSync(path, JSON.stringify(config, withoutClientSecret), { mode: 0o600 });
    const { loaded, problems } = readConfiguration(path, { env: {} });
    if (loaded === undefined) throw new Error(problems.map(formatProblem).join("\n"));
    return loaded;
  };
  const logged: { message: string; fields: Readonly<Record<string, unknown>> }[] = [];
  const log = (fields: object, message: string): void =>
    void logged.push({ message, fields: fields as Readonly<Record<string, unknown>> });
  const logger: Logger = { debug: log, info: log, warn: log, error: log };
  const output = openOutput({ fd: 1, noticeOf: () => "" });
  const control = form === "split" ? await startServices(load({}, "control"), { logger, output }) : null;
  const own = form === "split" ? "proxy" : "all";
  const services = await startServices(load({}, own), { logger, output });
  const other =
    providerOptions.otherProxy === true ? await startServices(load({}, "other-proxy"), { logger, output }) : null;
  const visitors: Visitor[] = [];
  t.after(async () => {
    for (const visitor of visitors) await visitor.close();
    await other?.stop();
    await services.stop();
    await control?.stop();
    await output.close();
    upstream.closeAllConnections();
    upstream.close();
    folder[Symbol.dispose]();
  });
  return {
    ...{ services, provider, port, sparePort, url, logged },
    auditFile: join(folder.path, own, "audit/decisions.jsonl"),
    visitor() {
      const visitor = new Visitor();
      visitors.push(visitor);
      return visitor;
    },
    activate: (more) => services.activate(load(more, own)),
  };
}

export type Echo = Readonly<{ url: string; headers: IncomingHttpHeaders }>;
/** The request that the upstream received. @throws if the answer is not the upstream's */
export function echoOf(answer: VisitorResponse): Echo {
  if (answer.status !== 200) throw new Error(`${answer.status} at ${answer.url.href}: ${answer.body.slice(0, 500)}`);
  return JSON.parse(answer.body) as Echo;
}

export const bearing = (token: string): VisitorRequest => ({
  headers: { authorization: `Bearer ${token}`, accept: "application/json" },
});

/** Retries while the answer is 503, because a separate proxy may not have the newest changes yet. */
export async function retryUndecided(ask: () => Promise<VisitorResponse>): Promise<VisitorResponse> {
  for (const giveUpAt = performance.now() + undecidedMsMax; ; ) {
    const answer = await ask();
    if (answer.status !== 503 || performance.now() >= giveUpAt) return answer;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
const undecidedMsMax = 20_000;

/** Follows redirects. Returns every URL on the way, and the last answer. */
export async function follow(
  visitor: Visitor,
  target: string,
): Promise<Readonly<{ hops: readonly URL[]; end: VisitorResponse }>> {
  const hops = [new URL(target)];
  for (let next: URL | null = new URL(target); ; ) {
    const to: URL = next;
    const answer: VisitorResponse = await retryUndecided(() => visitor.request(to));
    next = answer.location;
    if (next === null) return { hops, end: answer };
    hops.push(next);
    assert.ok(hops.length < 30, hops.map(({ host, pathname }) => host + pathname).join("\n"));
  }
}

/** One installation for all tests of a file. */
export function shared(start: (t: Pick<TestContext, "after">) => Promise<Installation>): () => Installation {
  const cleanups: (() => unknown)[] = [];
  let started: Installation | undefined;
  before(async () => {
    started = await start({ after: (cleanup: unknown) => void cleanups.push(cleanup as () => unknown) } as Pick<
      TestContext,
      "after"
    >);
  });
  after(async () => {
    for (const cleanup of cleanups.reverse()) await cleanup();
  });
  return () => started ?? assert.fail("it did not start");
}
