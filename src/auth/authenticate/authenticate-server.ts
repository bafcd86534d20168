/** The authenticate host: its own endpoints and those that callers add (the operator API). It forwards nothing. */
import formbody from "@fastify/formbody";
import Fastify, { type FastifyInstance } from "fastify";
import { withoutJsonSchemas } from "../../replication/runtime/index.ts";
import { registerAccount } from "./account/account-endpoints.ts";
import { type AuthDeps, createRequestContexts, type ReservedPathHandler } from "./context.ts";
import { registerBackchannelLogout } from "./sign-in/backchannel-logout.ts";
import { registerCallback } from "./sign-in/callback-endpoint.ts";
import { readOnly, registerCommon, sendUnauthorized } from "./sign-in/common-endpoints.ts";
import { registerLogin, registerUser } from "./sign-in/programmatic-endpoints.ts";
import { registerSignInAgain } from "./sign-in/sign-in-again.ts";
import { registerSignIn } from "./sign-in/sign-in-endpoints.ts";
import { registerSignOut } from "./sign-in/sign-out-endpoints.ts";

export async function createAuthenticateHost(
  deps: AuthDeps,
  plugins: readonly ((app: FastifyInstance) => void)[] = [],
): Promise<Readonly<{ handle: ReservedPathHandler; close(): Promise<void> }>> {
  const app = Fastify({
    logger: false,
    schemaController: withoutJsonSchemas,
    bodyLimit: 256 * 1_024,
    trustProxy: false,
    forceCloseConnections: true,
    exposeHeadRoutes: false,
    // Names of groups and people, in base64 above all, are longer than Fastify's default allows.
    routerOptions: { maxParamLength: 2_048 },
  });
  const contexts = createRequestContexts();
  await app.register(formbody);
  registerCommon(app, deps, contexts);
  registerSignIn(app, deps, contexts);
  registerSignInAgain(app, deps, contexts);
  registerSignOut(app, deps, contexts);
  registerBackchannelLogout(app, deps);
  registerLogin(app, deps, contexts);
  registerCallback(app, deps, contexts);
  registerUser(app, deps, {
    contexts,
    sendUnauthenticated: (_deps, request, reply, context) => sendUnauthorized(request, reply, context),
  });
  readOnly(app, "/", (_request, reply) => reply.redirect("/.pomerium/", 302));
  readOnly(app, "/.pomerium", (_request, reply) => reply.redirect("/.pomerium/", 301));
  readOnly(app, "/robots.txt", (_request, reply) =>
    reply.type("text/plain; charset=utf-8").send("User-agent: *\nDisallow: /\n"),
  );
  registerAccount(app, deps, contexts);
  for (const plugin of plugins) plugin(app);
  await app.ready();
  return {
    handle(req, res, context) {
      contexts.set(req, context);
      if (deps.withCaller === undefined) app.routing(req, res);
      else deps.withCaller(context.ip, () => app.routing(req, res));
    },
    close: () => app.close(),
  };
}
