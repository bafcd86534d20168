/**
 * The order of a leader's writes: beats and appends under load, with a store whose commits take as long as the test
 * says. The clock is the test's own, so every count is exact.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { FakeNode } from "../support.ts";
import { aLeader, commitMs, granted, lease } from "./slow-leader.ts";

describe("the order of a leader's writes", () => {
  test("a command that arrives while a beat is in flight is the next write", async () => {
    const leader = await aLeader();
    const node = new FakeNode("node-1");
    await granted(leader, node);
    await leader.advance(lease.beatMs);
    assert.deepEqual(leader.writes, ["beat"]);
    const command = leader.submit("s1");
    leader.renew(node);
    await leader.advance(commitMs);
    await leader.commit();
    assert.deepEqual(leader.writes, ["beat", "append"]);
    await leader.commit();
    assert.equal(leader.answers.get(command)?.type, "done");
  });

  test("no beat starts while commands wait, although commits take so long that one is always due", async () => {
    const leader = await aLeader();
    const node = new FakeNode("node-1");
    await granted(leader, node);
    leader.submit("s0");
    await leader.advance(0);
    for (let n = 1; n <= 10; n += 1) {
      leader.submit(`s${n}`);
      const renewed = leader.renew(node);
      for (const part of ["a", "b"]) {
        leader.submit(`s${n}${part}`);
        await leader.advance(3 * lease.beatMs);
        await leader.commit();
      }
      assert.equal(leader.leases.get(renewed)?.type, "granted", "an append grants the renews that arrived before it");
    }
    assert.deepEqual([...new Set(leader.writes)], ["append"]);
  });

  test("while a new boot waits for its row, beats and appends take turns", async () => {
    const leader = await aLeader();
    await granted(leader, new FakeNode("node-1"));
    const boots = ["node-2", "node-3", "node-4"].map((name) => new FakeNode(name));
    leader.submit("s0");
    for (const boot of boots) {
      const from = leader.writes.length;
      const asks = leader.renew(boot);
      for (let n = 0; leader.leases.get(asks) === undefined && n < 10; n += 1) {
        leader.submit(`${boot.node}-${n}`);
        await leader.advance(3 * lease.beatMs);
        await leader.commit();
      }
      assert.equal(leader.leases.get(asks)?.type, "granted");
      const after = leader.writes.slice(from);
      assert.ok(after.indexOf("beat") <= 1, `its beat waited for more than one append: ${after.join(" ")}`);
    }
    assert.ok(!leader.writes.join(" ").includes("beat beat"), "an append follows each beat while commands wait");
  });

  test("a caller that sends one command after the other waits for no beat", async () => {
    const leader = await aLeader();
    await granted(leader, new FakeNode("node-1"));
    for (let n = 0; n < 10; n += 1) {
      const command = leader.submit(`s${n}`);
      await leader.advance(commitMs);
      await leader.commit();
      assert.equal(leader.answers.get(command)?.type, "done");
      await leader.advance(10);
    }
    assert.deepEqual([...new Set(leader.writes)], ["append"]);
  });

  test("of the commands of a busy cluster, none waits for a beat that started after it arrived", async (t) => {
    const leader = await aLeader();
    const nodes = ["node-1", "node-2", "node-3", "node-4", "node-5"].map((name) => new FakeNode(name));
    for (const node of nodes) await granted(leader, node);
    const waits: number[] = [];
    const open = new Map<number, number>();
    let [renewAt, renews] = [leader.now, 0];
    for (let n = 0; n < 400; n += 1) {
      // Gaps from none to four commits, in an order that has no period.
      await leader.runUntil(leader.now + ((n * n * 37) % (4 * commitMs)));
      for (; renewAt <= leader.now; renewAt += 200, renews += 1)
        leader.renew(nodes[renews % nodes.length] ?? assert.fail());
      open.set(leader.submit(`s${n}`), leader.now);
      await leader.runUntil(leader.now);
      for (const [id, at] of open) {
        const answer = leader.answers.get(id);
        if (answer === undefined) continue;
        assert.equal(answer.type, "done");
        const answeredAt = leader.answeredAt.get(id) ?? assert.fail();
        assert.deepEqual(
          leader.beatsAt.filter((beatAt) => beatAt > at && beatAt < answeredAt),
          [],
        );
        waits.push(answeredAt - at);
        open.delete(id);
      }
    }
    const sorted = waits.toSorted((a, b) => a - b);
    const [mean, max] = [waits.reduce((sum, ms) => sum + ms, 0) / waits.length, sorted.at(-1) ?? 0];
    const beats = leader.writes.filter((write) => write === "beat").length;
    t.diagnostic(
      `a commit takes ${commitMs} ms; ${waits.length} commands waited ${Math.round(mean)} ms in the mean, ${max} at most; ${beats} beats`,
    );
    assert.ok(beats > 0 && waits.length > 350);
  });

  test("after the last command, a beat shows the head to the readers of standbys", async () => {
    const leader = await aLeader();
    await granted(leader, new FakeNode("node-1"));
    leader.submit("s1");
    await leader.advance(commitMs);
    await leader.commit();
    await leader.advance(lease.beatMs / 4);
    assert.deepEqual(leader.writes, ["append", "beat"]);
  });

  test("a commit is published in the step that learns of it, and after the next batch has left if one waits", async () => {
    const leader = await aLeader();
    leader.submit("s1");
    await leader.advance(1);
    leader.submit("s2");
    await leader.advance(1);
    leader.order.length = 0;
    await leader.commit();
    assert.deepEqual(leader.order, ["logAnswered: append", "woke: publish", "woke: commandAnswered"]);
    leader.order.length = 0;
    await leader.commit();
    assert.deepEqual(leader.order, ["logAnswered: publish", "woke: commandAnswered"]);
  });
});
