/** Listener settings: the HTTP versions to serve, and the address that redirects to https. Pure. */
import type { Config } from "../config.ts";
import type { Globals } from "../schema/schema.ts";
import type { ProblemReporter } from "../source/source-locations.ts";

export type ListenerPart = Pick<Config, "codecType" | "httpRedirectAddress">;

export function resolveListener(globals: Globals, from: Readonly<{ report: ProblemReporter }>): ListenerPart {
  const { codec_type: codec, http_redirect_addr: redirect, address } = globals;
  if (codec === "http3")
    from.report.warn(["codec_type"], "HTTP/3 is not served; callers speak HTTP/2 or HTTP/1.1", "write auto", "key");
  if (redirect !== null && address !== undefined && redirect.port === address.port && redirect.host === address.host)
    from.report.error(
      ["http_redirect_addr"],
      "is the address of the listener itself",
      "write another port, such as :80",
    );
  if (redirect !== null && globals.insecure_server)
    from.report.warn(
      ["http_redirect_addr"],
      "redirects to https, which this listener does not serve",
      "redirect where TLS ends, or remove insecure_server",
      "key",
    );
  return {
    codecType: codec === "http3" ? "auto" : codec,
    httpRedirectAddress: redirect,
  };
}
