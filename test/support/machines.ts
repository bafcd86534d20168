/**
 * Machines: Linux machines for a test, made of namespaces. Each has its own network, host name, processes, and its own
 * copy of the folders that services write to.
 *
 * - The machines of a region share a network. A router connects the networks; it is also where a test's own servers
 *   run that belong to no machine.
 * - They run this machine's programs. A small `systemctl` (machine/systemctl) runs the services of their unit files,
 *   because systemd needs a machine of its own.
 * - They end with the test process, with everything that runs in them.
 */
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Child, type TemporaryFolder } from "./child.ts";
import { waitFor } from "./wait-for.ts";

const root = join(import.meta.dirname, "../..");
/** Folders of which each machine has a copy. */
const copied = ["/etc", "/var", "/root", "/opt", "/usr/local"];
const path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

export type Ran = Readonly<{ code: number | null; out: string; err: string }>;

export type MachineSpec = Readonly<{ name: string; address: string; network: string }>;

/** @returns why machines cannot be made here; false: they can */
export function whyNoMachines(): string | false {
  if (process.platform !== "linux") return "machines need Linux";
  if (process.getuid?.() !== 0) return "machines need root";
  const probe = "ip link set lo up && mount -t tmpfs tmpfs /run && iptables -L -n";
  const flags = ["--net", "--mount", "--uts", "--ipc", "--pid", "--fork"];
  const { status } = spawnSync("unshare", [...flags, "bash", "-c", probe], { stdio: "ignore" });
  return status === 0 ? false : "namespaces are not available";
}

/** A set of namespaces, held by a process that does nothing. */
class Namespaces {
  readonly name: string;
  readonly folder: string;
  #holder: Child | undefined;
  #pid = 0;

  constructor(name: string, folder: string) {
    this.name = name;
    this.folder = folder;
    mkdirSync(folder, { recursive: true });
  }

  /** The process id, in the test's own namespace, of the first process. */
  get pid(): number {
    return this.#pid;
  }

  async open(): Promise<void> {
    const ready = join(this.folder, "first");
    const flags = ["--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"];
    this.#holder = await Child.start({
      command: "unshare",
      args: [...flags, "bash", "-c", 'trap "" TERM INT HUP; while :; do sleep 1000 & wait $!; done'],
      logFile: ready,
    });
    const holder = this.#holder.pid;
    this.#pid = await waitFor(`the namespaces of ${this.name}`, () => {
      const { stdout } = spawnSync("ps", ["-o", "pid=", "--ppid", String(holder)], { encoding: "utf8" });
      return Number(stdout.trim()) || undefined;
    });
  }

  /** @param script of bash; it fails at its first command that fails */
  run(script: string, { within = "all" }: Readonly<{ within?: "all" | "network" }> = {}): Promise<Ran> {
    const entered = within === "all" ? ["-m", "-u", "-i", "-n", "-p"] : ["-n"];
    const child = spawn(
      "nsenter",
      ["-t", String(this.#pid), ...entered, "--wd=/", "--", "bash", "-eo", "pipefail", "-c", script],
      {
        stdio: ["ignore", "pipe", "pipe"],
        env: { PATH: path, HOME: "/root", LANG: "C.UTF-8", NODE_COMPILE_CACHE: "/mnt/cache" },
      },
    );
    let [out, err] = ["", ""];
    child.stdout.on("data", (chunk: Buffer) => {
      out += chunk.toString();
    });
    child.stderr.on("data", (chunk: Buffer) => {
      err += chunk.toString();
    });
    return new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code) => resolve({ code, out, err }));
    });
  }

  async must(script: string, options: Readonly<{ within?: "all" | "network" }> = {}): Promise<string> {
    const { code, out, err } = await this.run(script, options);
    if (code !== 0) throw new Error(`on ${this.name}: exit ${code} of\n${script}\n${out}\n${err}`);
    return out;
  }

  async close(): Promise<void> {
    await this.#holder?.kill();
  }
}

export type Machine = Readonly<{
  name: string;
  /** Runs a script of bash as root. @returns its outcome, whatever it is */
  run(script: string): Promise<Ran>;
  /** @throws if the script fails */
  must(script: string): Promise<string>;
  write(file: string, text: string): Promise<void>;
}>;

export type Machines = Readonly<{
  machine(name: string): Machine;
  names: readonly string[];
  /** The router: a network with every address that is no machine's. Its folders are this machine's own. */
  router: Readonly<{ pid: number; must(script: string): Promise<string>; run(script: string): Promise<Ran> }>;
  stop(): Promise<void>;
}>;

export async function startMachines(
  specs: readonly MachineSpec[],
  options: Readonly<{
    folder: TemporaryFolder;
    /** Networks by name: the first three bytes of its addresses. The router has .254 and .9 in each. */
    networks: Readonly<Record<string, string>>;
    /** More addresses of the router. */
    addresses: readonly string[];
  }>,
): Promise<Machines> {
  const { folder, networks } = options;
  const cache = join(folder.path, "compile-cache");
  mkdirSync(cache);
  chmodSync(cache, 0o777);
  chmodSync(folder.path, 0o755);
  const router = new Namespaces("router", join(folder.path, "router"));
  const opened: Namespaces[] = [router];
  try {
    await router.open();
    await router.must(routerScript(networks, options.addresses));
    const machines = new Map<string, Namespaces>();
    await Promise.all(
      specs.map(async (spec) => {
        const made = new Namespaces(spec.name, join(folder.path, "machines", spec.name));
        opened.push(made);
        machines.set(spec.name, made);
        await made.open();
        const link = `ip link add ${spec.name} type veth peer name eth0 netns ${made.pid}`;
        await router.must(`${link} && ip link set ${spec.name} master ${spec.network} up`, { within: "network" });
        await made.must(machineScript(spec, { folder: made.folder, cache, prefix: networks[spec.network] ?? "" }));
      }),
    );
    return {
      names: specs.map(({ name }) => name),
      machine(name) {
        const found = machines.get(name);
        if (found === undefined) throw new RangeError(`there is no machine ${name}`);
        return {
          name,
          run: (script) => found.run(script),
          must: (script) => found.must(script),
          async write(file, text) {
            const staged = join(folder.path, "machines", name, "staged");
            writeFileSync(staged, text, { mode: 0o600 });
            await found.must(`mkdir -p "$(dirname '${file}')" && install -m 644 /mnt/test/staged '${file}'`);
          },
        };
      },
      router: {
        pid: router.pid,
        run: (script) => router.run(script, { within: "network" }),
        must: (script) => router.must(script, { within: "network" }),
      },
      stop: async () => {
        await Promise.all(opened.reverse().map((each) => each.close()));
      },
    };
  } catch (error) {
    await Promise.all(opened.map((each) => each.close()));
    throw error;
  }
}

const routerScript = (networks: Readonly<Record<string, string>>, addresses: readonly string[]): string =>
  [
    "ip link set lo up",
    "echo 1 >/proc/sys/net/ipv4/ip_forward",
    ...addresses.map((address) => `ip addr add ${address}/32 dev lo`),
    ...Object.entries(networks).map(
      ([name, prefix]) =>
        `ip link add ${name} type bridge && ip link set ${name} up && ip addr add ${prefix}.254/24 dev ${name} && ip addr add ${prefix}.9/24 dev ${name}`,
    ),
  ].join("\n");

const machineScript = (
  { name, address }: MachineSpec,
  { folder, cache, prefix }: Readonly<{ folder: string; cache: string; prefix: string }>,
): string => `
hostname ${name}
ip link set lo up
ip addr add ${address}/24 dev eth0
ip link set eth0 up
ip route add default via ${prefix}.254
mkdir -p ${copied.map((path) => `'${folder}/over${path}' '${folder}/work${path}'`).join(" ")}
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/test /mnt/cache /mnt/cardea && mount --bind '${folder}' /mnt/test && mount --bind '${cache}' /mnt/cache
mount --bind '${root}' /mnt/cardea
${copied
  .map(
    (path) =>
      `mount -t overlay overlay -o 'lowerdir=${path},upperdir=/mnt/test/over${path},workdir=/mnt/test/work${path}' ${path}`,
  )
  .join("\n")}
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
mkdir -p /opt/cardea /run/units
mount --bind /mnt/cardea /opt/cardea && mount -o remount,bind,ro /opt/cardea
install -m 755 /opt/cardea/test/support/machine/systemctl /usr/local/bin/systemctl
printf '127.0.0.1 localhost\\n' >/etc/hosts
: >/etc/resolv.conf
`;
