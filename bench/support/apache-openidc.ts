/**
 * Apache with mod_auth_openidc in front of an upstream: one worker process, and a session from a real sign-in at
 * the demo provider. It admits the same group as Cardea's route. Its access log is off, and its own features have their
 * defaults: sessions in shared memory, unsigned claims as headers for the upstream.
 */
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { startDemoProvider } from "../../src/dev/index.ts";
import { freePorts } from "../../test/support/free-port.ts";
import { Visitor } from "../../test/support/visitor.ts";
import type { Pinned } from "./pinned.ts";
import { coreOfProxy, type Stand } from "./stand.ts";

/** Where Debian's packages install them. */
const modules = "/usr/lib/apache2/modules";
const loaded = ["mpm_event", "authn_core", "authz_core", "authz_user", "auth_openidc", "proxy", "proxy_http"];

export type SignedApache = Readonly<{ pinned: Pinned; port: number; headers: readonly string[] }>;

/** @param connections it gets twice as many threads, since it closes kept connections when all threads are busy */
export async function startApacheOpenidc(
  stand: Stand,
  { upstreamPort, connections }: Readonly<{ upstreamPort: number; connections: number }>,
): Promise<SignedApache> {
  if (!existsSync(join(modules, "mod_auth_openidc.so")))
    throw new Error("install the packages apache2 and libapache2-mod-auth-openidc");
  const [port = 0, idpPort = 0] = await freePorts(2);
  const threads = 2 * connections;
  const origin = `http://app.localhost:${port}`;
  const client = { id: "bench", secret: randomBytes(24).toString("base64url") };
  const provider = await startDemoProvider({
    issuer: new URL(`http://127.0.0.1:${idpPort}`),
    listen: { host: "127.0.0.1", port: idpPort },
    clientId: client.id,
    clientSecret: client.secret,
    redirectUris: [`${origin}/signed-in`],
    postLogoutRedirectUris: [],
  });
  stand.atEnd(() => provider.close());

  const home = join(stand.folder, "apache");
  mkdirSync(home);
  const conf = join(home, "apache.conf");
  writeFileSync(
    conf,
    `ServerRoot ${home}
DefaultRuntimeDir ${home}
PidFile ${home}/pid
ErrorLog ${home}/error.log
LogLevel error
ServerName app.localhost:${port}
UseCanonicalName On
Listen 127.0.0.1:${port}
${loaded.map((name) => `LoadModule ${name}_module ${modules}/mod_${name}.so`).join("\n")}
User www-data
Group www-data
ServerLimit 1
StartServers 1
ThreadLimit ${threads}
ThreadsPerChild ${threads}
MaxRequestWorkers ${threads}
MinSpareThreads 1
MaxSpareThreads ${threads}
MaxConnectionsPerChild 0
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 60
OIDCProviderMetadataURL http://127.0.0.1:${idpPort}/.well-known/openid-configuration
OIDCClientID ${client.id}
OIDCClientSecret ${client.secret}
OIDCRedirectURI ${origin}/signed-in
OIDCPKCEMethod S256
OIDCScope "openid profile email groups"
OIDCCryptoPassphrase ${randomBytes(24).toString("base64url")}
ProxyPass / http://127.0.0.1:${upstreamPort}/
<Location />
  AuthType openid-connect
  Require claim groups:eng
</Location>
`,
    { mode: 0o600 },
  );
  const pinned = await stand.start(coreOfProxy, "apache2", ["-DFOREGROUND", "-f", conf], port);
  return { pinned, port, headers: [`Host: app.localhost:${port}`, `Cookie: ${await signIn(origin)}`] };
}

/** @returns the cookies that a browser sends from then on */
async function signIn(origin: string): Promise<string> {
  const visitor = new Visitor();
  try {
    const refused = await visitor.request(origin);
    if (refused.status !== 302) throw new Error(`Apache answers a stranger with ${refused.status}`);
    const form = await visitor.navigate(origin);
    const done = await visitor.navigate(form.url, { form: { user: "alice", password: "any" } });
    if (done.status !== 200 || done.url.origin !== origin || !done.body.startsWith("hello"))
      throw new Error(`the sign-in at Apache ended at ${done.url.origin}${done.url.pathname} with ${done.status}`);
    return visitor.cookieHeader(new URL(origin));
  } finally {
    await visitor.close();
  }
}
