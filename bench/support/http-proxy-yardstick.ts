/**
 * The yardstick: @fastify/http-proxy in front of an upstream, without authentication. Arguments: port, upstream port.
 */
import proxy from "@fastify/http-proxy";
import Fastify from "fastify";

const [port, upstream] = process.argv.slice(2).map(Number);
const app = Fastify({ logger: false });
await app.register(proxy, {
  upstream: `http://127.0.0.1:${upstream}`,
  disableCache: true,
  undici: { connections: 64, pipelining: 1 },
});
await app.listen({ host: "127.0.0.1", port: port ?? 0 });
