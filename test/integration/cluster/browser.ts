/**
 * Browser: a person without scripts at a cluster. It stores cookies per host, follows redirects, fills in the
 * provider's form, and records every step. For each step the test chooses the process, as a load balancer would.
 */
import { sendUntilDecided } from "./client.ts";

export type Step = Readonly<{ method: string; url: URL; status: number }>;
export type Navigation = Readonly<{
  steps: readonly Step[];
  url: URL;
  status: number;
  permitted: boolean;
  body: string;
}>;

export type Browser = Readonly<{
  /** Follows redirects to the final page; fills `user` into the provider's form. */
  navigate(
    url: string,
    options?: Readonly<{ user?: string; form?: Readonly<Record<string, string>> }>,
  ): Promise<Navigation>;
  cookie(hostname: string, name: string): string | undefined;
}>;

const stepsMax = 20;

/** @param portOf the port that receives a request to this URL */
export function startBrowser(portOf: (url: URL, step: number) => number): Browser {
  const jar = new Map<string, Map<string, string>>();

  function storeCookie(hostname: string, line: string): void {
    const [pair = "", ...attributes] = line.split(";").map((part) => part.trim());
    const cookies = jar.get(hostname) ?? new Map<string, string>();
    jar.set(hostname, cookies);
    const [name, value] = [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)];
    const isExpired = value === "" || attributes.some((each) => /^(max-age=0|expires=thu, 01 jan 1970)/i.test(each));
    if (isExpired) cookies.delete(name);
    else cookies.set(name, value);
  }

  return {
    cookie: (hostname, name) => jar.get(hostname)?.get(name),
    async navigate(start, { user, form: given } = {}) {
      const steps: Step[] = [];
      let url = new URL(start);
      let form = given;
      while (steps.length < stepsMax) {
        const method = form === undefined ? "GET" : "POST";
        const cookie = [...(jar.get(url.hostname) ?? [])].map(([name, value]) => `${name}=${value}`).join("; ");
        const answer = await sendUntilDecided({
          ...{ port: portOf(url, steps.length), host: url.host, method, path: url.pathname + url.search },
          ...(cookie !== "" && { cookie }),
          headers: {
            ...{ accept: "text/html,*/*;q=0.8", "sec-fetch-mode": "navigate", "sec-fetch-site": "same-origin" },
            ...(form && { origin: url.origin, "content-type": "application/x-www-form-urlencoded" }),
          },
          ...(form && { body: new URLSearchParams(form).toString() }),
        });
        steps.push({ method, url, status: answer.status });
        for (const line of answer.headers["set-cookie"] ?? []) storeCookie(url.hostname, line);
        const { location } = answer.headers;
        form = undefined;
        if (location !== undefined) url = new URL(location, url);
        else if (user !== undefined && answer.status === 200 && url.pathname.startsWith("/interaction/"))
          form = { user };
        else return { steps, url, status: answer.status, permitted: answer.permitted, body: answer.body };
      }
      throw new Error(`redirect loop: ${steps.map(({ url }) => url.host + url.pathname).join(" → ")}`);
    },
  };
}
