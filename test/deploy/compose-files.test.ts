/** Configuration files of the compose cluster: they fit each other, as far as that shows without starting it. */
import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { parse as parseYaml } from "yaml";
import { type Config, formatProblem, parseConfig } from "../../src/config/index.ts";
import { certificate, cookieSecret, sharedSecret } from "../config/support.ts";

const read = (file: string): string => readFileSync(new URL(`../../${file}`, import.meta.url), "utf8");

type Service = Readonly<{
  image: string;
  environment?: Readonly<Record<string, string>>;
  volumes?: readonly string[];
  ports?: readonly string[];
}>;
const { services } = parseYaml(read("docker-compose.yml"), { merge: true }) as {
  services: Readonly<Record<string, Service>>;
};
const configured = Object.entries(services).flatMap(([name, service]) => {
  const file = service.volumes?.find((volume) => volume.includes(":/etc/cardea/"))?.split(":")[0];
  const secrets = service.volumes?.find((volume) => volume.includes(":/run/secrets"))?.split("-secrets:")[0];
  return file === undefined ? [] : [{ name, file: file.replace("./", ""), secrets, env: service.environment ?? {} }];
});

/** The secrets that make-secrets.sh gives each service. */
const secretsOf = new Map(
  [...read("deploy/init/make-secrets.sh").matchAll(/^ {2}hand (\S+) \S+ (.+)$/gm)].map(
    ([, service = "", names = ""]) => [service, names.split(" ")],
  ),
);
const pair = certificate(["broker-1", "broker-2", "authenticate"]);
const contents: Readonly<Record<string, string>> = {
  shared_secret: sharedSecret,
  cookie_secret: cookieSecret,
  idp_client_secret: "from-make-secrets",
  nats_password: "from-make-secrets",
  database_url: "postgres://cardea:from-make-secrets@postgres:5432/cardea?sslmode=verify-full",
  "ca.crt": pair.cert,
  "broker.crt": pair.cert,
  "broker.key": pair.key,
  "authenticate.crt": pair.cert,
  "authenticate.key": pair.key,
};

function load({ file, secrets, env }: (typeof configured)[number]) {
  return parseConfig(read(file), file, {
    env,
    readFile(path) {
      const name = path.replace("/run/secrets/", "");
      const text = secretsOf.get(secrets ?? "")?.includes(name) === true ? contents[name] : undefined;
      return text === undefined
        ? { ok: false, reason: "make-secrets.sh does not provide it" }
        : { ok: true, text, mode: 0o400 };
    },
  });
}
function configOf(name: string): Config {
  const service = configured.find((one) => one.name === name);
  assert.ok(service !== undefined, name);
  const loaded = load(service);
  assert.ok(loaded.ok, loaded.ok ? "" : loaded.problems.map(formatProblem).join("\n"));
  return loaded.config;
}

test("every service with a configuration is covered", () => {
  assert.deepEqual(
    configured.map(({ name }) => name),
    ["proxy-1", "proxy-2", "authenticate", "broker-1", "broker-2"],
  );
});

for (const service of configured) {
  test(`${service.name}'s configuration is valid, and names only secrets that the service receives`, () => {
    const loaded = load(service);
    assert.ok(loaded.ok, loaded.ok ? "" : loaded.problems.map(formatProblem).join("\n"));
    const expected = service.name.startsWith("proxy") ? ["insecure_server", "metrics_address"] : [];
    assert.deepEqual(
      loaded.warnings.map(({ key }) => key),
      expected,
    );
  });
}

test("brokers have different names, regions and addresses, and know each other", () => {
  const [one, two] = [configOf("broker-1"), configOf("broker-2")];
  assert.notEqual(one.nodeName, two.nodeName);
  assert.notEqual(one.region, two.region);
  assert.deepEqual(
    [one, two].map(({ broker }) => broker.advertisedUrl?.href),
    one.broker.urls.map(({ href }) => href),
  );
});

test("both regions have a proxy, and their routes are the same", () => {
  const [one, two] = [configOf("proxy-1"), configOf("proxy-2")];
  assert.deepEqual([one.region, two.region], ["region-a", "region-b"]);
  assert.deepEqual(one.routes, two.routes);
});

test("sign-in accepts the hosts of the proxies' routes, and all services use one identity provider", () => {
  const [proxy, authenticate, broker] = [configOf("proxy-1"), configOf("authenticate"), configOf("broker-1")];
  const hosts = ({ routes }: Config): readonly string[] => routes.map(({ from }) => from.origin);
  assert.deepEqual(hosts(authenticate), hosts(proxy));
  for (const config of [authenticate, broker]) {
    assert.equal(config.authenticateServiceUrl.href, proxy.authenticateServiceUrl.href);
    assert.deepEqual([config.idp?.url.href, config.idp?.clientId], [proxy.idp?.url.href, proxy.idp?.clientId]);
    assert.equal(config.groupsFromClaim, "groups");
  }
  assert.equal(proxy.idp?.clientSecret, "", "a proxy has no client secret");
});

test("the image's health check uses the default metrics port of every service", () => {
  for (const { name } of configured) assert.equal(configOf(name).metricsAddress?.port, 9902, name);
});

test("one port is published, on loopback", () => {
  const ports = Object.values(services).flatMap((service) => service.ports ?? []);
  assert.equal(ports.length, 1);
  assert.match(ports[0] ?? "", /^127\.0\.0\.1:/);
});

test("the only images are Cardea's and four common ones", () => {
  const images = Object.values(services).map(({ image }) => image);
  const bases = [
    ...globSync(["Dockerfile", "deploy/*/Dockerfile"], { cwd: new URL("../..", import.meta.url).pathname }),
  ].flatMap((file) => [...read(file).matchAll(/^FROM (\S+)/gm)].map(([, image = ""]) => image));
  const foreign = [...new Set([...images, ...bases])].filter(
    (image) => !/^cardea(?:-[a-z-]+)?:\$\{CARDEA_TAG:-local\}$/.test(image),
  );
  assert.deepEqual(foreign.sort(), ["debian:trixie-slim", "nats:2.10", "node:26-slim", "postgres:17"]);
});

test("these files contain no secret", () => {
  const root = new URL("../..", import.meta.url).pathname;
  const files = [...globSync("deploy/**/*", { cwd: root }), "docker-compose.yml", "Dockerfile"].filter((file) =>
    /\.\w+$|Dockerfile$/.test(file),
  );
  for (const file of files) assert.doesNotMatch(read(file), /-----BEGIN|^\s*(?:\w*secret|password): ["']?\w/m, file);
});
