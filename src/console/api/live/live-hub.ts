/**
 * Live hub: the topics of the live stream, each made once for all of its watchers. Pure.
 *
 * - A topic's source runs while it has a watcher. Its data is serialized once.
 * - A `state` replaces what came before it: a new watcher gets the newest at once, and a slow one only the newest.
 * - An `event` is delivered to every watcher. One that reads too slowly is cut off: it loads the list again.
 * - Bounds: `watchersMax` streams; for each, one text of each state and at most `queuedBytesMax` of events.
 */
export type LiveSource = Readonly<{
  kind: "state" | "event";
  /** What it publishes is not confined to the routes of a caller; one whose role is limited to some does not get it. */
  unconfined: boolean;
  /** Publishes until the signal aborts; it is started again for the next first watcher. */
  run: (publish: (data: object) => void, signal: AbortSignal) => void;
}>;

export type LiveWatcher = Readonly<{
  /** The next text to send, as Server-Sent Events; "": nothing waits. */
  take(): string;
  /** Settles when something may wait, or the watcher was cut off. */
  changed(): Promise<void>;
  /** The watcher read too slowly. */
  isCutOff(): boolean;
  end(): void;
}>;

export type LiveHub = Readonly<{
  /** Null: there are too many. */
  watch(topics: readonly string[]): LiveWatcher | null;
  readonly watchers: number;
}>;

const watchersMax = 200;
const queuedBytesMax = 256 * 1_024;

type Topic = {
  readonly source: LiveSource;
  latest: string;
  running: AbortController | null;
  readonly of: Set<Watcher>;
};
type Watcher = {
  readonly states: Map<string, string>;
  readonly events: string[];
  bytes: number;
  isCutOff: boolean;
  wake: () => void;
  changed: Promise<void>;
};

export function createLiveHub(sources: Readonly<Record<string, LiveSource>>): LiveHub {
  const topics = new Map<string, Topic>(
    Object.entries(sources).map(([name, source]) => [name, { source, latest: "", running: null, of: new Set() }]),
  );
  const all = new Set<Watcher>();

  function publish(name: string, topic: Topic, data: object): void {
    const text = `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
    if (topic.source.kind === "state") {
      if (text === topic.latest) return;
      topic.latest = text;
    }
    for (const watcher of topic.of) deliver(watcher, name, topic.source.kind, text);
  }

  return {
    get watchers() {
      return all.size;
    },
    watch(names) {
      if (all.size >= watchersMax) return null;
      const watcher: Watcher = {
        states: new Map(),
        events: [],
        bytes: 0,
        isCutOff: false,
        wake: () => {},
        changed: Promise.resolve(),
      };
      renew(watcher);
      all.add(watcher);
      for (const name of new Set(names)) {
        const topic = topics.get(name);
        if (topic === undefined) continue;
        topic.of.add(watcher);
        if (topic.latest !== "") deliver(watcher, name, "state", topic.latest);
        if (topic.running !== null) continue;
        const running = new AbortController();
        topic.running = running;
        topic.source.run((data) => {
          if (!running.signal.aborted) publish(name, topic, data);
        }, running.signal);
      }
      return {
        take() {
          const text = [...watcher.states.values(), ...watcher.events].join("");
          watcher.states.clear();
          watcher.events.length = 0;
          watcher.bytes = 0;
          renew(watcher);
          return text;
        },
        changed: () => watcher.changed,
        isCutOff: () => watcher.isCutOff,
        end() {
          all.delete(watcher);
          for (const topic of topics.values()) {
            if (!topic.of.delete(watcher) || topic.of.size > 0) continue;
            topic.running?.abort();
            topic.running = null;
            topic.latest = ""; // it ages while no source runs
          }
          watcher.wake();
        },
      };
    },
  };
}

function deliver(watcher: Watcher, name: string, kind: LiveSource["kind"], text: string): void {
  if (kind === "state") watcher.states.set(name, text);
  else {
    watcher.events.push(text);
    watcher.bytes += text.length;
    if (watcher.bytes > queuedBytesMax) watcher.isCutOff = true;
  }
  watcher.wake();
}

function renew(watcher: Watcher): void {
  const { promise, resolve } = Promise.withResolvers<void>();
  watcher.changed = promise;
  watcher.wake = resolve;
}
