/**
 * Caller identifier: the credential that a request carries, and the person it currently belongs to. The pipeline and
 * the decision API use it.
 *
 * - Pure except for the dependencies passed in.
 * - A credential is valid only on the host that it was made for, and on tunnels only if it was made for those.
 * - A projection that is behind yields `behind`, never an anonymous caller.
 * - A person revoked by an event that this version cannot read is an anonymous caller.
 * - It waits only for a token not seen before, and for a link that is not applied yet.
 */
import {
  type BearerResult,
  type BearerRules,
  bearerIdp,
  bearerToken,
  type Credential,
  handleFits,
  handleFitsTunnels,
  type ResolvedCaller,
  revokedByRegion,
  type SessionHandle,
  streamsOf,
} from "../../auth/index.ts";
import type { RouteConfig } from "../../config/index.ts";
import { type UnixMs, unreachable } from "../../events/index.ts";
import type { CanonicalRequest } from "../message/canonical-request.ts";
import { type CredentialScope, scopeOf } from "../routing/route-table.ts";
import type { ProxyDeps } from "./dependencies.ts";

/** The session handle of a credential and where it was found, before the session is looked up. */
export type CredentialHolder = Readonly<{
  handle: SessionHandle | undefined;
  credentialInHeader: boolean;
  /**
   * Present if the handle belongs to a bearer token, which is valid only on routes that accept such tokens. `rules` are
   * those by which it was accepted.
   */
  bearer?: Readonly<{ token: string; rules: BearerRules }>;
}>;
/**
 * `behind`: the projection has not reached the link that the credential needs, and no broker could help. `refused`: an
 * invalid bearer token. `provider`: the token could not be verified. `two-credentials`: a token of an issuer with a
 * session cookie, as in Pomerium.
 */
export type Identification = CredentialHolder | "behind" | "refused" | "provider" | "two-credentials";
export const anonymous: CredentialHolder = { handle: undefined, credentialInHeader: false };

/**
 * Handles whose link has been applied. Forgotten when the projection is rebuilt, since the link may belong to a lost
 * suffix.
 */
export class ReachedHandles {
  #handles = new WeakSet<SessionHandle>();

  has(handle: SessionHandle): boolean {
    return this.#handles.has(handle);
  }
  add(handle: SessionHandle): void {
    this.#handles.add(handle);
  }
  forget(): void {
    this.#handles = new WeakSet();
  }
}

export type CallerIdentifier = Readonly<{
  /**
   * Identifies the caller from a request's head: by a bearer token if the route accepts one, otherwise by our own
   * credential.
   * @param from the caller's address
   */
  identify(
    request: Pick<CanonicalRequest, "headers" | "hostname" | "search">,
    route: RouteConfig,
    from: string,
  ): Identification | Promise<Identification>;
  /**
   * Identifies the holder of a credential; undefined: there is none.
   * @param shownAt where it was presented
   */
  fromCredential(
    credential: Credential | undefined,
    shownAt: CredentialScope,
  ): Identification | Promise<Identification>;
  /** Resolves the caller on a route by the current projection. */
  resolve(holder: CredentialHolder, route: RouteConfig, now: UnixMs): ResolvedCaller;
}>;

export function createCallerIdentifier(
  deps: Pick<
    ProxyDeps,
    "config" | "credentials" | "bearerTokens" | "catchUp" | "resolveCaller" | "signInOf" | "replica"
  >,
  reached: ReachedHandles,
): CallerIdentifier {
  const { config, replica } = deps;

  function identify(
    request: Pick<CanonicalRequest, "headers" | "hostname" | "search">,
    route: RouteConfig,
    from: string,
  ): Identification | Promise<Identification> {
    const { bearer: rules } = route;
    const token = rules === null ? undefined : bearerToken(request.headers["authorization"]);
    if (token !== undefined && rules !== null) {
      if (rules.format === "jwt" && deps.credentials.read(request.headers, "")?.source === "cookie")
        return "two-credentials";
      const found = deps.bearerTokens.identify(token, rules, { idpId: deps.signInOf(route).bearerIdpId, from });
      const bearer = { token, rules };
      return found instanceof Promise ? found.then((answer) => fromBearer(answer, bearer)) : fromBearer(found, bearer);
    }
    const scope = scopeOf(route, request);
    return fromCredential(deps.credentials.read(request.headers, request.search.slice(1)), scope);
  }

  function fromBearer(
    found: BearerResult,
    bearer: NonNullable<CredentialHolder["bearer"]>,
  ): Identification | Promise<Identification> {
    switch (found.type) {
      case "holder":
        return whenReached({ handle: found.handle, credentialInHeader: true, bearer });
      case "refused":
        return "refused";
      case "unavailable":
        return "provider";
      default:
        return unreachable(found);
    }
  }

  function fromCredential(
    credential: Credential | undefined,
    scope: CredentialScope,
  ): Identification | Promise<Identification> {
    if (credential === undefined) return anonymous;
    const where = { credentialInHeader: credential.source !== "cookie" };
    const verified = deps.credentials.verify(credential.token);
    if (verified instanceof Promise) return verified.then((handle) => forHandle(handle, where, scope));
    return forHandle(verified, where, scope);
  }

  function forHandle(
    handle: SessionHandle | "invalid",
    { credentialInHeader }: Pick<CredentialHolder, "credentialInHeader">,
    { hostname, isTunnel }: CredentialScope,
  ): Identification | Promise<Identification> {
    const fits =
      handle !== "invalid" &&
      (handleFits(handle, hostname, config.cookie.domain) || (isTunnel && handleFitsTunnels(handle)));
    if (!fits) return { handle: undefined, credentialInHeader };
    return whenReached({ handle, credentialInHeader });
  }

  function whenReached(
    holder: CredentialHolder & Readonly<{ handle: SessionHandle }>,
  ): Identification | Promise<Identification> {
    const { handle } = holder;
    if (handle.needs === null || reached.has(handle)) return holder;
    return deps.catchUp(handle.needs).then((outcome) => {
      switch (outcome) {
        case "reached":
          reached.add(handle);
          return holder;
        case "lost": // the session was never written: the person signs in again
          return { ...holder, handle: undefined };
        case "behind":
          return "behind";
        default:
          return unreachable(outcome);
      }
    });
  }

  function resolve(
    { handle, credentialInHeader, bearer }: CredentialHolder,
    route: RouteConfig,
    now: UnixMs,
  ): ResolvedCaller {
    const { allows } = deps.signInOf(route);
    const ofBearer = bearer !== undefined && handle !== undefined ? bearerIdpOf(bearer, handle, route) : undefined;
    const held = bearer !== undefined && ofBearer === undefined ? undefined : handle;
    const idpIds = ofBearer === undefined ? allows : new Set([ofBearer]);
    const caller = deps.resolveCaller(held, { idpIds, credentialInHeader, now });
    if (caller.type !== "principal") return caller;
    const [session, user] = streamsOf(caller.principal);
    const denied = replica.isDeniedLocally(session) || replica.isDeniedLocally(user);
    if (!denied) return caller;
    const byRegion = replica.isDeniedByRegion(session) || replica.isDeniedByRegion(user);
    return { type: "anonymous", why: byRegion ? revokedByRegion : "session-revoked", credentialInHeader };
  }

  /** Undefined: the route does not accept the token, or no longer does. */
  function bearerIdpOf(
    { token, rules }: NonNullable<CredentialHolder["bearer"]>,
    handle: SessionHandle,
    route: RouteConfig,
  ): string | undefined {
    const { bearer: now } = route;
    const taken = now === rules || (now !== null && verifyAlike(now, rules) && deps.bearerTokens.accepts(token, now));
    return taken ? bearerIdp(now, handle, deps.signInOf(route).bearerIdpId) : undefined;
  }

  return { identify, fromCredential, resolve };
}

/** Whether both rules verify a token in the same way. */
function verifyAlike(a: BearerRules, b: BearerRules): boolean {
  const isSigned = (rules: BearerRules): boolean => rules.format !== "idp_access_token" || rules.audiences !== null;
  return a.format === b.format && isSigned(a) === isSigned(b);
}
