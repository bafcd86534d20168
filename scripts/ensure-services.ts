/**
 * Ensure services: finds or installs what the tests need besides npm packages, or says how to install it.
 *
 * It checks first and changes nothing when everything is present. It installs only what is missing, and only as root on
 * Debian or a derivative. Postgres and NATS may also run in containers; a browser may not. Programs that only a few
 * tests use are installed with the rest. Without them those tests are skipped with a message.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { findCaddy } from "../test/support/caddy.ts";
import { findChromium } from "../test/support/chromium.ts";
import { findFaketime } from "../test/support/faketime.ts";
import { findKubectl } from "../test/support/kubectl.ts";
import { findNatsServer } from "../test/support/nats.ts";
import { findNginx } from "../test/support/nginx.ts";
import { findPebble } from "../test/support/pebble.ts";
import { findPostgresBinaries } from "../test/support/postgres.ts";
import { findSlapd } from "../test/support/slapd.ts";
import { findSshd } from "../test/support/sshd.ts";

type Need = Readonly<{
  name: string;
  find: () => string | undefined;
  /** Debian packages in order of preference. Which of them exists depends on the release. */
  packages: readonly string[];
  image?: string;
  /** Only a few tests use it; they are skipped without it. */
  optional?: true;
}>;

const needs: readonly Need[] = [
  {
    name: "Postgres 15 or newer",
    find: findPostgresBinaries,
    packages: ["postgresql-17", "postgresql"],
    image: "postgres:17",
  },
  { name: "nats-server 2.10 or newer", find: findNatsServer, packages: ["nats-server"], image: "nats:2.10" },
  { name: "Chromium", find: findChromium, packages: ["chromium"] },
  { name: "kubectl", find: findKubectl, packages: ["kubectl", "kubernetes-client"], optional: true },
  { name: "Pebble, an ACME authority", find: findPebble, packages: ["pebble"], optional: true },
  { name: "libfaketime", find: findFaketime, packages: ["libfaketime"], optional: true },
  // These packages start servers on ports 22, 80 and 389, which a developer's own machine should not get.
  ...(process.env["CI_CONTAINERS"] === "1"
    ? ([
        { name: "OpenSSH", find: findSshd, packages: ["openssh-server"], optional: true },
        { name: "OpenLDAP", find: findSlapd, packages: ["slapd"], optional: true },
        { name: "nginx", find: findNginx, packages: ["nginx-light", "nginx"], optional: true },
        { name: "Caddy", find: findCaddy, packages: ["caddy"], optional: true },
      ] as const)
    : []),
];

/**
 * @param which `stores`: only Postgres and NATS
 * @returns whether the tests can run; if not, it has printed why
 */
export async function ensureServices(which: "all" | "stores" = "all"): Promise<boolean> {
  const missing = (): Need[] =>
    needs.filter((need) => (which === "all" || need.image !== undefined) && need.find() === undefined);
  if (missing().length === 0) return true;
  if (process.getuid?.() === 0 && existsSync("/etc/debian_version")) install(missing());

  let left = missing().filter(({ optional }) => optional !== true);
  if (left.some((need) => need.image !== undefined)) {
    const { whyNoEngine } = await import("../test/support/containers.ts");
    if ((await whyNoEngine()) === undefined) {
      for (const need of left) if (need.image !== undefined) console.log(`${need.name}: from the image ${need.image}`);
      left = left.filter((need) => need.image === undefined);
    }
  }
  if (left.length === 0) return true;
  console.error(`The tests need ${left.map((need) => need.name).join(", ")}, and they were not found.`);
  console.error("On Debian or Ubuntu: sudo apt-get install postgresql nats-server chromium");
  console.error("On macOS: brew install postgresql@17 nats-server && brew install --cask chromium");
  console.error("Or start Docker: Postgres and NATS then run from images. `npm run test:unit` needs none of them.");
  return false;
}

function install(wanted: readonly Need[]): void {
  console.log(`installing ${wanted.map((need) => need.name).join(", ")} with apt-get`);
  if (!aptGet("update")) return;
  const available = wanted.flatMap((need) => need.packages.find(isAvailable) ?? []);
  if (available.length > 0) aptGet("install", "--yes", "--no-install-recommends", ...available);
}

/** Shows the output only on failure. */
function aptGet(...args: string[]): boolean {
  const { status, stdout, stderr } = spawnSync("apt-get", ["-q", "-o", "DPkg::Lock::Timeout=300", ...args], {
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
    encoding: "utf8",
  });
  if (status !== 0) console.error(`apt-get ${args.join(" ")} failed:\n${stdout}${stderr}`);
  return status === 0;
}

function isAvailable(name: string): boolean {
  const { stdout } = spawnSync("apt-cache", ["policy", name], { encoding: "utf8" });
  return /Candidate: \d/.test(stdout ?? "");
}

if (import.meta.main && !(await ensureServices())) process.exit(1);
