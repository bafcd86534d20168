/** `GET /audit/seals`: pages of bounded size that together have every seal of the log once. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { BootTree } from "../../../src/audit/seal/boot-tree.ts";
import { lostLeaf } from "../../../src/audit/seal/index.ts";
import { decodeEvent, type Link, linkOf } from "../../../src/events/index.ts";
import { encodeAuditSeal } from "../../../src/replication/wire/index.ts";
import { SealLog, signerOfNode } from "../../audit/seal/seal-support.ts";
import { json, startOperatorWorld } from "./operator-support.ts";

test("many seals come in several pages, newest first, each once", async (t) => {
  const log = new SealLog();
  const signer = signerOfNode();
  const tree = new BootTree(signer.boot);
  const count = 210;
  for (let size = 1; size <= count; size++) {
    tree.append(lostLeaf);
    assert.equal(
      log.submit(signer.sign(encodeAuditSeal(tree.seal(signer.node, { atMs: size, final: false, coded: true })))),
      "done",
    );
  }
  const { entries } = log;
  const linkAt = (position: number): Link | null => {
    const entry = entries[position - 1];
    return entry === undefined ? null : linkOf(decodeEvent(entry.bytes, entry.previous));
  };
  const at = await startOperatorWorld(t, {
    operator: (databroker) => ({
      ...databroker,
      async history({ upTo, depth }) {
        const searchedTo = Math.max(0, upTo - depth) as typeof upTo;
        const found = log.seals.filter(({ previous }) => previous.position >= searchedTo && previous.position < upTo);
        return { at: linkAt(upTo), found, searchedTo, base: 0 as typeof upTo, damagedAt: null };
      },
    }),
  });
  const sizes: number[] = [];
  const pages: number[] = [];
  for (let upTo: number | null = entries.length; upTo !== null; ) {
    const page: { seals: { size: number }[]; next: number | null } = json(await at.get(`/audit/seals?upTo=${upTo}`));
    pages.push(page.seals.length);
    sizes.push(...page.seals.map(({ size }) => size));
    upTo = page.next;
  }
  assert.deepEqual(
    sizes,
    Array.from({ length: count }, (_, i) => count - i),
  );
  assert.deepEqual(pages, [200, 10]);
});
