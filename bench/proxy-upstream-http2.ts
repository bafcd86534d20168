/**
 * Bench: authorised requests through one proxy process on one core to an upstream with TLS, over HTTP/2 and over
 * HTTP/1.1, beside nginx `proxy_pass https` without any authentication, in the same run. That nginx speaks HTTP/1.1 to
 * its upstreams.
 *
 *   node bench/proxy-upstream-http2.ts [--seconds 5] [--rounds 3]
 *
 * Eight people's browsers send the requests (support/browsers.ts) on 64 plain HTTP/1.1 connections, loaded by wrk. The
 * upstream is an nginx that offers both protocols. Connections are kept, so handshakes do not count.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { selfSigned } from "../test/support/certificate.ts";
import { freePorts } from "../test/support/free-port.ts";
import { peopleCount, writeBrowserScript } from "./support/browsers.ts";
import { reportBudgets } from "./support/budget.ts";
import { startCardea } from "./support/cardea.ts";
import { beside, byWrk, inRounds, type Subject } from "./support/load.ts";
import { helloServer, writeNginxConf } from "./support/nginx-conf.ts";
import { coreOfLoad, coreOfProxy, withStand } from "./support/stand.ts";

const { values } = parseArgs({
  options: { seconds: { type: "string", default: "5" }, rounds: { type: "string", default: "3" } },
});
const connections = 64;

await withStand(async (stand) => {
  const { folder } = stand;
  const [upstream = 0, nginx = 0] = await freePorts(2);
  const certificate = { certFile: join(folder, "cert.pem"), keyFile: join(folder, "key.pem") };
  const { cert, key } = selfSigned("DNS:upstream.localhost");
  writeFileSync(certificate.certFile, cert);
  writeFileSync(certificate.keyFile, key, { mode: 0o600 });

  const secure = helloServer(upstream).replace(
    `127.0.0.1:${upstream};`,
    `127.0.0.1:${upstream} ssl; http2 on; ssl_certificate ${certificate.certFile}; ssl_certificate_key ${certificate.keyFile};`,
  );
  await stand.start(coreOfLoad, "nginx", ["-c", writeNginxConf(folder, "upstream", secure)], upstream);
  const passing = `upstream app { server 127.0.0.1:${upstream}; keepalive 64; }
server { listen 127.0.0.1:${nginx}; location / { proxy_pass https://app; proxy_ssl_name upstream.localhost;
  proxy_ssl_server_name on; proxy_ssl_verify on; proxy_ssl_trusted_certificate ${certificate.certFile};
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; } }`;
  const conf = writeNginxConf(folder, "proxy", passing);
  const nginxProcess = await stand.start(coreOfProxy, "nginx", ["-c", conf], nginx);

  const subjects: Subject[] = [];
  for (const codec of ["http1", "auto"]) {
    const cardea = await startCardea(stand, {
      name: codec,
      upstreamPort: upstream,
      people: peopleCount,
      routes: ({ from, policy }) =>
        [
          `  - from: ${from}`,
          `    to: https://upstream.localhost:${upstream}`,
          `    tls_custom_ca_file: ${certificate.certFile}`,
          `    upstream_codec_type: ${codec}`,
          `    policy: ${policy}`,
        ].join("\n"),
    });
    subjects.push({
      name: `cardea, ${codec === "auto" ? "HTTP/2" : "HTTP/1.1"} to the upstream`,
      url: `http://127.0.0.1:${cardea.port}/`,
      headers: [],
      pinned: cardea.pinned,
      script: writeBrowserScript(folder, codec, cardea),
    });
  }
  const [http1, http2, neighbour] = await inRounds(
    [
      ...subjects,
      {
        name: "nginx, HTTP/1.1 to the upstream",
        url: `http://127.0.0.1:${nginx}/`,
        headers: [],
        pinned: nginxProcess,
        script: subjects[0]?.script ?? "",
      },
    ],
    { seconds: Number(values.seconds), rounds: Number(values.rounds) },
    byWrk(connections),
  );
  if (http1 === undefined || http2 === undefined || neighbour === undefined) throw new Error("a subject has no figure");
  reportBudgets([
    beside("HTTP/2 over TLS to the upstream, beside HTTP/1.1 over TLS", {
      figure: http2,
      neighbour: http1,
      ratioMin: null,
    }),
    beside("HTTP/1.1 over TLS to the upstream, beside nginx without auth", {
      figure: http1,
      neighbour,
      ratioMin: null,
    }),
    beside("HTTP/2 over TLS to the upstream, beside nginx with HTTP/1.1", { figure: http2, neighbour, ratioMin: null }),
  ]);
});
