/** The listener of a process that runs authenticate without a proxy: everything on it is the authenticate host. */
import { randomUUID } from "node:crypto";
import type { Handler } from "../../auth/index.ts";
import type { Config } from "../../config/index.ts";
import { renderPage } from "../../console/index.ts";
import { type AcmeServing, type HandlerListener, startHandlerListener } from "../../proxy/index.ts";
import { type Logger, systemClock } from "../../replication/index.ts";

/** @param config what is in force */
export function startAuthenticateListener(
  config: () => Config,
  { handle, acme, logger }: Readonly<{ handle: Handler; acme: AcmeServing; logger: Logger }>,
): Promise<HandlerListener> {
  return startHandlerListener(config, {
    ...{ site: () => config().authenticateServiceUrl, handle, acme, clock: systemClock },
    ...{ render: renderPage, requestId: randomUUID },
    onRefused: (code) => logger.debug({ code }, "refused"),
    onConnectionFailure: (failure) => logger.warn(failure, "listener connection failure"),
  });
}
