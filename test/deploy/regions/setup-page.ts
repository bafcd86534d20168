/**
 * Setup page: docs/regions-setup.md, followed on nine machines made of namespaces.
 *
 * `follow` does everything under a heading: it writes the files, runs the commands as root, and compares what they
 * print with what the page shows.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { Child, TemporaryFolder } from "../../support/child.ts";
import { type Machines, type Ran, startMachines } from "../../support/machines.ts";
import { isAsPrinted, type Step, stepsOf } from "../../support/page-steps.ts";
import { waitFor } from "../../support/wait-for.ts";

const root = join(import.meta.dirname, "../../..");
const networks = { eu: "10.1.0", us: "10.2.0", ap: "10.3.0" } as const;
export type Region = keyof typeof networks;
export const regions = Object.keys(networks) as readonly Region[];
export const machineNames = regions.flatMap((region) => [1, 2, 3].map((n) => `${region}-${n}`));
const idpAddress = "10.0.0.1";

export type SetupPage = Readonly<{
  machines: Machines;
  /** @param heading the number of a section */
  follow(heading: number): Promise<void>;
  /** Starts the identity provider and the application, with a certificate of the cluster's authority. */
  startOutside(): Promise<void>;
  /** A person's browser near one region. */
  browser(region: Region, person: string): Browser;
  stop(): Promise<void>;
}>;

/** `hops`: where redirects led on the way. */
export type Page = Readonly<{ status: number; hops: readonly string[]; body: string }>;
export type Browser = Readonly<{
  open(url: string): Promise<Page>;
  /** The same browser, with its cookies, near another region. */
  near(region: Region): Browser;
}>;

export async function startSetupPage(t: Pick<TestContext, "diagnostic">): Promise<SetupPage> {
  const page = readFileSync(join(root, "docs/regions-setup.md"), "utf8");
  const steps = stepsOf(page, machineNames);
  const folder = new TemporaryFolder("machines");
  const specs = machineNames.map((name) => {
    const [network = "", n = ""] = name.split("-");
    return { name, network, address: `${networks[network as Region]}.${n}` };
  });
  const machines = await startMachines(specs, { folder, networks, addresses: [idpAddress] });
  let outside: Child | undefined;
  await Promise.all(machineNames.map((name) => prepare(machines, name)));
  await shareKeys(machines);

  async function run(step: Step, before: Step | undefined): Promise<void> {
    const where = `docs/regions-setup.md:${step.line}`;
    if (step.type === "file")
      for (const name of step.machines) await machines.machine(name).write(step.path, step.text(name));
    else if (step.type === "run")
      await Promise.all(step.machines.map((name) => machines.machine(name).must(step.text(name))));
    else {
      assert.ok(before?.type === "run", `${where}: no command prints this`);
      const [name = ""] = before.machines;
      let ran: Ran = outputs.get(before) ?? { code: null, out: "", err: "" };
      const isAsShown = (): boolean =>
        isAsPrinted(ran.out, step.text) && (step.code === null || step.code === ran.code);
      const whatItDid = (): string => `exits with ${ran.code} and prints\n${ran.out}\n${ran.err}`;
      if (step.when === "soon")
        await waitFor(
          `${where} to print what the page shows`,
          async () => {
            ran = await machines.machine(name).run(before.text(name));
            if (!isAsShown()) throw new Error(`it ${whatItDid()}`);
            return true;
          },
          { withinMs: 60_000, everyMs: 500 },
        );
      assert.ok(isAsShown(), `${where} shows\n${step.text}\nand ${name} ${whatItDid()}`);
    }
  }
  const outputs = new Map<Step, Ran>();

  return {
    machines,
    async follow(heading) {
      const own = steps.filter((step) => step.heading.startsWith(`${heading}. `));
      assert.ok(own.length > 0, `section ${heading} has no steps`);
      const from = performance.now();
      for (const [i, step] of own.entries()) {
        const next = own[i + 1];
        if (step.type === "run" && next?.type === "prints") {
          // The exit code counts only if the page names it: a status with a problem exits 1.
          const [name = ""] = step.machines;
          if (next.when === "at-once") outputs.set(step, await machines.machine(name).run(step.text(name)));
        } else await run(step, own[i - 1]);
      }
      t.diagnostic(`section ${heading}: ${((performance.now() - from) / 1_000).toFixed(1)} s`);
    },
    async startOutside() {
      const issue = "cd /root/cluster; certificate idp idp.example.com";
      const define = /^certificate\(\)[\s\S]*?^}/m.exec(page)?.[0] ?? "";
      await machines.machine("eu-1").must(`umask 077; cd /root/cluster\n${define}\n${issue}`);
      const files = join(folder.path, "machines/eu-1/over/root/cluster");
      outside = await Child.start({
        command: "nsenter",
        args: [
          ...["-t", String(machines.router.pid), "-n", "--", process.execPath, "--no-warnings"],
          join(import.meta.dirname, "outside.ts"),
          ...["idp.crt", "idp.key", "idp_client_secret"].map((name) => join(files, name)),
        ],
        logFile: join(folder.path, "outside.log"),
      });
      const running = outside;
      await waitFor("the application", async () => {
        if (!running.running) throw new Error(running.log());
        return (await machines.router.run("curl -s http://10.1.0.9:8080/")).code === 0;
      });
    },
    browser: (region, person) =>
      newBrowser(machines, { region, person, folder, cookies: join(folder.path, `cookies-${region}-${person}`) }),
    async stop() {
      await outside?.kill();
      await machines.stop();
      folder.remove();
    },
  };
}

/** What the packages and the ssh access of section 1 and 2 bring. */
async function prepare(machines: Machines, name: string): Promise<void> {
  await machines.machine(name).must(`
grep -q ' /etc overlay ' /proc/mounts && grep -q ' /var overlay ' /proc/mounts && grep -q ' /root overlay ' /proc/mounts
echo "${idpAddress} idp.example.com" >>/etc/hosts
rm -rf /etc/postgresql/* /var/lib/postgresql/* /var/log/postgresql/*
install -d -o postgres -g postgres -m 2775 /run/postgresql
${name.endsWith("-1") ? "pg_createcluster 17 main -- --auth-local=peer --no-sync >/dev/null" : ""}
install -d -m 755 /run/sshd
rm -f /etc/ssh/ssh_host_* /root/.ssh/*
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
/usr/sbin/sshd -o UsePAM=no -h /etc/ssh/ssh_host_ed25519_key
`);
}

async function shareKeys(machines: Machines): Promise<void> {
  const first = machines.machine("eu-1");
  await first.must(`
install -d -m 700 /root/.ssh
ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
echo 'StrictHostKeyChecking accept-new' >/root/.ssh/config`);
  const key = (await first.must("cat /root/.ssh/id_ed25519.pub")).trim();
  await Promise.all(
    machines.names.map((name) =>
      machines.machine(name).must(`install -d -m 700 /root/.ssh && echo '${key}' >/root/.ssh/authorized_keys`),
    ),
  );
}

/** curl, outside all machines: it finds the names of people's hosts at the region's load balancer. */
function newBrowser(
  machines: Machines,
  {
    region,
    person,
    cookies,
    folder,
  }: Readonly<{ region: Region; person: string; cookies: string; folder: TemporaryFolder }>,
): Browser {
  const hosts = ["app", "admin", "authenticate"].map(
    (host) => `--resolve ${host}.example.com:443:${networks[region]}.3`,
  );
  const authority = join(folder.path, "machines/eu-1/over/etc/cardea/ca.crt");
  return {
    near: (other) => newBrowser(machines, { region: other, person, cookies, folder }),
    async open(url) {
      await machines.router.must(`curl -s 'http://10.1.0.9:8080/person?name=${person}'`);
      const { out, err } = await machines.router.run(
        `curl -sL --max-time 30 --cacert ${authority} ${hosts.join(" ")} --resolve idp.example.com:443:${idpAddress} \
-b '${cookies}' -c '${cookies}' -H 'Accept: text/html' -D '${cookies}.heads' -w '\\n%{http_code}' '${url}'; cat '${cookies}.heads' >&2`,
      );
      const [, body = "", status = "0"] = /^([\s\S]*)\n(\d+)$/.exec(out) ?? [];
      const hops = [...err.matchAll(/^location: (\S+)/gim)].map(([, hop = ""]) => hop);
      return { status: Number(status), hops, body };
    },
  };
}
