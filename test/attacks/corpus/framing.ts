/** Where a request ends: whoever disagrees with the next reader about that can hide one request in another. */
import { type Attack, answered, carried, cookie, get, head, hidden, post, refused } from "./attack.ts";

const chunked = "Transfer-Encoding: chunked\r\n";
const none = `0\r\n\r\n${hidden}`;
const hello = "5\r\nhello\r\n0\r\n\r\n";
const posted = { method: "POST", target: "/", body: "hello" } as const;
const two = { method: "GET", target: "/two" } as const;
const second = get("/two");
/** What anybody may ask for, as a body that no reader may take for a request. */
const innocent = head("GET /hidden HTTP/1.1", "Host: public.localhost");

const both = refused(400, {
  "CL.TE": post(`Content-Length: 6\r\n${chunked}`, none),
  "TE.CL": post(`${chunked}Content-Length: 4\r\n`, none),
  "CL.TE with a length of zero": post(`Content-Length: 0\r\n${chunked}`, none),
  "CL.0: a length that a bodiless reader skips": post(
    `Content-Length: ${hidden.length}\r\nContent-Length: 0\r\n`,
    hidden,
  ),
  "CL and TE in different cases": post(`content-length: 6\r\ntransfer-ENCODING: Chunked\r\n`, none),
  "CL and TE with other lines between": post(`Content-Length: 6\r\nX: y\r\nZ: w\r\n${chunked}`, none),
  "CL and an unknown TE": post("Content-Length: 5\r\nTransfer-Encoding: x\r\n", `hello${hidden}`),
  "a body behind a refused head": post(`X_Y: 1\r\nContent-Length: ${hidden.length}\r\n`, hidden),
  "TE that Connection nominates": post(`Connection: close, Transfer-Encoding\r\n${chunked}Content-Length: 6\r\n`, none),
});

const lengths = refused(400, {
  "two equal lengths": post("Content-Length: 5\r\nContent-Length: 5\r\n", `hello${hidden}`),
  "two lengths": post("Content-Length: 5\r\nContent-Length: 0\r\n", `hello${hidden}`),
  "two lengths in two cases": post("Content-Length: 0\r\ncontent-length: 5\r\n", `hello${hidden}`),
  "a list of equal lengths": post("Content-Length: 5, 5\r\n", `hello${hidden}`),
  "a list of lengths": post("Content-Length: 5, 0\r\n", `hello${hidden}`),
  "an empty entry in a list": post("Content-Length: ,5\r\n", `hello${hidden}`),
  "a signed length": post("Content-Length: +5\r\n", `hello${hidden}`),
  "a negative length": post("Content-Length: -1\r\n", hidden),
  "a negative zero": post("Content-Length: -0\r\n", hidden),
  "a hexadecimal length": post("Content-Length: 0x5\r\n", `hello${hidden}`),
  "an octal length": post("Content-Length: 010\r\n", `hellohel${hidden}`),
  "zero in two digits": post("Content-Length: 00\r\n", hidden),
  "a length with an exponent": post("Content-Length: 5e0\r\n", `hello${hidden}`),
  "a length with a point": post("Content-Length: 5.0\r\n", `hello${hidden}`),
  "a length in quotes": post('Content-Length: "5"\r\n', `hello${hidden}`),
  "a length with a space in it": post("Content-Length: 5 0\r\n", `hello${hidden}`),
  "a length with a comment": post("Content-Length: 5;a\r\n", `hello${hidden}`),
  "a length in Arabic digits": post("Content-Length: \xd9\xa5\r\n", `hello${hidden}`),
  "an empty length": post("Content-Length: \r\n", hidden),
  "a length beyond 64 bits": post("Content-Length: 18446744073709551621\r\n", `hello${hidden}`),
  "a length beyond 128 bits": post(`Content-Length: 5${"0".repeat(40)}\r\n`, `hello${hidden}`),
  "a length behind an obs-fold": post("X: y\r\n Content-Length: 5\r\n", `hello${hidden}`),
  "a length that is folded": post("Content-Length:\r\n 5\r\n", `hello${hidden}`),
  "a length with a space before its colon": post("Content-Length : 5\r\n", `hello${hidden}`),
  "a length with an underscore": post("Content_Length: 5\r\n", `hello${hidden}`),
  "a length behind a bare line feed": post("X: y\nContent-Length: 5\r\n", `hello${hidden}`),
  "a length behind a bare carriage return": post("X: y\rContent-Length: 5\r\n", `hello${hidden}`),
  "a length behind NUL": post("X: y\0Content-Length: 5\r\n", `hello${hidden}`),
});

const codings = refused(400, {
  "TE gzip": post("Transfer-Encoding: gzip\r\n", none),
  "TE gzip, chunked": post("Transfer-Encoding: gzip, chunked\r\n", none),
  "TE chunked, gzip": post("Transfer-Encoding: chunked, gzip\r\n", none),
  "TE chunked, identity": post("Transfer-Encoding: chunked, identity\r\n", none),
  "TE identity": post("Transfer-Encoding: identity\r\n", none),
  "TE identity, chunked": post("Transfer-Encoding: identity, chunked\r\n", none),
  "TE chunked, chunked": post("Transfer-Encoding: chunked, chunked\r\n", none),
  "TE chunked twice": post(chunked + chunked, none),
  "TE chunked, then identity": post(`${chunked}Transfer-Encoding: identity\r\n`, none),
  "TE identity, then chunked": post(`Transfer-Encoding: identity\r\n${chunked}`, none),
  "TE with an empty entry": post("Transfer-Encoding: , chunked\r\n", none),
  "TE with an empty entry behind": post("Transfer-Encoding: chunked,\r\n", none),
  "TE xchunked": post("Transfer-Encoding: xchunked\r\n", none),
  "TE chunkedx": post("Transfer-Encoding: chunkedx\r\n", none),
  "TE chunk": post("Transfer-Encoding: chunk\r\n", none),
  "TE in quotes": post('Transfer-Encoding: "chunked"\r\n', none),
  "TE in single quotes": post("Transfer-Encoding: 'chunked'\r\n", none),
  "TE with a parameter": post("Transfer-Encoding: chunked;q=1\r\n", none),
  "TE with a long s": post("Transfer-Encoding: chun\u00e7ed\r\n", none),
  "TE empty": post("Transfer-Encoding: \r\n", none),
  "TE behind a vertical tab": post("Transfer-Encoding: \x0bchunked\r\n", none),
  "TE behind a form feed": post("Transfer-Encoding: \x0cchunked\r\n", none),
  "TE behind a space that does not break": post("Transfer-Encoding: \xa0chunked\r\n", none),
  "TE behind NUL": post("Transfer-Encoding: \0chunked\r\n", none),
  "TE before NUL": post("Transfer-Encoding: chunked\0\r\n", none),
  "TE before a carriage return": post("Transfer-Encoding: chunked\r\r\n", none),
  "TE with a trailing tab": post("Transfer-Encoding: chunked\t\r\n", none),
  "TE with a space before its colon": post("Transfer-Encoding : chunked\r\n", none),
  "TE with a tab before its colon": post("Transfer-Encoding\t: chunked\r\n", none),
  "TE behind a space": post(" Transfer-Encoding: chunked\r\n", none),
  "TE as the folded first line": head("POST / HTTP/1.1", " Transfer-Encoding: chunked", "Host: app.localhost") + none,
  "TE that is folded": post("Transfer-Encoding:\r\n chunked\r\n", none),
  "TE that is folded with a tab": post("Transfer-Encoding:\r\n\tchunked\r\n", none),
  "TE behind an obs-fold": post("X: y\r\n Transfer-Encoding: chunked\r\n", none),
  "TE behind a bare line feed": post("X: y\nTransfer-Encoding: chunked\r\n", none),
  "TE behind a bare carriage return": post("X: y\rTransfer-Encoding: chunked\r\n", none),
  "TE with an underscore": post("Transfer_Encoding: chunked\r\nContent-Length: 0\r\n", hidden),
  "TE with a control character in its name": post("Transfer\x01-Encoding: chunked\r\nContent-Length: 0\r\n", hidden),
  "TE with a byte outside ASCII in its name": post("Transfer-\xcbncoding: chunked\r\nContent-Length: 0\r\n", hidden),
  "TE with a second colon": post("Transfer-Encoding:: chunked\r\n", none),
  "TE in HTTP/1.0": `POST / HTTP/1.0\r\nHost: app.localhost\r\n${cookie}${chunked}\r\n${none}`,
  "TE in HTTP/1.0 that is kept alive": `POST / HTTP/1.0\r\nHost: app.localhost\r\n${cookie}Connection: keep-alive\r\n${chunked}\r\n${none}`,
});

const chunks = refused(400, {
  "a chunk size with 0x": post(chunked, `0x5\r\nhello\r\n${none}`),
  "a chunk size with a sign": post(chunked, `+5\r\nhello\r\n${none}`),
  "a negative chunk size": post(chunked, `-1\r\nhello\r\n${none}`),
  "a chunk size with a space behind it": post(chunked, `5 \r\nhello\r\n${none}`),
  "a chunk size behind a space": post(chunked, ` 5\r\nhello\r\n${none}`),
  "a chunk size with an underscore": post(chunked, `0_5\r\nhello\r\n${none}`),
  "a chunk size that is empty": post(chunked, `\r\nhello\r\n${none}`),
  "a chunk size that is no number": post(chunked, `G\r\nhello\r\n${none}`),
  "a chunk size of 65 bits": post(chunked, `10000000000000005\r\nhello\r\n${none}`),
  "a chunk size beyond counting": post(chunked, `FFFFFFFFFFFFFFFFF\r\nx\r\n${none}`),
  "a chunk size that ends in a bare line feed": post(chunked, `5\nhello\r\n${none}`),
  "a chunk size that ends in a bare carriage return": post(chunked, `5\rhello\r\n${none}`),
  "a chunk extension that ends in a bare line feed": post(chunked, `5;a\nhello\r\n${none}`),
  "a chunk extension with a bare line feed in quotes": post(chunked, `5;a="\nx"\r\nhello\r\n${none}`),
  "a chunk extension with a carriage return": post(chunked, `5;a\rb\r\nhello\r\n${none}`),
  "a chunk extension with NUL": post(chunked, `5;a\0\r\nhello\r\n${none}`),
  "a chunk extension whose quotes stay open": post(chunked, `5;a="x\r\nhello\r\n${none}`),
  "chunk extensions without end": post(chunked, `5;${"a".repeat(20_000)}\r\nhello\r\n${none}`),
  "a chunk that is longer than its size": post(chunked, `5\r\nhelloXX${none}`),
  "a chunk that ends in a bare line feed": post(chunked, `5\r\nhello\n${none}`),
  "a chunk that ends in a bare carriage return": post(chunked, `5\r\nhello\r${none}`),
  "a chunk whose end is shifted by one": post(chunked, `5\r\nhell\r\n${none}`),
  "a last chunk that ends in bare line feeds": post(chunked, `0\n\n${hidden}`),
  "a trailer without a name": post(chunked, `0\r\n: x\r\n\r\n${hidden}`),
  "a trailer that is folded": post(chunked, `0\r\nX: y\r\n z\r\n\r\n${hidden}`),
  "a trailer behind a bare line feed": post(chunked, `0\r\nX: y\nZ: w\r\n\r\n${hidden}`),
  "a trailer that is a request": post(chunked, `0\r\n${hidden}`),
  "a trailer that is a transfer coding": post(chunked, `0\r\n${chunked}\r\n${hidden}`),
  "a trailer that is a length": post(chunked, `0\r\nContent-Length: 5\r\n\r\nhello${hidden}`),
});

const trailersWithoutEnd = refused(431, {
  "trailers beyond 128 KiB": post(chunked, `0\r\n${`X: ${"y".repeat(1_000)}\r\n`.repeat(140)}\r\n${hidden}`),
  "more than 1,000 trailers": post(chunked, `0\r\n${"X: y\r\n".repeat(1_100)}\r\n${hidden}`),
});

const lineEnds = refused(400, {
  "bare line feeds alone": `GET / HTTP/1.1\nHost: app.localhost\n\n${hidden}`,
  "a bare line feed behind the first line": `GET / HTTP/1.1\nHost: app.localhost\r\n\r\n${hidden}`,
  "a bare line feed at the end of the head": `GET / HTTP/1.1\r\nHost: app.localhost\r\n\n${hidden}`,
  "a bare line feed before the end of the head": `GET / HTTP/1.1\r\nHost: app.localhost\n\r\n${hidden}`,
  "a bare carriage return behind the first line": `GET / HTTP/1.1\rHost: app.localhost\r\n\r\n${hidden}`,
  "a bare carriage return in a value": get("/", "X: a\rb\r\n") + hidden,
  "two carriage returns at the end of a line": get("/", "X: a\r\r\n") + hidden,
  "an obs-fold": get("/", "X: a\r\n b\r\n") + hidden,
  "an obs-fold with a tab": get("/", "X: a\r\n\tb\r\n") + hidden,
  "an empty obs-fold": get("/", "X: a\r\n \r\n") + hidden,
  "a folded first line": `GET / HTTP/1.1\r\n Host: app.localhost\r\n\r\n${hidden}`,
  "NUL in a value": get("/", "X: a\0b\r\n") + hidden,
  "a name without a colon": get("/", "Xabc\r\n") + hidden,
  "an empty name": get("/", ": a\r\n") + hidden,
  "a space in a name": get("/", "X Y: a\r\n") + hidden,
  "a control character in a name": get("/", "X\x01: a\r\n") + hidden,
  "DEL in a value": get("/", "X: a\x7fb\r\n") + hidden,
});

const firstLines = [
  ...refused(400, {
    "HTTP/0.9": "GET /\r\n\r\n",
    "HTTP/2.0 as text": get("/", "", "HTTP/2.0"),
    "HTTP/1.2": get("/", "", "HTTP/1.2"),
    "HTTP/1.10": get("/", "", "HTTP/1.10"),
    "HTTP/01.1": get("/", "", "HTTP/01.1"),
    "http in lower case": get("/", "", "http/1.1"),
    "RTSP with a method of its own": get("/", "", "RTSP/1.0").replace("GET", "PLAY"),
    "RTSP, which the parser takes for HTTP/1.0": get("/", "Connection: keep-alive\r\n", "RTSP/1.0") + hidden,
    "RTSP of another version": get("/", "", "RTSP/1.1") + hidden,
    "ICE with its own method": get("/", "", "ICE/1.0").replace("GET", "SOURCE") + hidden,
    "ICE as HTTP": get("/").replace("GET", "SOURCE") + hidden,
    "spaces behind the method": get("/").replace("GET ", "GET  ") + hidden,
    "spaces before the version": get("/", "", " HTTP/1.1") + hidden,
    "spaces in a first line behind an empty line": `\r\n${get("/", "", "   HTTP/1.1")}${hidden}`,
    "no version": get("/", "", ""),
    "something behind the version": get("/", "", "HTTP/1.1 x"),
    "a method in lower case": get("/").replace("GET", "get"),
    "a method that nobody knows": get("/").replace("GET", "GETS"),
    "a tab behind the method": get("/").replace("GET ", "GET\t"),
    "a space before the method": ` ${get("/")}`,
    "a TLS hello to a plain port, or the other way round": `\x16\x03\x01\x02\x00\x01${"\x00".repeat(40)}`,
  }),
  ...refused(405, {
    TRACE: get("/").replace("GET", "TRACE"),
    CONNECT: head("CONNECT app.localhost:80 HTTP/1.1", "Host: app.localhost:80"),
  }),
];

/** What looks odd and can be read in one way only goes through, and what follows is read from the right place. */
const inOrder = carried({
  "a body with a length": [post("Content-Length: 5\r\n", "hello") + second, posted, two],
  "a body in chunks": [post(chunked, hello) + second, posted, two],
  "chunked in capitals": [post("Transfer-Encoding: CHUNKED\r\n", hello) + second, posted, two],
  "space behind chunked, which belongs to no value": [
    post("Transfer-Encoding: chunked \r\n", hello) + second,
    posted,
    two,
  ],
  "chunk sizes with leading zeros": [post(chunked, `0005\r\nhello\r\n000\r\n\r\n${second}`), posted, two],
  "chunk extensions": [post(chunked, `5;a=b;c="d"\r\nhello\r\n0;e\r\n\r\n${second}`), posted, two],
  "a body that looks like a request": [
    post(`Content-Length: ${innocent.length}\r\n`, innocent) + second,
    { ...posted, body: innocent },
    two,
  ],
  "a chunk that looks like a request": [
    post(chunked, `${innocent.length.toString(16)}\r\n${innocent}\r\n0\r\n\r\n${second}`),
    { ...posted, body: innocent },
    two,
  ],
  "a body of GET": [`${get("/", "Content-Length: 5\r\n")}hello${second}`, { ...posted, method: "GET" }, two],
  "a body of DELETE": [
    post("Content-Length: 5\r\n", "hello").replace("POST", "DELETE") + second,
    { ...posted, method: "DELETE" },
    two,
  ],
  "a length of zero with a request behind it": [post("Content-Length: 0\r\n") + second, { ...posted, body: "" }, two],
  "a length that Connection nominates": [
    post("Connection: Content-Length\r\nContent-Length: 5\r\n", "hello") + second,
    posted,
    two,
  ],
  "Expect: 100-continue with the body right behind it": [
    post("Expect: 100-continue\r\nContent-Length: 5\r\n", "hello") + second,
    posted,
    two,
  ],
  "an upgrade to what nobody knows": [
    get("/", "Connection: Upgrade\r\nUpgrade: foo\r\n") + second,
    { method: "GET", target: "/" },
    two,
  ],
  "an upgrade to h2c": [
    get("/", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n") +
      second,
    { method: "GET", target: "/" },
    two,
  ],
  "an upgrade to what nobody knows, with a body": [
    post("Connection: Upgrade\r\nUpgrade: foo\r\nContent-Length: 5\r\n", "hello") + second,
    posted,
    two,
  ],
  "an upgrade to what nobody knows, in chunks": [
    post(`Connection: Upgrade\r\nUpgrade: foo\r\n${chunked}`, hello) + second,
    posted,
    two,
  ],
  "trailers that say who is asking": [
    post(
      `Trailer: X-Pomerium-Claim-Email\r\n${chunked}`,
      `5\r\nhello\r\n0\r\nX-Pomerium-Claim-Email: evil@example.com\r\n\r\n${second}`,
    ),
    posted,
    two,
  ],
  "trailers with a credential": [
    post(chunked, `5\r\nhello\r\n0\r\n${cookie}Authorization: Pomerium SESSION-HANDLE-1-OF-SOMEBODY\r\n\r\n${second}`),
    posted,
    two,
  ],
  "trailers with another host": [post(chunked, `5\r\nhello\r\n0\r\nHost: eng.localhost\r\n\r\n${second}`), posted, two],
  "empty lines before a request": [`\r\n\r\n${get("/")}${second}`, { method: "GET", target: "/" }, two],
  "HTTP/1.0 that is kept alive": [
    get("/", "Connection: keep-alive\r\n", "HTTP/1.0") + second,
    { method: "GET", target: "/" },
    two,
  ],
  "a TE header, which is no transfer coding": [
    get("/", "TE: chunked, trailers\r\n") + second,
    { method: "GET", target: "/" },
    two,
  ],
});

const withoutSession = answered({
  "a body with a request in it, refused for want of a session": [
    `POST / HTTP/1.1\r\nHost: app.localhost\r\nAccept: application/json\r\nContent-Length: ${innocent.length}\r\n\r\n${innocent}`,
    401,
  ],
  "a chunked body with a request in it, to a host that nobody knows": [
    `POST / HTTP/1.1\r\nHost: nobody.localhost\r\n${chunked}\r\n${innocent.length.toString(16)}\r\n${innocent}\r\n0\r\n\r\n`,
    404,
  ],
});

export const framing: readonly Attack[] = [
  ...both,
  ...lengths,
  ...codings,
  ...chunks,
  ...trailersWithoutEnd,
  ...lineEnds,
  ...firstLines,
  ...inOrder,
  ...withoutSession,
];
