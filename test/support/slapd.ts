/** slapd: a real LDAP server (OpenLDAP) for tests, unprivileged, on free loopback ports, with TLS. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Client } from "ldapts";
import { Child, TemporaryFolder } from "./child.ts";
import { freePorts } from "./free-port.ts";
import { Authority } from "./pki.ts";
import { waitFor } from "./wait-for.ts";

const schemas = "/etc/ldap/schema";

/** @returns the path of slapd; undefined: it is not installed, or its schemas are not */
export function findSlapd(): string | undefined {
  return ["/usr/sbin/slapd", "/usr/local/libexec/slapd"].find(
    (path) => existsSync(path) && existsSync(join(schemas, "inetorgperson.schema")),
  );
}

export const suffix = "dc=example,dc=com";
export const admin = { dn: `cn=admin,${suffix}`, password: "admin-secret" } as const;
/** May read everything but passwords. */
export const reader = { dn: `cn=reader,${suffix}`, password: "reader-secret" } as const;

export type Slapd = Readonly<{
  port: number;
  tlsPort: number;
  /** PEM of the authority of its certificate, which is for `localhost` and 127.0.0.1. */
  ca: string;
  /** Runs commands as the administrator. */
  write<T>(work: (client: Client) => Promise<T>): Promise<T>;
  restart(): Promise<void>;
  stop(): Promise<void>;
}>;

/**
 * @param ldif entries below the suffix that are loaded before it starts
 * @param more lines for its database
 */
export async function startSlapd(options: Readonly<{ ldif?: string; more?: string }> = {}): Promise<Slapd> {
  const binary = findSlapd();
  if (binary === undefined) throw new Error("slapd is not installed");
  const folder = new TemporaryFolder("slapd");
  const [port = 0, tlsPort = 0] = await freePorts(2);
  const root = await Authority.root("slapd");
  const own = await root.issue({ hosts: ["localhost"], addresses: ["127.0.0.1"] });
  const file = (name: string, text: string): string => {
    const path = join(folder.path, name);
    writeFileSync(path, text);
    return path;
  };
  mkdirSync(join(folder.path, "db"));
  const config = file(
    "slapd.conf",
    [
      ...["core", "cosine", "inetorgperson", "nis"].map((name) => `include ${join(schemas, `${name}.schema`)}`),
      `include ${file("msuser.schema", activeDirectorySchema())}`,
      // As 389 Directory Server defines it.
      "attributetype ( 2.16.840.1.113730.3.1.610 NAME 'nsAccountLock' SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )",
      "modulepath /usr/lib/ldap",
      "moduleload back_mdb",
      `pidfile ${join(folder.path, "slapd.pid")}`,
      `TLSCACertificateFile ${file("ca.pem", root.pem)}`,
      `TLSCertificateFile ${file("cert.pem", own.cert)}`,
      `TLSCertificateKeyFile ${file("key.pem", own.key)}`,
      "database mdb",
      `suffix "${suffix}"`,
      `rootdn "${admin.dn}"`,
      `rootpw ${admin.password}`,
      `directory ${join(folder.path, "db")}`,
      "maxsize 1073741824",
      "index objectClass,entryUUID,uid,employeeNumber,member eq",
      // A search that does not page ends with "size limit exceeded".
      "sizelimit size.soft=20 size.hard=20 size.prtotal=unlimited",
      options.more ?? "",
      "access to attrs=userPassword by anonymous auth by * none",
      `access to * by dn.exact="${reader.dn}" read by * none`,
      "",
    ].join("\n"),
  );
  const base = [
    `dn: ${suffix}\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example\n`,
    `dn: ${reader.dn}\nobjectClass: person\ncn: reader\nsn: reader\nuserPassword: ${reader.password}\n`,
    `dn: ou=people,${suffix}\nobjectClass: organizationalUnit\nou: people\n`,
    `dn: ou=groups,${suffix}\nobjectClass: organizationalUnit\nou: groups\n`,
    options.ldif ?? "",
  ];
  const loaded = spawnSync(binary, ["-Tadd", "-q", "-f", config, "-l", file("entries.ldif", base.join("\n"))], {
    encoding: "utf8",
  });
  if (loaded.status !== 0) throw new Error(`slapadd failed: ${loaded.stderr}`);

  let child: Child | undefined;
  async function launch(): Promise<void> {
    const urls = `ldap://127.0.0.1:${port}/ ldaps://127.0.0.1:${tlsPort}/`;
    const started = await Child.start({
      command: binary ?? "",
      args: ["-d", "0", "-h", urls, "-f", config],
      logFile: join(folder.path, "slapd.log"),
    });
    child = started;
    await waitFor("slapd to accept a bind", () => !started.running || accepts(port), { withinMs: 30_000 });
    if (!started.running) throw new Error(`slapd did not start:\n${started.log()}`);
  }
  await launch();
  return {
    port,
    tlsPort,
    ca: root.pem,
    async write(work) {
      const client = new Client({ url: `ldap://127.0.0.1:${port}`, timeout: 20_000 });
      await client.bind(admin.dn, admin.password);
      try {
        return await work(client);
      } finally {
        await client.unbind();
      }
    },
    async restart() {
      await child?.end("SIGTERM");
      await launch();
    },
    async stop() {
      await child?.end("SIGTERM");
      folder.remove();
    },
  };
}

/** OpenLDAP's copy, with the rule by which Active Directory finds GUIDs and SIDs. */
function activeDirectorySchema(): string {
  const octetString = "SYNTAX '1.3.6.1.4.1.1466.115.121.1.40'";
  const text = readFileSync(join(schemas, "msuser.schema"), "utf8");
  return text.replaceAll(octetString, `EQUALITY octetStringMatch ${octetString}`);
}

async function accepts(port: number): Promise<boolean> {
  const client = new Client({ url: `ldap://127.0.0.1:${port}`, timeout: 2_000, connectTimeout: 2_000 });
  try {
    await client.bind(reader.dn, reader.password);
    return true;
  } catch {
    return false;
  } finally {
    await client.unbind().catch(() => {});
  }
}
