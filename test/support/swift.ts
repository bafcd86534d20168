/**
 * Swift: a real object store with the S3 API (OpenStack Swift, from Debian's packages), on free loopback ports: one
 * server each for accounts, containers, objects and requests. Its signatures are those of Signature Version 4.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Child, TemporaryFolder } from "./child.ts";
import { freePorts } from "./free-port.ts";
import { waitFor } from "./wait-for.ts";

const programs = ["swift-account-server", "swift-container-server", "swift-object-server", "swift-proxy-server"];

export function hasSwift(): boolean {
  const needed = [...programs, "swift-ring-builder"].map((name) => `/usr/bin/${name}`);
  return [...needed, "/etc/swift/swift.conf"].every((path) => existsSync(path));
}

export type Swift = Readonly<{
  url: URL;
  region: string;
  credentials: Readonly<{ accessKeyId: string; secretAccessKey: string }>;
  stop(): Promise<void>;
}>;

export async function startSwift(): Promise<Swift> {
  const folder = new TemporaryFolder("swift");
  const [accounts = 0, containers = 0, objects = 0, requests = 0] = await freePorts(4);
  const devices = join(folder.path, "devices");
  mkdirSync(join(devices, "sda1"), { recursive: true });
  const common = (port: number): string =>
    `[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = ${port}\nworkers = 0\nuser = root\nswift_dir = ${folder.path}\n` +
    `devices = ${devices}\nmount_check = false\nlog_level = WARNING\n`;
  const kinds = { account: accounts, container: containers, object: objects };
  for (const [kind, port] of Object.entries(kinds)) {
    const filters = `[pipeline:main]\npipeline = ${kind}-server\n[app:${kind}-server]\nuse = egg:swift#${kind}\n`;
    writeFileSync(join(folder.path, `${kind}-server.conf`), common(port) + filters);
    const build = (...args: readonly string[]): void => {
      spawnSync("/usr/bin/swift-ring-builder", [`${kind}.builder`, ...args], { cwd: folder.path });
    };
    build("create", "4", "1", "0");
    build("add", `r1z1-127.0.0.1:${port}/sda1`, "1");
    build("rebalance");
  }
  const filters = ["catch_errors", "gatekeeper", "healthcheck", "cache", "listing_formats", "s3api", "tempauth"];
  const settings: Readonly<Record<string, string>> = {
    cache: "memcache_servers = 127.0.0.1:1\n", // it works without one
    s3api: "location = eu-1\n",
    tempauth: "user_test_tester = testing .admin\n",
  };
  const sections = filters.map(
    (name) => `[filter:${name}]\nuse = egg:swift#${name === "cache" ? "memcache" : name}\n${settings[name] ?? ""}`,
  );
  writeFileSync(
    join(folder.path, "proxy-server.conf"),
    `${common(requests)}[pipeline:main]\npipeline = ${filters.join(" ")} proxy-server\n` +
      `[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\n${sections.join("")}`,
  );
  const children: Child[] = [];
  for (const program of programs) {
    const config = join(folder.path, `${program.slice("swift-".length)}.conf`);
    const logFile = join(folder.path, `${program}.log`);
    children.push(await Child.start({ command: `/usr/bin/${program}`, args: [config], logFile }));
  }
  const url = new URL(`http://127.0.0.1:${requests}`);
  await waitFor(
    "Swift to answer",
    async () => {
      for (const child of children) if (!child.running) throw new Error(child.log());
      return (await fetch(new URL("/healthcheck", url))).ok;
    },
    { withinMs: 30_000 },
  );
  return {
    url,
    region: "eu-1",
    credentials: { accessKeyId: "test:tester", secretAccessKey: "testing" },
    async stop() {
      await Promise.all(children.map((child) => child.end("SIGKILL")));
      folder.remove();
    },
  };
}
