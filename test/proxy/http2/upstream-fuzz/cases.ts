/**
 * Cases: what a server sends in answer to a few requests, at random, and what a client must make of it by RFC 9113.
 *
 * A third of them is legal and odd. A third has one mistake, whose reach is known: its stream, or the connection. The
 * rest has damaged bytes; nothing is known of them but what another client makes of the same bytes.
 */
import {
  data,
  endHeaders,
  endStream,
  frame,
  frameTypes,
  reset,
  settings,
  windowUpdate,
} from "../../../support/http2-frames.ts";
import type { SeededRandom } from "../../../support/seeded-random.ts";
import { HpackWriter, type Line } from "./hpack-writer.ts";
import { type Mistake, mistakes } from "./mistakes.ts";

export type Asked = Readonly<{ method: string; bodyBytes: number; trailers: boolean }>;

/** What a client must make of one stream. */
export type Expected = {
  interim: string[];
  status: number;
  lines: string[];
  body: Buffer;
  trailers: string[];
  /** `complete`; `open`: nothing ends it; `failed`: malformed, reset or refused. */
  end: "complete" | "open" | "failed";
  /** Of a failure without any response: the upstream has stated that it did not process the request. */
  unprocessed: boolean;
};

export type Case = Readonly<{
  kind: "legal" | "mistake" | "damaged";
  /** The name of the mistake, or empty. */
  name: string;
  requests: readonly Asked[];
  /** The server's first settings. */
  greeting: Buffer;
  /** Written one after the other. */
  writes: readonly Buffer[];
  /** By request; undefined: not known. */
  expected: readonly Expected[] | undefined;
  endsConnection: boolean;
}>;

/** A stream while its response is made. */
export type Plan = {
  id: number;
  asked: Asked;
  status: number;
  expected: Expected;
  /** What is sent on it, in order. Encoded when its turn comes, because encoding changes the table. */
  units: (() => Buffer)[];
};

export class CaseBuilder {
  readonly random: SeededRandom;
  readonly hpack: HpackWriter;

  constructor(random: SeededRandom) {
    this.random = random;
    this.hpack = new HpackWriter(random);
  }

  /** A header block as HEADERS and perhaps CONTINUATION, with padding and a priority. */
  headers(id: number, flags: number, lines: readonly Line[]): Buffer {
    return this.block(id, flags, this.hpack.block(lines));
  }

  block(id: number, flags: number, block: Buffer): Buffer {
    const { random } = this;
    const parts = random.int(4) === 0 ? 1 + random.int(4) : 0;
    const cuts = Array.from({ length: parts }, () => random.int(block.length + 1)).sort((a, b) => a - b);
    const pieces = [0, ...cuts].map((from, i) => block.subarray(from, cuts[i] ?? block.length));
    const priority = random.int(6) === 0 ? Buffer.from([0x80, 0, 0, 0, 16]) : Buffer.alloc(0);
    const padding = random.int(6) === 0 ? random.int(40) : -1;
    const [first = Buffer.alloc(0), ...rest] = pieces;
    const payload = Buffer.concat([
      ...(padding >= 0 ? [Buffer.from([padding])] : []),
      ...[priority, first],
      Buffer.alloc(Math.max(0, padding)),
    ]);
    const last = (i: number): number => (i === rest.length ? endHeaders : 0);
    const more = (padding >= 0 ? 0x8 : 0) | (priority.length > 0 ? 0x20 : 0);
    return Buffer.concat([
      frame(frameTypes.headers, flags | more | last(0), id, payload),
      ...rest.map((piece, i) => frame(frameTypes.continuation, last(i + 1), id, piece)),
    ]);
  }

  data(id: number, flags: number, bytes: Buffer): Buffer {
    const padding = this.random.int(5) === 0 ? this.random.int(200) : -1;
    if (padding < 0) return frame(frameTypes.data, flags, id, bytes);
    return frame(
      frameTypes.data,
      flags | 0x8,
      id,
      Buffer.concat([Buffer.from([padding]), bytes, Buffer.alloc(padding)]),
    );
  }

  fields(): Line[] {
    const { random } = this;
    const some: readonly [Line, ...Line[]] = [
      ["content-type", "text/plain"],
      ["set-cookie", "a=1"],
      ["set-cookie", "b=2; path=/"],
      ["x-empty", ""],
      ["x-latin1", "caf\u00e9 \u00ff"],
      ["cache-control", "private"],
      ["x-inner", "a  b\tc"],
      ["date", "Fri, 01 Jan 2100 00:00:00 GMT"],
      ["x-long", "v".repeat(random.int(3_000))],
      [`x-${random.int(5)}`, String(random.int(5))],
    ];
    return Array.from({ length: random.int(6) }, () => random.pick(some));
  }

  /** A whole response. */
  plan(id: number, asked: Asked): Plan {
    const { random } = this;
    const status = random.pick([200, 200, 200, 201, 204, 205, 304, 404, 500, 599, 999]);
    const bodiless = asked.method === "HEAD" || status === 204 || status === 304;
    const expected: Expected = {
      ...{ interim: [], status, lines: [], body: Buffer.alloc(0), trailers: [], end: "complete", unprocessed: false },
    };
    const plan: Plan = { id, asked, status, expected, units: [] };
    for (let n = random.int(8) === 0 ? 1 + random.int(3) : 0; n > 0; n--) {
      const hint = random.pick([100, 102, 103]);
      const lines: Line[] = hint === 103 ? [["link", "</a.css>; rel=preload"]] : [];
      expected.interim.push(JSON.stringify([hint, lines.flat()]));
      plan.units.push(() => this.headers(id, 0, [[":status", String(hint)], ...lines]));
    }
    const sizes = bodiless
      ? []
      : Array.from({ length: random.int(5) }, () => random.pick([0, 1, 5, 100, 3_000, 16_000]));
    const chunks = sizes.map((size, n) => Buffer.alloc(size, `${id}:${n};`));
    expected.body = Buffer.concat(chunks);
    const lines = this.fields();
    if (random.int(3) === 0) {
      const length = bodiless && status !== 204 ? random.int(5_000) : expected.body.length;
      if (status !== 204) lines.push(["content-length", String(length)]);
    }
    expected.lines = lines.flat();
    const trailers: Line[] =
      !bodiless && random.int(4) === 0 ? [["grpc-status", "0"], ...this.fields().slice(0, 2)] : [];
    expected.trailers = trailers.flat();
    const how = trailers.length > 0 ? "trailers" : random.pick(["head", "data", "empty"]);
    const endsAtHead = how === "head" && chunks.length === 0;
    plan.units.push(() => this.headers(id, endsAtHead ? endStream : 0, [[":status", String(status)], ...lines]));
    chunks.forEach((chunk, i) => {
      const isLast = i === chunks.length - 1 && (how === "data" || how === "head");
      plan.units.push(() => this.data(id, isLast ? endStream : 0, chunk));
    });
    if (how === "trailers") plan.units.push(() => this.headers(id, endStream, trailers));
    else if (how === "empty" || (how === "data" && chunks.length === 0)) plan.units.push(() => data(id, endStream, ""));
    return plan;
  }

  /** The response breaks off, in one of the ways that are legal. */
  breakOff(plan: Plan): void {
    const { random } = this;
    const { expected, units } = plan;
    units.length = random.int(units.length);
    const kept = units.length;
    const hints = expected.interim.length;
    expected.interim.length = Math.min(hints, kept);
    if (kept <= hints) expected.status = 0;
    expected.end = "open";
    if (random.int(3) === 0) return;
    const code = random.pick([0, 1, 2, 7, 8, 11, 13]);
    units.push(() => reset(plan.id, code));
    expected.end = "failed";
    expected.unprocessed = kept === 0 && (code === 7 || code === 13);
  }

  /** A frame that concerns no response. */
  noise(ids: readonly [number, ...number[]]): Buffer {
    const { random } = this;
    const id = random.pick(ids);
    switch (random.int(9)) {
      case 0:
        return frame(frameTypes.ping, 0, 0, random.bytes(8));
      case 1:
        return settings([0x4, random.pick([0, 1, 100, 65_535, 1_000_000])]);
      case 2:
        return settings([0x1, random.pick([0, 1, 100, 4_096, 100_000])], [0x1, random.pick([0, 4_096])]);
      case 3:
        return settings([0x3, random.pick([1, 2, 100, 0xffff_ffff])], [0x5, random.pick([16_384, 0xff_ffff])]);
      case 4:
        return settings([random.pick([0x6, 0xffff]), random.int(2)], [0x2, 0]);
      case 5:
        return windowUpdate(0, 1 + random.int(100_000));
      case 6:
        return windowUpdate(id, 1 + random.int(100_000));
      case 7:
        return frame(frameTypes.priority, 0, random.pick([id, id + 2, 101]), Buffer.from([0, 0, 0, 0, 7]));
      default: // unknown, on any stream (RFC 9113 §5.5)
        return frame(
          0x20 + random.int(200),
          random.int(256),
          random.pick([0, id, 2, 1_001]),
          random.bytes(random.int(50)),
        );
    }
  }
}

const greetings: readonly [Buffer, ...Buffer[]] = [
  settings(),
  settings([0x4, 0]),
  settings([0x1, 0]),
  settings([0x3, 100], [0x1, 200], [0x4, 20]),
  settings([0x4, 1_000_000], [0x6, 100]),
];

/** @param chosen undefined: at random */
export function buildCase(random: SeededRandom, chosen?: Mistake): Case {
  const builder = new CaseBuilder(random);
  const kind = chosen === undefined ? random.pick<Case["kind"]>(["legal", "mistake", "damaged"]) : "mistake";
  const mistake: Mistake | undefined = kind === "mistake" ? (chosen ?? random.pick(mistakes)) : undefined;
  const requests = Array.from({ length: 1 + random.int(3) }, (): Asked => {
    const method = mistake?.withoutBodies === true ? "GET" : random.pick(["GET", "GET", "HEAD", "POST", "PUT"]);
    const hasBody = method === "POST" || method === "PUT";
    const bodyBytes = hasBody ? random.pick([0, 1, 1_000, 70_000]) : -1;
    return { method, bodyBytes, trailers: hasBody && random.int(3) === 0 };
  });
  const plans = requests.map((asked, i) => builder.plan(2 * i + 1, asked));
  if (kind !== "mistake") for (const plan of plans) if (random.int(6) === 0) builder.breakOff(plan);
  const wrong = random.pick(plans as [Plan, ...Plan[]]);
  const applied = mistake?.apply(builder, wrong);
  const units = interleave(builder, plans);
  let written = units.map(({ unit }) => unit);
  if (mistake !== undefined && applied?.unit !== undefined) {
    const at = applied.afterEnd === true ? lastOf(units, wrong) + 1 : random.int(units.length + 1);
    written = [...written.slice(0, at), applied.unit, ...written.slice(at)];
    if (mistake.reach === "connection") failOpen(units, at, plans);
  } else if (mistake !== undefined && applied?.from !== undefined) {
    const { from } = applied;
    const at = units.findIndex(({ unit }) => unit === from);
    if (mistake.reach === "connection") failOpen(units, at, plans);
    else cutExpected(wrong, from);
  }
  if (kind === "legal" && random.int(6) === 0) goAway(builder, plans, { units, written });
  const bytes = Buffer.concat(written.map((unit) => unit()));
  const epilogue = mistake?.reach === "connection" ? [] : [settings([0x4, 65_535])];
  const script = kind === "damaged" ? damage(random, bytes) : bytes;
  return {
    ...{ kind, name: mistake?.name ?? "", requests, greeting: random.pick(greetings) },
    writes: [...split(random, script), ...epilogue],
    expected: kind === "damaged" ? undefined : plans.map(({ expected }) => expected),
    endsConnection: mistake?.reach === "connection",
  };
}

type Unit = Readonly<{ plan: Plan | undefined; unit: () => Buffer }>;

function interleave(builder: CaseBuilder, plans: readonly Plan[]): Unit[] {
  const { random } = builder;
  const left = plans.map((plan) => ({ plan, rest: [...plan.units] }));
  const ids = plans.map(({ id }) => id) as [number, ...number[]];
  const units: Unit[] = [];
  for (;;) {
    const open = left.filter(({ rest }) => rest.length > 0);
    if (open.length === 0) return units;
    if (random.int(6) === 0) units.push({ plan: undefined, unit: () => builder.noise(ids) });
    const { plan, rest } = open[random.int(open.length)] ?? left[0] ?? { plan: undefined, rest: [] };
    const unit = rest.shift();
    if (unit !== undefined) units.push({ plan, unit });
  }
}

function lastOf(units: readonly Unit[], plan: Plan): number {
  return units.findLastIndex((unit) => unit.plan === plan);
}

/** What is complete before `at` stays so, everything else fails. */
function failOpen(units: readonly Unit[], at: number, plans: readonly Plan[]): void {
  for (const plan of plans) {
    if (lastOf(units, plan) < at) continue;
    const next = units.slice(at).find((unit) => unit.plan === plan);
    if (next !== undefined) cutExpected(plan, next.unit);
  }
}

/** The stream fails at this unit. */
function cutExpected({ expected, units }: Plan, unit: () => Buffer): void {
  const before = units.indexOf(unit);
  expected.end = "failed";
  const hints = expected.interim.length;
  expected.interim.length = Math.min(hints, before);
  if (before <= hints) expected.status = 0;
}

/** Streams above its last were not processed; the others go on. */
function goAway(
  { random }: CaseBuilder,
  plans: readonly Plan[],
  { units, written }: Readonly<{ units: readonly Unit[]; written: (() => Buffer)[] }>,
): void {
  const last = random.pick([0, 1, 3, 0x7fff_ffff]);
  const lost = plans.filter(({ id }) => id > last);
  // Nothing follows on a stream that was not processed.
  const first = Math.min(
    units.length,
    ...lost.map((plan) => units.findIndex((unit) => unit.plan === plan)).map((at) => (at < 0 ? units.length : at)),
  );
  const at = random.int(first + 1);
  const kept = written.filter((_, i) => !lost.includes(units[i]?.plan as Plan));
  const before = written.slice(0, at);
  const payload = Buffer.alloc(8);
  payload.writeUInt32BE(last, 0);
  written.splice(0, written.length, ...before, () => frame(frameTypes.goAway, 0, 0, payload), ...kept.slice(at));
  for (const { expected } of lost) {
    Object.assign(expected, { interim: [], status: 0, end: "failed", unprocessed: true });
  }
}

function split(random: SeededRandom, bytes: Buffer): Buffer[] {
  const cuts = Array.from({ length: random.pick([0, 0, 1, 3, 20]) }, () => random.int(bytes.length + 1)).sort(
    (a, b) => a - b,
  );
  return [0, ...cuts]
    .map((from, i) => bytes.subarray(from, cuts[i] ?? bytes.length))
    .filter(({ length }) => length > 0);
}

/** Changes, removes or adds a few bytes, mostly of what is not data. */
function damage(random: SeededRandom, bytes: Buffer): Buffer {
  let damaged = Buffer.from(bytes);
  for (let n = 1 + random.int(3); n > 0 && damaged.length > 0; n--) {
    const at = random.int(Math.min(damaged.length, random.pick([20, 100, 1_000, damaged.length])));
    switch (random.int(5)) {
      case 0:
      case 1:
        damaged[at] = (damaged[at] ?? 0) ^ (1 << random.int(8));
        break;
      case 2:
        damaged[at] = random.int(256);
        break;
      case 3:
        damaged = Buffer.concat([damaged.subarray(0, at), random.bytes(1 + random.int(12)), damaged.subarray(at)]);
        break;
      default:
        damaged = Buffer.concat([damaged.subarray(0, at), damaged.subarray(at + 1 + random.int(12))]);
    }
  }
  return withWholeFrames(damaged);
}

/** Adds what the last frame lacks: a client would wait for it. A frame that is too long is refused at its length. */
function withWholeFrames(bytes: Buffer): Buffer {
  const until = (all: Buffer, end: number): Buffer => Buffer.concat([all, Buffer.alloc(Math.max(0, end - all.length))]);
  let whole = bytes;
  for (let at = 0; at < whole.length; ) {
    whole = until(whole, at + 9);
    const length = whole.readUIntBE(at, 3);
    if (length > 16_384) return whole;
    at += 9 + length;
    whole = until(whole, at);
  }
  return whole;
}
