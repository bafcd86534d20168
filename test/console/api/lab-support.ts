/** Support for the tests of the policy lab: an operator API with routes, a lab, and records of decisions. */
import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { after, type TestContext } from "node:test";
import { type AuditRecord, type PastConfiguration, pastConfigurationOf } from "../../../src/audit/index.ts";
import { compilePolicies, type DecisionRecord } from "../../../src/auth/index.ts";
import { WorkerPolicyLab } from "../../../src/cli/build/lab/policy-lab.ts";
import { canonicalConfig } from "../../../src/config/index.ts";
import type { ReplayFailure, ReplayResult } from "../../../src/console/index.ts";
import {
  type CommandId,
  type ConfigHash,
  type NodeId,
  packConfigBody,
  type SessionId,
  type UnixMs,
  type UserId,
} from "../../../src/events/index.ts";
import { createRecordedRequestReader } from "../../../src/proxy/index.ts";
import { decision } from "../../audit/support.ts";
import { signIn, subjectId, type World } from "../../auth/authenticate/support.ts";
import { base, config as parseWhole } from "../../config/support.ts";
import type { VisitorResponse } from "../../support/visitor.ts";
import { type OperatorWorld, pushRecords, startOperatorWorld } from "./operator-support.ts";

export const labRoutes = `routes:
  - id: eng
    name: Engineering
    from: https://eng.example.com
    to: http://127.0.0.1:8091
    route_groups: [tech]
    policy:
      - allow:
          and:
            - groups: {has: eng}
  - id: payroll
    name: <b>Payroll</b>
    from: https://payroll.example.com
    to: http://127.0.0.1:8091
    route_groups: [hr]
    allow_any_authenticated_user: true
`;

/** One thread for all tests of a file. */
const policyLab = new WorkerPolicyLab();
after(() => policyLab.close());

export type Person = Readonly<{ userId: UserId; sessionId: SessionId }>;
export type LabWorld = Readonly<{
  at: OperatorWorld;
  own: PastConfiguration;
  person(name: string): Promise<Person>;
  /** Adds the record of a request now. */
  decided(routeId: string, who: Person | null, result: "permit" | "deny", more?: Partial<DecisionRecord>): AuditRecord;
  replay(body: object, headers?: Record<string, string>): Promise<VisitorResponse>;
}>;

export async function startLabWorld(
  t: TestContext,
  options: Parameters<typeof startOperatorWorld>[1] = {},
  routes = labRoutes,
): Promise<LabWorld> {
  const config = parseWhole(base + routes);
  const compiled = compilePolicies(config.routes);
  assert.ok(compiled.ok);
  const { policies } = compiled;
  const own: PastConfiguration = { ...pastConfigurationOf(config, policies), idpIdsOf: () => null };
  const at = await startOperatorWorld(t, {
    routes: config.routes.map(({ id, from, routeGroups = [] }) => {
      const policy = policies.get(id);
      assert.ok(policy);
      return { id, from: from.href, policy, routeGroups };
    }),
    ...options,
    deps: { ownConfiguration: () => own, policyLab, recordReaderOf: createRecordedRequestReader, ...options.deps },
  });
  let seq = 0;
  const { world } = at;
  await announceConfiguration(world, "node-1", canonicalConfig(config));
  return {
    at,
    own,
    async person(name) {
      await signIn(world, world.visitor(), name);
      const userId = subjectId(world, name) as UserId;
      const [session] = [...world.replica.projection.sessionsOf(userId)];
      assert.ok(session);
      return { userId, sessionId: session };
    },
    decided(routeId, who, result, more = {}) {
      seq += 1;
      const permitted = result === "permit";
      const record: AuditRecord = {
        kind: "decision",
        seq,
        ...decision("/", {
          ...{ at: Date.now() as UnixMs, routeId, host: `${routeId}.example.com`, requestId: `request-${seq}` },
          ...{ result, status: permitted ? 200 : 403, reasons: permitted ? ["groups-ok"] : ["groups-unauthorized"] },
          ...{ allow: { met: permitted, reasons: [] }, deny: { met: false, reasons: [] } },
          ...{ sessionId: who?.sessionId ?? null, userId: who?.userId ?? null, applied: world.replica.applied },
          ...more,
        }),
      };
      pushRecords(at.feed, record);
      return record;
    },
    replay: (body, headers) => at.post("/policy/replay", body, headers === undefined ? {} : { headers }),
  };
}

/** Has a node announce a configuration with this text. */
export async function announceConfiguration(world: World, node: string, text: string): Promise<ConfigHash> {
  const configHash = createHash("sha256").update(text).digest("hex") as ConfigHash;
  const result = await world.deps.databroker.submit({
    commandId: randomUUID() as CommandId,
    actor: "service:test",
    command: { type: "activateConfiguration", nodeId: node as NodeId, configHash, body: packConfigBody(text) },
  });
  assert.equal(result.type, "done", JSON.stringify(result));
  if (result.type === "done") await world.replica.waitFor(result.link, 5_000);
  return configHash;
}

/** The last event of the answer. */
export function outcomeOf(answer: VisitorResponse): ReplayResult | ReplayFailure {
  assert.equal(answer.status, 200, answer.body);
  const sent = answer.body.split("\n").filter((line) => line.startsWith("data: "));
  return JSON.parse(sent.at(-1)?.slice(6) ?? "null") as ReplayResult | ReplayFailure;
}

export function resultOf(answer: VisitorResponse): ReplayResult {
  const outcome = outcomeOf(answer);
  assert.ok(outcome.type === "result", JSON.stringify(outcome));
  return outcome;
}
