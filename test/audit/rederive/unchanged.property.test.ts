/**
 * Property of the recheck: over random histories, a right decision whose facts count as unchanged is never derived
 * differently from a later state of the log. It would be a false alarm.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { isUnchangedSince, rederiveDecision } from "../../../src/audit/rederive/index.ts";
import type { DecisionRecord } from "../../../src/auth/index.ts";
import type { GroupId, SessionCreated, UnixMs } from "../../../src/events/index.ts";
import { runSeed, SeededRandom } from "../../support/seeded-random.ts";
import { at, type LogWorld, logWorld, readerOf, stored } from "./support.ts";

const histories = 6;
const eventsEach = 40;
const eng = "eng" as GroupId;

async function change(world: LogWorld, random: SeededRandom, sessions: SessionCreated[]): Promise<void> {
  const { userId, sessionId } = random.pick(sessions as [SessionCreated, ...SessionCreated[]]);
  const until = { until: (at + random.int(2_000)) as UnixMs, reason: "for a while" };
  const changes = [
    () => world.members("eng", { added: [userId] }),
    () => world.members("eng", { removed: [userId] }),
    () =>
      world.append({
        ...({ type: "GroupMembersChanged", groupId: eng, source: "operator", added: [userId], removed: [] } as const),
        ...until,
      }),
    () => world.append({ type: "MembershipsExpired", groupId: eng, userIds: [userId], at: (at + 3_000) as UnixMs }),
    () =>
      world.append({ type: "UserGroupsReplaced", userId, source: "idp", groupIds: random.int(2) === 0 ? [eng] : [] }),
    () => world.append({ type: "GroupRemoved", groupId: eng }),
    () => world.append({ type: "UserSuspended", userId, reason: "left" }),
    () => world.append({ type: "UserRestored", userId }),
    () => world.append({ type: "UserSessionsRevoked", userId, upTo: null, reason: "operator" }),
    () => world.append({ type: "SessionRevoked", sessionId, userId, reason: "operator" }),
    () => world.append({ type: "SessionsExpired", sessionIds: [sessionId] }),
    async () =>
      void sessions.push(await world.signIn(random.pick(["boss@example.com", "kim@example.com"]), { userId })),
    async () => void sessions.push(await world.signIn("new@example.com")),
  ];
  await changes[random.int(changes.length)]?.();
}

test("a right decision whose facts count as unchanged is never derived differently later", async () => {
  const random = new SeededRandom(runSeed);
  let checked = 0;
  let skipped = 0;
  for (let history = 0; history < histories; history++) {
    const world = await logWorld();
    const sessions = [await world.signIn("kim@example.com"), await world.signIn("lee@example.com")];
    const records: DecisionRecord[] = [];
    const configuration = stored(world.config);
    const readRecord = readerOf(configuration);
    for (let n = 0; n < eventsEach; n++) {
      await change(world, random, sessions);
      for (const routeId of ["eng", "short", "open"])
        records.push(
          world.recordOf(routeId, random.pick(sessions as [SessionCreated, ...SessionCreated[]]), {
            at: (at + random.int(4_000)) as UnixMs,
          }),
        );
      const { projection, places, open } = world;
      for (const record of records) {
        const policy = record.routeId === null ? null : (configuration.routes.get(record.routeId)?.policy ?? null);
        if (!isUnchangedSince(record, policy, { projection, places })) {
          skipped += 1;
          continue;
        }
        const found = rederiveDecision(record, { facts: { projection, open }, configuration, readRecord });
        assert.notEqual(found.type, "different", `seed ${runSeed}: ${JSON.stringify([record, found])}`);
        checked += 1;
      }
    }
  }
  assert.ok(checked > 500 && skipped > 500, `${checked} checked, ${skipped} skipped`);
});
