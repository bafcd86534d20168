/** Snapshots, as an operator asks for them: what the leader keeps stands in its status; a new one is wished for here. */
import type { OperatorApiDeps, Route } from "./operator-route.ts";

export function registerSnapshots(route: Route, deps: OperatorApiDeps): void {
  route("POST /snapshots", async (_request, reply) => {
    const position = await deps.databroker.takeSnapshot();
    return reply.code(202).send({ position });
  });
}
