/**
 * Reserved paths: what the proxy itself answers on every host (docs/pomerium-behaviour.md §2.1), beside `/ping` and
 * `/healthz`. Pure.
 */
export function isReserved(path: string): boolean {
  return (
    path === "/.pomerium" ||
    path === "/.well-known/pomerium" ||
    path.startsWith("/.pomerium/") ||
    path.startsWith("/.well-known/pomerium/")
  );
}
