/** Attacks on request framing. Two readers that disagree on where a request ends let one request hide in another. */
import { type Attack, answered, cookie, forwarded, get, head, hidden, post, refused } from "./attack.ts";

const chunked = "Transfer-Encoding: chunked\r\n";
const lastChunkThenHidden = `0\r\n\r\n${hidden}`;
const hello = "5\r\nhello\r\n0\r\n\r\n";
const postHello = { method: "POST", target: "/", body: "hello" } as const;
const getTwo = { method: "GET", target: "/two" } as const;
const second = get("/two");
/** A request that needs no session, sent as a body: no reader may treat it as a request. */
const publicRequest = head("GET /hidden HTTP/1.1", "Host: public.localhost");

const lengthAndCoding = refused(400, {
  "CL.TE": post(`Content-Length: 6\r\n${chunked}`, lastChunkThenHidden),
  "TE.CL": post(`${chunked}Content-Length: 4\r\n`, lastChunkThenHidden),
  "CL.TE with a length of zero": post(`Content-Length: 0\r\n${chunked}`, lastChunkThenHidden),
  "CL.0: a length that a reader ignores if it expects no body": post(
    `Content-Length: ${hidden.length}\r\nContent-Length: 0\r\n`,
    hidden,
  ),
  "CL and TE in different cases": post(`content-length: 6\r\ntransfer-ENCODING: Chunked\r\n`, lastChunkThenHidden),
  "CL and TE with other lines in between": post(`Content-Length: 6\r\nX: y\r\nZ: w\r\n${chunked}`, lastChunkThenHidden),
  "CL and an unknown TE": post("Content-Length: 5\r\nTransfer-Encoding: x\r\n", `hello${hidden}`),
  "a body after a refused head": post(`X_Y: 1\r\nContent-Length: ${hidden.length}\r\n`, hidden),
  "TE nominated by Connection": post(
    `Connection: close, Transfer-Encoding\r\n${chunked}Content-Length: 6\r\n`,
    lastChunkThenHidden,
  ),
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
  "a length with a decimal point": post("Content-Length: 5.0\r\n", `hello${hidden}`),
  "a length in quotes": post('Content-Length: "5"\r\n', `hello${hidden}`),
  "a length with a space in it": post("Content-Length: 5 0\r\n", `hello${hidden}`),
  "a length with a comment": post("Content-Length: 5;a\r\n", `hello${hidden}`),
  "a length in Arabic digits": post("Content-Length: \xd9\xa5\r\n", `hello${hidden}`),
  "an empty length": post("Content-Length: \r\n", hidden),
  "a length beyond 64 bits": post("Content-Length: 18446744073709551621\r\n", `hello${hidden}`),
  "a length beyond 128 bits": post(`Content-Length: 5${"0".repeat(40)}\r\n`, `hello${hidden}`),
  "a length after an obs-fold": post("X: y\r\n Content-Length: 5\r\n", `hello${hidden}`),
  "a folded length": post("Content-Length:\r\n 5\r\n", `hello${hidden}`),
  "a length with a space before its colon": post("Content-Length : 5\r\n", `hello${hidden}`),
  "a length with an underscore": post("Content_Length: 5\r\n", `hello${hidden}`),
  "a length after a bare line feed": post("X: y\nContent-Length: 5\r\n", `hello${hidden}`),
  "a length after a bare carriage return": post("X: y\rContent-Length: 5\r\n", `hello${hidden}`),
  "a length after NUL": post("X: y\0Content-Length: 5\r\n", `hello${hidden}`),
});

const codings = refused(400, {
  "TE gzip": post("Transfer-Encoding: gzip\r\n", lastChunkThenHidden),
  "TE gzip, chunked": post("Transfer-Encoding: gzip, chunked\r\n", lastChunkThenHidden),
  "TE chunked, gzip": post("Transfer-Encoding: chunked, gzip\r\n", lastChunkThenHidden),
  "TE chunked, identity": post("Transfer-Encoding: chunked, identity\r\n", lastChunkThenHidden),
  "TE identity": post("Transfer-Encoding: identity\r\n", lastChunkThenHidden),
  "TE identity, chunked": post("Transfer-Encoding: identity, chunked\r\n", lastChunkThenHidden),
  "TE chunked, chunked": post("Transfer-Encoding: chunked, chunked\r\n", lastChunkThenHidden),
  "TE chunked twice": post(chunked + chunked, lastChunkThenHidden),
  "TE chunked, then identity": post(`${chunked}Transfer-Encoding: identity\r\n`, lastChunkThenHidden),
  "TE identity, then chunked": post(`Transfer-Encoding: identity\r\n${chunked}`, lastChunkThenHidden),
  "TE with an empty entry": post("Transfer-Encoding: , chunked\r\n", lastChunkThenHidden),
  "TE with an empty last entry": post("Transfer-Encoding: chunked,\r\n", lastChunkThenHidden),
  "TE xchunked": post("Transfer-Encoding: xchunked\r\n", lastChunkThenHidden),
  "TE chunkedx": post("Transfer-Encoding: chunkedx\r\n", lastChunkThenHidden),
  "TE chunk": post("Transfer-Encoding: chunk\r\n", lastChunkThenHidden),
  "TE in quotes": post('Transfer-Encoding: "chunked"\r\n', lastChunkThenHidden),
  "TE in single quotes": post("Transfer-Encoding: 'chunked'\r\n", lastChunkThenHidden),
  "TE with a parameter": post("Transfer-Encoding: chunked;q=1\r\n", lastChunkThenHidden),
  "TE with a long s": post("Transfer-Encoding: chun\u00e7ed\r\n", lastChunkThenHidden),
  "an empty TE": post("Transfer-Encoding: \r\n", lastChunkThenHidden),
  "TE after a vertical tab": post("Transfer-Encoding: \x0bchunked\r\n", lastChunkThenHidden),
  "TE after a form feed": post("Transfer-Encoding: \x0cchunked\r\n", lastChunkThenHidden),
  "TE after a non-breaking space": post("Transfer-Encoding: \xa0chunked\r\n", lastChunkThenHidden),
  "TE after NUL": post("Transfer-Encoding: \0chunked\r\n", lastChunkThenHidden),
  "TE before NUL": post("Transfer-Encoding: chunked\0\r\n", lastChunkThenHidden),
  "TE before a carriage return": post("Transfer-Encoding: chunked\r\r\n", lastChunkThenHidden),
  "TE with a trailing tab": post("Transfer-Encoding: chunked\t\r\n", lastChunkThenHidden),
  "TE with a space before its colon": post("Transfer-Encoding : chunked\r\n", lastChunkThenHidden),
  "TE with a tab before its colon": post("Transfer-Encoding\t: chunked\r\n", lastChunkThenHidden),
  "TE after a space": post(" Transfer-Encoding: chunked\r\n", lastChunkThenHidden),
  "TE as the folded first line":
    head("POST / HTTP/1.1", " Transfer-Encoding: chunked", "Host: app.localhost") + lastChunkThenHidden,
  "folded TE": post("Transfer-Encoding:\r\n chunked\r\n", lastChunkThenHidden),
  "TE folded with a tab": post("Transfer-Encoding:\r\n\tchunked\r\n", lastChunkThenHidden),
  "TE after an obs-fold": post("X: y\r\n Transfer-Encoding: chunked\r\n", lastChunkThenHidden),
  "TE after a bare line feed": post("X: y\nTransfer-Encoding: chunked\r\n", lastChunkThenHidden),
  "TE after a bare carriage return": post("X: y\rTransfer-Encoding: chunked\r\n", lastChunkThenHidden),
  "TE with an underscore": post("Transfer_Encoding: chunked\r\nContent-Length: 0\r\n", hidden),
  "TE with a control character in its name": post("Transfer\x01-Encoding: chunked\r\nContent-Length: 0\r\n", hidden),
  "TE with a byte outside ASCII in its name": post("Transfer-\xcbncoding: chunked\r\nContent-Length: 0\r\n", hidden),
  "TE with a second colon": post("Transfer-Encoding:: chunked\r\n", lastChunkThenHidden),
  "TE in HTTP/1.0": `POST / HTTP/1.0\r\nHost: app.localhost\r\n${cookie}${chunked}\r\n${lastChunkThenHidden}`,
  "TE in HTTP/1.0 with keep-alive": `POST / HTTP/1.0\r\nHost: app.localhost\r\n${cookie}Connection: keep-alive\r\n${chunked}\r\n${lastChunkThenHidden}`,
});

const chunks = refused(400, {
  "a chunk size with 0x": post(chunked, `0x5\r\nhello\r\n${lastChunkThenHidden}`),
  "a chunk size with a sign": post(chunked, `+5\r\nhello\r\n${lastChunkThenHidden}`),
  "a negative chunk size": post(chunked, `-1\r\nhello\r\n${lastChunkThenHidden}`),
  "a chunk size with a space after it": post(chunked, `5 \r\nhello\r\n${lastChunkThenHidden}`),
  "a chunk size after a space": post(chunked, ` 5\r\nhello\r\n${lastChunkThenHidden}`),
  "a chunk size with an underscore": post(chunked, `0_5\r\nhello\r\n${lastChunkThenHidden}`),
  "an empty chunk size": post(chunked, `\r\nhello\r\n${lastChunkThenHidden}`),
  "a chunk size that is not a number": post(chunked, `G\r\nhello\r\n${lastChunkThenHidden}`),
  "a chunk size of 65 bits": post(chunked, `10000000000000005\r\nhello\r\n${lastChunkThenHidden}`),
  "a chunk size of 68 bits": post(chunked, `FFFFFFFFFFFFFFFFF\r\nx\r\n${lastChunkThenHidden}`),
  "a chunk size that ends in a bare line feed": post(chunked, `5\nhello\r\n${lastChunkThenHidden}`),
  "a chunk size that ends in a bare carriage return": post(chunked, `5\rhello\r\n${lastChunkThenHidden}`),
  "a chunk extension that ends in a bare line feed": post(chunked, `5;a\nhello\r\n${lastChunkThenHidden}`),
  "a chunk extension with a bare line feed in quotes": post(chunked, `5;a="\nx"\r\nhello\r\n${lastChunkThenHidden}`),
  "a chunk extension with a carriage return": post(chunked, `5;a\rb\r\nhello\r\n${lastChunkThenHidden}`),
  "a chunk extension with NUL": post(chunked, `5;a\0\r\nhello\r\n${lastChunkThenHidden}`),
  "a chunk extension with an unclosed quote": post(chunked, `5;a="x\r\nhello\r\n${lastChunkThenHidden}`),
  "endless chunk extensions": post(chunked, `5;${"a".repeat(20_000)}\r\nhello\r\n${lastChunkThenHidden}`),
  "a chunk that is longer than its size": post(chunked, `5\r\nhelloXX${lastChunkThenHidden}`),
  "a chunk that ends in a bare line feed": post(chunked, `5\r\nhello\n${lastChunkThenHidden}`),
  "a chunk that ends in a bare carriage return": post(chunked, `5\r\nhello\r${lastChunkThenHidden}`),
  "a chunk whose end is shifted by one": post(chunked, `5\r\nhell\r\n${lastChunkThenHidden}`),
  "a last chunk that ends in bare line feeds": post(chunked, `0\n\n${hidden}`),
  "a trailer without a name": post(chunked, `0\r\n: x\r\n\r\n${hidden}`),
  "a folded trailer": post(chunked, `0\r\nX: y\r\n z\r\n\r\n${hidden}`),
  "a trailer after a bare line feed": post(chunked, `0\r\nX: y\nZ: w\r\n\r\n${hidden}`),
  "a trailer that is a request": post(chunked, `0\r\n${hidden}`),
  "a trailer that is a transfer coding": post(chunked, `0\r\n${chunked}\r\n${hidden}`),
  "a trailer that is a length": post(chunked, `0\r\nContent-Length: 5\r\n\r\nhello${hidden}`),
});

const excessiveTrailers = refused(431, {
  "trailers beyond 128 KiB": post(chunked, `0\r\n${`X: ${"y".repeat(1_000)}\r\n`.repeat(140)}\r\n${hidden}`),
  "more than 1,000 trailers": post(chunked, `0\r\n${"X: y\r\n".repeat(1_100)}\r\n${hidden}`),
});

const lineEnds = refused(400, {
  "bare line feeds only": `GET / HTTP/1.1\nHost: app.localhost\n\n${hidden}`,
  "a bare line feed after the first line": `GET / HTTP/1.1\nHost: app.localhost\r\n\r\n${hidden}`,
  "a bare line feed at the end of the head": `GET / HTTP/1.1\r\nHost: app.localhost\r\n\n${hidden}`,
  "a bare line feed before the end of the head": `GET / HTTP/1.1\r\nHost: app.localhost\n\r\n${hidden}`,
  "a bare carriage return after the first line": `GET / HTTP/1.1\rHost: app.localhost\r\n\r\n${hidden}`,
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
    "RTSP, which the parser reads as HTTP/1.0": get("/", "Connection: keep-alive\r\n", "RTSP/1.0") + hidden,
    "RTSP of another version": get("/", "", "RTSP/1.1") + hidden,
    "ICE with its own method": get("/", "", "ICE/1.0").replace("GET", "SOURCE") + hidden,
    "ICE as HTTP": get("/").replace("GET", "SOURCE") + hidden,
    "spaces after the method": get("/").replace("GET ", "GET  ") + hidden,
    "spaces before the version": get("/", "", " HTTP/1.1") + hidden,
    "spaces in a first line after an empty line": `\r\n${get("/", "", "   HTTP/1.1")}${hidden}`,
    "no version": get("/", "", ""),
    "something after the version": get("/", "", "HTTP/1.1 x"),
    "a method in lower case": get("/").replace("GET", "get"),
    "an unknown method": get("/").replace("GET", "GETS"),
    "a tab after the method": get("/").replace("GET ", "GET\t"),
    "a space before the method": ` ${get("/")}`,
    "a TLS hello inside a connection that already has its transport": `\x16\x03\x01\x02\x00\x01${"\x00".repeat(40)}`,
  }),
  ...refused(405, {
    TRACE: get("/").replace("GET", "TRACE"),
    CONNECT: head("CONNECT app.localhost:80 HTTP/1.1", "Host: app.localhost:80"),
  }),
];

/** Odd but unambiguous requests are forwarded, and the next request is parsed from the right position. */
const unambiguous = forwarded({
  "a body with a length": [post("Content-Length: 5\r\n", "hello") + second, postHello, getTwo],
  "a body in chunks": [post(chunked, hello) + second, postHello, getTwo],
  "chunked in capitals": [post("Transfer-Encoding: CHUNKED\r\n", hello) + second, postHello, getTwo],
  "trailing whitespace after chunked, which is not part of the value": [
    post("Transfer-Encoding: chunked \r\n", hello) + second,
    postHello,
    getTwo,
  ],
  "chunk sizes with leading zeros": [post(chunked, `0005\r\nhello\r\n000\r\n\r\n${second}`), postHello, getTwo],
  "chunk extensions": [post(chunked, `5;a=b;c="d"\r\nhello\r\n0;e\r\n\r\n${second}`), postHello, getTwo],
  "a body that looks like a request": [
    post(`Content-Length: ${publicRequest.length}\r\n`, publicRequest) + second,
    { ...postHello, body: publicRequest },
    getTwo,
  ],
  "a chunk that looks like a request": [
    post(chunked, `${publicRequest.length.toString(16)}\r\n${publicRequest}\r\n0\r\n\r\n${second}`),
    { ...postHello, body: publicRequest },
    getTwo,
  ],
  "GET with a body": [`${get("/", "Content-Length: 5\r\n")}hello${second}`, { ...postHello, method: "GET" }, getTwo],
  "DELETE with a body": [
    post("Content-Length: 5\r\n", "hello").replace("POST", "DELETE") + second,
    { ...postHello, method: "DELETE" },
    getTwo,
  ],
  "a length of zero followed by a request": [
    post("Content-Length: 0\r\n") + second,
    { ...postHello, body: "" },
    getTwo,
  ],
  "a length nominated by Connection": [
    post("Connection: Content-Length\r\nContent-Length: 5\r\n", "hello") + second,
    postHello,
    getTwo,
  ],
  "Expect: 100-continue with the body sent at once": [
    post("Expect: 100-continue\r\nContent-Length: 5\r\n", "hello") + second,
    postHello,
    getTwo,
  ],
  "an upgrade to an unknown protocol": [
    get("/", "Connection: Upgrade\r\nUpgrade: foo\r\n") + second,
    { method: "GET", target: "/" },
    getTwo,
  ],
  "an upgrade to h2c": [
    get("/", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n") +
      second,
    { method: "GET", target: "/" },
    getTwo,
  ],
  "an upgrade to an unknown protocol, with a body": [
    post("Connection: Upgrade\r\nUpgrade: foo\r\nContent-Length: 5\r\n", "hello") + second,
    postHello,
    getTwo,
  ],
  "an upgrade to an unknown protocol, with a chunked body": [
    post(`Connection: Upgrade\r\nUpgrade: foo\r\n${chunked}`, hello) + second,
    postHello,
    getTwo,
  ],
  "trailers that claim an identity": [
    post(
      `Trailer: X-Pomerium-Claim-Email\r\n${chunked}`,
      `5\r\nhello\r\n0\r\nX-Pomerium-Claim-Email: evil@example.com\r\n\r\n${second}`,
    ),
    postHello,
    getTwo,
  ],
  "trailers with a credential": [
    post(chunked, `5\r\nhello\r\n0\r\n${cookie}Authorization: Pomerium SESSION-HANDLE-1-OF-THE-USER\r\n\r\n${second}`),
    postHello,
    getTwo,
  ],
  "trailers with another host": [
    post(chunked, `5\r\nhello\r\n0\r\nHost: eng.localhost\r\n\r\n${second}`),
    postHello,
    getTwo,
  ],
  "empty lines before a request": [`\r\n\r\n${get("/")}${second}`, { method: "GET", target: "/" }, getTwo],
  "HTTP/1.0 with keep-alive": [
    get("/", "Connection: keep-alive\r\n", "HTTP/1.0") + second,
    { method: "GET", target: "/" },
    getTwo,
  ],
  "a TE header, which is not a transfer coding": [
    get("/", "TE: chunked, trailers\r\n") + second,
    { method: "GET", target: "/" },
    getTwo,
  ],
});

const withoutSession = answered({
  "a body with a request in it, refused because it has no session": [
    `POST / HTTP/1.1\r\nHost: app.localhost\r\nAccept: application/json\r\nContent-Length: ${publicRequest.length}\r\n\r\n${publicRequest}`,
    401,
  ],
  "a chunked body with a request in it, to an unknown host": [
    `POST / HTTP/1.1\r\nHost: unknown.localhost\r\n${chunked}\r\n${publicRequest.length.toString(16)}\r\n${publicRequest}\r\n0\r\n\r\n`,
    404,
  ],
});

export const framing: readonly Attack[] = [
  ...lengthAndCoding,
  ...lengths,
  ...codings,
  ...chunks,
  ...excessiveTrailers,
  ...lineEnds,
  ...firstLines,
  ...unambiguous,
  ...withoutSession,
];
