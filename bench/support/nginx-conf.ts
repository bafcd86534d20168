/**
 * Configuration of an nginx with one worker in the foreground and all files in one folder: upstream and yardstick of
 * benches.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";

/**
 * @param http the content of `http { … }`
 * @returns the file for `nginx -c`
 */
export function writeNginxConf(folder: string, name: string, http: string): string {
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  const file = (what: string): string => join(folder, `${name}.${what}`);
  const text = `worker_processes 1; daemon off; pid ${file("pid")}; error_log ${file("log")} error;
events { worker_connections 32768; }
http { access_log off; keepalive_requests 1000000; client_max_body_size 0;
${temporary.map((each) => `${each}_temp_path ${file(each)};`).join(" ")}
${http} }
`;
  writeFileSync(file("conf"), text);
  return file("conf");
}

/** The text after the address in `listen`, and further lines of the server. */
type ServerLines = Readonly<{ listen?: string; server?: string }>;

/** Answers everything with one short line and a head of a dozen lines. No two answers are equal. */
export function helloServer(port: number, { listen = "", server = "" }: ServerLines = {}): string {
  return `server { listen 127.0.0.1:${port} ${listen}; ${server} location / { default_type text/plain;
add_header Cache-Control "private, max-age=0"; add_header ETag '"$request_id"'; add_header Vary Accept-Encoding;
add_header X-Content-Type-Options nosniff; add_header X-Frame-Options SAMEORIGIN; add_header Referrer-Policy same-origin;
add_header X-Trace-Id $request_id; add_header Server-Timing "app;dur=$request_time";
return 200 "hello from upstream: $request_uri\\n"; } }`;
}

/** Forwards everything by proxy_pass, with kept connections and without any authentication. */
export function passingServer(
  port: number,
  upstreamPort: number,
  { listen = "", server = "" }: ServerLines = {},
): string {
  return `upstream app${port} { server 127.0.0.1:${upstreamPort}; keepalive 64; }
server { listen 127.0.0.1:${port} ${listen}; ${server} location / {
  proxy_pass http://app${port}; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; } }`;
}

/** Forwards calls by grpc_pass, with kept connections and without any authentication. @param server further lines */
export function passingGrpcServer(port: number, upstreamPort: number, server: string): string {
  return `upstream app${port} { server 127.0.0.1:${upstreamPort}; keepalive 64; keepalive_requests 1000000; }
server { listen 127.0.0.1:${port} ssl; ${server} grpc_set_header Host $host; location / { grpc_pass grpc://app${port}; } }`;
}
