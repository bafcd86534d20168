/** Destination: the target of `cardea tcp` and `cardea udp`, in the forms of pomerium-cli. Pure. */
import { isLoopback, parseHostPort } from "../../config/index.ts";
import { UsageError } from "../terminal/command.ts";

export type Destination = Readonly<{
  /** The requested `host:port`: `db.example.com:5432`. */
  target: string;
  /** The origin of the proxy, where people also sign in. */
  proxy: URL;
}>;

/**
 * `host:port`, `tcp+https://host:port`, `tcp+https://proxy[:port]/host:port`. The proxy is the host itself on 443
 * unless named.
 * @throws UsageError
 */
export function parseDestination(text: string, kind: "tcp" | "udp", proxyUrl: string | undefined): Destination {
  const wrong = new UsageError(
    `${JSON.stringify(text)} is not a destination: write host:port, or ${kind}+https://proxy/host:port`,
  );
  const [, scheme, authority = text, path = ""] = /^([a-z0-9+]+):\/\/([^/?#@]+)\/?([^/?#]*)$/i.exec(text) ?? [];
  if (scheme === undefined && text.includes("/")) throw wrong;
  const web = scheme?.toLowerCase().replace(/^(?:tcp|udp)\+/, "") ?? "https";
  if ((scheme !== undefined && scheme.toLowerCase() !== `${kind}+${web}`) || !/^https?$/.test(web)) throw wrong;
  const target = path === "" ? authority : path;
  const at = parseHostPort(target);
  if (at === undefined || at.port === 0 || target.startsWith(":")) throw wrong;
  const host = target.slice(0, target.lastIndexOf(":"));
  const proxy = parseProxy(proxyUrl ?? `${web}://${path === "" ? host : authority}`);
  return { target: `${host.toLowerCase()}:${at.port}`, proxy };
}

/** @throws UsageError */
export function parseProxy(text: string): URL {
  if (!URL.canParse(text)) throw new UsageError(`${JSON.stringify(text)} is not the URL of a proxy`);
  const url = new URL(text);
  if (url.protocol !== "https:" && url.protocol !== "http:")
    throw new UsageError(`${text}: the URL of a proxy starts with https://`);
  if (url.protocol === "http:" && !isLoopback(url.hostname))
    throw new UsageError(`${text} is plain HTTP, which would expose your credential: use https`);
  if (url.username !== "" || url.password !== "")
    throw new UsageError("remove the user name and password from the proxy's URL");
  return new URL(url.origin);
}
