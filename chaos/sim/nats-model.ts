/**
 * NATS model: servers, core publish and subscribe on one subject, and a stream that captures the subject.
 *
 * - Core delivery is at most once and keeps the order per publisher on one connection.
 * - A message published without a connection, or buffered in a server that dies, is lost.
 * - A server disconnects a subscriber that does not read once too many messages wait for it. The subscriber learns only
 *   of the disconnect.
 * - Beyond the behavior of one healthy server, `tricks` drops, repeats and reorders messages. Receivers must tolerate
 *   this.
 * - The model never inspects a message.
 *
 * The stream is nats-stream.ts. test/integration/fidelity compares the model with a real server. The servers are
 * processes of the world, so faults kill, pause and partition them like any other process.
 */
import type { SimFactOf } from "./facts.ts";
import {
  Client,
  type NatsClient,
  type NatsClientOptions,
  type NatsCounts,
  type NatsDisturbances,
  type NatsLimits,
  type NatsServers,
  type Server,
} from "./nats-client.ts";
import { Pipe } from "./nats-pipe.ts";
import { MirrorModel, type PubAck, type PublishCondition, StreamModel } from "./nats-stream.ts";
import type { World } from "./world.ts";

export type NatsOptions = Readonly<{
  world: World;
  /** The servers. The model creates their processes, initially down. Default kind: member. */
  servers: readonly Readonly<{ name: string; region: string; kind?: Server<unknown>["kind"] }>[];
  limits: NatsLimits;
  dedupeMs: number;
  streamEntriesMax: number;
  mirrorEveryMs: number;
}>;

const routeStaleMs = 4_000;

export class NatsModel<M> {
  readonly counts: NatsCounts = {
    ...{ published: 0, delivered: 0, lost: 0, repeated: 0, consumersCut: 0, disconnects: 0, streamLost: 0 },
  };
  readonly disturbances: NatsDisturbances = { drop: 0, repeat: 0, overtake: 0, lateMsMax: 0 };
  readonly stream: StreamModel<M>;
  readonly mirrors = new Map<string, MirrorModel<M>>();
  readonly #world: World;
  readonly #options: NatsOptions;
  readonly #servers: readonly Server<M>[];
  readonly #routes = new Map<string, Pipe>();
  readonly #forClients: NatsServers<M>;

  constructor(options: NatsOptions) {
    this.#options = options;
    this.#world = options.world;
    this.stream = new StreamModel({ dedupeMs: options.dedupeMs, entriesMax: options.streamEntriesMax });
    this.#servers = options.servers.map((server) => this.#addServer(server));
    for (const { region } of options.servers) this.mirrors.set(region, new MirrorModel(options.streamEntriesMax));
    this.#forClients = {
      world: this.#world,
      limits: options.limits,
      disturbances: this.disturbances,
      counts: this.counts,
      candidates: (region) => this.#candidates(region),
      at: (server, run) => this.#at(server, run),
      spread: (server, message) => this.#spread(server, message),
      capture: (server, message, condition) => this.#capture(server, message, condition),
      createStream: (server) => {
        if (this.#hasQuorum(server)) this.stream.create();
      },
      held: (server, since, limit) =>
        (this.mirrors.get(server.process.region)?.since(since, limit) ?? []).map(({ message }) => message),
      consumerCut: (client, server) => this.#report(server, "consumer-cut", client),
    };
    this.#followStream();
  }

  get serverNames(): readonly string[] {
    return this.#servers.map(({ process }) => process.name);
  }

  /** Creates a client for the process's current boot. */
  client(options: NatsClientOptions<M>): NatsClient<M> {
    const client = new Client(this.#forClients, options);
    client.start();
    return client.face;
  }

  loseStreamSuffix(count: number): number {
    const lost = this.stream.loseSuffix(count);
    this.counts.streamLost += lost;
    this.#report("nats", "suffix-lost", `${lost} messages`);
    return lost;
  }

  deleteStream(): void {
    this.counts.streamLost += this.stream.size;
    this.#report("nats", "stream-lost", `${this.stream.size} messages`);
    this.stream.delete();
  }

  #report(process: string, what: SimFactOf<"nats-happened">["what"], about: string): void {
    this.#world.report({ type: "nats-happened", at: this.#world.now, process, what, about });
  }

  // --- servers

  #addServer({ name, region, kind = "member" }: NatsOptions["servers"][number]): Server<M> {
    const server: Server<M> = {
      kind,
      process: this.#world.addProcess({
        name,
        region,
        identity: { role: "nats", node: null, lessee: null, build: "", unknownTypes: [] },
        start: (process) => process.onKill(() => this.#killed(server)),
      }),
      kernel: [],
      clients: new Set(),
    };
    return server;
  }

  #killed(server: Server<M>): void {
    this.counts.lost += server.kernel.length;
    server.kernel.length = 0;
    for (const other of this.#servers) {
      for (const key of [routeOf(server, other), routeOf(other, server)]) {
        this.counts.lost += this.#routes.get(key)?.reset() ?? 0;
      }
    }
    const clients = [...server.clients];
    server.clients.clear();
    for (const client of clients) client.serverClosed();
  }

  /** Servers in the order in which a client of a region tries them: those of its own region first. */
  #candidates(region: string): readonly Server<M>[] {
    const random = this.#world.random("nats");
    const own = this.#servers.filter(({ process }) => process.region === region);
    const others = this.#servers.filter(({ process }) => process.region !== region);
    return [...random.shuffled(own), ...random.shuffled(others)];
  }

  /** Runs at the server now, or when it resumes, after everything queued earlier. Never runs if the server is dead. */
  #at(server: Server<M>, run: () => void): void {
    if (!server.process.isUp) this.counts.lost += 1;
    else if (server.process.status === "running" && server.kernel.length === 0) run();
    else {
      server.kernel.push(run);
      if (server.kernel.length === 1) server.process.run(() => workOff(server));
    }
  }

  /** Routes a client's message to the server's own subscribers and to those of the other servers. */
  #spread(server: Server<M>, message: M): void {
    for (const client of server.clients) client.deliver(message);
    for (const other of this.#servers) {
      if (other === server || !other.process.isUp) continue;
      const route = this.#route(server, other);
      if (route.heldSince !== undefined && this.#world.now - route.heldSince > routeStaleMs)
        this.counts.lost += route.reset();
      route.send(() =>
        this.#at(other, () => {
          for (const client of other.clients) client.deliver(message);
        }),
      );
    }
  }

  #capture(server: Server<M>, message: M, condition: PublishCondition): PubAck | undefined {
    if (!this.#hasQuorum(server)) return undefined;
    const ack = this.stream.append(message, this.#world.now, condition);
    if (ack.type === "refused") this.#report(server.process.name, "stale-relay-refused", `at ${ack.lastSequence}`);
    return ack;
  }

  /** True if this server runs and reaches a majority of the stream's members, itself included. */
  #hasQuorum(server: Server<M>): boolean {
    const { network } = this.#world;
    const isWith = ({ process }: Server<M>): boolean =>
      process.status === "running" &&
      (process === server.process ||
        !(network.isCut(server.process, process) || network.isCut(process, server.process)));
    const members = this.#servers.filter(({ kind }) => kind === "member");
    return isWith(server) && members.filter(isWith).length * 2 > members.length;
  }

  #route(from: Server<M>, to: Server<M>): Pipe {
    const key = routeOf(from, to);
    const known = this.#routes.get(key);
    if (known !== undefined) return known;
    const route = new Pipe(this.#world, from.process, to.process);
    this.#routes.set(key, route);
    return route;
  }

  /** Advances each mirror whose region has a server in the majority. */
  #followStream(): void {
    const random = this.#world.random("nats");
    this.#world.after(this.#options.mirrorEveryMs * random.within(0.5, 1.5), () => {
      for (const [region, mirror] of this.mirrors) {
        if (this.#servers.some((server) => server.process.region === region && this.#hasQuorum(server)))
          mirror.follow(this.stream);
      }
      this.#followStream();
    });
  }
}

function workOff<M>({ process, kernel }: Server<M>): void {
  while (process.status === "running") {
    const next = kernel[0];
    if (next === undefined) return;
    next();
    kernel.shift(); // after the run, so that nothing overtakes it
  }
}

function routeOf<M>(from: Server<M>, to: Server<M>): string {
  return `${from.process.name}>${to.process.name}`;
}

export type { NatsClient, NatsClientOptions, NatsLimits } from "./nats-client.ts";
export type { PubAck, PublishCondition } from "./nats-stream.ts";
