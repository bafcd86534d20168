/** Test mutants of the seals of audit records, and of the Postgres audit sink (test-mutants.ts). Pure data. */
import type { TestMutant } from "./test-mutant.ts";

const checkTest = "test/audit/proof/record-check.test.ts";
const codeTest = "test/audit/seal/leaf-code.test.ts";
const largeTest = "test/audit/proof/large-segments.test.ts";
const sealerTest = "test/audit/seal/sealer.test.ts";
const treeTest = "test/events/codec/merkle-tree.test.ts";
const postgresTest = "test/audit/postgres/postgres-audit-sink.test.ts";
const tree = "src/events/codec/merkle-tree.ts";
const leaf = "src/audit/seal/record-leaf.ts";
const sealer = "src/audit/seal/sealer.ts";
const seal = "src/replication/wire/audit-seal.ts";
const index = "src/audit/proof/seal-index.ts";
const check = "src/audit/proof/record-check.ts";
const command = "src/broker/commands/cluster/seal-audit-segment.ts";
const postgres = "src/audit/postgres/postgres-audit-sink.ts";
const schema = "src/audit/postgres/audit-schema.ts";

export const sealTestMutants: Readonly<Record<string, TestMutant>> = {
  "leaf-prefix-of-nodes": {
    section: 7,
    meaning: "a leaf is hashed with the prefix of a node, so a node can be passed off as a record",
    test: treeTest,
    changes: [
      { file: tree, take: "const leafPrefix = Buffer.from([0x00]);", put: "const leafPrefix = Buffer.from([0x01]);" },
    ],
  },
  "node-without-prefix": {
    section: 7,
    meaning: "the nodes of the tree are hashed without a prefix of their own",
    test: treeTest,
    changes: [
      {
        file: tree,
        take: "const nodeScratch = Buffer.alloc(1 + 2 * treeHashBytes, 0x01);",
        put: "const nodeScratch = Buffer.alloc(1 + 2 * treeHashBytes, 0x00);",
      },
    ],
  },
  "record-leaf-prefix": {
    section: 7,
    meaning: "the leaf of a record is hashed with the prefix of a node",
    test: checkTest,
    changes: [{ file: leaf, take: "part.bytes[0] = 0; // the prefix of a leaf", put: "part.bytes[0] = 1;" }],
  },
  "seal-signature-unchecked": {
    section: 7,
    meaning: "a root counts as signed by its node, whatever the signature",
    test: checkTest,
    changes: [
      {
        file: seal,
        take: 'if (!verify(null, parts.signed, publicKeyFromRaw(signer.publicKey), parts.signature)) return "bad signature";',
        put: "void [verify, publicKeyFromRaw];",
      },
    ],
  },
  "seal-key-of-any-boot": {
    section: 7,
    meaning: "a seal counts as its boot's, though the boot id names another key",
    test: checkTest,
    changes: [{ file: seal, take: `if (!parts.commitsToKey) return "its signer's boot id names no key";`, put: "" }],
  },
  "seal-of-another-node": {
    section: 7,
    meaning: "a node seals the records of another node",
    test: sealerTest,
    changes: [
      {
        file: seal,
        take: 'if (from.name !== seal.node) return "another node signed it than the one that it names";',
        put: "",
      },
    ],
  },
  "previous-seal-unread": {
    section: 7,
    meaning: "the log records a seal that does not continue the boot's previous one",
    test: sealerTest,
    changes: [
      {
        file: command,
        take: "if (!mayBeForgotten && !continues(head, previous))",
        put: "if (!mayBeForgotten && !continues(head, previous) && previous.size < 0)",
      },
    ],
  },
  "ended-boot-goes-on": {
    section: 7,
    meaning: "the log records a seal of a boot that has ended",
    test: sealerTest,
    changes: [{ file: command, take: "if (head?.final === true) return", put: "if (head === null) return" }],
  },
  "repeated-seal-recorded": {
    section: 7,
    meaning: "a seal that is sent again is recorded or refused again",
    test: sealerTest,
    changes: [
      {
        file: command,
        take: "head.root === root && (head.final || !final)) return nothing;",
        put: "head.root === root && final && !final) return nothing;",
      },
    ],
  },
  "fork-unreported": {
    section: 7,
    meaning: "two histories of a boot are accepted, as the records match one of them",
    test: checkTest,
    changes: [
      {
        file: index,
        take: "const isContinued = seal.previous.size === before.size && seal.previous.root.equals(before.root);",
        put: "const isContinued = true;",
      },
    ],
  },
  "gap-excuses-removal": {
    section: 7,
    meaning: "a gap record in the place of records that were sealed excuses that they are not there",
    test: checkTest,
    changes: [
      {
        file: check,
        take: "if (wanted.length === 0 || isDoubtful) this.#append(state, lostLeaf, last - range.first + 1);",
        put: "if (declared) wanted.splice(0);\n    if (wanted.length === 0 || isDoubtful) this.#append(state, lostLeaf, last - range.first + 1);",
      },
      {
        file: check,
        take: "for (const part of isDoubtful ? [] : wanted) {",
        put: "for (const part of isDoubtful || declared ? [] : wanted) {",
      },
      { file: check, take: "const wanted = declared", put: "const wanted: SealedRange[] = declared" },
    ],
  },
  "lost-numbers-unsealed": {
    section: 7,
    meaning: "a seal does not say which of its numbers are lost, so a reader takes them for removed",
    test: sealerTest,
    changes: [
      {
        file: "src/audit/seal/boot-tree.ts",
        take: "else if (ranges.length < lostRangesMax) ranges.push({ first, last });",
        put: "else if (lostRangesMax < 0) ranges.push({ first, last });",
      },
    ],
  },
  "too-many-guessed": {
    section: 7,
    meaning: "more altered records than the code can locate are named all the same, by numbers that are wrong",
    test: codeTest,
    changes: [
      {
        file: "src/audit/seal/reed-solomon.ts",
        take: "return found.length === count && !found.some((at) => of.erasures.includes(at)) ? found : undefined;",
        put: "return found;",
      },
      {
        file: "src/audit/seal/reed-solomon.ts",
        take: "if (2 * count > rest.length - spareCount) return undefined;",
        put: "",
      },
    ],
  },
  "given-up-called-lost": {
    section: 7,
    meaning: "records that the spool gave up before they were hashed are sealed as numbers that never had one",
    test: sealerTest,
    changes: [
      {
        file: sealer,
        take: "if (batch.wasStored === true) this.#passUnhashed(tree, batch.last);\n    else if (records === 0)",
        put: "if (records === 0)",
      },
    ],
  },
  "missing-hides-altered": {
    section: 7,
    meaning: "an altered record near a missing one is not named",
    test: largeTest,
    changes: [
      {
        file: "src/audit/seal/reed-solomon.ts",
        take: "const rest = withoutErasures(sums, of.erasures);",
        put: "const rest = withoutErasures(sums, []);",
      },
    ],
  },
  "code-before-its-level": {
    section: 7,
    meaning: "a seal of version 2 is recorded while builds that cannot read it may be in the cluster",
    test: sealerTest,
    changes: [
      {
        file: command,
        take: "if (code !== null && level < auditSealCodesFrom)",
        put: "if (code === null && level < auditSealsFrom)",
      },
    ],
  },
  "cut-tail-unseen": {
    section: 7,
    meaning: "records that are cut off at the end are not missed",
    test: checkTest,
    changes: [
      {
        file: check,
        take: "if (state.at > size) continue;",
        put: "if (state.at > 1) continue;",
      },
    ],
  },
  "record-comes-again": {
    section: 7,
    meaning: "a record that comes again with another content counts as a repetition",
    test: checkTest,
    changes: [
      {
        file: check,
        take: "if (before !== undefined && leaf.subarray(0, 8).equals(before)) {",
        put: "if (before !== undefined) {",
      },
    ],
  },
  "added-after-the-end": {
    section: 7,
    meaning: "records behind the end of a boot are taken for records that are not sealed yet",
    test: checkTest,
    changes: [
      {
        file: check,
        take: "const isEnded = state.seals.at(-1)?.seal.final === true;",
        put: "const isEnded = state.at < 0;",
      },
    ],
  },
  "erased-with-content": {
    section: 7,
    meaning: "an erased record may have personal parts that were not sealed",
    test: checkTest,
    changes: [{ file: leaf, take: "if (erased !== null && personal.length > 1) return undefined;", put: "" }],
  },
  "erased-without-proof": {
    section: 7,
    meaning: "what is public in an erased record is not part of its leaf",
    test: checkTest,
    changes: [
      {
        file: leaf,
        take: '  const { bytes, length } = parts.shown;\n  bytes.write(commitmentOf(parts), length, "latin1");',
        put: '  const { shown } = parts;\n  const text = shown.bytes.toString("latin1", 0, shown.length).replace(/"result":"[a-z_]*"/, "");\n  shown.length = shown.bytes.write(text, "latin1");\n  const { bytes, length } = shown;\n  bytes.write(commitmentOf(parts), length, "latin1");',
      },
    ],
  },
  "sealed-from-the-beginning": {
    section: 7,
    meaning: "numbers that sinks had before there were seals are sealed as lost",
    test: sealerTest,
    changes: [
      {
        file: sealer,
        take: 'if (first > 1) tree.state = "stopped"; // sinks had its first records before this build ran',
        put: "",
      },
    ],
  },
  "sealer-before-its-spool": {
    section: 7,
    meaning: "a sealer without a position begins with the first number, whatever the spool has",
    test: sealerTest,
    changes: [
      { file: sealer, take: "state?.position ?? options.store.joinPosition;", put: "state?.position ?? spoolStart;" },
    ],
  },
  "duplicates-stored": {
    section: 7,
    meaning: "a batch of which Postgres has a part is stored again",
    test: postgresTest,
    changes: [{ file: schema, take: "create unique index records_id", put: "create index records_id" }],
  },
  "forged-row-hides-record": {
    section: 7,
    meaning: "a forged row under the id of a record hides the record, which is not put aside either",
    test: postgresTest,
    changes: [
      {
        file: postgres,
        take: 'if (digest !== undefined && digest !== hash("sha256", line, "hex"))',
        put: 'if (digest !== undefined && hash("sha256", line, "hex") === "")',
      },
    ],
  },
  "partition-for-any-day": {
    section: 7,
    meaning: "a wrong clock makes partitions of Postgres for any day",
    test: postgresTest,
    changes: [
      {
        file: schema,
        take: "continue when one < today - coalesce(",
        put: "continue when one is null and one < today - coalesce(",
      },
      { file: schema, take: "or one > today + ", put: "or one is null and one > today + " },
    ],
  },
  "retention-a-day-early": {
    section: 7,
    meaning: "a day is dropped from Postgres before its retention has ended",
    test: postgresTest,
    changes: [
      {
        file: schema,
        take: "< (now_is at time zone 'utc')::date - keep\n      order by",
        put: "<= (now_is at time zone 'utc')::date - keep\n      order by",
      },
    ],
  },
};
