/** Merged metrics: what several processes measured, each sample with the name of its process. Prometheus' text format. Pure. */

/** @param texts by the value of the label `worker` */
export function mergeMetrics(texts: ReadonlyMap<string, string>): string {
  /** What is said of a family, and its samples. */
  const families = new Map<string, { head: string[]; samples: string[] }>();
  for (const [worker, text] of texts) {
    let family = { head: [] as string[], samples: [] as string[] };
    for (const line of text.split("\n")) {
      const [, about, name = ""] = /^# (HELP|TYPE) (\S+)/.exec(line) ?? [];
      if (about !== undefined) {
        family = families.get(name) ?? { head: [], samples: [] };
        families.set(name, family);
        if (!family.head.includes(line)) family.head.push(line);
      } else if (line !== "" && !line.startsWith("#")) {
        family.samples.push(named(line, worker));
      }
    }
  }
  return [...families.values()].map(({ head, samples }) => `${[...head, ...samples].join("\n")}\n`).join("");
}

function named(sample: string, worker: string): string {
  const [, name = "", labels, rest = ""] = /^([^\s{]+)(?:\{(.*)\})?( .*)$/.exec(sample) ?? [];
  return `${name}{worker="${worker}"${labels === undefined || labels === "" ? "" : `,${labels}`}}${rest}`;
}
