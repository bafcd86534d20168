/**
 * Bench: authorised requests over TLS through one proxy process on one core, HTTP/1.1 and HTTP/2, beside nginx
 * `proxy_pass` with the same certificate and without any authentication, in the same run. The upstream is plain
 * HTTP/1.1.
 *
 * node bench/proxy-tls.ts [--seconds 5]
 *
 * Eight people's browsers send the requests (support/browsers.ts). 64 requests are always in flight: on 64 HTTP/1.1
 * connections, loaded by wrk, and on 8 HTTP/2 connections with 8 streams each, loaded by h2load. Connections are kept,
 * so handshakes do not count.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { selfSigned } from "../test/support/certificate.ts";
import { freePorts } from "../test/support/free-port.ts";
import { peopleCount, writeBrowserScript } from "./support/browsers.ts";
import { reportBudgets } from "./support/budget.ts";
import { startCardea } from "./support/cardea.ts";
import { byH2load, writeH2People } from "./support/h2load.ts";
import { beside, byWrk, inRounds } from "./support/load.ts";
import { helloServer, passingServer, writeNginxConf } from "./support/nginx-conf.ts";
import { coreOfLoad, coreOfProxy, withStand } from "./support/stand.ts";

const { values } = parseArgs({ options: { seconds: { type: "string", default: "5" } } });
const connections = 64;
const streams = 8;

await withStand(async (stand) => {
  const { folder } = stand;
  const [upstream = 0, nginx = 0] = await freePorts(2);
  const certificate = { certFile: join(folder, "cert.pem"), keyFile: join(folder, "key.pem") };
  const { cert, key } = selfSigned("DNS:app.localhost,DNS:authenticate.localhost");
  writeFileSync(certificate.certFile, cert);
  writeFileSync(certificate.keyFile, key, { mode: 0o600 });

  await stand.start(coreOfLoad, "nginx", ["-c", writeNginxConf(folder, "upstream", helloServer(upstream))], upstream);
  const tls = {
    listen: "ssl",
    server: `http2 on; ssl_certificate ${certificate.certFile}; ssl_certificate_key ${certificate.keyFile};`,
  };
  const conf = writeNginxConf(folder, "proxy", passingServer(nginx, upstream, tls));
  const nginxProcess = await stand.start(coreOfProxy, "nginx", ["-c", conf], nginx);
  const cardea = await startCardea(stand, { upstreamPort: upstream, certificate, people: peopleCount });

  const how = { seconds: Number(values.seconds), rounds: 3 };
  const script = writeBrowserScript(folder, "browsers", cardea);
  const people = writeH2People(folder, "browsers", cardea);
  const [nginx1, cardea1] = await inRounds(
    [
      {
        name: "nginx, HTTP/1.1 over TLS",
        url: `https://127.0.0.1:${nginx}/`,
        headers: [],
        pinned: nginxProcess,
        script,
      },
      {
        name: "cardea, HTTP/1.1 over TLS",
        url: `https://127.0.0.1:${cardea.port}/`,
        headers: [],
        pinned: cardea.pinned,
        script,
      },
    ],
    how,
    byWrk(connections),
  );
  const [nginx2, cardea2] = await inRounds(
    [
      { name: "nginx, HTTP/2 over TLS", port: nginx, pinned: nginxProcess, streams, people },
      { name: "cardea, HTTP/2 over TLS", port: cardea.port, pinned: cardea.pinned, streams, people },
    ],
    how,
    byH2load,
  );
  if (nginx1 === undefined || cardea1 === undefined || nginx2 === undefined || cardea2 === undefined)
    throw new Error("a subject has no figure");
  reportBudgets([
    beside("authorised requests, HTTP/1.1 over TLS, beside nginx without auth", {
      figure: cardea1,
      neighbour: nginx1,
      ratioMin: null,
    }),
    beside("authorised requests, HTTP/2 over TLS, beside nginx without auth", {
      figure: cardea2,
      neighbour: nginx2,
      ratioMin: null,
    }),
  ]);
});
