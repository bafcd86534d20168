/** An operator API over the world of the sign-in tests: a real broker, real sessions, and tokens. */
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import type { TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { FastifyInstance } from "fastify";
import {
  type AuditRecord,
  createFeed,
  type Feed,
  type HeardStatus,
  type RecordHistory,
} from "../../../src/audit/index.ts";
import { operatorSignIn, readLeasedSignInStatus } from "../../../src/auth/index.ts";
import { type OperatorEntry, plainBranding } from "../../../src/config/index.ts";
import type { AccessAct } from "../../../src/console/api/operator-access.ts";
import type { OperatorApiDeps, OperatorApiOptions } from "../../../src/console/api/operator-route.ts";
import {
  type ConsoleDeps,
  createAccessRecorder,
  createListCursors,
  createPageAssets,
  createPictureStore,
  lookOf,
  mintOperatorToken,
  operatorApiPrefix,
  operatorCallerOf,
  registerAssets,
  registerConsole,
  registerOperatorApi,
  themeSheet,
  verifyOperatorToken,
} from "../../../src/console/index.ts";
import type { ConfigHash, UnixMs } from "../../../src/events/index.ts";
import type { Databroker, HomeOutOfReach } from "../../../src/replication/index.ts";
import { secret, startWorld, type World, type WorldOptions } from "../../auth/authenticate/support.ts";
import { pathsOf, renderPage, sourceAssets } from "../../support/pages.ts";
import type { Visitor, VisitorRequest, VisitorResponse } from "../../support/visitor.ts";

export type OperatorWorld = Readonly<{
  world: World;
  feed: Feed;
  visitor: Visitor;
  /** The log output. */
  logged: string[];
  /** Records of refused callers and of reads. */
  accesses: AccessAct[];
  administrators: string[];
  /** All of them; tests may change the lists. */
  roles: { administrators: OperatorEntry[]; operators: OperatorEntry[]; viewers: OperatorEntry[] };
  stepUp: { maxAgeMs: number; authTime: "required" | "if_sent" };
  token(parts?: Partial<Parameters<typeof mintOperatorToken>[0]>): Promise<string>;
  /** With a valid token, unless the headers replace it. */
  get(path: string, request?: VisitorRequest): Promise<VisitorResponse>;
  post(path: string, body?: object, request?: VisitorRequest): Promise<VisitorResponse>;
  url(path: string): string;
}>;

export const nowS = (): number => Math.floor(Date.now() / 1_000);

export async function startOperatorWorld(
  t: TestContext,
  options: Readonly<{
    world?: WorldOptions;
    operator?: (inner: Databroker) => Databroker;
    feed?: Partial<Parameters<typeof createFeed>[0]>;
    history?: RecordHistory;
    auditStatus?: readonly HeardStatus[];
    plugins?: readonly ((app: FastifyInstance) => void)[];
    homeOutOfReach?: () => HomeOutOfReach | null;
    routes?: ReturnType<NonNullable<OperatorApiDeps["routePolicies"]>>;
    settings?: ReturnType<OperatorApiDeps["settings"]>;
    /** More of what the API is built from. */
    deps?: Partial<OperatorApiDeps>;
    /** The longest wait of the API. */
    sleepMsMax?: number;
    /** Also serves the console, with parts of these. */
    console?: Partial<ConsoleDeps>;
  }> = {},
): Promise<OperatorWorld> {
  const bounds = { entriesMax: 1_000, bytesMax: 1_000_000, watchersMax: 5, ...options.feed };
  const feed = createFeed({ start: { sequence: "test", number: 0, index: 0 }, ...bounds });
  const logged: string[] = [];
  const accesses: AccessAct[] = [];
  const administrators = ["admins"];
  const stepUp: OperatorWorld["stepUp"] = { maxAgeMs: 600_000, authTime: "required" };
  const roles: OperatorWorld["roles"] = { administrators, operators: [], viewers: [] };
  const world = await startWorld(t, {
    ...options.world,
    plugins: (built) => [
      ...(options.plugins ?? []),
      (app) => {
        const deps: OperatorApiOptions = {
          providers: { nameOf: () => null, refreshEveryMs: 60_000 },
          idle: built.deps.idle,
          databroker: options.operator?.(built.operator) ?? built.operator,
          replica: built.replica,
          feed,
          history: options.history ?? null,
          auditStatus: () => options.auditStatus ?? [],
          auditCounts: () => null,
          access: createAccessRecorder({
            record: (act) => void accesses.push(act),
            now: () => Date.now() as UnixMs,
            uuid: randomUUID,
            after: () => undefined,
          }),
          callerIp: () => "192.0.2.9",
          directories: [{ name: "corp", provider: "file", everyMs: 900_000 }],
          callerOf: (request) =>
            operatorCallerOf(request, {
              authenticateOrigin: new URL(built.url("authenticate")).origin,
              roles,
              verifyToken: (token) => verifyOperatorToken(token, { secrets: [secret], cluster: "test", nowS: nowS() }),
              signedIn: (caller) => readLeasedSignInStatus(built.deps, caller),
              requestable: () =>
                (options.routes ?? []).flatMap(({ id, requestAccess = null }) =>
                  requestAccess === null ? [] : [{ id, requestAccess }],
                ),
              homeOutOfReach: async () => options.homeOutOfReach?.() ?? null,
            }),
          roles: () => roles,
          settings: () =>
            options.settings ?? { file: "cardea.yaml", hash: "h" as ConfigHash, settings: [], routes: [] },
          stepUp: () => stepUp,
          cluster: "test",
          version: "test",
          fresh: () => built.deps.replica.overdueMs(built.deps.clock.monotonic()) <= 0,
          now: () => Date.now() as UnixMs,
          sleep: (ms, signal) => delay(Math.min(ms, options.sleepMsMax ?? ms), undefined, { signal }),
          uuid: randomUUID,
          region: "here",
          cursors: createListCursors([secret], randomBytes),
          ...options.deps,
          routePolicies: () => options.routes ?? [],
          log: { info: (fields, message) => void logged.push(`${message} ${JSON.stringify(fields)}`) },
        };
        registerOperatorApi(app, deps);
        if (options.console !== undefined) serveConsole(app, built, deps, options.console);
      },
    ],
  });
  const token: OperatorWorld["token"] = (parts = {}) =>
    mintOperatorToken({ secret, cluster: "test", name: "tester", tokenId: "t1", nowS: nowS(), ttlS: 60, ...parts });
  const good = await token();
  const visitor = world.visitor();
  const url = (path: string): string => world.url("authenticate", `${operatorApiPrefix}${path}`);
  const headers = { authorization: `Bearer ${good}`, accept: "application/json" };
  return {
    world,
    feed,
    visitor,
    logged,
    accesses,
    administrators,
    roles,
    stepUp,
    token,
    url,
    get: (path, request = {}) => visitor.request(url(path), { ...request, headers: request.headers ?? headers }),
    post: (path, body = {}, request = {}) =>
      visitor.request(url(path), {
        method: "POST",
        body: JSON.stringify(body),
        ...request,
        headers: request.headers ?? { ...headers, "content-type": "application/json" },
      }),
  };
}

function serveConsole(app: FastifyInstance, world: World, deps: OperatorApiOptions, parts: Partial<ConsoleDeps>): void {
  const assets = sourceAssets();
  const themed = createPageAssets({ "theme.css": themeSheet(plainBranding) });
  registerAssets(app, { find: (name) => assets.find(name) ?? themed.find(name) }, noPictures);
  registerConsole(app, {
    look: lookOf(
      { ...plainBranding, organizationName: "Acme" },
      { assets: pathsOf(assets), pictureUrl: (url) => (url === "" ? null : url) },
    ),
    assetPath: (name) => assets.pathOf(name) ?? themed.pathOf(name),
    render: renderPage,
    signIn: (path, reader) => operatorSignIn(world.deps, path, reader),
    authenticateUrl: world.deps.settings.authenticateUrl,
    ...deps,
    ...parts,
  });
}

const noPictures = createPictureStore([], {
  fetchPicture: () => Promise.reject(new Error("there are none")),
  now: () => 0,
  onFailed() {},
});

/** Adds records as those of the process itself. */
export function pushRecords(feed: Feed, ...records: readonly AuditRecord[]): void {
  for (const record of records) {
    const bytes = Buffer.byteLength(JSON.stringify(record)) + 1;
    feed.push([{ cursor: { sequence: "test", number: record.seq, index: 0 }, record, bytes }]);
  }
}

// biome-ignore lint/suspicious/noExplicitAny: the tests check the answer field by field
export function json(answer: VisitorResponse): any {
  assert.match(String(answer.headers["content-type"]), /^application\/json/, answer.body);
  return JSON.parse(answer.body);
}
