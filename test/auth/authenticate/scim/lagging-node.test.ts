/** A SCIM change at a node that has not seen the change before it: "nothing changes" is never its own opinion alone. */
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { test } from "node:test";
import { createScimServer, provisionedFor } from "../../../../src/auth/index.ts";
import type { ScimClientConfig } from "../../../../src/config/index.ts";
import {
  type CommandId,
  formatScimToken,
  type GroupId,
  hashScimSecret,
  type ProvisionedRecord,
  parseProvisioned,
  provisionedProfile,
  provisionedUserId,
  scimScopes,
  secretIn,
} from "../../../../src/events/index.ts";
import { delayedFanout } from "../../../support/delayed-fanout.ts";
import { waitFor } from "../../../support/wait-for.ts";
import { startWorld } from "../support.ts";

const client: ScimClientConfig = { name: "okta", match: "subject", claim: null, provider: null };
const rounds = 8;

test("what a lagging node takes for a repetition, a deactivation or a removal, is recorded all the same", async (t) => {
  const correlation = provisionedFor([client], "https://idp.example.com") ?? assert.fail();
  const world = await startWorld(t, {
    fanout: (inner) => delayedFanout(inner, { delayMs: 60_000 }),
    deps: (deps) => ({ ...deps, provisionedFor: correlation }),
    plugins: (at) => [
      (app) => {
        const server = createScimServer(at.deps, {
          clients: [client],
          provisionedFor: correlation,
          region: "here",
        });
        t.after(() => server.close());
        server.register(app);
      },
    ],
  });
  await world.submit({ type: "finalizeUpgrade", level: 5 });
  const tokenId = "0123456789abcdef";
  const token = formatScimToken(tokenId, randomBytes(32));
  await world.submit({
    type: "createScimToken",
    ...{ client: client.name, tokenId, secretHash: hashScimSecret(secretIn(token)), scopes: scimScopes },
    ...{ expiresAt: null, replaces: null },
  });
  await waitFor("the token", () => [...world.replica.projection.serviceAccounts()].length === 1);
  const visitor = world.visitor();
  const scim = async (method: string, path: string, body: object, headers: Readonly<Record<string, string>> = {}) => {
    const answer = await visitor.request(world.url("authenticate", `/scim/v2${path}`), {
      method,
      headers: { authorization: `Bearer ${token}`, "content-type": "application/scim+json", ...headers },
      body: JSON.stringify(body),
    });
    assert.ok(answer.status < 300, answer.body);
    return { position: Number(answer.headers["cardea-position"]), body: JSON.parse(answer.body || "{}") };
  };
  const schemas = ["urn:ietf:params:scim:schemas:core:2.0:User"];
  const created = await scim("POST", "/Users", { schemas, userName: "ada", externalId: "ada", active: true });
  const patch = ["urn:ietf:params:scim:api:messages:2.0:PatchOp"];
  const deactivate = { schemas: patch, Operations: [{ op: "replace", path: "active", value: false }] };
  const path = `/Users/${created.body.id}`;
  await scim("PATCH", path, deactivate);
  const userId = provisionedUserId(client.name, "ada");
  const recordOf = (): ProvisionedRecord => {
    const sealed = world.replica.projection.user(userId)?.profile ?? assert.fail();
    return parseProvisioned(world.replica.open(sealed, userId))?.record ?? assert.fail();
  };
  const elsewhere = world.broker.databroker("authenticate");
  for (let round = 0; round < rounds; round++) {
    const before = recordOf();
    const record = {
      ...before,
      version: before.version + 1,
      resource: { ...(before.resource ?? assert.fail()), active: true },
    };
    const { position } = world.replica.applied;
    // As another node of the cluster would record it.
    const reactivated = await elsewhere.submit({
      commandId: randomUUID() as string as CommandId,
      actor: `service:scim/okta#${tokenId}`,
      command: {
        type: "writeProvisionedUser",
        ...{ userId, client: client.name, expected: before.version, people: [], aliases: [], movedFrom: null },
        profile: provisionedProfile(client.name, record, { email: "", name: "" }),
        basis: position,
      },
    });
    assert.ok(reactivated.type === "done" && reactivated.changed);
    const answer = await scim("PATCH", path, deactivate, { "if-match": `W/"${record.version}"` });
    assert.ok(answer.position > reactivated.link.position, "the deactivation is behind the reactivation");
    assert.equal(world.replica.projection.user(userId)?.status, "suspended");
  }
  const group = ["urn:ietf:params:scim:schemas:core:2.0:Group"];
  const made = await scim("POST", "/Groups", { schemas: group, displayName: "staff" });
  const remove = { schemas: patch, Operations: [{ op: "remove", path: `members[value eq "${created.body.id}"]` }] };
  for (let round = 0; round < rounds; round++) {
    const groupId = "staff" as GroupId;
    const scimGroup = world.replica.projection.group(groupId)?.scim ?? assert.fail();
    const added = await elsewhere.submit({
      commandId: randomUUID() as string as CommandId,
      actor: `service:scim/okta#${tokenId}`,
      command: {
        type: "writeProvisionedGroup",
        ...{ client: client.name, groupId, expected: scimGroup.version, renamedFrom: null, removed: [] },
        ...{ scim: { ...scimGroup, version: scimGroup.version + 1 }, added: [userId] },
      },
    });
    assert.ok(added.type === "done" && added.changed);
    const answer = await scim("PATCH", `/Groups/${made.body.id}`, remove);
    assert.ok(answer.position > added.link.position, "the removal is behind the addition");
    assert.equal(world.replica.projection.membership(userId, groupId), undefined);
  }
});
