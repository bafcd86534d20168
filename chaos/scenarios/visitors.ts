/** Visitors: people who use the routes of one scenario, each with a session that no operator of the run touches. */
import { Agent, request } from "undici";
import { loadConfig } from "../../src/config/index.ts";
import { createSessionMaker, type Made } from "../clients/session-maker.ts";
import { signIn } from "../clients/sign-in.ts";
import { authenticateHost } from "../cluster/cluster-config.ts";
import type { ClusterProcess } from "../cluster/cluster-process.ts";
import type { Stage } from "../run/stage.ts";
import { type Person, type Route, routes, stampHeaders } from "../world.ts";
import { allOf, type Condition, seeing } from "./look.ts";

export type RouteName = "app" | "eng" | "sales";
export type Visitor = Readonly<{ person: Person; userId: string; session: string; cookie: string; link: Made["link"] }>;

export type Visitors = AsyncDisposable &
  Readonly<{
    /** A person with a new session. @throws Error when the session cannot be created */
    arrive(): Promise<Visitor>;
    /** Every proxy of a region, or one proxy, permits a request now. */
    permitted(place: string, route: RouteName, visitor?: Visitor): Condition;
    /** Every proxy there answers this status itself. */
    refused(place: string, route: RouteName, status: number, visitor?: Visitor): Condition;
    /** Every proxy there refuses, with 401, 403 or 503: where no session can be recorded, the answer is not 401. */
    denied(place: string, route: RouteName, visitor: Visitor): Condition;
    /** All of a region's routes, and all regions. */
    permittedOn(place: string, visitor?: Visitor): Condition;
    permittedEverywhere(visitor?: Visitor): Condition;
    /** A person can sign in, from a proxy of a region through its authenticate service. */
    signsIn(region: string): Condition;
    /** A sign-in ends with 503 at the proxy or the authenticate service, before the identity provider. */
    signInRefused(region: string): Condition;
  }>;

const timeoutMs = 3_000;

export async function createVisitors(stage: Stage, scenario: string): Promise<Visitors> {
  const { cluster, now, history, token } = stage;
  const { configFile } = cluster.home.authenticate;
  const loaded = loadConfig(configFile, { env: {} });
  if (!loaded.ok) throw new Error(`${configFile} is not valid`);
  const { config } = loaded;
  const makerOptions = { name: scenario, config, issuer: cluster.issuer, now, history, stopping: () => false };
  const maker = createSessionMaker(makerOptions);
  const agent = new Agent({ headersTimeout: timeoutMs, bodyTimeout: timeoutMs, connect: { timeout: timeoutMs } });
  let count = 0;

  async function arrive(): Promise<Visitor> {
    count += 1;
    const begin = now();
    const person: Person = { name: `${scenario}-${count}`, groups: ["eng", "sales"], signsIn: "by-command" };
    const made = await maker.make(person, "long");
    if (made === undefined) throw new Error("a session could not be created");
    const { session, cookie, link, expiresAt } = made;
    const { epoch, position } = link;
    const [user, end] = [person.name, now()];
    history.write({ type: "session", session, user, via: "command", begin, end, epoch, position, expiresAt });
    return { person, userId: maker.userId(person), session, cookie, link };
  }
  const first = await arrive();

  function proxiesAt(place: string): readonly ClusterProcess[] {
    const found = cluster.proxies.filter(({ name, region }) => name === place || region === place);
    if (found.length === 0) throw new RangeError(`there is no proxy at ${place}`);
    return found;
  }

  async function answerOf(proxy: ClusterProcess, route: Route, { cookie }: Visitor): Promise<string> {
    const url = `http://127.0.0.1:${proxy.ports.address}/echo?r=${encodeURIComponent(scenario)}`;
    const headers = { host: route.host, cookie, accept: "application/json" };
    const response = await request(url, { dispatcher: agent, headers }).catch((error: unknown) => String(error));
    if (typeof response === "string") return response;
    await response.body.dump();
    return response.headers[stampHeaders.token] === token ? "permitted" : String(response.statusCode);
  }

  function answers(place: string, name: RouteName, visitor: Visitor, wanted: readonly string[]): Condition {
    const route = routes.find((each) => each.name === name);
    if (route === undefined) throw new RangeError(`there is no route ${name}`);
    const looks = proxiesAt(place).map(
      (proxy): Condition =>
        async () => {
          const answer = await answerOf(proxy, route, visitor);
          return { holds: wanted.includes(answer), seen: `${proxy.name} ${name}: ${answer}` };
        },
    );
    return allOf(...looks);
  }

  const permittedOn = (place: string, visitor = first): Condition =>
    allOf(...(["app", "eng", "sales"] as const).map((name) => answers(place, name, visitor, ["permitted"])));

  async function signInAt(region: string): Promise<void> {
    const { authenticate, proxies } = cluster.region(region);
    const url = new URL(`http://app.localhost:${proxies[0]?.ports.address}/echo?r=sign-in`);
    const nearest = new Map([[authenticateHost, authenticate.ports.address]]);
    await signIn({ dispatcher: agent, url, user: "alice", cookieName: config.cookie.name, nearest });
  }

  return {
    arrive,
    permitted: (place, route, visitor = first) => answers(place, route, visitor, ["permitted"]),
    refused: (place, route, status, visitor = first) => answers(place, route, visitor, [String(status)]),
    denied: (place, route, visitor) => answers(place, route, visitor, ["401", "403", "503"]),
    permittedOn,
    permittedEverywhere: (visitor = first) => allOf(...cluster.regions.map(({ name }) => permittedOn(name, visitor))),
    signsIn: (region) => () =>
      seeing(async () => {
        await signInAt(region);
        return null;
      }, `signed in in ${region}`),
    signInRefused: (region) => () =>
      seeing(async () => {
        const problem = await signInAt(region).then(
          () => "signed in",
          (error: unknown) => String(error),
        );
        return /ended with 503 at (?!idp\.)/.test(problem) ? null : problem;
      }, `a sign-in is refused in ${region}`),
    async [Symbol.asyncDispose]() {
      await Promise.all([maker.close(), agent.destroy()]);
    },
  };
}
