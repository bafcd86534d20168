/**
 * Operator API for held mass changes: what is held, which people and routes it concerns, and what becomes of it.
 *
 * An operator releases or drops the version that they have seen: a change that has grown meanwhile is refused.
 */
import type { FastifyReply } from "fastify";
import { type HeldChange, parseCommandId, type UnixMs } from "../../../events/index.ts";
import { submitChange } from "../operator-changes.ts";
import { badRequest, type OperatorApiDeps, type RegisterRoute, tryParse } from "../operator-route.ts";
import { allowSchema, dropSchema, releaseSchema } from "../operator-schemas.ts";
import type { RouteScope } from "../roles/operator-roles.ts";
import { scopeOfGroups } from "../roles/scope-of-groups.ts";
import { describeRadius } from "./blast-radius.ts";

export type HeldView = Readonly<{
  id: string;
  version: number;
  status: "held" | "dropped";
  source: string;
  actor: string;
  subject: string;
  people: number;
  counted: number;
  limit: number;
  heldAt: string;
  expiresAt: string;
}>;
export function registerHeld(route: RegisterRoute, deps: OperatorApiDeps): void {
  /** A caller whose role is limited sees a held change only if it takes groups of its own routes alone. */
  const isVisible = async (held: HeldChange, scope: RouteScope): Promise<boolean> => {
    if (scope === null) return true;
    // A process that is only a proxy never loads the broker.
    const { previewHeld } = await import("../../../broker/index.ts");
    const preview = previewHeld(deps.replica.projection, held, deps.now());
    const isInScope = scopeOfGroups(deps, scope);
    return preview !== undefined && preview.groups.length > 0 && preview.groups.every(isInScope);
  };

  route("GET /held", async (_request, _reply, { scope }) => {
    const { massChanges } = deps.replica.projection;
    const held: HeldView[] = [];
    for (const each of massChanges.held())
      if (each.expiresAt > deps.now() && (await isVisible(each, scope))) held.push(describeHeld(each));
    const allowed = (scope === null ? [...massChanges.allowed()] : [])
      .filter(([, until]) => until > deps.now())
      .map(([source, until]) => ({ source, until: iso(until) }));
    return { held, allowed, applied: deps.replica.applied };
  });

  const find = (params: unknown): HeldChange | undefined => {
    const heldId = tryParse(parseCommandId, (params as { held: string }).held);
    return heldId === undefined ? undefined : deps.replica.projection.massChanges.heldChange(heldId);
  };

  route("GET /held/:held", async (request, reply, { scope }) => {
    const held = find(request.params);
    if (held === undefined || held.expiresAt <= deps.now() || !(await isVisible(held, scope)))
      return unknownHeld(reply);
    // A process that is only a proxy never loads the broker.
    const { previewHeld } = await import("../../../broker/index.ts");
    const preview = previewHeld(deps.replica.projection, held, deps.now());
    const radius = preview ?? {
      refusal: "this version of Cardea cannot read it",
      people: [],
      groups: [],
      taken: { groups: new Map(), ended: [] },
    };
    return { ...describeHeld(held), now: await describeRadius(deps, radius), applied: deps.replica.applied };
  });

  route("POST /held/:held/release", async (request, reply, { actor }) => {
    const body = releaseSchema.safeParse(request.body ?? {});
    if (!body.success) return badRequest(reply, body.error);
    const { version, reason, allowForMs, ...wait } = body.data;
    const heldId = tryParse(parseCommandId, (request.params as { held: string }).held);
    if (heldId === undefined) return unknownHeld(reply);
    const allowUntil = allowForMs === undefined ? null : ((deps.now() + allowForMs) as UnixMs);
    const command = { type: "releaseHeldChange", heldId, version, reason, allowUntil } as const;
    return submitChange(deps, request, reply, actor, command, wait);
  });

  route("POST /held/:held/drop", async (request, reply, { actor, scope }) => {
    const body = dropSchema.safeParse(request.body ?? {});
    if (!body.success) return badRequest(reply, body.error);
    const { version, reason, ...wait } = body.data;
    const heldId = tryParse(parseCommandId, (request.params as { held: string }).held);
    if (heldId === undefined) return unknownHeld(reply);
    if (scope !== null) {
      const held = find(request.params);
      if (held === undefined || !(await isVisible(held, scope))) return unknownHeld(reply);
    }
    const command = { type: "dropHeldChange", heldId, version, reason } as const;
    return submitChange(deps, request, reply, actor, command, { ...wait, confined: true });
  });

  route("POST /held/allow", async (request, reply, { actor }) => {
    const body = allowSchema.safeParse(request.body ?? {});
    if (!body.success) return badRequest(reply, body.error);
    const { source, forMs, reason, ...wait } = body.data;
    const until = (deps.now() + forMs) as UnixMs;
    return submitChange(deps, request, reply, actor, { type: "allowMassChanges", source, until, reason }, wait);
  });
}

function describeHeld(held: HeldChange): HeldView {
  const { heldId, version, status, source, actor, subject, people, counted, limit, heldAt, expiresAt } = held;
  const times = { heldAt: iso(heldAt), expiresAt: iso(expiresAt) };
  return { id: heldId, version, status, source, actor, subject, people, counted, limit, ...times };
}

const iso = (at: UnixMs): string => new Date(at).toISOString();

function unknownHeld(reply: FastifyReply): FastifyReply {
  return reply.code(404).send({ error: "there is no such held change: it has ended" });
}
