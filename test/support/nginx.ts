/**
 * nginx: a real upstream that records how it read every request, in its most lenient settings.
 *
 * It accepts header names with underscores and other unusual characters (in its variables, `X_Pomerium` is
 * `X-Pomerium`). So a header that only looks like one of Cardea's would show.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { Child, TemporaryFolder } from "./child.ts";
import { onFreePort } from "./free-port.ts";
import { waitFor } from "./wait-for.ts";

/** A request as nginx read it. */
export type NginxRequest = Readonly<{
  line: string;
  method: string;
  /** Path and query as received. */
  uri: string;
  /** nginx's normalized path: decoded, slashes merged, dots resolved. */
  path: string;
  host: string;
  /** The status of the response; 400 and similar mean that nginx could not read the request. */
  status: string;
  requestId: string;
  email: string;
  assertion: string;
  cookie: string;
  authorization: string;
}>;

const variables: Readonly<Record<keyof NginxRequest, string>> = {
  line: "$request",
  method: "$request_method",
  uri: "$request_uri",
  path: "$uri",
  host: "$http_host",
  status: "$status",
  requestId: "$http_x_request_id",
  email: "$http_x_pomerium_claim_email",
  assertion: "$http_x_pomerium_jwt_assertion",
  cookie: "$http_cookie",
  authorization: "$http_authorization",
};

export function findNginx(): string | undefined {
  const folders = [
    ...(process.env["PATH"] ?? "").split(delimiter),
    "/usr/sbin",
    "/usr/local/sbin",
    "/opt/homebrew/bin",
  ];
  return folders.map((folder) => join(folder, "nginx")).find((path) => existsSync(path));
}

export type Nginx = Readonly<{ port: number; requests(): readonly NginxRequest[]; stop(): Promise<void> }>;

/** @throws when nginx is not installed: call `findNginx` first */
export async function startNginx(): Promise<Nginx> {
  const command = findNginx();
  if (command === undefined) throw new Error("there is no nginx on this machine");
  const folder = new TemporaryFolder("nginx");
  const file = (name: string): string => join(folder.path, name);
  return onFreePort(async (port) => {
    writeFileSync(file("nginx.conf"), configuration(port, file));
    const logFile = file("output.log");
    const child = await Child.start({ command, args: ["-e", file("error.log"), "-c", file("nginx.conf")], logFile });
    await waitFor("nginx to listen", async () => {
      if (!child.running) throw new Error(child.log() + readFileSync(file("error.log"), "utf8"));
      return fetch(`http://127.0.0.1:${port}/ready`).then(() => true);
    });
    return {
      port,
      requests: () => requestsIn(file("access.log")),
      async stop() {
        await child.end("SIGTERM");
        folder.remove();
      },
    };
  });
}

function requestsIn(log: string): NginxRequest[] {
  const lines = readFileSync(log, "utf8").split("\n").slice(0, -1);
  return lines.map((line) => JSON.parse(line) as NginxRequest).filter(({ uri }) => uri !== "/ready");
}

function configuration(port: number, file: (name: string) => string): string {
  const format = Object.entries(variables).map(([name, variable]) => `"${name}":"${variable}"`);
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  return `
    daemon off; master_process off; pid ${file("nginx.pid")};
    events { worker_connections 1024; }
    http {
      ${temporary.map((name) => `${name}_temp_path ${file(name)};`).join(" ")}
      log_format seen escape=json '{${format.join(",")}}';
      access_log ${file("access.log")} seen;
      ignore_invalid_headers off; underscores_in_headers on; large_client_header_buffers 8 256k;
      keepalive_requests 1000000; client_max_body_size 0;
      server { listen 127.0.0.1:${port}; default_type text/plain; location / { return 200 "$request\\n"; } }
    }`;
}
