/** Self-signed certificate: one certificate and key for one name, made with the openssl command. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { TemporaryFolder } from "./child.ts";

export type CertificatePair = Readonly<{ cert: string; key: string }>;

/** @param subjectAltName in openssl's syntax: `DNS:app.localhost` */
export function selfSigned(subjectAltName: string): CertificatePair {
  using folder = new TemporaryFolder("certificate");
  const [key, cert] = [join(folder.path, "key.pem"), join(folder.path, "cert.pem")];
  const kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"];
  const names = ["-subj", "/CN=test", "-addext", `subjectAltName=${subjectAltName}`];
  execFileSync("openssl", ["req", ...kind, ...names, "-keyout", key, "-out", cert], { stdio: "ignore" });
  return { cert: readFileSync(cert, "utf8"), key: readFileSync(key, "utf8") };
}
