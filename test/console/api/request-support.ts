/** Routes that people may request access to, and requests about them. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { compilePolicies } from "../../../src/auth/index.ts";
import type { CommandId, GroupId, UserId } from "../../../src/events/index.ts";
import { base, parse } from "../../config/support.ts";
import type { OperatorWorld } from "./operator-support.ts";

const file = `${base}routes:
  - {from: "https://payroll.example.com", to: "http://127.0.0.1:1", id: payroll, name: Payroll, route_groups: [hr], policy: [{allow: {and: [{groups: {has: hr}}]}}], request_access: {group: hr, approvers: ["group:sales"], durations: [4h, 1h]}}
  - {from: "https://wiki.example.com", to: "http://127.0.0.1:1", id: wiki, name: Wiki, policy: [{allow: {or: [{groups: {has: hr}}, {groups: {has: docs}}]}}], request_access: {group: docs, approvers: ["email:docs@example.com"]}}
  - {from: "https://admin.example.com", to: "http://127.0.0.1:1", id: admin, name: Admin, policy: [{allow: {and: [{groups: {has: admins}}]}}], request_access: {group: admins, approvers: ["group:sales"]}}
`;

export function requestRoutes() {
  const parsed = parse(file);
  if (!parsed.ok) return assert.fail(JSON.stringify(parsed.problems));
  const compiled = compilePolicies(parsed.config.routes);
  assert.ok(compiled.ok, JSON.stringify(compiled));
  return parsed.config.routes.flatMap(({ id, name, from, routeGroups, requestAccess }) => {
    const policy = compiled.policies.get(id);
    return policy === undefined ? [] : [{ id, name, from: from.href, policy, routeGroups, requestAccess }];
  });
}

export async function ask(
  at: OperatorWorld,
  userId: UserId,
  route: string,
  group: string,
  reason = "quarter close",
): Promise<string> {
  const { replica, deps } = at.world;
  const requestId = randomUUID() as CommandId;
  const [sessionId] = replica.projection.sessionsOf(userId);
  assert.ok(sessionId !== undefined);
  const wish = { routeId: route, groupId: group as GroupId, durationMs: 3_600_000, reason, refusal: "refusal-1" };
  const command = { type: "requestAccess", requestId, userId, sessionId, ...wish } as const;
  const result = await deps.databroker.submit({ commandId: requestId, actor: `user:${userId}`, command });
  assert.ok(result.type === "done", JSON.stringify(result));
  await replica.waitFor(result.link, 2_000);
  return requestId;
}
