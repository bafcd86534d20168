/**
 * S3 server: an object store with the S3 API in the test process. It checks what it gets: the signature of every
 * request (Signature Version 4), the hash of the body, and its checksum.
 *
 * It keeps objects in memory, and answers only what the sink and the source of audit records request.
 */
import { createHash, createHmac } from "node:crypto";
import { createServer as createHttp, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createHttps, type ServerOptions } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { crc32 } from "node:zlib";

export const s3Credentials = {
  accessKeyId: "AKIDEXAMPLE",
  secretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
};

export type StoredObject = Readonly<{ body: Buffer; headers: Readonly<Record<string, string>> }>;
/** Called before an answer. @returns true if it answered by itself */
export type S3Fault = (of: Readonly<{ method: string; key: string }>, response: ServerResponse) => boolean;

export class S3Server {
  readonly objects = new Map<string, StoredObject>();
  /** The keys of the uploads, repetitions included. */
  readonly puts: string[] = [];
  /** Requests that were refused, and why. */
  readonly complaints: string[] = [];
  /** Before an object is stored, and after. */
  before: S3Fault = () => false;
  after: S3Fault = () => false;
  pageKeysMax = 1_000;
  readonly bucket = "audit-records";
  readonly region = "eu-central-1";
  readonly #server: ReturnType<typeof createHttp>;
  readonly #isTls: boolean;
  readonly #sockets = new Set<Socket>();
  #port = 0;

  constructor(tls?: ServerOptions) {
    this.#isTls = tls !== undefined;
    const handle = (request: IncomingMessage, response: ServerResponse): void => {
      const chunks: Buffer[] = [];
      request.on("error", () => undefined);
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => this.#answer(request, Buffer.concat(chunks), response));
    };
    this.#server = tls === undefined ? createHttp(handle) : (createHttps(tls, handle) as never);
    this.#server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    });
  }

  async start(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(this.#port, "127.0.0.1", resolve));
    this.#port = (this.#server.address() as AddressInfo).port;
    return this;
  }

  get url(): URL {
    return new URL(`${this.#isTls ? "https" : "http"}://localhost:${this.#port}`);
  }

  async stop(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #answer(request: IncomingMessage, body: Buffer, response: ServerResponse): void {
    const { method = "", url = "" } = request;
    const target = new URL(url, "http://localhost");
    const [, bucket = "", ...rest] = target.pathname.split("/");
    const key = rest.map(decodeURIComponent).join("/");
    const refused = signatureProblem(request, body, this.region);
    if (refused !== null) {
      this.complaints.push(refused);
      sendError(response, 403, "SignatureDoesNotMatch");
      return;
    }
    if (this.before({ method, key }, response)) return;
    if (bucket !== this.bucket) sendError(response, 404, "NoSuchBucket");
    else if (method === "PUT") this.#put(request, { key, body }, response);
    else if (method === "GET" && key === "") this.#list(target.searchParams, response);
    else if (method === "GET") this.#get(key, response);
    else sendError(response, 405, "MethodNotAllowed");
  }

  #put(
    request: IncomingMessage,
    { key, body }: Readonly<{ key: string; body: Buffer }>,
    response: ServerResponse,
  ): void {
    const checksum = Buffer.alloc(4);
    checksum.writeUInt32BE(crc32(body));
    if (request.headers["x-amz-checksum-crc32"] !== checksum.toString("base64")) {
      this.complaints.push(`the checksum of ${key}`);
      sendError(response, 400, "BadDigest");
      return;
    }
    this.objects.set(key, { body, headers: request.headers as Record<string, string> });
    this.puts.push(key);
    if (this.after({ method: "PUT", key }, response)) return;
    response.writeHead(200, { etag: `"${createHash("md5").update(body).digest("hex")}"` }).end();
  }

  #get(key: string, response: ServerResponse): void {
    const found = this.objects.get(key);
    if (found === undefined) sendError(response, 404, "NoSuchKey");
    else if (!this.after({ method: "GET", key }, response)) response.writeHead(200).end(found.body);
  }

  #list(query: URLSearchParams, response: ServerResponse): void {
    const prefix = query.get("prefix") ?? "";
    const delimiter = query.get("delimiter");
    const after = query.get("continuation-token") ?? query.get("start-after") ?? "";
    const max = Math.min(Number(query.get("max-keys") ?? this.pageKeysMax), this.pageKeysMax);
    const folded = [...this.objects.keys()]
      .filter((key) => key.startsWith(prefix))
      .map((key) => {
        const end = delimiter === null ? -1 : key.indexOf(delimiter, prefix.length);
        return end < 0 ? key : key.slice(0, end + 1);
      });
    const entries = [...new Set(folded)].sort().filter((entry) => entry > after);
    const page = entries.slice(0, max);
    const isPrefix = (entry: string): boolean => delimiter !== null && entry.endsWith(delimiter);
    const isTruncated = entries.length > page.length;
    const xml = page.map((entry) =>
      isPrefix(entry)
        ? `<CommonPrefixes><Prefix>${entry}</Prefix></CommonPrefixes>`
        : `<Contents><Key>${entry}</Key><Size>${this.objects.get(entry)?.body.length}</Size></Contents>`,
    );
    response
      .writeHead(200, { "content-type": "application/xml" })
      .end(
        `<ListBucketResult><Name>${this.bucket}</Name><IsTruncated>${isTruncated}</IsTruncated>` +
          `${isTruncated ? `<NextContinuationToken>${page.at(-1)}</NextContinuationToken>` : ""}${xml.join("")}</ListBucketResult>`,
      );
  }
}

export function sendError(response: ServerResponse, status: number, code: string): true {
  response
    .writeHead(status, { "content-type": "application/xml" })
    .end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>text of the store</Message></Error>`);
  return true;
}

/** Computes the signature as the documentation of Signature Version 4 describes it. @returns null if it is right */
function signatureProblem(request: IncomingMessage, body: Buffer, region: string): string | null {
  const { authorization = "", "x-amz-date": at = "", "x-amz-content-sha256": hash } = request.headers;
  const found =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/s3\/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$/.exec(
      authorization,
    );
  if (found === null) return "no signature";
  const [, id, date = "", ofRegion, names = "", signature] = found;
  if (id !== s3Credentials.accessKeyId) return "another access key";
  if (ofRegion !== region) return `the region ${ofRegion}`;
  const bodyHash = createHash("sha256").update(body).digest("hex");
  if (hash !== bodyHash) return "another hash of the body";
  for (const name of ["host", "x-amz-date", "x-amz-content-sha256"])
    if (!names.split(";").includes(name)) return `${name} is not signed`;
  const { pathname, searchParams } = new URL(request.url ?? "", "http://localhost");
  const encode = (text: string): string =>
    encodeURIComponent(text).replaceAll(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
  const query = [...searchParams].map(([name, value]) => `${encode(name)}=${encode(value)}`).sort();
  const headers = names.split(";").map((name) => `${name}:${String(request.headers[name]).trim()}\n`);
  const canonical = [request.method, pathname, query.join("&"), headers.join(""), names, hash].join("\n");
  const scope = `${date}/${region}/s3/aws4_request`;
  const text = ["AWS4-HMAC-SHA256", at, scope, createHash("sha256").update(canonical).digest("hex")].join("\n");
  const hmac = (key: string | Buffer, data: string): Buffer => createHmac("sha256", key).update(data).digest();
  const key = [date, region, "s3", "aws4_request"].reduce<string | Buffer>(
    hmac,
    `AWS4${s3Credentials.secretAccessKey}`,
  );
  return hmac(key, text).toString("hex") === signature ? null : "another signature";
}
