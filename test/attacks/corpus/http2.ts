/** HTTP/2 attacks that no client library would send: each a list of frames after the preface, on stream 1. */

import {
  continuationOf,
  data,
  endHeaders,
  endStream,
  fields,
  frame,
  frameTypes,
  headers,
  integer,
} from "../../support/http2-frames.ts";
import { huffmanEncode } from "../../support/huffman-encode.ts";
import { handleOf } from "../oracle.ts";

export type Http2Attack = Readonly<{
  name: string;
  frames: readonly Buffer[];
  /**
   * - "refused": a 4xx, a reset or the end of the connection, and no complete request reaches an upstream
   * - an object: this request reaches the upstream, and the answer is 200
   * - a number: the proxy replies itself with this status
   */
  outcome: "refused" | Readonly<{ method: string; target: string; host?: string; body?: string }> | number;
}>;

const whole = endHeaders | endStream;
const cookie = ["cookie", `_pomerium=${handleOf(1)}`];
const get = (path: string, ...more: readonly string[]): string[] => [
  ...[":method", "GET", ":scheme", "http", ":authority", "app.localhost", ":path", path],
  ...more,
  ...cookie,
];
const withField = (name: string, value: string, ...more: string[]): string[] => {
  const lines = get("/", ...more);
  return lines.with(lines.indexOf(name) + 1, value);
};
const withoutField = (name: string, ...more: string[]): string[] => {
  const lines = get("/", ...more);
  return lines.toSpliced(lines.indexOf(name), 2);
};
const one = (...lines: readonly string[]): Buffer[] => [headers(1, whole, ...lines)];
const posted = (body: readonly Buffer[], ...more: string[]): Buffer[] => [
  headers(1, endHeaders, ...withField(":method", "POST", ...more)),
  ...body,
];
const smuggled = "GET /hidden HTTP/1.1\r\nHost: app.localhost\r\n\r\n";

/** Values that HTTP/1 would read as further lines: request splitting in the translation to HTTP/1. */
const splitting: Readonly<Record<string, Buffer[]>> = {
  "a name in capitals": one(...get("/", "X-Pomerium-Claim-Email", "evil")),
  "a line break in the path": one(...withField(":path", `/ HTTP/1.1\r\nHost: app.localhost\r\n\r\n${smuggled}`)),
  "a space in the path": one(...withField(":path", "/ HTTP/1.1")),
  "a tab in the path": one(...withField(":path", "/\tadmin")),
  "a line break in the method": one(...withField(":method", `GET / HTTP/1.1\r\nHost: a\r\n\r\nGET`)),
  "a space in the method": one(...withField(":method", "GET /admin HTTP/1.1 x")),
  "a method in lower case": one(...withField(":method", "get")),
  "an empty method": one(...withField(":method", "")),
  "a line break in the authority": one(...withField(":authority", "app.localhost\r\nx: y")),
  "a path in the authority": one(...withField(":authority", "app.localhost/admin")),
  "a space before a value": one(...get("/", "x", " a")),
  "a tab after a value": one(...get("/", "x", "a\t")),
  "a value that is a single space": one(...get("/", "x", " ")),
  "a space after a cookie": one(...get("/", "cookie", "a=b ")),
  "a space before an authority": one(...withField(":authority", " app.localhost")),
  "a name with an underscore": one(...get("/", "x_pomerium_claim_email", "evil")),
};

/** Invalid fields. A library that drops them one by one would continue without them. */
const invalidFields: Readonly<Record<string, Buffer[]>> = {
  "a line break in a value": one(...get("/", "x", `a\r\n${smuggled}`)),
  "a line feed in a value": one(...get("/", "x", "a\nx-pomerium-claim-email: evil")),
  "a carriage return in a value": one(...get("/", "x", "a\rb")),
  "NUL in a value": one(...get("/", "x", "a\0b")),
  "a line break in a name": one(...get("/", "x: y\r\nx-pomerium-claim-email", "evil")),
  "a colon in a name": one(...get("/", "transfer-encoding: chunked", "x")),
  "a space in a name": one(...get("/", "transfer-encoding ", "chunked")),
  "an empty name": one(...get("/", "", "x")),
  "a line break in a cookie": one(...get("/", "cookie", "a=b\r\nx: y")),
};

/** The same characters in each way in which HPACK can write a value. */
const encodings: Readonly<Record<string, Buffer[]>> = Object.fromEntries(
  Object.entries({ NUL: "a\0b", CR: "a\rb", LF: "a\nb" }).flatMap(([name, text]) => {
    const value = Buffer.from(text, "latin1");
    const huffman = huffmanEncode(value);
    const plainValue = Buffer.concat([integer(value.length, 7, 0), value]);
    const huffmanValue = Buffer.concat([integer(huffman.length, 7, 0x80), huffman]);
    const block = (first: number, coded: Buffer, ...more: number[]): Buffer[] => [
      frame(
        frameTypes.headers,
        whole,
        1,
        Buffer.concat([fields(...get("/")), Buffer.from([first, 1, 120]), coded, Buffer.from(more)]),
      ),
    ];
    return [
      [`${name} in a value that is not indexed, plain`, block(0x00, plainValue)],
      [`${name} in a value that is not indexed, Huffman-coded`, block(0x00, huffmanValue)],
      [`${name} in a value that is never indexed, Huffman-coded`, block(0x10, huffmanValue)],
      [`${name} in a value that is indexed, plain`, block(0x40, plainValue)],
      [`${name} in a value that is indexed, Huffman-coded, and used again`, block(0x40, huffmanValue, 0xbe)],
      [`${name} in a value of a name of the static table`, [referer(huffmanValue)]],
    ] as const;
  }),
);

function referer(coded: Buffer): Buffer {
  return frame(frameTypes.headers, whole, 1, Buffer.concat([fields(...get("/")), Buffer.from([0x73]), coded]));
}

/** The field is in the table of the connection, put there by a request that was refused. */
const fromTable: Readonly<Record<string, Buffer[]>> = {
  "a line break in a value that an earlier, refused request put into the table": [
    frame(
      frameTypes.headers,
      whole,
      1,
      Buffer.concat([fields(...get("/")), Buffer.from([0x40, 1, 120, 3]), Buffer.from("a\nb")]),
    ),
    frame(frameTypes.headers, whole, 3, Buffer.concat([fields(...get("/second")), Buffer.from([0xbe])])),
  ],
};

const framing: Readonly<Record<string, Buffer[]>> = {
  "transfer-encoding": posted([data(1, endStream, `0\r\n\r\n${smuggled}`)], "transfer-encoding", "chunked"),
  "a length that is too short": posted([data(1, endStream, `hello${smuggled}`)], "content-length", "5"),
  "a length that is too long": posted([data(1, endStream, "hello")], "content-length", "500"),
  "a length without a body": one(...get("/", "content-length", "5")),
  "a length without a body, ended by an empty frame": posted([data(1, endStream, "")], "content-length", "5"),
  "two lengths": posted([data(1, endStream, "hello")], "content-length", "5", "content-length", "0"),
  "two equal lengths": posted([data(1, endStream, "hello")], "content-length", "5", "content-length", "5"),
  "a list of lengths": posted([data(1, endStream, "hello")], "content-length", "5, 5"),
  "a signed length": posted([data(1, endStream, "hello")], "content-length", "+5"),
  "an octal length": posted([data(1, endStream, "hellohel")], "content-length", "010"),
  connection: one(...get("/", "connection", "x-pomerium-claim-email")),
  "keep-alive": one(...get("/", "keep-alive", "timeout=5")),
  "proxy-connection": one(...get("/", "proxy-connection", "keep-alive")),
  upgrade: one(...get("/", "upgrade", "websocket")),
  "te with a value other than trailers": one(...get("/", "te", "chunked")),
  "trailers with pseudo-headers": posted([data(1, 0, "hello"), headers(1, whole, ":path", "/admin")]),
  "trailers that do not end the stream": posted([data(1, 0, "hello"), headers(1, endHeaders, "x", "y")]),
  "data before headers": [data(1, endStream, "hello"), ...one(...get("/"))],
  "data after the end of the stream": [...one(...get("/admin")), data(1, endStream, smuggled)],
  "headers on an even stream": [headers(2, whole, ...get("/"))],
  "headers on stream 0": [headers(0, whole, ...get("/"))],
  "padding longer than the frame": [
    frame(frameTypes.headers, whole | 0x8, 1, Buffer.concat([Buffer.from([255]), fields(...get("/"))])),
  ],
  "a frame beyond the maximum size": [frame(frameTypes.headers, whole, 1, Buffer.alloc(20_000))],
  "another frame within a head": [headers(1, endStream, ...get("/")), data(1, 0, "x"), continuationOf(1, endHeaders)],
  "another stream's headers within a head": [headers(1, endStream, ...get("/")), headers(3, whole, ...get("/"))],
  "a header block that cannot be decoded": [
    frame(frameTypes.headers, whole, 1, Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])),
  ],
  "an index beyond the table": [
    frame(frameTypes.headers, whole, 1, Buffer.concat([fields(...get("/")), Buffer.from([0xc0])])),
  ],
  "a table larger than the announced maximum": [
    frame(frameTypes.headers, whole, 1, Buffer.concat([Buffer.from([0x3f, 0xe1, 0xff, 0x7f]), fields(...get("/"))])),
  ],
  "PUSH_PROMISE sent to the server": [
    frame(frameTypes.pushPromise, endHeaders, 1, Buffer.concat([Buffer.from([0, 0, 0, 2]), fields(...get("/"))])),
  ],
};

const pseudo: Readonly<Record<string, Buffer[]>> = {
  "no method": one(...withoutField(":method")),
  "no path": one(...withoutField(":path")),
  "no scheme": one(...withoutField(":scheme")),
  "no authority and no host": one(...withoutField(":authority")),
  "an empty path": one(...withField(":path", "")),
  "an empty authority": one(...withField(":authority", "")),
  "two methods": one(":method", "POST", ...get("/")),
  "two paths": one(":path", "/admin", ...get("/")),
  "two authorities": one(":authority", "eng.localhost", ...get("/")),
  "an unknown pseudo-header": one(":user", "alice", ...get("/")),
  "a status": one(":status", "200", ...get("/")),
  "a pseudo-header after a header": one("x", "y", ...get("/")),
  "a host that contradicts the authority": one(...get("/", "host", "eng.localhost")),
  "one host that agrees and one that contradicts the authority": one(
    ...get("/", "host", "app.localhost", "host", "eng.localhost"),
  ),
  "two hosts without an authority": one(
    ...withoutField(":authority", "host", "app.localhost", "host", "eng.localhost"),
  ),
  "a port that the host does not have": one(...withField(":authority", "app.localhost:80", "host", "app.localhost")),
  userinfo: one(...withField(":authority", "eng.localhost@app.localhost")),
  "a trailing dot": one(...withField(":authority", "app.localhost.")),
  "an invalid port": one(...withField(":authority", "app.localhost:99999")),
  "absolute-form": one(...withField(":path", "http://eng.localhost/")),
  "asterisk-form": one(...withField(":path", "*")),
  "dot segments": one(...withField(":path", "/a/%2e%2e/admin")),
  "an encoded slash": one(...withField(":path", "/a%2fadmin")),
  "an overlong slash": one(...withField(":path", "/a%c0%afadmin")),
  "a fragment": one(...withField(":path", "/a?x#b")),
  "a byte outside ASCII": one(...withField(":path", "/\xe9")),
  "CONNECT with a path": one(...withField(":method", "CONNECT")),
  "CONNECT to a target of no route": one(":method", "CONNECT", ":authority", "169.254.169.254:80"),
  "extended CONNECT, which the server did not enable": one(
    ...withField(":method", "CONNECT"),
    ":protocol",
    "websocket",
  ),
  TRACE: one(...withField(":method", "TRACE")),
  "two lines of authorization": one(...get("/", "authorization", "a", "authorization", "b")),
};

const forwarded: Readonly<Record<string, readonly [Buffer[], Exclude<Http2Attack["outcome"], number | "refused">]>> = {
  "a plain request": [one(...get("/")), { method: "GET", target: "/", host: "app.localhost" }],
  "a body with its length": [
    posted([data(1, endStream, "hello")], "content-length", "5"),
    { method: "POST", target: "/", body: "hello" },
  ],
  "a body without a length": [
    posted([data(1, 0, "hel"), data(1, endStream, "lo")]),
    { method: "POST", target: "/", body: "hello" },
  ],
  "a body that looks like a request": [
    posted([data(1, endStream, smuggled)]),
    { method: "POST", target: "/", body: smuggled },
  ],
  "a host that agrees with the authority": [one(...get("/", "host", "app.localhost")), { method: "GET", target: "/" }],
  "a host without an authority": [
    one(...withoutField(":authority", "host", "app.localhost")),
    { method: "GET", target: "/", host: "app.localhost" },
  ],
  "a scheme other than the connection's": [one(...withField(":scheme", "ftp")), { method: "GET", target: "/" }],
  "identity headers": [
    one(
      ...get(
        "/",
        "x-pomerium-claim-email",
        "evil",
        "x-pomerium-jwt-assertion",
        "evil",
        "x-forwarded-for",
        "6.6.6.6",
        "forwarded",
        "for=6.6.6.6",
      ),
    ),
    { method: "GET", target: "/" },
  ],
  "trailers that claim an identity": [
    posted([
      data(1, 0, "hello"),
      headers(
        1,
        whole,
        "x-pomerium-claim-email",
        "evil",
        "content-length",
        "5",
        "authorization",
        `Pomerium ${handleOf(2)}`,
      ),
    ]),
    { method: "POST", target: "/", body: "hello" },
  ],
  "cookie crumbs": [
    one(
      ...get(
        "/",
        "cookie",
        "a=1",
        "cookie",
        `_pomerium_csrf=${handleOf(2)}`,
        "cookie",
        `b=2; _pomerium=${handleOf(2)}`,
      ),
    ),
    { method: "GET", target: "/" },
  ],
  "cookie crumbs that are all the proxy's": [
    one(...get("/", "cookie", `_pomerium=${handleOf(2)}`)),
    { method: "GET", target: "/" },
  ],
  "a credential in authorization": [
    one(...get("/", "authorization", `Bearer Pomerium-${handleOf(1)}`)),
    { method: "GET", target: "/" },
  ],
  "a credential in the query": [
    one(...withField(":path", `/?pomerium_session=${handleOf(1)}&a=1`)),
    { method: "GET", target: "/?a=1" },
  ],
  "a head in many frames": [
    [
      headers(1, endStream, ...get("/").slice(0, 4)),
      continuationOf(1, 0, ...get("/").slice(4, 8)),
      continuationOf(1, endHeaders, ...get("/").slice(8)),
    ],
    { method: "GET", target: "/" },
  ],
  padding: [
    [
      frame(
        frameTypes.headers,
        whole | 0x8,
        1,
        Buffer.concat([Buffer.from([9]), fields(...get("/")), Buffer.alloc(9)]),
      ),
    ],
    { method: "GET", target: "/" },
  ],
  "runs of slashes": [one(...withField(":path", "//a///b")), { method: "GET", target: "/a/b" }],
};

const answered: Readonly<Record<string, readonly [Buffer[], number]>> = {
  "a path of a group that the caller is not in": [one(...withField(":path", "/%61dmin")), 403],
  "a host of a group that the caller is not in": [one(...withField(":authority", "ENG.localhost")), 403],
  "an unknown host": [one(...withField(":authority", "127.0.0.1")), 404],
};

export const http2: readonly Http2Attack[] = [
  ...[splitting, invalidFields, encodings, fromTable, framing, pseudo].flatMap((attacks) =>
    Object.entries(attacks).map(([name, frames]): Http2Attack => ({ name, frames, outcome: "refused" })),
  ),
  ...[...Object.entries(forwarded), ...Object.entries(answered)].map(
    ([name, [frames, outcome]]): Http2Attack => ({ name, frames, outcome }),
  ),
];
