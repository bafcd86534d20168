/**
 * Outside: what the machines of docs/regions-setup.md expect around them. An identity provider at
 * https://idp.example.com that signs everyone in without a form, and the application that the cluster protects.
 *
 *   node test/deploy/regions/outside.ts CERTIFICATE KEY CLIENT_SECRET_FILE
 *
 * `/person?name=…` of the application's own address sets the person of the next sign-in.
 */
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { startProvider } from "../../support/oidc-provider.ts";

const [certFile = "", keyFile = "", secretFile = ""] = process.argv.slice(2);
const provider = await startProvider(
  { after() {} },
  [
    {
      id: "cardea",
      secret: readFileSync(secretFile, "utf8").trim(),
      redirectUris: ["https://authenticate.example.com/oauth2/callback"],
    },
  ],
  {
    site: {
      issuer: new URL("https://idp.example.com"),
      address: "10.0.0.1",
      cert: readFileSync(certFile, "utf8"),
      key: readFileSync(keyFile, "utf8"),
    },
  },
);

createServer((request, response) => {
  const url = new URL(request.url ?? "/", "http://app.internal");
  if (url.pathname === "/person") provider.person.name = url.searchParams.get("name") ?? "alice";
  response.end("the application\n");
}).listen(8080, "0.0.0.0");
