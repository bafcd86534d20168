/**
 * Bench: authorised requests over TLS through one proxy process on one core, HTTP/1.1 and HTTP/2, beside nginx `proxy_pass` with the same
 * certificate and without any authentication, in the same run. The upstream is plain HTTP/1.1.
 *
 *   node bench/proxy-tls.ts [--seconds 5]
 *
 * 64 requests are always under way: on 64 connections of HTTP/1.1, and on 8 connections of HTTP/2 with 8 streams each. Connections are kept, so
 * handshakes do not count. h2load loads all of them.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { selfSigned } from "../test/support/certificate.ts";
import { freePorts } from "../test/support/free-port.ts";
import { type Budget, tellBudgets } from "./support/budget.ts";
import { startCardea } from "./support/cardea.ts";
import { byH2load } from "./support/h2load.ts";
import { beside, inRounds } from "./support/load.ts";
import { helloServer, passingServer, writeNginxConf } from "./support/nginx-conf.ts";
import { coreOfLoad, coreOfProxy, withStand } from "./support/stand.ts";

const { values } = parseArgs({ options: { seconds: { type: "string", default: "5" } } });
const ways = [
  { way: "HTTP/1.1 over TLS", protocol: "http/1.1", connections: 64, streams: 1 },
  { way: "HTTP/2 over TLS", protocol: "h2", connections: 8, streams: 8 },
] as const;

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
  const cardea = await startCardea(stand, { upstreamPort: upstream, certificate });

  const subjects = ways.flatMap(({ way, ...how }) => [
    {
      name: `nginx, ${way}`,
      url: `https://app.localhost:${nginx}/`,
      headers: [],
      pinned: nginxProcess,
      port: nginx,
      ...how,
    },
    { name: `cardea, ${way}`, url: `${cardea.origin}/`, ...cardea, ...how },
  ]);
  const figures = await inRounds(subjects, { seconds: Number(values.seconds), rounds: 3 }, byH2load);
  tellBudgets(
    ways.flatMap(({ way }): Budget[] => {
      const [neighbour, seen] = ["nginx", "cardea"].map((name) =>
        figures.find((each) => each.name === `${name}, ${way}`),
      );
      if (neighbour === undefined || seen === undefined) throw new Error("a subject has no figure");
      return [beside(`authorised requests, ${way}, beside nginx without auth`, { seen, neighbour, ratioMin: null })];
    }),
  );
});
