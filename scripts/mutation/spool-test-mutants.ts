/** Test mutants of the audit spool: numbers, syncs, retention, gaps and cursors (test-mutants.ts). Pure data. */
import type { TestMutant } from "./test-mutant.ts";

const crashTest = "test/audit/spool/crash.test.ts";
const spoolTest = "test/audit/spool/spool.test.ts";
const boundsTest = "test/audit/spool/bounds.test.ts";
const partsTest = "test/audit/spool/parts.test.ts";
const recorderTest = "test/audit/recorder.test.ts";
const writer = "src/audit/spool/spool-writer.ts";
const store = "src/audit/spool/spool-store.ts";
const segment = "src/audit/spool/segment.ts";
const cursor = "src/audit/spool/spool-cursor.ts";
const ring = "src/audit/spool/record-ring.ts";
const folder = "src/audit/spool/spool-folder.ts";
const delivery = "src/audit/sink-delivery.ts";
const scan = "src/audit/spool/segment-scan.ts";
const gapList = "src/audit/spool/gap-list.ts";
const pipeline = "src/proxy/request/request-pipeline.ts";

export const spoolTestMutants: Readonly<Record<string, TestMutant>> = {
  "numbers-unreserved": {
    section: 7,
    meaning: "numbers are used that no frame on disk has reserved, so a lost tail is not declared",
    test: crashTest,
    changes: [
      {
        file: writer,
        take: "return last + Math.min(reserveMost, Math.max(reserveLeast, Math.ceil(this.#ratePerMs * reserveForMs)));",
        put: "void reserveMost, reserveLeast, reserveForMs;\n    return last;",
      },
    ],
  },
  "killed-tail-undeclared": {
    section: 7,
    meaning: "the numbers that a killed process had reserved are not declared",
    test: crashTest,
    changes: [{ file: segment, take: "return Math.max(0, segment.reserved - segment.last);", put: "return 0;" }],
  },
  "strict-before-sync": {
    section: 7,
    meaning: "a strict record is answered once it is written, before it is synced",
    test: crashTest,
    changes: [
      {
        file: writer,
        take: "      this.#written = last;\n      const isDirty",
        put: "      this.#written = last;\n      for (const { resolve } of this.#waiters.splice(0)) resolve();\n      const isDirty",
      },
    ],
  },
  "failed-write-forgotten": {
    section: 7,
    meaning: "what a failed write or sync has lost is not written again",
    test: spoolTest,
    changes: [{ file: writer, take: "this.#written = this.#durable; // the store ended its segment there", put: "" }],
  },
  "strict-while-failing": {
    section: 7,
    meaning: "a strict route is tried while the disk refuses writes",
    test: spoolTest,
    changes: [{ file: writer, take: 'if (this.failing) return "failing";', put: "" }],
  },
  "slow-disk-forgotten": {
    section: 7,
    meaning: "each strict request waits for a disk that is known to be slow",
    test: spoolTest,
    changes: [{ file: writer, take: "      this.#slow = true;", put: "      this.#slow = false;" }],
  },
  "late-records-forgotten": {
    section: 7,
    meaning: "a record that is made after the last segment was ended is neither stored nor declared",
    test: recorderTest,
    changes: [
      {
        file: writer,
        take: "if (!this.#stopped) this.#running ??= this.#run(); // a segment of its own, after the final one",
        put: "",
      },
    ],
  },
  "strict-dropped": {
    section: 7,
    meaning: "retention drops strict records",
    test: spoolTest,
    changes: [
      {
        file: segment,
        take: "ended && (!strict || index < reached) && index < newest",
        put: "ended && index < newest",
      },
    ],
  },
  "newest-reservation-dropped": {
    section: 7,
    meaning: "retention drops the only segment that says which numbers are reserved",
    test: partsTest,
    changes: [
      {
        file: segment,
        take: "ended && (!strict || index < reached) && index < newest",
        put: "ended && !strict && newest + reached > 0",
      },
    ],
  },
  "removed-before-delivered": {
    section: 7,
    meaning: "a segment is removed once one of the sinks has it",
    test: partsTest,
    changes: [
      {
        file: segment,
        take: "const reached = Math.min(durable, ...positions.map(({ index }) => index));",
        put: "const reached = Math.min(durable, Math.max(...positions.map(({ index }) => index)));",
      },
    ],
  },
  "newest-delivered-removed": {
    section: 7,
    meaning: "the newest durable segment is removed once every sink has it",
    test: partsTest,
    changes: [
      {
        file: segment,
        take: "const reached = Math.min(durable, ...positions.map(({ index }) => index));",
        put: "const reached = Math.min(durable + 1, ...positions.map(({ index }) => index));",
      },
    ],
  },
  "dropped-without-gap": {
    section: 7,
    meaning: "retention drops records and declares nothing",
    test: spoolTest,
    changes: [{ file: store, take: "const [newest] = gaps.slice(-1);", put: "const [newest] = gaps.slice(0, 0);" }],
  },
  "replaced-segment-returns": {
    section: 7,
    meaning: "after a crash, a dropped segment hides gaps of the list that replaced it",
    test: crashTest,
    changes: [
      {
        file: store,
        take: "for (const segment of replacedSegments(this.#segments)) {",
        put: "for (const segment of replacedSegments([])) {",
      },
    ],
  },
  "blocks-uncounted": {
    section: 7,
    meaning: "the bound of the spool counts bytes of files, not the blocks that they take",
    test: boundsTest,
    changes: [
      {
        file: segment,
        take: "return Math.max(1, Math.ceil(size / blockBytes)) * blockBytes;",
        put: "return size;",
      },
    ],
  },
  "files-uncounted": {
    section: 7,
    meaning: "a node that is killed again and again leaves a file for each boot",
    test: boundsTest,
    changes: [
      {
        file: store,
        take: "this.#segments.length > segmentsMax || this.bytes > bytesMax",
        put: "(segmentsMax > 0 && this.bytes > bytesMax)",
      },
    ],
  },
  "boots-merged-unnoticed": {
    section: 7,
    meaning: "gaps of earlier boots are merged, and their number is lost",
    test: boundsTest,
    changes: [
      {
        file: gapList,
        take: "boots += (gap === newest ? 0 : 1) + (gap.earlier?.boots ?? 0);",
        put: "boots += gap.earlier?.boots ?? 0;",
      },
    ],
  },
  "hole-undeclared": {
    section: 7,
    meaning: "a sink passes numbers that are missing in the spool",
    test: boundsTest,
    changes: [
      { file: cursor, take: "      if (frame.first > next) {", put: "      if (frame.first > next + 1_000_000) {" },
    ],
  },
  "first-numbers-undeclared": {
    section: 7,
    meaning: "a sink that enters a boot takes the first segment that is left for its beginning",
    test: boundsTest,
    changes: [
      {
        file: cursor,
        take: "const next = boot === this.#position.boot ? this.#position.next : 1;",
        put: "const next = boot === this.#position.boot ? this.#position.next : (this.#segment()?.first ?? 1);",
      },
    ],
  },
  "unreadable-undeclared": {
    section: 7,
    meaning: "a segment of which nothing can be read is taken for an empty one",
    test: boundsTest,
    changes: [
      {
        file: scan,
        take: "segment.reserved = Math.max(segment.reserved, segment.last + Math.floor((size - bytes) / recordBytesLeast));",
        put: "void recordBytesLeast;",
      },
    ],
  },
  "unsynced-read": {
    section: 7,
    meaning: "a sink gets records that a power failure may still take back",
    test: spoolTest,
    changes: [
      {
        file: store,
        take: "      active.at = at;\n    } catch",
        put: "      active.at = at;\n      Object.assign(active.segment, { bytes: at, last: active.last });\n      this.notify();\n    } catch",
      },
    ],
  },
  "position-before-delivery": {
    section: 7,
    meaning: "the position of a sink is stored before the sink has the records",
    test: crashTest,
    changes: [
      {
        file: delivery,
        take: "await this.#deliver(batch);\n      const mustSync",
        put: "this.#delivered = batch.after;\n      await this.#store({ now: true });\n      await this.#deliver(batch);\n      const mustSync",
      },
    ],
  },
  "rejected-unburied": {
    section: 7,
    meaning: "a record that a sink rejects is dropped",
    test: recorderTest,
    changes: [
      {
        file: delivery,
        take: "else if (batch.first === batch.last) await this.#bury(batch, error, 1);",
        put: "else if (batch.first === batch.last) return;",
      },
    ],
  },
  "dropped-unnumbered": {
    section: 7,
    meaning: "a decision without room in memory uses no number",
    test: partsTest,
    changes: [{ file: ring, take: "    this.dropped++;\n    this.last++;", put: "    this.dropped++;" }],
  },
  "ring-unbounded": {
    section: 7,
    meaning: "records in memory take more than the bound, when few of them fill a page",
    test: boundsTest,
    changes: [{ file: ring, take: "this.#allocated > room; ", put: "false && room > 0; " }],
  },
  "spool-shared": {
    section: 7,
    meaning: "two processes use one spool",
    test: spoolTest,
    changes: [{ file: folder, take: '      lock.exec("begin exclusive");', put: "" }],
  },
  "written-after-release": {
    section: 7,
    meaning: "a process writes to its spool after it has released it",
    test: boundsTest,
    changes: [
      {
        file: folder,
        take: '    if (isReleased) throw new SpoolUnusableError({ path, how: "was released" });',
        put: "",
      },
    ],
  },
  "released-while-written": {
    section: 7,
    meaning: "a spool is released while the process still writes to it",
    test: boundsTest,
    changes: [
      {
        file: folder,
        take: "      if (changes === 0) lock.close(); // else after the last change",
        put: "      if (changes >= 0) lock.close();",
      },
    ],
  },
  "strict-unawaited": {
    section: 7,
    meaning: "a strict route forwards a request before its record is durable",
    test: "test/proxy/lease-during-wait.test.ts",
    changes: [
      {
        file: pipeline,
        take: 'if (plan.route.audit !== "strict" || recorder.recordDurably === null) {',
        put: 'if (plan.route.audit !== "other" || recorder.recordDurably === null) {',
      },
    ],
  },
};
