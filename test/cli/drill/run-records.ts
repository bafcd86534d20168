/** Run records for the tests of the report page: a chaos run with three regions, and one that is far too large. */
import type { NodeSample, RunRecord, TrafficSecond } from "../../../src/cli/drill/run-record.ts";
import { parseUnixMs } from "../../../src/events/index.ts";

const regions = ["eu", "us", "ap"];

/** A small deterministic generator (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

export const emptyRecord: RunRecord = {
  format: 1,
  kind: "drill",
  name: "group-removal",
  purpose: "",
  startedAt: parseUnixMs(1_796_000_000_000),
  durationMs: 0,
  version: "",
  seed: null,
  command: "",
  summary: "nothing was seen",
  stopped: "interrupted by SIGINT",
  facts: [],
  topology: { regions: [], processes: [] },
  verdicts: [],
  faults: [],
  notes: [],
  traffic: [],
  revocations: [],
  receipts: [],
  nodes: [],
  head: [],
  evidence: [],
};

/** @param scale how many times more of everything than a run of two minutes has */
export function createRecord({ seconds = 120, scale = 1 } = {}): RunRecord {
  const random = randomFrom(7);
  const durationMs = seconds * 1_000;
  const kinds = ["kill-leader", "cut-region", "pause-proxy", "stop-postgres", "move-home"];
  const faults = Array.from({ length: 18 * scale }, (_, index) => {
    const fromMs = 6_000 + (index * (durationMs - 20_000)) / (18 * scale);
    const untilMs = fromMs + 1_000 + random() * 6_000;
    return {
      name: kinds[index % kinds.length] ?? "",
      target: index % 5 === 0 ? "" : `broker-${index % 3}`,
      region: index % 4 === 0 ? null : (regions[index % 3] ?? null),
      fromMs,
      untilMs,
      clearMs: index % 7 === 6 ? null : untilMs + random() * 4_000,
      text: index % 3 === 0 ? `the process was ended with SIGKILL & started again <after> "${index}" s` : "",
      problem: index === 9 ? "the process had already ended" : null,
    };
  });
  const isIn = (atMs: number, region: string): boolean =>
    faults.some((f) => (f.region === null || f.region === region) && f.fromMs <= atMs && atMs < f.untilMs);
  const secondsOf = (region: string): TrafficSecond[] =>
    Array.from({ length: seconds }, (_, second) => {
      const atMs = second * 1_000;
      const bad = isIn(atMs, region) && random() < 0.4;
      return {
        atMs,
        permitted: Math.round(80 + 30 * random()),
        refused: Math.round(12 * random()),
        unavailable: bad ? Math.round(20 * random()) : 0,
        failed: bad ? Math.round(4 * random()) : 0,
      };
    });
  const processes = regions.flatMap((region) => [
    ...["a", "b"].map((n) => ({ name: `broker-${region}-${n}`, kind: "broker" as const, region })),
    ...["1", "2"].map((n) => ({ name: `proxy-${region}-${n}`, kind: "proxy" as const, region })),
    { name: `nats-${region}`, kind: "nats" as const, region },
    { name: `postgres-${region}`, kind: "postgres" as const, region },
  ]);
  const proxies = processes.filter(({ kind }) => kind === "proxy");
  const positionAt = (atMs: number): number => 41_000 + Math.round(atMs / 90);
  const samplesOf = (region: string): NodeSample[] =>
    Array.from({ length: seconds }, (_, second) => second * 1_000).flatMap((atMs) => {
      const bad = isIn(atMs, region);
      if (bad && random() < 0.1) return [];
      const lag = bad ? Math.round(random() * 60) : random() < 0.1 ? 1 : 0;
      return [
        {
          atMs,
          position: positionAt(atMs) - lag,
          lag,
          stalenessMs: Math.round(bad ? 4_000 * random() : 900 * random()),
        },
      ];
    });
  const revocations = Array.from({ length: 40 * scale }, (_, index) => {
    const atMs = (index / (40 * scale)) * durationMs;
    const acknowledgedMs = 8 + 40 * random();
    const region = regions[index % 3] ?? "eu";
    const slow = isIn(atMs, region) ? 3_000 * random() : 0;
    return {
      atMs,
      what: index % 3 === 0 ? "suspend-user" : "revoke-session",
      region,
      acknowledgedMs,
      enforcedMs: index % 11 === 0 ? null : acknowledgedMs + 90 * random(),
      completeMs: index % 9 === 8 ? null : acknowledgedMs + 100 + slow,
    };
  });
  return {
    ...emptyRecord,
    kind: "chaos",
    name: "home-cut-and-moved",
    purpose: "The home region is cut off, a cut-off region revokes by itself, and the home moves to us.",
    durationMs,
    version: "0.9.0",
    seed: 7,
    command: "npm run chaos -- --scenario home-cut-and-moved --seed 7",
    summary: "chaos 7: 1 promise of 4 broken; 14,220 answers judged, 18 faults of 5 kinds",
    stopped: null,
    facts: [{ name: "Takeovers", value: "3" }],
    topology: { regions: regions.map((name) => ({ name, home: name === "eu" })), processes },
    verdicts: [
      {
        promise: "No request is permitted after a complete receipt",
        result: "held",
        bound: { value: 0, unit: "requests" },
        measured: { value: 0, unit: "requests" },
        text: "1,204 requests of revoked sessions were sent after their receipt",
      },
      {
        promise: "Another broker leads soon after the leader ended",
        result: "held",
        bound: { value: 5_000, unit: "ms" },
        measured: { value: 3_214, unit: "ms" },
        text: "the slowest of 3 takeovers",
      },
      {
        promise: "A cut-off region is ready again after it was healed",
        result: "broken",
        bound: { value: 20_000, unit: "ms" },
        measured: { value: 24_810, unit: "ms" },
        text: "proxy-ap-2 was behind",
      },
      {
        promise: "A planned move of the home loses no acknowledged change",
        result: "not-measured",
        bound: { value: 0, unit: "events" },
        measured: null,
        text: "the home was not moved in this run",
      },
    ],
    faults,
    notes: [
      { atMs: 8_000, text: "broker-eu-b leads epoch 4" },
      { atMs: 61_000, text: "proxy-ap-1 is ready again" },
    ],
    traffic: regions.map((region) => ({ region, source: "clients", seconds: secondsOf(region) })),
    revocations,
    receipts: revocations.map(({ atMs, what, region, completeMs }, index) => ({
      atMs,
      what,
      region,
      status: completeMs !== null ? "complete" : index % 2 === 0 ? "incomplete" : "local",
      afterMs: completeMs ?? 5_000,
      nodes: proxies.map(({ name, region: where }, at) =>
        completeMs === null && at === 5
          ? { node: name, region: where, status: "unconfirmed", afterMs: null, reason: "silent for 4.2 s" }
          : {
              node: name,
              region: where,
              status: at === 4 && index % 8 === 0 ? "fenced" : "applied",
              afterMs: 20 + 80 * random(),
              reason: "",
            },
      ),
    })),
    nodes: proxies.map(({ name, region }) => ({ node: name, region, role: "proxy", samples: samplesOf(region) })),
    head: Array.from({ length: seconds }, (_, second) => ({
      atMs: second * 1_000,
      position: positionAt(second * 1_000),
    })),
    evidence: [
      {
        title: "proxy-ap-2 was not ready 20 s after it was healed",
        atMs: 88_000,
        lines: [
          "88.000 s the link was healed",
          "108.000 s readiness: the projection has not reached the head",
          "112.810 s ready",
        ],
      },
    ],
  };
}
