/** Clients: the same requests by the connections of the proxy and by `node:http2`, and what each makes of answers. */
import { connect, constants } from "node:http2";
import { Http2Pool } from "../../../../src/proxy/http2/upstream-pool.ts";
import { HeaderLines } from "../../../../src/proxy/message/header-lines.ts";
import type { CallFailure, UpstreamCall } from "../../../../src/proxy/message/upstream-call.ts";
import type { SeededRandom } from "../../../support/seeded-random.ts";
import type { Asked } from "./cases.ts";

/** What a client made of one response. */
export type Got = {
  interim: string[];
  status: number;
  lines: string[];
  body: Buffer[];
  trailers: string[];
  end: "complete" | "open" | "failed";
  error: string;
  unprocessed: boolean;
  /** The caller has given it up. */
  isAborted: boolean;
};

export type Client = Readonly<{ got: readonly Got[]; close(): void }>;

const newGot = (): Got => ({
  ...{ interim: [], status: 0, lines: [], body: [], trailers: [], end: "open", error: "" },
  ...{ unprocessed: false, isAborted: false },
});

export function bodyOf(stream: number, bytes: number): Buffer {
  return Buffer.alloc(bytes, `up${stream};`);
}
export const requestTrailers = ["x-sum", "1"];

export type Connections = "cardea" | "node";

export function openPool(port: number, http2Connections: Connections): Http2Pool {
  const lookup = (): never => {
    throw new Error("an address needs no look-up");
  };
  return new Http2Pool(
    { secure: false, path: null, hostname: "127.0.0.1", port, lookup, tls: {}, http2Connections },
    { connectionsMax: 1, connectTimeoutMs: 10_000, idleMs: 200 },
  );
}

/** @param mood of its readers and callers: pauses and aborts, at random; undefined: neither */
export function callOwn(
  pool: Http2Pool,
  requests: readonly Asked[],
  { mood, onChange }: Readonly<{ mood: SeededRandom | undefined; onChange: () => void }>,
): readonly Got[] {
  return requests.map(({ method, bodyBytes, trailers }, i) => {
    const got = newGot();
    const body = bodyOf(2 * i + 1, Math.max(0, bodyBytes));
    let sent = 0;
    const writeMore = (call: UpstreamCall): void => {
      while (sent < body.length) {
        const from = sent;
        sent = Math.min(body.length, sent + 10_000);
        if (!call.write(body.subarray(from, sent))) return;
      }
      call.end(trailers ? requestTrailers : []);
    };
    const abortsAt = mood !== undefined && mood.int(10) === 0 ? mood.int(5) : -1;
    let steps = 0;
    const step = (): void => {
      if (steps++ !== abortsAt || got.end !== "open") return;
      got.isAborted = true;
      call.abort();
      onChange();
    };
    const call: UpstreamCall = pool.call(
      {
        ...{ method, path: `/${i}`, requestId: null, hasBody: bodyBytes >= 0, idleTimeoutMs: 0 },
        headers: new HeaderLines(["host", "upstream", "x-stream", String(i)]),
      },
      {
        maySend: () => true,
        onWritable: () => writeMore(call),
        onInformational(status, lines) {
          got.interim.push(JSON.stringify([status, lines]));
          step();
        },
        onHead(status, { raw }) {
          if (got.status !== 0) got.error += " a second head";
          Object.assign(got, { status, lines: [...raw] });
          step();
        },
        onData(chunk) {
          got.body.push(Buffer.from(chunk as Buffer));
          step();
          if (mood === undefined || mood.int(4) > 0) return true;
          setImmediate(() => call.resume());
          return false;
        },
        onEnd(lines) {
          if (got.end !== "open") got.error += " a second end";
          Object.assign(got, { end: "complete", trailers: [...lines] });
          onChange();
        },
        onError(error: Error, { unprocessed }: CallFailure) {
          if (got.end !== "open") got.error += " a second end";
          Object.assign(got, { end: "failed", error: error.message, unprocessed });
          onChange();
        },
      },
    );
    return got;
  });
}

export function callNode(port: number, requests: readonly Asked[], onChange: () => void): Client {
  const session = connect(`http://127.0.0.1:${port}`, {
    settings: { enablePush: false, initialWindowSize: 1_048_576 },
    maxHeaderListPairs: 2_000,
  });
  session.on("error", () => {});
  const all = requests.map(({ method, bodyBytes, trailers }, i) => {
    const got = newGot();
    const lines = [":method", method, ":path", `/${i}`, ":authority", "upstream", ":scheme", "http"];
    const stream = session.request(lines as never, { endStream: bodyBytes < 0, waitForTrailers: trailers });
    stream.on("wantTrailers", () => stream.sendTrailers({ [requestTrailers[0] ?? ""]: requestTrailers[1] }));
    if (bodyBytes >= 0) stream.end(bodyOf(2 * i + 1, bodyBytes));
    let isEnded = false;
    stream.on("headers", (_h: object, _f: number, raw: string[]) => {
      const [status, rest] = readHead(raw);
      got.interim.push(JSON.stringify([status, rest]));
    });
    stream.on("response", (_h: object, _f: number, raw: string[]) => {
      const [status, rest] = readHead(raw);
      Object.assign(got, { status, lines: rest });
    });
    stream.on("data", (chunk: Buffer) => got.body.push(chunk));
    stream.on("trailers", (_h: object, _f: number, raw: string[]) => {
      got.trailers = [...raw];
    });
    stream.on("end", () => {
      isEnded = true;
      if (got.status !== 0 && !stream.closed) got.end = "complete";
      onChange();
    });
    stream.on("error", (error: Error) => {
      got.error = error.message;
    });
    stream.on("close", () => {
      if (got.end === "open") {
        const isComplete =
          isEnded && got.status !== 0 && stream.rstCode === constants.NGHTTP2_NO_ERROR && got.error === "";
        got.end = isComplete ? "complete" : "failed";
      }
      onChange();
    });
    return got;
  });
  return { got: all, close: () => session.destroy() };
}

function readHead(raw: readonly string[]): [status: number, lines: string[]] {
  const lines: string[] = [];
  let status = 0;
  for (let i = 0; i < raw.length; i += 2) {
    if (raw[i] === ":status") status = Number(raw[i + 1]);
    else lines.push(raw[i] ?? "", raw[i + 1] ?? "");
  }
  return [status, lines];
}
