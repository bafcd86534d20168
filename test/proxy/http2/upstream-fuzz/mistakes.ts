/** Mistakes: what no server may send, and what it reaches by RFC 9113: its stream, or its connection. */
import {
  data,
  endHeaders,
  endStream,
  fields,
  frame,
  frameTypes,
  headers,
  integer,
  settings,
  windowUpdate,
} from "../../../support/http2-frames.ts";
import type { CaseBuilder, Plan } from "./cases.ts";
import type { Line } from "./hpack-writer.ts";

/** `unit`: a further one, anywhere or behind the end of the stream. `from`: the stream's own unit that is wrong. */
export type Applied = Readonly<{ unit?: () => Buffer; afterEnd?: boolean; from?: () => Buffer }>;

export type Mistake = Readonly<{
  name: string;
  reach: "stream" | "connection";
  /** The requests have no body, so both sides have ended the stream. */
  withoutBodies?: boolean;
  /** Why `node:http2` accepts it, if it does. The rest of its response may then be anything. */
  laxInNode?: string;
  apply(builder: CaseBuilder, plan: Plan): Applied;
}>;

const nodeIgnoresClosed = "nghttp2 ignores frames of streams that are closed";
const nodeDropsLines = "nghttp2 leaves the invalid line out, and Node has no option for that (docs/adr/0042)";

/** The head of a response, at the place where the right one was. */
function wrongHead(name: string, lines: readonly Line[], laxInNode?: string): Mistake {
  return {
    ...{ name, reach: "stream", ...(laxInNode === undefined ? {} : { laxInNode }) },
    apply(builder, plan) {
      const from = (): Buffer => builder.headers(plan.id, 0, lines);
      plan.units = plan.units.slice(0, plan.expected.interim.length).concat(from);
      return { from };
    },
  };
}

const ok: Line = [":status", "200"];

const heads: readonly Mistake[] = [
  wrongHead("a name with capitals", [ok, ["X-A", "b"]], nodeDropsLines),
  wrongHead("a name with a space", [ok, ["x a", "b"]], nodeDropsLines),
  wrongHead("a name with a colon", [ok, ["x:a", "b"]], nodeDropsLines),
  wrongHead("an empty name", [ok, ["", "b"]], nodeDropsLines),
  wrongHead("a line break in a value", [ok, ["x-a", "b\r\nc: d"]], nodeDropsLines),
  wrongHead("NUL in a value", [ok, ["x-a", "b\0"]], nodeDropsLines),
  wrongHead("connection", [ok, ["connection", "close"]]),
  wrongHead("keep-alive", [ok, ["keep-alive", "timeout=5"]]),
  wrongHead("proxy-connection", [ok, ["proxy-connection", "close"]]),
  wrongHead("transfer-encoding", [ok, ["transfer-encoding", "chunked"]]),
  wrongHead("upgrade", [ok, ["upgrade", "h2c"]]),
  wrongHead("te", [ok, ["te", "trailers"]], "nghttp2 allows `te: trailers` in responses, too"),
  wrongHead("no status", [["x-a", "b"]]),
  wrongHead("two statuses", [ok, ok]),
  wrongHead("two different statuses", [ok, [":status", "404"]]),
  wrongHead("a status behind other fields", [["x-a", "b"], ok]),
  wrongHead("a pseudo-field behind other fields", [ok, ["x-a", "b"], [":path", "/"]]),
  wrongHead("a pseudo-field of requests", [ok, [":path", "/"]]),
  wrongHead("an unknown pseudo-field", [ok, [":unknown", "/"]]),
  wrongHead("a status of two digits", [[":status", "20"]]),
  wrongHead("a status of four digits", [[":status", "2000"]]),
  wrongHead("a status of letters", [[":status", "2x0"]]),
  wrongHead("an empty status", [[":status", ""]]),
  wrongHead("a status with a sign", [[":status", "+20"]]),
  wrongHead("a status below 100", [[":status", "099"]], "nghttp2 checks the digits of a status only"),
  wrongHead("a switch of protocols", [[":status", "101"]]),
  wrongHead("two content-lengths", [ok, ["content-length", "1"], ["content-length", "1"]]),
  wrongHead("a content-length with a sign", [ok, ["content-length", "+1"]]),
  wrongHead("a content-length with a comma", [ok, ["content-length", "1, 1"]]),
  wrongHead("a content-length of nothing", [ok, ["content-length", ""]]),
  wrongHead("a content-length of letters", [ok, ["content-length", "0x1"]]),
];

/** Frames after the head or its body, at the place of what was right. */
function wrongBody(
  name: string,
  units: (builder: CaseBuilder, plan: Plan) => readonly (() => Buffer)[],
  laxInNode?: string,
): Mistake {
  return {
    ...{ name, reach: "stream", ...(laxInNode === undefined ? {} : { laxInNode }) },
    apply(builder, plan) {
      const hints = plan.expected.interim.length;
      const head = (): Buffer => builder.headers(plan.id, 0, [[":status", String(plan.status)]]);
      plan.expected.lines = [];
      const wrong = units(builder, plan);
      plan.units = plan.units.slice(0, hints).concat(head, wrong);
      return { from: wrong.at(-1) ?? head };
    },
  };
}

const bodies: readonly Mistake[] = [
  wrongBody("a second head", (builder, { id }) => [() => builder.headers(id, endStream, [ok])]),
  wrongBody("an informational head after the head", (builder, { id }) => [
    () => builder.headers(id, 0, [[":status", "103"]]),
  ]),
  wrongBody("trailers that do not end the stream", (builder, { id }) => [() => builder.headers(id, 0, [["x-a", "b"]])]),
  wrongBody("trailers with a pseudo-field", (builder, { id }) => [
    () =>
      builder.headers(id, endStream, [
        ["x-a", "b"],
        [":path", "/"],
      ]),
  ]),
  wrongBody(
    "trailers with a line break",
    (builder, { id }) => [() => builder.headers(id, endStream, [["x-a", "b\nc"]])],
    nodeDropsLines,
  ),
  wrongBody("trailers with transfer-encoding", (builder, { id }) => [
    () => builder.headers(id, endStream, [["transfer-encoding", "chunked"]]),
  ]),
  {
    name: "data before the head",
    reach: "stream",
    apply(builder, plan) {
      const from = (): Buffer => builder.data(plan.id, 0, Buffer.from("early"));
      plan.units = plan.units.slice(0, plan.expected.interim.length).concat(from);
      return { from };
    },
  },
  {
    name: "an informational head that ends the stream",
    reach: "stream",
    apply(builder, plan) {
      const from = (): Buffer => builder.headers(plan.id, endStream, [[":status", "103"]]);
      plan.units = plan.units.slice(0, plan.expected.interim.length).concat(from);
      return { from };
    },
  },
  ...[
    ["fewer bytes than the content-length", 9, "short"] as const,
    ["more bytes than the content-length", 3, "longer"] as const,
    ["bytes after a content-length of 0", 0, "longer"] as const,
  ].map(
    ([name, length, text]): Mistake => ({
      ...{ name, reach: "stream" },
      apply(builder, plan) {
        const hints = plan.expected.interim.length;
        const head = (): Buffer => builder.headers(plan.id, 0, [ok, ["content-length", String(length)]]);
        const from = (): Buffer => builder.data(plan.id, endStream, Buffer.from(text));
        plan.expected.status = 200;
        plan.expected.lines = ["content-length", String(length)];
        plan.expected.body = Buffer.from(text);
        plan.units = plan.units.slice(0, hints).concat(head, from);
        return { from };
      },
    }),
  ),
  ...["204", "304"].map(
    (status): Mistake => ({
      ...{ name: `a body in a ${status}`, reach: "stream" },
      apply(builder, plan) {
        const hints = plan.expected.interim.length;
        const head = (): Buffer => builder.headers(plan.id, 0, [[":status", status]]);
        const from = (): Buffer => builder.data(plan.id, endStream, Buffer.from("body"));
        Object.assign(plan.expected, { status: Number(status), lines: [], body: Buffer.alloc(0) });
        plan.units = plan.units.slice(0, hints).concat(head, from);
        return { from };
      },
    }),
  ),
  wrongBody("a window update of nothing", (_, { id }) => [() => windowUpdate(id, 0)]),
  wrongBody("a window that becomes too large", (_, { id }) => [
    () => Buffer.concat([windowUpdate(id, 0x7fff_ffff), windowUpdate(id, 0x7fff_ffff)]),
  ]),
  wrongBody("a priority of a wrong length", (_, { id }) => [() => frame(frameTypes.priority, 0, id, Buffer.alloc(4))]),
];

const connection = (name: string, make: (builder: CaseBuilder, plan: Plan) => Buffer, laxInNode?: string): Mistake => ({
  ...{ name, reach: "connection", ...(laxInNode === undefined ? {} : { laxInNode }) },
  apply: (builder, plan) => ({ unit: () => make(builder, plan) }),
});
const rawBlock = (id: number, ...bytes: number[]): Buffer =>
  frame(frameTypes.headers, endHeaders, id, Buffer.from(bytes));
const idle = 1_001;
const pushed = Buffer.concat([
  Buffer.from([0, 0, 0, 2]),
  fields(":method", "GET", ":path", "/", ":scheme", "http", ":authority", "upstream"),
]);

const connections: readonly Mistake[] = [
  connection("a push", (_, { id }) => frame(frameTypes.pushPromise, endHeaders, id, pushed)),
  connection("headers on an idle stream", () => headers(idle, endHeaders, ":status", "200")),
  connection("headers on stream 0", () => headers(0, endHeaders, ":status", "200")),
  connection("headers on an even stream", () => headers(2, endHeaders, ":status", "200")),
  connection("data on an idle stream", () => data(idle, 0, "poison")),
  connection("data on stream 0", () => data(0, 0, "poison")),
  connection("data on an even stream", () => data(2, 0, "poison")),
  connection("a reset of an idle stream", () => frame(frameTypes.reset, 0, idle, Buffer.alloc(4))),
  connection("a reset of stream 0", () => frame(frameTypes.reset, 0, 0, Buffer.alloc(4))),
  connection("a reset of a wrong length", (_, { id }) => frame(frameTypes.reset, 0, id, Buffer.alloc(3))),
  connection("a window of an idle stream", () => windowUpdate(idle, 1)),
  connection("a window update of nothing, of the connection", () => windowUpdate(0, 0)),
  connection("a window of the connection that becomes too large", () =>
    Buffer.concat([windowUpdate(0, 0x7fff_ffff), windowUpdate(0, 0x7fff_ffff)]),
  ),
  connection("a window update of a wrong length", () => frame(frameTypes.windowUpdate, 0, 0, Buffer.alloc(5))),
  connection("settings on a stream", (_, { id }) => frame(frameTypes.settings, 0, id)),
  connection("settings of a wrong length", () => frame(frameTypes.settings, 0, 0, Buffer.alloc(5))),
  connection("an acknowledgement with settings", () => frame(frameTypes.settings, 1, 0, Buffer.alloc(6))),
  connection("an initial window that is too large", () => settings([0x4, 0x8000_0000])),
  connection("frames that are too small", () => settings([0x5, 16_383])),
  connection("frames that are too large", () => settings([0x5, 0x100_0000])),
  connection("a server that allows pushes", () => settings([0x2, 1])),
  connection("pushes of 2", () => settings([0x2, 2])),
  connection("a ping of a wrong length", () => frame(frameTypes.ping, 0, 0, Buffer.alloc(7))),
  connection("a ping on a stream", (_, { id }) => frame(frameTypes.ping, 0, id, Buffer.alloc(8))),
  connection("GOAWAY on a stream", (_, { id }) => frame(frameTypes.goAway, 0, id, Buffer.alloc(8))),
  connection("GOAWAY of a wrong length", () => frame(frameTypes.goAway, 0, 0, Buffer.alloc(7))),
  connection("CONTINUATION without headers", (_, { id }) =>
    frame(frameTypes.continuation, endHeaders, id, fields("a", "b")),
  ),
  connection("a frame between headers and CONTINUATION", (_, { id }) =>
    Buffer.concat([headers(id, 0, ":status", "103"), frame(frameTypes.ping, 0, 0, Buffer.alloc(8))]),
  ),
  connection("CONTINUATION of another stream", (_, { id }) =>
    Buffer.concat([
      headers(id, 0, ":status", "103"),
      frame(frameTypes.continuation, endHeaders, id + 2, fields("a", "b")),
    ]),
  ),
  connection("a frame that is too long", (_, { id }) => frame(frameTypes.data, 0, id, Buffer.alloc(16_385))),
  connection("an unknown frame that is too long", () => frame(0x77, 0, 0, Buffer.alloc(16_385))),
  connection(
    "more padding than payload, of data",
    (_, { id }) => frame(frameTypes.data, 0x8, id, Buffer.from([5, 1, 2])),
    nodeIgnoresClosed,
  ),
  connection("more padding than payload, of headers", (_, { id }) =>
    frame(frameTypes.headers, 0xc, id, Buffer.from([5, 0x88])),
  ),
  connection("no padding length", (_, { id }) => frame(frameTypes.data, 0x8, id), nodeIgnoresClosed),
  connection("headers without the priority that they announce", (_, { id }) =>
    frame(frameTypes.headers, 0x24, id, Buffer.alloc(3)),
  ),
  connection("an index of 0", (_, { id }) => rawBlock(id, 0x80)),
  connection("an index beyond the table", (_, { id }) => rawBlock(id, 0xff, 0xff, 0x03)),
  connection("an index without end", (_, { id }) => rawBlock(id, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f)),
  connection("a string beyond its block", (_, { id }) => rawBlock(id, 0x00, 0x05, 0x61)),
  connection("Huffman padding of more than 7 bits", (_, { id }) => rawBlock(id, 0x00, 0x01, 0x61, 0x82, 0x1f, 0xff)),
  connection("the end of string in Huffman", (_, { id }) =>
    rawBlock(id, 0x00, 0x01, 0x61, 0x84, 0xff, 0xff, 0xff, 0xff),
  ),
  connection("a table that is too large", (_, { id }) =>
    frame(frameTypes.headers, endHeaders, id, Buffer.concat([integer(4_097, 5, 0x20), Buffer.from([0x88])])),
  ),
  connection("a size of the table behind a field", (_, { id }) => rawBlock(id, 0x88, 0x20)),
  {
    name: "data after the end of a stream",
    reach: "connection",
    withoutBodies: true,
    laxInNode: nodeIgnoresClosed,
    apply: (builder, { id }) => ({ unit: () => builder.data(id, endStream, Buffer.from("poison")), afterEnd: true }),
  },
  {
    name: "trailers after the end of a stream",
    reach: "connection",
    withoutBodies: true,
    laxInNode: nodeIgnoresClosed,
    apply: ({ hpack }, { id }) => ({
      unit: () => frame(frameTypes.headers, endHeaders | endStream, id, hpack.block([["x-a", "poison"]])),
      afterEnd: true,
    }),
  },
];

export const mistakes = [...heads, ...bodies, ...connections] as [Mistake, ...Mistake[]];
