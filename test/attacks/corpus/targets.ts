/** Spellings of a path or a host that the upstream could read as another one. */
import { type Attack, answered, cookie, forwarded, get, head, onlyOver, refused } from "./attack.ts";

const paths = refused(400, {
  "dot segments": get("/a/../admin"),
  "dot segments at the end": get("/a/.."),
  "one dot": get("/./admin"),
  "encoded dot segments": get("/a/%2e%2e/admin"),
  "dot segments half encoded": get("/a/.%2E/admin"),
  "dot segments with parameters": get("/a/..;/admin"),
  "dot segments with parameters that have a value": get("/a/..;x=y/admin"),
  "an encoded dot with parameters": get("/a/%2e;/admin"),
  "a segment of parameters only": get("/;/admin"),
  "a segment of named parameters only": get("/;x=y/admin"),
  "an encoded segment of parameters only": get("/%3B/admin"),
  "an encoded slash": get("/a%2fb"),
  "an encoded slash in capitals": get("/%2Fadmin"),
  "an encoded slash around dots": get("/a%2f..%2fadmin"),
  "an encoded backslash": get("/a%5cadmin"),
  "a backslash": get("/a\\..\\admin"),
  "an encoded NUL": get("/admin%00"),
  "an encoded NUL before a suffix": get("/admin%00.css"),
  NUL: get("/admin\0"),
  "an encoded line break": get("/a%0d%0aX-Pomerium-Claim-Email:%20evil"),
  "an encoded line feed": get("/admin%0a"),
  "an encoded tab": get("/admin%09"),
  "an encoded DEL": get("/admin%7f"),
  "a tab": get("/a\tb"),
  "a broken percent-encoding": get("/a%zz"),
  "a truncated percent-encoding": get("/a%2"),
  "a percent sign alone": get("/a%"),
  "the %u escape of IIS": get("/%u0061dmin"),
  "an overlong slash in two bytes": get("/a%c0%afadmin"),
  "an overlong dot": get("/%c0%ae%c0%ae/admin"),
  "an overlong slash in three bytes": get("/a%e0%80%afadmin"),
  "an overlong NUL": get("/admin%c0%80"),
  "half a surrogate": get("/a%ed%a0%80"),
  "truncated UTF-8": get("/a%e2%82"),
  "a byte that is not UTF-8": get("/a%ff"),
  "a byte outside ASCII": get("/\xe9"),
  "a fragment": get("/a#/admin"),
  "a fragment in the query": get("/a?x#/admin"),
  "a target without a slash": get("admin"),
  "a target that is only a query": get("?/admin"),
  "a target with a space": get("/a /admin"),
  "an empty target": get(""),
});

const forms = refused(400, {
  "absolute-form of another scheme": get("ftp://app.localhost/"),
  "absolute-form of a WebSocket": get("ws://app.localhost/"),
  "absolute-form of the loopback address": get("http://127.0.0.1/"),
  "absolute-form with one slash": get("http:/app.localhost/"),
  "absolute-form without slashes": get("http:app.localhost/"),
  "absolute-form of no host": get("http:///app.localhost/"),
  "absolute-form without a scheme": get("://app.localhost/"),
  "CONNECT in absolute-form": head("CONNECT http://app.localhost:443/ HTTP/1.1", "Host: app.localhost:443"),
  "CONNECT in absolute-form of https": head("CONNECT https://app.localhost:443 HTTP/1.1", "Host: app.localhost:443"),
  "authority-form": get("app.localhost:80"),
  "authority-form of TLS": get("app.localhost:443"),
  "asterisk-form": get("*"),
  "asterisk-form of OPTIONS": get("*").replace("GET", "OPTIONS"),
  "asterisk-form of OPTIONS with a query": get("*?x").replace("GET", "OPTIONS"),
});

/** Targets in absolute-form that are malformed or contradict Host or the connection. `scheme` is the connection's. */
const contradicting = (scheme: "http" | "https"): Attack[] =>
  refused(400, {
    "absolute-form after a second space": get(` ${scheme}://app.localhost/a`),
    "absolute-form of another host": get(`${scheme}://eng.localhost/`),
    "absolute-form of another host, in capitals": get(`${scheme.toUpperCase()}://eng.localhost/`),
    "absolute-form of the other scheme": get(`${scheme === "http" ? "https" : "http"}://app.localhost/`),
    "absolute-form of the other scheme's port": get(
      `${scheme.toUpperCase()}://APP.localhost:${scheme === "http" ? 443 : 80}/`,
    ),
    "absolute-form of another port": get(`${scheme}://app.localhost:8080/`),
    "absolute-form without the Host's port": get(`${scheme}://app.localhost/`, "", "HTTP/1.1", "app.localhost:8080"),
    "absolute-form with an empty port": get(`${scheme}://app.localhost:/`),
    "absolute-form with an invalid port": get(`${scheme}://app.localhost:99999/`),
    "absolute-form with userinfo": get(`${scheme}://a@app.localhost/`),
    "absolute-form with a password": get(`${scheme}://a:b@app.localhost/`),
    "absolute-form with a host as userinfo": get(`${scheme}://app.localhost@eng.localhost/`),
    "absolute-form with a host and port as userinfo": get(`${scheme}://app.localhost:80@eng.localhost/`),
    "absolute-form with a backslash": get(`${scheme}://app.localhost\\@eng.localhost/`),
    "absolute-form with backslashes": get(`${scheme}:\\\\app.localhost/`),
    "absolute-form with a fragment as its path": get(`${scheme}://app.localhost#/admin`),
    "absolute-form with a trailing dot": get(`${scheme}://app.localhost./`),
    "absolute-form with an encoded host": get(`${scheme}://%61pp.localhost/`),
    "absolute-form with dot segments": get(`${scheme}://app.localhost/a/../admin`),
    "absolute-form with encoded dot segments": get(`${scheme}://app.localhost/a/%2e%2e/admin`),
    "absolute-form with dot segments that climb above its host": get(`${scheme}://app.localhost/../eng.localhost/`),
    "absolute-form with an encoded slash": get(`${scheme}://app.localhost/a%2fadmin`),
    "absolute-form with a fragment": get(`${scheme}://app.localhost/a#/admin`),
    "absolute-form of HTTP/1.0": get(`${scheme}://app.localhost/`, "", "HTTP/1.0"),
    "absolute-form without Host": `GET ${scheme}://app.localhost/ HTTP/1.1\r\n${cookie}\r\n`,
    "absolute-form with an empty Host": get(`${scheme}://app.localhost/`, "", "HTTP/1.1", ""),
    "absolute-form with two Hosts": get(`${scheme}://app.localhost/`, "Host: eng.localhost\r\n"),
    "absolute-form with its host in a second line": get(`${scheme}://eng.localhost/`, "Host: eng.localhost\r\n"),
    "asterisk-form of OPTIONS in absolute-form": get(`${scheme}://app.localhost`).replace("GET", "OPTIONS"),
  });

/** RFC 9112 §3.2.2: a server accepts absolute-form. Only the authorised path and query are forwarded. */
const absolute = (scheme: "http" | "https", port: number): Attack[] => [
  ...contradicting(scheme),
  ...forwarded({
    "absolute-form of the same host": [
      get(`${scheme}://app.localhost/a?b=1`),
      { method: "GET", target: "/a?b=1", host: "app.localhost" },
    ],
    "absolute-form in capitals": [
      get(`${scheme.toUpperCase()}://APP.localhost:${port}/a`),
      { method: "GET", target: "/a", host: "app.localhost" },
    ],
    "absolute-form with its port in Host": [
      get(`${scheme}://app.localhost/a`, "", "HTTP/1.1", `app.localhost:${port}`),
      { method: "GET", target: "/a" },
    ],
    "absolute-form with the same other port in both": [
      get(`${scheme}://app.localhost:8080/a`, "", "HTTP/1.1", "app.localhost:8080"),
      { method: "GET", target: "/a" },
    ],
    "absolute-form without a path": [get(`${scheme}://app.localhost`), { method: "GET", target: "/" }],
    "absolute-form with a query and no path": [
      get(`${scheme}://app.localhost?b=/c`),
      { method: "GET", target: "/?b=/c" },
    ],
    "absolute-form of a path that is normalised": [
      get(`${scheme}://app.localhost//%61|b`),
      { method: "GET", target: "/a%7Cb" },
    ],
    "absolute-form in absolute-form is a path": [
      get(`${scheme}://app.localhost/${scheme}://eng.localhost/`),
      { method: "GET", target: `/${scheme}:/eng.localhost/` },
    ],
    "absolute-form with a host in its query": [
      get(`${scheme}://app.localhost/?@eng.localhost/admin`),
      { method: "GET", target: "/?@eng.localhost/admin" },
    ],
    "absolute-form of OPTIONS": [
      get(`${scheme}://app.localhost/a`).replace("GET", "OPTIONS"),
      { method: "OPTIONS", target: "/a" },
    ],
  }),
  ...answered({
    "absolute-form of a forbidden path": [get(`${scheme}://app.localhost/admin`), 403],
    "absolute-form of a forbidden path in another spelling": [get(`${scheme}://app.localhost//%61dmin/x`), 403],
    "absolute-form of a forbidden host": [get(`${scheme}://eng.localhost/`, "", "HTTP/1.1", "eng.localhost"), 403],
    "absolute-form of an unknown host": [get(`${scheme}://169.254.169.254/`, "", "HTTP/1.1", "169.254.169.254"), 404],
    "absolute-form of a reserved path reaches that path": [get(`${scheme}://app.localhost/.pomerium/nothing`), 200],
  }),
];

const hosts = refused(400, {
  "no Host": `GET / HTTP/1.1\r\n${cookie}\r\n`,
  "no Host in HTTP/1.0": `GET / HTTP/1.0\r\n${cookie}\r\n`,
  "an empty Host": get("/", "", "HTTP/1.1", ""),
  "two Hosts": get("/", "Host: eng.localhost\r\n"),
  "two equal Hosts": get("/", "Host: app.localhost\r\n"),
  "two Hosts in two cases": get("/", "hOST: eng.localhost\r\n"),
  "a list of Hosts": get("/", "", "HTTP/1.1", "app.localhost, eng.localhost"),
  "two Hosts with a space": get("/", "", "HTTP/1.1", "app.localhost eng.localhost"),
  userinfo: get("/", "", "HTTP/1.1", "eng.localhost@app.localhost"),
  "userinfo with a password": get("/", "", "HTTP/1.1", "a:b@app.localhost"),
  "a path in Host": get("/", "", "HTTP/1.1", "app.localhost/admin"),
  "a query in Host": get("/", "", "HTTP/1.1", "app.localhost?x"),
  "a fragment in Host": get("/", "", "HTTP/1.1", "app.localhost#eng.localhost"),
  "a backslash in Host": get("/", "", "HTTP/1.1", "eng.localhost\\.app.localhost"),
  "a scheme in Host": get("/", "", "HTTP/1.1", "http://app.localhost"),
  "an invalid port": get("/", "", "HTTP/1.1", "app.localhost:99999"),
  "port zero": get("/", "", "HTTP/1.1", "app.localhost:0"),
  "an empty port": get("/", "", "HTTP/1.1", "app.localhost:"),
  "two ports": get("/", "", "HTTP/1.1", "app.localhost:80:81"),
  "a port that is a name": get("/", "", "HTTP/1.1", "app.localhost:@eng.localhost"),
  "a trailing dot": get("/", "", "HTTP/1.1", "app.localhost."),
  "a leading dot": get("/", "", "HTTP/1.1", ".app.localhost"),
  "two dots": get("/", "", "HTTP/1.1", "app..localhost"),
  "a percent-encoded Host": get("/", "", "HTTP/1.1", "%65ng.localhost"),
  "a Host outside ASCII": get("/", "", "HTTP/1.1", "\xe9ng.localhost"),
  "a Host with a tab": get("/", "", "HTTP/1.1", "app.localhost\teng.localhost"),
  "a folded Host": head("GET / HTTP/1.1", "Host: app.localhost", " eng.localhost"),
  "a Host with a space before its colon": head("GET / HTTP/1.1", "Host : app.localhost"),
  "a Host with NUL": get("/", "", "HTTP/1.1", "app.localhost\0.eng.localhost"),
  "a Host beyond 253 characters": get("/", "", "HTTP/1.1", `${"a.".repeat(130)}localhost`),
  "a zone in an IPv6 address": get("/", "", "HTTP/1.1", "[::1%25lo]"),
  "CONNECT with a contradicting Host": head("CONNECT a:1 HTTP/1.1", "Host: b:1"),
  "CONNECT with a path": head("CONNECT /admin HTTP/1.1", "Host: app.localhost"),
  "CONNECT without a port": head("CONNECT app.localhost HTTP/1.1", "Host: app.localhost"),
  "CONNECT with userinfo": head("CONNECT a@b:1 HTTP/1.1", "Host: a@b:1"),
});

const tooLarge = [
  ...refused(414, { "a target beyond 32 KiB": get(`/${"a".repeat(33_000)}`) }),
  ...refused(431, {
    "a header beyond 128 KiB": get("/", `X: ${"a".repeat(140_000)}\r\n`),
    "many headers beyond 128 KiB": get("/", `X: ${"a".repeat(1_000)}\r\n`.repeat(140)),
    "a name beyond 128 KiB": get("/", `${"X".repeat(140_000)}: a\r\n`),
    "more than 1,000 lines": get("/", "X: a\r\n".repeat(1_001)),
    "a target beyond 128 KiB": get(`/${"a".repeat(140_000)}`),
  }),
];

const connects = refused(405, {
  "CONNECT to the loopback address": head("CONNECT 127.0.0.1:22 HTTP/1.1", "Host: 127.0.0.1:22"),
  "CONNECT to the metadata address of clouds": head("CONNECT 169.254.169.254:80 HTTP/1.1", "Host: 169.254.169.254:80"),
  "CONNECT to IPv6": head("CONNECT [::1]:22 HTTP/1.1", "Host: [::1]:22"),
  "CONNECT to a host that the proxy serves": head("CONNECT app.localhost:443 HTTP/1.1", "Host: app.localhost:443"),
});

const normalised = forwarded({
  "runs of slashes become one": [get("//a///b"), { method: "GET", target: "/a/b" }],
  "a host after two slashes is a path": [get("//eng.localhost/x"), { method: "GET", target: "/eng.localhost/x" }],
  "plain characters are decoded": [get("/%61%2Db"), { method: "GET", target: "/a-b" }],
  "hexadecimal digits become upper case": [get("/%c3%a9"), { method: "GET", target: "/%C3%A9" }],
  "double encoding is kept": [get("/%252e%252e%252fadmin"), { method: "GET", target: "/%252e%252e%252fadmin" }],
  "characters that browsers send raw are encoded": [get('/a|b["c"]'), { method: "GET", target: "/a%7Cb%5B%22c%22%5D" }],
  "a fullwidth slash is an ordinary character": [get("/%ef%bc%8fadmin"), { method: "GET", target: "/%EF%BC%8Fadmin" }],
  "three dots are an ordinary segment": [get("/.../a"), { method: "GET", target: "/.../a" }],
  "a query is kept byte for byte": [
    get("/a?b=%2e%2e%2f&c=%zz&d=//..;x"),
    { method: "GET", target: "/a?b=%2e%2e%2f&c=%zz&d=//..;x" },
  ],
  "path parameters are kept": [get("/a;jsessionid=1"), { method: "GET", target: "/a;jsessionid=1" }],
  "a host in capitals": [
    get("/", "", "HTTP/1.1", "APP.LocalHost"),
    { method: "GET", target: "/", host: "app.localhost" },
  ],
  "a host with its port": [
    get("/", "", "HTTP/1.1", "app.localhost:80"),
    { method: "GET", target: "/", host: "app.localhost" },
  ],
  "a port with zeros": [
    get("/", "", "HTTP/1.1", "app.localhost:0080"),
    { method: "GET", target: "/", host: "app.localhost" },
  ],
  "another port": [
    get("/", "", "HTTP/1.1", "app.localhost:8080"),
    { method: "GET", target: "/", host: "app.localhost:8080" },
  ],
});

/** Every spelling of a path matches the route that it names. `/admin` is permitted to no caller here. */
const forbidden = answered({
  "a forbidden path": [get("/admin"), 403],
  "a forbidden path behind two slashes": [get("//admin"), 403],
  "a forbidden path, encoded": [get("/%61dmin"), 403],
  "a forbidden path, encoded in part, with slashes": [get("///%61d%6Din/x"), 403],
  "a forbidden path with parameters": [get("/admin;x=y"), 403],
  "a forbidden path with a query": [get("/admin?x"), 403],
  "a forbidden host": [get("/", "", "HTTP/1.1", "eng.localhost"), 403],
  "a forbidden host, in capitals and with a port": [get("/", "", "HTTP/1.1", "ENG.localhost:80"), 403],
  "an unknown host": [get("/", "", "HTTP/1.1", "169.254.169.254"), 404],
  "the loopback address": [get("/", "", "HTTP/1.1", "127.0.0.1"), 404],
  "the loopback address in IPv6": [get("/", "", "HTTP/1.1", "[::1]"), 404],
});

export const targets: readonly Attack[] = [
  ...paths,
  ...forms,
  ...onlyOver("plain", absolute("http", 80)),
  ...onlyOver("tls", absolute("https", 443)),
  ...hosts,
  ...tooLarge,
  ...connects,
  ...normalised,
  ...forbidden,
];
