/** Pebble: a real ACME authority for tests, with a DNS server that resolves every name to this machine. */
import { existsSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { join } from "node:path";
import { Child, TemporaryFolder } from "./child.ts";
import { freePorts } from "./free-port.ts";
import { Authority } from "./pki.ts";
import { waitFor } from "./wait-for.ts";

const needed = ["/usr/bin/pebble", "/usr/bin/pebble-challtestsrv"] as const;

/** @returns the path of pebble; undefined if any program that the test needs is missing */
export function findPebble(): string | undefined {
  return needed.every((path) => existsSync(path)) ? needed[0] : undefined;
}

export type Pebble = Readonly<{
  directory: URL;
  /** PEM of the authority that issued the certificate of Pebble's own server. */
  ca: string;
  /** PEM of the root of the certificates that Pebble issues. */
  issuer(): Promise<string>;
  stop(): Promise<void>;
}>;

/** @param ports the ports that Pebble connects to for its challenges */
export async function startPebble(
  ports: Readonly<{ http: number; tls: number }>,
  more: Readonly<{ eab?: Readonly<Record<string, string>>; validityS?: number }> = {},
): Promise<Pebble> {
  const folder = new TemporaryFolder("pebble");
  const [listen = 0, management = 0, dns = 0, dnsManagement = 0] = await freePorts(4);
  const root = await Authority.root("pebble");
  const own = await root.issue({ hosts: ["localhost"], addresses: ["127.0.0.1"] });
  const file = (name: string, text: string): string => {
    const path = join(folder.path, name);
    writeFileSync(path, text);
    return path;
  };
  const pebble = {
    listenAddress: `127.0.0.1:${listen}`,
    managementListenAddress: `127.0.0.1:${management}`,
    certificate: file("cert.pem", own.cert),
    privateKey: file("key.pem", own.key),
    ...{ httpPort: ports.http, tlsPort: ports.tls, ocspResponderURL: "" },
    externalAccountBindingRequired: more.eab !== undefined,
    ...(more.eab === undefined ? {} : { externalAccountMACKeys: more.eab }),
    retryAfter: { authz: 1, order: 1 },
    certificateValidityPeriod: more.validityS ?? 90 * 86_400,
  };
  const names = await Child.start({
    command: needed[1],
    args: ["-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dns01", `127.0.0.1:${dns}`]
      .concat(["-management", `127.0.0.1:${dnsManagement}`])
      .concat(["-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", ""]),
    logFile: join(folder.path, "names.log"),
  });
  const authority = await Child.start({
    command: needed[0],
    args: ["-config", file("pebble.json", JSON.stringify({ pebble })), "-dnsserver", `127.0.0.1:${dns}`],
    logFile: join(folder.path, "pebble.log"),
    env: { PEBBLE_VA_NOSLEEP: "1", PEBBLE_WFE_NONCEREJECT: "10", PEBBLE_AUTHZREUSE: "0" },
  });
  const directory = new URL(`https://127.0.0.1:${listen}/dir`);
  const stop = async (): Promise<void> => {
    await authority.kill();
    await names.kill();
    folder.remove();
  };
  try {
    await waitFor("the authority to answer", () => fetchText(directory, root.pem), { withinMs: 30_000 });
  } catch (error) {
    const logs = authority.log() + names.log();
    await stop();
    throw new Error(`Pebble did not start:\n${logs}`, { cause: error });
  }
  return {
    directory,
    ca: root.pem,
    issuer: () => fetchText(new URL(`https://127.0.0.1:${management}/roots/0`), root.pem),
    stop,
  };
}

function fetchText(url: URL, ca: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const req = request(url, { ca, agent: false }, (res) => {
      let text = "";
      res.setEncoding("utf8");
      res.on("data", (part: string) => {
        text += part;
      });
      res.on("end", () => (res.statusCode === 200 ? resolve(text) : reject(new Error(`${res.statusCode}`))));
    });
    req.on("error", reject);
    req.end();
  });
}
