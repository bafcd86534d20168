/**
 * What the three processes of a live cut say to each other: the proxy's asks, the upstream's and the callers' answer.
 */
export const kinds = ["sse", "websocket", "grpc", "tcp"] as const;
export type Kind = (typeof kinds)[number];
/** `eng`: members of a group; `all`: whoever is signed in. */
export const routeNames = ["eng", "all"] as const;
export type RouteName = (typeof routeNames)[number];
/** What its caller saw of the end of a stream, in its protocol's words. */
export type Ending = string;

export type UpstreamPorts = Readonly<Record<Kind, readonly number[]>>;
export type ToUpstream =
  | Readonly<{ id: number; type: "listen"; portsEach: number }>
  | Readonly<{ id: number; type: "say" | "count" }>;

export type StreamSpec = Readonly<{
  user: number;
  kind: Kind;
  route: RouteName /** Poured into, and not read. */;
  slow: boolean;
}>;
export type StreamState = StreamSpec & Readonly<{ heard: number; ending: Ending | null }>;
export type ToCallers =
  | Readonly<{ id: number; type: "open"; port: number; streams: readonly StreamSpec[] }>
  | Readonly<{ id: number; type: "look" | "read" }>;

export const hostOf = (route: RouteName, kind: Kind): string => `${route}-${kind}.localhost`;
export const tunnelPort = 5_432;

/** Answers each message of the parent with what the handler makes of it. */
export function serve<Message extends { id: number }>(handle: (message: Message) => unknown): void {
  process.on("message", async (message: Message) => {
    try {
      process.send?.({ id: message.id, answer: (await handle(message)) ?? null });
    } catch (error) {
      process.send?.({ id: message.id, error: String(error) });
    }
  });
  process.on("disconnect", () => process.exit());
}
