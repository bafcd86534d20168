/**
 * Slow clients: many callers that take their time, over TLS. A separate process; argument: a `SlowClientsSetup` as
 * JSON. Prints a line when all are busy, and one with what they have moved when its input ends.
 *
 * In equal parts: heads, uploads and downloads over HTTP/1.1, and uploads and downloads as streams of HTTP/2. Each
 * moves a few bytes five times a second, evenly spread, so that the proxy always has some of them to serve.
 */
import { connect, type TLSSocket } from "node:tls";
import { literalBlock, RawHttp2 } from "./raw-http2.ts";

export type SlowClientsSetup = Readonly<{
  port: number;
  /** Host and port of the URL. */
  host: string;
  cookies: readonly string[];
  clients: number;
}>;
/** Bytes of bodies, of all clients together. */
export type SlowClientsResult = Readonly<Record<"sent" | "received" | "lost", number>>;

const setup = JSON.parse(process.argv[2] ?? "") as SlowClientsSetup;
const tickMs = 200;
/** How often a part of the clients has its turn. */
const turnsPerTick = 20;
const pieceBytes = 32;
const readBytes = 1_024;
const uploadBytes = 262_144;
const downloadBytes = 4_194_304;
const streamsPerConnection = 20;
const result = { sent: 0, received: 0, lost: 0 };
/** Moves a few bytes of one client. */
type Client = () => void;
const clients: Client[] = [];

const cookieOf = (n: number): string => setup.cookies[n % setup.cookies.length] ?? "";
const headOf = (n: number, first: string, lines: readonly string[]): string =>
  [`${first} HTTP/1.1`, `Host: ${setup.host}`, `Cookie: ${cookieOf(n)}`, "Accept: */*", ...lines, "", ""].join("\r\n");

async function connectTls(protocol: "h2" | "http/1.1"): Promise<TLSSocket> {
  const { promise, resolve, reject } = Promise.withResolvers<TLSSocket>();
  const options = { port: setup.port, host: "127.0.0.1", rejectUnauthorized: false, ALPNProtocols: [protocol] };
  const socket = connect(options, () => resolve(socket));
  socket.on("error", reject);
  socket.once("close", () => {
    result.lost += 1;
  });
  return await promise;
}

async function slowHead(n: number): Promise<Client> {
  const socket = await connectTls("http/1.1");
  const head = headOf(n, `GET /slow/1?client=${n}`, [`Referer: https://${setup.host}/${"a".repeat(1_500)}`]);
  let at = 0;
  socket.on("data", () => {});
  return () => {
    socket.write(head.slice(at, at + pieceBytes), "latin1");
    result.sent += pieceBytes;
    at = at + pieceBytes >= head.length ? 0 : at + pieceBytes;
  };
}

async function slowUpload(n: number): Promise<Client> {
  const socket = await connectTls("http/1.1");
  socket.write(headOf(n, `PUT /slow/upload?client=${n}`, [`Content-Length: ${uploadBytes}`]), "latin1");
  socket.on("data", () => {});
  return () => {
    socket.write("x".repeat(pieceBytes), "latin1");
    result.sent += pieceBytes;
  };
}

async function slowDownload(n: number): Promise<Client> {
  const socket = await connectTls("http/1.1");
  socket.write(headOf(n, `GET /slow/${downloadBytes}`, []), "latin1");
  return () => {
    const part = socket.read(readBytes) as Buffer | null;
    result.received += part?.length ?? 0;
  };
}

async function slowStreams(first: number): Promise<readonly Client[]> {
  const socket = await connectTls("h2");
  const connection: RawHttp2 = new RawHttp2(
    socket,
    { side: "client", streamWindow: readBytes },
    {
      onHeaders() {},
      onData(_id, bytes) {
        result.received += bytes.length;
      },
      onReset() {
        result.lost += 1;
      },
      onGone() {},
    },
  );
  return Array.from({ length: streamsPerConnection }, (_, i): Client => {
    const id = 1 + i * 2;
    const n = first + i;
    const uploads = i % 2 === 0;
    const path = uploads ? `/slow/upload?client=${n}` : `/slow/${downloadBytes}`;
    const block = literalBlock([
      [":method", uploads ? "PUT" : "GET"],
      [":scheme", "https"],
      [":authority", setup.host],
      [":path", path],
      ["cookie", cookieOf(n)],
      ...(uploads ? ([["content-length", String(uploadBytes)]] as const) : []),
    ]);
    connection.sendHeaders(id, block, { endStream: !uploads });
    if (!uploads) return () => connection.openWindow(id, readBytes / 4);
    return () => {
      connection.sendData(id, "x".repeat(pieceBytes));
      result.sent += pieceBytes;
    };
  });
}

for (let n = 0; n < setup.clients; n += 5)
  clients.push(...(await Promise.all([slowHead(n), slowUpload(n + 1), slowDownload(n + 2)])));
const streamed = (setup.clients * 2) / 5;
for (let n = 0; n < streamed; n += streamsPerConnection) clients.push(...(await slowStreams(setup.clients + n)));

let turn = 0;
setInterval(() => {
  for (let at = turn; at < clients.length; at += turnsPerTick) clients[at]?.();
  turn = (turn + 1) % turnsPerTick;
}, tickMs / turnsPerTick);
setTimeout(() => process.stdout.write(`ready ${clients.length}\n`), 1_000);
process.stdin.resume().once("end", () => {
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit());
});
